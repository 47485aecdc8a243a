"""The words of the layout `arrival`, as docs/arrival.md defines them: those of points of a process, drawn for 1024, 64 or 1 key at a time."""

import numpy as np
from philox import philox4x32_10
from philox import words as coord4

# Bits of a cell's keys, tag, and 1 - U at the lower end.
LOW, MIDDLE, HIGH = (10, 2, 1.0), (6, 1, 0.9959468271073058), (0, 0, 0.9332856543296796)


def word(r, strip):
    """The word of a point whose uniforms have the product `r`."""
    bits, _, start = strip
    for _ in range(bits):
        r = np.sqrt(r)
    return np.floor((1 - r * start) * 2.0**32).astype(np.int64)


def lower(x, strip, seed, stream):
    """Lowers the words `x`, `[batch * heads, queries, keys]`, to those of a strip's points."""
    bits, tag, _ = strip
    rows, queries, keys = x.shape
    bh, i, cell = np.indices((rows, queries, -(-keys >> bits)), dtype=np.int64)
    product = np.full(cell.shape, 1 << 32, np.uint64)
    for n in range(16):
        counter = (tag << 30 | cell << 4 | n, i, bh, np.uint64(stream))
        for w in np.moveaxis(philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32)), -1, 0):
            key = w & np.uint64((1 << bits) - 1)
            product = product * (w - key + np.uint64(1 << bits >> 1)) >> np.uint64(32)
            at = product >= 1 << 26  # where the cell has not ended
            j = (cell << bits) + key.astype(np.int64)
            inside = at & (j < keys)
            place = bh[inside], i[inside], j[inside]
            x[place] = np.minimum(x[place], word(product[inside] / 2.0**32, strip))
            product[~at] = 0
        if not product.any():
            return


def words(seed, stream, batch, heads, queries, keys):
    """The word of each weight, `[batch, heads, queries, keys]`."""
    own = coord4(seed, stream, batch, heads, queries, keys)
    x = word((own.astype(np.float64) + 0.5) / 2.0**32, HIGH).reshape(batch * heads, queries, keys)
    lower(x, LOW, seed, stream)
    lower(x, MIDDLE, seed, stream)
    return x.reshape(own.shape)


if __name__ == "__main__":
    row = words(42, 0, 1, 4, 18, 128)[0, 3, 17]
    assert [f"{x:08x}" for x in row[[0, 11, 15, 23, 88]]] == ["a8bfa70c", "152f41df", "06759714", "07b8001c", "065515f1"]
    assert np.flatnonzero(row < 2**27).tolist() == [15, 23, 88]
    row = words(2**40 + 7, 5, 1, 12, 301, 3000)[0, 11, 300]
    assert [f"{x:08x}" for x in row[[0, 1024, 1181, 2999]]] == ["58c34d16", "f0c1be9c", "0011b532", "f8a65801"]
    print("arrival: the anchors agree")
