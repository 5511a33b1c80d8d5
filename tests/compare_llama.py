#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/compare_llama.py — a second opinion: the same pair in llama.cpp's own programs.
"""compare_llama.py --vlm build/tools/vlm [--family F] [--type T] [--seed N] [--size S]
compare_llama.py --vlm build/tools/vlm --pair TEXT.gguf MMPROJ.gguf

Makes a random model with make-model (or takes --pair) and asks `vlm run` and llama.cpp for a
greedy answer to a text and to a text with a picture that needs no resize (llama.cpp resizes in its
own way). Two of llama.cpp's programs are used, those that are found (Debian: packages
llama.cpp-tools and llama.cpp-tools-extra; --prefix "chroot DIR" runs them elsewhere):

  llama-mtmd-cli  the beginning of its answer must be the engine's
  llama-server    the logarithms of the first token's probabilities must agree: printed is the
                  largest difference as a part of the largest logit

Quantised weights: llama.cpp rounds activations to 8 bits, so the differences are only printed; with
llama-quantize (--quantize) a copy of the text file is widened to F32 first, which shows that both
read the same numbers from the blocks, and then the differences decide.

Without --vlm, transformers takes the place of the engine (tests/oracle/README.md).
Exit status 0: all agree; 77: llama.cpp was not found. Where they disagree transformers decides;
docs/numerics.md names the places where llama.cpp is known to differ.
"""
import argparse
import base64
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib

# llama.cpp's vision tower has another GELU in its mergers. Its CPU kernels round activations to 8
# bits for quantised weights: there a difference is printed, but decides nothing.
TOLERANCE = {"F32": 5e-3, "F16": 5e-3, "BF16": 1e-2}
N_TOKENS = 16
QUESTION = "What is in the picture?"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
SIDE = 256          # pixels: a multiple of 32, and not below the smallest picture


def write_png(path):
    """A picture of gradients and blocks, SIDE x SIDE."""
    rows = bytearray()
    for y in range(SIDE):
        rows.append(0)
        for x in range(SIDE):
            block = 255 if (x // 24 + y // 40) % 3 == 0 else 0
            rows += bytes((x, block, (x * y // 64) % 256))

    def chunk(kind, data):
        return (len(data).to_bytes(4, "big") + kind + data
                + zlib.crc32(kind + data).to_bytes(4, "big"))
    head = SIDE.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
                   + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b""))


def plain(text):
    """What both print: without special tokens and bytes that are no character."""
    return re.sub(r"<\|[a-z_]*\|>", "", text).replace("\ufffd", "").strip()


def log_softmax(logits):
    top = max(logits.values())
    total = math.log(sum(math.exp(x - top) for x in logits.values()))
    return {token: x - top - total for token, x in logits.items()}


class Engine:
    """Text and logits of the first token from `vlm run`."""

    def __init__(self, vlm, pair):
        self.command = [vlm, "run", "--model", pair[0], "--mmproj", pair[1], "--temp", "0",
                        "--ignore-stop", "--max-tokens", str(N_TOKENS), "--top-logits", "1000",
                        "--json", "--kv-type", "f32"]

    def answer(self, image):
        options = ["--image", image] if image else []
        prompt = "<image>" + QUESTION if image else QUESTION
        done = subprocess.run([*self.command, *options, "--prompt", prompt], check=True,
                              capture_output=True)
        out = json.loads(done.stdout)
        return out["text"], {x["token"]: x["logit"] for x in out["top"][0]}


class Transformers:
    """The same from tests/oracle."""

    def __init__(self, pair):
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "oracle"))
        import cases
        import reference
        from gguf_model import Model
        self.cases, self.reference, self.model = cases, reference, Model(*pair)

    def answer(self, image):
        from PIL import Image
        import numpy as np
        parts = [("prompt", QUESTION)]
        if image:
            rgb = np.asarray(Image.open(image).convert("RGB"))
            self.cases.picture = lambda *_: rgb
            parts.insert(0, ("image", SIDE, SIDE, 0))
        out = self.reference.run(self.model, self.cases.Case("", parts), N_TOKENS)
        text = self.model.tokenizer.decode(out["greedy_ids"].tolist(), skip_special_tokens=False)
        return text, dict(enumerate(out["logits"].tolist()))


def mtmd_answer(args, pair, image):
    command = [*shlex.split(args.prefix), args.mtmd_cli, "-m", pair[0], "--mmproj", pair[1],
               "--image", image, "-p", QUESTION, "-n", str(4 * N_TOKENS), "--temp", "0",
               "--ignore-eos", "--chat-template", "chatml", "-ngl", "0", "--no-mmproj-offload",
               "-fa", "off", "-ctk", "f32", "-ctv", "f32"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\nfailed: {done.stderr.decode()[-2000:]}")
    return done.stdout.decode(errors="replace")


class Server:
    """A running llama-server."""

    def __init__(self, args, pair):
        self.url = f"http://127.0.0.1:{args.port}"
        self.process = subprocess.Popen(
            [*shlex.split(args.prefix), args.server, "-m", pair[0], "--mmproj", pair[1], "-ngl",
             "0", "--no-mmproj-offload", "-fa", "off", "-ctk", "f32", "-ctv", "f32", "-c", "4096",
             "--host", "127.0.0.1", "--port", str(args.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if json.load(self.get("/health"))["status"] == "ok":
                    self.marker = json.load(self.get("/props")).get("media_marker", "<__media__>")
                    return
            except OSError:
                if self.process.poll() is not None:
                    break
            time.sleep(0.1)
        self.close()
        raise SystemExit(f"{args.server} did not start")

    def get(self, path, data=None):
        request = urllib.request.Request(self.url + path, data and json.dumps(data).encode(),
                                         {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=300)

    def close(self):
        self.process.terminate()
        self.process.wait()

    def logprobs(self, image, n):
        prompt = CHAT.format(QUESTION)
        if image:
            with open(image, "rb") as file:
                data = base64.b64encode(file.read()).decode()
            prompt = {"prompt_string": CHAT.format(self.marker + QUESTION),
                      "multimodal_data": [data]}
        out = json.load(self.get("/completion", dict(
            prompt=prompt, n_predict=8, n_probs=n, temperature=0, cache_prompt=False,
            ignore_eos=True, return_tokens=True, post_sampling_probs=False)))
        # Tokens that are half a character have no entry: is the first one the first token's?
        if out["completion_probabilities"][0]["id"] != out["tokens"][0]:
            return None
        return {x["id"]: x["logprob"] for x in out["completion_probabilities"][0]["top_logprobs"]}


def widened(args, pair, folder):
    """The pair with its text weights as F32."""
    path = os.path.join(folder, "wide.gguf")
    subprocess.run([*shlex.split(args.prefix), args.quantize, "--allow-requantize", pair[0], path,
                    "F32"], check=True, capture_output=True)
    return [path, pair[1]]


def compare(args, name, pair, dtype):
    tolerance = TOLERANCE.get(dtype.upper(), math.inf)
    side, good = Engine(args.vlm, pair) if args.vlm else Transformers(pair), True
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "picture.png")
        write_png(image)
        if tolerance == math.inf and args.quantize:
            pair, tolerance = widened(args, pair, folder), TOLERANCE["BF16"]
        answers = {"text": side.answer(None), "picture": side.answer(image)}
        if args.mtmd_cli:
            ours, theirs = plain(answers["picture"][0]), plain(mtmd_answer(args, pair, image))
            same = len(os.path.commonprefix([ours, theirs]))
            well = same == min(len(ours), len(theirs)) or tolerance == math.inf
            good &= well
            print(f"{'ok  ' if well else 'FAIL'} {name} "
                  f"llama-mtmd-cli: {same} of {len(ours)} characters are the same", flush=True)
        if args.server:
            server = Server(args, pair)
            try:
                for kind, (_, logits) in answers.items():
                    ours = log_softmax(logits)
                    theirs = server.logprobs(image if kind == "picture" else None, len(logits))
                    if theirs is None:
                        print(f"     {name} llama-server, {kind}: does not tell the first token's "
                              "probabilities; try another seed", flush=True)
                        continue
                    both = [t for t in ours if t in theirs]
                    error = max(abs(ours[t] - theirs[t]) for t in both)
                    error /= max(abs(x) for x in logits.values())
                    good &= error <= tolerance
                    print(f"{'ok  ' if error <= tolerance else 'FAIL'} {name} llama-server, "
                          f"{kind}: error {error:.1e} over {len(both)} tokens", flush=True)
            finally:
                server.close()
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vlm")
    parser.add_argument("--pair", nargs=2, metavar=("TEXT", "MMPROJ"))
    parser.add_argument("--family", default="qwen3vl,qwen3vlmoe")
    parser.add_argument("--type", default="F32")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--make-model", help="default: ../tests/make-model beside the vlm program")
    parser.add_argument("--prefix", default="", help="command before llama.cpp's programs")
    parser.add_argument("--mtmd-cli", help="default: llama-mtmd-cli where it is found")
    parser.add_argument("--server", help="default: llama-server where it is found")
    parser.add_argument("--quantize", help="default: llama-quantize where it is found")
    parser.add_argument("--port", type=int, default=18765)
    args = parser.parse_args()
    args.mtmd_cli = args.mtmd_cli or shutil.which("llama-mtmd-cli")
    args.server = args.server or shutil.which("llama-server")
    args.quantize = args.quantize or shutil.which("llama-quantize")
    if not args.mtmd_cli and not args.server:
        print("neither llama-mtmd-cli nor llama-server was found")
        sys.exit(77)
    if args.pair:
        sys.exit(0 if compare(args, os.path.basename(args.pair[0]), args.pair, "") else 1)
    make_model = args.make_model or os.path.join(os.path.dirname(args.vlm or "."),
                                                 "../tests/make-model")
    good = True
    for family in args.family.split(","):
        for dtype in args.type.split(","):
            with tempfile.TemporaryDirectory() as folder:
                pair = [os.path.join(folder, f"{part}.gguf") for part in ("text", "mmproj")]
                subprocess.run([make_model, "--family", family, "--type", dtype, "--seed",
                                args.seed, "--size", args.size, *pair], check=True)
                good &= compare(args, f"{family} {dtype} seed {args.seed}", pair, dtype)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
