"""Causal attention with a dense forward pass and a backward pass that can be sampled, chunks of heads at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn import functional

from .estimator import Estimator
from .sampler import ALL, draw, multiplier


@dataclass
class Masking:
    """Which weights the backward pass keeps. `None` as `c` is the dense pass."""

    c: torch.Tensor | None = None  # [layers, heads], `inf` for all
    rule: str = "paper"
    sampler: str = "bernoulli"
    estimator: Estimator = Estimator()


@dataclass
class Attention:
    """The attention of a model: `masking` may change between a forward and a backward pass, and between backward passes.

    After a backward pass, `kept` has the number of kept weights per layer and head, `[layers, heads]`, and `expected` its mean.
    """

    layers: int
    heads: int
    numbers: torch.Generator
    chunk: int = 1 << 22  # elements of an array of weights that is in memory at a time
    masking: Masking = field(default_factory=Masking)
    count: bool = False
    kept: torch.Tensor | None = None
    expected: torch.Tensor | None = None

    def __call__(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        o: torch.Tensor = _Sampled.apply(q, k, v, layer, self)
        return o

    def begin_counts(self) -> None:
        self.kept, self.expected = (
            torch.zeros(self.layers, self.heads, dtype=torch.float64, device=self.numbers.device) for _ in range(2)
        )


def dense(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """PyTorch's own causal attention, forward and backward."""
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def backward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, o: torch.Tensor, g: torch.Tensor, keep: Keep
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`dq, dk, dv` of heads `[h, n, D]`: the formulas of SUS attention.

    `W~ = W / q` for a kept weight, else 0; `dS = W~ (g . v - delta)` with `delta = g . o`; `dq = dS k`, `dk = dS^T q`,
    `dv = W~^T g`. `keep` gives `W~` of `W`. With centred keys `dq = dS (k - mean k)`: the rows of the dense `dS` add up to 0.
    """
    n, scale = q.shape[-2], q.shape[-1] ** -0.5
    later = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    w = torch.softmax((scale * q @ k.mT).masked_fill_(later, -torch.inf), -1)
    w = keep(w, g)
    ds = g @ v.mT
    ds -= (g * o).sum(-1, keepdim=True)
    ds *= w
    return scale * ds @ (k - k.mean(-2, keepdim=True) if keep.centred else k), scale * ds.mT @ q, w.mT @ g


class Keep:
    """`W~` of `W` for heads of one layer: drawn, and counted."""

    def __init__(self, attention: Attention, layer: int, heads: torch.Tensor) -> None:
        self.attention, self.layer, self.heads = attention, layer, heads

    @property
    def centred(self) -> bool:
        return self.attention.masking.estimator.centred

    def __call__(self, w: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        masking = self.attention.masking
        if masking.c is None or bool(torch.isinf(masking.c[self.layer]).all()):
            self.note(w > 0, None)
            return w
        c, estimator = masking.c[self.layer][self.heads], masking.estimator
        base = estimator.base(w)
        rest = w if base is None else (w - base).tril_()
        level = estimator.level(w, rest, g, c) if estimator else multiplier(w, c, masking.rule)
        q = (level * rest.abs()).clamp_(max=1)
        kept = draw(q, masking.sampler, self.attention.numbers)
        self.note(kept, q)
        # A kept rest counts as rest / q = sign(rest) max(|rest|, 1 / lambda); where q is 0, nothing is kept.
        drawn = torch.maximum(rest.abs(), 1 / level).masked_fill_(~kept, 0)
        return drawn if base is None else (drawn.mul_(rest.sign()) + base).tril_()

    def note(self, kept: torch.Tensor, q: torch.Tensor | None) -> None:
        if not self.attention.count or self.attention.kept is None or self.attention.expected is None:
            return
        sums = kept.sum((-2, -1)).double()
        self.attention.kept[self.layer].index_add_(0, self.heads, sums)
        means = sums if q is None else q.sum((-2, -1), dtype=torch.float64)
        self.attention.expected[self.layer].index_add_(0, self.heads, means)


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, layer, attention):  # noqa: ANN001, ANN205
        with torch.no_grad():
            o = dense(layer, q, k, v)
        ctx.save_for_backward(q, k, v, o)
        ctx.layer, ctx.attention = layer, attention
        return o

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):  # noqa: ANN001, ANN205
        operands = [x.flatten(0, 1) for x in (*ctx.saved_tensors, g)]
        batch, count, n, _ = g.shape
        results = [torch.empty_like(x) for x in operands[:3]]
        at_once = max(1, ctx.attention.chunk // (n * n))
        heads = torch.arange(count, device=g.device).repeat(batch)
        for at in range(0, batch * count, at_once):
            part = slice(at, at + at_once)
            # In float32 whatever the inputs: 16-bit scores would be too coarse. Inside, the autocast of the training is off.
            with torch.autocast(g.device.type, enabled=False):
                found = backward(*(x[part].float() for x in operands), Keep(ctx.attention, ctx.layer, heads[part]))
            for whole, x in zip(results, found, strict=True):
                whole[part] = x
        return *(x.unflatten(0, (batch, count)) for x in results), None, None


__all__ = ["ALL", "Attention", "Masking", "backward", "dense"]
