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
        }
    }

    /// The smallest positive number with all its significant bits.
    #[must_use]
    pub fn smallest_normal(self) -> f64 {
        match self {
            Format::F64 => f64::MIN_POSITIVE,
            Format::F16 => libm::ldexp(1.0, -14),
            Format::F32 | Format::Tf32 | Format::Bf16 => libm::ldexp(1.0, -126),
        }
    }

    /// The smallest magnitude that rounds to infinity.
    #[must_use]
    pub fn overflow(self) -> f64 {
        let (top, half_a_step) = match self {
            Format::F64 => return f64::INFINITY,
            Format::F16 => (libm::ldexp(1.0, 16), libm::ldexp(1.0, 4)),
            Format::F32 => (libm::ldexp(1.0, 128), libm::ldexp(1.0, 103)),
            Format::Tf32 => (libm::ldexp(1.0, 128), libm::ldexp(1.0, 116)),
            Format::Bf16 => (libm::ldexp(1.0, 128), libm::ldexp(1.0, 119)),
        };
        top - half_a_step
    }

    /// `x` rounded to the format, to nearest, ties to even.
    #[must_use]
    pub fn round(self, x: f64) -> f64 {
        match self {
            Format::F64 => x,
            Format::F32 => f64::from(x as f32),
            Format::Tf32 => round_to_tf32(x),
            Format::F16 => <f16 as Scalar>::from_f64(x).to_f64(),
            Format::Bf16 => <bf16 as Scalar>::from_f64(x).to_f64(),
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
        }
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
