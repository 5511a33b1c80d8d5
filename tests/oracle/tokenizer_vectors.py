#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/tokenizer_vectors.py — records what Hugging Face's tokenizers make of awkward text.
"""tokenizer_vectors.py > tests/vectors/tokenizer.txt
tokenizer_vectors.py qwen35 > tests/vectors/tokenizer-qwen35.txt
tokenizer_vectors.py smollm > tests/vectors/tokenizer-smollm.txt
tokenizer_vectors.py llama-bpe > tests/vectors/tokenizer-llama-bpe.txt

Lines of the output, read by unit_tokenizer.c:
  m LEFT RIGHT        a merge rule by token ids; its result has the next free id, unless a token of
                      that text exists. Ids 0..255 are the byte-level alphabet by code point.
  w HEX               a token that no rule makes, in the byte-level alphabet, with the next free id
  s TYPE HEX          a special token (GGUF token type, text), with the next free id
  p HEX LENGTHS...    a normalised text without special tokens, and the bytes of each piece of it
  t HEX IDS...        a text with special tokens recognised, and its tokens
  d IDS... = HEX      tokens and the text that they decode to, special tokens kept
"""
import json
import random
import sys

from tokenizer_common import SPECIALS, TEXTS, fuzz_texts, make_tokenizer


def main():
    tok = make_tokenizer(sys.argv[1] if len(sys.argv) > 1 else "qwen2")
    model = json.loads(tok.to_str())["model"]
    ids = model["vocab"]
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    print("# Made by tests/oracle/tokenizer_vectors.py; do not edit.")
    for left, right in merges:
        print("m", ids[left], ids[right])
    made = {left + right for left, right in merges}
    for token, i in sorted(ids.items(), key=lambda item: item[1]):
        if i >= 256 and token not in made:
            print("w", token.encode().hex())
    for text, special in SPECIALS:
        print("s", 3 if special else 4, text.encode().hex())
    for text in TEXTS:
        nfc = tok.normalizer.normalize_str(text) if tok.normalizer else text
        pieces = tok.pre_tokenizer.pre_tokenize_str(nfc)
        # One character of a piece in the byte-level alphabet is one byte of text.
        print("p", nfc.encode().hex() or "-", *(len(piece) for piece, _ in pieces))
    for text in TEXTS + list(fuzz_texts(1, 300)):
        print("t", text.encode().hex() or "-", *tok.encode(text).ids)
    rng = random.Random(2)
    n = tok.get_vocab_size()
    for _ in range(60):
        seq = [rng.randrange(n if rng.random() < 0.7 else 256) for _ in range(rng.randint(1, 12))]
        # The byte-level decoder would take a special token for bytes where it is not ASCII.
        seq = [i for i in seq if tok.id_to_token(i) != SPECIALS[-1][0]]
        print("d", *seq, "=", tok.decode(seq, skip_special_tokens=False).encode().hex() or "-")


if __name__ == "__main__":
    main()
