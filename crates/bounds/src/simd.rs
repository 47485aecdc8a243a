//! The sums of the bounds in vectors. Every lane is a sum of its own, added up in the order of the plain loop with one rounding
//! for each operation: no bit depends on the machine or on the width of its vectors.
#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use super::roundoff::{Products, partial_bound};
use super::term::Term;
use pulp::{Arch, Simd, WithSimd};

/// Keys of a panel, side by side.
pub(super) const PANEL: usize = 16;

/// Rows `[n][width]` in panels `[n / PANEL][width][PANEL]`, the last one filled up with zeros.
#[derive(Debug, Clone)]
pub(super) struct PackedRows {
    width: usize,
    data: Vec<f64>,
}

impl PackedRows {
    pub(super) fn new(rows: &[f64], width: usize) -> Self {
        if width == 0 {
            return PackedRows { width, data: Vec::new() };
        }
        let mut data = vec![0.0; (rows.len() / width).div_ceil(PANEL) * width * PANEL];
        for (panel, rows) in data.chunks_mut(width * PANEL).zip(rows.chunks(width * PANEL)) {
            for (n, row) in rows.chunks_exact(width).enumerate() {
                row.iter().enumerate().for_each(|(d, &x)| panel[d * PANEL + n] = x);
            }
        }
        PackedRows { width, data }
    }

    /// The numbers of a panel.
    pub(super) fn panel(&self, panel: usize) -> &[f64] {
        let size = self.width * PANEL;
        &self.data[panel * size..][..size]
    }

    /// The [products](Products::of) of a vector and each row of a panel.
    pub(super) fn products(&self, x: &[f64], panel: usize) -> [Products; PANEL] {
        let panel = self.panel(panel);
        let mut sums = [[0.0; PANEL]; 5];
        Arch::new().dispatch(PackedProducts { x, panel, sums: &mut sums });
        let [sum, abs, squares, least, most] = sums;
        std::array::from_fn(|n| Products {
            sum: sum[n],
            abs: abs[n],
            partial: partial_bound(abs[n], most[n] - least[n], squares[n]),
        })
    }

    /// The sums of the same products.
    pub(super) fn sums(&self, x: &[f64], panel: usize) -> [f64; PANEL] {
        let mut sums = [0.0; PANEL];
        let panel = self.panel(panel);
        Arch::new().dispatch(PackedSums { x, panel, sums: &mut sums });
        sums
    }

    /// The sum of the products of a vector and one row.
    pub(super) fn sum(&self, x: &[f64], row: usize) -> f64 {
        let first = row / PANEL * self.width * PANEL + row % PANEL;
        let of_row = self.data[first..].iter().step_by(PANEL);
        x.iter().zip(of_row).fold(0.0, |sum, (x, y)| sum + x * y)
    }
}

struct PackedSums<'a> {
    x: &'a [f64],
    panel: &'a [f64],
    sums: &'a mut [f64; PANEL],
}

impl WithSimd for PackedSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        for first in (0..PANEL).step_by(2 * lanes) {
            let mut sums = [simd.splat_f64s(0.0); 2];
            for (&x, row) in self.x.iter().zip(self.panel.chunks_exact(PANEL)) {
                let x = simd.splat_f64s(x);
                let (row, _) = S::as_simd_f64s(&row[first..first + 2 * lanes]);
                for (sum, &y) in sums.iter_mut().zip(row) {
                    *sum = simd.add_f64s(*sum, simd.mul_f64s(x, y));
                }
            }
            let (out, _) = S::as_mut_simd_f64s(&mut self.sums[first..first + 2 * lanes]);
            out.copy_from_slice(&sums);
        }
    }
}

struct PackedProducts<'a> {
    x: &'a [f64],
    panel: &'a [f64],
    sums: &'a mut [[f64; PANEL]; 5],
}

impl WithSimd for PackedProducts<'_> {
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
pub(super) struct RunningSums {
    width: usize,
    /// The five, one after the other.
    data: Vec<f64>,
}

impl RunningSums {
    pub(super) fn new(width: usize) -> Self {
        RunningSums { width, data: vec![0.0; 5 * width] }
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
        let mut sums = [sum, abs, squares, least, most];
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        let mut first = 0;
        while first + 2 * lanes <= width {
            add_terms::<S, 2>(simd, first, values, x, &mut sums);
            first += 2 * lanes;
        }
        while first + lanes <= width {
            add_terms::<S, 1>(simd, first, values, x, &mut sums);
            first += lanes;
        }
        let [sum, abs, squares, least, most] = sums;
        for d in first..width {
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

/// Of `N` vectors of elements, whose sums stay in registers for all terms.
#[inline(always)]
fn add_terms<S: Simd, const N: usize>(
    simd: S,
    first: usize,
    values: &[f64],
    x: &[&[f64]],
    sums: &mut [&mut [f64]; 5],
) {
    let zero = simd.splat_f64s(0.0);
    let mut local = [[zero; N]; 5];
    for (local, sums) in local.iter_mut().zip(sums.iter()) {
        local.copy_from_slice(&S::as_simd_f64s(&sums[first..]).0[..N]);
    }
    for (&value, x) in values.iter().zip(x) {
        let (value, x) = (simd.splat_f64s(value), &S::as_simd_f64s(&x[first..]).0[..N]);
        for n in 0..N {
            let product = simd.mul_f64s(value, x[n]);
            let sum = simd.add_f64s(local[0][n], product);
            local[0][n] = sum;
            local[1][n] = simd.add_f64s(local[1][n], simd.abs_f64s(product));
            local[2][n] = simd.add_f64s(local[2][n], simd.mul_f64s(product, product));
            local[3][n] = simd.min_f64s(local[3][n], sum);
            local[4][n] = simd.max_f64s(local[4][n], sum);
        }
    }
    for (local, sums) in local.iter().zip(sums) {
        S::as_mut_simd_f64s(&mut sums[first..]).0[..N].copy_from_slice(local);
    }
}

/// Adds `factor x` to the sum of each element for each factor and its `x`, one after the other.
pub(super) fn add_products(factors: &[f64], x: &[&[f64]], sums: &mut [f64]) {
    Arch::new().dispatch(AddProducts { factors, x, sums });
}

struct AddProducts<'a> {
    factors: &'a [f64],
    x: &'a [&'a [f64]],
    sums: &'a mut [f64],
}

impl WithSimd for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddProducts { factors, x, sums } = self;
        for (&factor, x) in factors.iter().zip(x) {
            let (sums, sums_rest) = S::as_mut_simd_f64s(sums);
            let ((x, x_rest), by) = (S::as_simd_f64s(x), simd.splat_f64s(factor));
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum = simd.add_f64s(*sum, simd.mul_f64s(by, x));
            }
            for (sum, x) in sums_rest.iter_mut().zip(x_rest) {
                *sum += factor * x;
            }
        }
    }
}

/// Adds the errors of some terms of a sum, one after the other: `worst_case |x|`, `(sub_gaussian x)^2` and `deterministic |x|`, to each element.
pub(super) fn add_errors(terms: &[Term], x: &[&[f64]], sums: [&mut [f64]; 3]) {
    Arch::new().dispatch(AddErrors { terms, x, sums });
}

struct AddErrors<'a> {
    terms: &'a [Term],
    x: &'a [&'a [f64]],
    sums: [&'a mut [f64]; 3],
}

impl WithSimd for AddErrors<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddErrors { terms, x, mut sums } = self;
        let (sub_gaussian, deterministic) = (
            terms.iter().any(|term| term.sub_gaussian > 0.0),
            terms.iter().any(|term| term.deterministic > 0.0),
        );
        let width = sums[0].len();
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        let mut first = 0;
        while first + 4 * lanes <= width {
            errors_of::<S, 4>(simd, first, (sub_gaussian, deterministic), terms, x, &mut sums);
            first += 4 * lanes;
        }
        while first + lanes <= width {
            errors_of::<S, 1>(simd, first, (sub_gaussian, deterministic), terms, x, &mut sums);
            first += lanes;
        }
        let [worst_case, squares, deterministic] = sums;
        for d in first..width {
            for (term, x) in terms.iter().zip(x) {
                let (sub_gaussian, certainly) =
                    (term.sub_gaussian.max(0.0), term.deterministic.max(0.0));
                worst_case[d] += term.worst_case * x[d].abs();
                squares[d] += (sub_gaussian * x[d]) * (sub_gaussian * x[d]);
                deterministic[d] += certainly * x[d].abs();
            }
        }
    }
}

/// Of `N` vectors of elements; parts that are 0 in all terms are left out.
#[inline(always)]
fn errors_of<S: Simd, const N: usize>(
    simd: S,
    first: usize,
    which: (bool, bool),
    terms: &[Term],
    x: &[&[f64]],
    sums: &mut [&mut [f64]; 3],
) {
    match which {
        (false, false) => some_errors::<S, N, false, false>(simd, first, terms, x, sums),
        (false, true) => some_errors::<S, N, false, true>(simd, first, terms, x, sums),
        (true, false) => some_errors::<S, N, true, false>(simd, first, terms, x, sums),
        (true, true) => some_errors::<S, N, true, true>(simd, first, terms, x, sums),
    }
}

#[inline(always)]
fn some_errors<S: Simd, const N: usize, const SUB_GAUSSIAN: bool, const DETERMINISTIC: bool>(
    simd: S,
    first: usize,
    terms: &[Term],
    x: &[&[f64]],
    sums: &mut [&mut [f64]; 3],
) {
    let mut local = [[simd.splat_f64s(0.0); N]; 3];
    for (local, sums) in local.iter_mut().zip(sums.iter()) {
        local.copy_from_slice(&S::as_simd_f64s(&sums[first..]).0[..N]);
    }
    for (term, x) in terms.iter().zip(x) {
        let x = &S::as_simd_f64s(&x[first..]).0[..N];
        let worst_case = simd.splat_f64s(term.worst_case);
        // max(NaN, 0) is 0: a NaN shows in the worst case.
        let (sub_gaussian, deterministic) = (
            simd.splat_f64s(term.sub_gaussian.max(0.0)),
            simd.splat_f64s(term.deterministic.max(0.0)),
        );
        for n in 0..N {
            let magnitude = simd.abs_f64s(x[n]);
            local[0][n] = simd.add_f64s(local[0][n], simd.mul_f64s(worst_case, magnitude));
            if SUB_GAUSSIAN {
                let error = simd.mul_f64s(sub_gaussian, x[n]);
                local[1][n] = simd.add_f64s(local[1][n], simd.mul_f64s(error, error));
            }
            if DETERMINISTIC {
                local[2][n] = simd.add_f64s(local[2][n], simd.mul_f64s(deterministic, magnitude));
            }
        }
    }
    for (local, sums) in local.iter().zip(sums) {
        S::as_mut_simd_f64s(&mut sums[first..]).0[..N].copy_from_slice(local);
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
            let panels = PackedRows::new(&k, width);
            for (j, k) in k.chunks_exact(width).enumerate() {
                let (found, plain) =
                    (panels.products(&x, j / PANEL)[j % PANEL], Products::of(&x, k));
                let bits = |p: Products| [p.sum, p.abs, p.partial].map(f64::to_bits);
                assert_eq!(bits(found), bits(plain), "row {j} of {rows} x {width}");
                let sums = [panels.sums(&x, j / PANEL)[j % PANEL], panels.sum(&x, j)];
                assert_eq!(sums.map(f64::to_bits), [plain.sum.to_bits(); 2]);
            }
        }
    }

    #[test]
    fn running_sums_have_the_bits_of_a_plain_loop() {
        for width in [1, 7, 8, 67] {
            let mut running = RunningSums::new(width);
            let mut plain = vec![[0.0_f64; 5]; width];
            let (mut sums, mut errors) = (vec![vec![0.0; width]; 3], vec![[0.0; 4]; width]);
            let x = wave(9 * width);
            let x: Vec<&[f64]> = x.chunks_exact(width).collect();
            let values: Vec<f64> = (0..9).map(|n| libm::cos(f64::from(n))).collect();
            let factors: Vec<f64> = values.iter().map(|x| x / 3.0).collect();
            let term = |x: f64| Term {
                worst_case: x.abs(),
                sub_gaussian: x.abs() / 7.0,
                deterministic: (0.2 - x).max(0.0),
            };
            let terms: Vec<Term> = factors.iter().map(|&x| term(x)).collect();
            let mut products = vec![0.0; width];
            // In two parts, of which the second goes on where the first ended.
            for part in [0..4, 4..9] {
                running.add(&values[part.clone()], &x[part.clone()]);
                add_products(&factors[part.clone()], &x[part.clone()], &mut products);
                let [worst_case, squares, deterministic] = &mut sums[..] else { panic!("three") };
                add_errors(&terms[part.clone()], &x[part], [worst_case, squares, deterministic]);
            }
            for ((&value, &factor), x) in values.iter().zip(&factors).zip(&x) {
                for ((plain, errors), x) in plain.iter_mut().zip(&mut errors).zip(*x) {
                    let product = value * x;
                    plain[0] += product;
                    plain[1] += product.abs();
                    plain[2] += product * product;
                    plain[3] = plain[3].min(plain[0]);
                    plain[4] = plain[4].max(plain[0]);
                    let term = term(factor);
                    errors[0] += term.worst_case * x.abs();
                    errors[1] += (term.sub_gaussian * x) * (term.sub_gaussian * x);
                    errors[2] += term.deterministic * x.abs();
                    errors[3] += factor * x;
                }
            }
            for (d, [sum, abs, squares, least, most]) in plain.into_iter().enumerate() {
                let partial = partial_bound(abs, most - least, squares);
                assert_eq!(
                    [running.sum(d), running.abs(d), running.partial(d)],
                    [sum, abs, partial]
                );
                assert_eq!([sums[0][d], sums[1][d], sums[2][d], products[d]], errors[d]);
            }
        }
    }
}
