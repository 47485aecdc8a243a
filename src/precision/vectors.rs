//! The sums of the bounds in vectors. Every lane is a sum of its own, added up in the order of the plain loop with one rounding
//! for each operation: no bit depends on the machine or on the width of its vectors.
#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use super::entry::{Products, Term, partial_bound};
use pulp::{Arch, Simd, WithSimd};

/// Keys of a panel, side by side.
pub(super) const PANEL: usize = 16;

/// `|x|`; a zero may keep its sign, which no sum shows.
#[inline(always)]
fn magnitude<S: Simd>(simd: S, x: S::f64s) -> S::f64s {
    simd.max_f64s(x, simd.sub_f64s(simd.splat_f64s(0.0), x))
}

/// Rows `[n][width]` in panels `[n / PANEL][width][PANEL]`, the last one filled up with zeros.
#[derive(Debug, Clone)]
pub(super) struct Panels {
    width: usize,
    data: Vec<f64>,
}

impl Panels {
    pub(super) fn new(rows: &[f64], width: usize) -> Self {
        let mut data = vec![0.0; (rows.len() / width).div_ceil(PANEL) * width * PANEL];
        for (panel, rows) in data.chunks_mut(width * PANEL).zip(rows.chunks(width * PANEL)) {
            for (n, row) in rows.chunks_exact(width).enumerate() {
                row.iter().enumerate().for_each(|(d, &x)| panel[d * PANEL + n] = x);
            }
        }
        Panels { width, data }
    }

    /// The [products](Products::of) of a vector and each row of a panel.
    pub(super) fn products(&self, x: &[f64], panel: usize) -> [Products; PANEL] {
        let size = self.width * PANEL;
        let panel = &self.data[panel * size..][..size];
        let mut sums = [[0.0; PANEL]; 5];
        Arch::new().dispatch(PanelProducts { x, panel, sums: &mut sums });
        let [sum, abs, squares, least, most] = sums;
        std::array::from_fn(|n| Products {
            sum: sum[n],
            abs: abs[n],
            partial: partial_bound(abs[n], most[n] - least[n], squares[n]),
        })
    }
}

struct PanelProducts<'a> {
    x: &'a [f64],
    panel: &'a [f64],
    sums: &'a mut [[f64; PANEL]; 5],
}

impl WithSimd for PanelProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        for first in (0..PANEL).step_by(2 * lanes) {
            // Two vectors at a time, whose chains of additions overlap.
            let mut sums = [[simd.splat_f64s(0.0); 2]; 5];
            for (&x, row) in self.x.iter().zip(self.panel.chunks_exact(PANEL)) {
                let x = simd.splat_f64s(x);
                let (row, _) = S::as_simd_f64s(&row[first..first + 2 * lanes]);
                for (at, &y) in row.iter().enumerate() {
                    let product = simd.mul_f64s(x, y);
                    let sum = simd.add_f64s(sums[0][at], product);
                    sums[0][at] = sum;
                    sums[1][at] = simd.add_f64s(sums[1][at], magnitude(simd, product));
                    sums[2][at] = simd.add_f64s(sums[2][at], simd.mul_f64s(product, product));
                    sums[3][at] = simd.min_f64s(sums[3][at], sum);
                    sums[4][at] = simd.max_f64s(sums[4][at], sum);
                }
            }
            for (out, sums) in self.sums.iter_mut().zip(&sums) {
                let (out, _) = S::as_mut_simd_f64s(&mut out[first..first + 2 * lanes]);
                out.copy_from_slice(sums);
            }
        }
    }
}

/// Running sums of the terms of some elements: the sum, the sums of absolute values and of squares, and the range of the sum.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    width: usize,
    /// The five, one after the other.
    data: Vec<f64>,
}

impl Running {
    pub(super) fn new(width: usize) -> Self {
        Running { width, data: vec![0.0; 5 * width] }
    }

    /// Adds `value x`.
    pub(super) fn add(&mut self, value: f64, x: &[f64]) {
        Arch::new().dispatch(AddTerm { value, x: &x[..self.width], sums: &mut self.data });
    }

    /// The sum of element `d`.
    pub(super) fn sum(&self, d: usize) -> f64 {
        self.data[d]
    }

    /// The sum of absolute values.
    pub(super) fn abs(&self, d: usize) -> f64 {
        self.data[self.width + d]
    }

    /// The bound of the partial sums.
    pub(super) fn partial(&self, d: usize) -> f64 {
        let [abs, squares, least, most] = [1, 2, 3, 4].map(|of| self.data[of * self.width + d]);
        partial_bound(abs, most - least, squares)
    }
}

struct AddTerm<'a> {
    value: f64,
    x: &'a [f64],
    sums: &'a mut [f64],
}

impl WithSimd for AddTerm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.x.len();
        let (sum, rest) = self.sums.split_at_mut(width);
        let (abs, rest) = rest.split_at_mut(width);
        let (squares, rest) = rest.split_at_mut(width);
        let (least, most) = rest.split_at_mut(width);
        let value = simd.splat_f64s(self.value);
        let (x, x_rest) = S::as_simd_f64s(self.x);
        let (sum, sum_rest) = S::as_mut_simd_f64s(sum);
        let (abs, abs_rest) = S::as_mut_simd_f64s(abs);
        let (squares, squares_rest) = S::as_mut_simd_f64s(squares);
        let (least, least_rest) = S::as_mut_simd_f64s(least);
        let (most, most_rest) = S::as_mut_simd_f64s(most);
        for (at, &x) in x.iter().enumerate() {
            let product = simd.mul_f64s(value, x);
            let total = simd.add_f64s(sum[at], product);
            sum[at] = total;
            abs[at] = simd.add_f64s(abs[at], magnitude(simd, product));
            squares[at] = simd.add_f64s(squares[at], simd.mul_f64s(product, product));
            least[at] = simd.min_f64s(least[at], total);
            most[at] = simd.max_f64s(most[at], total);
        }
        for (at, &x) in x_rest.iter().enumerate() {
            let product = self.value * x;
            sum_rest[at] += product;
            abs_rest[at] += product.abs();
            squares_rest[at] += product * product;
            least_rest[at] = f64::min(least_rest[at], sum_rest[at]);
            most_rest[at] = f64::max(most_rest[at], sum_rest[at]);
        }
    }
}

/// Adds the error of one term of a sum: `worst |x|`, `(tau x)^2` and `certain |x|`, to each element.
pub(super) fn add_errors(term: &Term, x: &[f64], sums: [&mut [f64]; 3]) {
    Arch::new().dispatch(AddErrors { term, x, sums });
}

struct AddErrors<'a> {
    term: &'a Term,
    x: &'a [f64],
    sums: [&'a mut [f64]; 3],
}

impl WithSimd for AddErrors<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddErrors { term, x, sums: [worst, squares, certain] } = self;
        let (x, x_rest) = S::as_simd_f64s(x);
        let (worst, worst_rest) = S::as_mut_simd_f64s(worst);
        let by = simd.splat_f64s(term.worst);
        for (sum, &x) in worst.iter_mut().zip(x) {
            *sum = simd.add_f64s(*sum, simd.mul_f64s(by, magnitude(simd, x)));
        }
        for (sum, x) in worst_rest.iter_mut().zip(x_rest) {
            *sum += term.worst * x.abs();
        }
        if term.tau > 0.0 {
            let (squares, squares_rest) = S::as_mut_simd_f64s(squares);
            let by = simd.splat_f64s(term.tau);
            for (sum, &x) in squares.iter_mut().zip(x) {
                let error = simd.mul_f64s(by, x);
                *sum = simd.add_f64s(*sum, simd.mul_f64s(error, error));
            }
            for (sum, x) in squares_rest.iter_mut().zip(x_rest) {
                *sum += (term.tau * x) * (term.tau * x);
            }
        }
        if term.certain > 0.0 {
            let (certain, certain_rest) = S::as_mut_simd_f64s(certain);
            let by = simd.splat_f64s(term.certain);
            for (sum, &x) in certain.iter_mut().zip(x) {
                *sum = simd.add_f64s(*sum, simd.mul_f64s(by, magnitude(simd, x)));
            }
            for (sum, x) in certain_rest.iter_mut().zip(x_rest) {
                *sum += term.certain * x.abs();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of mixed sign and size.
    fn wave(n: usize) -> Vec<f64> {
        (0..n).map(|n| libm::sin((n * n) as f64) * libm::exp2((n % 7) as f64)).collect()
    }

    #[test]
    fn a_panel_has_the_bits_of_the_plain_products() {
        for (rows, width) in [(1, 1), (16, 3), (37, 64)] {
            let (k, x) = (wave(rows * width), wave(width));
            let panels = Panels::new(&k, width);
            for (j, k) in k.chunks_exact(width).enumerate() {
                let (found, plain) =
                    (panels.products(&x, j / PANEL)[j % PANEL], Products::of(&x, k));
                let bits = |p: Products| [p.sum, p.abs, p.partial].map(f64::to_bits);
                assert_eq!(bits(found), bits(plain), "row {j} of {rows} x {width}");
            }
        }
    }

    #[test]
    fn running_sums_have_the_bits_of_a_plain_loop() {
        for width in [1, 7, 8, 67] {
            let mut running = Running::new(width);
            let mut plain = vec![[0.0_f64; 5]; width];
            let term = Term { worst: 0.3, tau: 0.2, certain: 0.1 };
            let (mut sums, mut errors) = (vec![vec![0.0; width]; 3], vec![[0.0; 3]; width]);
            for (n, x) in wave(9 * width).chunks_exact(width).enumerate() {
                let value = libm::cos(n as f64);
                running.add(value, x);
                let [worst, squares, certain] = &mut sums[..] else { panic!("three") };
                add_errors(&term, x, [worst, squares, certain]);
                for ((plain, errors), x) in plain.iter_mut().zip(&mut errors).zip(x) {
                    let product = value * x;
                    plain[0] += product;
                    plain[1] += product.abs();
                    plain[2] += product * product;
                    plain[3] = plain[3].min(plain[0]);
                    plain[4] = plain[4].max(plain[0]);
                    errors[0] += term.worst * x.abs();
                    errors[1] += (term.tau * x) * (term.tau * x);
                    errors[2] += term.certain * x.abs();
                }
            }
            for (d, [sum, abs, squares, least, most]) in plain.into_iter().enumerate() {
                let partial = partial_bound(abs, most - least, squares);
                assert_eq!(
                    [running.sum(d), running.abs(d), running.partial(d)],
                    [sum, abs, partial]
                );
                assert_eq!([sums[0][d], sums[1][d], sums[2][d]], errors[d]);
            }
        }
    }
}
