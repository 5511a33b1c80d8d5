#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/tokenizer_compare.py — compares the engine's tokenizer with a tokenizer.json.
"""tokenizer_compare.py TOKENIZER.json TOKENIZE-PROGRAM [--count N] [--seed S]

Writes the vocabulary of a Hugging Face tokenizer (Qwen kind) to a GGUF file, encodes the awkward
texts and N random ones with both, and reports the first differences. Needs tokenizers and gguf.
"""
import argparse
import json
import subprocess
import sys
import tempfile

from gguf import GGUFWriter
from tokenizers import Tokenizer

from tokenizer_common import TEXTS, fuzz_texts


def write_gguf(path, tok):
    """The keys that llama.cpp's converter writes for this vocabulary."""
    data = json.loads(tok.to_str())
    added = {t["id"]: t for t in data["added_tokens"]}
    vocab = {i: t for t, i in tok.get_vocab(with_added_tokens=True).items()}
    n = max(vocab) + 1
    types = [5 if i not in vocab else 1 if i not in added else
             3 if added[i]["special"] or added[i]["content"].startswith("<|") else 4
             for i in range(n)]
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    w = GGUFWriter(path, "qwen3vl")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list([vocab.get(i, f"[PAD{i}]") for i in range(n)])
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_eos_token_id(tok.token_to_id("<|im_end|>"))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("tokenizer")
    ap.add_argument("program")
    ap.add_argument("--count", type=int, default=2000)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    tok = Tokenizer.from_file(a.tokenizer)
    texts = TEXTS + list(fuzz_texts(a.seed, a.count)) + [" ".join(TEXTS) * 20]
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        write_gguf(f.name, tok)
        out = subprocess.run([a.program, f.name, "--special"], check=True, capture_output=True,
                             text=True, input="\n".join(t.encode().hex() for t in texts) + "\n")
    bad = 0
    for text, line in zip(texts, out.stdout.splitlines(), strict=True):
        got, want = [int(x) for x in line.split()], tok.encode(text).ids
        if got != want:
            bad += 1
            if bad <= 5:
                print(f"{text!r}\n  got  {got}\n  want {want}", file=sys.stderr)
    print(f"{len(texts)} texts, {bad} differ")
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
