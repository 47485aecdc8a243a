//! How the reference of a case is computed.

use crate::limits::LARGE;
use sus_bounds::{Format, Recipe, Truth};
use sus_fast::has_reference_error_bounds;
use sus_reference::error::Error;
use sus_reference::evaluation::visible_count;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Sample};

/// How the reference of a case is computed.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_verdict::Reference;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let recipe = Recipe::built_in("flash-bf16").unwrap();
/// let all = [Reference::Auto, Reference::DoubleDouble, Reference::BlockedF64];
/// assert_eq!(all.map(|reference| reference.blocks(&problem, &recipe)), [false, false, true]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reference {
    /// As `BlockedF64` above [`LARGE`] products of numbers, as `DoubleDouble` up to there.
    #[default]
    Auto,
    /// In double-double, by the formulas of the reference path.
    DoubleDouble,
    /// In `f64` by blocks, at any size, where the recipe and the problem allow it; else in double-double.
    BlockedF64,
}

impl Reference {
    /// Whether the reference is computed by blocks: the recipe computes in 32 bits or fewer, whose errors are `2^29` times those of
    /// `f64`, and these [have a bound](has_reference_error_bounds).
    #[must_use]
    pub fn blocks(self, problem: &Problem<f64>, recipe: &Recipe) -> bool {
        let sizes = problem.sizes();
        let features = (sizes.features + sizes.value_features) as u64;
        let asked = match self {
            Reference::Auto => visible_count(problem).saturating_mul(features) > LARGE,
            Reference::DoubleDouble => false,
            Reference::BlockedF64 => true,
        };
        let coarse = recipe.accumulator.precision() <= Format::F32.precision();
        asked && coarse && has_reference_error_bounds(problem)
    }

    /// The name of the stage in which the reference is computed.
    pub(crate) fn describe(self, problem: &Problem<f64>, recipe: &Recipe) -> &'static str {
        if self.blocks(problem, recipe) {
            "truth in f64 by blocks"
        } else {
            "truth in double-double"
        }
    }

    /// The reference for the exact forward pass, with the mask if the same pass drew it.
    pub(crate) fn exact(
        self,
        problem: &Problem<f64>,
        recipe: &Recipe,
        draw: Option<&Draw>,
    ) -> Result<(Truth, Option<Sample>), Error> {
        if self.blocks(problem, recipe) {
            let found = match draw {
                Some(draw) => {
                    let found = Truth::blocked_and_sampled(problem, draw)?;
                    found.map(|(truth, sample)| (truth, Some(sample)))
                }
                None => Truth::blocked(problem).map(|truth| (truth, None)),
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Ok((Truth::exact(problem)?, None))
    }

    /// The reference that follows from a stored forward pass.
    pub(super) fn given(
        self,
        problem: &Problem<f64>,
        recipe: &Recipe,
        saved: &Saved<f64>,
    ) -> Result<Truth, Error> {
        let blocked = self.blocks(problem, recipe).then(|| Truth::blocked_given(problem, saved));
        blocked.flatten().map_or_else(|| Truth::given(problem, saved), Ok)
    }
}
