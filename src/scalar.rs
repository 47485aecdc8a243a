//! The scalars the equations run over.
//!
//! Two traits, both without provided methods:
//!
//! - [`Ring`]: `+ - *`. The backward pass *given the weights* needs no more, so it also runs in exact
//!   rationals, where "unbiased" is proved with `==`.
//! - [`Scalar`]: a ring with division, order and the four transcendental functions of attention.
//!   Implemented for `f32`, `f64`, [`half::f16`], [`half::bf16`], [`Dd`] (about 106 bits) and
//!   [`Dual`] numbers over any of them.
//!
//! No implementation calls the platform's mathematical library: every value is the same on every machine.

mod dd;
mod dual;
mod native;

pub use dd::Dd;
pub use dual::Dual;

use nalgebra::{ClosedAddAssign, ClosedDivAssign, ClosedMulAssign, ClosedSubAssign};
use num_traits::{One, Zero};
use std::ops::Neg;

/// A commutative ring whose elements can be copied and sent between threads.
///
/// Blanket-implemented: `num_rational::Ratio<i128>` is one, and so is every [`Scalar`].
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

/// A ring with division, order and the transcendental functions that attention needs.
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
