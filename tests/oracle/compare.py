#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/compare.py — the engine against transformers, on any model.
"""compare.py --vlm build/tools/vlm [--family F] [--seed N] [--size S] [--type T] [--make OPTIONS]
compare.py --vlm build/tools/vlm --pair TEXT.gguf MMPROJ.gguf

Makes a random model with make-model (which stands in ../tests beside the vlm program, or
--make-model), or takes a pair that is there; runs the cases in transformers (float32, on the
dequantised weights) and in `vlm run`; prints, for each case, the relative error of the logits of
the first answer token (max |engine - reference| / max |reference|), their divergence and the
first greedy token that differs. Exit status 0: all within --tolerance, and no token differs except
where the reference's best two logits are closer than twice the tolerance.

--cases is a part of: text,image,images,video. --seed and --type may be lists: 1,2,3.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from fractions import Fraction

import cases
import gguf_model
import numpy as np
import reference
import vec

# Largest relative error of the logits by type (docs/numerics.md).
TOLERANCE = {"F32": 1e-4}
TOLERANCE_ELSE = 1e-3
N_TOP = 1000  # as many as the engine gives


def write_film(path, frames, rate):
    """Raw RGB in Matroska: what is read back is what was written."""
    height, width = frames[0].shape[:2]
    with tempfile.NamedTemporaryFile(suffix=".rgb") as raw:
        stride = (width * 3 + 3) // 4 * 4       # rows of raw pictures are padded to 4 bytes
        for frame in frames:
            rows = np.zeros((height, stride), np.uint8)
            rows[:, :width * 3] = frame.reshape(height, -1)
            raw.write(rows.tobytes())
        raw.flush()
        subprocess.run(["gst-launch-1.0", "-q", "filesrc", f"location={raw.name}", "!",
                        "rawvideoparse", "format=rgb", f"width={width}", f"height={height}",
                        f"framerate={rate.numerator}/{rate.denominator}", "!", "matroskamux", "!", "filesink",
                        f"location={path}"], check=True)


def arguments(case, folder):
    """The options of `vlm run` for a case; pictures are written to `folder`."""
    from PIL import Image
    options, prompt, frames = [], "", []
    for part in case.parts:
        if part[0] == "system":
            options += ["--system", part[1]]
        elif part[0] == "image":
            path = os.path.join(folder, f"image-{part[3]}.png")
            Image.fromarray(cases.picture(*part[1:4])).save(path)
            options += ["--image", path]
            prompt += "<image>"
        elif part[0] == "frame":
            frames.append(part)
        else:
            prompt += part[1]
    if frames:
        rate = Fraction(cases.SECOND, frames[1][4] - frames[0][4])
        path = os.path.join(folder, "film.mkv")
        write_film(path, [cases.picture(*f[1:4]) for f in frames], rate)
        options += ["--video", path, "--fps", str(float(rate))]
    return [*options, "--prompt", prompt]


def run_engine(args, model, pair, case):
    with tempfile.TemporaryDirectory() as folder:
        command = [args.vlm, "run", "--model", pair[0], "--mmproj", pair[1],
                   *arguments(case, folder), "--temp", "0", "--ignore-stop", "--max-tokens",
                   str(reference.N_GREEDY), "--top-logits", str(N_TOP), "--json",
                   "--kv-type", "f32", *shlex.split(args.options)]
        for token in model.banned():
            command += ["--ban-token", str(token)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\nfailed ({done.returncode}): {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def logits_of(step, like):
    """Logits of one step by token; NaN for those that the engine did not give."""
    out = np.full(like.shape, np.nan)
    for entry in step:
        out[entry["token"]] = entry["logit"]
    return out


def compare(name, model, want, got, tolerance):
    """Prints one line; True when all is well."""
    banned = model.banned()
    first = logits_of(got["top"][0], want["logits"])
    given = np.isfinite(first)
    given[banned] = False
    error = float(np.abs(first - want["logits"])[given].max() / np.abs(want["logits"]).max())
    kl = vec.kl(first[given], want["logits"][given])

    largest, worst = np.abs(want["logits"]).max(), 0.0
    tokens, reference_tokens = got["tokens"], want["greedy_ids"].tolist()
    differs = next((i for i, (a, b) in enumerate(zip(tokens, reference_tokens)) if a != b), None)
    if differs is None and len(tokens) != len(reference_tokens):
        differs = min(len(tokens), len(reference_tokens))
    for i in range(len(reference_tokens) if differs is None else min(differs + 1, len(got["top"]))):
        step = logits_of(got["top"][i], want["logits"])[want["greedy_top_ids"][i]]
        worst = max(worst, float(np.abs(step - want["greedy_top_logits"][i]).max() / largest))
    good, note = error <= tolerance and worst <= tolerance, "tokens equal"
    if differs is not None:
        gap = want["greedy_gap"][differs] / largest if differs < len(reference_tokens) else 1.0
        tie = gap <= 2 * tolerance
        note = f"token {differs} differs, its gap is {gap:.1e}" + (" (a tie)" if tie else "")
        good = good and tie
    print(f"{'ok  ' if good else 'FAIL'} {name}: {want['input_ids'].size} tokens, error {error:.1e}, "
          f"best of all steps {worst:.1e}, KL {kl:.1e}, {note}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vlm", required=True)
    parser.add_argument("--pair", nargs=2, metavar=("TEXT", "MMPROJ"))
    parser.add_argument("--family", default="qwen3vl,qwen3vlmoe")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--type", default="F32")
    parser.add_argument("--make", default="", help="more options for make-model")
    parser.add_argument("--make-model", default="")
    parser.add_argument("--cases", default="text,image,images,video")
    parser.add_argument("--tolerance", type=float, help="default: by type, 1e-4 or 1e-3")
    parser.add_argument("--options", default="", help="more options for vlm run, e.g. '--device 0'")
    args = parser.parse_args()
    make_model = args.make_model or os.path.join(os.path.dirname(args.vlm), "../tests/make-model")
    wanted, good = args.cases.split(","), True

    def run_pair(name, pair, tolerance):
        model, good = gguf_model.load(*pair), True
        for case in cases.standard():
            if case.name in wanted:
                want = reference.run(model, case)
                got = run_engine(args, model, pair, case)
                good &= compare(f"{name} {case.name}", model, want, got, tolerance)
        return good

    if args.pair:
        good = run_pair(os.path.basename(args.pair[0]), args.pair, args.tolerance or TOLERANCE_ELSE)
    for family in [] if args.pair else args.family.split(","):
        for dtype in args.type.split(","):
            for seed in args.seed.split(","):
                with tempfile.TemporaryDirectory() as folder:
                    pair = [os.path.join(folder, f"{p}.gguf") for p in ("text", "mmproj")]
                    subprocess.run([make_model, "--family", family, "--size", args.size, "--seed",
                                    seed, "--type", dtype, *shlex.split(args.make), *pair],
                                   check=True)
                    tolerance = args.tolerance or TOLERANCE.get(dtype.upper(), TOLERANCE_ELSE)
                    good &= run_pair(f"{family} {dtype} seed {seed}", pair, tolerance)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
