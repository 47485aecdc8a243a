"""SUS attention for PyTorch: a dense forward pass, and a backward pass that samples the weights."""

from __future__ import annotations

from typing import Any

import torch

from . import _core
from ._arrays import Array, array_of, from_bytes, to_bytes
from ._attention import sampled_settings
from ._core import InputError

__all__ = ["sus_attention"]


class _SusAttention(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, settings: str) -> torch.Tensor:
        arrays = {name: array_of(name, x) for name, x in (("q", q), ("k", k), ("v", v))}
        shape = (*q.shape[:-1], v.shape[-1])
        arrays["do"] = Array("F32", torch.zeros(shape, dtype=torch.float32).numpy())
        passed = _core.SampledForward(to_bytes(arrays, None), settings, q.dtype != torch.float64)
        ctx.passed = passed
        ctx.dtypes = (q.dtype, k.dtype, v.dtype)
        o = from_bytes(passed.results())[0]["o"].data
        return torch.from_numpy(o).to(q.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, do: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        arrays, _ = from_bytes(ctx.passed.backward(to_bytes({"do": array_of("do", do)}, None)))
        results = [torch.from_numpy(arrays[name].data).to(dtype) for name, dtype in zip(("dq", "dk", "dv"), ctx.dtypes)]
        return results[0], results[1], results[2], None


def sus_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    c: float,
    causal: bool = False,
    scale: float | None = None,
    seed: int = 0,
    stream: int = 0,
    rule: str = "paper",
    sampler: str = "bernoulli",
    words: str | None = None,
    layout: str = "bhsd",
) -> torch.Tensor:
    """Attention whose backward pass keeps a weight ``W`` only with probability ``min(1, c W)``, and is unbiased.

    The forward pass is dense and exact. The mask is the one that ``sus_oracle.grad(..., c=c, seed=seed, stream=stream)`` draws:
    the words of ``sus-u/1``. Take another ``stream`` for each layer, and another ``seed`` for each step.

    On a CPU the passes are the fast kernels of the library, on a GPU those of ``sus_oracle.triton``.

    Args:
        q: ``[B, Hq, Nq, D]`` of any strides. On a CPU in float64, float32, bfloat16 or float16; float64 is computed in
            float64, all others in float32. On a GPU in bfloat16 or float16, where ``D`` and ``E`` are powers of 2 from 16 on.
        k: ``[B, Hk, Nk, D]``; ``Hk`` divides ``Hq``.
        v: ``[B, Hk, Nk, E]``.
        c: The expected number of kept weights of a row at most; ``math.inf`` keeps all.
        causal: A query sees no key after its diagonal, which is aligned bottom-right.
        scale: The factor of ``q . k``; ``1 / sqrt(D)`` by default.
        seed: From 0 to ``2**64 - 1``.
        stream: From 0 to ``2**31 - 1``.
        rule: ``paper`` or ``calibrated``; on a GPU ``paper``.
        sampler: ``bernoulli`` or ``systematic``; on a GPU ``bernoulli``.
        words: How words belong to weights, the setting ``layout`` of a file: ``coord4`` by default on a CPU, and ``arrival`` on a GPU,
            which has no other. The same words give the same mask on both, but for borderline entries.
        layout: ``bhsd`` or ``bshd``, of the inputs and of the result.

    Second derivatives are not available.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.device.type not in ("cpu", "cuda") or x.device != q.device:
            where = "a CPU or a GPU" if name == "q" else str(q.device)
            raise NotImplementedError(f"sus_attention: expected '{name}' on {where}, found it on {x.device}")
        if x.ndim != 4:
            raise InputError(f"tensor '{name}': expected 4 axes, found shape {list(x.shape)}")
        if not x.dtype.is_floating_point:
            raise InputError(f"tensor '{name}': expected a floating-point type, found {x.dtype}")
    if layout not in ("bhsd", "bshd"):
        raise InputError(f"option 'layout': expected bhsd or bshd, found {layout!r}")
    if layout == "bshd":
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if q.device.type == "cuda":
        for option, found, only in (("rule", rule, "paper"), ("sampler", sampler, "bernoulli"), ("words", words or "arrival", "arrival")):
            if found != only:
                raise NotImplementedError(f"sus_attention on a GPU: expected {option} {only!r}, found {found!r}")
        from .triton import sus_attention as on_gpu

        o: torch.Tensor = on_gpu(q, k, v, c=c, causal=causal, scale=scale, seed=seed, stream=stream)
    else:
        o = _SusAttention.apply(q, k, v, sampled_settings(c, causal, scale, seed, stream, rule, sampler, words or "coord4"))
    return o.transpose(1, 2) if layout == "bshd" else o
