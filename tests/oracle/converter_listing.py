#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/converter_listing.py — what llama.cpp's converter writes, for unit_random_model.c.
"""converter_listing.py FAMILY:PART:FILE... > tests/vectors/converter.txt

FILE is a GGUF file that convert_hf_to_gguf.py made in F32 from a tiny random Qwen3-VL model with
the dimensions of random_model.c's "tiny"; PART is text or mmproj. Needs the Python package gguf.

  f FAMILY PART         begins a file
  k KEY TYPE            a key and its type; "array TYPE" for arrays
  t NAME TYPE NE...     a tensor; V stands for the size of the vocabulary
"""
import sys

from gguf import GGUFReader, GGUFValueType

NAMES = {GGUFValueType.UINT32: "u32", GGUFValueType.INT32: "i32", GGUFValueType.FLOAT32: "f32",
         GGUFValueType.BOOL: "bool", GGUFValueType.STRING: "string", GGUFValueType.ARRAY: "array"}


def main():
    print("# Made by tests/oracle/converter_listing.py; do not edit.")
    for argument in sys.argv[1:]:
        family, part, path = argument.split(":", 2)
        reader = GGUFReader(path)
        tokens = reader.fields.get("tokenizer.ggml.tokens")
        n_vocab = len(tokens.data) if tokens else -1
        print("f", family, part)
        for key, field in reader.fields.items():
            if not key.startswith("GGUF."):
                print("k", key, *(NAMES[t] for t in field.types))
        for tensor in reader.tensors:
            shape = ["V" if n == n_vocab else int(n) for n in tensor.shape]
            print("t", tensor.name, tensor.tensor_type.name, *shape)


if __name__ == "__main__":
    main()
