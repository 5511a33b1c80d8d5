#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# training/render.py — a film of the synthetic world as a video file, with its truth as JSON
"""render.py SEED OUT.webm [--size 640x360] [--beats 6] [--rate 30] [--codec vp8|vp9|h264]

Writes the video through GStreamer (gst-launch-1.0, base and good plugins; h264 needs the ugly ones
and an .mp4 or .mkv name) and OUT.json: the caption of every four seconds and the film itself."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import words  # noqa: E402
import world  # noqa: E402

ENCODERS = {
    "vp8": "vp8enc deadline=1 cpu-used=8 threads=2 keyframe-max-dist=120 target-bitrate={}",
    "vp9": "vp9enc deadline=1 cpu-used=8 threads=2 keyframe-max-dist=120 target-bitrate={}",
    "h264": "x264enc speed-preset=veryfast threads=2 bitrate={} ! h264parse",
}


def write_video(film, path, width, height, rate=30, codec="vp8", kbit=0, beats=None):
    """Renders `film` to `path`; kbit 0: a rate that suits the size."""
    kbit = kbit or max(120, width * height * rate // 60000)
    bits = kbit if codec == "h264" else kbit * 1000
    mux = (
        "mp4mux" if path.endswith(".mp4") else "matroskamux" if path.endswith(".mkv") else "webmmux"
    )
    stride = (width * 3 + 3) // 4 * 4            # GStreamer's rows of RGB
    cmd = (
        "gst-launch-1.0 -q fdsrc fd=0 blocksize=%d ! rawvideoparse width=%d height=%d "
        "format=rgb framerate=%d/1 "
        "! videoconvert ! video/x-raw,format=I420 ! %s ! %s ! filesink"
        % (stride * height, width, height, rate, ENCODERS[codec].format(bits), mux)
    ).split()
    p = subprocess.Popen([*cmd, "location=" + path], stdin=subprocess.PIPE)
    paint = world.Painter(film, width, height)
    for i in range(int(len(film["beats"]) * world.BEAT * rate)):
        rows = paint.frame(i / rate).reshape(height, -1)
        p.stdin.write(np.pad(rows, ((0, 0), (0, stride - width * 3))).tobytes())
    p.stdin.close()
    if p.wait():
        raise SystemExit(f"gst-launch-1.0 failed for {path}")


def truth(film):
    """The caption of each beat, as the model is to give it at the beat's end."""
    out = []
    for i in range(len(film["beats"])):
        s = world.current(film, 0.0, (i + 1) * world.BEAT - 0.5)
        out.append(
            dict(
                start=i * world.BEAT,
                end=(i + 1) * world.BEAT,
                caption=words.caption(s),
                objects=s["objects"],
                background=s["background"],
            )
        )
    return out


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("seed", type=int)
    ap.add_argument("out")
    ap.add_argument("--size", default="640x360")
    ap.add_argument("--beats", type=int, default=6, help="length in units of four seconds")
    ap.add_argument("--rate", type=int, default=30)
    ap.add_argument("--codec", choices=ENCODERS, default="vp8")
    ap.add_argument("--kbit", type=int, default=0)
    a = ap.parse_args()
    w, h = map(int, a.size.split("x"))
    film = world.make_film(a.seed, a.beats, w / h)
    write_video(film, a.out, w, h, a.rate, a.codec, a.kbit)
    with open(os.path.splitext(a.out)[0] + ".json", "w") as f:
        json.dump(
            dict(seed=a.seed, width=w, height=h, rate=a.rate, beats=truth(film), film=film),
            f,
            indent=1,
        )
    print(f"{a.out}: {os.path.getsize(a.out)} bytes")


if __name__ == "__main__":
    main()
