#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# training/train.sh — renders, trains, exports and scores the default model
#
#   training/train.sh [DIR] [MINUTES]
#
# DIR (default build/training) keeps shards and checkpoints; run it again to go on where it stopped.
# PYTHON names the interpreter that has requirements.txt, CONVERT_HF_TO_GGUF the converter.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$here/../build/training}
minutes=${2:-110}
py=${PYTHON:-python3}
vlm=$here/../build/tools/vlm
mkdir -p "$dir/run"

"$py" "$here/check.py"
echo "rendering shards into $dir/shards (goes on in the background while training runs)"
"$py" "$here/shards.py" "$dir/shards" --plan 4:20,12:14 --held-out
"$py" "$here/shards.py" "$dir/shards" --plan 4:60,12:20
"$py" "$here/shards.py" "$dir/shards" --plan 4:4,12:4,24:2 --busy
{
    nice -n 19 "$py" "$here/shards.py" "$dir/shards" --plan 4:120,12:60,24:20
    nice -n 19 "$py" "$here/shards.py" "$dir/shards" --plan 4:32,12:60,24:20 --busy
    nice -n 19 "$py" "$here/shards.py" "$dir/shards" --plan 4:240,12:140,24:60
} &
shards=$!
trap 'kill $shards 2>/dev/null || true' EXIT

"$py" "$here/train.py" --shards "$dir/shards" --out "$dir/run" --minutes "$minutes"
"$py" "$here/export.py" "$dir/run" "$dir/gguf"
if [ -x "$vlm" ]; then
    "$py" "$here/../bench/score/score" --vlm "$vlm" --model "$dir/gguf/shapes.gguf" \
        --mmproj "$dir/gguf/mmproj-shapes.gguf"
else
    "$py" "$here/../bench/score/score" --engine torch --q8 --checkpoint "$dir/run"
fi
