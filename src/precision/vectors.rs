//! The sums of the bounds in vectors. Every lane is a sum of its own, added up in the order of the plain loop with one rounding
//! for each operation: no bit depends on the machine or on the width of its vectors.
#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use super::entry::{Products, partial_bound};
use pulp::{Arch, Simd, WithSimd};

/// Terms that are added to sums at a time.
pub(super) const TERMS: usize = 64;

/// Keys of a panel, side by side.
pub(super) const PANEL: usize = 16;

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
                    sums[1][at] = simd.add_f64s(sums[1][at], simd.abs_f64s(product));
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
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Running {
    width: usize,
    /// The five, one after the other.
    data: Vec<f64>,
}

impl Running {
    pub(super) fn new(width: usize) -> Self {
        Running { width, data: vec![0.0; 5 * width] }
    }

    /// Adds `value x` for each value and its `x`, one after the other.
    pub(super) fn add(&mut self, values: &[f64], x: &[&[f64]]) {
        let width = self.width;
        Arch::new().dispatch(AddTerms { width, values, x, sums: &mut self.data });
    }

    /// How many elements there are.
    pub(super) fn width(&self) -> usize {
        self.width
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

struct AddTerms<'a> {
    width: usize,
    values: &'a [f64],
    x: &'a [&'a [f64]],
    sums: &'a mut [f64],
}

impl WithSimd for AddTerms<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddTerms { width, values, x, sums } = self;
        let (sum, rest) = sums.split_at_mut(width);
        let (abs, rest) = rest.split_at_mut(width);
        let (squares, rest) = rest.split_at_mut(width);
        let (least, most) = rest.split_at_mut(width);
        let whole = width - width % (size_of::<S::f64s>() / size_of::<f64>());
        {
            let (sum, _) = S::as_mut_simd_f64s(sum);
            let (abs, _) = S::as_mut_simd_f64s(abs);
            let (squares, _) = S::as_mut_simd_f64s(squares);
            let (least, _) = S::as_mut_simd_f64s(least);
            let (most, _) = S::as_mut_simd_f64s(most);
            // The sums of a vector of elements stay in registers for all terms.
            for at in 0..sum.len() {
                let mut sums = [sum[at], abs[at], squares[at], least[at], most[at]];
                for (&value, x) in values.iter().zip(x) {
                    let product = simd.mul_f64s(simd.splat_f64s(value), S::as_simd_f64s(x).0[at]);
                    sums[0] = simd.add_f64s(sums[0], product);
                    sums[1] = simd.add_f64s(sums[1], simd.abs_f64s(product));
                    sums[2] = simd.add_f64s(sums[2], simd.mul_f64s(product, product));
                    sums[3] = simd.min_f64s(sums[3], sums[0]);
                    sums[4] = simd.max_f64s(sums[4], sums[0]);
                }
                [sum[at], abs[at], squares[at], least[at], most[at]] = sums;
            }
        }
        for d in whole..width {
            for (&value, x) in values.iter().zip(x) {
                let product = value * x[d];
                sum[d] += product;
                abs[d] += product.abs();
                squares[d] += product * product;
                least[d] = f64::min(least[d], sum[d]);
                most[d] = f64::max(most[d], sum[d]);
            }
        }
    }
}

/// What becomes of a factor and an `x` before they are added.
#[derive(Clone, Copy)]
pub(super) enum Of {
    /// `factor x`.
    Product,
    /// `factor |x|`.
    Magnitude,
    /// `(factor x)^2`.
    Square,
}

/// Adds what becomes of each factor and its `x` to the sum of each element, one after the other.
pub(super) fn accumulate(of: Of, factors: &[f64], x: &[&[f64]], sums: &mut [f64]) {
    Arch::new().dispatch(Accumulate { of, factors, x, sums });
}

struct Accumulate<'a> {
    of: Of,
    factors: &'a [f64],
    x: &'a [&'a [f64]],
    sums: &'a mut [f64],
}

impl Accumulate<'_> {
    #[inline(always)]
    fn run<S: Simd>(
        self,
        simd: S,
        of: impl Fn(S::f64s, S::f64s) -> S::f64s,
        of_one: impl Fn(f64, f64) -> f64,
    ) {
        let width = self.sums.len();
        let (sums, rest) = S::as_mut_simd_f64s(self.sums);
        for (at, sum) in sums.iter_mut().enumerate() {
            for (&factor, x) in self.factors.iter().zip(self.x) {
                let term = of(simd.splat_f64s(factor), S::as_simd_f64s(x).0[at]);
                *sum = simd.add_f64s(*sum, term);
            }
        }
        let whole = width - rest.len();
        for (d, sum) in rest.iter_mut().enumerate() {
            for (&factor, x) in self.factors.iter().zip(self.x) {
                *sum += of_one(factor, x[whole + d]);
            }
        }
    }
}

impl WithSimd for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.of {
            Of::Product => {
                self.run(simd, |factor, x| simd.mul_f64s(factor, x), |factor, x| factor * x)
            }
            Of::Magnitude => self.run(
                simd,
                |factor, x| simd.mul_f64s(factor, simd.abs_f64s(x)),
                |factor, x| factor * x.abs(),
            ),
            Of::Square => {
                let square = |factor, x| {
                    let error = simd.mul_f64s(factor, x);
                    simd.mul_f64s(error, error)
                };
                self.run(simd, square, |factor, x| (factor * x) * (factor * x));
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
            let (mut sums, mut errors) = (vec![vec![0.0; width]; 3], vec![[0.0; 3]; width]);
            let x = wave(9 * width);
            let x: Vec<&[f64]> = x.chunks_exact(width).collect();
            let values: Vec<f64> = (0..9).map(|n| libm::cos(f64::from(n))).collect();
            let factors: Vec<f64> = values.iter().map(|x| x / 3.0).collect();
            // In two parts, of which the second goes on where the first ended.
            for part in [0..4, 4..9] {
                running.add(&values[part.clone()], &x[part.clone()]);
                for (of, sums) in
                    [Of::Product, Of::Magnitude, Of::Square].into_iter().zip(&mut sums)
                {
                    accumulate(of, &factors[part.clone()], &x[part.clone()], sums);
                }
            }
            for ((&value, &factor), x) in values.iter().zip(&factors).zip(&x) {
                for ((plain, errors), x) in plain.iter_mut().zip(&mut errors).zip(*x) {
                    let product = value * x;
                    plain[0] += product;
                    plain[1] += product.abs();
                    plain[2] += product * product;
                    plain[3] = plain[3].min(plain[0]);
                    plain[4] = plain[4].max(plain[0]);
                    errors[0] += factor * x;
                    errors[1] += factor * x.abs();
                    errors[2] += (factor * x) * (factor * x);
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
