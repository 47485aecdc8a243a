//! Products of small matrices: `c = b a` and `c += b a`, with the columns of `a` and `c` in vector lanes.
//!
//! `a` has its rows in memory order and is read by whole vectors; each element of `b` is spread over a vector. A block of six
//! rows and four vectors of `c` stays in registers (two vectors where the machine has 16 registers) while it runs over the
//! whole depth, so every element of `c` is one sum over `k` ascending.
//!
//! With 16 registers the block takes 12, its operands three, and a compiler that cannot see how the addresses go on
//! keeps part of the sums in memory. So the six elements of `b` always lie at places that differ by constants: side by side
//! in [packed](pack_left) rows and in the columns of a tile, a row of a tile apart in its rows.
#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use super::simd::Real;
use pulp::Simd;
use std::array::from_fn;

/// Rows of a block of `c` that is held in registers.
pub(super) const BLOCK: usize = 6;

/// The matrix whose elements are spread over vectors. Of tiles, what lies beyond the rows of the product, up to a whole block
/// of them, is read and not used.
#[derive(Clone, Copy)]
pub(super) enum Left<'a, T: Real> {
    /// [Packed](pack_left): element `(r, k)` is `[r / 6 depth + k][r mod 6]`.
    Packed(&'a [[T; BLOCK]]),
    /// A tile: element `(r, k)` is `[r][k]`.
    Rows(&'a [T::TileRow]),
    /// A tile, transposed: element `(r, k)` is `[k][r]`.
    Columns(&'a [T::TileRow]),
}

/// The matrix whose rows are read as vectors: element `(k, n)` is `data[k stride + n]`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a, T> {
    pub(super) data: &'a [T],
    pub(super) stride: usize,
}

/// Whether the product replaces the destination or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Replace,
    Add,
}

/// Cuts the rows `[n][depth]` into blocks of six, the last one filled up with zeros, and transposes each:
/// `[ceil(n / 6)][depth][6]`. Memory is kept.
pub(super) fn pack_left<T: Real>(rows: &[T], depth: usize, packed: &mut Vec<[T; BLOCK]>) {
    packed.clear();
    packed.resize((rows.len() / depth).div_ceil(BLOCK) * depth, [T::zero(); BLOCK]);
    for (packed, rows) in packed.chunks_exact_mut(depth).zip(rows.chunks(BLOCK * depth)) {
        for (at, row) in rows.chunks_exact(depth).enumerate() {
            for (packed, &x) in packed.iter_mut().zip(row) {
                packed[at] = x;
            }
        }
    }
}

/// `c[r][n] (+)= sum_{k < depth} left(r, k) right(k, n)` for `r < rows`, `n < columns`; row `r` of `c` begins at
/// `r c_stride`.
#[inline(always)]
pub(super) fn multiply<S: Simd, T: Real>(
    simd: S,
    store: Store,
    (left, rows): (Left<'_, T>, usize),
    (right, columns): (Right<'_, T>, usize),
    depth: usize,
    (c, c_stride): (&mut [T], usize),
) {
    let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
    let product = Product { simd, store, left, right, depth };
    let mut n = 0;
    if S::REGISTER_COUNT >= 32 {
        while n + 4 * lanes <= columns {
            product.panel::<4>(rows, n, lanes, c, c_stride);
            n += 4 * lanes;
        }
    }
    while n + 2 * lanes <= columns {
        product.panel::<2>(rows, n, lanes, c, c_stride);
        n += 2 * lanes;
    }
    while n < columns {
        let lanes = lanes.min(columns - n);
        product.panel::<1>(rows, n, lanes, c, c_stride);
        n += lanes;
    }
}

struct Product<'a, S, T: Real> {
    simd: S,
    store: Store,
    left: Left<'a, T>,
    right: Right<'a, T>,
    depth: usize,
}

impl<S: Simd, T: Real> Product<'_, S, T> {
    /// All rows of `VECTORS` vectors from column `n` on; one vector may have fewer lanes than the machine's.
    #[inline(always)]
    fn panel<const VECTORS: usize>(
        &self,
        rows: usize,
        n: usize,
        lanes: usize,
        c: &mut [T],
        c_stride: usize,
    ) {
        let depth = self.depth;
        for r in (0..rows).step_by(BLOCK) {
            let sums = match self.left {
                Left::Packed(packed) => {
                    let left = &packed[r / BLOCK * depth..][..depth];
                    self.sums::<VECTORS>(n, lanes, depth, |k, at| left[k][at])
                }
                Left::Rows(tile) => {
                    let left = &tile[r..][..BLOCK];
                    assert!(depth <= left[0].as_ref().len(), "within a tile");
                    self.sums::<VECTORS>(n, lanes, depth, |k, at| left[at].as_ref()[k])
                }
                Left::Columns(tile) => {
                    let left = &tile[..depth];
                    self.sums::<VECTORS>(n, lanes, depth, |k, at| left[k].as_ref()[r + at])
                }
            };
            let c = &mut c[r * c_stride..];
            self.store::<VECTORS>(&sums[..BLOCK.min(rows - r)], n, lanes, c, c_stride);
        }
    }

    /// The rows `sums` of `VECTORS` vectors into `c`, from column `n` on.
    #[inline(always)]
    fn store<const VECTORS: usize>(
        &self,
        sums: &[[T::Vector<S>; VECTORS]],
        n: usize,
        lanes: usize,
        c: &mut [T],
        c_stride: usize,
    ) {
        let simd = self.simd;
        for (at, sums) in sums.iter().enumerate() {
            let c = &mut c[at * c_stride + n..][..VECTORS * lanes];
            let (whole, part) = T::vectors_mut::<S>(c);
            if VECTORS == 1 && whole.is_empty() {
                let sum = match self.store {
                    Store::Replace => sums[0],
                    Store::Add => T::plus(simd, T::load_part(simd, part), sums[0]),
                };
                T::store_part(simd, part, sum);
            } else {
                for (c, &sum) in whole.iter_mut().zip(sums) {
                    *c = if self.store == Store::Add { T::plus(simd, *c, sum) } else { sum };
                }
            }
        }
    }

    /// The sums of a block, `left(k, at)` being its part of the left matrix.
    #[inline(always)]
    fn sums<const VECTORS: usize>(
        &self,
        n: usize,
        lanes: usize,
        depth: usize,
        left: impl Fn(usize, usize) -> T,
    ) -> [[T::Vector<S>; VECTORS]; BLOCK] {
        let simd = self.simd;
        let mut sums = [[T::splat(simd, T::zero()); VECTORS]; BLOCK];
        let Right { data, stride } = self.right;
        let data = &data[n..];
        let mut from = 0; // by steps: with `k stride` in its place, sums are kept in memory
        for k in 0..depth {
            let row = &data[from..][..VECTORS * lanes];
            from += stride;
            let (whole, part) = T::vectors::<S>(row);
            let right: [T::Vector<S>; VECTORS] = if VECTORS == 1 && whole.is_empty() {
                [T::load_part(simd, part); VECTORS]
            } else {
                from_fn(|at| whole[at])
            };
            for (at, sums) in sums.iter_mut().enumerate() {
                let x = T::splat(simd, left(k, at));
                for (sum, y) in sums.iter_mut().zip(right) {
                    *sum = T::multiply_add(simd, x, y, *sum);
                }
            }
        }
        sums
    }
}
