"""The mask, drawn from the largest scores of runs of 8 keys: no product of all queries with all keys is computed again."""

from __future__ import annotations

import triton
import triton.language as tl

from ._forward import RUN
from ._words import HIGH_S, LAST_PRODUCT, MIDDLE_S, cell_block, key_words, least_product, next_product, uniform

#: A noted point is its key, and from this bit on its strip; beside it stands the product of words that ``U`` is made of.
STRIP = tl.constexpr(1 << 29)
#: What may be lost by rounding when `c W` of a run's largest score is compared: far above that of exp2 and of a score.
SLACK = tl.constexpr(1.0009765625)
#: Cells of the low and of the middle strip, side by side.
LOW_LANES = tl.constexpr(32)
LANES = tl.constexpr(64)


@triton.jit
def _append(first_out, second_out, first, second, there, count, room):
    """Appends the pairs that are ``there``; the count goes on where the room ends."""
    at = count + tl.cumsum(there.to(tl.int32), 0) - 1
    tl.store(first_out + at, first, mask=there & (at < room))
    tl.store(second_out + at, second.to(tl.int32, bitcast=True), mask=there & (at < room))
    return count + tl.sum(there.to(tl.int32), 0)


@triton.jit
def _four(a, b, c, d):
    """``[4 n]`` of four ``[n]``."""
    return tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), [4 * a.shape[0]])


@triton.jit
def _four_points(product, first, w0, w1, w2, w3, cell, log_keys: tl.constexpr):
    """The products and the keys of the next four points of each cell, ``[4 n]``, and the last products: products fall, so a cell that has
    ended with one point stays so."""
    p0, j0 = next_product(product, w0, first, log_keys)
    p1, j1 = next_product(p0, w1, False, log_keys)
    p2, j2 = next_product(p1, w2, False, log_keys)
    p3, j3 = next_product(p2, w3, False, log_keys)
    base = cell * (1 << log_keys)
    return _four(p0, p1, p2, p3), _four(base + j0, base + j1, base + j2, base + j3), p3


@triton.jit
def _largest(tops_in, lse, c, j, there):
    """A bound of ``c W`` of the keys in the runs of ``j``."""
    top = tl.load(tops_in + j // RUN, mask=there, other=float("-inf")).to(tl.float32)
    return tl.exp2(top - lse) * (c * SLACK)


@triton.jit
def _low_points(tops_in, key_out, product_out, lse, c, seed, stream, bh, i, end, capacity):
    """Notes the points of the low strip, 1024 keys a lane."""
    count = tl.zeros((), tl.int32)
    row = (tl.zeros([LOW_LANES], tl.int32) + i).to(tl.uint32)
    for first in range(0, tl.cdiv(end, 1024), LOW_LANES):
        cell = first + tl.arange(0, LOW_LANES)
        alive, product, n = cell * 1024 < end, tl.zeros([LOW_LANES], tl.uint32), 0
        while (tl.max(alive.to(tl.int32), 0) > 0) & (n < 16):
            w0, w1, w2, w3 = cell_block(seed, stream, bh, row, 2, cell, n)
            points, j, product = _four_points(product, n == 0, w0, w1, w2, w3, cell, 10)
            there = _four(alive, alive, alive, alive) & (points >= LAST_PRODUCT)
            largest = _largest(tops_in, lse, c, j, there & (j < end))
            note = there & (largest > 0) & (points >= least_product(largest, 1.0, 10))
            count = _append(key_out, product_out, j, points, note, count, capacity)
            alive = alive & (product >= LAST_PRODUCT)
            n += 1
    return count


@triton.jit
def _list_cells(tops_in, cell_out, product_out, high_out, lse, c, end, high_room):
    """Lists the cells of 64 keys in which a weight may reach the middle strip, and those in which one may reach the high strip."""
    cells, high = tl.zeros((), tl.int32), tl.zeros((), tl.int32)
    for first in range(0, tl.cdiv(end, 64), LANES):
        cell = first + tl.arange(0, LANES)
        run = cell[:, None] * (64 // RUN) + tl.arange(0, 64 // RUN)[None, :]
        top = tl.max(tl.load(tops_in + run, mask=run * RUN < end, other=float("-inf")).to(tl.float32), 1)
        largest = tl.exp2(top - lse) * (c * SLACK)
        cells = _append(cell_out, product_out, cell, least_product(largest, MIDDLE_S, 6), largest > 1.0 - MIDDLE_S, cells, 1 << 30)
        there = largest > 1.0 - HIGH_S
        at = high + tl.cumsum(there.to(tl.int32), 0) - 1
        tl.store(high_out + at, cell, mask=there & (at < high_room))
        high += tl.sum(there.to(tl.int32), 0)
    return cells, high


@triton.jit
def _middle_points(
    tops_in, key_out, product_out, cell_in, least_in, state_in, lse, c, seed, stream, bh, i, end, count, cells, capacity,
):
    """Notes the points of the middle strip in the listed cells: four words of each, then four more of those that go on."""
    row = (tl.zeros([LANES], tl.int32) + i).to(tl.uint32)
    n = 0
    while (cells > 0) & (n < 16):
        go_on = tl.zeros((), tl.int32)
        for first in range(0, cells, LANES):
            at = first + tl.arange(0, LANES)
            alive = at < cells
            cell = tl.load(cell_in + at, mask=alive, other=0)
            least = tl.load(least_in + at, mask=alive, other=0).to(tl.uint32, bitcast=True)
            product = tl.load(state_in + at, mask=alive & (n > 0), other=0).to(tl.uint32, bitcast=True)
            w0, w1, w2, w3 = cell_block(seed, stream, bh, row, 1, cell, n)
            points, j, product = _four_points(product, n == 0, w0, w1, w2, w3, cell, 6)
            there = _four(alive, alive, alive, alive) & (points >= _four(least, least, least, least))
            largest = _largest(tops_in, lse, c, j, there & (j < end))
            note = there & (largest > 1.0 - MIDDLE_S) & (points >= least_product(largest, MIDDLE_S, 6))
            count = _append(key_out, product_out, j + STRIP, points, note, count, capacity)
            alive = alive & (product >= least)
            # The list shrinks in place: nothing is written behind what was read.
            tl.debug_barrier()
            place = go_on + tl.cumsum(alive.to(tl.int32), 0) - 1
            tl.store(cell_in + place, cell, mask=alive)
            tl.store(least_in + place, least.to(tl.int32, bitcast=True), mask=alive)
            tl.store(state_in + place, product.to(tl.int32, bitcast=True), mask=alive)
            go_on += tl.sum(alive.to(tl.int32), 0)
            tl.debug_barrier()
        cells = go_on
        n += 1
    return count


@triton.jit
def _list_runs(tops_in, high_in, run_out, lse, c, end, high, high_room):
    """Lists the runs of the listed cells in which a weight may reach the high strip."""
    runs, lane = tl.zeros((), tl.int32), tl.arange(0, LANES)
    for first in range(0, high, LANES // (64 // RUN)):
        number = first + lane // (64 // RUN)
        run = tl.load(high_in + number, mask=number < high, other=0) * (64 // RUN) + lane % (64 // RUN)
        there = (number < high) & (run * RUN < end)
        there = there & (_largest(tops_in, lse, c, run * RUN, there) > 1.0 - HIGH_S)
        at = runs + tl.cumsum(there.to(tl.int32), 0) - 1
        tl.store(run_out + at, run, mask=there & (at < high_room))
        runs += tl.sum(there.to(tl.int32), 0)
    return runs


@triton.jit
def _high_points(tops_in, key_out, product_out, run_in, lse, c, seed, stream, bh, i, end, count, runs, capacity):
    """Notes keys of the listed runs whose own word may be small enough: a lane has the four keys of one block of words."""
    row, lane = (tl.zeros([LANES], tl.int32) + i).to(tl.uint32), tl.arange(0, LANES)
    for first in range(0, runs, LANES // (RUN // 4)):
        number = first + lane // (RUN // 4)
        run = tl.load(run_in + number, mask=number < runs, other=0)
        block = run * (RUN // 4) + lane % (RUN // 4)
        w0, w1, w2, w3 = key_words(seed, stream, bh, row, block)
        limit = _largest(tops_in, lse, c, run * RUN, number < runs)
        w, j = _four(w0, w1, w2, w3), _four(4 * block, 4 * block + 1, 4 * block + 2, 4 * block + 3)
        note = (j < end) & (uniform(w, 2) <= _four(limit, limit, limit, limit))
        count = _append(key_out, product_out, j + 2 * STRIP, w, note, count, capacity)
    return count


@triton.jit
def _row(first_tile, queries, ROWS: tl.constexpr):
    """The head and the query of this program; there may be no such query."""
    row_tiles = tl.cdiv(queries, ROWS)
    tile = first_tile + tl.program_id(0) // ROWS
    return tile // row_tiles, tile % row_tiles * ROWS + tl.program_id(0) % ROWS


@triton.jit
def note_kernel(
    lse_in, tops_in, key_out, product_out, cell_out, least_out, state_out, high_out, needed_out,
    first_tile, queries, keys, c, seed, stream, runs, capacity, cells_room, high_room,
    ROWS: tl.constexpr, CAUSAL: tl.constexpr,
):
    """Notes the points of a row that are below the largest ``c W`` of their run."""
    place = tl.program_id(0).to(tl.int64)
    bh, i = _row(first_tile, queries, ROWS)
    if i < queries:
        tops_in += place * runs
        key_out += place * capacity
        product_out += place * capacity
        cell_out += place * cells_room
        least_out += place * cells_room
        state_out += place * cells_room
        high_out += 2 * place * high_room
        lse = tl.load(lse_in + bh.to(tl.int64) * queries + i)
        end = keys
        if CAUSAL:
            end = tl.maximum(tl.minimum(i + 1 + keys - queries, keys), 0)
        noted = _low_points(tops_in, key_out, product_out, lse, c, seed, stream, bh, i, end, capacity)
        cells, high = _list_cells(tops_in, cell_out, least_out, high_out, lse, c, end, high_room)
        # Other threads of this program wrote the lists.
        tl.debug_barrier()
        noted = _middle_points(
            tops_in, key_out, product_out, cell_out, least_out, state_out, lse, c, seed, stream, bh, i, end, noted, cells, capacity
        )
        run_out = high_out + high_room
        listed = _list_runs(tops_in, high_out, run_out, lse, c, end, tl.minimum(high, high_room), high_room)
        tl.debug_barrier()
        noted = _high_points(
            tops_in, key_out, product_out, run_out, lse, c, seed, stream, bh, i, end, noted, tl.minimum(listed, high_room), capacity
        )
        tl.store(needed_out + 2 * place, noted)
        tl.store(needed_out + 2 * place + 1, tl.maximum(high, listed))
    else:
        tl.store(needed_out + 2 * place, 0)
        tl.store(needed_out + 2 * place + 1, 0)


@triton.jit
def keep_kernel(
    q_in, k_in, lse_in, key_in, product_in, needed_in, kept_out, count_out,
    first_tile, queries, keys, query_heads, group, scale, c, capacity, most,
    D: tl.constexpr, ROWS: tl.constexpr, MOST: tl.constexpr, STEP: tl.constexpr,
):
    """The kept keys of a row, in ascending order: those of the noted points that are below their own ``c W``."""
    place = tl.program_id(0).to(tl.int64)
    bh, i = _row(first_tile, queries, ROWS)
    if i < queries:
        head = ((bh // query_heads) * (query_heads // group) + (bh % query_heads) // group).to(tl.int64)
        base = bh.to(tl.int64) * queries + i
        k_in += head * keys * D
        kept_out += base * most
        key_in += place * capacity
        product_in += place * capacity
        lse = tl.load(lse_in + base)
        noted = tl.minimum(tl.load(needed_in + 2 * place), capacity)
        d, step = tl.arange(0, D), tl.arange(0, STEP)
        q = tl.load(q_in + base * D + d).to(tl.float32) * scale
        count = tl.zeros((), tl.int32)
        for first in range(0, noted, STEP):
            there = first + step < noted
            key = tl.load(key_in + first + step, mask=there, other=0)
            word = tl.load(product_in + first + step, mask=there, other=0).to(tl.uint32, bitcast=True)
            j = key & (STRIP - 1)
            k = tl.load(k_in + j.to(tl.int64)[:, None] * D + d[None, :], mask=there[:, None], other=0.0).to(tl.float32)
            limit = tl.exp2(tl.sum(k * q[None, :], 1) - lse) * c
            keep = there & ((limit >= 1.0) | (uniform(word, key // STRIP) < limit))
            at = count + tl.cumsum(keep.to(tl.int32), 0) - 1
            tl.store(kept_out + at, j, mask=keep & (at < most))
            count += tl.sum(keep.to(tl.int32), 0)
        # A key with several points below its `c W` is in the list several times.
        tl.debug_barrier()
        places = tl.arange(0, MOST)
        listed = tl.load(kept_out + places, mask=places < tl.minimum(count, most), other=2147483647)
        tl.debug_barrier()
        listed = tl.sort(listed)
        tl.store(kept_out + places, listed, mask=places < most)
        tl.debug_barrier()
        before = tl.load(kept_out + places - 1, mask=(places > 0) & (places < most), other=-1)
        tl.debug_barrier()
        once = (listed != before) & (listed < keys)
        at = tl.cumsum(once.to(tl.int32), 0) - 1
        tl.store(kept_out + at, listed, mask=once)
        # A count above `most` says that there was too little room.
        tl.store(count_out + base, tl.where(count > most, count, tl.sum(once.to(tl.int32), 0)))
