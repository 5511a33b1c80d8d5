# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/mllama.py — Llama 3.2 Vision: a pair of GGUF files as transformers' model, and what it
# computes for a case.
#
# The model is fed as a stream: the text before the first picture, then from each picture to the next
# one, with a cache. That is transformers' own code all the same. (Given everything at once it lets
# the tokens before the first picture look at all pictures, which nobody can do who has not seen
# them; the model's authors let them look at none.)
import cases
import gguf_model
import numpy as np
import torch
import transformers
import vec
from transformers.models.mllama import processing_mllama as protocol

# Of the published models: files have divisors of the rotary frequencies instead.
ROPE = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192)
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


class MllamaModel(gguf_model.Model):
    archs = ("mllama",)

    def make_config(self):
        t, v = self.text, self.mmproj
        text = transformers.models.mllama.MllamaTextConfig(
            vocab_size=int(t.tensors["output.weight"].shape[1]),
            hidden_size=t.key("mllama.embedding_length"),
            num_hidden_layers=t.key("mllama.block_count"),
            num_attention_heads=t.key("mllama.attention.head_count"),
            num_key_value_heads=t.key("mllama.attention.head_count_kv"),
            intermediate_size=t.key("mllama.feed_forward_length"), hidden_act="silu",
            max_position_embeddings=t.key("mllama.context_length"),
            rms_norm_eps=t.key("mllama.attention.layer_norm_rms_epsilon"),
            cross_attention_layers=list(t.key("mllama.attention.cross_attention_layers")),
            rope_parameters=dict(ROPE, rope_theta=float(t.key("mllama.rope.freq_base"))),
            tie_word_embeddings=False, pad_token_id=0, bos_token_id=0, eos_token_id=0)
        self.patch = v.key("mllama.vision.patch_size")
        self.image_size = v.key("mllama.vision.image_size")
        self.max_tiles = v.key("mllama.vision.max_num_tiles")
        self.mean, self.std = MEAN, STD
        taps = list(v.key("mllama.vision.intermediate_layers_indices"))
        width = v.key("mllama.vision.embedding_length")
        # The taps are the inputs of these layers, as the model's authors and the first versions of
        # transformers have it. Later ones count outputs from 0: one less names the same.
        theirs = [i - 1 for i in taps]
        vision = transformers.models.mllama.MllamaVisionConfig(
            hidden_size=width, hidden_act="gelu",
            num_hidden_layers=v.key("mllama.vision.block_count"),
            num_global_layers=v.key("mllama.vision.global.block_count"),
            attention_heads=v.key("mllama.vision.attention.head_count"),
            intermediate_size=v.key("mllama.vision.feed_forward_length"),
            vision_output_dim=width * (1 + len(taps)), image_size=self.image_size,
            patch_size=self.patch, norm_eps=v.key("mllama.vision.attention.layer_norm_epsilon"),
            max_num_tiles=self.max_tiles, intermediate_layers_indices=theirs,
            supported_aspect_ratios=[[w, h] for w in range(1, 5) for h in range(1, 5) if w * h <= 4])
        self.image_token = self.vocab["<|image|>"]
        return transformers.MllamaConfig(text_config=text, vision_config=vision,
                                         image_token_id=self.image_token)

    def make_model(self):
        self.config._attn_implementation = "eager"
        return transformers.MllamaForConditionalGeneration(self.config).to(torch.float32).eval()

    def text_weights(self):
        t, tree, config = self.text, "model.language_model.", self.config.text_config
        embd = t.tensor("token_embd.weight")
        yield tree + "embed_tokens.weight", embd[:config.vocab_size + 8]
        yield tree + "norm.weight", t.tensor("output_norm.weight")
        yield "lm_head.weight", t.tensor("output.weight")
        self.check_rope(t.tensor("rope_freqs.weight"))
        same = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
                "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
        own = {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
        cross = {f"cross_attn.{n}": f"cross_attn_{n}"
                 for n in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")}
        for i in range(config.num_hidden_layers):
            layer, blk = f"{tree}layers.{i}.", f"blk.{i}."
            looks = i in config.cross_attention_layers
            for ours, theirs in {**same, **(cross if looks else own)}.items():
                yield f"{layer}{ours}.weight", t.tensor(f"{blk}{theirs}.weight")
            if looks:
                yield layer + "cross_attn_attn_gate", t.tensor(blk + "cross_attn_attn_gate")
                yield layer + "cross_attn_mlp_gate", t.tensor(blk + "cross_attn_mlp_gate")
                continue
            for name, n in (("q", config.num_attention_heads), ("k", config.num_key_value_heads)):
                yield f"{layer}self_attn.{name}_proj.weight", gguf_model.SmolModel.halves(
                    t.tensor(f"{blk}attn_{name}.weight"), n)

    def check_rope(self, factors):
        """The divisors in the file are those that transformers uses."""
        rotary = self.hf.model.language_model.rotary_emb
        n = 2 * len(factors)
        theta = self.text.key("mllama.rope.freq_base")
        plain = 1.0 / theta ** (torch.arange(0, n, 2, dtype=torch.float64) / n)
        if not torch.allclose(plain / factors, rotary.inv_freq.double(), rtol=1e-5):
            raise SystemExit("rope_freqs.weight is not what transformers computes")

    def vision_weights(self):
        v, tree, config = self.mmproj, "model.vision_model.", self.config.vision_config

        def either(blk, names):
            return next(n for n in names if v.has(f"{blk}{n}.weight"))
        tanh_of_gate = v.tensor("v.tile_position_embd.gate")
        if not torch.allclose(v.tensor("v.position_embd.gate"), 1 - tanh_of_gate, atol=1e-6):
            raise SystemExit("the gates of positions are not 1 - tanh and tanh of one")
        yield tree + "patch_embedding.weight", v.tensor("v.patch_embd.weight")
        yield tree + "class_embedding", v.tensor("v.class_embd")
        positions = tree + "gated_positional_embedding."
        yield positions + "gate", torch.atanh(tanh_of_gate)
        yield positions + "embedding", v.tensor("v.position_embd.weight")
        yield positions + "tile_embedding.weight", v.tensor("v.tile_position_embd.weight")
        for when in ("pre", "post"):
            stem = f"{tree}{when}_tile_positional_embedding."
            yield stem + "embedding.weight", v.tensor(f"v.{when}_tile_position_embd.weight")
            yield stem + "gate", torch.atanh(v.tensor(f"v.{when}_tile_position_embd.gate"))
            for part in ("weight", "bias"):
                yield f"{tree}layernorm_{when}.{part}", v.tensor(f"v.{when}_ln.{part}")
        for stack, blk, n in (("transformer", "v.blk.", config.num_hidden_layers),
                              ("global_transformer", "v.global.blk.", config.num_global_layers)):
            for i in range(n):
                layer, b = f"{tree}{stack}.layers.{i}.", f"{blk}{i}."
                up, down = "ffn_up", "ffn_down"
                if v.tensors[b + "ffn_down.weight"].shape[0] == config.hidden_size:
                    up, down = down, up
                out = either(b, ("attn_out", "attn_output"))
                for ours, theirs in (("q_proj", "attn_q"), ("k_proj", "attn_k"),
                                     ("v_proj", "attn_v"), ("o_proj", out)):
                    yield f"{layer}self_attn.{ours}.weight", v.tensor(f"{b}{theirs}.weight")
                for part in ("weight", "bias"):
                    for ours, theirs in (
                            ("mlp.fc1", up), ("mlp.fc2", down),
                            ("input_layernorm", either(b, ("ln1", "attn_norm"))),
                            ("post_attention_layernorm", either(b, ("ln2", "ffn_norm")))):
                        yield f"{layer}{ours}.{part}", v.tensor(f"{b}{theirs}.{part}")
                if stack == "global_transformer":
                    yield layer + "gate_attn", torch.atanh(v.tensor(b + "attn_gate"))
                    yield layer + "gate_ffn", torch.atanh(v.tensor(b + "ffn_gate"))
        for part in ("weight", "bias"):
            yield f"model.multi_modal_projector.{part}", v.tensor(f"mm.0.{part}")

    def load(self):
        if self.text.has("v.patch_embd.weight"):    # one file: its halves are looked at apart
            self.text.left = {n for n in self.text.left if not n.startswith(("v.", "mm."))}
            self.mmproj.left = {n for n in self.mmproj.left if n.startswith(("v.", "mm."))}
        super().load()

    def banned(self):
        return [self.vocab["<|python_tag|>"]]

    def run(self, case, n_greedy, n_top):
        return run(self, case, n_greedy, n_top)


def image_inputs(model, rgb):
    processor = transformers.MllamaImageProcessor(
        size=dict(height=model.image_size, width=model.image_size), image_mean=MEAN, image_std=STD,
        max_image_tiles=model.max_tiles)
    rgb = torch.from_numpy(rgb).permute(2, 0, 1)
    out = processor(images=[[rgb]], return_tensors="pt", input_data_format="channels_first")
    n_tiles = int(out["num_tiles"][0][0])
    return {k: out[k] for k in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")}, n_tiles


def rows_of(model, values):
    """Pixels [tile, 3, side, side] as the rows of patches that go into the tower."""
    p, n = model.patch, model.image_size // model.patch
    v = values.reshape(-1, 3, n, p, n, p)
    return v.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * p * p)


def prompt_of(case):
    """The text of a turn, and its pictures: all stills, or the newest frame of the film."""
    text, shown, encoded = "<|begin_of_text|>", [], []
    for part in case.parts:
        if part[0] == "system":
            text += f"<|start_header_id|>system<|end_header_id|>\n\n{part[1]}<|eot_id|>"
    text += "<|start_header_id|>user<|end_header_id|>\n\n"
    parts = [p for p in case.parts if p[0] != "system"]
    for at, part in enumerate(parts):
        if part[0] in ("text", "prompt"):
            text += part[1]
            continue
        if part[0] == "answer":
            text += (f"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{part[1]}<|eot_id|>"
                     "<|start_header_id|>user<|end_header_id|>\n\n")
            continue
        encoded.append(part)
        if part[0] == "image" or at + 1 == len(parts) or parts[at + 1][0] != "frame":
            shown.append(part)
            text += "<|image|>"
    return text + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", shown, encoded


def look(model, pictures):
    """Rows of the projector and pixels of all pictures, unused tiles left out."""
    rows, pixels = [], []
    for picture in pictures:
        inputs, n_tiles = image_inputs(model, cases.picture(*picture[1:4]))
        out = model.hf.model.vision_model(**inputs).last_hidden_state
        out = model.hf.model.multi_modal_projector(out)[0, 0, :n_tiles]
        rows.append(out.reshape(-1, out.shape[-1]).numpy())
        pixels.append(inputs["pixel_values"][0, 0, :n_tiles].numpy())
    return (np.concatenate(rows), rows_of(model, np.concatenate(pixels))) if rows else (None, None)


class Stream:
    """The model with its cache, fed piece by piece."""

    def __init__(self, model, ids, shown):
        self.model, self.ids, self.fed = model, ids, 0
        self.images = [image_inputs(model, cases.picture(*p[1:4])) for p in shown]
        self.starts = [i for i, token in enumerate(ids) if token == model.image_token]
        self.cache = transformers.DynamicCache(config=model.config.text_config)
        self.layers = [[] for _ in model.hf.model.language_model.layers]
        self.mask = None
        if shown:
            token_mask = protocol.get_cross_attention_token_mask(ids, model.image_token)
            self.mask = torch.from_numpy(protocol.convert_sparse_cross_attention_mask_to_dense(
                [token_mask], [[n for _, n in self.images]], model.max_tiles, len(ids)))

    def forward(self, ids, mask, image):
        got, handles = {}, []
        for i, layer in enumerate(self.model.hf.model.language_model.layers):
            handles.append(layer.register_forward_hook(
                lambda _m, _a, out, i=i: got.__setitem__(
                    i, (out[0] if isinstance(out, tuple) else out)[0].numpy().copy())))
        embeds = self.model.hf.model.language_model.embed_tokens(torch.tensor([ids]))[0].numpy()
        out = self.model.hf(input_ids=torch.tensor([ids]), cache=self.cache, use_cache=True,
                            cross_attention_mask=mask, **(image or {}))
        for handle in handles:
            handle.remove()
        last = embeds
        for i, rows in enumerate(self.layers):      # layers passed by change nothing
            last = got.get(i, last).reshape(-1, embeds.shape[-1])
            rows.append(last)
        self.fed += len(ids)
        return out.logits[0].float().numpy()

    def prompt(self):
        edges = sorted({0, *self.starts, len(self.ids)})
        logits = []
        for start, end in zip(edges, edges[1:]):
            seen = sum(s <= start for s in self.starts)
            new = start in self.starts
            logits.append(self.forward(
                self.ids[start:end], self.mask[:, start:end, :seen] if seen else None,
                self.images[seen - 1][0] if new else None))
        return np.concatenate(logits)

    def token(self, token):
        mask = None if self.mask is None else self.mask[:, -1:]
        return self.forward([token], mask, None)[-1]


def run(model, case, n_greedy, n_top):
    torch.set_num_threads(1)
    prompt, shown, encoded = prompt_of(case)
    ids = model.encode(prompt)
    with torch.no_grad():
        rows, pixels = look(model, encoded)
        stream = Stream(model, ids, shown)
        logits = stream.prompt()
        layers = [np.concatenate(parts) for parts in stream.layers]
        greedy, gaps, top_ids, top_logits = [], [], [], []
        now = logits[-1].copy()
        for _ in range(n_greedy):
            now[model.banned()] = -np.inf
            order = np.argsort(-now, kind="stable")[:n_top]
            greedy.append(int(order[0]))
            gaps.append(float(now[order[0]] - now[order[1]]))
            top_ids.append(order)
            top_logits.append(now[order])
            now = stream.token(greedy[-1]).copy()
    positions = np.broadcast_to(np.arange(len(ids), dtype=np.int32), (3, len(ids)))
    out = {"input": case.input(), "prompt": prompt, "expanded_prompt": prompt,
           "input_ids": np.array(ids, np.int32), "position_ids": np.array(positions, np.int32)}
    if encoded:
        out["pixel_values_shape"] = np.array(pixels.shape, np.int32)
        out["pixel_values_checksum"] = vec.checksum(pixels)
        out["vision_embeds_checksum"] = vec.checksum(rows)
        out["vision_embeds_rows"] = rows[[0, -1]]
    for i, layer in enumerate(layers):
        out[f"dec_{i}_checksum"] = vec.checksum(layer)
        out[f"dec_{i}_last_token"] = layer[-1]
    out["logits"] = logits[-1]
    out["logits_all_checksum"] = vec.checksum(logits)
    out["router_gap"] = np.array([np.inf])
    out["banned_ids"] = np.array(model.banned(), np.int32)
    out["greedy_ids"] = np.array(greedy, np.int32)
    out["greedy_gap"] = np.array(gaps, np.float32)
    out["greedy_top_ids"] = np.array(top_ids, np.int32)
    out["greedy_top_logits"] = np.array(top_logits, np.float32)
    return out
