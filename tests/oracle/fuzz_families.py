#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/fuzz_families.py — random models and random conversations, against transformers.
"""fuzz_families.py --vlm build/tools/vlm [--families F,F,...] [--seed N] [--count N] [--first N]

For each family makes --count random models of true architecture, whose sizes (widths of heads, heads
per KV head, layers, experts, DeepStack layers, windows, vocabulary, types of weights...) follow from
--seed, and shows each a few random conversations: texts, stills of awkward shapes, films of odd and
even numbers of frames. transformers computes them in float32 from the dequantised weights, `vlm run`
(`vlm rank` for clip and siglip) from the files; the logits must agree to --tolerance and the 32
greedy tokens must be the same. A line for each conversation; the options of make-model that make a
model again stand above its lines. Model N of a seed is always the same: --first N --count 1.

What transformers refuses (a picture 200 times wider than high) the engine must refuse as well, with
a message. Exit status 0: no disagreement.
"""
import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
from fractions import Fraction

import cases
import compare
import dual
import gguf_model
import reference
import torch

FAMILIES = ("qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen2vl", "qwen2.5vl", "smolvlm", "llava",
            "mllama", "llama", "qwen2", "qwen3", "qwen3moe", "clip", "siglip")
TEXT = ("llama", "qwen2", "qwen3", "qwen3moe")
TYPES = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
         "IQ4_NL", "IQ4_XS", "MXFP4", "Q4_K_M", "Q5_K_M")
SIZES = ((1, 1), (1, 4000), (4000, 1), (400, 800), (37, 53), (640, 480), (201, 149), (64, 64))
WORDS = ("What is it?", "Describe this video in detail.", "A red square\n", "1234 cars:  ", "caf\u00e9",
         "\U0001f408 \u732b", "It's the small one, isn't it?", " and ", "x", "    return 0;\n\n")
SYSTEM = "You are a helpful assistant. Answer in one sentence."
# Distances of the router's logits below which another order of additions may choose another expert.
ROUTER_TIE = 1e-5


# ------------------------------------------------------------------------------ random models
def spread(rng, low, high, unit=1):
    return rng.randint(low // unit, high // unit) * unit


def weights(rng):
    """Types of both files."""
    kind = rng.choice(("F32", "F32", "mixed", "mixed", rng.choice(TYPES)))
    return dict(type=kind, **({"mmproj-type": "mixed"} if kind == "mixed" else {}))


def unit_of(options):
    """What widths are multiples of, for the types to fit: or not, then others take their place."""
    return 4 if options["type"] == "F32" else 256


def decoder(rng, family, o):
    """Heads, layers and widths."""
    unit = rng.choice((4, 32, unit_of(o)))
    full = family.startswith("qwen2") or family == "mllama"     # heads as wide as the decoder
    while True:
        dim = rng.choice((8, 32, 40, 64, 72, 80, 96, 128, 256))
        kv, ratio = rng.randint(1, 4), rng.choice((1, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16))
        width = kv * ratio * dim
        if width <= (1024 if full else 2048) and (not full or width >= 64):
            break
    o.update({"head-dim": dim, "heads": kv * ratio, "kv-heads": kv,
              "embd": width if full else spread(rng, 64, 512, unit) or unit,
              "ff": spread(rng, 32, 768, unit) or unit, "layers": rng.randint(1, 5),
              "vocab": spread(rng, 733, 1500), "rope-theta": rng.choice((100, 1e4, 5e6))})
    if family in ("llama", "smolvlm", "llava"):     # as transformers wants it
        o["embd"] = -(-o["embd"] // o["heads"]) * o["heads"]
    if rng.random() < 0.4 and family != "mllama":
        o["tied"] = True
    if family.endswith("moe"):
        n = rng.choice((1, 2, 3, 5, 8, 16, 60, 128))
        o.update({"experts": n, "used": rng.randint(1, min(n, 12)),
                  "expert-ff": spread(rng, 16, 256, min(unit, 32))})


def recurrent(rng, family, o):
    """What Qwen3.5 has besides."""
    o["layers"] = rng.randint(2, 6)
    o["interval"] = rng.randint(2, min(4, o["layers"]))
    k = rng.choice((1, 2, 3, 4))
    o.update({"rope-dim": rng.choice([r for r in (8, 16, 32, 64) if r <= o["head-dim"]]),
              "delta-k-heads": k, "delta-v-heads": k * rng.choice((1, 2, 3, 4)),
              "delta-dim": rng.choice((16, 32, 64, 80, 128, 256)), "ahead": rng.randint(0, 1)})
    if family == "qwen35moe":
        o["shared-ff"] = spread(rng, 16, 256, 16)
        if rng.random() < 0.5:
            o["fused"] = True


def tower(rng, family, o):
    heads = rng.randint(1, 4)
    dim = rng.choice((16, 36, 40, 64, 72, 80, 88, 96, 128))
    o.update({"vit-layers": rng.randint(1, 5), "vit-heads": heads, "vit-embd": heads * dim,
              "vit-ff": spread(rng, 32, 400, 4)})
    if family in ("qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen2vl", "qwen2.5vl"):
        o["patch"], o["merge"] = rng.choice(((14, 2), (16, 2), (16, 2), (16, 3), (8, 4), (32, 1)))
        o["vit-positions"] = rng.randint(2 + 32 // o["patch"], 24) ** 2
    if family in ("qwen3vl", "qwen3vlmoe"):
        n = rng.randint(0, min(3, o["vit-layers"], o["layers"]))
        taps = sorted(rng.sample(range(o["vit-layers"]), n))
        o["deepstack"] = ",".join(str(i) for i in taps) or "none"
    elif family == "qwen2vl":       # transformers has a ratio in place of a width
        o["vit-ff"] = o["vit-embd"] * rng.randint(1, 4)
    elif family == "qwen2.5vl":
        o["wa-pattern"] = rng.randint(1, o["vit-layers"] + 1)
        o["window"] = o["patch"] * o["merge"] * rng.randint(1, 5)
    elif family == "smolvlm":
        o["merge"] = rng.randint(1, 4)
        side = o["merge"] * rng.randint(1, 4)
        o["patch"] = rng.choice([p for p in (8, 12, 16, 20) if p * side >= 32])
        o["vit-positions"], o["tiles"] = side * side, rng.randint(1, 4)
        o["margin"] = rng.choice((0, 4)) if rng.random() < 0.5 else 0
    elif family == "llava":
        o["patch"] = rng.choice((14, 16))
        o["vit-positions"] = rng.randint(3, 20) ** 2
        o.update({k: True for k in ("gelu", "old-names") if rng.random() < 0.4})
        if o.get("old-names") and o["vit-ff"] == o["vit-embd"]:
            o["vit-ff"] += 4        # which is which can't be seen then
    elif family == "mllama":
        o["vit-layers"], o["layers"] = rng.randint(3, 6), rng.randint(2, 6)
        o["vit-embd"] = heads * rng.choice((16, 40, 64, 80, 128))
        o["patch"], side = rng.choice(((14, 4), (14, 8), (16, rng.randint(3, 8))))  # 8 pixels
        o["vit-positions"] = side * side
        o.update({"cross-every": rng.randint(2, 4), "global-layers": rng.randint(1, 3)})
        if rng.random() < 0.3:
            o["one-file"] = True


def dual_options(rng, family):
    def width(heads):
        return heads * rng.choice((16, 32, 64, 80, 88, 128))
    heads, vit_heads = rng.randint(1, 4), rng.randint(1, 4)
    patch, side = rng.choice((8, 14, 16, 32)), rng.randint(4, 14)
    vit = width(vit_heads)
    o = dict(kind=family, type=rng.choice(("F32", "F32", "mixed", rng.choice(TYPES[:-2]))),
             layers=rng.randint(1, 4), embd=width(heads), heads=heads, ff=spread(rng, 32, 400, 4),
             context=77 if family == "clip" else rng.choice((7, 16, 64)), patch=patch, side=side)
    o.update({"vit-layers": rng.randint(1, 4), "vit-embd": vit, "vit-heads": vit_heads,
              "vit-ff": spread(rng, 32, 400, 4), "image-size": patch * side + rng.randint(0, 3),
              # transformers' SigLIP has one width for both results
              "dim": vit if family == "siglip" else spread(rng, 16, 300, 4)})
    for a, b in (("ff", "embd"), ("vit-ff", "vit-embd")):
        if o[a] == o[b]:            # else it could not be seen which of two matrices is which
            o[a] += 4
    if family == "clip":
        o.update({k: True for k in ("gelu", "modern") if rng.random() < 0.5})
    return o


def options_of(rng, family):
    if family in ("clip", "siglip"):
        o = dual_options(rng, family)
    else:
        o = dict(family=family, **weights(rng))
        decoder(rng, family, o)
        if family.startswith("qwen35"):
            recurrent(rng, family, o)
        if family not in TEXT:
            tower(rng, family, o)
        elif family == "llama" and rng.random() < 0.5:
            o["plain-rope"] = True
        # dimensions that set others come first
        o = {k: o[k] for k in sorted(o, key=lambda k: ("head-dim", "rope-dim").index(k)
                                     if k in ("head-dim", "rope-dim") else 9)}
    o["seed"] = rng.randint(1, 1 << 30)
    words = [[f"--{k}"] if v is True else [f"--{k}", str(v)] for k, v in o.items()]
    return [w for pair in words for w in pair]


# ------------------------------------------------------------------------------ random conversations
def random_size(rng, family, largest):
    size = rng.choice(SIZES) if rng.random() < 0.7 else (rng.randint(1, 300), rng.randint(1, 300))
    if family.startswith("qwen") and 4000 in size and rng.random() < 0.8:
        size = (size[0] // 40 + 40, size[1] // 40 + 3)      # refused by all of these
    return size if size[0] * size[1] <= largest else (rng.randint(20, 200), rng.randint(20, 200))


def random_case(rng, family, number):
    """A conversation; of models of text a question."""
    parts, prompt = [], "".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4)))
    if family in TEXT or number == 0:
        if rng.random() < 0.6:
            parts.append(("system", SYSTEM))
        return cases.Case("text", [*parts, ("prompt", prompt)])
    if rng.random() < 0.3 and family != "mllama":   # whose template takes none beside pictures
        parts.append(("system", SYSTEM))
    rate, room, index = rng.choice((0.5, 1, 2, 2, 4)), 3, 0
    film_first = number == 2
    if family != "llava" and rng.random() < 0.3:
        parts += [("text", rng.choice(WORDS)), ("answer", rng.choice(WORDS).strip())]
    for _ in range(rng.randint(1, 3)):
        if film_first or rng.random() < 0.25:
            film_first, n = False, rng.choice((1, 2, 3, 4, 5, 7))
            if family.startswith("qwen"):   # whose processors want two frames at least
                n = max(n, 2)
            size = random_size(rng, family, 60000)
            if parts and parts[-1][0] == "frame":
                parts.append(("text", rng.choice(WORDS)))
            if parts and parts[-1][0] == "text" and family.startswith("qwen3"):
                # The text goes on with the film's first time, and is tokenised without it.
                parts.append(("text", "\n"))
            parts += [("frame", *size, index + i, int(i * cases.SECOND / rate)) for i in range(n)]
            index += n
        elif room > 0:
            size = random_size(rng, family, 320001 if room == 3 else 40000)
            room -= 1 if size[0] * size[1] < 40000 else 3
            parts.append(("image", *size, index))
            index += 1
        if rng.random() < 0.6:
            parts.append(("text", rng.choice(WORDS)))
    case = cases.Case(f"case {number}", [*parts, ("prompt", prompt)])
    case.rate = rate
    return case


# ------------------------------------------------------------------------------ both sides
def write_conversation(case, folder):
    """The case as a file for `vlm run --messages`."""
    from PIL import Image
    messages, content = [], []
    parts, at = case.parts, 0
    while at < len(parts):
        part = parts[at]
        at += 1
        if part[0] == "system":
            messages.append(dict(role="system", content=part[1]))
        elif part[0] in ("text", "prompt"):
            content.append(dict(type="text", text=part[1]))
        elif part[0] == "answer":
            messages += [dict(role="user", content=content), dict(role="assistant", content=part[1])]
            content = []
        elif part[0] == "image":
            path = os.path.join(folder, f"image-{part[3]}.png")
            Image.fromarray(cases.picture(*part[1:4])).save(path)
            content.append(dict(type="image", image=path))
        else:
            film = [part]
            while at < len(parts) and parts[at][0] == "frame":
                film.append(parts[at])
                at += 1
            path = os.path.join(folder, f"film-{part[3]}.mkv")
            compare.write_film(path, [cases.picture(*f[1:4]) for f in film], Fraction(case.rate))
            content.append(dict(type="video", video=path))
    messages.append(dict(role="user", content=content))
    path = os.path.join(folder, "messages.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(messages, file)
    return path


def run_engine(args, model, pair, case):
    """Standard output, or the message of a failure; and the status."""
    with tempfile.TemporaryDirectory() as folder:
        command = [args.vlm, "run", "--model", pair[0], "--messages", write_conversation(case, folder),
                   "--fps", str(getattr(case, "rate", 2)), "--temp", "0", "--ignore-stop",
                   "--max-tokens", str(args.tokens), "--top-logits", str(compare.N_TOP), "--json",
                   "--kv-type", "f32", "--whole-films", *shlex.split(args.options)]
        if os.path.exists(pair[1]):
            command += ["--mmproj", pair[1]]
        for token in model.banned():
            command += ["--ban-token", str(token)]
        done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


def remember_pictures(model):
    """Each greedy token is a full evaluation: the tower's part of it is the same every time."""
    inner = getattr(model.hf, "model", None)
    for name in ("get_image_features", "get_video_features"):
        real = getattr(inner, name, None)
        if real is None:
            continue
        kept = {}

        def once(*values, _real=real, _kept=kept, **named):
            key = tuple(id(v) for v in (*values, *named.values()) if isinstance(v, torch.Tensor))
            if key not in _kept:
                _kept[key] = (_real(*values, **named), values, named)   # held, so that ids stay
            return _kept[key][0]
        setattr(inner, name, once)


def verdict(args, name, model, pair, case):
    """Runs a case on both sides, prints a line; TRUE when they agree."""
    try:
        want, refused = reference.run(model, case, args.tokens), None
    except ValueError as error:
        refused = str(error).split("\n")[0]
    status, text = run_engine(args, model, pair, case)
    message = text.strip().split("\n")[-1][:160] if status else ""
    unclear = status < 0 or status > 1 or "must hold" in message or not message
    if refused is not None:
        good = status == 1 and not unclear
        print(f"{'ok  ' if good else 'FAIL'} {name}: transformers: {refused[:80]}; "
              f"vlm: {message or 'answers'}", flush=True)
        return good
    if status:
        print(f"FAIL {name}: {want['input_ids'].size} tokens, vlm ended with status {status}: "
              f"{message}", flush=True)
        return False
    got = json.loads(text)
    if got["n_context"] != want["input_ids"].size:
        print(f"FAIL {name}: {got['n_context']} tokens of context, transformers has "
              f"{want['input_ids'].size}", flush=True)
        return False
    good = compare.compare(name, model, want, got, args.tolerance)
    if not good and want["router_gap"][0] < ROUTER_TIE:
        print(f"ok   {name}: a tie between experts ({want['router_gap'][0]:.1e})")
        return True
    return good


def check_dual(args, program, options, folder, rng):
    path = os.path.join(folder, "dual.gguf")
    subprocess.run([program, *options, path], check=True)
    model = dual.Dual(path)
    labels = dual.LABELS + [" ".join(rng.choice(WORDS).strip() for _ in range(rng.randint(1, 3)))
                            for _ in range(3)]
    args.model = [path]
    return dual.compare(model, args, list(dict.fromkeys(label.strip() for label in labels))) \
        <= args.tolerance


def check_model(args, program, family, options, folder, rng, name):
    pair = [os.path.join(folder, f"{p}.gguf") for p in ("text", "mmproj")]
    subprocess.run([program, *options, *pair], check=True)
    wanted = [random_case(rng, family, i) for i in range(1 if family in TEXT else 3)]
    model = gguf_model.load(*pair)
    remember_pictures(model)
    # Not a generator: a disagreement must not keep the others from being seen.
    return all([verdict(args, f"{name} {case.name}", model, pair, case) for case in wanted])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vlm", required=True)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3, help="models of each family")
    parser.add_argument("--first", type=int, default=0, help="number of the first model")
    parser.add_argument("--tokens", type=int, default=reference.N_GREEDY)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--options", default="", help="more options for vlm run")
    parser.add_argument("--show", action="store_true", help="only print models and conversations")
    args = parser.parse_args()
    torch.set_num_threads(1)
    programs = os.path.join(os.path.dirname(args.vlm), "../tests")
    bad = []
    for number in range(args.first, args.first + args.count):
        for family in args.families.split(","):
            rng = random.Random(f"{args.seed} {family} {number}")
            options, name = options_of(rng, family), f"{family} {number}"
            is_dual = family in ("clip", "siglip")
            program = os.path.join(programs, "make-dual" if is_dual else "make-model")
            print(f"# {name}: {os.path.basename(program)} {shlex.join(options)}", flush=True)
            if args.show:
                for i in range(0 if is_dual else 3):
                    print(random_case(rng, family, i).input())
                continue
            with tempfile.TemporaryDirectory() as folder:
                good = check_dual(args, program, options, folder, rng) if is_dual \
                    else check_model(args, program, family, options, folder, rng, name)
            if not good:
                bad.append(name)
                print(f"FAIL {name}", flush=True)
    print(f"{len(bad)} models disagree: {', '.join(bad)}" if bad else "no disagreement")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
