"""Estimators that have less variance at the same number of kept entries (docs/budgets.md), in plain PyTorch.

All `n x n` arrays are formed, and the exact parts are sums over pairs: this measures what is gained, not what it costs. It shares
no code with the analysis in Rust.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .sampler import ALL


@dataclass(frozen=True)
class Estimator:
    """`q_ij = min(1, c s_i |W_ij - u_i|)`; the plain one has `s_i = 1` and `u_i = 0`. None of the parts depends on the mask of its layer."""

    cotangents: bool = False  # s_i = |G_i| over its mean in the head and sequence
    centred: bool = False  # dq by keys less their mean
    remainder: bool = False  # u_i = the median of the visible weights of the row; its part is exact
    same_count: bool = False  # c such that the expected count of the head and sequence is that of `paper` at the c given

    def __bool__(self) -> bool:
        return self.cotangents or self.remainder or self.same_count

    def base(self, w: torch.Tensor) -> torch.Tensor | None:
        """`u_i` `[h, n, 1]`, or none; an even number of weights has the lower of its two middle ones."""
        if not self.remainder:
            return None
        later = torch.ones(w.shape[-2:], dtype=torch.bool, device=w.device).triu(1)
        return w.masked_fill(later, torch.nan).nanmedian(-1, keepdim=True).values

    def level(self, w: torch.Tensor, rest: torch.Tensor, g: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """`c s_i` `[h, n, 1]`, for weights `[h, n, n]`, what is drawn of them, cotangents `[h, n, D]` and budgets `[h]`."""
        c = c.clamp(max=ALL)[:, None, None]
        scale = torch.ones_like(w[..., :1])
        if self.cotangents:
            scale = g.norm(dim=-1, keepdim=True)
            scale = (scale / scale.mean(-2, keepdim=True)).nan_to_num(1.0)  # a head without any cotangent is like any other
        if self.same_count:
            c = budget(scale * rest.abs(), (c * w).clamp_(max=1).sum((-2, -1), dtype=torch.float64))
        # 1 / level has to be finite, also where a cotangent is 0: such a row adds nothing, kept or not.
        return (c * scale).clamp(1 / ALL, ALL)


def budget(y: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """`c` `[h, 1, 1]` with `sum min(1, c y) = count` `[h]` over each head of `y` `[h, n, n]`; all is kept if there are not enough.

    Newton's method from `c = count / sum y`. The left side is concave in `c`, and at most `c sum y`, so not above `count` there:
    the steps rise to the root from the left.
    """
    y = y.flatten(1)
    found = (count / y.sum(-1, dtype=torch.float64)).float()[:, None]
    target = count[:, None]
    for _ in range(64):
        full = found * y >= 1
        rest = y.masked_fill(full, 0).sum(-1, keepdim=True, dtype=torch.float64)
        better = ((target - full.sum(-1, keepdim=True)) / rest).nan_to_num(ALL).clamp(max=ALL).float()
        better = torch.maximum(found, better)
        if torch.equal(better, found):
            break
        found = better
    return torch.where((y > 0).sum(-1, keepdim=True) <= target, ALL, found)[:, :, None]
