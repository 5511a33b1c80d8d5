# SPDX-License-Identifier: LGPL-2.1-or-later
# training/restore.py — a GGUF pair back to the start of a training run
"""restore.py TEXT.gguf MMPROJ.gguf RUN writes RUN/checkpoint.pt and RUN/tokenizer, so that train.py
goes on from the weights of the files (as rounded there) without the optimiser's state."""
import os
import sys

import gguf
import numpy as np
import torch

import model as M

TEXT = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate_inp": "mlp.gate",
}
VISION = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn_qkv": "attn.qkv",
    "attn_out": "attn.proj",
    "ffn_up": "mlp.linear_fc1",
    "ffn_down": "mlp.linear_fc2",
}
MERGER = {"v.post_ln": "norm", "mm.0": "linear_fc1", "mm.2": "linear_fc2"}


def tensors(path):
    r = gguf.GGUFReader(path)
    return r, {
        t.name: torch.from_numpy(
            gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(t.shape[::-1])
        )
        for t in r.tensors
    }


def text_state(t):
    out = {"lm_head.weight": t.pop("output.weight")}
    for name, v in t.items():
        if "_exps" in name:
            continue
        stem, kind = name.rsplit(".", 1)
        if stem.startswith("blk."):
            _, n, part = stem.split(".")
            stem = f"layers.{n}.{TEXT[part]}"
        else:
            stem = TEXT[stem]
        out[f"model.language_model.{stem}.{kind}"] = v
    for name in [n for n in t if n.endswith("ffn_gate_exps.weight")]:
        n = name.split(".")[1]
        ex = f"model.language_model.layers.{n}.mlp.experts."
        out[ex + "gate_up_proj"] = torch.cat([t[name], t[name.replace("gate", "up")]], 1)
        out[ex + "down_proj"] = t[name.replace("gate", "down")]
    return out


def vision_state(t, taps):
    v, out = "model.visual.", {}
    patch = torch.stack([t.pop("v.patch_embd.weight"), t.pop("v.patch_embd.weight.1")], 2)
    out[v + "patch_embed.proj.weight"] = patch
    out[v + "patch_embed.proj.bias"] = t.pop("v.patch_embd.bias")
    out[v + "pos_embed.weight"] = t.pop("v.position_embd.weight")
    for name, x in t.items():
        stem, kind = name.rsplit(".", 1)
        part = stem.split(".")
        if stem in MERGER:
            out[f"{v}merger.{MERGER[stem]}.{kind}"] = x
        elif part[1] == "deepstack":
            p = {"norm": "norm", "fc1": "linear_fc1", "fc2": "linear_fc2"}[part[3]]
            out[f"{v}deepstack_merger_list.{taps.index(int(part[2]))}.{p}.{kind}"] = x
        else:
            out[f"{v}blocks.{part[2]}.{VISION[part[3]]}.{kind}"] = x
    return out


def tokenizer(r):
    field = {k: r.fields["tokenizer.ggml." + k].contents() for k in ("tokens", "merges")}
    tokens = [t for t in field["tokens"] if t not in M.SPECIALS and not t.startswith("[PAD")]
    tok = M.make_tokenizer(
        vocab={t: i for i, t in enumerate(tokens)},
        merges=[tuple(m.split(" ")) for m in field["merges"]],
    )
    for s in M.SPECIALS:
        if tok.convert_tokens_to_ids(s) != field["tokens"].index(s):
            raise SystemExit(f"{s}: another number than in the file")
    return tok


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    text, vision, run = sys.argv[1:]
    reader, t = tensors(text)
    tok = tokenizer(reader)
    cfg = M.make_config(tok)
    m = M.make_model(cfg)
    state = text_state(t)
    state.update(vision_state(tensors(vision)[1], list(cfg.vision_config.deepstack_visual_indexes)))
    m.load_state_dict(state)
    os.makedirs(run, exist_ok=True)
    tok.save_pretrained(os.path.join(run, "tokenizer"))
    torch.save(dict(model=m.state_dict(), step=0, spent=0.0), os.path.join(run, "checkpoint.pt"))
    print(f"{run}: {sum(p.numel() for p in m.parameters())} weights, {len(tok)} tokens")


if __name__ == "__main__":
    main()
