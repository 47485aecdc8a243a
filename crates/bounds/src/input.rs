//! The input of every bound.

use super::recipe::Recipe;
use super::row::Mode;
use sus_reference::backward::Gradients;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::Sample;

/// A problem, a recipe and a truth: all that bounds depend on.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds};
/// let truth = Truth::exact(&problem)?;
/// let (recipe, saved, gradients) = (Recipe::built_in("f32").unwrap(), truth.saved(), truth.gradients(None));
/// let input = BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients);
/// let (exact, given) = (bounds(&input), bounds(&BoundsInput { mode: Mode::Given, ..input }));
/// // Where the stored forward pass is data, its errors do not count.
/// assert!(given.dq.threshold.iter().sum::<f64>() < exact.dq.threshold.iter().sum::<f64>());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BoundsInput<'a> {
    /// The problem, its inputs rounded to the recipe's input format.
    pub problem: &'a Problem<f64>,
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Exact or given.
    pub mode: Mode,
    /// The forward pass in force: the truth, or what was stored.
    pub saved: &'a Saved<f64>,
    /// The mask, for SUS.
    pub sample: Option<&'a Sample>,
    /// Entries, by row, that a kernel may keep or drop against the mask.
    pub ambiguous: Option<&'a [Vec<u32>]>,
    /// The truth of the gradients.
    pub gradients: &'a Gradients<f64>,
}

impl<'a> BoundsInput<'a> {
    /// Of a dense pass.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::{BoundsInput, Mode, Recipe, Truth, bounds};
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let (truth, recipe) = (Truth::exact(&problem)?, Recipe::built_in("f32").unwrap());
    /// let (saved, gradients) = (truth.saved(), truth.gradients(None));
    /// let input = BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients);
    /// assert!(bounds(&input).dq.threshold.iter().all(|bound| bound.is_finite()));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn dense(
        problem: &'a Problem<f64>,
        recipe: &'a Recipe,
        mode: Mode,
        saved: &'a Saved<f64>,
        gradients: &'a Gradients<f64>,
    ) -> Self {
        BoundsInput { problem, recipe, mode, saved, sample: None, ambiguous: None, gradients }
    }

    /// Whether a kernel may keep or drop an entry of a row against the mask.
    pub(super) fn is_ambiguous(&self, row: Row, j: usize) -> bool {
        let number = self.problem.row_number(row);
        self.ambiguous.is_some_and(|all| all[number].binary_search(&(j as u32)).is_ok())
    }

    /// Whether `lambda` depends on the weights: it differs from row to row.
    pub(super) fn is_calibrated(&self) -> bool {
        self.sample.is_some_and(|sample| sample.lambda.windows(2).any(|pair| pair[0] != pair[1]))
    }
}
