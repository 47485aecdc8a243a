//! Errors that are composed: a worst case, and a scale of what is random in them.

use super::format::Format;
use super::recipe::Recipe;

/// The error of one quantity.
///
/// `worst_case` is never exceeded. Under the model of independent roundings of mean zero the error also is a sum of a part
/// that is sub-Gaussian with parameter `sub_gaussian` and a part, biased or shared between entries, of at most `deterministic`.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, Recipe, row_errors};
/// let saved = sus_reference::forward::forward(&problem);
/// let recipe = Recipe::built_in("f32").unwrap();
/// let errors = row_errors(&problem, &saved, &recipe, Mode::Exact, problem.row(0));
/// let log = errors.entries[0].log;
/// assert!(0.0 < log.sub_gaussian && log.sub_gaussian <= log.worst_case && log.deterministic <= log.worst_case);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Term {
    /// Bound of the whole.
    pub worst_case: f64,
    /// Sub-Gaussian parameter of the random part.
    pub sub_gaussian: f64,
    /// Bound of the rest.
    pub deterministic: f64,
}

impl Term {
    /// One rounding of mean zero, of at most `x`.
    pub(super) fn rounding(x: f64) -> Self {
        Term { worst_case: x, sub_gaussian: x, deterministic: 0.0 }
    }

    /// What may be biased.
    pub fn deterministic(x: f64) -> Self {
        Term { worst_case: x, sub_gaussian: 0.0, deterministic: x }
    }

    /// The error of a sum of dependent errors.
    pub fn plus(self, other: Self) -> Self {
        Term {
            worst_case: self.worst_case + other.worst_case,
            sub_gaussian: self.sub_gaussian + other.sub_gaussian,
            deterministic: self.deterministic + other.deterministic,
        }
    }

    /// The error of a sum of two that are independent.
    pub(super) fn beside(self, other: Self) -> Self {
        Term {
            sub_gaussian: libm::hypot(self.sub_gaussian, other.sub_gaussian),
            ..self.plus(other)
        }
    }

    /// The error times a number.
    pub(super) fn times(self, factor: f64) -> Self {
        let factor = factor.abs();
        if factor == 0.0 {
            return Term::default();
        }
        Term {
            worst_case: self.worst_case * factor,
            sub_gaussian: self.sub_gaussian * factor,
            deterministic: self.deterministic * factor,
        }
    }

    /// What decides: the smaller of the worst case and the random bound with tail factor `lambda`.
    pub fn threshold(self, lambda: f64) -> f64 {
        let drawn = lambda * self.sub_gaussian + self.deterministic;
        if drawn < self.worst_case { drawn } else { self.worst_case }
    }
}

/// A sum of products and what its rounding errors depend on.
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
    /// `sum a b`.
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

/// The bound of partial sums from the sum of absolute values, the range of the running sum and the sum of squares.
pub(super) fn partial_bound(abs: f64, range: f64, squares: f64) -> f64 {
    abs.min(range + libm::sqrt(squares))
}

/// The constants of a recipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arithmetic<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Unit roundoff of single operations.
    pub u: f64,
    /// Error of one addition of a matrix product.
    pub product_u: f64,
    /// Smallest error of an operation that underflows.
    pub eta: f64,
}

impl<'a> Arithmetic<'a> {
    pub(super) fn new(recipe: &'a Recipe) -> Self {
        let u = recipe.accumulator.unit_roundoff();
        Arithmetic {
            recipe,
            u,
            product_u: if recipe.tensor_cores { 4.0 * u } else { u },
            eta: recipe.accumulator.underflow_error(true),
        }
    }

    /// Higham's `gamma_n = n u / (1 - n u)`.
    pub(super) fn gamma(&self, n: usize) -> f64 {
        let nu = n as f64 * self.product_u;
        if nu < 1.0 { nu / (1.0 - nu) } else { f64::INFINITY }
    }

    /// The error of a sum of `n` products in any order, with `more` further roundings of it.
    pub(super) fn sum(&self, products: Products, n: usize, more: usize) -> Term {
        let eta = n as f64 * self.eta;
        let drawn = self.partial_sums(n + more, products.partial);
        Term {
            worst_case: self.gamma(n + more) * products.abs + eta,
            sub_gaussian: drawn.sub_gaussian,
            deterministic: drawn.deterministic + eta,
        }
    }

    /// The error of `n` additions of a matrix product whose partial sums have this bound: random where they are rounded
    /// to nearest, of one sign where they are truncated.
    pub(super) fn partial_sums(&self, n: usize, partial: f64) -> Term {
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

    /// The error of storing a number between elementwise steps.
    pub(super) fn elementwise(&self, magnitude: f64) -> f64 {
        self.narrow(self.recipe.elementwise, magnitude)
    }

    /// The error of storing a number and of storing it again after multiplication by `scale`, which only underflows for
    /// a power of two; per unit of the scaled number.
    pub(super) fn scaled(&self, scaled: f64, scale: f64) -> f64 {
        let scale = scale.abs();
        let unscaled = if scale > 0.0 { self.elementwise(scaled / scale) * scale } else { 0.0 };
        let again = if is_power_of_two(scale) { 0.0 } else { scaled };
        unscaled + self.elementwise(again)
    }
}

/// Whether multiplication by `x` is exact, barring underflow.
pub fn is_power_of_two(x: f64) -> bool {
    x.is_normal() && x.to_bits().trailing_zeros() >= 52
}
