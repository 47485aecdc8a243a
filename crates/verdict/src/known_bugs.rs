//! The known rounding bugs that the rule `direction` looks for, supplied by a collection of wrong kernels.

use std::fmt::Debug;
use sus_bounds::{ErrorDirection, GradientValues, Recipe};
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
    ) -> Vec<ErrorDirection>;

    /// The gradients of the simplest right kernel of the recipe, if there are directions. A direction along which it errs by more
    /// than half of the limit is left out: right kernels make that error too.
    fn control_result(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Option<GradientValues>;
}
