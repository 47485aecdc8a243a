"""The dense forward pass. It also gives the largest score of every 8 keys of a row, from which the mask is drawn."""

from __future__ import annotations

import triton
import triton.language as tl

#: Keys with one largest score.
RUN = tl.constexpr(8)


@triton.jit
def _add_keys(
    q, k_in, v_in, tops_out, start, keys, i, shift, scale, m, l, o, tops_stride,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, HIDE: tl.constexpr, CAUSAL: tl.constexpr, TOPS: tl.constexpr,
):
    """Adds a tile of keys to the running maximum, sum and output. ``HIDE``: some entries of the tile may be hidden."""
    d, e = tl.arange(0, D), tl.arange(0, E)
    j = start + tl.arange(0, KEYS)
    at = j.to(tl.int64)
    if HIDE:
        k = tl.load(k_in + at[None, :] * D + d[:, None], mask=(j < keys)[None, :], other=0.0)
        v = tl.load(v_in + at[:, None] * E + e[None, :], mask=(j < keys)[:, None], other=0.0)
    else:
        k = tl.load(k_in + at[None, :] * D + d[:, None])
        v = tl.load(v_in + at[:, None] * E + e[None, :])
    s = tl.dot(q, k)
    if HIDE:
        visible = (j < keys)[None, :]
        if CAUSAL:
            visible = visible & (j[None, :] <= i[:, None] + shift)
        s = tl.where(visible, s, float("-inf"))
    if TOPS:
        tops = tl.max(tl.reshape(s, [ROWS, KEYS // RUN, RUN]), 2)
        runs = start // RUN + tl.arange(0, KEYS // RUN)
        # Not below the score when it is rounded to bfloat16, which has 8 bits.
        above = tl.where(tops == float("-inf"), tops, tops + tl.abs(tops) * 0.00390625) * scale
        tl.store(tops_out + tl.arange(0, ROWS)[:, None].to(tl.int64) * tops_stride + runs[None, :], above.to(tl.bfloat16))
    # Not the maximum of `tops`: that one lies in other threads, and would have to be moved.
    new = tl.maximum(m, tl.max(s, 1) * scale)
    zero = tl.where(new == float("-inf"), 0.0, new) if HIDE else new
    p = tl.exp2(s * scale - zero[:, None])
    shrink = tl.exp2(m - zero)
    o = tl.dot(p.to(v.dtype), v, o * shrink[:, None])
    return new, l * shrink + tl.sum(p, 1), o


@triton.jit
def forward_kernel(
    q_in, k_in, v_in, o_out, lse_out, tops_out,
    first_tile, queries, keys, query_heads, group, scale, tops_stride,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, CAUSAL: tl.constexpr, TOPS: tl.constexpr,
):
    """A tile of ``ROWS`` rows. Scores and ``lse`` are in base 2: ``scale`` holds ``log2(e)``, and is positive."""
    row_tiles = tl.cdiv(queries, ROWS)
    # The longest rows first.
    place = tl.num_programs(0) - 1 - tl.program_id(0)
    tile = first_tile + place
    bh = tile // row_tiles
    first_row = tile % row_tiles * ROWS
    i = first_row + tl.arange(0, ROWS)
    own = i < queries
    shift = keys - queries
    head = ((bh // query_heads) * (query_heads // group) + (bh % query_heads) // group).to(tl.int64)
    k_in += head * keys * D
    v_in += head * keys * E
    tops_out += place.to(tl.int64) * ROWS * tops_stride
    d, e = tl.arange(0, D), tl.arange(0, E)
    base = bh.to(tl.int64) * queries + i
    q = tl.load(q_in + base[:, None] * D + d[None, :], mask=own[:, None], other=0.0)
    m = tl.full([ROWS], float("-inf"), tl.float32)
    l = tl.zeros([ROWS], tl.float32)
    o = tl.zeros([ROWS, E], tl.float32)
    # Keys that all rows see, in whole tiles; then those that some see.
    whole, end = keys, keys
    if CAUSAL:
        whole = tl.maximum(tl.minimum(first_row + shift + 1, keys), 0)
        end = tl.maximum(tl.minimum(first_row + ROWS + shift, keys), 0)
    whole = whole // KEYS * KEYS
    for start in range(0, whole, KEYS):
        m, l, o = _add_keys(q, k_in, v_in, tops_out, start, keys, i, shift, scale, m, l, o, tops_stride, D, E, ROWS, KEYS, False, CAUSAL, TOPS)
    for start in range(whole, end, KEYS):
        m, l, o = _add_keys(q, k_in, v_in, tops_out, start, keys, i, shift, scale, m, l, o, tops_stride, D, E, ROWS, KEYS, True, CAUSAL, TOPS)
    o = o / tl.where(l > 0, l, 1.0)[:, None]
    tl.store(o_out + base[:, None] * E + e[None, :], o.to(o_out.dtype.element_ty), mask=own[:, None])
    tl.store(lse_out + base, m + tl.log2(l), mask=own)
