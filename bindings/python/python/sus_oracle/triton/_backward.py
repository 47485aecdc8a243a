"""The sparse backward pass: by rows for ``dq``, and by keys, over the entries sorted by keys, for ``dk`` and ``dv``."""

from __future__ import annotations

import triton
import triton.language as tl

STEP = tl.constexpr(16)


@triton.jit
def row_kernel(
    q_in, k_in, v_in, g_in, lse_in, delta_in, kept_in, begin_in, key_out, row_out, w_out, ds_out, dq_out,
    queries, keys, query_heads, group, scale, log2e, least, most,
    D: tl.constexpr, E: tl.constexpr,
):
    """``dq`` of a row, and ``W~`` and ``dS`` of its entries, in the order in which they were kept."""
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(begin_in + row)
    count = (tl.load(begin_in + row + 1) - begin).to(tl.int32)
    bh = row // queries
    head = (bh // query_heads) * (query_heads // group) + (bh % query_heads) // group
    d, e, step = tl.arange(0, D), tl.arange(0, E), tl.arange(0, STEP)
    q = tl.load(q_in + row * D + d).to(tl.float32)
    g = tl.load(g_in + row * E + e).to(tl.float32)
    lse, delta = tl.load(lse_in + row), tl.load(delta_in + row)
    dq = tl.zeros([D], tl.float32)
    for first in range(0, count, STEP):
        there = first + step < count
        j = tl.load(kept_in + row * most + first + step, mask=there, other=0)
        key = head * keys + j
        k = tl.load(k_in + key[:, None] * D + d[None, :], mask=there[:, None], other=0.0).to(tl.float32)
        v = tl.load(v_in + key[:, None] * E + e[None, :], mask=there[:, None], other=0.0).to(tl.float32)
        # W / q with q = min(1, c W) is the larger of W and 1 / c.
        w = tl.maximum(tl.exp2(tl.sum(k * q[None, :], 1) * (scale * log2e) - lse), least)
        ds = tl.where(there, w * (tl.sum(v * g[None, :], 1) - delta) * scale, 0.0)
        dq += tl.sum(ds[:, None] * k, 0)
        place = begin + first + step
        tl.store(key_out + place, key.to(tl.int32), mask=there)
        tl.store(row_out + place, (row + tl.zeros([STEP], tl.int64)).to(tl.int32), mask=there)
        tl.store(w_out + place, w, mask=there)
        tl.store(ds_out + place, ds, mask=there)
    tl.store(dq_out + row * D + d, dq.to(dq_out.dtype.element_ty))


@triton.jit
def key_kernel(
    q_in, g_in, order_in, row_in, w_in, ds_in, begin_in, part_key_in, part_in, alone_in, dk_out, dv_out, dk_parts, dv_parts,
    PART: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
):
    """The sums of one part of a key's entries: the gradients themselves if there is no other part."""
    number = tl.program_id(0).to(tl.int64)
    key = tl.load(part_key_in + number)
    begin = tl.load(begin_in + key) + tl.load(part_in + number) * PART
    end = tl.minimum(tl.load(begin_in + key + 1), begin + PART)
    d, e, step = tl.arange(0, D), tl.arange(0, E), tl.arange(0, STEP)
    dk, dv = tl.zeros([D], tl.float32), tl.zeros([E], tl.float32)
    for first in range(begin, end, STEP):
        there = first + step < end
        entry = tl.load(order_in + first + step, mask=there, other=0)
        row = tl.load(row_in + entry, mask=there, other=0).to(tl.int64)
        w = tl.load(w_in + entry, mask=there, other=0.0)
        ds = tl.load(ds_in + entry, mask=there, other=0.0)
        q = tl.load(q_in + row[:, None] * D + d[None, :], mask=there[:, None], other=0.0).to(tl.float32)
        g = tl.load(g_in + row[:, None] * E + e[None, :], mask=there[:, None], other=0.0).to(tl.float32)
        dk += tl.sum(ds[:, None] * q, 0)
        dv += tl.sum(w[:, None] * g, 0)
    if tl.load(alone_in + number):
        tl.store(dk_out + key * D + d, dk.to(dk_out.dtype.element_ty))
        tl.store(dv_out + key * E + e, dv.to(dv_out.dtype.element_ty))
    else:
        tl.store(dk_parts + number * D + d, dk)
        tl.store(dv_parts + number * E + e, dv)


@triton.jit
def part_kernel(key_in, begin_in, dk_parts, dv_parts, dk_out, dv_out, D: tl.constexpr, E: tl.constexpr):
    """Adds up the parts of a key that has several, in their order."""
    key = tl.load(key_in + tl.program_id(0)).to(tl.int64)
    d, e = tl.arange(0, D), tl.arange(0, E)
    dk, dv = tl.zeros([D], tl.float32), tl.zeros([E], tl.float32)
    for number in range(tl.load(begin_in + key), tl.load(begin_in + key + 1)):
        dk += tl.load(dk_parts + number * D + d)
        dv += tl.load(dv_parts + number * E + e)
    tl.store(dk_out + key * D + d, dk.to(dk_out.dtype.element_ty))
    tl.store(dv_out + key * E + e, dv.to(dv_out.dtype.element_ty))
