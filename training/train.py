# SPDX-License-Identifier: LGPL-2.1-or-later
# training/train.py — trains the default model; resumes from its checkpoint
"""Needs shards (shards.py may still be writing them).  Losses: the answers' tokens, plus, early on,
auxiliary classifiers on every vision token (what is here, which colour, size, motion, background),
which are not exported.  Films grow longer as training goes on."""

import argparse
import glob
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import model as M
import prompts
import world

AUX = dict(
    thing=2,
    shape=len(world.SHAPES),
    colour=len(world.COLOURS),
    size=2,
    motion=len(world.MOTIONS),
    background=3,
)


class Trainer:
    def __init__(self, a):
        self.a = a
        torch.set_num_threads(a.threads)
        path = os.path.join(a.out, "tokenizer")
        self.tok = M.make_tokenizer() if not os.path.isdir(path) else None
        if self.tok is None:
            from transformers import PreTrainedTokenizerFast

            self.tok = PreTrainedTokenizerFast.from_pretrained(path)
        else:
            self.tok.save_pretrained(path)
        self.build = prompts.Builder(self.tok)
        self.model = M.make_model(M.make_config(self.tok), a.seed)
        d = self.model.config.text_config.hidden_size
        self.aux = torch.nn.ModuleDict({k: torch.nn.Linear(d, n) for k, n in AUX.items()})
        decay, plain = [], []
        for p in [*self.model.parameters(), *self.aux.parameters()]:
            (decay if p.dim() >= 2 else plain).append(p)
        self.opt = torch.optim.AdamW(
            [dict(params=decay, weight_decay=0.02), dict(params=plain, weight_decay=0.0)],
            lr=a.lr,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.step, self.spent = 0, 0.0
        self.g = np.random.default_rng(a.seed)
        ck = os.path.join(a.out, "checkpoint.pt")
        if os.path.exists(ck):
            s = torch.load(ck, map_location="cpu", weights_only=False)
            self.model.load_state_dict(s["model"])
            self.aux.load_state_dict(s["aux"])
            self.opt.load_state_dict(s["opt"])
            self.step, self.spent = s["step"], s["spent"]
            self.g = np.random.default_rng(a.seed + self.step)
            print(f"resumed at step {self.step}, {self.spent / 60:.1f} minutes", flush=True)

    def save(self):
        s = dict(
            model=self.model.state_dict(),
            aux=self.aux.state_dict(),
            opt=self.opt.state_dict(),
            step=self.step,
            spent=self.spent,
        )
        p = os.path.join(self.a.out, "checkpoint.pt")
        torch.save(s, p + ".tmp")
        os.replace(p + ".tmp", p)

    # ------------------------------------------------------------------ batches
    def shard(self, pairs, prefix="p"):
        files = sorted(glob.glob(os.path.join(self.a.shards, f"{prefix}{pairs:02d}-*.json")))
        if not files:
            raise SystemExit(f"no shards of {pairs} pairs in {self.a.shards}")
        f = files[self.g.integers(len(files))][:-5]
        return np.load(f + ".npy", mmap_mode="r"), json.load(open(f + ".json"))

    def plan(self):
        """Pairs per film and films per step at this point of the run."""
        u, g = self.spent / (60 * self.a.minutes), self.g
        if u < 0.03:
            return 2, 32
        if u < 0.22:
            return (2, 32) if g.random() < 0.15 else (4, 16)
        r = g.random()
        if u < 0.5:
            return (4, 16) if r < 0.85 else (12, 6)
        if u < 0.75:
            return (4, 16) if r < 0.5 else (12, 7) if r < 0.95 else (24, 4)
        return (4, 16) if r < 0.35 else (12, 7) if r < 0.8 else (24, 4)

    def film_batch(self, pairs, n, prefix="p", fixed=False):
        frames, films = self.shard(pairs, prefix)
        pick = np.sort(self.g.permutation(len(films))[:n])
        frames = frames[pick]
        h, w = frames.shape[3:5]
        rows, cols = h // 32, w // 32
        out, marks = [], []
        for i in pick:
            e = films[i]
            out.append(
                prompts.film_row(
                    self.build,
                    self.g,
                    e,
                    pairs,
                    rows,
                    cols,
                    fixed=fixed,
                    most=5 if pairs <= 4 else 12,
                )
            )
            for k in range(pairs):
                t = e["start"] + 2 * k / e["rate"]
                marks.append(world.marks(e["film"], t, t + 1 / e["rate"]))
        return frames.reshape(-1, 2, h, w, 3), (rows, cols), [o[0] for o in out], marks, out

    def vision_batch(self, n, prefix="p"):
        """Frame pairs alone, for the auxiliary losses."""
        frames, films = self.shard((4, 12)[int(self.g.integers(2))], prefix)
        h, w = frames.shape[3:5]
        pick = sorted(self.g.choice(len(films) * frames.shape[1], min(n, 128), replace=False))
        marks, out = [], []
        for p in pick:
            i, k = divmod(int(p), frames.shape[1])
            e = films[i]
            t = e["start"] + 2 * k / e["rate"]
            marks.append(world.marks(e["film"], t, t + 1 / e["rate"]))
            out.append(frames[i, k])
        return np.stack(out), (h // 32, w // 32), marks

    def image_batch(self, n):
        frames, films = self.shard(4)
        h, w = frames.shape[3:5]
        rows, cols = h // 32, w // 32
        fr, out, marks = [], [], []
        while len(out) < n:
            i, k = self.g.integers(len(films)), self.g.integers(8)
            e = films[i]
            t = e["start"] + k / e["rate"]
            r = prompts.image_row(self.build, self.g, e["film"], t, rows, cols)
            if r:
                out.append(r)
                fr.append(np.repeat(frames[i].reshape(8, h, w, 3)[k : k + 1], 2, 0))
                marks.append(world.marks(e["film"], t, t))
        return np.stack(fr), (rows, cols), out, marks

    # ------------------------------------------------------------------ forward
    def forward(self, frames, grid, rows):
        m = self.model.model
        b = self.build.batch(rows)
        with torch.autocast("cpu", torch.bfloat16):
            main, deep = M.encode(m.visual, M.patches(frames), grid[0] * 2, grid[1] * 2)
            ids = torch.from_numpy(b["ids"])
            where = (ids == self.build.video) | (ids == self.build.image)
            x = m.language_model.embed_tokens(ids)
            x = x.masked_scatter(where[..., None], main.reshape(-1, main.shape[-1]).float())
            h, balance = M.decode(
                m.language_model,
                x,
                torch.from_numpy(b["pos"]),
                torch.from_numpy(b["mask"]),
                where,
                deep,
            )
            t = torch.from_numpy(b["target"])
            keep = t >= 0
            logits = self.model.lm_head(h[keep]).float()
        return logits, t[keep], keep, main, balance

    def aux_loss(self, main, marks, grid):
        rows, cols = grid
        n = rows * cols
        lab = {k: torch.full((len(marks) * n,), -100) for k in AUX}
        lab["thing"][:] = 0
        for i, (things, bg) in enumerate(marks):
            lab["background"][i * n : (i + 1) * n] = bg
            for x, y, shape, colour, size, motion in things:
                c = i * n + min(int(y * rows), rows - 1) * cols + min(int(x * cols), cols - 1)
                lab["thing"][c] = 1
                lab["shape"][c], lab["colour"][c], lab["size"][c], lab["motion"][c] = (
                    shape,
                    colour,
                    size,
                    motion,
                )
        v = main.reshape(-1, main.shape[-1]).float()
        loss, acc = 0.0, {}
        for k, head in self.aux.items():
            keep = lab[k] >= 0
            if not keep.any():
                continue
            o = head(v[keep])
            loss = loss + F.cross_entropy(o, lab[k][keep]) * {
                "shape": 1.5,
                "thing": 2.0,
                "background": 0.3,
            }.get(k, 1.0)
            with torch.no_grad():
                ok = o.argmax(-1) == lab[k][keep]
                if k == "thing":
                    ok = ok[lab[k][keep] == 1]
                acc[k] = ok.float().mean().item()
        return loss, acc

    # ----------------------------------------------------------------- the run
    def rate(self):
        a, u = self.a, self.spent / (60 * self.a.minutes)
        warm = min(1.0, (self.step + 1) / 150)
        tail = min(1.0, max(0.0, (1.0 - u) / 0.4))  # constant, then linear to zero
        return a.lr * warm * max(tail, 0.02)

    def vision_share(self):
        """How many of the steps train the vision encoder alone: it has to see before words help."""
        u = self.spent / (60 * self.a.minutes)
        return (
            0.85 if u < 0.2 else 0.6 if u < 0.36 else 0.3 if u < 0.55 else 0.1 if u < 0.8 else 0.0
        )

    def update(self, log, values, began, pairs, kind):
        params = [p for gr in self.opt.param_groups for p in gr["params"] if p.grad is not None]
        values["norm"] = torch.nn.utils.clip_grad_norm_(params, 1.0).item()
        for gr in self.opt.param_groups:
            gr["lr"] = self.rate()
        self.opt.step()
        self.opt.zero_grad(set_to_none=True)
        self.step += 1
        dt = time.time() - began
        self.spent += dt
        for k, v in dict(values, **{kind + "sec": dt, kind + "pairs": pairs / dt}).items():
            log.setdefault(k, []).append(v)

    def housekeeping(self, shown, saved, log):
        if time.time() - shown > 20:
            shown = time.time()
            print(
                f"{self.spent / 60:6.1f} min step {self.step} lr {self.rate():.1e} "
                + " ".join(f"{k} {np.mean(v):.3f}" for k, v in log.items()),
                flush=True,
            )
            log = {}
        if time.time() - saved > self.a.save_every or self.spent >= self.a.minutes * 60:
            self.save()
            saved = time.time()
            self.measure()
        return shown, saved, log

    def run(self):
        a, log = self.a, {}
        began, shown, saved = time.time(), time.time(), time.time()
        while self.spent < a.minutes * 60:
            t0 = time.time()
            if self.g.random() < self.vision_share():
                frames, grid, marks = self.vision_batch(128)
                with torch.autocast("cpu", torch.bfloat16):
                    main, _ = M.encode(
                        self.model.model.visual, M.patches(frames), grid[0] * 2, grid[1] * 2
                    )
                aux, acc = self.aux_loss(main, marks, grid)
                aux.backward()
                self.update(log, acc, t0, len(frames), "v")
                shown, saved, log = self.housekeeping(shown, saved, log)
                continue
            if self.g.random() < 0.08 and self.spent > 900:
                frames, grid, rows, marks = self.image_batch(64)
            else:
                pairs, n = self.plan()
                frames, grid, rows, marks, _ = self.film_batch(pairs, n)
            logits, target, _, main, balance = self.forward(frames, grid, rows)
            lm = F.cross_entropy(logits, target)
            weight = a.aux * max(0.1, 1 - 1.5 * self.spent / (60 * a.minutes))
            aux, acc = self.aux_loss(main, marks, grid)
            (lm + weight * aux + 0.01 * balance).backward()
            hit = (logits.argmax(-1) == target).float().mean().item()
            self.update(log, dict(acc, lm=lm.item(), token=hit), t0, len(frames), "")
            shown, saved, log = self.housekeeping(shown, saved, log)
        print(f"done after {(time.time() - began) / 60:.1f} minutes", flush=True)

    @torch.no_grad()
    def measure(self):
        """Answers wholly right (all tokens greedy) on held-out films, by kind."""
        keep_g, self.g = self.g, np.random.default_rng(3)
        good, sight = {}, {}
        for _ in range(4):
            frames, grid, marks = self.vision_batch(128, "held")
            with torch.autocast("cpu", torch.bfloat16):
                main, _ = M.encode(
                    self.model.model.visual, M.patches(frames), grid[0] * 2, grid[1] * 2
                )
            for k, v in self.aux_loss(main, marks, grid)[1].items():
                sight.setdefault(k, []).append(v)
        print(
            "  held-out vision: " + " ".join(f"{k} {np.mean(v):.3f}" for k, v in sight.items()),
            flush=True,
        )
        for pairs, n, times in ((4, 32, 2), (12, 12, 3)):
            if not glob.glob(os.path.join(self.a.shards, f"held{pairs:02d}-*.json")):
                continue
            for _ in range(times):
                frames, grid, rows, _, out = self.film_batch(pairs, n, "held", fixed=True)
                logits, target, keep, _, _ = self.forward(frames, grid, rows)
                ok = torch.ones_like(keep)
                ok[keep] = logits.argmax(-1) == target
                for i, (row, kinds, forks) in enumerate(out):
                    seg = np.array(row["seg"])
                    for k, kind in enumerate(kinds, 1):
                        good.setdefault(
                            f"{kind}@{pairs}" if kind == "caption" else kind, []
                        ).append(bool(ok[i, : len(seg)][torch.from_numpy(seg == k)].all()))
        self.g = keep_g
        q = [x for k, v in good.items() if "caption" not in k for x in v]
        print(
            "  held-out: "
            + "; ".join(f"{k} {np.mean(v):.2f} ({len(v)})" for k, v in sorted(good.items()))
            + f"; ALL QUESTIONS {np.mean(q):.3f}",
            flush=True,
        )


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--shards", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, default=100)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--aux", type=float, default=0.5)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--save-every", type=float, default=240)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    Trainer(a).run()


if __name__ == "__main__":
    main()
