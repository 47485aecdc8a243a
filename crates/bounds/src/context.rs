//! The operands that the bounds of all results share.

use super::false_alarm::{ELEMENTWISE_FALSE_ALARM, tail_factor};
use super::input::BoundsInput;
use super::operands::Operands;
use super::roundoff::Roundoff;
use super::stage::Stage;
use super::sums::Tail;
use super::term::Term;
use super::ties::most_equal;
use std::borrow::Cow;
use sus_reference::problem::{Part, Problem, Row};

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

    /// Whether the values are a part of the keys, so that `dk` and `dv` are one gradient.
    pub(super) fn values_in_keys(&self) -> bool {
        self.input.problem.options().v_of_k
    }

    /// The statistics have three tensors: `dq`, `dk` and `dv`; or, where the values are in the keys, `dq`, `dkv` and an empty one.
    pub(super) fn widths(&self) -> [usize; 3] {
        let s = self.input.problem.sizes();
        let of_values = if self.values_in_keys() { 0 } else { s.value_features };
        [s.features, s.features, of_values]
    }

    /// Which of the three tensors has the products with `G`.
    pub(super) fn of_values(&self) -> usize {
        if self.values_in_keys() { 1 } else { 2 }
    }

    /// `G` of a row as it is added to this tensor: with zeros behind it where `dkv` has more features.
    pub(super) fn g_of_values(&self, row: Row) -> Cow<'a, [f64]> {
        let g = self.input.problem.g(row);
        if !self.values_in_keys() {
            return Cow::Borrowed(g);
        }
        let mut padded = g.to_vec();
        padded.resize(self.input.problem.sizes().features, 0.0);
        Cow::Owned(padded)
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
