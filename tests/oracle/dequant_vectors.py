#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/dequant_vectors.py — makes tests/vectors/dequant.vec again: blocks of every
# quantised type and what the dequantisers of the Python package `gguf` make of them.
"""dequant_vectors.py OUT.vec

Two arrays for each type: NAME.blocks, u8 [n, bytes of a block], and NAME.values, f32 [n, weights of
a block]. The first blocks are awkward: no bit set, every bit set, the largest and the smallest
scales, negative ones, a minus zero. Scales are never infinite or not a number.
"""
import sys

import gguf
import numpy as np
import vec

TYPES = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
         "IQ4_XS", "MXFP4")
# Where the f16 scales are in a block: at its start unless it is listed here. MXFP4 has an exponent.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q2_K": (80, 82),
          "Q3_K": (108,), "Q6_K": (208,), "MXFP4": ()}
# f16: largest, smallest, negative and of a common size, minus zero; each with a neighbour as minimum.
HALVES = (0x7BFF, 0x0001, 0xFBFF, 0x8001, 0x8000, 0x0400, 0x03FF, 0x2345, 0xA345)
# The last for which 12 * 2^(e - 128) is finite, the first that are not subnormal, subnormal ones.
EXPONENTS = (252, 2, 1, 0, 125, 128, 3, 119, 254)


def blocks_of(name, rng):
    kind = gguf.GGMLQuantizationType[name]
    elems, size = gguf.GGML_QUANT_SIZES[kind]
    n = 10 if elems == 256 else 20
    blocks = rng.integers(0, 256, (n, size), np.uint8)
    blocks[0] = 0
    blocks[1] = 255
    blocks[2, ::2] = 0
    for i in range(1, n):
        if name == "MXFP4":
            blocks[i, 0] = EXPONENTS[i % len(EXPONENTS)]
            if blocks[i, 0] == 254:         # numbers of at most 1, with which it is finite
                blocks[i, 1:] &= 0x11
        for k, at in enumerate(SCALES.get(name, (0,))):
            half = HALVES[(i - 1 + k) % len(HALVES)]
            blocks[i, at:at + 2] = np.frombuffer(np.uint16(half).tobytes(), np.uint8)
    return kind, blocks


def main():
    out, rng = {}, np.random.default_rng(1)
    for name in TYPES:
        kind, blocks = blocks_of(name, rng)
        values = gguf.quants.dequantize(blocks, kind)
        assert values.dtype == np.float32 and np.isfinite(values).all(), name
        out[f"{name}.blocks"], out[f"{name}.values"] = blocks, values
    vec.write(sys.argv[1], out)


if __name__ == "__main__":
    main()
