//! Products of small matrices: `c = b a` and `c += b a`, with the columns of `a` and `c` in vector lanes.
//!
//! `a` has its rows in memory order and is read by whole vectors; each element of `b` is spread over a vector. `b` may be
//! read [along its rows](Left::Rows) or [along its columns](Left::Columns), so no operand of attention has to be transposed
//! but keys and values for the scores. A block of six rows and four vectors of `c` stays in registers (two vectors where
//! the machine has 16 registers) while it runs over the whole depth, so every element of `c` is one sum over `k` ascending.
#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use super::lanes::Real;
use pulp::Simd;
use std::array::from_fn;

/// The matrix whose elements are spread over vectors.
#[derive(Clone, Copy)]
pub(super) enum Left<'a, T> {
    /// Element `(r, k)` is `data[r stride + k]`.
    Rows(&'a [T], usize),
    /// Element `(r, k)` is `data[k stride + r]`.
    Columns(&'a [T], usize),
}

/// The matrix whose rows are read as vectors: element `(k, n)` is `data[k stride + n]`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a, T> {
    pub(super) data: &'a [T],
    pub(super) stride: usize,
}

/// Whether the product replaces what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Replace,
    Add,
}

/// Rows of a block of `c` that is held in registers.
const BLOCK: usize = 6;

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

struct Product<'a, S, T> {
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
        let mut r = 0;
        while r + BLOCK <= rows {
            self.block::<VECTORS, BLOCK>(r, n, lanes, &mut c[r * c_stride..], c_stride);
            r += BLOCK;
        }
        while r < rows {
            self.block::<VECTORS, 1>(r, n, lanes, &mut c[r * c_stride..], c_stride);
            r += 1;
        }
    }

    /// `ROWS` rows from `r` on and `VECTORS` vectors from column `n` on; `c` begins at row `r`.
    #[inline(always)]
    fn block<const VECTORS: usize, const ROWS: usize>(
        &self,
        r: usize,
        n: usize,
        lanes: usize,
        c: &mut [T],
        c_stride: usize,
    ) {
        let Product { simd, depth, .. } = *self;
        let sums = match self.left {
            Left::Rows(data, stride) => {
                let rows: [&[T]; ROWS] = from_fn(|at| &data[(r + at) * stride..][..depth]);
                self.sums::<VECTORS, ROWS>(n, lanes, |k| from_fn(|at| rows[at][k]))
            }
            Left::Columns(data, stride) => self.sums::<VECTORS, ROWS>(n, lanes, |k| {
                let row = &data[k * stride + r..][..ROWS];
                from_fn(|at| row[at])
            }),
        };
        for (at, sums) in sums.into_iter().enumerate() {
            let c = &mut c[at * c_stride + n..][..VECTORS * lanes];
            let (whole, part) = T::vectors_mut::<S>(c);
            if VECTORS == 1 && whole.is_empty() {
                let sum = match self.store {
                    Store::Replace => sums[0],
                    Store::Add => T::plus(simd, T::load_part(simd, part), sums[0]),
                };
                T::store_part(simd, part, sum);
            } else {
                for (c, sum) in whole.iter_mut().zip(sums) {
                    *c = if self.store == Store::Add { T::plus(simd, *c, sum) } else { sum };
                }
            }
        }
    }

    /// The sums of a block, `left(k)` being column `k` of its part of the left matrix.
    #[inline(always)]
    fn sums<const VECTORS: usize, const ROWS: usize>(
        &self,
        n: usize,
        lanes: usize,
        left: impl Fn(usize) -> [T; ROWS],
    ) -> [[T::Vector<S>; VECTORS]; ROWS] {
        let simd = self.simd;
        let mut sums = [[T::splat(simd, T::zero()); VECTORS]; ROWS];
        let rows = self.right.data.chunks_exact(self.right.stride).take(self.depth);
        for (k, row) in rows.enumerate() {
            let (whole, part) = T::vectors::<S>(&row[n..][..VECTORS * lanes]);
            let right: [T::Vector<S>; VECTORS] = if VECTORS == 1 && whole.is_empty() {
                [T::load_part(simd, part); VECTORS]
            } else {
                from_fn(|at| whole[at])
            };
            for (sums, x) in sums.iter_mut().zip(left(k)) {
                let x = T::splat(simd, x);
                for (sum, y) in sums.iter_mut().zip(right) {
                    *sum = T::multiply_add(simd, x, y, *sum);
                }
            }
        }
        sums
    }
}
