//! The roundoff constants of a recipe, and the errors of sums, stores and products that follow from them.

use super::format::Format;
use super::recipe::Recipe;
use super::term::Term;
use std::f64::consts::LN_2;
use sus_reference::problem::Problem;

/// A sum of products and the sums that its rounding errors depend on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Products {
    /// The sum.
    pub sum: f64,
    /// The sum of the absolute values.
    pub abs: f64,
    /// A bound of the partial sums: see [`Products::of`].
    pub partial: f64,
}

impl Products {
    /// `sum a b`. Section 3.2.
    ///
    /// Partial sums over contiguous blocks, whatever the blocks, stay within the range of the running sum; those over
    /// interleaved lanes follow it up to a random part of the size of the Euclidean norm.
    pub(super) fn of(a: &[f64], b: &[f64]) -> Self {
        let (mut sum, mut abs, mut squares, mut least, mut most) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (&a, &b) in a.iter().zip(b) {
            let x = a * b;
            sum += x;
            abs += x.abs();
            squares += x * x;
            least = f64::min(least, sum);
            most = f64::max(most, sum);
        }
        Products { sum, abs, partial: partial_bound(abs, most - least, squares) }
    }
}

/// Section 3.2: the bound of partial sums from the sum of absolute values, the range of the running sum and the sum of squares.
pub(super) fn partial_bound(abs: f64, range: f64, squares: f64) -> f64 {
    abs.min(range + libm::sqrt(squares))
}

/// The roundoff constants of a recipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roundoff<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Unit roundoff of single operations.
    pub u: f64,
    /// Error of one addition of a matrix product.
    pub product_u: f64,
    /// Largest error of an operation that underflows: accumulators may flush to zero.
    pub eta: f64,
    /// Section 4.4: an argument of `exp` below which the weight is 0 in every right kernel.
    pub vanishing: f64,
}

/// The true weight then is below `e^-40 = 4e-18` of half the smallest number, so that its product with a number below `1e17` rounds to 0
/// as well; and the functions of a row may err by 40 in `ln W` together, `(2 exp_ulp + 2) u` for each tile.
const VANISHING_MARGIN: f64 = 40.0;

impl<'a> Roundoff<'a> {
    pub(super) fn new(recipe: &'a Recipe) -> Self {
        let u = recipe.accumulator.unit_roundoff();
        Roundoff {
            recipe,
            u,
            // 4 = 2 + 2: aligning truncates an addend, and the sum is truncated, each by one spacing or 2 u. Section 2.
            product_u: if recipe.tensor_cores { 4.0 * u } else { u },
            eta: recipe.accumulator.underflow_error(true),
            // exp rounds to 0 below half the smallest number of its format.
            vanishing: libm::log(recipe.accumulator.smallest_subnormal()) - LN_2 - VANISHING_MARGIN,
        }
    }

    /// Section 2: Higham's `gamma_n = n u / (1 - n u)`.
    pub(super) fn gamma(&self, n: usize) -> f64 {
        let nu = n as f64 * self.product_u;
        if nu < 1.0 { nu / (1.0 - nu) } else { f64::INFINITY }
    }

    /// Section 3.2: the error of a sum of `n` products in any order, with `more` further roundings of it.
    pub(super) fn sum(&self, products: Products, n: usize, more: usize) -> Term {
        // Every product may underflow.
        let eta = n as f64 * self.eta;
        let random = self.partial_sums(n + more, products.partial);
        Term {
            worst_case: self.gamma(n + more) * products.abs + eta,
            sub_gaussian: random.sub_gaussian,
            deterministic: random.deterministic + eta,
        }
    }

    /// Section 3.2: the error of `n` additions of a matrix product whose partial sums have this bound: random where they are rounded
    /// to nearest, of one sign where they are truncated.
    pub(super) fn partial_sums(&self, n: usize, partial: f64) -> Term {
        // n 4 u max |S_k|, or sqrt(n) u max |S_k| as a sub-Gaussian parameter.
        if self.recipe.tensor_cores {
            Term::deterministic(n as f64 * self.product_u * partial)
        } else {
            Term::rounding(libm::sqrt(n as f64) * self.u * partial)
        }
    }

    /// Whether a format is narrower than the accumulator. If it is not, storing in it adds nothing to the roundings of
    /// single operations, which are counted already.
    pub(super) fn is_narrow(&self, format: Format) -> bool {
        format.precision() < self.recipe.accumulator.precision()
    }

    /// The error of storing a number in a narrow format.
    pub(super) fn narrow(&self, format: Format, magnitude: f64) -> f64 {
        if self.is_narrow(format) {
            format.rounding_error(magnitude, self.recipe.flush_to_zero)
        } else {
            0.0
        }
    }

    /// The error of storing a number in a narrow format, up to a factor of at most 1 that kernels choose.
    pub(super) fn narrow_scaled(&self, format: Format, magnitude: f64) -> f64 {
        if self.is_narrow(format) {
            format.relative_error(magnitude, self.recipe.flush_to_zero)
        } else {
            0.0
        }
    }

    /// The error of storing a weight as `P`, in a row with this `lse`. Without a row's maximum `exp(s)` is stored, which is
    /// `exp(lse)` times the weight, and its products with `v` may underflow as well.
    pub(super) fn p(&self, w: f64, lse: f64) -> f64 {
        let (recipe, flush) = (self.recipe, self.recipe.flush_to_zero);
        if recipe.row_maximum {
            return self.narrow_scaled(recipe.p, w);
        }
        let underflow = self.eta * libm::exp(-lse).max(1.0);
        if !self.is_narrow(recipe.p) {
            return underflow;
        }
        let of_p = recipe.p.underflow_error(flush) * libm::exp(-lse).max(1.0);
        recipe.p.unit_roundoff() * w + of_p + underflow
    }

    /// The error of a product with `G`, of this size at most, where it is `G` over the row's sum that is rounded as `P` is: the
    /// derivative of a division that comes after the product `P v`.
    pub(super) fn of_division(&self, size: f64) -> f64 {
        if self.recipe.normalised_p { 0.0 } else { self.narrow_scaled(self.recipe.p, size) }
    }

    /// The relative error of a product with `Z = 1 / (1 - p)`: `p` is rounded, which `1 - p` has `p / (1 - p)` times; the difference,
    /// the quotient and the product round. 0 without dropout.
    pub(super) fn of_dropout(&self, problem: &Problem<f64>) -> f64 {
        let p = problem.options().dropout.as_ref().map(|dropout| dropout.p);
        p.map_or(0.0, |p| self.u * (3.0 + p / (1.0 - p)))
    }

    /// The rounding of a number of this size that is stored before it is multiplied by `Z` and after it, where a kernel stores its
    /// elementwise steps: one more than without dropout, where it is 0.
    pub(super) fn stored_again(&self, problem: &Problem<f64>, size: f64) -> f64 {
        if problem.options().dropout.is_none() {
            return 0.0;
        }
        self.narrow_scaled(self.recipe.elementwise, size)
    }

    /// The error of storing a number between elementwise steps.
    pub(super) fn elementwise(&self, magnitude: f64) -> f64 {
        self.narrow(self.recipe.elementwise, magnitude)
    }

    /// The error of storing a number and of storing it again after multiplication by `scale`, which only underflows for
    /// a power of two; per unit of the scaled number.
    pub(super) fn scaled(&self, scaled: f64, scale: f64) -> f64 {
        let scale = scale.abs();
        // Half a spacing of the number before it is scaled; after it a spacing of its own, unless the scale is exact.
        let unscaled = if scale > 0.0 { self.elementwise(scaled / scale) * scale } else { 0.0 };
        let again = if is_power_of_two(scale) { 0.0 } else { scaled };
        unscaled + self.elementwise(again)
    }
}

/// Whether multiplication by `x` is exact, barring underflow.
#[must_use]
pub fn is_power_of_two(x: f64) -> bool {
    x.is_normal() && x.to_bits().trailing_zeros() >= 52
}
