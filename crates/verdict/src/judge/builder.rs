//! The options of a judge.

use super::expectation::{Expectation, ExpectationInput};
use super::{Judge, Reference};
use crate::{Case, KnownBugs, Mode};
use sus_bounds::{Progress, Recipe, Silent};
use sus_files::Padding;
use sus_reference::error::Error;
use sus_reference::problem::{Inputs, Problem};
use sus_reference::tensor::Tensor;

/// The options of a [`Judge`]; [`JudgeBuilder::build`] computes its reference and its bounds.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_files::Settings;
/// use sus_verdict::{Case, Judge, Mode, Reference};
/// let case = Case::new(sus_corpus::named("primes").unwrap().problem, Settings::default());
/// let recipe = Recipe::built_in("flash-bf16").unwrap();
/// let judge = Judge::builder(&case, &recipe)
///     .mode(Mode::Given) // W and delta from the candidate's own o and lse
///     .reference(Reference::DoubleDouble)
///     .build()?;
/// // The problem as this recipe reads it: its inputs rounded to bf16.
/// let q = judge.problem().inputs().q.as_slice();
/// assert!(q.iter().all(|&x| recipe.input.round(x) == x));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Clone, Copy)]
#[must_use = "a builder judges nothing before `build`"]
pub struct JudgeBuilder<'a> {
    case: &'a Case,
    recipe: &'a Recipe,
    mode: Mode,
    reference: Reference,
    known_bugs: Option<&'static dyn KnownBugs>,
    bitwise: bool,
    progress: &'a dyn Progress,
}

impl<'a> JudgeBuilder<'a> {
    pub(super) fn new(case: &'a Case, recipe: &'a Recipe) -> Self {
        let (mode, reference) = (Mode::Exact, Reference::Auto);
        JudgeBuilder {
            case,
            recipe,
            mode,
            reference,
            known_bugs: None,
            bitwise: false,
            progress: &Silent,
        }
    }

    /// The forward pass that `delta` and `W` come from: the exact one, which is the default, or the one that the candidate stored.
    pub fn mode(self, mode: Mode) -> Self {
        JudgeBuilder { mode, ..self }
    }

    /// How the reference is computed; the default is [`Reference::Auto`].
    pub fn reference(self, reference: Reference) -> Self {
        JudgeBuilder { reference, ..self }
    }

    /// The rounding bugs that the rule `direction` looks for. Without any the rule is left out, and small errors of the kind that
    /// these bugs make pass.
    pub fn known_bugs(self, known_bugs: &'static dyn KnownBugs) -> Self {
        JudgeBuilder { known_bugs: Some(known_bugs), ..self }
    }

    /// Whether several runs of a kernel have to agree in every bit. If so, a tensor that differs fails by
    /// [`Criterion::Repeat`](crate::Criterion::Repeat); runs of a sampled pass are compared if their seeds are known and equal.
    pub fn bitwise_repeat(self, bitwise: bool) -> Self {
        JudgeBuilder { bitwise, ..self }
    }

    /// Receives the progress of [`JudgeBuilder::build`]; [`Judge::check_with_progress`] has its own.
    pub fn progress(self, progress: &'a dyn Progress) -> Self {
        JudgeBuilder { progress, ..self }
    }

    /// Computes the reference, the mask and the bounds of the case.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the reference leaves the range of `f64`; those of the settings and of the draw.
    pub fn build(self) -> Result<Judge, Error> {
        let JudgeBuilder { case, recipe, mode, reference, known_bugs, bitwise, progress } = self;
        let recipe = &with_scales_of(case, recipe)?;
        let problem = round_inputs(&case.problem, recipe)?;
        let draw = case.draw()?;
        if recipe.has_8_bits() && draw.is_some() {
            let expected = "a dense pass where P or dS has 8 bits";
            return Err(Error::option("pass", expected, "SUS"));
        }
        progress.stage(reference.describe(&problem, recipe), 0);
        let (truth, drawn) = reference.exact(&problem, recipe, draw.as_ref())?;
        let input = ExpectationInput {
            problem: &problem,
            recipe,
            mode: Mode::Exact,
            draw: draw.as_ref(),
            known_bugs,
        };
        let exact = Expectation::new(input, truth, drawn, progress)?;
        exact.check_finite()?;
        let mut judge = Judge {
            stored: (problem != case.problem).then(|| case.problem.clone()),
            recipe: recipe.clone(),
            mode,
            reference,
            known_bugs,
            draw,
            seed_known: case.has_seed(),
            bitwise,
            only: case.settings.gradients.clone(),
            any_padding: case.settings.padding == Some(Padding::Any),
            exact,
            problem,
        };
        if judge.recipe.has_8_bits() {
            progress.stage("codes of P and dS", 0);
            judge.exact.gradients = judge.of_8_bits((&judge.exact, Mode::Exact), &[]);
        }
        Ok(judge)
    }
}

/// The recipe with the scales that the case has for `P` and `dS`.
fn with_scales_of(case: &Case, recipe: &Recipe) -> Result<Recipe, Error> {
    if !recipe.has_8_bits() {
        return Ok(recipe.clone());
    }
    let agree = |key, file: Option<f64>, recipe: f64| match file {
        // 1 is the default of a recipe that says nothing.
        Some(file) if recipe != 1.0 && recipe != file => Err(Error::option(
            key,
            format!("{file}, as the case says"),
            format!("{recipe} in the recipe"),
        )),
        file => Ok(file.unwrap_or(recipe)),
    };
    let p_scale = agree("p_scale", case.settings.p_scale, recipe.p_scale)?;
    let ds_scale = agree("ds_scale", case.settings.ds_scale, recipe.ds_scale)?;
    Ok(recipe.clone().with_p_scale(p_scale).with_ds_scale(ds_scale))
}

/// The problem as a kernel of this recipe reads it.
pub(crate) fn round_inputs(problem: &Problem<f64>, recipe: &Recipe) -> Result<Problem<f64>, Error> {
    let Inputs { q, k, v, g, dlse, bias, sink, alibi_slopes, .. } = problem.inputs();
    let read = |tensor: &Tensor<f64>| tensor.map(|x| recipe.input.round(x));
    let wide = |x: f64| recipe.accumulator.round(x);
    let inputs = Inputs::new(read(q), read(k), read(v), read(g))
        .with_dlse(dlse.as_ref().map(|x| x.map(wide)))
        .with_bias(bias.as_ref().map(|x| x.map(wide)))
        .with_sink(sink.as_ref().map(|x| x.iter().map(|&x| wide(x)).collect()))
        .with_alibi_slopes(alibi_slopes.as_ref().map(|x| x.map(wide)));
    Problem::new(inputs, problem.options().clone())
}
