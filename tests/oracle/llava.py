# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/llava.py — LLaVA-1.5: a pair of files as transformers' model with sentencepiece's
# tokenizer, and what transformers' processor makes of a case.
import gguf_model
import numpy as np
import torch
import transformers

# Of the original's conversations (vicuna_v1). The templates of transformers' files leave it out.
SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives "
          "helpful, detailed, and polite answers to the user's questions.")
IMAGE = "<image>"


def sentencepiece_of(tokens, scores, types):
    """sentencepiece's own processor of a vocabulary, as the file tokenizer.model has it."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()
    for text, score, kind in zip(tokens, scores, types):
        model.pieces.add(piece=text, score=float(score), type=int(kind))
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(tokens)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


class LlavaModel(gguf_model.SmolModel):
    """A Llama decoder behind CLIP's tower."""

    def make_tokenizer(self):
        t = self.text
        if t.key("tokenizer.ggml.model") != "llama":
            raise SystemExit(f"{t.path}: not a SentencePiece vocabulary")
        tokens, types = t.key("tokenizer.ggml.tokens"), t.key("tokenizer.ggml.token_type")
        self.bos = [t.key("tokenizer.ggml.bos_token_id")] \
            if t.key("tokenizer.ggml.add_bos_token", 1) else []
        # Of two unused tokens like a byte's or a special one's text there is one at most.
        return (sentencepiece_of(tokens, t.key("tokenizer.ggml.scores"), types),
                {text: i for i, text in enumerate(tokens)})

    def make_config(self):
        a, t, v = self.arch, self.text, self.mmproj
        if v.key("clip.projector_type", "mlp") != "mlp":
            raise SystemExit(f"{v.path}: not the vision half of a LLaVA model")
        heads = t.key(f"{a}.attention.head_count")
        text = transformers.LlamaConfig(
            vocab_size=int(t.tensors["token_embd.weight"].shape[1]),
            hidden_size=t.key(f"{a}.embedding_length"), num_hidden_layers=t.key(f"{a}.block_count"),
            num_attention_heads=heads,
            head_dim=t.key(f"{a}.attention.key_length", t.key(f"{a}.embedding_length") // heads),
            num_key_value_heads=t.key(f"{a}.attention.head_count_kv", heads),
            intermediate_size=t.key(f"{a}.feed_forward_length"), hidden_act="silu",
            max_position_embeddings=t.key(f"{a}.context_length"),
            rms_norm_eps=t.key(f"{a}.attention.layer_norm_rms_epsilon"), attention_bias=False,
            rope_parameters=dict(rope_type="default",
                                 rope_theta=float(t.key(f"{a}.rope.freq_base", 10000.0))))
        self.patch, self.image_size = v.key("clip.vision.patch_size"), v.key("clip.vision.image_size")
        self.n_rows = (self.image_size // self.patch) ** 2
        self.mean = list(v.key("clip.vision.image_mean"))
        self.std = list(v.key("clip.vision.image_std"))
        # One layer more than the file has: the last one does not count.
        vision = transformers.CLIPVisionConfig(
            hidden_size=v.key("clip.vision.embedding_length"), image_size=self.image_size,
            intermediate_size=v.key("clip.vision.feed_forward_length"),
            num_hidden_layers=v.key("clip.vision.block_count") + 1, patch_size=self.patch,
            num_attention_heads=v.key("clip.vision.attention.head_count"),
            layer_norm_eps=v.key("clip.vision.attention.layer_norm_epsilon"),
            hidden_act="gelu" if v.key("clip.use_gelu", 0) else "quick_gelu")
        return transformers.LlavaConfig(
            text_config=text, vision_config=vision, image_token_id=self.vocab[IMAGE],
            vision_feature_layer=-2, vision_feature_select_strategy="default",
            projector_hidden_act="gelu", tie_word_embeddings=False)

    def make_model(self):
        self.config._attn_implementation = "eager"
        return transformers.LlavaForConditionalGeneration(self.config).to(torch.float32).eval()

    def text_weights(self):
        for name, value in super().text_weights():
            yield name.replace("model.text_model.", "model.language_model."), value

    def vision_weights(self):
        v, config = self.mmproj, self.config.vision_config
        names = dict(self.hf.named_parameters())
        tree = next(n for n in names if n.endswith("embeddings.class_embedding"))
        tree = tree[:-len("embeddings.class_embedding")]
        swapped = v.tensors["v.blk.0.ffn_down.weight"].shape[0] == config.hidden_size \
            and config.hidden_size != config.intermediate_size
        up, down = ("ffn_down", "ffn_up") if swapped else ("ffn_up", "ffn_down")
        yield tree + "embeddings.class_embedding", v.tensor("v.class_embd")
        yield tree + "embeddings.patch_embedding.weight", v.tensor("v.patch_embd.weight")
        yield tree + "embeddings.position_embedding.weight", v.tensor("v.position_embd.weight")
        for part in ("weight", "bias"):
            yield f"{tree}pre_layrnorm.{part}", v.tensor(f"v.pre_ln.{part}")
            for i in range(config.num_hidden_layers - 1):
                for ours, theirs in (
                        ("layer_norm1", "ln1"), ("layer_norm2", "ln2"),
                        ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
                        ("self_attn.v_proj", "attn_v"), ("self_attn.out_proj", "attn_out"),
                        ("mlp.fc1", up), ("mlp.fc2", down)):
                    yield (f"{tree}encoder.layers.{i}.{ours}.{part}",
                           v.tensor(f"v.blk.{i}.{theirs}.{part}"))
            for ours, theirs in (("linear_1", "mm.0"), ("linear_2", "mm.2")):
                yield f"model.multi_modal_projector.{ours}.{part}", v.tensor(f"{theirs}.{part}")
        # What must not count is not a number.
        last = f"{tree}encoder.layers.{config.num_hidden_layers - 1}."
        for name, value in names.items():
            if name.startswith((last, tree + "post_layernorm.")):
                yield name, torch.full(value.shape, float("nan"))

    def encode(self, text):
        """Token ids of text in which pictures are written out: each part between them is a text of
        its own."""
        ids = list(self.bos)
        for i, part in enumerate(text.split(IMAGE)):
            ids += ([self.vocab[IMAGE]] if i else []) + self.tokenizer.encode(part)
        return ids

    def rows(self, pixels):
        """Pixels [n, 3, side, side] as the rows of patches that go into the tower."""
        p, n = self.patch, pixels.shape[-1] // self.patch
        v = pixels.reshape(-1, 3, n, p, n, p)
        return v.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * p * p)

    def banned(self):
        return [self.vocab[IMAGE]]


def image_pixels(model, rgb):
    """As in preprocessor_config.json of transformers' files: no padding, the middle."""
    from transformers import CLIPImageProcessor
    processor = CLIPImageProcessor(
        size=dict(shortest_edge=model.image_size), image_mean=model.mean, image_std=model.std,
        crop_size=dict(height=model.image_size, width=model.image_size))
    rgb = torch.from_numpy(rgb).permute(2, 0, 1)
    return processor(images=[rgb], return_tensors="pt",
                     input_data_format="channels_first")["pixel_values"]


def inputs_of(model, case, picture):
    """As cases.inputs_of(). A film is its frames, one after the other."""
    system = "".join(p[1] for p in case.parts if p[0] == "system") or SYSTEM
    text, pixels = f"{system} USER: ", []
    for part in case.parts:
        if part[0] in ("text", "prompt"):
            text += part[1]
        elif part[0] in ("image", "frame"):
            pixels.append(image_pixels(model, picture(*part[1:4])))
            text += IMAGE + "\n"
    text += " ASSISTANT:"
    expanded = text.replace(IMAGE, IMAGE * model.n_rows)
    # Only the first of a picture's places follows a text.
    ids = model.encode(text)
    image = model.vocab[IMAGE]
    ids = [i for token in ids for i in ([token] * model.n_rows if token == image else [token])]
    inputs = dict(input_ids=torch.tensor([ids]),
                  attention_mask=torch.ones(1, len(ids), dtype=torch.long))
    if pixels:
        inputs["pixel_values"] = torch.cat(pixels)
    return inputs, text, expanded
