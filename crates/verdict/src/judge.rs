//! The judgement of candidates of one case.

mod builder;
mod dense_runs;
mod expectation;
mod fp8;
mod given;
mod own_mask;
mod reference;
mod run;
mod runs;
mod seeds;
mod stored_o;

use crate::candidate::{clear_padding, run_count};
use crate::{Case, KnownBugs, Mode, Verdict};
use expectation::Expectation;
use sus_bounds::{Bounds, Progress, Recipe, Silent};
use sus_files::TensorFile;
use sus_reference::TensorName;
use sus_reference::backward::Gradients;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Sample};

pub use builder::JudgeBuilder;
pub(crate) use builder::round_inputs;
pub use reference::Reference;

/// One case at one recipe, ready to judge candidates. A [`JudgeBuilder`] makes it.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_files::gradient_file::{Stored, to_tensors};
/// use sus_files::tensor_file::Numbers;
/// use sus_files::Settings;
/// use sus_reference::evaluation::evaluate;
/// use sus_verdict::{Case, Judge, Outcome};
/// let case = Case::new(sus_corpus::named("primes").unwrap().problem, Settings::default());
/// let judge = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build()?;
///
/// let gradients = evaluate::<f32>(&case.problem, None, None)?;
/// let mut candidate = to_tensors(&gradients, &case.settings, Stored::F32)?;
/// assert_eq!(judge.check(&candidate).outcome, Outcome::Pass);
///
/// // One element of dk is off by two of its bounds.
/// let Numbers::Float(dk) = &mut candidate.arrays.get_mut("dk").unwrap().numbers else { unreachable!() };
/// dk[3] += 2.0 * judge.bounds().dk.threshold[3];
/// assert_eq!(judge.check(&candidate).outcome, Outcome::Fail);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Judge {
    problem: Problem<f64>,
    /// The problem before its inputs were rounded, if rounding changed it.
    stored: Option<Problem<f64>>,
    recipe: Recipe,
    mode: Mode,
    reference: Reference,
    known_bugs: Option<&'static dyn KnownBugs>,
    draw: Option<Draw>,
    seed_known: bool,
    /// Whether a difference in any bit between runs fails.
    bitwise: bool,
    /// The results that are judged; `None` is all.
    only: Option<Vec<TensorName>>,
    /// What a candidate holds in the padding is not judged.
    any_padding: bool,
    exact: Expectation,
}

impl Judge {
    /// The options of a judge of this case at this recipe: mode `exact`, the reference by the problem's size, no known bugs.
    pub fn builder<'a>(case: &'a Case, recipe: &'a Recipe) -> JudgeBuilder<'a> {
        JudgeBuilder::new(case, recipe)
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The problem, its inputs as the recipe reads them.
    #[must_use]
    pub fn problem(&self) -> &Problem<f64> {
        &self.problem
    }

    /// The reference of the gradients, from the exact forward pass: dense, or with the mask that the case's seed draws.
    #[must_use]
    pub fn gradients(&self) -> &Gradients<f64> {
        &self.exact.gradients.values
    }

    /// The exact forward pass of the problem.
    #[must_use]
    pub fn saved(&self) -> &Saved<f64> {
        &self.exact.saved
    }

    /// The mask that the case's seed draws; `None` for the dense pass.
    #[must_use]
    pub fn drawn_mask(&self) -> Option<&Sample> {
        self.exact.mask.as_ref().map(|mask| &mask.sample)
    }

    /// The bounds of these gradients.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.exact.gradients.bounds
    }

    /// The forward pass that the gradients are judged by.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The draw of the case's mask; `None` for the dense pass.
    #[must_use]
    pub fn draw(&self) -> Option<&Draw> {
        self.draw.as_ref()
    }

    /// The results of the run that a verdict shows: all of the candidate, unless it has several runs.
    #[must_use]
    pub fn shown_run(&self, candidate: &TensorFile, verdict: &Verdict) -> TensorFile {
        match &verdict.runs {
            Some(runs) => self.run_of(candidate, runs.count, runs.shown),
            None => candidate.clone(),
        }
    }

    /// Judges one candidate: one run, or many with a leading axis.
    #[must_use]
    pub fn check(&self, candidate: &TensorFile) -> Verdict {
        self.check_with_progress(candidate, &Silent)
    }

    /// [`Judge::check`] that reports its progress. Bounds of a stored forward pass, of a mask of the candidate's own, and of runs with
    /// known seeds are computed here, and take as long as those of the case.
    #[must_use]
    pub fn check_with_progress(&self, candidate: &TensorFile, progress: &dyn Progress) -> Verdict {
        let mut verdict = Verdict::default();
        if self.stored.is_some() {
            let format = self.recipe.input.name();
            let note = format!("the inputs were rounded to {format}, as the recipe reads them");
            verdict.notes.push(note);
        }
        let cleared = self.any_padding.then(|| clear_padding(&self.problem, candidate));
        let candidate = cleared.as_ref().unwrap_or(candidate);
        if self.any_padding {
            verdict.notes.push("what stands in the padding is not judged".into());
        }
        if let Some(runs) = run_count(&self.problem, candidate) {
            self.check_runs(runs, candidate, &mut verdict, progress);
        } else {
            self.check_run(candidate, None, &mut verdict, progress);
            if self.bitwise {
                dense_runs::fail_different_bits(1, &mut verdict);
            }
        }
        verdict
    }
}
