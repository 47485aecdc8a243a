//! By what the truth of a case is computed.

use sus_bounds::{Format, Recipe, Truth};
use sus_fast::has_reference_error_bounds;
use sus_reference::error::Error;
use sus_reference::evaluation::visible_count;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Sample};

/// By what the truth of a case is computed.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::Recipe;
/// use sus_verdict::Reference;
/// let recipe = Recipe::built_in("flash-bf16").unwrap();
/// let ways = [Reference::Auto, Reference::DoubleDouble, Reference::BlockedF64];
/// assert_eq!(ways.map(|by| by.blocks(&problem, &recipe)), [false, false, true]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reference {
    /// By blocks where they serve, if the problem is large: above [`LARGE`] products of numbers.
    #[default]
    Auto,
    /// In double-double, by the definition.
    DoubleDouble,
    /// By blocks where they serve, whatever the size.
    BlockedF64,
}

/// Products of numbers, visible entries times `D + E`, above which a truth is computed by blocks: one head of 1024 queries and keys
/// with 64 features has as many.
///
/// # Examples
/// ```
/// assert_eq!(sus_verdict::LARGE, 1024 * 1024 * (64 + 64));
/// ```
pub const LARGE: u64 = 1 << 27;

impl Reference {
    /// Whether the truth is computed by blocks: the recipe's arithmetic is that of 32 bits or fewer, beside which the error of `f64`
    /// is next to nothing, and that error [has a bound](has_reference_error_bounds).
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Recipe;
    /// use sus_verdict::Reference;
    /// let [f32, f64] = ["f32", "f64"].map(|name| Recipe::built_in(name).unwrap());
    /// assert!(Reference::BlockedF64.blocks(&problem, &f32) && !Reference::BlockedF64.blocks(&problem, &f64));
    /// assert!(!Reference::Auto.blocks(&problem, &f32)); // it is small
    /// ```
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

    /// The stage in which the truth is computed.
    pub(super) fn describe(self, problem: &Problem<f64>, recipe: &Recipe) -> &'static str {
        if self.blocks(problem, recipe) {
            "truth in f64 by blocks"
        } else {
            "truth in double-double"
        }
    }

    /// The truth of the problem's own forward pass, with the mask if the same pass drew it.
    pub(super) fn exact(
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

    /// The truth that follows from a forward pass that somebody stored.
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
