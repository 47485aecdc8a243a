"""SUS attention on a GPU, in Triton: a dense forward pass, a mask drawn from its largest scores, and a sparse backward pass.

The mask is that of the layout ``arrival`` with the rule ``paper`` and the sampler ``bernoulli``. The kernels are short, made to be read
and copied; the oracle judges them. Sums are deterministic: no kernel adds atomically.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton

from .._core import InputError
from ._backward import key_kernel, part_kernel, row_kernel
from ._draw import keep_kernel, note_kernel
from ._forward import forward_kernel

__all__ = ["dense_forward", "sampled_forward", "sparse_backward", "sus_attention"]

#: Rows of a tile, and keys of a tile of the forward pass.
ROWS, KEYS = 128, 64
#: Entries of a key that one program adds up; a key with more is added up by several.
PART = 512
#: Memory for the largest scores of runs of 8 keys, in numbers: the rows of a forward pass are done in chunks that need no more.
MOST_TOPS = 1 << 30
LOG2E = math.log2(math.e)


def _tiles(q: torch.Tensor) -> int:
    return int(-(-q.shape[2] // ROWS) * q.shape[0] * q.shape[1])


def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, o: torch.Tensor, lse: torch.Tensor,
    tops: torch.Tensor | None, tiles: range, scale: float, causal: bool,
) -> None:
    features, (key_heads, keys, value_features) = q.shape[3], v.shape[1:]
    forward_kernel[(len(tiles),)](
        q, k, v, o, lse, o if tops is None else tops,
        tiles.start, q.shape[2], keys, q.shape[1], q.shape[1] // key_heads, scale * LOG2E, 0 if tops is None else tops.stride(0),
        D=features, E=value_features, ROWS=ROWS, KEYS=KEYS, CAUSAL=causal, TOPS=tops is not None,
        num_warps=8, num_stages=3,
    )


def dense_forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False, scale: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``o`` and ``lse``, in base 2, without a mask."""
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    o = torch.empty((*q.shape[:3], v.shape[3]), device=q.device, dtype=q.dtype)
    lse = torch.empty(q.shape[:3], device=q.device, dtype=torch.float32)
    if o.numel():
        _forward(q, k, v, o, lse, None, range(_tiles(q)), scale, causal)
    return o, lse


def sampled_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    c: float,
    causal: bool = False,
    scale: float | None = None,
    seed: int = 0,
    stream: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """``o``, ``lse`` in base 2 ``[B, Hq, Nq]``, the kept keys ``[B Hq Nq, most]`` in ascending order, their counts ``[B Hq Nq]``.

    ``q [B, Hq, Nq, D]``, ``k [B, Hk, Nk, D]``, ``v [B, Hk, Nk, E]``: contiguous, on a GPU, in bfloat16 or float16; ``D`` and ``E``
    are powers of 2 from 16 on, ``scale`` is positive. Memory is linear in the lengths.
    """
    queries, features = q.shape[2:]
    key_heads, keys = k.shape[1:3]
    group = q.shape[1] // key_heads
    scale = 1 / math.sqrt(features) if scale is None else scale
    rows = q.shape[0] * q.shape[1] * queries
    device = q.device
    o = torch.empty((*q.shape[:3], v.shape[3]), device=device, dtype=q.dtype)
    lse = torch.empty(q.shape[:3], device=device, dtype=torch.float32)
    # At most c are kept in expectation, with a variance of at most c: eight deviations and a few, and points of kept keys.
    most = math.ceil(c + 8 * math.sqrt(c) + 16)
    kept = torch.empty((rows, most), device=device, dtype=torch.int32)
    counts = torch.empty(rows, device=device, dtype=torch.int32)
    if not rows:
        return o, lse, kept, counts
    cells = max(triton.cdiv(keys, 64), 1)
    runs = 8 * cells
    chunk = max(MOST_TOPS // (runs * ROWS), 1)
    tiles = range(_tiles(q))
    in_chunk = min(chunk, len(tiles)) * ROWS
    tops = torch.empty((in_chunk, runs), device=device, dtype=torch.bfloat16)
    cell, least, state = (torch.empty((in_chunk, cells), device=device, dtype=torch.int32) for _ in range(3))
    all_noted = torch.empty((in_chunk, 2), device=device, dtype=torch.int32)
    room = [32 * math.ceil(c) + 64, min(8 * math.ceil(c) + 32, runs)]
    while True:
        capacity, high_room = room
        key, product = (torch.empty((in_chunk, capacity), device=device, dtype=torch.int32) for _ in range(2))
        high = torch.empty((in_chunk, 2, high_room), device=device, dtype=torch.int32)
        needed = torch.zeros(2, device=device, dtype=torch.int32)
        for first in range(0, len(tiles), chunk):
            part = tiles[first : first + chunk]
            used = len(part) * ROWS
            _forward(q, k, v, o, lse, tops, part, scale, causal)
            note_kernel[(used,)](
                lse, tops, key, product, cell, least, state, high, all_noted,
                part.start, queries, keys, c, seed, stream, runs, capacity, cells, high_room,
                ROWS=ROWS, CAUSAL=causal, num_warps=1, maxnreg=64,
            )
            keep_kernel[(used,)](
                q, k, lse, key, product, all_noted, kept, counts,
                part.start, queries, keys, q.shape[1], group, scale * LOG2E, c, capacity, most,
                D=features, ROWS=ROWS, MOST=triton.next_power_of_2(most), STEP=max(2048 // features, 16), num_warps=1, maxnreg=80,
            )
            needed = torch.maximum(needed, all_noted[:used].amax(0))
        # How many points a row notes depends on its weights: with too little room the mask is drawn again, with enough.
        enough = needed.tolist()
        if enough[0] <= capacity and enough[1] <= high_room:
            return o, lse, kept, counts
        room = [max(pair) for pair in zip(room, enough)]


def sparse_backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    g: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    *,
    c: float,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``dq, dk, dv`` from the kept entries; ``lse`` in base 2, as :func:`sampled_forward` gives it."""
    batch, query_heads, queries, features = q.shape
    key_heads, keys, value_features = v.shape[1:]
    scale = 1 / math.sqrt(features) if scale is None else scale
    rows, key_rows = batch * query_heads * queries, batch * key_heads * keys
    device = q.device
    delta = (g.float() * o.float()).sum(-1).contiguous()
    begin = torch.zeros(rows + 1, device=device, dtype=torch.int64)
    torch.cumsum(counts, 0, out=begin[1:])
    most_counted, entries = (int(x) for x in torch.stack([counts.max() if rows else begin[0], begin[-1]]).tolist())
    if most_counted > kept.shape[1]:
        raise RuntimeError(f"sus_attention: a row keeps, or might keep, more entries than the {kept.shape[1]} that there is room for")
    ints = torch.empty((2, entries), device=device, dtype=torch.int32)
    floats = torch.empty((2, entries), device=device, dtype=torch.float32)
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    if rows:
        row_kernel[(rows,)](
            q, k, v, g, lse, delta, kept, begin, ints[0], ints[1], floats[0], floats[1], dq,
            queries, keys, query_heads, query_heads // key_heads, scale, LOG2E, 1 / c, kept.shape[1],
            D=features, E=value_features, num_warps=1,
        )
    by_key, order = torch.sort(ints[0], stable=True)
    numbers = torch.arange(key_rows + 1, device=device, dtype=torch.int32)
    key_begin = torch.searchsorted(by_key, numbers)
    parts = (key_begin[1:] - key_begin[:-1] + PART - 1) // PART
    part_begin = torch.zeros(key_rows + 1, device=device, dtype=torch.int64)
    torch.cumsum(parts, 0, out=part_begin[1:])
    count = int(part_begin[-1])
    if count:
        part_key = torch.repeat_interleave(torch.arange(key_rows, device=device), parts, output_size=count)
        part = torch.arange(count, device=device) - part_begin[part_key]
        several = torch.nonzero(parts > 1).flatten()
        shape = (count if several.numel() else 1, features)
        dk_parts = torch.empty(shape, device=device, dtype=torch.float32)
        dv_parts = torch.empty((shape[0], value_features), device=device, dtype=torch.float32)
        key_kernel[(count,)](
            q, g, order, ints[1], floats[0], floats[1], key_begin, part_key, part, parts[part_key] == 1, dk, dv, dk_parts, dv_parts,
            PART=PART, D=features, E=value_features, num_warps=1,
        )
        if several.numel():
            part_kernel[(several.numel(),)](several, part_begin, dk_parts, dv_parts, dk, dv, D=features, E=value_features, num_warps=1)
    return dq, dk, dv


class _SusAttention(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        q, k, v = (x.contiguous() for x in (q, k, v))
        o, lse, kept, counts = sampled_forward(q, k, v, **options)
        ctx.save_for_backward(q, k, v, o, lse, kept, counts)
        ctx.options = options
        return o

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, o, lse, kept, counts = ctx.saved_tensors
        options = {name: ctx.options[name] for name in ("c", "scale") if name in ctx.options}
        return *sparse_backward(q, k, v, o, lse, g.contiguous(), kept, counts, **options), None


def sus_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """As :func:`sus_oracle.torch.sus_attention`, on a GPU; the options are those of :func:`sampled_forward`.

    Raises:
        InputError: A shape, type or option that the kernels do not have.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4:
            raise InputError(f"tensor '{name}': expected 4 axes, found shape {list(x.shape)}")
        if x.dtype not in (torch.bfloat16, torch.float16) or x.dtype != q.dtype:
            raise InputError(f"tensor '{name}': expected bfloat16 or float16 on a GPU, as 'q' is, found {x.dtype}")
        if x.shape[3] < 16 or x.shape[3] & (x.shape[3] - 1):
            raise InputError(f"tensor '{name}': expected a power of 2 from 16 on as the last axis, found shape {list(x.shape)}")
    (batch, query_heads, _, features), (_, key_heads, keys, _) = q.shape, k.shape
    if k.shape[0] != batch or k.shape[3] != features or key_heads == 0 or query_heads % key_heads:
        raise InputError(f"tensor 'k': expected [{batch}, a divisor of {query_heads}, Nk, {features}], found shape {list(k.shape)}")
    if v.shape[:3] != k.shape[:3]:
        raise InputError(f"tensor 'v': expected [{batch}, {key_heads}, {keys}, E], found shape {list(v.shape)}")
    if not 0 < options["c"] < math.inf:
        raise InputError(f"option 'c': expected a finite number above 0 on a GPU, found {options['c']}")
    if options.get("scale") is not None and not 0 < options["scale"] < math.inf:
        raise InputError(f"option 'scale': expected a finite number above 0 on a GPU, found {options['scale']}")
    o: torch.Tensor = _SusAttention.apply(q, k, v, options)
    return o
