# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/text.py — text models without a tower in transformers.
import gguf_model
import numpy as np
import torch
import transformers
import vec

CLASSES = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
           "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
           "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
           "qwen3moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM)}


class TextModel(gguf_model.Model):
    """A GGUF file as LlamaForCausalLM and its like."""

    archs = tuple(CLASSES)

    def __init__(self, path):
        self.text = gguf_model.File(path)
        self.arch = self.text.key("general.architecture")
        if self.arch not in self.archs:
            raise SystemExit(f"{path}: architecture {self.arch} is not supported")
        self.tokenizer, self.vocab = gguf_model.tokenizer_of(self.text)
        self.config = self.make_config()
        self.hf = CLASSES[self.arch][1](self.config).to(torch.float32).eval()
        self.load()

    def make_config(self):
        a, t = self.arch, self.text
        heads, embd = t.key(f"{a}.attention.head_count"), t.key(f"{a}.embedding_length")
        kw = dict(
            vocab_size=int(t.tensors["token_embd.weight"].shape[1]), hidden_size=embd,
            num_hidden_layers=t.key(f"{a}.block_count"), num_attention_heads=heads,
            num_key_value_heads=t.key(f"{a}.attention.head_count_kv", heads),
            intermediate_size=t.key(f"{a}.feed_forward_length", 1) or 1,
            max_position_embeddings=t.key(f"{a}.context_length"),
            rms_norm_eps=t.key(f"{a}.attention.layer_norm_rms_epsilon"), hidden_act="silu",
            tie_word_embeddings=False,
            rope_parameters=dict(rope_type="default", rope_theta=float(t.key(f"{a}.rope.freq_base"))))
        if a != "qwen2":
            kw["head_dim"] = t.key(f"{a}.attention.key_length", embd // heads)
        if a == "qwen3moe":
            kw.update(num_experts=t.key(f"{a}.expert_count"), norm_topk_prob=True,
                      num_experts_per_tok=t.key(f"{a}.expert_used_count"),
                      moe_intermediate_size=t.key(f"{a}.expert_feed_forward_length"))
        config = CLASSES[a][0](**kw)
        config._attn_implementation = "eager"
        return config

    def weights(self):
        t, c = self.text, self.config

        def halves(x, n_head):
            """Llama's files have rotary pairs side by side, transformers half a head apart."""
            if self.arch != "llama":
                return x
            n = x.shape[0]
            return x.reshape(n_head, n // n_head // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)

        yield "model.embed_tokens.weight", t.tensor("token_embd.weight")
        yield "model.norm.weight", t.tensor("output_norm.weight")
        yield "lm_head.weight", t.tensor("output.weight" if t.has("output.weight")
                                         else "token_embd.weight")
        for i in range(c.num_hidden_layers):
            layer, blk = f"model.layers.{i}.", f"blk.{i}."
            yield layer + "input_layernorm.weight", t.tensor(blk + "attn_norm.weight")
            yield layer + "post_attention_layernorm.weight", t.tensor(blk + "ffn_norm.weight")
            for part, heads in (("q", c.num_attention_heads), ("k", c.num_key_value_heads)):
                yield (f"{layer}self_attn.{part}_proj.weight",
                       halves(t.tensor(f"{blk}attn_{part}.weight"), heads))
                if t.has(f"{blk}attn_{part}_norm.weight"):
                    yield (f"{layer}self_attn.{part}_norm.weight",
                           t.tensor(f"{blk}attn_{part}_norm.weight"))
            yield f"{layer}self_attn.v_proj.weight", t.tensor(f"{blk}attn_v.weight")
            yield f"{layer}self_attn.o_proj.weight", t.tensor(f"{blk}attn_output.weight")
            for part in "qkv":
                if t.has(f"{blk}attn_{part}.bias"):
                    yield f"{layer}self_attn.{part}_proj.bias", t.tensor(f"{blk}attn_{part}.bias")
            if self.arch == "qwen3moe":
                yield layer + "mlp.gate.weight", t.tensor(blk + "ffn_gate_inp.weight")
                yield layer + "mlp.experts.gate_up_proj", torch.cat(
                    [t.tensor(f"{blk}ffn_{x}_exps.weight") for x in ("gate", "up")], 1)
                yield layer + "mlp.experts.down_proj", t.tensor(blk + "ffn_down_exps.weight")
                continue
            for part in ("gate", "up", "down"):
                yield f"{layer}mlp.{part}_proj.weight", t.tensor(f"{blk}ffn_{part}.weight")

    def load(self):
        parameters = dict(self.hf.named_parameters())
        with torch.no_grad():
            for name, value in self.weights():
                parameter = parameters.pop(name, None)
                if parameter is None or parameter.shape != value.shape:
                    raise SystemExit(f"{name}: {tuple(value.shape)} does not fit the model")
                parameter.copy_(value)
            if self.text.has("rope_freqs.weight"):      # what rope_type "llama3" would work out
                self.hf.model.rotary_emb.inv_freq /= self.text.tensor("rope_freqs.weight")
        if parameters or self.text.left:
            raise SystemExit(f"left over: {sorted(parameters)}, {sorted(self.text.left)}")

    def run(self, case, n_greedy, n_top):
        torch.set_num_threads(1)
        prompt = ""
        for kind, text in case.parts:
            prompt += f"<|im_start|>{'system' if kind == 'system' else 'user'}\n{text}<|im_end|>\n"
        prompt += "<|im_start|>assistant\n"
        ids = self.encode(prompt)
        layers, routers, handles = {}, [], []
        for i, layer in enumerate(self.hf.model.layers):
            handles.append(layer.register_forward_hook(lambda _m, _a, out, i=i: layers.__setitem__(
                i, (out[0] if isinstance(out, tuple) else out).reshape(-1, self.config.hidden_size)
                .numpy().copy())))
            if self.arch == "qwen3moe":
                handles.append(layer.mlp.gate.register_forward_hook(
                    lambda _m, _a, out: routers.append(out[0].numpy().copy())))
        with torch.no_grad():
            logits = self.hf(input_ids=torch.tensor([ids])).logits[0].numpy()
            for handle in handles:
                handle.remove()
            greedy, gaps, top_ids, top_logits, now = [], [], [], [], logits[-1].copy()
            for _ in range(n_greedy):
                now[self.banned()] = -np.inf
                order = np.argsort(-now, kind="stable")[:n_top]
                greedy.append(int(order[0]))
                gaps.append(float(now[order[0]] - now[order[1]]))
                top_ids.append(order)
                top_logits.append(now[order])
                now = self.hf(input_ids=torch.tensor([ids + greedy])).logits[0, -1].numpy().copy()
        gap = np.inf
        for values in routers:
            order, k = np.sort(values, 1)[:, ::-1], self.config.num_experts_per_tok
            if k == values.shape[1]:
                continue
            gap = min(gap, float((order[:, k - 1] - order[:, k]).min()))
        positions = np.broadcast_to(np.arange(len(ids), dtype=np.int32), (3, len(ids)))
        out = {"input": case.input(), "prompt": prompt, "expanded_prompt": prompt,
               "input_ids": np.array(ids, np.int32), "position_ids": np.array(positions, np.int32)}
        for i, layer in layers.items():
            out[f"dec_{i}_checksum"] = vec.checksum(layer)
            out[f"dec_{i}_last_token"] = layer[-1]
        out["logits"] = logits[-1]
        out["logits_all_checksum"] = vec.checksum(logits)
        out["router_gap"] = np.array([gap])
        out["banned_ids"] = np.array(self.banned(), np.int32)
        out["greedy_ids"] = np.array(greedy, np.int32)
        out["greedy_gap"] = np.array(gaps, np.float32)
        out["greedy_top_ids"] = np.array(top_ids, np.int32)
        out["greedy_top_logits"] = np.array(top_logits, np.float32)
        return out
