#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tidy.sh — clang-tidy over our C sources, with the checks of .clang-tidy.
#   tests/tidy.sh BUILD [FILE...]    BUILD has compile_commands.json; default: every file in it
# Other versions of clang-tidy know other checks: without version 14 (Debian 12) it is skipped.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
clang-tidy --version 2>/dev/null | grep -q 'version 14\.' || exit 77

if [ $# = 0 ]; then
    # Generated files are in the build folder, ours are not.
    mapfile -t files < <(grep -oE '"file": "[^"]+"' "$build/compile_commands.json" | cut -d'"' -f4 \
        | sed -n 's|^\(\.\./\)*\([a-z].*\.c\)$|\2|p' | sort -u | while read -r f; do
            [ -f "$f" ] && echo "$f"; done)
    set -- "${files[@]}"
fi
out=$(printf '%s\n' "$@" | xargs -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet 2>/dev/null \
    | grep -E '(error|warning): ' | sort -u)
echo "$# files"
[ -z "$out" ] || { echo "$out"; exit 1; }
