//! The sums of the statistics over features and entries, in vectors: every lane is a sum of its own, in the order of the plain loop.
#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use super::simd::PANEL;
use pulp::{Arch, Simd, WithSimd};

/// `sum_d x_d y_d` of two vectors `x`, each with the rows `y` of a panel of its own, and `sum_d (x_d y_d)^2` of the first.
pub(super) fn linear_sums(x: [&[f64]; 2], panels: [&[f64]; 2]) -> [[f64; PANEL]; 3] {
    let mut sums = [[0.0; PANEL]; 3];
    Arch::new().dispatch(LinearSums { x, panels, sums: &mut sums });
    sums
}

struct LinearSums<'a> {
    x: [&'a [f64]; 2],
    panels: [&'a [f64]; 2],
    sums: &'a mut [[f64; PANEL]; 3],
}

impl WithSimd for LinearSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let LinearSums { x: [a, b], panels: [of_a, of_b], sums } = self;
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        for first in (0..PANEL).step_by(2 * lanes) {
            let mut local = [[simd.splat_f64s(0.0); 2]; 3];
            let rows = of_a.chunks_exact(PANEL).zip(of_b.chunks_exact(PANEL));
            for ((&a, &b), (of_a, of_b)) in a.iter().zip(b).zip(rows) {
                let (a, b) = (simd.splat_f64s(a), simd.splat_f64s(b));
                let (of_a, _) = S::as_simd_f64s(&of_a[first..first + 2 * lanes]);
                let (of_b, _) = S::as_simd_f64s(&of_b[first..first + 2 * lanes]);
                for n in 0..2 {
                    let product = simd.mul_f64s(a, of_a[n]);
                    local[0][n] = simd.add_f64s(local[0][n], product);
                    local[1][n] = simd.add_f64s(local[1][n], simd.mul_f64s(b, of_b[n]));
                    local[2][n] = simd.add_f64s(local[2][n], simd.mul_f64s(product, product));
                }
            }
            for (sums, local) in sums.iter_mut().zip(&local) {
                let (sums, _) = S::as_mut_simd_f64s(&mut sums[first..first + 2 * lanes]);
                sums.copy_from_slice(local);
            }
        }
    }
}

/// A term of sums over features, `factor (x_d by_d)`.
pub(super) struct WeightedRow<'a> {
    pub(super) factor: f64,
    pub(super) x: &'a [f64],
    pub(super) by: &'a [f64],
}

impl WeightedRow<'_> {
    /// Adds it to each sum.
    pub(super) fn add_to(self, sums: &mut [f64]) {
        Arch::new().dispatch(AddWeighted { row: self, sums });
    }
}

struct AddWeighted<'a> {
    row: WeightedRow<'a>,
    sums: &'a mut [f64],
}

impl WithSimd for AddWeighted<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let WeightedRow { factor, x, by } = self.row;
        let (sums, sums_rest) = S::as_mut_simd_f64s(self.sums);
        let ((x, x_rest), (by, by_rest)) = (S::as_simd_f64s(x), S::as_simd_f64s(by));
        let factors = simd.splat_f64s(factor);
        for ((sum, &x), &by) in sums.iter_mut().zip(x).zip(by) {
            *sum = simd.add_f64s(*sum, simd.mul_f64s(factors, simd.mul_f64s(x, by)));
        }
        for ((sum, x), by) in sums_rest.iter_mut().zip(x_rest).zip(by_rest) {
            *sum += factor * (x * by);
        }
    }
}

/// Adds `square x_d^2` to each sum.
pub(super) fn add_squares(square: f64, x: &[f64], sums: &mut [f64]) {
    Arch::new().dispatch(AddSquares { square, x, sums });
}

struct AddSquares<'a> {
    square: f64,
    x: &'a [f64],
    sums: &'a mut [f64],
}

impl WithSimd for AddSquares<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (sums, sums_rest) = S::as_mut_simd_f64s(self.sums);
        let (x, x_rest) = S::as_simd_f64s(self.x);
        let square = simd.splat_f64s(self.square);
        for (sum, &x) in sums.iter_mut().zip(x) {
            *sum = simd.add_f64s(*sum, simd.mul_f64s(simd.mul_f64s(square, x), x));
        }
        for (sum, x) in sums_rest.iter_mut().zip(x_rest) {
            *sum += self.square * x * x;
        }
    }
}

/// Adds the least and the most of `value x_d` for values between two numbers, and the largest magnitude, one after the other.
pub(super) fn add_intervals(values: &[[f64; 2]], x: &[&[f64]], sums: [&mut [f64]; 3]) {
    Arch::new().dispatch(AddIntervals { values, x, sums });
}

struct AddIntervals<'a> {
    values: &'a [[f64; 2]],
    x: &'a [&'a [f64]],
    sums: [&'a mut [f64]; 3],
}

impl WithSimd for AddIntervals<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddIntervals { values, x, sums: [least, most, abs] } = self;
        let (least, least_rest) = S::as_mut_simd_f64s(least);
        let (most, most_rest) = S::as_mut_simd_f64s(most);
        let (abs, abs_rest) = S::as_mut_simd_f64s(abs);
        for (&[from, to], x) in values.iter().zip(x) {
            let ((x, x_rest), [a, b]) =
                (S::as_simd_f64s(x), [from, to].map(|x| simd.splat_f64s(x)));
            let sums = least.iter_mut().zip(most.iter_mut()).zip(abs.iter_mut());
            for (((least, most), abs), &x) in sums.zip(x) {
                let (y, z) = (simd.mul_f64s(a, x), simd.mul_f64s(b, x));
                *least = simd.add_f64s(*least, simd.min_f64s(y, z));
                *most = simd.add_f64s(*most, simd.max_f64s(y, z));
                let magnitude = simd.max_f64s(simd.abs_f64s(y), simd.abs_f64s(z));
                *abs = simd.add_f64s(*abs, magnitude);
            }
            let sums = least_rest.iter_mut().zip(most_rest.iter_mut()).zip(abs_rest.iter_mut());
            for (((least, most), abs), x) in sums.zip(x_rest) {
                let (y, z) = (from * x, to * x);
                *least += y.min(z);
                *most += y.max(z);
                *abs += y.abs().max(z.abs());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::PackedRows;
    use super::*;

    /// Numbers of mixed sign and size.
    fn wave(n: usize, at: f64) -> Vec<f64> {
        let one = |n: usize| libm::sin(at + (n * n) as f64) * libm::exp2((n % 7) as f64);
        (0..n).map(one).collect()
    }

    #[test]
    fn sums_over_features_have_the_bits_of_plain_loops() {
        for (rows, width) in [(1, 1), (16, 3), (37, 64)] {
            let (a, b) = (wave(width, 0.0), wave(width, 1.0));
            let panels = [2.0, 3.0].map(|at| wave(rows * width, at));
            let packed = panels.clone().map(|rows| PackedRows::new(&rows, width));
            for j in 0..rows {
                let [of_a, of_b] = [0, 1].map(|n| packed[n].panel(j / PANEL));
                let found = linear_sums([&a, &b], [of_a, of_b]).map(|sums| sums[j % PANEL]);
                let [of_a, of_b] = [0, 1].map(|n| &panels[n][j * width..][..width]);
                let mut plain = [0.0_f64; 3];
                for d in 0..width {
                    plain[0] += a[d] * of_a[d];
                    plain[1] += b[d] * of_b[d];
                    plain[2] += (a[d] * of_a[d]) * (a[d] * of_a[d]);
                }
                assert_eq!(found.map(f64::to_bits), plain.map(f64::to_bits), "{rows} x {width}");
            }
        }
    }

    #[test]
    fn sums_over_entries_have_the_bits_of_plain_loops() {
        for width in [1, 7, 8, 67] {
            let (x, by) = (wave(width, 0.0), wave(width, 1.0));
            let mut found = [wave(width, 2.0), wave(width, 3.0)];
            let mut plain = found.clone();
            WeightedRow { factor: 0.3, x: &x, by: &by }.add_to(&mut found[0]);
            add_squares(0.7, &x, &mut found[1]);
            let values = [[-0.4, 0.3], [0.5, 0.6], [-2.0, -1.0]];
            let rows: [&[f64]; 3] = [&x, &by, &x];
            let mut sums = [wave(width, 4.0), wave(width, 5.0), wave(width, 6.0)];
            let mut one_by_one = sums.clone();
            let [least, most, abs] = &mut sums;
            add_intervals(&values, &rows, [least, most, abs]);
            for ([from, to], x) in values.iter().zip(rows) {
                for (d, x) in x.iter().enumerate() {
                    let (y, z) = (from * x, to * x);
                    one_by_one[0][d] += y.min(z);
                    one_by_one[1][d] += y.max(z);
                    one_by_one[2][d] += y.abs().max(z.abs());
                }
            }
            assert_eq!(sums, one_by_one, "{width}");
            for d in 0..width {
                plain[0][d] += 0.3 * (x[d] * by[d]);
                plain[1][d] += 0.7 * x[d] * x[d];
            }
            assert_eq!(found, plain, "{width}");
        }
    }
}
