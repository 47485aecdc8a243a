//! A small problem for examples.

use super::{Inputs, Options, Problem};
use crate::tensor::Tensor;

/// A problem whose sizes are distinct primes, except for the batch and the key heads: `B = 2`, `Hq = 6`, `Hk = 2`, `Nq = 7`,
/// `Nk = 11`, `D = 5`, `E = 3`. It has no mask, bias or sink. Its numbers are multiples of 1/16 from -2 to 2, exact in every
/// scalar.
///
/// # Examples
/// ```
/// use sus_reference::backward::backward;
/// use sus_reference::forward::forward;
/// let problem = sus_reference::problem::example();
/// let gradients = backward(&problem, &forward(&problem));
/// assert_eq!(gradients.dq.shape(), [2, 6, 7, 5]);
/// assert_eq!(gradients.dv.shape(), [2, 2, 11, 3]); // three query heads share a key head
/// ```
///
/// # Panics
/// Never: the problem is legal.
#[must_use]
pub fn example() -> Problem<f64> {
    // A linear congruential sequence: no generator is needed, and every machine has the same numbers.
    let mut state = 1_u32;
    let mut number = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 26) / 16.0 - 2.0
    };
    let q = Tensor::from_fn([2, 6, 7, 5], &mut number);
    let k = Tensor::from_fn([2, 2, 11, 5], &mut number);
    let v = Tensor::from_fn([2, 2, 11, 3], &mut number);
    let g = Tensor::from_fn([2, 6, 7, 3], &mut number);
    Problem::new(Inputs::new(q, k, v, g), Options::default()).expect("a legal problem")
}
