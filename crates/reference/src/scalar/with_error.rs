//! [`DdWithError`]: a double-double number with a bound on its error, both computed together.
//!
//! This is running error analysis (Wilkinson; Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.3). An
//! operation on computed operands `x`, `y` with error bounds `e_x`, `e_y` gives the same value as on [`Dd`], and the bound
//!
//! ```text
//! x + y    e_x + e_y                               + 3u² |x + y|
//! x y      |x| e_y + |y| e_x + e_x e_y             + 5u² |x y|
//! x / y    (e_x + |x / y| e_y) / (|y| - e_y)       + 15u² |x / y|
//! exp x    e^x (e^e_x - 1)                         + 7u² e^x
//! ln x     e_x / (x - e_x)                         + 42u² |ln x|
//! tanh x   e_x                                     + 43u² |tanh x|      (|tanh'| <= 1)
//! sqrt x   e_x / sqrt x                            + 6u² sqrt x
//! ```
//!
//! with the roundoffs of [`Dd`], `u = 2^-53`. The bound is computed in `f64`. Every operation enlarges it by `2^-40` of
//! itself, which covers the roundings of the bound and the terms of third order in `u`. Products, quotients, `exp` and
//! `tanh` enlarge it by `2^-1060`, which covers underflow.

use super::{Dd, Scalar};
use num_traits::{One, Zero};
use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// `u² = 2^-106`.
const U2: f64 = 1.0 / ((1_u128 << 106) as f64);
/// The smallest addition to a bound, `2^-1060`: [`Dd`] loses at most a few `2^-1074` where it underflows.
const UNDERFLOW: f64 = f64::from_bits(1 << 14);
/// The factor that covers the roundings of the bound's own arithmetic.
const ENLARGED: f64 = 1.0 + 1.0 / ((1_u64 << 40) as f64);

/// A [`Dd`] and a bound on the distance to the exact result of the same operations on the same inputs.
///
/// Two computations of one exact number differ by at most the sum of their bounds: tests compare within a tolerance that
/// is derived from their own operations. `Dual<DdWithError>` gives derivatives with bounds.
///
/// Comparisons are those of the values. Where a computation branches, the bound holds for the branch that it takes. Values
/// that are not finite have a bound of zero.
///
/// # Examples
/// ```
/// use sus_reference::scalar::{DdWithError, Scalar};
/// let third = DdWithError::from_f64(1.0) / DdWithError::from_f64(3.0);
/// let rest = third + third + third - DdWithError::from_f64(1.0); // exactly zero
/// assert!(rest.value().abs().to_f64() <= rest.error());
/// assert!(0.0 < rest.error() && rest.error() < 1e-30);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct DdWithError {
    value: Dd,
    error: f64,
}

impl DdWithError {
    /// The computed value, with the same bits as without the bound.
    #[must_use]
    pub const fn value(self) -> Dd {
        self.value
    }

    /// The bound on the error of the value.
    #[must_use]
    pub const fn error(self) -> f64 {
        self.error
    }

    /// A value with an inherited error and `roundoff * u²` of itself for its last operation.
    fn new(value: Dd, inherited: f64, roundoff: f64) -> Self {
        let error = (inherited + roundoff * U2 * value.to_f64().abs()) * ENLARGED;
        // Only an operand with an error as large as itself makes the bound NaN, where the value is finite.
        let error = if error.is_nan() { f64::INFINITY } else { error };
        Self { value, error: if value.is_finite() { error } else { 0.0 } }
    }

    /// The same with a possible underflow. A zero without an error has none.
    fn or_underflow(self, is_exact_zero: bool) -> Self {
        let is_exact = is_exact_zero || !self.value.is_finite();
        Self { error: self.error + if is_exact { 0.0 } else { UNDERFLOW }, ..self }
    }

    fn magnitude(self) -> f64 {
        self.value.to_f64().abs()
    }
}

impl Add for DdWithError {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        // A sum with an exact zero is exact.
        let exact = [self, other].iter().any(Zero::is_zero);
        let roundoff = if exact { 0.0 } else { 3.0 };
        Self::new(self.value + other.value, self.error + other.error, roundoff)
    }
}

impl Neg for DdWithError {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, error: self.error }
    }
}

impl Sub for DdWithError {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for DdWithError {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let (a, b) = (self.magnitude(), other.magnitude());
        let inherited = a * other.error + b * self.error + self.error * other.error;
        let product = Self::new(self.value * other.value, inherited, 5.0);
        product.or_underflow(self.is_zero() || other.is_zero())
    }
}

impl Div for DdWithError {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        let inherited = (self.error + value.to_f64().abs() * other.error)
            / (other.magnitude() - other.error).max(0.0);
        Self::new(value, inherited, 15.0).or_underflow(self.is_zero())
    }
}

macro_rules! assign {
    ($($Trait:ident $method:ident $op:tt;)*) => {$(
        impl $Trait for DdWithError {
            fn $method(&mut self, other: Self) {
                *self = *self $op other;
            }
        }
    )*};
}

assign! {
    AddAssign add_assign +;
    SubAssign sub_assign -;
    MulAssign mul_assign *;
    DivAssign div_assign /;
}

impl Scalar for DdWithError {
    fn from_f64(x: f64) -> Self {
        Self { value: Dd::new(x), error: 0.0 }
    }
    fn to_f64(self) -> f64 {
        self.value.to_f64()
    }
    fn exp(self) -> Self {
        let value = self.value.exp();
        let inherited = value.to_f64() * libm::expm1(self.error);
        Self::new(value, inherited, 7.0).or_underflow(self.value.to_f64() == f64::NEG_INFINITY)
    }
    fn ln(self) -> Self {
        let inherited = self.error / (self.value.to_f64() - self.error).max(0.0);
        Self::new(self.value.ln(), inherited, 42.0)
    }
    fn tanh(self) -> Self {
        Self::new(self.value.tanh(), self.error, 43.0).or_underflow(self.is_zero())
    }
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let inherited = if self.error == 0.0 { 0.0 } else { self.error / value.to_f64() };
        Self::new(value, inherited, 6.0)
    }
}

/// By the value.
impl PartialEq for DdWithError {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// By the value.
impl PartialOrd for DdWithError {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Zero for DdWithError {
    fn zero() -> Self {
        Self::from_f64(0.0)
    }
    /// The exact zero: value and error.
    fn is_zero(&self) -> bool {
        self.value.is_zero() && self.error == 0.0
    }
}

impl One for DdWithError {
    fn one() -> Self {
        Self::from_f64(1.0)
    }
}
