#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/make_vectors.py — records the references kept in tests/vectors.
"""make_vectors.py --make-model PROGRAM --out DIR [--only TEXT] [--find-seeds]

Makes every random model of the table below with make-model, runs the cases in transformers and
writes DIR/model-FAMILY-NAME-CASE.vec. --only: models whose FAMILY-NAME contains TEXT.

--find-seeds tries seeds from 1 and prints, for each model, the first with which the reference is
far from every tie: greedy tokens and chosen experts then do not depend on the order of additions.
"""
import argparse
import os
import shlex
import subprocess
import tempfile

import cases
import gguf_model
import numpy as np
import reference
import vec

# The real widths of heads (128, vision 72), and a base so low that every rotary pair turns.
HEADS = ("--layers 2 --embd 256 --heads 2 --kv-heads 1 --head-dim 128 --ff 512 --experts 16 --used 4 "
         "--expert-ff 256 --vit-layers 3 --vit-embd 144 --vit-heads 2 --vit-ff 304 "
         "--vit-positions 2304 --rope-theta 100")
# Rows of 256, so that every quantised type fits.
ROWS = ("--layers 3 --embd 256 --heads 4 --kv-heads 2 --head-dim 64 --ff 512 --experts 8 --used 2 "
        "--expert-ff 256 --vit-layers 3 --vit-embd 128 --vit-heads 2 --vit-ff 256 "
        "--vit-positions 256")
# Qwen3.5: the real widths of heads (256, of which 64 rotate; recurrent 128), 256 experts of which 8
# are used; rows of 256 with the rarer ways of writing a file.
HEADS_35 = ("--layers 2 --interval 2 --embd 256 --heads 4 --kv-heads 1 --head-dim 256 --rope-dim 64 "
            "--delta-k-heads 2 --delta-v-heads 6 --delta-dim 128 --ff 512 --experts 256 --used 8 "
            "--expert-ff 32 --shared-ff 64 --vit-layers 3 --vit-embd 144 --vit-heads 2 --vit-ff 304 "
            "--vit-positions 2304 --rope-theta 100")
ROWS_35 = f"{ROWS} --interval 3 --delta-k-heads 2 --delta-v-heads 4 --delta-dim 64 --shared-ff 256"
ALL, TWO = "text,image,images,video", "image,video"
# The same of Qwen2-VL, vision 80; enough pictures and films that windows of every size occur.
HEADS2 = ("--layers 2 --embd 256 --heads 2 --kv-heads 1 --head-dim 128 --ff 512 --vit-layers 3 "
          "--vit-embd 160 --vit-heads 2 --vit-ff 320 --rope-theta 100")
# LLaVA: the real widths of heads, 128 and 64, and a tower of the published grid: 577 rows.
CLIP = ("--layers 2 --embd 256 --heads 2 --kv-heads 2 --head-dim 128 --ff 512 --vit-layers 3 "
        "--vit-embd 128 --vit-heads 2 --vit-ff 256 --vit-positions 576 --rope-theta 100")

FAMILIES = ("qwen3vl", "qwen3vlmoe", "smolvlm", "qwen35", "qwen35moe")
# name, options of make-model, cases, seeds of the families in their order; None: there is no such
# recording
MODELS = [
    ("F32", "--type F32 --size tiny", ALL, 2, 4, 1, 3, 1),
    ("F32", "--type F32 --size tiny", "chat,films", 1, 4, 1, 1, 1),
    ("F32-heads", f"--type F32 {HEADS}", ALL, 1, 3),
    ("F16", f"--type F16 {ROWS}", TWO, 1, 11),
    ("BF16", f"--type BF16 {ROWS}", TWO, 4, 11),
    ("Q8_0", f"--type Q8_0 --tied {ROWS}", TWO, 3, 1, 1),
    ("Q4_0", f"--type Q4_0 {ROWS}", TWO, 5, 3),
    ("Q4_K", f"--type Q4_K {ROWS}", TWO, 3, 7),
    ("Q5_K", f"--type Q5_K {ROWS}", TWO, 5, 2),
    ("Q6_K", f"--type Q6_K {ROWS}", TWO, 1, 4),
    ("Q4_K_M", f"--type Q4_K_M {ROWS}", TWO, 12, 1),
    # The sparse family has every kernel of a type: plain and grouped products, rows.
    ("Q4_1", f"--type Q4_1 {ROWS}", TWO, None, 5),
    ("Q5_0", f"--type Q5_0 {ROWS}", TWO, None, 1),
    ("Q5_1", f"--type Q5_1 {ROWS}", TWO, None, 4),
    ("Q2_K", f"--type Q2_K {ROWS}", TWO, None, 1),
    ("Q3_K", f"--type Q3_K {ROWS}", TWO, None, 2),
    ("IQ4_NL", f"--type IQ4_NL {ROWS}", TWO, None, 1),
    ("IQ4_XS", f"--type IQ4_XS {ROWS}", TWO, None, 1),
    ("F32-heads", f"--type F32 {HEADS_35}", TWO, None, None, None, 1, 4),
    ("Q8_0", f"--type Q8_0 --tied --fused --ahead 1 {ROWS_35}", TWO, None, None, None, 5, 4),
    ("MXFP4", f"--type MXFP4 --mmproj-type MXFP4 {ROWS}", TWO, None, 3),
    # Another type for each tensor, an odd number of tokens.
    ("mixed", f"--type mixed --mmproj-type mixed --tied {ROWS} --vocab 999", "video", None, 1),
    ("mixed", f"--type mixed --mmproj-type mixed {ROWS_35} --vocab 999", "image", None, None, None,
     None, 5),
]
# Qwen2-VL and Qwen2.5-VL: the same, with a seed for each of the two.
QWEN2 = [
    ("F32", "--type F32 --size tiny", ALL + ",mixed", 1, 1),
    ("F32", "--type F32 --size tiny", "slow", None, 1),
    ("F32", "--type F32 --size tiny", "chat", 1, 1),
    ("F32-heads", f"--type F32 {HEADS2}", TWO, 1, 1),
    ("Q8_0", f"--type Q8_0 --tied {ROWS}", TWO, 2, 3),
]
# Models of LLaVA-1.5: the same, with a seed each.
LLAVA = [
    ("F32", "--type F32 --size tiny --old-names", ALL + ",odd", 1),
    ("F32-heads", f"--type F32 {CLIP}", "image", 1),
    ("Q8_0", f"--type Q8_0 {ROWS}", TWO, 1),
]
# Models of Llama 3.2 Vision: the same, with a seed each.
MLLAMA = [
    ("F32", "--type F32 --size tiny --layers 5", ALL + ",odd", 2),
    ("F32", "--type F32 --size tiny --layers 5", "history", 1),
    ("F32-one", "--type F32 --size tiny --layers 3 --one-file", "image", 1),
    # the real widths of heads: 128, vision 80
    ("Q8_0", "--type Q8_0 --layers 3 --embd 256 --heads 2 --kv-heads 1 --head-dim 128 --ff 512 "
     "--vit-layers 3 --vit-embd 160 --vit-heads 2 --vit-ff 320 --vit-positions 64", TWO, 8),
]
# Text models by themselves: the same, with a seed for each.
TEXT = [("F32", "--type F32 --size tiny", "text", 1, 1, 2, 1)]
# Smallest distances wanted from a tie: of greedy logits, as a part of the largest logit (twice the
# tolerance: 1e-4 for F32, 1e-3 else), and of the router's logits (about 1 each).
GREEDY_GAP = {True: 3e-4, False: 2e-3}
ROUTER_GAP = {True: 1e-4, False: 2e-4}


def make(make_model, folder, options):
    pair = [os.path.join(folder, f"{part}.gguf") for part in ("text", "mmproj")]
    subprocess.run([make_model, *shlex.split(options), *pair], check=True)
    return gguf_model.load(*pair)


def far_from_ties(model, wanted, exact):
    for case in cases.all_cases():
        if case.name not in wanted:
            continue
        out = reference.run(model, case)
        gap = out["greedy_gap"].min() / np.abs(out["logits"]).max()
        if gap < GREEDY_GAP[exact] or out["router_gap"][0] < ROUTER_GAP[exact]:
            return False
    return True


def find_seed(make_model, folder, options, wanted, exact):
    for seed in range(1, 1000):
        if far_from_ties(make(make_model, folder, f"{options} --seed {seed}"), wanted, exact):
            return seed
    raise SystemExit("no seed found")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make-model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--find-seeds", action="store_true")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    rows = [(FAMILIES, row) for row in MODELS]
    rows += [(("qwen2vl", "qwen2.5vl"), row) for row in QWEN2]
    rows += [(("llava",), row) for row in LLAVA]
    rows += [(("mllama",), row) for row in MLLAMA]
    rows += [(("llama", "qwen2", "qwen3", "qwen3moe"), row) for row in TEXT]
    for families, (name, options, wanted, *seeds) in rows:
        for family, seed in zip(families, seeds):
            if seed is None or args.only not in f"{family}-{name}":
                continue
            options_of = f"--family {family} {options}"
            wanted_names = wanted.split(",")
            with tempfile.TemporaryDirectory() as folder:
                if args.find_seeds:
                    found = find_seed(args.make_model, folder, options_of, wanted_names,
                                      name.startswith("F32"))
                    print(f"{family}-{name}: seed {found}", flush=True)
                    continue
                made_by = f"{options_of} --seed {seed}"
                model = make(args.make_model, folder, made_by)
                for case in cases.all_cases():
                    if case.name in wanted_names:
                        out = {"made_by": made_by, **reference.run(model, case)}
                        print(f"{family}-{name} " + reference.summary(case.name, out), flush=True)
                        vec.write(os.path.join(args.out, f"model-{family}-{name}-{case.name}.vec"),
                                  out)


if __name__ == "__main__":
    main()
