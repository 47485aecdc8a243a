"""Which weights are kept: the rules and samplers of SUS, in plain PyTorch.

An implementation of its own, which shares no code with the library and draws its random numbers from PyTorch: a check from
outside. The words are the 24 bits of `torch.rand`, so a keep probability is rounded up to a multiple of 2^-24.
"""

from __future__ import annotations

import torch

#: Stands for `c = inf`: a weight below 1e-30 adds nothing to a float32 gradient, kept or not.
ALL = 1e30


def multiplier(w: torch.Tensor, c: torch.Tensor, rule: str) -> torch.Tensor:
    """`lambda_i` of the keep probabilities `min(1, lambda_i W_ij)`, of rows `[..., n, n]` with `c` `[...]`; shape `[..., n, 1]`.

    `paper` has `lambda = c`. `calibrated` solves `f(lambda) = sum_j min(1, lambda W_ij) - c = 0` by Newton's method from
    `lambda = c`: `f` is concave and not above 0 there, so the steps rise to the root from the left, and reach it once the set
    of weights with `lambda W >= 1` stops to grow. A row with no more than `c` weights above 0 keeps all.
    """
    level = c.clamp(max=ALL)[..., None, None].expand(*w.shape[:-1], 1)
    if rule == "paper":
        return level
    budget = level
    for _ in range(64):
        full = level * w >= 1
        rest = w.masked_fill(full, 0).sum(-1, keepdim=True)
        better = ((budget - full.sum(-1, keepdim=True)) / rest).nan_to_num(ALL).clamp(max=ALL)
        better = torch.maximum(level, better)  # rounding may step back
        if torch.equal(better, level):
            break
        level = better
    return torch.where((w > 0).sum(-1, keepdim=True) <= budget, ALL, level)


def draw(q: torch.Tensor, sampler: str, numbers: torch.Generator) -> torch.Tensor:
    """A mask `[..., n, n]` that keeps each entry with its probability `q`.

    `bernoulli`: independent. `systematic`: one uniform `u` per row; entries of probability 1 are kept, and another one iff an
    integer lies in `(C_{j-1} - u, C_j - u]`, `C` the running sum of the other probabilities, here in float64.
    """
    if sampler == "bernoulli":
        return torch.rand(q.shape, generator=numbers, device=q.device, dtype=torch.float32) < q
    u = torch.rand((*q.shape[:-1], 1), generator=numbers, device=q.device, dtype=torch.float64)
    step = torch.floor(q.masked_fill(q >= 1, 0).cumsum(-1, dtype=torch.float64) - u)
    passed = torch.diff(step, dim=-1, prepend=torch.floor(-u)) >= 1
    return passed | (q >= 1)
