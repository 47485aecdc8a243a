//! The number formats of kernels: roundoff, smallest numbers, largest numbers, rounding.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use sus_reference::scalar::Scalar;

/// A binary floating-point format.
///
/// # Examples
/// ```
/// use sus_bounds::Format;
/// // The error of a third in each.
/// let error = |format: Format| (format.round(1.0 / 3.0) * 3.0 - 1.0).abs();
/// assert_eq!(error(Format::F64), 0.0);
/// assert!(error(Format::F32) < error(Format::F16) && error(Format::F16) < error(Format::Bf16));
/// assert_eq!(Format::Tf32.precision(), Format::F16.precision());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// The operands of a tf32 product: the range of `f32`, 11 significant bits, truncated by the hardware.
    Tf32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// OCP E4M3, "fn": 4 significant bits, up to 448, no infinity.
    E4m3,
    /// OCP E5M2: 3 significant bits, up to 57344.
    E5m2,
}

impl Format {
    /// Significant bits, the implicit one included.
    #[must_use]
    pub const fn precision(self) -> i32 {
        match self {
            Format::F64 => 53,
            Format::F32 => 24,
            Format::Tf32 | Format::F16 => 11,
            Format::Bf16 => 8,
            Format::E4m3 => 4,
            Format::E5m2 => 3,
        }
    }

    /// The unit roundoff `u`: the largest relative error of rounding a number of the normal range.
    ///
    /// `2^-p` for rounding to nearest; `2^(1-p)` for tf32, whose operands hardware truncates.
    #[must_use]
    pub fn unit_roundoff(self) -> f64 {
        let truncated = i32::from(self == Format::Tf32);
        libm::ldexp(1.0, truncated - self.precision())
    }

    /// The smallest positive number.
    #[must_use]
    pub fn smallest_subnormal(self) -> f64 {
        match self {
            Format::F64 => libm::ldexp(1.0, -1074),
            Format::F32 => libm::ldexp(1.0, -149),
            Format::Tf32 => libm::ldexp(1.0, -136),
            Format::F16 => libm::ldexp(1.0, -24),
            Format::Bf16 => libm::ldexp(1.0, -133),
            Format::E4m3 => libm::ldexp(1.0, -9),
            Format::E5m2 => libm::ldexp(1.0, -16),
        }
    }

    /// The smallest positive number with all its significant bits.
    #[must_use]
    pub fn smallest_normal(self) -> f64 {
        match self {
            Format::F64 => f64::MIN_POSITIVE,
            Format::F16 | Format::E5m2 => libm::ldexp(1.0, -14),
            Format::E4m3 => libm::ldexp(1.0, -6),
            Format::F32 | Format::Tf32 | Format::Bf16 => libm::ldexp(1.0, -126),
        }
    }

    /// The smallest magnitude that rounds to infinity; of 8 bits, above which numbers are saturated by more than a rounding.
    #[must_use]
    pub fn overflow(self) -> f64 {
        let (top, half_a_step) = match self {
            Format::F64 => return f64::INFINITY,
            // Half a step above the largest number: 464 and 61440.
            Format::E4m3 | Format::E5m2 => return self.largest_of_8_bits() + self.last_half_step(),
            Format::F16 => (libm::ldexp(1.0, 16), libm::ldexp(1.0, 4)),
            Format::F32 => (libm::ldexp(1.0, 128), libm::ldexp(1.0, 103)),
            Format::Tf32 => (libm::ldexp(1.0, 128), libm::ldexp(1.0, 116)),
            Format::Bf16 => (libm::ldexp(1.0, 128), libm::ldexp(1.0, 119)),
        };
        top - half_a_step
    }

    /// `x` rounded to the format, to nearest, ties to even; to 8 bits saturated, as kernels convert to them.
    #[must_use]
    pub fn round(self, x: f64) -> f64 {
        match self {
            Format::F64 => x,
            Format::F32 => f64::from(x as f32),
            Format::Tf32 => round_to_tf32(x),
            Format::F16 => <f16 as Scalar>::from_f64(x).to_f64(),
            Format::Bf16 => <bf16 as Scalar>::from_f64(x).to_f64(),
            Format::E4m3 | Format::E5m2 => self.round_to_8_bits(x),
        }
    }

    /// The largest error of rounding a number of magnitude at most `magnitude`: half the spacing of the format there,
    /// and no less than half its smallest number; where small numbers are flushed to zero, the smallest normal number.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::Format;
    /// assert_eq!(Format::Bf16.rounding_error(1.5, false), 1.0 / 256.0);
    /// assert_eq!(Format::Bf16.rounding_error(3.0, false), 1.0 / 128.0);
    /// ```
    #[inline]
    #[must_use]
    pub fn rounding_error(self, magnitude: f64, flush_to_zero: bool) -> f64 {
        let underflow = self.underflow_error(flush_to_zero);
        if !magnitude.is_finite() {
            return magnitude;
        }
        // Half the spacing of the binade 2^e is u 2^e; of tf32, which is truncated, a whole spacing.
        (self.unit_roundoff() * power_below(magnitude)).max(underflow)
    }

    /// The largest error of rounding `x` times a factor that is not known, per factor: `u |x|`, and no less than the
    /// underflow error, for factors up to 1.
    #[inline]
    #[must_use]
    pub fn relative_error(self, magnitude: f64, flush_to_zero: bool) -> f64 {
        (self.unit_roundoff() * magnitude).max(self.underflow_error(flush_to_zero))
    }

    /// The largest error of rounding a number too small for full precision.
    #[must_use]
    pub fn underflow_error(self, flush_to_zero: bool) -> f64 {
        match (flush_to_zero, self) {
            (true, _) => self.smallest_normal(),
            (false, Format::Tf32) => self.smallest_subnormal(),
            (false, _) => self.smallest_subnormal() / 2.0,
        }
    }

    /// The name in recipes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::F64 => "f64",
            Format::F32 => "f32",
            Format::Tf32 => "tf32",
            Format::F16 => "f16",
            Format::Bf16 => "bf16",
            Format::E4m3 => "e4m3",
            Format::E5m2 => "e5m2",
        }
    }

    /// Whether it has 8 bits, so that numbers are scaled before they are rounded to it.
    #[must_use]
    pub const fn has_8_bits(self) -> bool {
        matches!(self, Format::E4m3 | Format::E5m2)
    }

    /// `1.75 2^8` and `1.75 2^15`: of E4M3 the code above would be 480, which is NaN.
    fn largest_of_8_bits(self) -> f64 {
        if self == Format::E4m3 { 448.0 } else { 57344.0 }
    }

    /// Half of the distance between the two largest numbers.
    fn last_half_step(self) -> f64 {
        if self == Format::E4m3 { 16.0 } else { 4096.0 }
    }

    /// To nearest, ties to even, in units of the last bit; the smallest unit is the smallest number.
    fn round_to_8_bits(self, x: f64) -> f64 {
        if x.is_nan() {
            return x;
        }
        let largest = self.largest_of_8_bits();
        let x = x.clamp(-largest, largest);
        let unit = power_below(x.abs()) * libm::ldexp(1.0, 1 - self.precision());
        let unit = unit.max(self.smallest_subnormal());
        (x / unit).round_ties_even() * unit
    }
}

/// The largest power of two that is at most `x`; 0 below the normal range.
fn power_below(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & 0x7ff0_0000_0000_0000)
}

/// Drops 13 bits of an `f32`, to nearest, ties to even.
fn round_to_tf32(x: f64) -> f64 {
    let bits = (x as f32).to_bits();
    if !f32::from_bits(bits).is_finite() {
        return f64::from(f32::from_bits(bits));
    }
    // Half of the dropped bits less one, and one more if the last kept bit is odd: to nearest, ties to even.
    let tie = (bits >> 13) & 1;
    f64::from(f32::from_bits((bits + 0xfff + tie) & !0x1fff))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a format of 8 bits by its definition: `(-1)^s 2^(e - bias) 1.m`, and `2^(1 - bias) 0.m` for `e = 0`.
    fn numbers(exponent_bits: u32, last: u32) -> Vec<f64> {
        let fraction_bits = 7 - exponent_bits;
        let bias = (1 << (exponent_bits - 1)) - 1;
        let number = |code: u32| {
            let (e, m) = (code >> fraction_bits, code & ((1 << fraction_bits) - 1));
            let (whole, power) =
                if e == 0 { (0, 1 - bias) } else { (1 << fraction_bits, e as i32 - bias) };
            libm::ldexp(f64::from(whole + m), power - fraction_bits as i32)
        };
        (0..=last).map(number).collect()
    }

    /// Every number, every midpoint of two, and both sides of each; beyond the last one, and of either sign.
    #[test]
    fn rounding_to_8_bits_is_to_the_nearest_number_ties_to_even_and_saturates() {
        for (format, numbers) in
            [(Format::E4m3, numbers(4, 0x7e)), (Format::E5m2, numbers(5, 0x7b))]
        {
            let largest = *numbers.last().unwrap();
            assert_eq!(largest, if format == Format::E4m3 { 448.0 } else { 57344.0 });
            assert_eq!(numbers[1], format.smallest_subnormal());
            for sign in [1.0, -1.0] {
                let round = |x: f64| sign * format.round(sign * x);
                for (code, pair) in numbers.windows(2).enumerate() {
                    let (least, most) = (pair[0], pair[1]);
                    let middle = f64::midpoint(least, most);
                    let even = if code % 2 == 0 { least } else { most };
                    assert_eq!([round(least), round(most), round(middle)], [least, most, even]);
                    let near = middle * f64::EPSILON;
                    assert_eq!([round(middle - near), round(middle + near)], [least, most]);
                }
                for beyond in [format.overflow(), 2.0 * largest, f64::MAX, f64::INFINITY] {
                    assert_eq!(round(beyond), largest);
                }
            }
        }
        assert!(Format::E4m3.round(f64::NAN).is_nan());
    }
}
