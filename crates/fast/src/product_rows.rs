//! Dot products and sums of gathered rows.
//!
//! Gathered rows lie at random places, which no hardware prefetcher predicts: software prefetches them some rows ahead.
#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use super::simd::Real;
use prefetch_index::prefetch_index;
use pulp::{Simd, WithSimd};

/// Prefetch distance, in rows: about as many lines as a core has in flight, far fewer than a first-level cache holds.
const AHEAD: usize = 16;

/// Bytes of a line of a cache.
const LINE: usize = 64;

/// A kernel on rows, compiled for each usual length of them apart: then no loop over it is left.
pub(super) trait OnRows {
    /// The length.
    fn features(&self) -> usize;
    /// Runs; `F` is the length, or 0 where it is none of the usual ones.
    fn run<S: Simd, const F: usize>(self, simd: S);
}

/// The kernel for the length that its rows have.
pub(super) struct ByLength<K>(pub(super) K);

impl<K: OnRows> WithSimd for ByLength<K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.0.features() {
            64 => self.0.run::<S, 64>(simd),
            128 => self.0.run::<S, 128>(simd),
            _ => self.0.run::<S, 0>(simd),
        }
    }
}

/// A matrix of which rows are gathered.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) matrix: &'a [T],
    /// The length of a row.
    pub(super) features: usize,
}

impl<'a, T: Real> Rows<'a, T> {
    /// These rows, of which the compiler knows the length if `F` is not 0, see [`OnRows`].
    #[inline(always)]
    pub(super) fn known<const F: usize>(self) -> Self {
        assert!(F == 0 || F == self.features, "a length that was looked up");
        Rows { features: if F == 0 { self.features } else { F }, ..self }
    }

    /// Rows of this length of another matrix.
    #[inline(always)]
    pub(super) fn like(self, matrix: &'a [T]) -> Self {
        Rows { matrix, ..self }
    }

    /// Row `index`.
    #[inline(always)]
    pub(super) fn row(self, index: u32) -> &'a [T] {
        &self.matrix[index as usize * self.features..][..self.features]
    }

    /// The rows that `list[from..end]` names, each with its entry; rows [`AHEAD`] entries later are prefetched.
    #[inline(always)]
    pub(super) fn gather<N>(
        self,
        list: &'a [N],
        from: usize,
        end: usize,
        name: impl Fn(&N) -> u32,
    ) -> impl Iterator<Item = (&'a N, &'a [T])> {
        let ahead = &list[(from + AHEAD).min(list.len())..];
        list[from..end].iter().enumerate().map(move |(n, entry)| {
            if let Some(later) = ahead.get(n) {
                self.prefetch(name(later));
            }
            (entry, self.row(name(entry)))
        })
    }

    /// Prefetches a row; an index past the end is no error.
    #[inline(always)]
    pub(super) fn prefetch(self, index: u32) {
        prefetch(self.matrix, index as usize * self.features, self.features);
    }
}

/// Prefetches `count` elements from `first` on. Between gathered rows the hardware does not detect that other data are read in order.
#[inline(always)]
pub(super) fn prefetch<T>(data: &[T], first: usize, count: usize) {
    for n in (0..count).step_by(LINE / size_of::<T>()) {
        prefetch_index(data, first + n);
    }
}

/// `x . y`: the lanes of two vectors are summed apart, then together.
#[inline(always)]
pub(super) fn dot<S: Simd, T: Real>(simd: S, x: &[T], y: &[T]) -> T {
    let ((x, x_part), (y, y_part)) = (T::vectors::<S>(x), T::vectors::<S>(y));
    let mut sums = [T::splat(simd, T::zero()); 2];
    let ((x, x_odd), (y, y_odd)) = (x.as_chunks::<2>(), y.as_chunks::<2>());
    for (x, y) in x.iter().zip(y) {
        sums[0] = T::multiply_add(simd, x[0], y[0], sums[0]);
        sums[1] = T::multiply_add(simd, x[1], y[1], sums[1]);
    }
    for (&x, &y) in x_odd.iter().zip(y_odd) {
        sums[0] = T::multiply_add(simd, x, y, sums[0]);
    }
    if !x_part.is_empty() {
        let (x, y) = (T::load_part(simd, x_part), T::load_part(simd, y_part));
        sums[1] = T::multiply_add(simd, x, y, sums[1]);
    }
    T::sum(simd, T::plus(simd, sums[0], sums[1]))
}

/// Vectors of a row that are held in registers.
const HELD: usize = 8;

/// A row that is multiplied with many others: held in registers if its length is known at compile time and it fits.
pub(super) struct Held<'a, S: Simd, T: Real> {
    row: &'a [T],
    vectors: Option<[T::Vector<S>; HELD]>,
}

impl<'a, S: Simd, T: Real> Held<'a, S, T> {
    /// A row of `F` features, or of any number of them if that is 0.
    #[inline(always)]
    pub(super) fn new<const F: usize>(simd: S, row: &'a [T]) -> Self {
        let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
        let fits = F > 0 && F.is_multiple_of(2 * lanes) && F <= HELD * lanes;
        let vectors = (fits && S::REGISTER_COUNT >= 32).then(|| {
            let mut vectors = [T::splat(simd, T::zero()); HELD];
            for (to, &from) in vectors.iter_mut().zip(T::vectors::<S>(&row[..F]).0) {
                *to = from;
            }
            vectors
        });
        Held { row, vectors }
    }

    /// [`dot`] with another row.
    #[inline(always)]
    pub(super) fn dot(&self, simd: S, x: &[T]) -> T {
        let Some(held) = &self.vectors else { return dot(simd, self.row, x) };
        let mut sums = [T::splat(simd, T::zero()); 2];
        let pairs = T::vectors::<S>(x).0.as_chunks::<2>().0;
        for (held, x) in held.as_chunks::<2>().0.iter().zip(pairs) {
            sums[0] = T::multiply_add(simd, held[0], x[0], sums[0]);
            sums[1] = T::multiply_add(simd, held[1], x[1], sums[1]);
        }
        T::sum(simd, T::plus(simd, sums[0], sums[1]))
    }
}

/// `sum += sum_n factor_n row_n`, in the order of the terms; the terms are run over once for every eight vectors.
#[inline(always)]
pub(super) fn add_rows<'a, S: Simd, T: Real, I: Iterator<Item = (T, &'a [T])>>(
    simd: S,
    sum: &mut [T],
    terms: impl Fn() -> I,
) {
    let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
    let mut n = 0;
    while n + 8 * lanes <= sum.len() {
        add_vectors::<S, T, 8, I>(simd, &mut sum[n..n + 8 * lanes], n, &terms);
        n += 8 * lanes;
    }
    while n + 4 * lanes <= sum.len() {
        add_vectors::<S, T, 4, I>(simd, &mut sum[n..n + 4 * lanes], n, &terms);
        n += 4 * lanes;
    }
    while n + lanes <= sum.len() {
        add_vectors::<S, T, 1, I>(simd, &mut sum[n..n + lanes], n, &terms);
        n += lanes;
    }
    if n < sum.len() {
        let mut part = T::load_part(simd, &sum[n..]);
        for (factor, row) in terms() {
            let row = T::load_part(simd, &row[n..]);
            part = T::multiply_add(simd, T::splat(simd, factor), row, part);
        }
        T::store_part(simd, &mut sum[n..], part);
    }
}

/// `VECTORS` whole vectors of a sum, from column `n` of the rows on.
#[inline(always)]
fn add_vectors<'a, S: Simd, T: Real, const VECTORS: usize, I: Iterator<Item = (T, &'a [T])>>(
    simd: S,
    sum: &mut [T],
    n: usize,
    terms: impl Fn() -> I,
) {
    let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
    let (sum, _) = T::vectors_mut::<S>(sum);
    let mut sums = [T::splat(simd, T::zero()); VECTORS];
    for (to, &from) in sums.iter_mut().zip(&*sum) {
        *to = from;
    }
    for (factor, row) in terms() {
        let factor = T::splat(simd, factor);
        let (row, _) = T::vectors::<S>(&row[n..][..VECTORS * lanes]);
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum = T::multiply_add(simd, factor, x, *sum);
        }
    }
    for (to, from) in sum.iter_mut().zip(sums) {
        *to = from;
    }
}
