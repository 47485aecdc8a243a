//! The inputs of a case, drawn from `ChaCha`; every value exact in bf16, in f16 and in `f32`.

mod by_name;
mod by_stream;

pub use by_name::{KEY, REAL_CUT};
pub use by_stream::Numbers;

use super::fixture::Fixture;
use serde::Deserialize;
use sus_reference::error::Error;
use sus_reference::problem::Inputs;

/// How the inputs of a case are drawn. Every value is exact in bf16 and in f16.
///
/// All but [`Values::Sixteenths`] are drawn by the case's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Values {
    /// Multiples of 1/64 in (-4, 4), bell-shaped with standard deviation 1.15.
    #[default]
    Plain,
    /// Integers from -2 to 2.
    SmallIntegers,
    /// Ramps whose level tells the head and the sequence.
    HeadRamps,
    /// Plain, but `do` holds multiples of 2^-24 below 2^-16.
    TinyCotangent,
    /// Plain, but `do` is zero.
    NoCotangent,
    /// Plain, but the first feature adds about -320 to every `q . k`.
    Deep,
    /// Scores up to about 10^4; keys in pairs of nearly equal scores, so that gradients do not vanish.
    Huge,
    /// Plain, with `q` and `k` times 4.
    Large,
    /// Plain, with `q` times 4.
    Peaked,
    /// Plain, with `q` over 16.
    Flat,
    /// A cut of an attention layer of a trained transformer.
    Real,
    /// Multiples of 1/16 below 4, near a normal distribution of deviation 1, drawn from a numbered stream.
    Sixteenths {
        /// The stream of the generator.
        stream: u64,
        /// What is done to the numbers after they are drawn.
        numbers: Numbers,
    },
}

/// The inputs of a case.
///
/// # Errors
/// Those of the cut of real tensors; they do not happen with the cases of the corpus.
///
/// # Examples
/// ```
/// use sus_corpus::{Suite, Values, draw_inputs};
/// let integers = Suite::Smoke.fixtures().iter().find(|case| case.values == Values::SmallIntegers).unwrap();
/// let inputs = draw_inputs(integers)?;
/// assert!(inputs.q.as_slice().iter().all(|&x| x.fract() == 0.0 && x.abs() <= 2.0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn draw_inputs(case: &Fixture) -> Result<Inputs<f64>, Error> {
    match case.values {
        Values::Real => by_name::real_inputs(),
        Values::Sixteenths { stream, numbers } => Ok(by_stream::inputs(case, stream, numbers)),
        _ => Ok(by_name::inputs(case)),
    }
}
