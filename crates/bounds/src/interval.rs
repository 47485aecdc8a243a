//! Intervals: the numbers that a kernel's intermediate result may be. Sections 7.5 and 9 of `docs/bounds.md`.

use super::format::Format;

/// The numbers between two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Interval {
    pub(super) fn about(x: f64, error: f64) -> Self {
        Interval { least: x - error, most: x + error }
    }

    pub(super) fn size(self) -> f64 {
        self.least.abs().max(self.most.abs())
    }

    pub(super) fn widened(self, by: f64) -> Self {
        Interval { least: self.least - by, most: self.most + by }
    }

    pub(super) fn times(self, other: Interval) -> Self {
        let ends = [
            self.least * other.least,
            self.least * other.most,
            self.most * other.least,
            self.most * other.most,
        ];
        Interval {
            least: ends.into_iter().fold(f64::INFINITY, f64::min),
            most: ends.into_iter().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Their roundings. A number that may be below the normal range may be flushed to zero, or scaled before it is rounded.
    pub(super) fn rounded(self, format: Format, flush_to_zero: bool) -> Self {
        let nearest = if self.least <= 0.0 && 0.0 <= self.most {
            0.0
        } else {
            self.least.abs().min(self.most.abs())
        };
        if nearest < format.smallest_normal() {
            return self.widened(format.relative_error(self.size(), flush_to_zero));
        }
        Interval { least: format.round(self.least), most: format.round(self.most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_o::U64;
    use proptest::prelude::*;

    proptest! {
        /// Whatever lies within the operands lies within the product, and its rounding within the rounding.
        #[test]
        fn a_product_of_intervals_holds_every_product(
            x in -2.0..2.0_f64, y in -2.0..2.0_f64, exponent in -12..1_i32, at in [-1.0..=1.0_f64, -1.0..=1.0_f64],
        ) {
            let half = libm::ldexp(1.0, exponent);
            let product = Interval::about(x, half).times(Interval::about(y, half));
            let z = (x + at[0] * half) * (y + at[1] * half);
            // Four roundings of f64.
            let slack = 8.0 * U64 * product.size();
            prop_assert!(product.least - slack <= z && z <= product.most + slack);
            let rounded = product.widened(slack).rounded(Format::Bf16, false);
            prop_assert!(rounded.least <= Format::Bf16.round(z) && Format::Bf16.round(z) <= rounded.most);
        }
    }

    #[test]
    fn a_number_known_to_a_part_of_a_spacing_has_one_rounding_and_near_zero_it_has_none() {
        let known = Interval::about(1.001, 1e-4).rounded(Format::Bf16, false);
        assert_eq!(known, Interval { least: 1.0, most: 1.0 });
        let tie = Interval::about(1.0 + 1.0 / 256.0, 1e-6).rounded(Format::Bf16, false);
        assert_eq!(tie, Interval { least: 1.0, most: 1.0 + 1.0 / 128.0 });
        let zero = Interval::about(0.0, 1e-6).rounded(Format::F16, true);
        assert!(zero.least < -1e-6 - 6e-5 && zero.most > 1e-6 + 6e-5, "{zero:?}");
    }
}
