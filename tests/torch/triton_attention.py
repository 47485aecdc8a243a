"""Attention in Triton, forward and backward, by blocks; products in float32, tf32 or 16 bits. A kernel to be judged, not a fast one."""

import torch
import triton
import triton.language as tl


@triton.jit
def load(base, rows, n, d, D: tl.constexpr):
    return tl.load(base + rows[:, None] * D + d[None, :], mask=rows[:, None] < n, other=0.0)


@triton.jit
def weights(q, k, scale, i, j, nq, nk, CAUSAL: tl.constexpr, PRECISION: tl.constexpr):
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    seen = (i[:, None] < nq) & (j[None, :] < nk)
    if CAUSAL:
        seen = seen & (j[None, :] <= i[:, None])
    return tl.where(seen, s, float("-inf"))


@triton.jit
def forward(q, k, v, o, lse, scale, nq, nk, GROUP: tl.constexpr, CAUSAL: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr):
    h, d = tl.program_id(1), tl.arange(0, D)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    rows = load(q + h * nq * D, i, nq, d, D)
    m = tl.full([BLOCK], float("-inf"), tl.float32)
    total, acc = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK, D], tl.float32)
    for first in range(0, nk, BLOCK):
        j = first + tl.arange(0, BLOCK)
        s = weights(rows, load(k + h // GROUP * nk * D, j, nk, d, D), scale, i, j, nq, nk, CAUSAL, PRECISION)
        new = tl.maximum(m, tl.max(s, 1))
        at = tl.where(new == float("-inf"), 0.0, new)
        p, factor = tl.exp(s - at[:, None]), tl.exp(m - at)
        values = load(v + h // GROUP * nk * D, j, nk, d, D)
        acc = acc * factor[:, None] + tl.dot(p.to(values.dtype), values, input_precision=PRECISION)
        total, m = total * factor + tl.sum(p, 1), new
    out = acc / total[:, None]
    tl.store(o + h * nq * D + i[:, None] * D + d[None, :], out.to(o.dtype.element_ty), mask=i[:, None] < nq)
    tl.store(lse + h * nq + i, m + tl.log(total), mask=i < nq)


@triton.jit
def backward_q(q, k, v, do, lse, delta, dq, scale, nq, nk, GROUP: tl.constexpr, CAUSAL: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr):
    h, d = tl.program_id(1), tl.arange(0, D)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    rows, g = load(q + h * nq * D, i, nq, d, D), load(do + h * nq * D, i, nq, d, D)
    row_lse = tl.load(lse + h * nq + i, mask=i < nq, other=0.0)
    row_delta = tl.load(delta + h * nq + i, mask=i < nq, other=0.0)
    acc = tl.zeros([BLOCK, D], tl.float32)
    for first in range(0, nk, BLOCK):
        j = first + tl.arange(0, BLOCK)
        keys, values = load(k + h // GROUP * nk * D, j, nk, d, D), load(v + h // GROUP * nk * D, j, nk, d, D)
        p = tl.exp(weights(rows, keys, scale, i, j, nq, nk, CAUSAL, PRECISION) - row_lse[:, None])
        ds = p * (tl.dot(g, tl.trans(values), input_precision=PRECISION) - row_delta[:, None])
        acc += tl.dot(ds.to(keys.dtype), keys, input_precision=PRECISION)
    tl.store(dq + h * nq * D + i[:, None] * D + d[None, :], (acc * scale).to(dq.dtype.element_ty), mask=i[:, None] < nq)


@triton.jit
def backward_kv(q, k, v, do, lse, delta, dk, dv, scale, nq, nk, GROUP: tl.constexpr, CAUSAL: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr):
    head, d = tl.program_id(1), tl.arange(0, D)
    j = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keys, values = load(k + head * nk * D, j, nk, d, D), load(v + head * nk * D, j, nk, d, D)
    of_k, of_v = tl.zeros([BLOCK, D], tl.float32), tl.zeros([BLOCK, D], tl.float32)
    for h in range(head * GROUP, (head + 1) * GROUP):
        for first in range(0, nq, BLOCK):
            i = first + tl.arange(0, BLOCK)
            rows, g = load(q + h * nq * D, i, nq, d, D), load(do + h * nq * D, i, nq, d, D)
            row_lse = tl.load(lse + h * nq + i, mask=i < nq, other=0.0)
            row_delta = tl.load(delta + h * nq + i, mask=i < nq, other=0.0)
            p = tl.exp(weights(rows, keys, scale, i, j, nq, nk, CAUSAL, PRECISION) - row_lse[:, None])
            ds = p * (tl.dot(g, tl.trans(values), input_precision=PRECISION) - row_delta[:, None])
            of_v += tl.dot(tl.trans(p.to(g.dtype)), g, input_precision=PRECISION)
            of_k += tl.dot(tl.trans(ds.to(rows.dtype)), rows, input_precision=PRECISION)
    at = head * nk * D + j[:, None] * D + d[None, :]
    tl.store(dk + at, (of_k * scale).to(dk.dtype.element_ty), mask=j[:, None] < nk)
    tl.store(dv + at, of_v.to(dv.dtype.element_ty), mask=j[:, None] < nk)


def attention(q, k, v, do, causal, precision):
    """`o`, `lse`, `dq`, `dk`, `dv` of contiguous tensors `[1, heads, positions, features]`; features are a power of two."""
    heads, nq, features = q.shape[1:]
    key_heads, nk = k.shape[1:3]
    o, lse = torch.empty_like(q), torch.empty(1, heads, nq, device=q.device)
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    scale = features**-0.5
    shape = {"GROUP": heads // key_heads, "CAUSAL": causal, "D": features, "BLOCK": 32, "PRECISION": precision}
    of_rows, of_keys = (triton.cdiv(nq, 32), heads), (triton.cdiv(nk, 32), key_heads)
    forward[of_rows](q, k, v, o, lse, scale, nq, nk, **shape)
    delta = (o.float() * do.float()).sum(-1)
    backward_q[of_rows](q, k, v, do, lse, delta, dq, scale, nq, nk, **shape)
    backward_kv[of_keys](q, k, v, do, lse, delta, dk, dv, scale, nq, nk, **shape)
    return {"o": o, "lse": lse, "dq": dq, "dk": dk, "dv": dv}
