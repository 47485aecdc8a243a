//! The scalars the equations run over.
//!
//! Three traits without provided methods:
//!
//! - [`Ring`]: `+ - *`. The backward pass *given the weights* needs no more, so it also runs in exact
//!   rationals, where the tests compare means by `==`.
//! - [`Field`]: a ring with division and order, for the moments of SUS.
//! - [`Scalar`]: a field with the transcendental functions of attention. Implemented for `f32`, `f64`, [`half::f16`],
//!   [`half::bf16`], [`Dd`] (about 106 bits), [`DdWithError`] and [`Dual`] numbers over any of them.
//!
//! No implementation calls the platform's mathematical library, so every value is the same on every machine.

mod dd;
mod dual;
mod native;
mod with_error;

pub use dd::Dd;
pub use dual::Dual;
pub use with_error::DdWithError;

use nalgebra::{ClosedAddAssign, ClosedDivAssign, ClosedMulAssign, ClosedSubAssign};
use num_traits::{One, Zero};
use std::ops::Neg;

/// A commutative ring whose elements can be copied and sent between threads.
///
/// Blanket-implemented: `num_rational::Ratio<i128>` is one, and so is every [`Scalar`].
///
/// # Examples
/// ```
/// use num_rational::Ratio;
/// use sus_reference::scalar::Ring;
/// /// `1 + x + x^2 + x^3`, by nothing but the ring's operations.
/// fn sum_of_powers<T: Ring>(x: T) -> T {
///     (0..3).fold(T::one(), |sum, _| T::one() + x * sum)
/// }
/// assert_eq!(sum_of_powers(Ratio::new(1_i128, 3)), Ratio::new(40, 27)); // exact
/// assert_eq!(sum_of_powers(2.0_f32), 15.0);
/// ```
pub trait Ring:
    nalgebra::Scalar
    + Copy
    + Zero
    + One
    + ClosedAddAssign
    + ClosedSubAssign
    + ClosedMulAssign
    + Neg<Output = Self>
    + Send
    + Sync
{
}

impl<T> Ring for T where
    T: nalgebra::Scalar
        + Copy
        + Zero
        + One
        + ClosedAddAssign
        + ClosedSubAssign
        + ClosedMulAssign
        + Neg<Output = T>
        + Send
        + Sync
{
}

/// An ordered field: a ring with division and order. `num_rational::Ratio<i128>` is one, and so is every [`Scalar`].
///
/// # Examples
/// ```
/// use num_rational::Ratio;
/// use sus_reference::scalar::Field;
/// /// The variance of a weight that is kept with probability `q`, over the squared weight.
/// fn relative_variance<T: Field>(q: T) -> T {
///     if q < T::one() { (T::one() - q) / q } else { T::zero() }
/// }
/// assert_eq!(relative_variance(Ratio::new(2_i128, 3)), Ratio::new(1, 2)); // exact
/// assert_eq!(relative_variance(0.5), 1.0);
/// ```
pub trait Field: Ring + ClosedDivAssign + PartialOrd {}

impl<T: Ring + ClosedDivAssign + PartialOrd> Field for T {}

/// A ring with division, order and the transcendental functions that attention needs.
///
/// # Examples
/// ```
/// use sus_reference::scalar::{Dd, Dual, Scalar};
/// fn sigmoid<T: Scalar>(x: T) -> T {
///     T::one() / (T::one() + (-x).exp())
/// }
/// assert_eq!(sigmoid(Dd::new(0.0)).to_f64(), 0.5);
/// assert_eq!(sigmoid(Dual::variable(0.0)).eps, 0.25); // sigmoid' = sigmoid (1 - sigmoid)
/// assert_eq!(half::bf16::from_f64(0.1).to_f64(), 0.10009765625); // eight bits of it
/// ```
pub trait Scalar: Ring + ClosedDivAssign + PartialOrd {
    /// The scalar nearest to `x` (ties to even).
    fn from_f64(x: f64) -> Self;
    /// The `f64` nearest to `self`; of a dual number, of its real part.
    fn to_f64(self) -> f64;
    /// `e^self`.
    #[must_use]
    fn exp(self) -> Self;
    /// The natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
    /// The hyperbolic tangent.
    #[must_use]
    fn tanh(self) -> Self;
    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;
}
