//! The numbers that a result within an error of the truth can be stored as. Section 7.1 of `docs/bounds.md`.

use super::format::Format;

/// The least and the largest number that an element may be.
///
/// # Examples
/// ```
/// use sus_bounds::RoundingRange;
/// let one_number = RoundingRange { least: 0.5, most: 0.5 };
/// assert!(one_number.holds(0.5) && !one_number.holds(0.5 + f64::EPSILON));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundingRange {
    /// The least.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl RoundingRange {
    /// Whether it holds a number.
    #[must_use]
    pub fn holds(&self, x: f64) -> bool {
        self.least <= x && x <= self.most
    }

    /// Section 7.1: the stored values of a result that is within `before` of `x`.
    pub(super) fn stored(x: f64, before: f64, format: Format, flush_to_zero: bool) -> Self {
        if !before.is_finite() {
            return RoundingRange { least: f64::NEG_INFINITY, most: f64::INFINITY };
        }
        let (least, most) = (x - before, x + before);
        let zero = |x: f64| {
            if flush_to_zero && x.abs() < format.smallest_normal() { 0.0 } else { x }
        };
        RoundingRange {
            least: format.round(least).min(zero(format.round(least))),
            most: format.round(most).max(zero(format.round(most))),
        }
    }
}

/// How far from `x` a number can be stored that is within `error` of it; infinite where it need not be rounded to nearest.
pub(super) fn distance(format: Format, x: f64, error: f64) -> f64 {
    let small = x != 0.0 && x.abs() - error < format.smallest_normal();
    if format == Format::Tf32 || small {
        return f64::INFINITY;
    }
    (format.round(x - error) - x).abs().max((format.round(x + error) - x).abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is within the error is stored within the range, and the range is no wider than that.
        #[test]
        fn a_number_within_the_error_is_stored_within_the_range(
            x in -4.0..4.0_f64, exponent in -20..0_i32, at in -1.0..=1.0_f64, small in any::<bool>(),
        ) {
            let x = if small { libm::ldexp(x, -20) } else { x };
            let before = libm::ldexp(1.0, exponent) * x.abs();
            for format in [Format::F16, Format::Bf16] {
                let range = RoundingRange::stored(x, before, format, false);
                prop_assert!(range.holds(format.round(x + at * before)));
                prop_assert_eq!(range.least, format.round(x - before));
                prop_assert_eq!(range.most, format.round(x + before));
                let flushed = RoundingRange::stored(x, before, format, true);
                let y = x + at * before;
                let small = y.abs() < format.smallest_normal();
                let stored = if small { 0.0 } else { format.round(y) };
                prop_assert!(flushed.holds(stored));
            }
        }

        #[test]
        fn a_stored_number_is_no_further_than_its_distance(x in 0.1..4.0_f64, exponent in -30..-4_i32, at in -1.0..=1.0_f64) {
            let error = libm::ldexp(1.0, exponent);
            for format in [Format::F16, Format::Bf16] {
                prop_assert!((format.round(x + at * error) - x).abs() <= distance(format, x, error));
            }
        }
    }
}
