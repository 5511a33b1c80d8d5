# SPDX-License-Identifier: LGPL-2.1-or-later
# training/check.py — model.py's fast forward pass against transformers' own
"""Runs a film of three frame pairs and a question through both, float32, and compares logits,
positions included.  Exit status 1 where they differ."""

import sys

import numpy as np
import torch

import model as M
import prompts
import world


@torch.no_grad()
def main():
    torch.set_num_threads(2)
    tok = M.make_tokenizer()
    m = M.make_model(M.make_config(tok), 3).eval()
    for p in m.parameters():  # norms and biases away from 1 and 0
        if p.dim() == 1:
            p.add_(0.1 * torch.randn_like(p))
    b = prompts.Builder(tok)
    film = world.make_film(7, 1, 16 / 9)
    paint = world.Painter(film, 160, 96)
    frames = np.stack([paint.frame(t / 2) for t in range(6)]).reshape(3, 2, 96, 160, 3)
    row = b.sequence(
        b.trunk(3, 5, [0.25, 1.25, 2.25]), [(3, "What happens?", "A small red circle rests.")]
    )
    e = b.batch([row])
    ids = torch.from_numpy(e["ids"])
    where = ids == b.video
    main_, deep = M.encode(m.model.visual, M.patches(frames), 6, 10)
    x = m.model.language_model.embed_tokens(ids)
    x = x.masked_scatter(where[..., None], main_.reshape(-1, x.shape[-1]))
    h, _ = M.decode(
        m.model.language_model,
        x,
        torch.from_numpy(e["pos"]),
        torch.from_numpy(e["mask"]),
        where,
        deep,
    )
    n = len(row["ids"])
    ours = m.lm_head(h)[0, :n]
    ids = ids[:, :n]
    out = m(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values_videos=M.patches(frames).reshape(-1, 1536),
        video_grid_thw=torch.tensor([[3, 6, 10]]),
        mm_token_type_ids=(ids == b.video).int() * 2,
    )
    theirs = out.logits[0]
    err = (ours - theirs).abs().max().item() / theirs.abs().max().item()
    print(f"largest difference of logits, relative: {err:.1e}")
    sys.exit(err > 1e-4)


if __name__ == "__main__":
    main()
