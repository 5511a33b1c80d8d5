# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/vec.py — writes and reads .vec files (tests/vectors.h says what is in them) and
# measures distances as tests/vectors.c does.
import numpy as np

MAGIC = "vlm-vectors 1"
DTYPES = {"u8": "|u1", "i32": "<i4", "f32": "<f4", "f64": "<f8"}
NAMES = {np.dtype(v): k for k, v in DTYPES.items()}


def write(path, arrays):
    """Writes a dict of arrays; strings are stored as their UTF-8 bytes."""
    lines, data = [], bytearray()
    for name, value in arrays.items():
        if isinstance(value, str):
            value = np.frombuffer(value.encode(), np.uint8)
        value = np.ascontiguousarray(value)
        data.extend(bytes(-len(data) % 16))
        shape = "x".join(str(n) for n in value.shape)
        lines.append(f"array {name} {NAMES[value.dtype]} {shape} {len(data)}")
        data.extend(value.astype(DTYPES[NAMES[value.dtype]]).tobytes())
    head = "\n".join([MAGIC, f"data {len(data)}", *lines, "end", ""]).encode()
    pad = -len(head) % 64
    head += (b" " * (pad - 1) + b"\n") if pad else b""
    with open(path, "wb") as file:
        file.write(head + data)


def read(path):
    """The arrays of a file by name. Text comes as bytes in a u8 array, see text()."""
    with open(path, "rb") as file:
        contents = file.read()
    end = contents.index(b"\nend\n") + 5
    lines = contents[:end].decode().split("\n")
    if lines[0] != MAGIC:
        raise ValueError(f"{path}: not a file of vectors")
    start, arrays = (end + 63) // 64 * 64, {}
    for line in lines[2:-2]:
        _, name, dtype, shape, offset = line.split(" ")
        shape = [int(n) for n in shape.split("x")]
        arrays[name] = np.frombuffer(contents, DTYPES[dtype], int(np.prod(shape)),
                                     start + int(offset)).reshape(shape)
    return arrays


def text(array):
    return array.tobytes().decode()


def checksum(x):
    """sum x, sum |x|, sqrt(sum x^2) and sum x[k] cos(k / 10), in double."""
    x = np.asarray(x, np.float64).ravel()
    wave = np.cos(np.arange(x.size) * 0.1)
    return np.array([x.sum(), np.abs(x).sum(), np.sqrt((x * x).sum()), (x * wave).sum()])


def error(got, want):
    """Relative error: max |got - want| / max |want|."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if not np.isfinite(got).all():
        return float("inf")
    worst = np.abs(got - want).max()
    return float(worst / np.abs(want).max()) if worst > 0 else 0.0


def kl(got, want):
    """Divergence of softmax(got) from softmax(want), in nats."""
    def log_softmax(x):
        x = np.asarray(x, np.float64)
        return x - x.max() - np.log(np.exp(x - x.max()).sum())
    got, want = log_softmax(got), log_softmax(want)
    return max(0.0, float((np.exp(want) * (want - got)).sum()))
