#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/make_vectors.sh — makes tests/vectors/model-*.vec again.
#
#   tests/oracle/make_vectors.sh [BUILD_DIR] [options of make_vectors.py]
#
# BUILD_DIR (default: build) has been configured with meson. PYTHON names a Python with torch,
# transformers, torchvision, tokenizers, gguf and pillow; see README.md.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-build}
[ $# -eq 0 ] || shift
ninja -C "$build" tests/make-model
exec "${PYTHON:-python3}" "$here/make_vectors.py" --make-model "$build/tests/make-model" \
    --out "$here/../vectors" "$@"
