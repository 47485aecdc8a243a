//! The operands that the bounds of all results share.

use super::false_alarm::{ELEMENTWISE_FALSE_ALARM, tail_factor};
use super::input::BoundsInput;
use super::operands::Operands;
use super::roundoff::Roundoff;
use super::stage::Stage;
use super::sums::Tail;
use super::term::Term;
use super::ties::most_equal;
use sus_reference::problem::{Part, Problem};

/// The operands that all bounds share. Each stage of a kernel has a module with the methods of its errors.
pub(super) struct BoundContext<'a> {
    pub(super) input: &'a BoundsInput<'a>,
    pub(super) roundoff: Roundoff<'a>,
    pub(super) lambda: f64,
    pub(super) calibrated: bool,
    pub(super) operands: Operands,
    /// Whether a rounding whose operand is known well enough is counted with its value in place of its bound. Section 7.
    pub(super) follows_known: bool,
}

impl<'a> BoundContext<'a> {
    pub(super) fn new(input: &'a BoundsInput<'a>) -> Self {
        BoundContext {
            input,
            roundoff: Roundoff::new(input.recipe),
            lambda: lambda(input.problem),
            calibrated: input.is_calibrated(),
            operands: Operands::of(input.problem, input.recipe),
            follows_known: false,
        }
    }

    pub(super) fn tail(&self, rho: f64, multiplicity: f64) -> Tail {
        Tail { lambda: self.lambda, rho, multiplicity }
    }

    pub(super) fn threshold(&self, term: Term) -> f64 {
        term.threshold(self.lambda)
    }

    /// The largest number of rows whose `lse` are equal up to rounding, so that their entries may round alike. Section 3.3.
    pub(super) fn equal_rows(&self, mut lses: Vec<f64>) -> f64 {
        lses.retain(|lse| lse.is_finite());
        most_equal(lses, self.roundoff.u)
    }
}

/// Section 3.1: the tail factor of all stages of all elements of a problem together. A part has that of the whole.
fn lambda(problem: &Problem<f64>) -> f64 {
    let Part { whole: s, bias, slopes, .. } = problem.whole();
    let rows = s.batch * s.query_heads * s.queries;
    let keys = s.batch * s.key_heads * s.keys;
    // q and dq have the same length, and so o and G; lse has one element a row, dsink one a head.
    let elements = 2 * rows * s.features
        + keys * s.features
        + keys * s.value_features
        + rows * s.value_features
        + bias
        + slopes
        + rows
        + s.query_heads;
    // Every stage of every element is one event.
    let events = (elements.max(1) * Stage::COUNT) as f64;
    tail_factor(events, ELEMENTWISE_FALSE_ALARM)
}
