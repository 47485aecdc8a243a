//! [`Dual`]: a value and its derivative in one direction, computed together.

use super::Scalar;
use num_traits::{One, Zero};
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// The dual number `re + eps ε`, `ε² = 0`: a value and its derivative in one direction.
///
/// The forward equations over `Dual<T>` give the directional derivative of every output by the rules of calculus, without
/// a step size, to the accuracy of `T`: an independent check of a backward pass. `Dual<Dual<T>>` gives second derivatives.
///
/// **A constant has no derivative.** A derivative of exactly 0 stays 0 even if a factor or the other derivative is
/// infinite or NaN, as at the score `-inf` of a masked key, at the `ln 0` of a row without keys, or at `√0`. A real part
/// that is NaN stays NaN.
///
/// `==` compares both parts, `<` the real parts only; so two numbers may be neither less, nor greater, nor equal.
///
/// ```
/// use sus_reference::scalar::{Dual, Scalar};
/// let x = Dual::variable(3.0_f64);
/// assert_eq!((x * x + x).eps, 7.0);
/// assert_eq!(Dual::constant(f64::NEG_INFINITY).exp(), Dual::constant(0.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dual<T> {
    /// The value.
    pub re: T,
    /// The derivative.
    pub eps: T,
}

impl<T: Scalar> Dual<T> {
    /// `re + eps ε`.
    #[inline]
    #[must_use]
    pub const fn new(re: T, eps: T) -> Self {
        Self { re, eps }
    }

    /// The variable of the derivative: `eps = 1`.
    #[inline]
    #[must_use]
    pub fn variable(re: T) -> Self {
        Self::new(re, T::one())
    }

    /// A constant: `eps = 0`.
    #[inline]
    #[must_use]
    pub fn constant(re: T) -> Self {
        Self::new(re, T::zero())
    }
}

/// `derivative * eps`, and 0 for the `eps` of a constant, whatever the derivative.
#[inline]
fn chain<T: Scalar>(derivative: T, eps: T) -> T {
    if eps.is_zero() { T::zero() } else { derivative * eps }
}

/// `eps / divisor`, and 0 for the `eps` of a constant, whatever the divisor.
#[inline]
fn chain_div<T: Scalar>(eps: T, divisor: T) -> T {
    if eps.is_zero() { T::zero() } else { eps / divisor }
}

impl<T: Scalar> Add for Dual<T> {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        Self::new(self.re + other.re, self.eps + other.eps)
    }
}

impl<T: Scalar> Sub for Dual<T> {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self::new(self.re - other.re, self.eps - other.eps)
    }
}

/// `(ab)' = a'b + ab'`
impl<T: Scalar> Mul for Dual<T> {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        Self::new(self.re * other.re, chain(other.re, self.eps) + chain(self.re, other.eps))
    }
}

/// `(a/b)' = (a' - (a/b) b') / b`
impl<T: Scalar> Div for Dual<T> {
    type Output = Self;
    #[inline]
    fn div(self, other: Self) -> Self {
        let re = self.re / other.re;
        Self::new(re, chain_div(self.eps - chain(re, other.eps), other.re))
    }
}

impl<T: Scalar> Neg for Dual<T> {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self::new(-self.re, -self.eps)
    }
}

macro_rules! assign {
    ($($Trait:ident $method:ident $op:tt;)*) => {$(
        impl<T: Scalar> $Trait for Dual<T> {
            #[inline]
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

impl<T: Scalar> Scalar for Dual<T> {
    /// The constant `x`.
    fn from_f64(x: f64) -> Self {
        Self::constant(T::from_f64(x))
    }

    fn to_f64(self) -> f64 {
        self.re.to_f64()
    }

    /// `(exp a)' = exp(a) a'`
    fn exp(self) -> Self {
        let re = self.re.exp();
        Self::new(re, chain(re, self.eps))
    }

    /// `(ln a)' = a' / a`
    fn ln(self) -> Self {
        Self::new(self.re.ln(), chain_div(self.eps, self.re))
    }

    /// `(tanh a)' = (1 - tanh² a) a'`, the bracket as `(1 - t)(1 + t)`.
    ///
    /// Where `|tanh a|` is close to 1 the bracket is small, and its error is that of `t`: absolute, not relative.
    fn tanh(self) -> Self {
        let re = self.re.tanh();
        Self::new(re, chain((T::one() - re) * (T::one() + re), self.eps))
    }

    /// `(√a)' = a' / 2√a`
    fn sqrt(self) -> Self {
        let re = self.re.sqrt();
        Self::new(re, chain_div(self.eps, re + re))
    }
}

/// By the real part.
impl<T: Scalar> PartialOrd for Dual<T> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.re.partial_cmp(&other.re)
    }
}

impl<T: Scalar> Zero for Dual<T> {
    #[inline]
    fn zero() -> Self {
        Self::constant(T::zero())
    }
    /// Both parts: a variable that happens to be 0 is not the constant 0.
    #[inline]
    fn is_zero(&self) -> bool {
        self.re.is_zero() && self.eps.is_zero()
    }
}

impl<T: Scalar> One for Dual<T> {
    #[inline]
    fn one() -> Self {
        Self::constant(T::one())
    }
}

/// As in `3 + 1ε`.
impl<T: fmt::Display> fmt::Display for Dual<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {}ε", self.re, self.eps)
    }
}
