# SPDX-License-Identifier: LGPL-2.1-or-later
# training/prompts.py — films and their truth as token sequences with forks
"""A sequence is one film in the open user turn (the trunk) and any number of forks: a prompt or
question with its answer, each attached after some frame pair and blind to the other forks.  This is
how the engine uses the model: the film stays, every caption is decoded on a fork and dropped."""

import functools

import numpy as np

import words
import world

_SYSTEMS = [
    "You are a helpful assistant.",
    "Answer briefly.",
    "You describe videos.",
    "Describe the video. Answer questions in one sentence.",
]


class Builder:
    def __init__(self, tok):
        self.tok = tok
        t = tok.convert_tokens_to_ids
        self.start, self.end, self.vs, self.ve = map(
            t, ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
        )
        self.image, self.video = t("<|image_pad|>"), t("<|video_pad|>")
        self.pad = t("<|endoftext|>")
        self.ids = functools.lru_cache(maxsize=100000)(
            lambda s: tuple(tok.backend_tokenizer.encode(s, add_special_tokens=False).ids)
        )

    def trunk(self, rows, cols, times, system="", gap=0, image=False):
        """Tokens, positions [3, n] and the (token, position) after each pair (after pair 0: the
        header).  `times` holds each pair's time; `gap` leaves positions free after the header, as a
        film whose oldest pairs were dropped."""
        ids = []
        if system:
            ids += [self.start, *self.ids("system\n" + system), self.end, *self.ids("\n")]
        ids += [self.start, *self.ids("user\n")]
        p = len(ids)
        pos = [np.tile(np.arange(p), (3, 1))]
        p += gap
        cuts = [(len(ids), p)]
        n = rows * cols
        r, c = np.divmod(np.arange(n), cols)
        for t in times:
            head = [] if image else list(self.ids(f"<{t:.1f} seconds>"))
            head += [self.vs]
            pos.append(np.tile(np.arange(p, p + len(head)), (3, 1)))
            p += len(head)
            pos.append(np.stack([np.full(n, p), p + r, p + c]))
            p += max(rows, cols)
            pos.append(np.full((3, 1), p))
            p += 1
            ids += head + [self.image if image else self.video] * n + [self.ve]
            cuts.append((len(ids), p))
        return ids, np.concatenate(pos, 1), cuts

    def fork(self, prompt, answer=None):
        """Tokens after the film and the number of them that are not to be learnt."""
        ids = [*self.ids(prompt), self.end, *self.ids("\n"), self.start, *self.ids("assistant\n")]
        n = len(ids)
        if answer is not None:
            ids += [*self.ids(answer), self.end]
        return ids, n

    def sequence(self, trunk, forks):
        """One row from forks [(cut number, prompt, answer)]: ids, pos, seg, limit, target."""
        ids, pos, cuts = trunk
        seg, limit = [0] * len(ids), list(range(len(ids)))
        ids, pos, target = list(ids), [pos], [-100] * len(ids)
        for k, (cut, prompt, answer) in enumerate(forks, 1):
            at, p = cuts[cut]
            f, skip = self.fork(prompt, answer)
            ids += f
            pos.append(np.tile(np.arange(p, p + len(f)), (3, 1)))
            seg += [k] * len(f)
            limit += [at - 1] * len(f)
            target += [-100] * (skip - 1) + f[skip:] + [-100]
        return dict(ids=ids, pos=np.concatenate(pos, 1), seg=seg, limit=limit, target=target)

    def batch(self, rows):
        """Padded arrays of several sequences; mask [B, 1, S, S]."""
        s = (max(len(r["ids"]) for r in rows) + 15) // 16 * 16
        b = len(rows)
        ids, target = np.full((b, s), self.pad), np.full((b, s), -100)
        pos, seg, limit = np.zeros((3, b, s), np.int64), np.full((b, s), -1), np.full((b, s), -1)
        for i, r in enumerate(rows):
            n = len(r["ids"])
            ids[i, :n], target[i, :n], pos[:, i, :n] = r["ids"], r["target"], r["pos"]
            seg[i, :n], limit[i, :n] = r["seg"], r["limit"]
        j = np.arange(s)
        mask = (seg[:, None, :] == 0) & (j[None, None, :] <= limit[:, :, None])
        mask |= (seg[:, :, None] == seg[:, None, :]) & (j[None, None, :] <= j[None, :, None])
        return dict(ids=ids, pos=pos, target=target, seg=seg, mask=mask[:, None])


_HARD = ("colour", "count of shape", "direction", "moved")


def _pick(g, questions, n, evenly):
    """n of the questions, those that take longest to learn twice as often unless `evenly`."""
    if not questions:
        return []
    odds = np.array([1.0 if evenly or q[0] not in _HARD else 2.0 for q in questions])
    order = g.choice(len(questions), min(n, len(questions)), replace=False, p=odds / odds.sum())
    return [questions[i] for i in order]


def film_row(build, g, entry, pairs, rows, cols, most=8, fixed=False):
    """A training row from one film of a shard.  `fixed`: no random offsets (for measurements)."""
    film, start, rate = entry["film"], entry["start"], entry["rate"]
    offset = 0.0
    if not fixed and g.random() < 0.5:
        offset = float(10 ** g.uniform(0, 5.2))
        if g.random() < 0.5:
            offset = float(int(offset))
    times = [offset + (2 * k + 0.5) / rate for k in range(pairs)]
    gap = int(10 ** g.uniform(0.5, 5.5)) if not fixed and g.random() < 0.25 else 0
    system = _SYSTEMS[g.integers(len(_SYSTEMS))] if not fixed and g.random() < 0.08 else ""
    trunk = build.trunk(rows, cols, times, system, gap)
    step = 1 / rate
    whole = [
        k
        for k in range(1, pairs + 1)
        if k == pairs or abs((start + 2 * k * step) % world.BEAT) < 1e-6
    ]
    cuts = list(whole)
    if not fixed:
        cuts += [int(k) for k in g.integers(1, pairs + 1, max(1, len(whole) // 2))]
    g.shuffle(cuts)
    forks, kinds = [], []
    for k in cuts:
        last = start + (2 * k - 1) * step
        s = world.current(film, start, last, step)
        if s is None:
            continue
        prompt = words.CAPTION_PROMPTS[0 if fixed else g.integers(len(words.CAPTION_PROMPTS))]
        forks.append((k, prompt, words.caption(s)))
        kinds.append("caption")
        now, old = words.questions_now(g, s), words.questions_film(g, film, start, last)
        some = 2 if fixed else 1
        want = _pick(g, now, some, fixed) + _pick(g, old, some, fixed)
        forks += [(k, q, a) for _, q, a in want]
        kinds += [q[0] for q in want]
        if len(forks) >= most:
            break
    return build.sequence(trunk, forks), kinds, forks


def image_row(build, g, film, t, rows, cols):
    """A training row for a single picture, or None."""
    s = world.instant(film, t)
    if s is None:
        return None
    trunk = build.trunk(rows, cols, [0.0], image=True)
    forks = [(1, words.STILL_PROMPTS[g.integers(len(words.STILL_PROMPTS))], words.still_caption(s))]
    now = words.questions_now(g, s, still=True)
    forks += [(1, now[i][1], now[i][2]) for i in g.permutation(len(now))[:3]]
    return build.sequence(trunk, forks)
