//! The rounding bugs that the rule `direction` aims at, as whoever holds the wrong kernels gives them.

use std::fmt::Debug;
use sus_bounds::{Direction, Recipe};
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;

/// A collection of known bugs. The verdict knows none by itself: a gallery of wrong kernels uses the verdict, not the other way round.
pub trait KnownBugs: Debug + Sync {
    /// What each bug adds to the gradients of a problem: the directions in which small errors are looked for.
    fn directions(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Vec<Direction>;

    /// `dq, dk, dv, dbias` of the plainest right kernel of the recipe, if there are directions. A direction along which it errs by
    /// more than half of the limit is left out: right kernels make that error too.
    fn control_result(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Option<[Vec<f64>; 4]>;
}
