# SPDX-License-Identifier: LGPL-2.1-or-later
# training/train.py — trains the default model; resumes from its checkpoint
"""Needs shards (shards.py may still be writing them).  Losses: the answers' tokens, plus, early on,
auxiliary classifiers on every vision token (what is here, which colour, size, motion, background),
which are not exported.  Films grow longer as training goes on."""

import argparse
import os
import signal
import time

import numpy as np
import torch
import torch.nn.functional as F

import batches
import model as M
import muon

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
        self.image, self.video = (
            self.tok.convert_tokens_to_ids(x) for x in ("<|image_pad|>", "<|video_pad|>")
        )
        self.model = M.make_model(M.make_config(self.tok), a.seed)
        d = self.model.config.text_config.hidden_size
        self.aux = torch.nn.ModuleDict({k: torch.nn.Linear(d, n) for k, n in batches.AUX.items()})
        inner, decay, plain = [], [], []
        for name, p in [*self.model.named_parameters(), *self.aux.named_parameters()]:
            if p.dim() in (2, 3) and (".layers." in name or "visual.blocks" in name or "merger" in name):
                inner.append(p) if "mlp.gate.weight" not in name else decay.append(p)
            else:
                (decay if p.dim() >= 2 else plain).append(p)
        groups = [dict(params=decay, weight_decay=0.02), dict(params=plain, weight_decay=0.0)]
        self.opts = [
            torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.98), fused=True),
            muon.Muon(inner, lr=a.lr, weight_decay=0.02),
        ]
        self.step, self.spent, self.fresh, self.stop = 0, 0.0, 0, False
        ck = os.path.join(a.out, "checkpoint.pt")
        if os.path.exists(ck):
            s = torch.load(ck, map_location="cpu", weights_only=False)
            self.model.load_state_dict(s["model"])
            if "aux" in s:
                self.aux.load_state_dict(s["aux"])
            if "opts" in s:
                for o, state in zip(self.opts, s["opts"]):
                    o.load_state_dict(state)
            self.step, self.spent = s["step"], s["spent"]
            if "opts" not in s:
                self.fresh, self.spent = self.step, a.begin * a.minutes * 60
            print(f"resumed at step {self.step}, {self.spent / 60:.1f} minutes", flush=True)

    def save(self):
        s = dict(
            model=self.model.state_dict(),
            aux=self.aux.state_dict(),
            opts=[o.state_dict() for o in self.opts],
            step=self.step,
            spent=self.spent,
        )
        p = os.path.join(self.a.out, "checkpoint.pt")
        torch.save(s, p + ".tmp")
        os.replace(p + ".tmp", p)

    # ------------------------------------------------------------------ forward
    def see(self, b):
        """Vision tokens of a batch's frames and their DeepStack features."""
        rows, cols = b["grid"]
        return M.encode(self.model.model.visual, M.patches(b["frames"]), rows * 2, cols * 2)

    def forward(self, b):
        """Logits and targets where there is something to learn, where that is, vision tokens,
        the experts' balance loss."""
        lm, t = self.model.model.language_model, b["text"]
        with torch.autocast("cpu", torch.bfloat16):
            main, deep = self.see(b)
            ids, target = torch.from_numpy(t["ids"]), torch.from_numpy(t["target"])
            where = (ids == self.video) | (ids == self.image)
            x = lm.embed_tokens(ids)
            x = x.masked_scatter(where[..., None], main.reshape(-1, main.shape[-1]).float())
            pos, mask = torch.from_numpy(t["pos"]), torch.from_numpy(t["mask"])
            h, balance = M.decode(lm, x, pos, mask, where, deep)
            keep = target >= 0
            logits = self.model.lm_head(h[keep]).float()
        return logits, target[keep], keep, main, balance

    def aux_loss(self, main, labels):
        v = main.reshape(-1, main.shape[-1]).float()
        weight = {"shape": 1.5, "thing": 2.0, "background": 0.3}
        loss, acc = 0.0, {}
        for k, head in self.aux.items():
            keep = torch.from_numpy(labels[k] >= 0)
            if not keep.any():
                continue
            want = torch.from_numpy(labels[k])[keep]
            o = head(v[keep])
            loss = loss + F.cross_entropy(o, want) * weight.get(k, 1.0)
            with torch.no_grad():
                ok = o.argmax(-1) == want
                acc[k] = (ok[want == 1] if k == "thing" else ok).float().mean().item()
        return loss, acc

    # ----------------------------------------------------------------- the run
    def rate(self):
        a, u = self.a, self.spent / (60 * self.a.minutes)
        warm = min(1.0, (self.step - self.fresh + 1) / 100)
        tail = min(1.0, max(0.0, (1.0 - u) / 0.4))  # constant, then linear to zero
        return a.lr * warm * max(tail, 0.02)

    def update(self, log, values, began, pairs, kind):
        params = [
            p for o in self.opts for gr in o.param_groups for p in gr["params"] if p.grad is not None
        ]
        values["norm"] = torch.nn.utils.clip_grad_norm_(params, 1.0).item()
        for o in self.opts:
            for gr in o.param_groups:
                gr["lr"] = self.rate()
            o.step()
            o.zero_grad(set_to_none=True)
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
        queue, share = batches.start(a.shards, self.tok, a.seed + self.step)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        while self.spent < a.minutes * 60:
            if self.stop:
                self.save()
                return
            share.value = self.spent / (60 * a.minutes)
            t0 = time.time()
            b = queue.get()
            if b["text"] is None:
                with torch.autocast("cpu", torch.bfloat16):
                    main, _ = self.see(b)
                loss, values = self.aux_loss(main, b["labels"])
                loss.backward()
            else:
                logits, target, _, main, balance = self.forward(b)
                lm = F.cross_entropy(logits, target)
                aux, values = self.aux_loss(main, b["labels"])
                weight = a.aux * max(0.4, 1 - share.value)
                (lm + weight * aux + 0.01 * balance).backward()
                values["lm"] = lm.item()
                values["token"] = (logits.argmax(-1) == target).float().mean().item()
            self.update(log, values, t0, len(b["frames"]), "" if b["text"] else "v")
            shown, saved, log = self.housekeeping(shown, saved, log)
        print(f"done after {(time.time() - began) / 60:.1f} minutes", flush=True)

    @torch.no_grad()
    def measure(self):
        """Answers wholly right (all tokens greedy) on held-out films, by kind."""
        data = batches.Batches(self.a.shards, self.tok, 3)
        good, sight = {}, {}
        for _ in range(4):
            b = data.vision(128, "held", True)
            with torch.autocast("cpu", torch.bfloat16):
                main, _ = self.see(b)
            for k, v in self.aux_loss(main, b["labels"])[1].items():
                sight.setdefault(k, []).append(v)
        print(
            "  held-out vision: " + " ".join(f"{k} {np.mean(v):.3f}" for k, v in sight.items()),
            flush=True,
        )
        for pairs, n, times in ((4, 32, 2), (12, 12, 3)):
            for _ in range(times):
                b = data.films(pairs, n, "held", True)
                logits, target, keep, _, _ = self.forward(b)
                ok = torch.ones_like(keep)
                ok[keep] = logits.argmax(-1) == target
                for i, kinds in enumerate(b["text"]["kinds"]):
                    seg = torch.from_numpy(b["text"]["seg"][i])
                    for k, kind in enumerate(kinds, 1):
                        name = f"{kind}@{pairs}" if kind == "caption" else kind
                        good.setdefault(name, []).append(bool(ok[i][seg == k].all()))
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
    ap.add_argument("--begin", type=float, default=0.0, help="weights without the optimiser's "
                    "state (restore.py) start at this share of the run")
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
