//! The inputs as operands of matrix products: packed for vectors, and converted to a narrower format as tf32 hardware does.
//! Section 4.9 of `docs/bounds.md`.
//!
//! A conversion is no random rounding: the inputs are known, so its effect on a product is computed for every way to convert.

use super::format::Format;
use super::recipe::{Conversion, Product, Recipe};
use super::roundoff::{Products, is_power_of_two};
use super::score::{Packed, packed};
use super::simd::{PANEL, PackedRows};
use rayon::prelude::*;
use std::f64::consts::LOG2_E;
use sus_reference::problem::{Problem, Row};
use sus_reference::tensor::Tensor;

/// The inputs of a problem as the operands of a recipe's products.
///
/// # Examples
/// ```
/// use sus_bounds::{Mode, Operands, Recipe, row_errors, row_errors_of};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// let recipe = Recipe::built_in("tf32").unwrap();
/// let operands = Operands::of(&problem, &recipe);
/// let errors = row_errors_of(&problem, &saved, &recipe, Mode::Exact, problem.row(0), &operands);
/// assert_eq!(errors, row_errors(&problem, &saved, &recipe, Mode::Exact, problem.row(0)));
/// ```
#[derive(Debug, Clone)]
pub struct Operands {
    pub(super) packed: Option<Packed>,
    pub(super) converted: Option<Converted>,
}

impl Operands {
    /// Of all rows of a problem.
    #[must_use]
    pub fn of(problem: &Problem<f64>, recipe: &Recipe) -> Self {
        Operands { packed: Packed::of(problem), ..Self::unpacked(problem, recipe) }
    }

    /// The same for a few rows, where packing costs more than it saves.
    pub(super) fn unpacked(problem: &Problem<f64>, recipe: &Recipe) -> Self {
        let converted = converts(recipe).then(|| Converted::new(problem, recipe));
        Operands { packed: None, converted }
    }

    /// The largest change of each element of the input that this product reads beside `P` or `dS`: `v`, `G`, `k` or `q` of an entry.
    pub(super) fn change(
        &self,
        problem: &Problem<f64>,
        product: Product,
        row: Row,
        j: usize,
    ) -> Option<&[f64]> {
        let converted = self.converted.as_ref().filter(|converted| converted.has(product))?;
        let key_head = problem.key_head(row.h);
        let [q, k, v, g] = &converted.largest;
        match product {
            Product::O => v.as_ref().map(|v| v.row(row.b, key_head, j)),
            Product::Dv => g.as_ref().map(|g| g.row(row.b, row.h, row.i)),
            Product::Dq => k.as_ref().map(|k| k.row(row.b, key_head, j)),
            Product::Dk => q.as_ref().map(|q| q.row(row.b, row.h, row.i)),
            Product::S | Product::Dp => None,
        }
    }
}

/// Whether a recipe converts the operands of its products.
pub(super) fn converts(recipe: &Recipe) -> bool {
    let narrow = recipe.operands.precision() < recipe.accumulator.precision();
    narrow && (recipe.operands.precision() < recipe.input.precision() || recipe.scaled_operands)
}

/// How conversions may change the products of one entry, at most.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProductChanges {
    /// `q . k`.
    pub qk: f64,
    /// `G . v`.
    pub gv: f64,
    /// `G . v` where `v` alone is converted, as it is for `P v`.
    pub v: f64,
}

/// All converted operands.
#[derive(Debug, Clone)]
pub(super) struct Converted {
    products: Vec<Product>,
    q: ConvertedRows,
    g: ConvertedRows,
    k: ConvertedKeys,
    v: ConvertedKeys,
    /// The largest change of each element of `q`, `k`, `v`, `G`, unless all are exact.
    largest: [Option<Tensor<f64>>; 4],
    /// A second order of both conversions, and the rounding of these computations, over the sum of absolute products.
    second_order: f64,
}

impl Converted {
    fn new(problem: &Problem<f64>, recipe: &Recipe) -> Self {
        let inputs = problem.inputs();
        let factors = if recipe.scaled_operands { factors(problem.scale()) } else { vec![1.0] };
        let [q, k] = [&inputs.q, &inputs.k].map(|x| Changes::new(recipe, x, &factors));
        let [v, g] = [&inputs.v, &inputs.g].map(|x| Changes::new(recipe, x, &[1.0]));
        let largest = [&q, &k, &v, &g].map(Changes::largest);
        Converted {
            products: recipe.converted.clone(),
            q: ConvertedRows::new(q),
            g: ConvertedRows::new(g),
            k: ConvertedKeys::new(&inputs.k, &k),
            v: ConvertedKeys::new(&inputs.v, &v),
            largest,
            // Each operand errs by one spacing at most, 2^(1-p). 2^-50: fewer than 8 roundings of this f64 for an element, and one for each
            // of up to 2^11 products of errors of 2^-8 at most.
            second_order: libm::ldexp(1.0, 2 * (1 - recipe.operands.precision()))
                + libm::ldexp(1.0, -50),
        }
    }

    fn has(&self, product: Product) -> bool {
        self.products.contains(&product)
    }

    /// The changes of the entries of one row and one panel of keys.
    pub(super) fn panel(
        &self,
        problem: &Problem<f64>,
        row: Row,
        panel: usize,
    ) -> [ProductChanges; PANEL] {
        self.changes(problem, row, &|rows, x| rows.sums(x, panel))
    }

    /// The changes of one entry.
    pub(super) fn entry(&self, problem: &Problem<f64>, row: Row, j: usize) -> ProductChanges {
        let [changes] = self.changes(problem, row, &|rows, x| [rows.sum(x, j)]);
        changes
    }

    /// `products` gives the products of a vector with some keys.
    fn changes<const N: usize>(
        &self,
        problem: &Problem<f64>,
        row: Row,
        products: SomeProducts<'_, N>,
    ) -> [ProductChanges; N] {
        let head = row.b * problem.sizes().key_heads + problem.key_head(row.h);
        let mut changes = [ProductChanges::default(); N];
        if self.has(Product::S) {
            let of_q = self.q.change(row, &self.k, head, products);
            let of_k = self.k.change(head, problem.q(row), products);
            changes.iter_mut().zip(of_q).zip(of_k).for_each(|((of, q), k)| of.qk = q + k);
        }
        if self.has(Product::O) || self.has(Product::Dp) {
            let of_v = self.v.change(head, problem.g(row), products);
            changes.iter_mut().zip(of_v).for_each(|(of, v)| of.v = v);
        }
        if self.has(Product::Dp) {
            let of_g = self.g.change(row, &self.v, head, products);
            changes.iter_mut().zip(of_g).for_each(|(of, g)| of.gv = g + of.v);
        }
        if !self.has(Product::O) {
            for of in &mut changes {
                of.v = 0.0;
            }
        }
        changes
    }

    /// Adds the second order of products with these sums.
    pub(super) fn with_second_order(
        &self,
        changes: ProductChanges,
        qk: Products,
        gv: Products,
    ) -> ProductChanges {
        let more = |product, change: f64, products: Products| {
            if self.has(product) { change + self.second_order * products.abs } else { 0.0 }
        };
        ProductChanges {
            qk: more(Product::S, changes.qk, qk),
            gv: more(Product::Dp, changes.gv, gv),
            v: more(Product::O, changes.v, gv),
        }
    }
}

/// What `q` and `k` may be multiplied by before they are converted: nothing, the scale, its root, and either with `log2 e`. A power of
/// two changes no conversion.
fn factors(scale: f64) -> Vec<f64> {
    let scale = scale.abs();
    let all = [scale, libm::sqrt(scale), scale * LOG2_E, libm::sqrt(scale * LOG2_E), LOG2_E];
    let mut factors = vec![1.0];
    factors.extend(all.into_iter().filter(|&x| x.is_normal() && !is_power_of_two(x)));
    factors
}

/// The number of roundings to the accumulator's format before a scaled operand is converted: of the scale, of its root or its product
/// with `log2 e`, of `log2 e` (a quarter), and of the product.
const ROUNDINGS_OF_A_SCALED_OPERAND: f64 = 4.0;

/// The rules of a conversion.
fn rules(conversion: Conversion) -> &'static [fn(Format, f64) -> f64] {
    match conversion {
        Conversion::Truncate => &[truncated],
        Conversion::Nearest => &[nearest_even, nearest_away],
        Conversion::Any => &[truncated, nearest_even, nearest_away],
    }
}

/// How many of the 53 bits of an `f64` a format drops; it is narrower than an accumulator.
fn dropped(format: Format) -> u32 {
    53 - format.precision().unsigned_abs()
}

fn truncated(format: Format, x: f64) -> f64 {
    f64::from_bits(x.to_bits() >> dropped(format) << dropped(format))
}

fn nearest_away(format: Format, x: f64) -> f64 {
    let half = (1_u64 << dropped(format)) / 2;
    truncated(format, f64::from_bits(x.to_bits() + half))
}

fn nearest_even(format: Format, x: f64) -> f64 {
    let half = (1_u64 << dropped(format)) / 2;
    // One less than half, and one more if the last bit that is kept is odd.
    let is_odd = x.to_bits() >> dropped(format) & 1;
    truncated(format, f64::from_bits(x.to_bits() + half + is_odd - 1))
}

/// The changes of the elements of one tensor.
struct Changes {
    /// Each way to convert: the converted element less the element, over the factor.
    variants: Vec<Tensor<f64>>,
    /// What an element may change by beyond that: a spacing, where a rounding before the conversion decides which number is taken;
    /// below the normal range, a spacing or all of it.
    more: Option<Tensor<f64>>,
}

impl Changes {
    fn new(recipe: &Recipe, x: &Tensor<f64>, factors: &[f64]) -> Self {
        let (format, rules) = (recipe.operands, rules(recipe.conversion));
        let u = recipe.accumulator.unit_roundoff();
        // Tensor cores may flush small numbers of the range of f32; f16 has its small numbers in use.
        let flush = recipe.flush_to_zero || format != Format::F16;
        let map = |f: &(dyn Fn(f64) -> f64 + Sync)| {
            let mut out = x.clone();
            out.as_mut_slice().par_iter_mut().for_each(|x| *x = f(*x));
            out
        };
        let mut variants: Vec<Tensor<f64>> = Vec::new();
        for &factor in factors {
            for rule in rules {
                let changed = map(&|x| (rule(format, factor * x) - factor * x) / factor);
                let is_zero = changed.as_slice().iter().all(|&x| x == 0.0);
                if !is_zero && !variants.contains(&changed) {
                    variants.push(changed);
                }
            }
        }
        let spacing = libm::ldexp(1.0, 1 - format.precision());
        let beyond = |x: f64| {
            let mut more = 0.0_f64;
            for &factor in factors {
                let y = factor * x;
                // Below the normal range the spacing is that of the smallest number. Twice: no conversion changes a number by more than
                // itself, so that the second order, with the change of the other operand, is at most as large as the first.
                if y.abs() < format.smallest_normal() {
                    let spacing = if flush { y.abs() } else { format.smallest_subnormal() };
                    more = more.max(2.0 * spacing.min(y.abs()) / factor);
                }
                if y.abs() >= format.overflow() {
                    more = f64::INFINITY;
                }
                let off = ROUNDINGS_OF_A_SCALED_OPERAND * u;
                let [least, most] = [y * (1.0 - off), y * (1.0 + off)];
                let is_open =
                    |rule: &fn(Format, f64) -> f64| rule(format, least) != rule(format, most);
                if factor != 1.0 && rules.iter().any(is_open) {
                    more = more.max(spacing * x.abs());
                }
            }
            more
        };
        let more = map(&beyond);
        let is_exact = more.as_slice().iter().all(|&x| x == 0.0);
        Changes { variants, more: (!is_exact).then_some(more) }
    }

    /// The largest change of each element.
    fn largest(&self) -> Option<Tensor<f64>> {
        let mut all = self.variants.iter();
        let mut largest = match (all.next(), &self.more) {
            (Some(first), _) => first.map(f64::abs),
            (None, Some(more)) => return Some(more.clone()),
            (None, None) => return None,
        };
        for changed in all {
            let elements = largest.as_mut_slice().iter_mut().zip(changed.as_slice());
            elements.for_each(|(largest, x)| *largest = largest.max(x.abs()));
        }
        if let Some(more) = &self.more {
            let elements = largest.as_mut_slice().iter_mut().zip(more.as_slice());
            elements.for_each(|(largest, more)| *largest += more);
        }
        Some(largest)
    }
}

/// `q` or `G`, read by rows.
#[derive(Debug, Clone)]
struct ConvertedRows {
    changes: Vec<Tensor<f64>>,
    more: Option<Tensor<f64>>,
}

impl ConvertedRows {
    fn new(changes: Changes) -> Self {
        ConvertedRows { changes: changes.variants, more: changes.more }
    }

    /// The change of the products with some keys: the largest of all ways to convert.
    fn change<const N: usize>(
        &self,
        row: Row,
        keys: &ConvertedKeys,
        head: usize,
        products: SomeProducts<'_, N>,
    ) -> [f64; N] {
        let mut most = [0.0_f64; N];
        for changed in &self.changes {
            let of = products(&keys.plain[head], changed.row(row.b, row.h, row.i));
            most.iter_mut().zip(of).for_each(|(most, x)| *most = most.max(x.abs()));
        }
        if let Some(more) = &self.more {
            let of = products(&keys.magnitudes[head], more.row(row.b, row.h, row.i));
            most.iter_mut().zip(of).for_each(|(most, x)| *most += x);
        }
        most
    }
}

/// `k` or `v` by key heads, packed.
#[derive(Debug, Clone)]
struct ConvertedKeys {
    plain: Vec<PackedRows>,
    magnitudes: Vec<PackedRows>,
    changes: Vec<Vec<PackedRows>>,
    more: Option<Vec<PackedRows>>,
}

/// The products of a vector with some rows.
type SomeProducts<'a, const N: usize> = &'a dyn Fn(&PackedRows, &[f64]) -> [f64; N];

impl ConvertedKeys {
    fn new(x: &Tensor<f64>, changes: &Changes) -> Self {
        let mut magnitudes = x.clone();
        magnitudes.as_mut_slice().iter_mut().for_each(|x| *x = x.abs());
        ConvertedKeys {
            plain: packed(x),
            magnitudes: packed(&magnitudes),
            changes: changes.variants.iter().map(packed).collect(),
            more: changes.more.as_ref().map(packed),
        }
    }

    /// The change of the products with a row `x`: the largest of all ways to convert.
    fn change<const N: usize>(
        &self,
        head: usize,
        x: &[f64],
        products: SomeProducts<'_, N>,
    ) -> [f64; N] {
        let mut most = [0.0_f64; N];
        for changed in &self.changes {
            let of = products(&changed[head], x);
            most.iter_mut().zip(of).for_each(|(most, x)| *most = most.max(x.abs()));
        }
        if let Some(more) = &self.more {
            let magnitudes: Vec<f64> = x.iter().map(|x| x.abs()).collect();
            let of = products(&more[head], &magnitudes);
            most.iter_mut().zip(of).for_each(|(most, x)| *most += x);
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bounds, BoundsInput, Mode, Truth, bounds};
    use super::*;
    use approx::assert_relative_eq;
    use sus_reference::problem::{Inputs, Options};

    /// One query and two keys, of numbers that tf32 does not hold.
    fn problem() -> Problem<f64> {
        let x = |at: f64, n: usize| {
            Tensor::from_fn([1, 1, n, 3], |[.., i, d]| {
                Format::F32.round(libm::sin(at + 1.7 * i as f64 + 0.9 * d as f64))
            })
        };
        let inputs = Inputs::new(x(0.1, 1), x(1.0, 2), x(2.0, 2), x(3.0, 1));
        Problem::new(inputs, Options::default()).unwrap()
    }

    fn bounds_of(p: &Problem<f64>, recipe: &Recipe) -> Bounds {
        let truth = Truth::exact(p).unwrap();
        let (saved, gradients) = (truth.saved(), truth.gradients(None));
        let (mode, sample, ambiguous) = (Mode::Exact, None, None);
        let input = BoundsInput {
            problem: p,
            recipe,
            mode,
            saved: &saved,
            sample,
            ambiguous,
            gradients: &gradients,
        };
        bounds(&input)
    }

    /// Section 4.9: of each product alone, what its conversion adds to a bound is what it changes: `sum_j |value_j| |x^_jd - x_jd|`.
    #[test]
    fn a_conversion_adds_to_a_bound_what_it_changes() {
        let p = problem();
        let recipe = Recipe::built_in("f32")
            .unwrap()
            .with_operands(Format::Tf32)
            .with_conversion(Conversion::Truncate);
        let with = |products: Vec<Product>| bounds_of(&p, &recipe.clone().with_converted(products));
        let plain = with(Vec::new());
        let change = |x: f64| (truncated(Format::Tf32, x) - x).abs();
        let row = p.row(0);
        let saved = sus_reference::forward::forward(&p);
        let lse = saved.lse.as_slice()[0];
        let delta = sus_reference::tensor::dot(p.g(row), saved.o.row(0, 0, 0));
        let entry = |j: usize| {
            let s = p.scale() * sus_reference::tensor::dot(p.q(row), p.k(row, j));
            let (w, dp) = (libm::exp(s - lse), sus_reference::tensor::dot(p.g(row), p.v(row, j)));
            (w, (w * (dp - delta) * p.scale()).abs())
        };
        let (w, dz): (Vec<f64>, Vec<f64>) = (0..2).map(entry).unzip();
        let added = |product: Product, of: fn(&Bounds) -> &[f64]| -> Vec<f64> {
            let more = with(vec![product]);
            of(&more).iter().zip(of(&plain)).map(|(more, plain)| more - plain).collect()
        };
        let expected = |values: &[f64], x: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
            let of = |d| values.iter().enumerate().map(|(j, value)| value * change(x(j)[d])).sum();
            (0..3).map(of).collect()
        };
        let of_key = |values: &[f64], x: &[f64]| -> Vec<f64> {
            values.iter().flat_map(|value| x.iter().map(move |&x| value * change(x))).collect()
        };
        let all = [
            (added(Product::O, |b| &b.o.worst_case), expected(&w, &|j| p.v(row, j).to_vec())),
            (added(Product::Dq, |b| &b.dq.worst_case), expected(&dz, &|j| p.k(row, j).to_vec())),
            (added(Product::Dk, |b| &b.dk.worst_case), of_key(&dz, p.q(row))),
            (added(Product::Dv, |b| &b.dv.worst_case), of_key(&w, p.g(row))),
        ];
        for (added, expected) in all {
            assert!(expected.iter().all(|&x| x > 1e-8), "{expected:?}");
            for (added, expected) in added.iter().zip(expected) {
                // The values have errors of float32 themselves, and the sum of the bound one of them.
                assert_relative_eq!(*added, expected, max_relative = 1e-4);
            }
        }
    }

    /// All 2^13 ways in which an `f32` continues a tf32 number, ties among them.
    #[test]
    fn conversions_take_the_tf32_numbers_next_to_an_f32() {
        for last in [0, 1] {
            let first = 1.0 + libm::ldexp(f64::from(last), -10);
            let spacing = libm::ldexp(1.0, -10);
            for more in 0..1 << 13 {
                let x = first + libm::ldexp(f64::from(more), -23);
                for sign in [1.0, -1.0] {
                    let [cut, even, away] = [truncated, nearest_even, nearest_away]
                        .map(|rule| sign * rule(Format::Tf32, sign * x));
                    let up = first + spacing;
                    assert_eq!(cut, first);
                    assert_eq!(even, Format::Tf32.round(x));
                    assert_eq!(away, if more >= 1 << 12 { up } else { first });
                }
            }
        }
    }

    /// An operand near the border of two converted numbers has a spacing of them beside its change.
    #[test]
    fn a_scaled_operand_near_a_border_has_a_spacing_more() {
        let recipe = Recipe::built_in("tf32").unwrap().with_conversion(Conversion::Truncate);
        let factor = 0.7;
        // 1.25 / 0.7 times 0.7 is a tf32 number up to roundings; 1.2505 is half a spacing away from both borders.
        let x = [1.25 / factor, 1.2505 / factor];
        let x = Tensor::from_fn([1, 1, 1, 2], |[.., d]| x[d]);
        let more = Changes::new(&recipe, &x, &[1.0, factor]).more.unwrap();
        let spacing = libm::ldexp(1.0, -10);
        assert_eq!(more.as_slice(), [spacing * x.as_slice()[0], 0.0]);
    }
}
