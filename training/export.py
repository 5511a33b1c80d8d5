# SPDX-License-Identifier: LGPL-2.1-or-later
# training/export.py — a training checkpoint to the GGUF pair, through llama.cpp's own converter
"""Writes OUT/hf (a Hugging Face directory), then OUT/shapes.gguf and OUT/mmproj-shapes.gguf with
Q8_0 matrices.  The converter is llama.cpp's convert_hf_to_gguf.py, unmodified and run as a program
of its own (Debian: package llama.cpp-tools); --converter or CONVERT_HF_TO_GGUF says where it is."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np

import shards

CHAT = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
HERE = os.path.dirname(os.path.abspath(__file__))
PLACES = [
    "/usr/bin/convert_hf_to_gguf.py",
    "/usr/bin/convert_hf_to_gguf",
    "/usr/share/doc/llama.cpp-tools/scripts/convert_hf_to_gguf.py",
]


def find_converter(given):
    for p in [given, os.environ.get("CONVERT_HF_TO_GGUF"), *PLACES]:
        if p and os.path.exists(p):
            return p
    raise SystemExit(
        "convert_hf_to_gguf.py not found: install llama.cpp-tools, or set "
        "CONVERT_HF_TO_GGUF to the copy in a llama.cpp source tree"
    )


def load(checkpoint):
    """(model, tokenizer) of a training run's directory."""
    import torch
    from transformers import PreTrainedTokenizerFast

    import model as M

    tok = PreTrainedTokenizerFast.from_pretrained(os.path.join(checkpoint, "tokenizer"))
    m = M.make_model(M.make_config(tok))
    s = torch.load(
        os.path.join(checkpoint, "checkpoint.pt"), map_location="cpu", weights_only=False
    )
    m.load_state_dict(s["model"])
    return m.eval(), tok, s


def round_q8(m):
    """Rounds the weights of `m` as the GGUF files hold them, in place."""
    import gguf
    import torch

    q8 = gguf.GGMLQuantizationType.Q8_0
    with torch.no_grad():
        for name, p in m.named_parameters():
            if "patch_embed.proj.weight" in name:
                p.copy_(p.half().float())
            elif p.dim() >= 2 and "pos_embed" not in name and "mlp.gate.weight" not in name:
                a = gguf.quants.dequantize(gguf.quants.quantize(p.numpy(), q8), q8)
                p.copy_(torch.from_numpy(a))


def write_hf(m, tok, out):
    tok.chat_template = CHAT
    from safetensors.torch import load_file, save_file

    m.save_pretrained(out)
    tok.save_pretrained(out)
    # Published Qwen3-VL-MoE checkpoints hold experts as [E, in, out] and the converter expects
    # that; the module holds [E, out, in], and save_pretrained() may or may not swap them.
    path, live, n = os.path.join(out, "model.safetensors"), dict(m.named_parameters()), 0
    sd = load_file(path)
    for k in list(sd):
        if k.endswith(("experts.gate_up_proj", "experts.down_proj")):
            p = live[k].detach()
            if sd[k].shape == p.shape and bool((sd[k] == p).all()):
                sd[k], n = sd[k].transpose(1, 2).contiguous(), n + 1
            elif not bool((sd[k].transpose(1, 2) == p).all()):
                raise SystemExit(f"{k}: unknown expert layout")
    if n:
        save_file(sd, path, metadata={"format": "pt"})
    json.dump(
        dict(
            image_processor_type="Qwen2VLImageProcessorFast",
            patch_size=16,
            temporal_patch_size=2,
            merge_size=2,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            size=dict(shortest_edge=shards.MIN_PIXELS, longest_edge=shards.MAX_PIXELS),
        ),
        open(os.path.join(out, "preprocessor_config.json"), "w"),
        indent=1,
    )


def convert(converter, hf, out, *extra):
    r = subprocess.run(
        [
            sys.executable,
            os.path.join(HERE, "run_converter.py"),
            "qwen2",
            converter,
            hf,
            "--outtype",
            "f32",
            "--outfile",
            out,
            *extra,
        ],
        capture_output=True,
        text=True,
    )
    if r.returncode:
        raise SystemExit(f"the converter failed:\n{r.stdout[-3000:]}{r.stderr[-3000:]}")


def finish(src, dst, extra, title):
    """Copies a GGUF with matrices as Q8_0, some metadata added."""
    import gguf

    r = gguf.GGUFReader(src)
    get = lambda k: r.fields[k].contents() if k in r.fields else None
    w = gguf.GGUFWriter(dst, get("general.architecture"))
    drop = {
        "general.architecture",
        "general.file_type",
        "general.name",
        "general.quantization_version",
        "general.basename",
        "general.finetune",
        "general.size_label",
        "general.license",
    } | set(extra)
    for k, f in r.fields.items():
        if k.startswith("GGUF.") or k in drop:
            continue
        t = f.types[0]
        w.add_key_value(k, f.contents(), t, f.types[1] if t == gguf.GGUFValueType.ARRAY else None)
    w.add_name(title)
    w.add_license("LGPL-2.1-or-later")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for k, v in extra.items():
        w.add_uint32(k, v)
    for t in r.tensors:
        a = np.array(t.data)
        if (
            a.ndim >= 2
            and a.shape[-1] % 32 == 0
            and "position_embd" not in t.name
            and "ffn_gate_inp" not in t.name
        ):
            q = gguf.quants.quantize(a.astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
            w.add_tensor(t.name, q, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        elif t.name.startswith("v.patch_embd.weight"):
            w.add_tensor(t.name, a.astype(np.float16))
        else:
            w.add_tensor(t.name, a.astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("checkpoint", help="directory of the training run")
    ap.add_argument("out")
    ap.add_argument("--converter")
    a = ap.parse_args()
    converter = find_converter(a.converter)
    m, tok, s = load(a.checkpoint)
    hf = os.path.join(a.out, "hf")
    os.makedirs(hf, exist_ok=True)
    write_hf(m, tok, hf)
    f32 = [os.path.join(a.out, n) for n in ("text-f32.gguf", "mmproj-f32.gguf")]
    convert(converter, hf, f32[0])
    convert(converter, hf, f32[1], "--mmproj")
    finish(f32[0], os.path.join(a.out, "shapes.gguf"), {}, "gst-vlm shapes")
    finish(
        f32[1],
        os.path.join(a.out, "mmproj-shapes.gguf"),
        {
            "clip.vision.image_min_pixels": shards.MIN_PIXELS,
            "clip.vision.image_max_pixels": shards.MAX_PIXELS,
        },
        "gst-vlm shapes vision",
    )
    for n in ("shapes.gguf", "mmproj-shapes.gguf"):
        p = os.path.join(a.out, n)
        print(f"{p}: {os.path.getsize(p)} bytes, step {s['step']}, {s['spent'] / 60:.1f} minutes")


if __name__ == "__main__":
    main()
