//! How a judge is made.

use super::expectation::Expectation;
use super::{Judge, Reference};
use crate::{Case, KnownBugs, Mode};
use sus_bounds::{Progress, Recipe, Silent};
use sus_reference::error::Error;
use sus_reference::problem::{Inputs, Problem};
use sus_reference::tensor::Tensor;

/// The options of a [`Judge`].
#[derive(Clone, Copy)]
#[must_use = "it judges nothing before `build`"]
pub struct JudgeBuilder<'a> {
    case: &'a Case,
    recipe: &'a Recipe,
    mode: Mode,
    reference: Reference,
    known_bugs: Option<&'static dyn KnownBugs>,
    progress: &'a dyn Progress,
}

impl<'a> JudgeBuilder<'a> {
    pub(super) fn new(case: &'a Case, recipe: &'a Recipe) -> Self {
        let (mode, reference) = (Mode::Exact, Reference::Auto);
        JudgeBuilder { case, recipe, mode, reference, known_bugs: None, progress: &Silent }
    }

    /// Whether `delta` and `W` come from the true forward pass, or from the one that the candidate stored.
    pub fn mode(self, mode: Mode) -> Self {
        JudgeBuilder { mode, ..self }
    }

    /// How the truth is computed.
    pub fn reference(self, reference: Reference) -> Self {
        JudgeBuilder { reference, ..self }
    }

    /// The bugs that the rule `direction` aims at; without any it judges nothing.
    pub fn known_bugs(self, known_bugs: &'static dyn KnownBugs) -> Self {
        JudgeBuilder { known_bugs: Some(known_bugs), ..self }
    }

    /// Who is told how far the computation is.
    pub fn progress(self, progress: &'a dyn Progress) -> Self {
        JudgeBuilder { progress, ..self }
    }

    /// Computes the truth and the bounds of the case.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the truth leaves the range of `f64`; those of the settings and of the draw.
    pub fn build(self) -> Result<Judge, Error> {
        let JudgeBuilder { case, recipe, mode, reference, known_bugs, progress } = self;
        let problem = round_inputs(&case.problem, recipe)?;
        let draw = case.draw()?;
        progress.stage(reference.describe(&problem, recipe), 0);
        let truth = reference.exact(&problem, recipe, draw.as_ref())?;
        let question = (&problem, recipe, Mode::Exact);
        let exact = Expectation::complete(question, draw.as_ref(), truth, known_bugs, progress)?;
        exact.check_finite()?;
        Ok(Judge {
            stored: (problem != case.problem).then(|| case.problem.clone()),
            recipe: recipe.clone(),
            mode,
            reference,
            known_bugs,
            draw,
            seed_known: case.has_seed(),
            exact,
            problem,
        })
    }
}

/// The problem as a kernel of this recipe reads it.
fn round_inputs(problem: &Problem<f64>, recipe: &Recipe) -> Result<Problem<f64>, Error> {
    let Inputs { q, k, v, g, dlse, bias, sink, .. } = problem.inputs();
    let read = |tensor: &Tensor<f64>| tensor.map(|x| recipe.input.round(x));
    let wide = |x: f64| recipe.accumulator.round(x);
    let inputs = Inputs::new(read(q), read(k), read(v), read(g))
        .with_dlse(dlse.as_ref().map(|x| x.map(wide)))
        .with_bias(bias.as_ref().map(|x| x.map(wide)))
        .with_sink(sink.as_ref().map(|x| x.iter().map(|&x| wide(x)).collect()));
    Problem::new(inputs, problem.options().clone())
}
