# SPDX-License-Identifier: LGPL-2.1-or-later
# training/muon.py — the Muon optimiser for matrices and stacks of matrices
"""Muon (Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon): momentum whose matrix is
replaced by the nearest orthogonal one, found with five Newton-Schulz steps.  Updates are scaled to
the size that AdamW's would have (Liu et al., arXiv 2502.16982), so both share one learning rate."""
import torch


def orthogonal(g):
    """Singular values of the matrices in g [..., m, n] brought near 1."""
    x = g.bfloat16()
    turned = x.shape[-2] > x.shape[-1]
    if turned:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if turned else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                u = orthogonal(p.grad.lerp(m, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(u, alpha=-group["lr"] * 0.2 * max(p.shape[-2:]) ** 0.5)
