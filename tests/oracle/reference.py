#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/reference.py — what transformers computes from a pair of GGUF files, in float32.
"""reference.py TEXT.gguf MMPROJ.gguf [--cases text,image,images,video] [--out PREFIX]

Loads the pair into transformers' own model (float32, eager, one thread), runs the cases of
cases.py and writes PREFIX-CASE.vec for each. Without --out only a summary is printed.
"""
import argparse
import zlib

import cases
import gguf_model
import numpy as np
import torch
import vec

N_GREEDY = 32
N_TOP = 8


def first(x):
    return x[0] if isinstance(x, (tuple, list)) else x


class Taps:
    """Forward hooks that keep what passes through the model."""

    def __init__(self, hf):
        self.got, self.handles = {}, []
        tree = hf.model
        smol, llava = hasattr(tree, "connector"), hasattr(tree, "multi_modal_projector")
        if llava:       # one layer more than counts
            clip = tree.vision_tower
            tower = getattr(clip, "vision_model", clip).encoder.layers[:-1]
        else:
            tower = tree.vision_model.encoder.layers if smol else tree.visual.blocks
        decoder = tree.text_model if smol else tree.language_model
        for i, layer in enumerate(tower):
            self.output(layer, f"vit_{i}")
        taps = [] if smol or llava else getattr(tree.visual, "deepstack_merger_list", [])
        if llava:
            self.output(tree.multi_modal_projector, "vision_embeds")
        elif smol or taps:
            self.output(tree.connector if smol else tree.visual.merger, "vision_embeds")
        else:       # the merger's own output may be in the order of windows
            self.output(tree.visual, "vision_embeds", lambda out: out.pooler_output)
        for i, merger in enumerate(taps):
            self.output(merger, f"deepstack_{i}")
        for i, layer in enumerate(decoder.layers):
            self.output(layer, f"dec_{i}")
            if hasattr(layer.mlp, "gate") and hasattr(layer.mlp.gate, "top_k"):
                self.output(layer.mlp.gate, f"router_{i}")
        self.handles.append(decoder.register_forward_pre_hook(
            self.arguments, with_kwargs=True))

    def output(self, module, key, choose=first):
        def keep(_module, _args, out):
            value = choose(out).detach().float().numpy()
            self.got.setdefault(key, []).append(value.reshape(-1, value.shape[-1]).copy())
        self.handles.append(module.register_forward_hook(keep))

    def arguments(self, _module, _args, kwargs):
        self.got["inputs_embeds"] = [kwargs["inputs_embeds"].detach().float().numpy()[0].copy()]
        positions = kwargs.get("position_ids")
        if positions is not None:
            self.got["position_ids"] = [positions.numpy().astype(np.int32)]
        else:       # Llama counts
            n = len(self.got["inputs_embeds"][0])
            self.got["position_ids"] = [np.broadcast_to(np.arange(n, dtype=np.int32), (3, n))]

    def close(self):
        """The values, each joined over the calls (pictures and films are encoded apart)."""
        for handle in self.handles:
            handle.remove()
        return {k: np.concatenate(v) if k != "position_ids" else v[0] for k, v in self.got.items()}


def greedy(model, inputs, n):
    """n tokens, each from a full evaluation without a cache; end-of-text is not obeyed. Returns
    ids, distance of the best logit from the second, and the best N_TOP ids and logits per step."""
    banned, inputs = model.banned(), dict(inputs)
    ids, gaps, top_ids, top_logits = [], [], [], []
    for _ in range(n):
        with torch.no_grad():
            logits = model.hf(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1].clone()
        logits[banned] = float("-inf")
        value, index = torch.topk(logits, N_TOP)
        ids.append(int(index[0]))
        gaps.append(float(value[0] - value[1]))
        top_ids.append(index.tolist())
        top_logits.append(value.tolist())
        for key, fill in (("input_ids", ids[-1]), ("attention_mask", 1), ("mm_token_type_ids", 0)):
            if key not in inputs:
                continue
            more = torch.full((1, 1), fill, dtype=inputs[key].dtype)
            inputs[key] = torch.cat([inputs[key], more], 1)
    return (np.array(ids, np.int32), np.array(gaps, np.float32), np.array(top_ids, np.int32),
            np.array(top_logits, np.float32))


def router_gap(got, n_used):
    """Smallest distance, over tokens and layers, between the logit of the last expert that is
    used and of the first that is not: below the error of a computation its choice is luck."""
    gaps = [np.inf]
    for key, logits in got.items():
        if key.startswith("router_") and logits.shape[1] > n_used:
            order = np.sort(logits, 1)[:, ::-1]
            gaps.append((order[:, n_used - 1] - order[:, n_used]).min())
    return float(min(gaps))


def run(model, case, n_greedy=N_GREEDY):
    """All arrays of a case by name; README.md says what each is."""
    if hasattr(model, "run"):
        return model.run(case, n_greedy, N_TOP)
    torch.set_num_threads(1)
    inputs, prompt, expanded = cases.inputs_of(model, case)
    taps = Taps(model.hf)
    with torch.no_grad():
        logits = model.hf(**inputs, use_cache=False).logits[0].float().numpy()
    got = taps.close()
    ids = inputs["input_ids"][0].numpy().astype(np.int32)
    positions = got.get("position_ids")
    if positions is None:       # text alone: transformers counts
        positions = np.broadcast_to(np.arange(ids.size, dtype=np.int32), (3, ids.size))
    pixels = [p for p in case.parts if p[0] in ("image", "frame")]
    out = {"input": case.input(), "prompt": prompt, "expanded_prompt": expanded, "input_ids": ids,
           "position_ids": positions.reshape(-1, ids.size)[-3:].astype(np.int32)}
    if pixels:
        crc = [zlib.crc32(cases.picture(*p[1:4]).tobytes()) for p in pixels]
        out["picture_crc32"] = np.array(crc, np.uint32).view(np.int32)
    for kind in ("pixel_values", "pixel_values_videos"):
        if kind in inputs:
            value = model.rows(inputs[kind].numpy().astype(np.float32))
            out[kind + "_shape"] = np.array(value.shape, np.int32)
            out[kind + "_checksum"] = vec.checksum(value)
            # As bytes: (x * std + mean) * 255 is a whole number. Row 0 and the last.
            mean, std = np.float64(model.mean[0]), np.float64(model.std[0])
            rows = value[[0, -1]] * std + mean
            out[kind + "_rows_u8"] = np.rint(rows * 255).astype(np.uint8)
    for kind in ("image_grid_thw", "video_grid_thw"):
        if kind in inputs:
            out[kind] = inputs[kind].numpy().astype(np.int32)
    for key in sorted(got):
        if key.startswith(("vit_", "dec_", "deepstack_", "vision_embeds", "inputs_embeds")):
            out[key + "_checksum"] = vec.checksum(got[key])
        if key.startswith(("deepstack_", "vision_embeds")):
            out[key + "_rows"] = got[key][[0, -1]]
        if key.startswith("dec_"):
            out[key + "_last_token"] = got[key][-1]
    out["logits"] = logits[-1]
    out["logits_all_checksum"] = vec.checksum(logits)
    out["router_gap"] = np.array([router_gap(got, getattr(
        model.config.text_config, "num_experts_per_tok", 1))])
    out["banned_ids"] = np.array(model.banned(), np.int32)
    (out["greedy_ids"], out["greedy_gap"], out["greedy_top_ids"],
     out["greedy_top_logits"]) = greedy(model, inputs, n_greedy)
    return out


def summary(name, out):
    largest = np.abs(out["logits"]).max()
    return (f"{name}: {out['input_ids'].size} tokens, largest logit {largest:.3f}, smallest gap "
            f"greedy {out['greedy_gap'].min() / largest:.1e} (step {out['greedy_gap'].argmin()}) "
            f"router {out['router_gap'][0]:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("mmproj")
    parser.add_argument("--cases", default="text,image,images,video")
    parser.add_argument("--out", help="beginning of the names of the files to write")
    parser.add_argument("--made-by", default="", help="arguments of make-model, kept in the files")
    args = parser.parse_args()
    model, wanted = gguf_model.load(args.text, args.mmproj), args.cases.split(",")
    for case in cases.all_cases():
        if case.name not in wanted:
            continue
        out = {"made_by": args.made_by, **run(model, case)} if args.made_by else run(model, case)
        print(summary(case.name, out), flush=True)
        if args.out:
            vec.write(f"{args.out}-{case.name}.vec", out)


if __name__ == "__main__":
    main()
