#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/compare_llama_text.py — a text model in `vlm run` and in llama.cpp's server, token by token.
"""compare_llama_text.py --vlm build/tools/vlm MODEL.gguf [--exact] [--tokens N] [--prefix CMD]

Greedy answers to raw prompts and to questions in the model's chat format: the prompt's tokens (the
chat template is llama.cpp's to execute) and N tokens of the answer must be the same. llama.cpp's CPU
kernels round activations to 8 bits for quantised weights; --exact has llama-quantize widen the
weights to F32 first, so that both compute with the same numbers. Where an answer differs, the gap
of the engine's two best logits there is printed.

Needs llama-server (Debian: llama.cpp-tools-extra) and for --exact llama-quantize.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request

RAW = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "\n\nQ: How many legs has a spider?\nA:",
    "La tour Eiffel est un monument de Paris. Elle",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
]
CHAT = [
    (None, "What is the capital of France?"),
    (None, "Explain in two sentences why the sky is blue."),
    (None, "Write a short poem about a cat in the rain."),
    ("You are a pirate.", "How do I boil an egg?"),
    (None, "Translate to French: The book is on the table."),
    (None, "List the planets of the solar system, one per line."),
]


class Server:
    def __init__(self, args, model):
        self.url = f"http://127.0.0.1:{args.port}"
        self.process = subprocess.Popen(
            [*shlex.split(args.prefix), "llama-server", "-m", model, "-ngl", "0", "-fa", "off", "-ctk",
             "f32", "-ctv", "f32", "-c", "4096", "-np", "1", "--jinja", "--host", "127.0.0.1", "--port",
             str(args.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.ask("/health")["status"] == "ok":
                    return
            except OSError:
                if self.process.poll() is not None:
                    break
            time.sleep(0.1)
        self.close()
        raise SystemExit("llama-server did not start")

    def ask(self, path, **data):
        request = urllib.request.Request(self.url + path, json.dumps(data).encode() if data else None,
                                         {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=600))

    def close(self):
        self.process.terminate()
        self.process.wait()


def engine(args, prompt, system, raw):
    command = [args.vlm, "run", "-m", args.model, "--kv-type", "f32", "--json", "-n",
               str(args.tokens), "--ignore-stop", "--top-logits", "2", "-p", prompt]
    command += ["--raw"] if raw else ["--system", system] if system else []
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def compare(args, server, prompt, system, raw):
    text = prompt
    if not raw:
        messages = [{"role": "system", "content": system}] if system else []
        text = server.ask("/apply-template",
                          messages=messages + [{"role": "user", "content": prompt}])["prompt"]
    ids = server.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
    want = server.ask("/completion", prompt=ids, n_predict=args.tokens, temperature=0,
                      cache_prompt=False, ignore_eos=args.ignore_eos, return_tokens=True)["tokens"]
    out = engine(args, prompt, system, raw)
    # `n_context` counts the session's own prefix, too.
    got, n_prompt = out["tokens"][:len(want)], out["n_context"]
    same = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    good = same == len(want) and n_prompt == len(ids)
    gap = ""
    if same < len(want):
        best = out["top"][same]
        gap = f", gap {best[0]['logit'] - best[1]['logit']:.4f} of {best[0]['logit']:.2f}"
    print(f"{'ok  ' if good else 'FAIL'} {'raw ' if raw else 'chat'} {prompt[:40]!r}: prompt of {n_prompt} "
          f"and {len(ids)} tokens, {same} of {len(want)} tokens the same{gap}", flush=True)
    return good


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--vlm", required=True)
    ap.add_argument("--exact", action="store_true")
    ap.add_argument("--tokens", type=int, default=64)
    ap.add_argument("--ignore-eos", action="store_true", help="go on past the end of an answer")
    ap.add_argument("--no-chat", action="store_true", help="raw prompts only")
    ap.add_argument("--prefix", default="", help="runs llama.cpp's programs")
    ap.add_argument("--port", type=int, default=8097)
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model
        if args.exact:
            model = os.path.join(folder, "wide.gguf")
            subprocess.run([*shlex.split(args.prefix), "llama-quantize", "--allow-requantize",
                            args.model, model, "F32"], check=True, capture_output=True)
        server = Server(args, model)
        try:
            good = [compare(args, server, p, None, True) for p in RAW]
            if not args.no_chat:
                good += [compare(args, server, p, s, False) for s, p in CHAT]
        finally:
            server.close()
    print(f"{sum(good)} of {len(good)} the same")
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
