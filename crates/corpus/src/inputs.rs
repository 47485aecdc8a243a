//! The inputs of a case, drawn from `ChaCha`; every value exact in bf16, in f16 and in `f32`.

mod by_name;
mod by_stream;

pub use by_name::{KEY, REAL_CUT};

use super::fixture::Fixture;
use super::values::Values;
use sus_reference::error::Error;
use sus_reference::problem::Inputs;

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
    let drawn = match case.values {
        Values::Real => by_name::real_inputs()?,
        Values::Sixteenths { stream, numbers } => by_stream::inputs(case, stream, numbers),
        _ => by_name::inputs(case),
    };
    Ok(case.with_structure(drawn))
}
