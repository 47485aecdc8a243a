//! [`Dd`]: a number held as the exact sum of two `f64`, about 106 bits.
//!
//! The truth of a verdict is computed in this type and rounded to `f64`, so every result must be the same on every
//! machine. Only `+ - * / sqrt` of `f64` and bit operations are used, whose results IEEE 754 defines. There is no fused
//! multiply-add: on a processor without one it is a slow library call.
//!
//! With `u = 2^-53`, and as long as the result's low part stays a normal number, the relative errors are:
//!
//! | operation | bound | source |
//! |---|---|---|
//! | `from_parts`, `from_prod` | 0 | Knuth's two-sum, Dekker's product |
//! | `+`, `-` | `3u² + 13u³` | JMP, algorithm 6 (`AccurateDWPlusDW`) |
//! | `*` | `7u²`; `5u²` by MR | JMP, algorithm 10 (`DWTimesDW1`) |
//! | `/` | `15u² + 56u³` | JMP, algorithm 17 (`DWDivDW2`) |
//! | `sqrt` | `6u²` | derived at `elementary::sqrt` |
//! | `exp` | `7u²` | derived at `elementary::exp` |
//! | `exp_m1` | `28u²` | derived at `elementary::exp_m1` |
//! | `ln` | `42u²` | derived at `elementary::ln` |
//! | `tanh` | `43u²` | derived at `elementary::tanh` |
//!
//! `u²` is 1.2e-32, so the worst of these is 5.3e-31. Where a low part would fall below `2^-1022` an
//! absolute error of a few `2^-1074`, the spacing of `f64` there, is added.
//!
//! - JMP: M. Joldes, J.-M. Muller, V. Popescu, "Tight and rigorous error bounds for basic building blocks of
//!   double-word arithmetic", ACM Transactions on Mathematical Software 44(2), 2017.
//! - MR: J.-M. Muller, L. Rideau, "Formalization of double-word arithmetic, and comments on [JMP]", ACM
//!   Transactions on Mathematical Software 48(1), 2022, which proves JMP's theorems by machine.

mod arithmetic;
mod elementary;
mod table;

use super::Scalar;
use num_traits::{One, Zero};
use std::fmt;

/// A double-double number: the unevaluated sum `hi + lo` of two `f64`, about 106 bits.
///
/// Always normalised, `hi` being `hi + lo` rounded to nearest, so equality and order are those of the
/// values. A number that is not finite has `lo = 0`, and infinities and NaN behave as in `f64`; only the
/// sign of a zero is not kept by `+ - *`. The range is that of `f64`.
///
/// The error bound of each operation and its source are listed in the source of this module; the worst,
/// that of `tanh`, is `43u²` with `u = 2^-53`, or 5.3e-31.
///
/// ```
/// use sus_reference::scalar::{Dd, Scalar};
/// let third = Dd::from(1.0) / Dd::from(3.0);
/// assert_eq!((third.hi(), third.lo()), (1.0 / 3.0, 1.850371707708594e-17));
/// assert_eq!(Dd::from(0.0).exp(), Dd::from(1.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Dd {
    hi: f64,
    lo: f64,
}

impl Dd {
    /// The value `x`, exactly.
    #[inline]
    #[must_use]
    pub const fn new(x: f64) -> Self {
        Self { hi: x, lo: 0.0 }
    }

    /// The sum `a + b` of any two `f64`, exactly (Knuth's two-sum); if it overflows, the result of `f64`.
    ///
    /// The parts need not be normalised or ordered. Exact, underflow included.
    #[inline]
    #[must_use]
    pub const fn from_parts(a: f64, b: f64) -> Self {
        let (hi, lo) = arithmetic::two_sum(a, b);
        Self::or_not_finite(hi, lo)
    }

    /// The product `a * b` of two `f64`, exactly (Dekker) unless it leaves the range.
    ///
    /// Exact if `a * b = 0` or `2^-968 <= |a * b|`; below, the error is at most `2^-1071`. If it overflows, the result of `f64`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// let product = Dd::from_prod(1.0 + f64::EPSILON, 1.0 + f64::EPSILON);
    /// assert_eq!(product.lo(), f64::EPSILON * f64::EPSILON); // the rounding error of f64
    /// ```
    #[inline]
    #[must_use]
    pub fn from_prod(a: f64, b: f64) -> Self {
        let (hi, lo) = arithmetic::two_prod(a, b);
        if lo.is_finite() {
            // An underflowed `lo` has been rounded and may be just too large for `hi`.
            let (hi, lo) = arithmetic::fast_two_sum(hi, lo);
            return Self { hi, lo };
        }
        Self::new(a) * Self::new(b)
    }

    /// The high part: the value rounded to `f64`, to nearest.
    #[inline]
    #[must_use]
    pub const fn hi(self) -> f64 {
        self.hi
    }

    /// The low part: the value minus [`hi`](Self::hi).
    #[inline]
    #[must_use]
    pub const fn lo(self) -> f64 {
        self.lo
    }

    /// Whether the value is neither infinite nor NaN.
    #[inline]
    #[must_use]
    pub const fn is_finite(self) -> bool {
        self.hi.is_finite()
    }

    /// Whether the value is NaN.
    #[inline]
    #[must_use]
    pub const fn is_nan(self) -> bool {
        self.hi.is_nan()
    }

    /// The absolute value, exactly.
    #[inline]
    #[must_use]
    pub fn abs(self) -> Self {
        if self.hi < 0.0 { -self } else { self }
    }

    /// `e^self - 1` without cancellation near 0: relative error below `28u²` everywhere, `u = 2^-53`.
    #[must_use]
    pub fn exp_m1(self) -> Self {
        elementary::exp_m1(self)
    }

    /// `(hi, lo)` if finite; otherwise `hi` alone, without the NaN of the low part.
    #[inline]
    const fn or_not_finite(hi: f64, lo: f64) -> Self {
        if hi.is_finite() { Self { hi, lo } } else { Self { hi, lo: 0.0 } }
    }
}

impl Scalar for Dd {
    fn from_f64(x: f64) -> Self {
        Self::new(x)
    }
    fn to_f64(self) -> f64 {
        self.hi
    }
    fn exp(self) -> Self {
        elementary::exp(self)
    }
    fn ln(self) -> Self {
        elementary::ln(self)
    }
    fn tanh(self) -> Self {
        elementary::tanh(self)
    }
    fn sqrt(self) -> Self {
        elementary::sqrt(self)
    }
}

impl From<f64> for Dd {
    #[inline]
    fn from(x: f64) -> Self {
        Self::new(x)
    }
}

impl Zero for Dd {
    #[inline]
    fn zero() -> Self {
        Self::new(0.0)
    }
    #[inline]
    fn is_zero(&self) -> bool {
        self.hi == 0.0
    }
}

impl One for Dd {
    #[inline]
    fn one() -> Self {
        Self::new(1.0)
    }
}

/// Both parts in the shortest decimals that read back to the same bits, as in `1.0 + 1e-20`.
impl fmt::Display for Dd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hi, lo } = *self;
        if lo == 0.0 {
            write!(f, "{hi:?}")
        } else if lo > 0.0 {
            write!(f, "{hi:?} + {lo:?}")
        } else {
            write!(f, "{hi:?} - {:?}", -lo)
        }
    }
}
