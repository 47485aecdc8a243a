//! [`Dd`]: a number held as the exact sum of two `f64`, about 106 bits.
//!
//! The reference computes its truth in this type and rounds it to `f64`, so every result here must be the
//! same on every machine. Only `+ - * / sqrt` of `f64` and bit operations are used: IEEE 754 fixes their
//! every bit. There is no fused multiply-add, because without it in hardware it is a slow library call.
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
//! absolute error of a few `2^-1074` comes on top, the spacing of `f64` itself.
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
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// // 0.1 is not a tenth, and ten of it are not 1: what f64 rounds away is kept.
    /// let ten = (0..10).fold(Dd::new(0.0), |sum, _| sum + Dd::new(0.1));
    /// assert_eq!(ten, Dd::from_prod(0.1, 10.0));
    /// assert_ne!(ten, Dd::new(1.0));
    /// ```
    #[inline]
    #[must_use]
    pub const fn new(x: f64) -> Self {
        Self { hi: x, lo: 0.0 }
    }

    /// The sum `a + b` of any two `f64`, exactly (Knuth's two-sum); if it overflows, what `f64` says.
    ///
    /// The parts need not be normalised or ordered. Exact, underflow included.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// let sum = Dd::from_parts(1.0, 1e-20);
    /// assert_eq!((sum.hi(), sum.lo()), (1.0, 1e-20));
    /// assert_eq!((sum - Dd::new(1.0)).hi(), 1e-20);
    /// ```
    #[inline]
    #[must_use]
    pub const fn from_parts(a: f64, b: f64) -> Self {
        let (hi, lo) = arithmetic::two_sum(a, b);
        Self::or_not_finite(hi, lo)
    }

    /// The product `a * b` of two `f64`, exactly (Dekker) unless it leaves the range.
    ///
    /// Exact if `a * b = 0` or `2^-968 <= |a * b|`; below, within `2^-1071`. If it overflows, what `f64` says.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// let product = Dd::from_prod(1.0 + f64::EPSILON, 1.0 + f64::EPSILON);
    /// assert_eq!(product.lo(), f64::EPSILON * f64::EPSILON); // what f64 would lose
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
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// let x = Dd::from_parts(1.0, 0.75 * f64::EPSILON); // nearer to the next f64
    /// assert_eq!((x.hi(), x.lo()), (1.0 + f64::EPSILON, -0.25 * f64::EPSILON));
    /// ```
    #[inline]
    #[must_use]
    pub const fn hi(self) -> f64 {
        self.hi
    }

    /// The low part: what [`hi`](Self::hi) leaves out.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::{Dd, Scalar};
    /// let root = Dd::new(2.0).sqrt();
    /// assert!(root.lo() != 0.0 && root.lo().abs() <= 0.5 * f64::EPSILON * root.hi());
    /// assert_eq!(Dd::new(4.0).sqrt().lo(), 0.0);
    /// ```
    #[inline]
    #[must_use]
    pub const fn lo(self) -> f64 {
        self.lo
    }

    /// Whether the value is neither infinite nor NaN.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::{Dd, Scalar};
    /// assert!(Dd::new(709.0).exp().is_finite() && !Dd::new(710.0).exp().is_finite()); // the range of f64
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_finite(self) -> bool {
        self.hi.is_finite()
    }

    /// Whether the value is NaN.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// let infinity = Dd::new(f64::INFINITY);
    /// assert!((infinity - infinity).is_nan() && !infinity.is_nan());
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_nan(self) -> bool {
        self.hi.is_nan()
    }

    /// The absolute value, exactly.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// let x = Dd::from_parts(-1.0, 1e-20); // both parts change their sign
    /// assert_eq!((x.abs().hi(), x.abs().lo()), (1.0, -1e-20));
    /// ```
    #[inline]
    #[must_use]
    pub fn abs(self) -> Self {
        if self.hi < 0.0 { -self } else { self }
    }

    /// `e^self - 1` without cancellation near 0: relative error below `28u²` everywhere, `u = 2^-53`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::scalar::Dd;
    /// let found = Dd::new(1e-20).exp_m1(); // 1e-20 + 5e-41
    /// assert_eq!((found.hi(), (found - Dd::new(1e-20)).hi() > 4.9e-41), (1e-20, true));
    /// ```
    #[must_use]
    pub fn exp_m1(self) -> Self {
        elementary::exp_m1(self)
    }

    /// `(hi, lo)` if finite; otherwise `hi` alone, so that no NaN of a low part gets out.
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
