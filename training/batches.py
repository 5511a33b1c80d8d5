# SPDX-License-Identifier: LGPL-2.1-or-later
# training/batches.py — training batches from shards, made by a process of its own
import functools
import glob
import json
import multiprocessing
import os

import numpy as np

import prompts
import world

# auxiliary classifiers on a vision token: what is there, if anything
AUX = dict(
    thing=2,
    shape=len(world.SHAPES),
    colour=len(world.COLOURS),
    size=2,
    motion=len(world.MOTIONS),
    background=3,
)


def labels(marks, rows, cols):
    """Class numbers per vision token from world.marks() of each pair; -100 where none applies.  A
    thing marks every token that shows a fifth of it; where it shows less, nothing is asked."""
    n = rows * cols
    lab = {k: np.full(len(marks) * n, -100) for k in AUX}
    lab["thing"][:] = 0
    top, left = np.arange(rows) / rows, np.arange(cols) / cols
    for i, (things, bg) in enumerate(marks):
        lab["background"][i * n : (i + 1) * n] = bg
        most = np.zeros(n)
        for x, y, rx, ry, *classes in things:
            rx, ry = 0.85 * rx, 0.85 * ry
            w = np.minimum(left + 1 / cols, x + rx) - np.maximum(left, x - rx)
            h = np.minimum(top + 1 / rows, y + ry) - np.maximum(top, y - ry)
            shown = (h.clip(0)[:, None] * w.clip(0)).ravel()
            share = np.maximum(shown / (4 * rx * ry), shown * n * 0.4)
            here = i * n + np.nonzero((share >= 0.2) & (shown > most))[0]
            doubt = i * n + np.nonzero((share > 0.02) & (share < 0.2) & (most == 0))[0]
            most = np.maximum(most, np.where(share >= 0.2, shown, 0))
            lab["thing"][doubt] = -100
            lab["thing"][here] = 1
            for k, v in zip(("shape", "colour", "size", "motion"), classes):
                lab[k][here] = v
    return lab


def _weight(film):
    """How often a film is shown: many objects, and above all several that move, take longest."""
    many = np.mean([len(b["objects"]) for b in film["beats"]])
    movers = [sum(o["action"] in world.DIRS for o in b["objects"]) for b in film["beats"]]
    return (many + 0.3) * (1 + 3 * np.mean([m > 1 for m in movers]))


@functools.lru_cache(maxsize=1000)
def _open(path):
    with open(path + ".json") as j:
        return np.load(path + ".npy", mmap_mode="r"), json.load(j)


class Batches:
    def __init__(self, folder, tok, seed):
        self.folder, self.build, self.g = folder, prompts.Builder(tok), np.random.default_rng(seed)

    def shard(self, pairs, prefix):
        """One of the shards of this kind; busy films ("m") are common ones where there are none."""
        files = sorted(glob.glob(os.path.join(self.folder, f"{prefix}{pairs:02d}-*.json")))
        if not files and prefix == "m":
            return self.shard(pairs, "p")
        if not files:
            raise SystemExit(f"no shards of {pairs} pairs in {self.folder}")
        return _open(files[self.g.integers(len(files))][:-5])

    def next(self, u):
        """The next batch at share u of the run.  The vision encoder learns alone at first, since it
        has to see before words help; then films grow longer."""
        r = self.g.random
        if r() < (1 if u < 0.15 else 0.2 if u < 0.4 else 0.05 if u < 0.9 else 0):
            return self.vision(128)
        if r() < 0.08:
            return self.images(48)
        short, middle = (0.6, 0.4) if u < 0.25 else (0.3, 0.6) if u < 0.55 else (0.2, 0.5)
        k = r()
        pairs, n = (4, 16) if k < short else (12, 8) if k < short + middle else (24, 4)
        return self.films(pairs, n)

    def films(self, pairs, n, prefix="p", fixed=False):
        """n films with forks, those with many objects more often than others; `fixed`: unchanged
        pictures and times, for measurements."""
        if not fixed and self.g.random() < 0.15:
            prefix = "m"
        frames, films = self.shard(pairs, prefix)
        odds = np.array([1.0 if fixed else _weight(e["film"]) for e in films])
        pick = np.sort(self.g.choice(len(films), n, replace=False, p=odds / odds.sum()))
        frames = frames[pick]
        h, w = frames.shape[3:5]
        rows, marks, kinds = [], [], []
        for i in pick:
            e = films[i]
            most = 4 + pairs
            row, kind, _ = prompts.film_row(
                self.build, self.g, e, pairs, h // 32, w // 32, most=most, fixed=fixed
            )
            rows.append(row)
            kinds.append(kind)
            for k in range(pairs):
                t = e["start"] + 2 * k / e["rate"]
                marks.append(world.marks(e["film"], t, t + 1 / e["rate"]))
        frames = frames.reshape(-1, 2, h, w, 3)
        return self.pack(frames, marks, rows, kinds, 0 if fixed else 8)

    def vision(self, n, prefix="p", fixed=False):
        """Frame pairs alone, from several shards of one grid; the hard ones, those with digits, more
        often than others."""
        if not fixed and self.g.random() < 0.15:
            prefix = "m"
        shards = [self.shard((4, 12)[int(self.g.integers(2))], prefix)]
        grid = shards[0][0].shape[3:5]
        for _ in range(24):
            s = self.shard((4, 12)[int(self.g.integers(2))], prefix)
            if s[0].shape[3:5] == grid and len(shards) < 4:
                shards.append(s)
        digits = not fixed and self.g.random() < 0.6
        marks, out = [], []
        for _ in range(20 * n):
            frames, films = shards[self.g.integers(len(shards))]
            i, k = int(self.g.integers(len(films))), int(self.g.integers(frames.shape[1]))
            e = films[i]
            t = e["start"] + 2 * k / e["rate"]
            m = world.marks(e["film"], t, t + 1 / e["rate"])
            if not digits or any(thing[4] >= 5 for thing in m[0]):
                marks.append(m)
                out.append(frames[i, k])
            if len(out) == n:
                break
        return self.pack(np.stack(out), marks, None, None, 0 if fixed else 20)

    def images(self, n):
        """Single pictures."""
        frames, films = self.shard(4, "p")
        h, w = frames.shape[3:5]
        out, rows, marks = [], [], []
        while len(out) < n:
            i, k = self.g.integers(len(films)), self.g.integers(8)
            e = films[i]
            t = e["start"] + k / e["rate"]
            r = prompts.image_row(self.build, self.g, e["film"], t, h // 32, w // 32)
            if r:
                rows.append(r)
                out.append(np.repeat(frames[i].reshape(8, h, w, 3)[k : k + 1], 2, 0))
                marks.append(world.marks(e["film"], t, t))
        return self.pack(np.stack(out), marks, rows, None, 8)

    def pack(self, frames, marks, rows, kinds, shift):
        h, w = frames.shape[2:4]
        if shift:
            frames, marks = self.vary(frames, marks, shift)
        grid = (h // 32, w // 32)
        text = self.build.batch(rows) if rows else None
        if text and kinds:
            text["kinds"] = kinds
        return dict(frames=frames, grid=grid, labels=labels(marks, *grid), text=text)

    def vary(self, frames, marks, most):
        """Moves the pictures by up to `most` pixels and changes their colours a little."""
        g, (h, w) = self.g, frames.shape[2:4]
        dx, dy = (int(v) for v in g.integers(-most, most + 1, 2))
        y = np.clip(np.arange(h) - dy, 0, h - 1)
        x = np.clip(np.arange(w) - dx, 0, w - 1)
        frames = frames.take(y, 2).take(x, 3)
        lut = np.arange(256)[:, None] * g.uniform(0.92, 1.06) + g.uniform(-8, 8, 3)
        lut = np.clip(lut, 0, 255).astype(np.uint8)
        for c in range(3):
            frames[..., c] = lut[:, c].take(frames[..., c])
        moved = []
        for things, bg in marks:
            at = [(t[0] + dx / w, t[1] + dy / h, *t[2:]) for t in things]
            moved.append(([t for t in at if 0 < t[0] < 1 and 0 < t[1] < 1], bg))
        return frames, moved


def _work(queue, share, folder, tok, seed):
    b = Batches(folder, tok, seed)
    while True:
        queue.put(b.next(share.value))


def start(folder, tok, seed):
    """Starts the process; returns its queue of batches and the shared progress of the run."""
    ctx = multiprocessing.get_context("spawn")
    queue, share = ctx.Queue(3), ctx.Value("d", 0.0)
    ctx.Process(target=_work, args=(queue, share, folder, tok, seed), daemon=True).start()
    return queue, share
