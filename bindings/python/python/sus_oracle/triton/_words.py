"""The words of the layout ``arrival`` on a GPU, many at a time.

The definition is the chapter "Fewer random words" of the book; the names are the same.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

#: 2^32: words are whole numbers below it.
GRID = tl.constexpr(4294967296.0)
# 1 - U at the lower end of the middle and of the high strip: 2^(-6/1024) and 2^(-6/1024 - 6/64), rounded to float64.
MIDDLE_S = tl.constexpr(0.9959468271073058)
HIGH_S = tl.constexpr(0.9332856543296796)
#: -ln of the first.
MIDDLE_Y = tl.constexpr(0.00406140926)
#: A cell ends where the product of its words is below 1/64.
LAST_PRODUCT = tl.constexpr(1 << 26)


@triton.jit
def cell_block(seed, stream, bh, i, tag: tl.constexpr, cell, n):
    """The four words of block ``n`` of a cell, of each row ``i``."""
    counter = ((cell << 4) + n).to(tl.uint32) + tl.full((), tag * 1073741824, tl.uint32)
    return tl.philox(seed, tl.zeros_like(i) + counter, i, bh, stream)


@triton.jit
def key_words(seed, stream, bh, i, block):
    """The words of keys ``4 block`` to ``4 block + 3`` in the layout ``coord4``."""
    return tl.philox(seed, block.to(tl.uint32), i, bh, stream)


@triton.jit
def next_product(product, w, first, log_keys: tl.constexpr):
    """The product after the word ``w``, and the key within the cell that it names."""
    r = ((w & (0xFFFFFFFF << log_keys & 0xFFFFFFFF)) | (1 << (log_keys - 1))).to(tl.uint32)
    return tl.where(first, r, tl.umulhi(product, r)), (w & ((1 << log_keys) - 1)).to(tl.int32)


@triton.jit
def least_product(largest, s: tl.constexpr, log_keys: tl.constexpr):
    """A lower bound of the products of points with ``U <= largest``: ``2^32 ((1 - largest) / s)^T``, a thousandth of it less."""
    power = (1 << log_keys) * tl.log2(tl.maximum(1.0 - largest, 0.5) / s)
    return tl.maximum(tl.exp2(tl.minimum(power, 0.0) + 31.998).to(tl.uint32), LAST_PRODUCT)


@triton.jit
def uniform(word, strip):
    """``U`` of a point, in float32, to a relative error of ``12 2^-24``: ``word`` is the product of a cell's words in the low (0) and
    the middle strip (1), and the key's own word in the high one (2)."""
    rest = (0xFFFFFFFF - word).to(tl.float32)
    # -ln(P / 2^32), from the side on which it is exact.
    small = -libdevice.log1p(-((rest + 1.0) / GRID))
    fall = tl.where(word >= 0x80000000, small, -tl.log(word.to(tl.float32) / GRID))
    low = -libdevice.expm1(-fall / 1024.0)
    middle = -libdevice.expm1(-(MIDDLE_Y + fall / 64.0))
    high = (1.0 - HIGH_S) + HIGH_S * ((rest + 0.5) / GRID)
    return tl.where(strip == 0, low, tl.where(strip == 1, middle, high))
