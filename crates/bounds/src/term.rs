//! Errors with a worst case, a random part and a deterministic part, and their composition. Section 3 of `docs/bounds.md`.

/// The error of one quantity.
///
/// `worst_case` is never exceeded. Under the model of independent roundings of mean zero the error also is a sum of a part
/// that is sub-Gaussian with parameter `sub_gaussian` and a part, biased or shared between entries, of at most `deterministic`.
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

    /// An error that may be biased.
    #[must_use]
    pub fn deterministic(x: f64) -> Self {
        Term { worst_case: x, sub_gaussian: 0.0, deterministic: x }
    }

    /// The error of a sum of dependent errors: sub-Gaussian parameters add (Minkowski). Section 3.1.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Term {
            worst_case: self.worst_case + other.worst_case,
            sub_gaussian: self.sub_gaussian + other.sub_gaussian,
            deterministic: self.deterministic + other.deterministic,
        }
    }

    /// The error of a sum of two that are independent: squared parameters add. Section 3.1.
    pub(super) fn beside(self, other: Self) -> Self {
        Term {
            sub_gaussian: libm::hypot(self.sub_gaussian, other.sub_gaussian),
            ..self.plus(other)
        }
    }

    /// The error of one of two quantities, whichever a kernel computes.
    pub(super) fn or(self, other: Self) -> Self {
        Term {
            worst_case: self.worst_case.max(other.worst_case),
            sub_gaussian: self.sub_gaussian.max(other.sub_gaussian),
            deterministic: self.deterministic.max(other.deterministic),
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

    /// Section 3.1: the smaller of the worst case and the random bound with the tail factor `lambda`.
    #[must_use]
    pub fn threshold(self, lambda: f64) -> f64 {
        let random = lambda * self.sub_gaussian + self.deterministic;
        if random < self.worst_case { random } else { self.worst_case }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    const A: Term = Term { worst_case: 5.0, sub_gaussian: 3.0, deterministic: 1.0 };
    const B: Term = Term { worst_case: 7.0, sub_gaussian: 4.0, deterministic: 0.5 };

    #[test]
    fn dependent_errors_add_and_independent_ones_add_in_squares() {
        let sum = Term { worst_case: 12.0, sub_gaussian: 7.0, deterministic: 1.5 };
        assert_eq!(A.plus(B), sum);
        let beside = A.beside(B);
        assert_eq!((beside.worst_case, beside.deterministic), (12.0, 1.5));
        // The triangle of sides 3, 4, 5.
        assert_relative_eq!(beside.sub_gaussian, 5.0, max_relative = 2.0 * f64::EPSILON);
    }

    #[test]
    fn a_factor_of_either_sign_scales_an_error_and_a_factor_of_zero_ends_it() {
        let twice = Term { worst_case: 10.0, sub_gaussian: 6.0, deterministic: 2.0 };
        assert_eq!([A.times(-2.0), A.times(2.0)], [twice; 2]);
        let infinite = Term { worst_case: f64::INFINITY, ..A };
        assert_eq!(infinite.times(0.0), Term::default());
    }

    #[test]
    fn the_threshold_is_the_smaller_of_the_two_bounds() {
        assert_eq!([A.threshold(1.0), A.threshold(2.0)], [4.0, 5.0]);
        // A comparison with NaN is false, so that the worst case stays.
        assert_eq!(Term { sub_gaussian: f64::NAN, ..A }.threshold(1.0), 5.0);
    }
}
