//! The known rounding bugs that the rule `direction` looks for, supplied by a collection of wrong kernels.

use std::fmt::Debug;
use sus_bounds::{Direction, Recipe};
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;

/// A collection of known bugs. This crate has none of its own: the crate of wrong kernels uses the verdict, not the reverse.
pub trait KnownBugs: Debug + Sync {
    /// The errors that each bug makes in the gradients of a problem: the directions along which small errors are looked for.
    fn directions(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Vec<Direction>;

    /// The gradients of the simplest right kernel of the recipe, if there are directions. A direction along which it errs by more
    /// than half of the limit is left out: right kernels make that error too.
    fn control_result(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Option<ControlGradients>;
}

/// The gradients of a control kernel, flat; `dbias` is empty for a problem without a bias.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the gradient of its name")]
pub struct ControlGradients {
    pub dq: Vec<f64>,
    pub dk: Vec<f64>,
    pub dv: Vec<f64>,
    pub dbias: Vec<f64>,
}

impl ControlGradients {
    /// The gradients in the order `dq, dk, dv, dbias`.
    #[must_use]
    pub fn as_slices(&self) -> [&[f64]; 4] {
        [&self.dq, &self.dk, &self.dv, &self.dbias]
    }
}
