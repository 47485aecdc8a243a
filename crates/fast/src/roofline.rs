//! The roofline of the machine, for the benchmark: its multiply-add rate and its gather rate, measured with this crate's vectors.

use super::product_rows::{ByLength, OnRows, Rows, add_rows};
use super::simd::{Dispatch, Real};
use aligned_vec::avec;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::array::from_fn;
use std::hint::black_box;
use std::time::Instant;

/// Multiply-adds per second of all threads, in operations (two each): twelve independent sums in registers.
///
/// # Examples
/// ```no_run
/// use sus_fast::{Dispatch, roofline::multiply_add_rate};
/// // Half of the numbers fit into a register when each is twice as long.
/// let rate = [multiply_add_rate::<f32>(Dispatch::Native), multiply_add_rate::<f64>(Dispatch::Native)];
/// println!("{:.0} and {:.0} Gflop/s", rate[0] / 1e9, rate[1] / 1e9);
/// assert!(rate[0] > rate[1]);
/// ```
#[must_use]
pub fn multiply_add_rate<T: Real>(dispatch: Dispatch) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let start = Instant::now();
        let operations: Vec<usize> = rayon::broadcast(|_| {
            dispatch.run(MultiplyAdds { factor: black_box(T::from_f64(0.5)) })
        });
        let total: usize = operations.iter().sum();
        best = best.max(2.0 * total as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// Multiply-adds on registers.
struct MultiplyAdds<T> {
    factor: T,
}

impl<T: Real> WithSimd for MultiplyAdds<T> {
    /// The number of multiply-adds.
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        const STEPS: usize = 1 << 21;
        const SUMS: usize = 12;
        let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
        let factor = T::splat(simd, self.factor);
        let mut sums: [T::Vector<S>; SUMS] = from_fn(|n| T::splat(simd, T::from_f64(n as f64)));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = T::multiply_add(simd, *sum, factor, factor);
            }
        }
        for sum in sums {
            black_box(T::sum(simd, sum));
        }
        STEPS * SUMS * lanes
    }
}

/// Bytes per second at which rows of four matrices `[n][features]` can be gathered and summed, in the order that `rows` gives:
/// lists of `per_sum` rows, each list one sum, the lists shared out among all threads.
///
/// # Panics
/// If a matrix has another size, or a row is outside of it.
#[must_use]
pub fn gather_rate<T: Real>(
    dispatch: Dispatch,
    matrices: [&[T]; 4],
    features: usize,
    rows: &[u32],
    per_sum: usize,
) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..3 {
        let start = Instant::now();
        for matrix in matrices {
            rows.par_chunks(per_sum * 64).for_each(|rows| {
                let matrix = Rows { matrix, features };
                dispatch.run(ByLength(Gather { matrix, rows, per_sum }));
            });
        }
        let bytes = 4 * rows.len() * features * size_of::<T>();
        best = best.max(bytes as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// Sums of gathered rows.
struct Gather<'a, T> {
    matrix: Rows<'a, T>,
    rows: &'a [u32],
    per_sum: usize,
}

impl<T: Real> OnRows for Gather<'_, T> {
    fn features(&self) -> usize {
        self.matrix.features
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn run<S: Simd, const F: usize>(self, simd: S) {
        let Gather { matrix, rows, per_sum } = self;
        let matrix = matrix.known::<F>();
        let mut sum = avec![T::zero(); matrix.features];
        for from in (0..rows.len()).step_by(per_sum) {
            let end = rows.len().min(from + per_sum);
            sum.fill(T::zero());
            add_rows(simd, &mut sum, || {
                matrix.gather(rows, from, end, |&row| row).map(|(_, row)| (T::one(), row))
            });
            black_box(&mut sum);
        }
    }
}
