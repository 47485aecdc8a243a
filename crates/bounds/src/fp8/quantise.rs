//! A number as it is after it was multiplied by a scale, saturated, rounded to 8 bits and divided again. Section 9.1.

use super::super::format::Format;
use super::super::interval::Interval;
use super::super::roundoff::is_power_of_two;

/// The codes of an interval, over the scale. Rounding is monotone, and so is saturation: the codes of a number in the interval lie
/// between those of its ends. The quotient is exact here; a kernel's rounding of it counts with its sum.
pub(super) fn quantised(x: Interval, format: Format, scale: f64, u: f64) -> Interval {
    if !format.has_8_bits() {
        return x;
    }
    // 4 u: the scale is rounded, its logarithm where it is added to the exponent of two instead, that sum, and the product.
    let of_product = if is_power_of_two(scale) { 0.0 } else { 4.0 * u };
    let scaled = x.times(Interval::about(scale, 0.0));
    let scaled = scaled.widened(of_product * scaled.size());
    Interval { least: format.round(scaled.least) / scale, most: format.round(scaled.most) / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U: f64 = 1.0 / 16_777_216.0;

    #[test]
    fn a_number_that_is_known_has_one_code_and_one_near_a_midpoint_has_two() {
        let codes = |x: f64, error: f64, scale: f64| {
            let Interval { least, most } =
                quantised(Interval::about(x, error), Format::E4m3, scale, U);
            [least, most]
        };
        // From 1 to 1.125 the midpoint is 1.0625.
        assert_eq!(codes(1.05, 1e-3, 1.0), [1.0, 1.0]);
        assert_eq!(codes(1.0625, 1e-6, 1.0), [1.0, 1.125]);
        // The same numbers over 256 with this scale; without it they are subnormal, in steps of 2^-9.
        assert_eq!(codes(1.05 / 256.0, 1e-6, 256.0), [1.0 / 256.0, 1.0 / 256.0]);
        assert_eq!(codes(1.05 / 256.0, 1e-6, 1.0), [2.0 / 512.0, 2.0 / 512.0]);
        assert_eq!(codes(0.25 / 512.0, 1e-9, 1.0), [0.0, 0.0]);
        // Saturation: 1.05 times 1024 is above 448, and its code is that of 448.
        assert_eq!(codes(1.05, 1e-3, 1024.0), [448.0 / 1024.0; 2]);
    }
}
