# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/gguf_model.py — a pair of GGUF files as transformers' own model, in float32.
#
# Configuration from the keys, weights from the (dequantised) tensors, tokenizer from the
# vocabulary. Every parameter of the model must get a tensor and every tensor must be used.
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

# The pre-tokenizer "qwen2", in the form that transformers uses.
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# "qwen35": combining marks belong to the letters.
QWEN35_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
                r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED = 3, 4, 5


class File:
    """Keys and tensors of one GGUF file; remembers which tensors were taken."""

    def __init__(self, path):
        self.path = path
        self.reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.left = set(self.tensors)

    def key(self, name, default=None):
        field = self.reader.fields.get(name)
        if field is None:
            if default is None:
                raise SystemExit(f"{self.path}: no key {name}")
            return default
        return field.contents()

    def has(self, name):
        return name in self.tensors

    def tensor(self, name):
        """float32, in the order of PyTorch (slowest axis first)."""
        t = self.tensors.get(name)
        if t is None:
            raise SystemExit(f"{self.path}: no tensor {name}")
        self.left.discard(name)
        shape = [int(n) for n in reversed(t.shape)]
        values = gguf.quants.dequantize(t.data, t.tensor_type)
        return torch.from_numpy(np.ascontiguousarray(values, np.float32).reshape(shape).copy())


def tokenizer_of(text):
    """The vocabulary of a text file as a tokenizer of the `tokenizers` package."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers
    pre = text.key("tokenizer.ggml.pre")
    if text.key("tokenizer.ggml.model") != "gpt2" or pre not in ("qwen2", "qwen35", "smollm",
                                                                 "llama-bpe"):
        raise SystemExit(f"{text.path}: not a qwen2, qwen35, smollm or llama-bpe vocabulary")
    tokens = text.key("tokenizer.ggml.tokens")
    types = text.key("tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in text.key("tokenizer.ggml.merges")]
    used = {t: i for i, t in enumerate(tokens) if types[i] != TOKEN_UNUSED}
    tok = Tokenizer(models.BPE(vocab=used, merges=merges, ignore_merges=pre == "llama-bpe"))
    if pre in ("qwen2", "qwen35"):
        split = QWEN2_SPLIT if pre == "qwen2" else QWEN35_SPLIT
        tok.normalizer = normalizers.NFC()
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    elif pre == "llama-bpe":    # of Llama 3's tokenizer.json
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:                       # of SmolLM2's tokenizer.json
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    # They are part of the vocabulary already: they keep their ids.
    tok.add_tokens([AddedToken(t, normalized=False, special=types[i] == TOKEN_CONTROL)
                    for t, i in used.items() if types[i] in (TOKEN_CONTROL, TOKEN_USER_DEFINED)])
    return tok, used


class Model:
    """transformers' model of a pair, with what a prompt needs: tokenizer, special ids, limits."""

    archs = ("qwen3vl", "qwen3vlmoe")
    answer_open = "<|im_end|>\n<|im_start|>assistant\n"   # what ends the user's turn
    known_open = answer_open                               # when the answer is given

    def __init__(self, text_path, mmproj_path):
        self.text, self.mmproj = File(text_path), File(mmproj_path)
        self.arch = self.text.key("general.architecture")
        if self.arch not in self.archs:
            raise SystemExit(f"{text_path}: architecture {self.arch} is not supported")
        self.tokenizer, self.vocab = self.make_tokenizer()
        self.config = self.make_config()
        self.hf = self.make_model()
        self.load()

    def make_tokenizer(self):
        return tokenizer_of(self.text)

    # ------------------------------------------------------------------ configuration
    def make_config(self):
        a, t, v = self.arch, self.text, self.mmproj
        embd = t.tensors["token_embd.weight"].shape
        if t.key(f"{a}.rope.scaling.type", "none") not in ("none", "linear") \
                or t.key(f"{a}.rope.scaling.factor", 1.0) != 1.0:
            raise SystemExit(f"{t.path}: scaled rotary positions are not supported here")
        text = dict(
            vocab_size=int(embd[1]), hidden_size=t.key(f"{a}.embedding_length"),
            num_hidden_layers=t.key(f"{a}.block_count"),
            num_attention_heads=t.key(f"{a}.attention.head_count"),
            num_key_value_heads=t.key(f"{a}.attention.head_count_kv"),
            head_dim=t.key(f"{a}.attention.key_length"),
            intermediate_size=t.key(f"{a}.feed_forward_length", 1) or 1,
            max_position_embeddings=t.key(f"{a}.context_length"),
            rms_norm_eps=t.key(f"{a}.attention.layer_norm_rms_epsilon"),
            rope_parameters=dict(
                rope_type="default", rope_theta=float(t.key(f"{a}.rope.freq_base")),
                mrope_interleaved=True,
                mrope_section=list(t.key(f"{a}.rope.dimension_sections")[:3])))
        if a.endswith("moe"):
            text.update(num_experts=t.key(f"{a}.expert_count"),
                        num_experts_per_tok=t.key(f"{a}.expert_used_count"),
                        moe_intermediate_size=t.key(f"{a}.expert_feed_forward_length"))
        if v.key("clip.projector_type") != "qwen3vl_merger" or not v.key("clip.use_gelu", False):
            raise SystemExit(f"{v.path}: not the vision half of a Qwen3-VL model")
        text.update(self.more_text_config())
        flags = v.key("clip.vision.is_deepstack_layers")
        self.deepstack = [i for i, on in enumerate(flags) if on]
        self.patch = v.key("clip.vision.patch_size")
        self.merge = v.key("clip.vision.spatial_merge_size")
        self.mean = list(v.key("clip.vision.image_mean"))
        self.std = list(v.key("clip.vision.image_std"))
        # Limits of the published Qwen3-VL models when the file has none of its own.
        self.min_pixels = v.key("clip.vision.image_min_pixels", 65536)
        self.max_pixels = v.key("clip.vision.image_max_pixels", 16777216)
        if abs(v.key("clip.vision.attention.layer_norm_epsilon") - 1e-6) > 1e-9:
            print(f"note: {v.path}: transformers uses 1e-6 as epsilon of the vision norms")
        vision = dict(
            depth=v.key("clip.vision.block_count"), hidden_size=v.key("clip.vision.embedding_length"),
            intermediate_size=v.key("clip.vision.feed_forward_length"),
            num_heads=v.key("clip.vision.attention.head_count"), patch_size=self.patch,
            spatial_merge_size=self.merge, temporal_patch_size=2,
            out_hidden_size=v.key("clip.vision.projection_dim"),
            num_position_embeddings=int(v.tensors["v.position_embd.weight"].shape[1]),
            hidden_act="gelu_pytorch_tanh", **self.more_vision_config())
        if t.key(f"{a}.n_deepstack_layers", 0) != len(self.deepstack):
            raise SystemExit(f"{t.path} and {v.path} do not belong together")
        cls = getattr(transformers, self.kind() + "Config")
        return cls(text_config=text, vision_config=vision, tie_word_embeddings=False,
                   image_token_id=self.vocab["<|image_pad|>"],
                   video_token_id=self.vocab["<|video_pad|>"],
                   vision_start_token_id=self.vocab["<|vision_start|>"],
                   vision_end_token_id=self.vocab["<|vision_end|>"])

    def kind(self):
        """How transformers' classes are called."""
        return "Qwen3VL" if self.arch == "qwen3vl" else "Qwen3VLMoe"

    def more_text_config(self):
        return {}

    def more_vision_config(self):
        return dict(deepstack_visual_indexes=self.deepstack)

    def make_model(self):
        cls = getattr(transformers, self.kind() + "ForConditionalGeneration")
        self.config._attn_implementation = "eager"
        hf = cls(self.config).to(torch.float32).eval()
        for module in hf.modules():         # the plain loop over experts
            config = getattr(module, "config", None)
            if config is not None and hasattr(config, "_experts_implementation"):
                config._experts_implementation = "eager"
        return hf

    # ------------------------------------------------------------------ weights
    def text_weights(self):
        t, tree = self.text, "model.language_model."
        yield tree + "embed_tokens.weight", t.tensor("token_embd.weight")
        yield tree + "norm.weight", t.tensor("output_norm.weight")
        output = "output.weight" if t.has("output.weight") else "token_embd.weight"
        yield "lm_head.weight", t.tensor(output)
        same = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
                "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
                "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
                "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
        if self.arch == "qwen3vl":
            same.update({"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
                         "mlp.down_proj": "ffn_down"})
        else:
            same["mlp.gate"] = "ffn_gate_inp"
        for i in range(self.config.text_config.num_hidden_layers):
            layer, blk = f"{tree}layers.{i}.", f"blk.{i}."
            for ours, theirs in same.items():
                yield f"{layer}{ours}.weight", t.tensor(f"{blk}{theirs}.weight")
            if self.arch == "qwen3vlmoe":   # the module keeps [expert, out, in], gate before up
                yield layer + "mlp.experts.gate_up_proj", torch.cat(
                    [t.tensor(blk + "ffn_gate_exps.weight"), t.tensor(blk + "ffn_up_exps.weight")], 1)
                yield layer + "mlp.experts.down_proj", t.tensor(blk + "ffn_down_exps.weight")

    def vision_weights(self):
        v, tree = self.mmproj, "model.visual."

        def linear(ours, theirs):
            for part in ("weight", "bias"):
                yield f"{tree}{ours}.{part}", v.tensor(f"{theirs}.{part}")
        # The convolution over two frames is stored as two slices.
        yield tree + "patch_embed.proj.weight", torch.stack(
            [v.tensor("v.patch_embd.weight"), v.tensor("v.patch_embd.weight.1")], 2)
        yield tree + "patch_embed.proj.bias", v.tensor("v.patch_embd.bias")
        yield tree + "pos_embed.weight", v.tensor("v.position_embd.weight")
        for i in range(self.config.vision_config.depth):
            for ours, theirs in (("norm1", "ln1"), ("norm2", "ln2"), ("attn.qkv", "attn_qkv"),
                                 ("attn.proj", "attn_out"), ("mlp.linear_fc1", "ffn_up"),
                                 ("mlp.linear_fc2", "ffn_down")):
                yield from linear(f"blocks.{i}.{ours}", f"v.blk.{i}.{theirs}")
        yield from linear("merger.norm", "v.post_ln")
        yield from linear("merger.linear_fc1", "mm.0")
        yield from linear("merger.linear_fc2", "mm.2")
        for n, layer in enumerate(self.deepstack):
            for ours, theirs in (("norm", "norm"), ("linear_fc1", "fc1"), ("linear_fc2", "fc2")):
                yield from linear(f"deepstack_merger_list.{n}.{ours}",
                                  f"v.deepstack.{layer}.{theirs}")

    def load(self):
        parameters = dict(self.hf.named_parameters())
        with torch.no_grad():
            for weights in (self.text_weights(), self.vision_weights()):
                for name, value in weights:
                    parameter = parameters.pop(name, None)
                    if parameter is None or parameter.shape != value.shape:
                        raise SystemExit(f"{name}: {tuple(value.shape)} does not fit the model")
                    parameter.copy_(value)
        if parameters:
            raise SystemExit(f"parameters without a tensor: {sorted(parameters)}")
        for file in (self.text, self.mmproj):
            if file.left:
                raise SystemExit(f"{file.path}: unused tensors {sorted(file.left)}")

    # ------------------------------------------------------------------ text
    def encode(self, text):
        """Token ids of text in which special tokens are written out."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def rows(self, pixels):
        """Pixels as rows of patches in the order of the engine."""
        return pixels

    def banned(self):
        """Ids of the media placeholders: a random model would emit one sooner or later."""
        return [self.vocab[t] for t in ("<|image_pad|>", "<|video_pad|>")]


class Qwen35Model(Model):
    """Qwen3.5: gated delta nets in most layers, gated attention in the others."""

    archs = ("qwen35", "qwen35moe")
    answer_open = Model.answer_open + "<think>\n\n</think>\n\n"

    def kind(self):
        return "Qwen3_5" if self.arch == "qwen35" else "Qwen3_5Moe"

    def more_text_config(self):
        a, t = self.arch, self.text
        head_dim, n_ahead = t.key(f"{a}.attention.key_length"), t.key(f"{a}.nextn_predict_layers", 0)
        n_layer = t.key(f"{a}.block_count") - n_ahead
        interval = t.key(f"{a}.full_attention_interval", 4)
        recurrent = t.key(f"{a}.attention.recurrent_layers",
                          [(i + 1) % interval != 0 for i in range(n_layer)])
        # Layers that predict further ahead are not part of this model.
        for i in range(n_layer, n_layer + n_ahead):
            t.left -= {name for name in t.tensors if name.startswith(f"blk.{i}.")}
        rope = dict(rope_type="default", rope_theta=float(t.key(f"{a}.rope.freq_base")),
                    mrope_interleaved=True, mrope_section=list(t.key(f"{a}.rope.dimension_sections")[:3]),
                    partial_rotary_factor=t.key(f"{a}.rope.dimension_count") / head_dim)
        more = dict(
            num_hidden_layers=n_layer, rope_parameters=rope,
            layer_types=["linear_attention" if r else "full_attention" for r in recurrent[:n_layer]],
            linear_conv_kernel_dim=t.key(f"{a}.ssm.conv_kernel"),
            linear_key_head_dim=t.key(f"{a}.ssm.state_size"),
            linear_value_head_dim=t.key(f"{a}.ssm.state_size"),
            linear_num_key_heads=t.key(f"{a}.ssm.group_count"),
            linear_num_value_heads=t.key(f"{a}.ssm.time_step_rank"))
        if a == "qwen35moe":
            more["shared_expert_intermediate_size"] = t.key(f"{a}.expert_shared_feed_forward_length")
        return more

    def more_vision_config(self):
        if self.deepstack:
            raise SystemExit(f"{self.mmproj.path}: has DeepStack layers")
        return {}

    def grouped(self, values, width, axis=0):
        """Files have value heads in the order in which head h belongs to key head h mod n,
        transformers with those of one key head together."""
        config = self.config.text_config
        n_key = config.linear_num_key_heads
        shape = list(values.shape)
        split = [*shape[:axis], shape[axis] // width // n_key, n_key, width, *shape[axis + 1:]]
        return values.reshape(split).transpose(axis, axis + 1).reshape(shape).contiguous()

    def recurrent_weights(self, i):
        t, blk, out = self.text, f"blk.{i}.", f"model.language_model.layers.{i}.linear_attn."
        config = self.config.text_config
        width = config.linear_value_head_dim
        n_qk = 2 * config.linear_num_key_heads * config.linear_key_head_dim

        def values_grouped(rows):
            return torch.cat([rows[:n_qk], self.grouped(rows[n_qk:], width)])
        yield out + "in_proj_qkv.weight", values_grouped(t.tensor(blk + "attn_qkv.weight"))
        yield out + "in_proj_z.weight", self.grouped(t.tensor(blk + "attn_gate.weight"), width)
        yield out + "in_proj_a.weight", self.grouped(t.tensor(blk + "ssm_alpha.weight"), 1)
        yield out + "in_proj_b.weight", self.grouped(t.tensor(blk + "ssm_beta.weight"), 1)
        yield out + "conv1d.weight", values_grouped(t.tensor(blk + "ssm_conv1d.weight"))[:, None]
        yield out + "dt_bias", self.grouped(t.tensor(blk + "ssm_dt.bias"), 1)
        yield out + "A_log", torch.log(-self.grouped(t.tensor(blk + "ssm_a"), 1))
        yield out + "norm.weight", t.tensor(blk + "ssm_norm.weight")
        yield out + "out_proj.weight", self.grouped(t.tensor(blk + "ssm_out.weight"), width, 1)

    def text_weights(self):
        t, tree, config = self.text, "model.language_model.", self.config.text_config
        # Norms here have their weight's distance from 1.
        yield tree + "embed_tokens.weight", t.tensor("token_embd.weight")
        yield tree + "norm.weight", t.tensor("output_norm.weight") - 1
        yield "lm_head.weight", t.tensor("output.weight" if t.has("output.weight")
                                         else "token_embd.weight")
        for i in range(config.num_hidden_layers):
            layer, blk = f"{tree}layers.{i}.", f"blk.{i}."
            yield layer + "input_layernorm.weight", t.tensor(blk + "attn_norm.weight") - 1
            yield (layer + "post_attention_layernorm.weight",
                   t.tensor(blk + "post_attention_norm.weight") - 1)
            if config.layer_types[i] == "linear_attention":
                yield from self.recurrent_weights(i)
            else:
                for part in ("q_norm", "k_norm"):
                    yield f"{layer}self_attn.{part}.weight", t.tensor(f"{blk}attn_{part}.weight") - 1
                for ours, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output")):
                    yield (f"{layer}self_attn.{ours}_proj.weight",
                           t.tensor(f"{blk}attn_{theirs}.weight"))
            if self.arch == "qwen35":
                for part in ("gate", "up", "down"):
                    yield f"{layer}mlp.{part}_proj.weight", t.tensor(f"{blk}ffn_{part}.weight")
                continue
            yield layer + "mlp.gate.weight", t.tensor(blk + "ffn_gate_inp.weight")
            yield layer + "mlp.experts.gate_up_proj", \
                t.tensor(blk + "ffn_gate_up_exps.weight") if t.has(blk + "ffn_gate_up_exps.weight") \
                else torch.cat([t.tensor(f"{blk}ffn_{x}_exps.weight") for x in ("gate", "up")], 1)
            yield layer + "mlp.experts.down_proj", t.tensor(blk + "ffn_down_exps.weight")
            for part in ("gate", "up", "down"):
                yield (f"{layer}mlp.shared_expert.{part}_proj.weight",
                       t.tensor(f"{blk}ffn_{part}_shexp.weight"))
            yield (layer + "mlp.shared_expert_gate.weight",
                   t.tensor(blk + "ffn_gate_inp_shexp.weight").reshape(1, -1))


class SmolModel(Model):
    """SmolVLM2: a Llama decoder behind a SigLIP tower."""

    archs = ("llama",)

    def make_config(self):
        a, t, v = self.arch, self.text, self.mmproj
        if v.key("clip.projector_type") != "idefics3" or not v.key("clip.use_gelu", False):
            raise SystemExit(f"{v.path}: not the vision half of a SmolVLM model")
        heads = t.key(f"{a}.attention.head_count")
        head_dim = t.key(f"{a}.attention.key_length", t.key(f"{a}.embedding_length") // heads)
        text = transformers.LlamaConfig(
            vocab_size=int(t.tensors["token_embd.weight"].shape[1]),
            hidden_size=t.key(f"{a}.embedding_length"), num_hidden_layers=t.key(f"{a}.block_count"),
            num_attention_heads=heads, head_dim=head_dim,
            num_key_value_heads=t.key(f"{a}.attention.head_count_kv", heads),
            intermediate_size=t.key(f"{a}.feed_forward_length"), hidden_act="silu",
            max_position_embeddings=t.key(f"{a}.context_length"),
            rms_norm_eps=t.key(f"{a}.attention.layer_norm_rms_epsilon"), attention_bias=False,
            pad_token_id=self.vocab["<|endoftext|>"],
            rope_parameters=dict(rope_type="default",
                                 rope_theta=float(t.key(f"{a}.rope.freq_base", 10000.0))))
        self.patch = v.key("clip.vision.patch_size")
        self.merge = v.key("clip.vision.projector.scale_factor")
        self.image_size = v.key("clip.vision.image_size")
        self.n_rows = (self.image_size // self.patch // self.merge) ** 2   # per picture
        self.longest_edge = v.key("clip.vision.preproc_image_size", 4 * self.image_size)
        self.mean = list(v.key("clip.vision.image_mean"))
        self.std = list(v.key("clip.vision.image_std"))
        vision = dict(
            hidden_size=v.key("clip.vision.embedding_length"),
            intermediate_size=v.key("clip.vision.feed_forward_length"),
            num_hidden_layers=v.key("clip.vision.block_count"), image_size=self.image_size,
            num_attention_heads=v.key("clip.vision.attention.head_count"), patch_size=self.patch,
            layer_norm_eps=v.key("clip.vision.attention.layer_norm_epsilon"),
            hidden_act="gelu_pytorch_tanh", num_channels=3)
        return transformers.SmolVLMConfig(
            text_config=text, vision_config=vision, scale_factor=self.merge,
            tie_word_embeddings=False, image_token_id=self.vocab["<image>"],
            pad_token_id=self.vocab["<|endoftext|>"])

    def make_model(self):
        self.config._attn_implementation = "eager"
        return transformers.SmolVLMForConditionalGeneration(self.config).to(torch.float32).eval()

    @staticmethod
    def halves(rows, n_head):
        """Rows of q or k in files are in the order of adjacent rotary pairs; transformers wants the
        first elements of all pairs of a head, then the second ones."""
        n, width = rows.shape
        return rows.reshape(n_head, n // n_head // 2, 2, width).swapaxes(1, 2).reshape(n, width)

    def text_weights(self):
        t, tree, config = self.text, "model.text_model.", self.config.text_config
        yield tree + "embed_tokens.weight", t.tensor("token_embd.weight")
        yield tree + "norm.weight", t.tensor("output_norm.weight")
        yield "lm_head.weight", t.tensor("output.weight" if t.has("output.weight")
                                         else "token_embd.weight")
        same = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
                "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
                "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
        for i in range(config.num_hidden_layers):
            layer, blk = f"{tree}layers.{i}.", f"blk.{i}."
            for ours, theirs in same.items():
                yield f"{layer}{ours}.weight", t.tensor(f"{blk}{theirs}.weight")
            yield layer + "self_attn.q_proj.weight", self.halves(
                t.tensor(blk + "attn_q.weight"), config.num_attention_heads)
            yield layer + "self_attn.k_proj.weight", self.halves(
                t.tensor(blk + "attn_k.weight"), config.num_key_value_heads)

    def vision_weights(self):
        v, tree, config = self.mmproj, "model.vision_model.", self.config.vision_config
        swapped = v.tensors["v.blk.0.ffn_down.weight"].shape[0] == config.hidden_size \
            and config.hidden_size != config.intermediate_size
        up, down = ("ffn_down", "ffn_up") if swapped else ("ffn_up", "ffn_down")
        yield tree + "embeddings.patch_embedding.weight", v.tensor("v.patch_embd.weight")
        yield tree + "embeddings.patch_embedding.bias", v.tensor("v.patch_embd.bias")
        yield tree + "embeddings.position_embedding.weight", v.tensor("v.position_embd.weight")
        for part in ("weight", "bias"):
            for i in range(config.num_hidden_layers):
                for ours, theirs in (
                        ("layer_norm1", "ln1"), ("layer_norm2", "ln2"),
                        ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
                        ("self_attn.v_proj", "attn_v"), ("self_attn.out_proj", "attn_out"),
                        ("mlp.fc1", up), ("mlp.fc2", down)):
                    yield (f"{tree}encoder.layers.{i}.{ours}.{part}",
                           v.tensor(f"v.blk.{i}.{theirs}.{part}"))
            yield f"{tree}post_layernorm.{part}", v.tensor(f"v.post_ln.{part}")
        yield "model.connector.modality_projection.proj.weight", v.tensor("mm.model.fc.weight")

    def rows(self, pixels):
        import smolvlm
        return smolvlm.rows_of(self, pixels)

    def banned(self):
        return [self.vocab["<image>"]]


def load(text_path, mmproj_path):
    """The model of a pair of files."""
    arch = File(text_path).key("general.architecture")
    if not os.path.exists(mmproj_path):
        import text
        return text.TextModel(text_path)
    if arch == "mllama":
        import mllama
        return mllama.MllamaModel(text_path, mmproj_path)
    if arch == "llama" and File(mmproj_path).key("clip.projector_type", "mlp") == "mlp":
        import llava
        return llava.LlavaModel(text_path, mmproj_path)
    if arch == "qwen2vl":
        import qwen2vl
        return qwen2vl.Qwen2Model(text_path, mmproj_path)
    for cls in (Qwen35Model, SmolModel):
        if arch in cls.archs:
            return cls(text_path, mmproj_path)
    return Model(text_path, mmproj_path)
