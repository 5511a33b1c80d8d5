#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/make_dual_vectors.sh — makes tests/vectors/dual-*.vec again (see README.md).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-build}
model=$(mktemp --suffix=.gguf)
trap 'rm -f "$model"' EXIT

record() {
    name=$1
    shift
    "$build/tests/make-dual" "$@" "$model"
    python3 "$here/dual.py" "$model" --out "$here/../vectors/dual-$name.vec" --made-by "$*"
}
record clip-F32 --kind clip --type F32 --seed 1
record clip-Q8_0 --kind clip --type Q8_0 --gelu --modern --seed 7
record siglip-F32 --kind siglip --type F32 --seed 1
record siglip-Q4_0 --kind siglip --type Q4_0 --seed 7
