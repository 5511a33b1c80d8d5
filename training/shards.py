# SPDX-License-Identifier: LGPL-2.1-or-later
# training/shards.py — renders films for training into shards, in the background
"""A shard holds FILMS films with the same frame grid and number of frame pairs: frames as uint8
after the model's own resize (NAME.npy, [films, pairs, 2, H, W, 3]) and the films with their sample
times (NAME.json).  The frames are drawn at a random source size, pass through a lossy 4:2:0 coder
(JPEG stands for the video codecs) and are resized as the engine resizes: bicubic with antialias."""

import argparse
import io
import json
import os

import numpy as np
from PIL import Image

import world

FILMS = 32
MIN_PIXELS, MAX_PIXELS = 9216, 17408
SOURCES = [
    ((320, 180), 5),
    ((384, 216), 3),
    ((427, 240), 2),
    ((320, 240), 4),
    ((256, 192), 1),
    ((256, 256), 3),
    ((192, 192), 1),
    ((180, 320), 2),
    ((192, 256), 1),
    ((240, 320), 1),
    ((300, 200), 1),
    ((420, 180), 1),
]


def sample_frames(film, size, times, g):
    """The frames of `film` at `times`, as the model sees them: uint8 [n, H, W, 3]."""
    painter = world.Painter(film, *size)
    target = world.smart_size(*size, MIN_PIXELS, MAX_PIXELS)
    quality = int(g.integers(40, 95)) if g.random() < 0.65 else 0
    out = []
    for t in times:
        im = Image.fromarray(painter.frame(t))
        if quality:
            b = io.BytesIO()
            im.save(b, "JPEG", quality=quality, subsampling=2)
            im = Image.open(b)
        out.append(np.asarray(im.resize(target, Image.BICUBIC)))
    return np.stack(out)


def make_shard(number, pairs, held_out=False, busy=False):
    g = np.random.default_rng([99, number, pairs, held_out] + [1] * busy)
    weights = np.array([w for _, w in SOURCES], float)
    if busy:  # there is least room to the sides, and fewest columns to tell them by
        weights *= [4 if w < h else 1 for (w, h), _ in SOURCES]
    size = SOURCES[g.choice(len(SOURCES), p=weights / weights.sum())][0]
    rate = float(g.choice([2, 2, 2, 2, 2, 2, 1, 1.5, 3, 4])) if pairs > 2 else 2.0
    films, frames = [], []
    for i in range(FILMS):
        start = 0.0 if g.random() < 0.6 else float(g.uniform(0, world.BEAT))
        length = start + pairs * 2 / rate
        film = world.make_film(
            int(g.integers(1_900_000_000)) + held_out * world.HELD_OUT,
            max(1, int(np.ceil(length / world.BEAT - 1e-6))),
            size[0] / size[1],
            busy,
        )
        times = start + np.arange(pairs * 2) / rate
        frames.append(sample_frames(film, size, times, g).reshape(pairs, 2, -1))
        films.append(dict(film=film, start=start, rate=rate))
    w, h = world.smart_size(*size, MIN_PIXELS, MAX_PIXELS)
    return np.stack(frames).reshape(FILMS, pairs, 2, h, w, 3), films


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("dir")
    ap.add_argument(
        "--plan", default="2:40,4:120,12:120,24:60", help="PAIRS:SHARDS,... in this order"
    )
    ap.add_argument("--held-out", action="store_true", help="from the seeds kept for measurements")
    ap.add_argument("--busy", action="store_true", help="films in which several things move")
    a = ap.parse_args()
    prefix = "held" if a.held_out else "m" if a.busy else "p"
    os.makedirs(a.dir, exist_ok=True)
    for part in a.plan.split(","):
        pairs, n = map(int, part.split(":"))
        for k in range(n):
            path = os.path.join(a.dir, f"{prefix}{pairs:02d}-{k:05d}")
            if os.path.exists(path + ".json"):
                continue
            frames, films = make_shard(k, pairs, a.held_out, a.busy)
            np.save(path + ".tmp.npy", frames)
            os.replace(path + ".tmp.npy", path + ".npy")
            with open(path + ".tmp", "w") as f:
                json.dump(films, f)
            os.replace(path + ".tmp", path + ".json")


if __name__ == "__main__":
    main()
