# SPDX-License-Identifier: LGPL-2.1-or-later
# training/batches.py — training batches from shards, made by a process of its own
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
    """Class numbers per vision token from world.marks() of each pair; -100 where none applies."""
    n = rows * cols
    lab = {k: np.full(len(marks) * n, -100) for k in AUX}
    lab["thing"][:] = 0
    for i, (things, bg) in enumerate(marks):
        lab["background"][i * n : (i + 1) * n] = bg
        for x, y, *classes in things:
            c = i * n + min(int(y * rows), rows - 1) * cols + min(int(x * cols), cols - 1)
            lab["thing"][c] = 1
            for k, v in zip(("shape", "colour", "size", "motion"), classes):
                lab[k][c] = v
    return lab


class Batches:
    def __init__(self, folder, tok, seed):
        self.folder, self.build, self.g = folder, prompts.Builder(tok), np.random.default_rng(seed)

    def shard(self, pairs, prefix):
        files = sorted(glob.glob(os.path.join(self.folder, f"{prefix}{pairs:02d}-*.json")))
        if not files:
            raise SystemExit(f"no shards of {pairs} pairs in {self.folder}")
        f = files[self.g.integers(len(files))][:-5]
        with open(f + ".json") as j:
            return np.load(f + ".npy", mmap_mode="r"), json.load(j)

    def next(self, u):
        """The next batch at share u of the run: films grow longer as it goes on, and most of the
        first steps train the vision encoder alone, which has to see before words help."""
        g = self.g
        vision = 0.85 if u < 0.2 else 0.6 if u < 0.36 else 0.5 if u < 0.75 else 0.15 if u < 0.93 else 0
        if g.random() < vision:
            return self.vision(128)
        if g.random() < 0.08 and u > 0.15:
            return self.images(48)
        r = g.random()
        if u < 0.03:
            pairs, n = 2, 32
        elif u < 0.5:
            pairs, n = (4, 16) if r < (1 if u < 0.22 else 0.85) else (12, 6)
        elif u < 0.75:
            pairs, n = (4, 16) if r < 0.5 else (12, 7) if r < 0.95 else (24, 4)
        else:
            pairs, n = (4, 16) if r < 0.35 else (12, 7) if r < 0.8 else (24, 4)
        return self.films(pairs, n)

    def films(self, pairs, n, prefix="p", fixed=False):
        """n films with forks; `fixed`: unchanged pictures and times, for measurements."""
        frames, films = self.shard(pairs, prefix)
        pick = np.sort(self.g.permutation(len(films))[:n])
        frames = frames[pick]
        h, w = frames.shape[3:5]
        rows, marks, kinds = [], [], []
        for i in pick:
            e = films[i]
            most = 5 if pairs <= 4 else 12
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
        """Frame pairs alone; the hard ones, those with digits, more often than others."""
        frames, films = self.shard((4, 12)[int(self.g.integers(2))], prefix)
        order = [int(p) for p in self.g.permutation(len(films) * frames.shape[1])]
        digits = not fixed and self.g.random() < 0.6
        marks, out = [], []
        for p in order:
            i, k = divmod(p, frames.shape[1])
            e = films[i]
            t = e["start"] + 2 * k / e["rate"]
            m = world.marks(e["film"], t, t + 1 / e["rate"])
            if not digits or any(thing[2] >= 5 for thing in m[0]):
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
