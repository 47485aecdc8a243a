"""The words of `sus-u/1`, layout coord4: Philox4x32-10 with counter (j >> 2, i, b Hq + h, stream), word j & 3."""

import numpy as np

MASK = np.uint64(0xFFFFFFFF)


def philox4x32_10(counter, key):
    """Four words for each counter; `counter` is four arrays, `key` two integers."""
    c = [np.asarray(x, np.uint64) for x in counter]
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    shift = np.uint64(32)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> shift) ^ c[1] ^ k0, b & MASK, (a >> shift) ^ c[3] ^ k1, a & MASK]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & MASK, (k1 + np.uint64(0xBB67AE85)) & MASK
    return np.stack(np.broadcast_arrays(*c), axis=-1)


def words(seed, stream, batch, heads, queries, keys):
    """One word for each weight, `[batch, heads, queries, keys]`."""
    j = np.arange((keys + 3) // 4, dtype=np.uint64)
    i = np.arange(queries, dtype=np.uint64)[:, None]
    bh = np.arange(batch * heads, dtype=np.uint64)[:, None, None]
    blocks = philox4x32_10((j, i, bh, np.uint64(stream)), (seed & 0xFFFFFFFF, seed >> 32))
    return blocks.reshape(batch, heads, queries, -1)[..., :keys]


if __name__ == "__main__":
    first = words(42, 0, 1, 4, 18, 7)
    assert [hex(x) for x in first[0, 0, 0, :4]] == ["0x9ceaf053", "0x77f5493b", "0x12bf50ad", "0x5742b3d7"]
    assert hex(first[0, 3, 17, 6]) == "0x5bd24d90"
    print("philox: the anchors agree")
