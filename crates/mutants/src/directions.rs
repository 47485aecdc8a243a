//! The errors that known rounding bugs add to the gradients: directions in which a verdict looks for small errors.
//!
//! The mutants' formulas run in `f64`, so that a direction holds the error of the bug without the roundings of every
//! kernel. A rounding that coincides with that of the result, such as the last one of a running total, is left out:
//! controls make it too.

use super::arithmetic::{Arithmetic, Format};
use super::limits::LARGEST_DIRECTIONS;
use super::simulated_kernel::{Point, Schedule};
use super::{RunConfig, control_kernel, named};
use rayon::prelude::*;
use sus_bounds::{ErrorDirection, GradientValues, Recipe};
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_reference::TensorName;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;
use sus_verdict::{Case, Judge, JudgeBuilder, KnownBugs};

/// Mutants whose formulas are run in `f64`: the error that they add does not depend on the roundings of a recipe.
const FORMULAS: [&str; 4] =
    ["scores_in_bf16", "keys_prescaled_and_rounded", "lse_in_bf16", "exponential_of_three_digits"];

/// Mutants that round sums: they are run as the recipe says, since the error that they add depends on the bits of the sums.
const SUMS: [&str; 4] = [
    "dq_carried_in_bf16",
    "key_gradients_carried_in_bf16",
    "group_sum_in_bf16",
    "dbias_accumulated_in_bf16",
];

/// Mutants with a factor of `dk` or of `dv` alone, which are parts of `dkv` where the values are in the keys.
const PARTS: [&str; 2] = ["dk_one_percent_large", "dv_one_percent_small"];

/// The directions of a problem; none for a recipe that stores its results in 32 bits or more, and for a large problem.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_mutants::directions;
/// use sus_bounds::Recipe;
/// let count = |name| directions(&problem, None, &Recipe::built_in(name).unwrap()).len();
/// assert!(count("flash-bf16") > 0 && count("f32") == 0); // of kernels that store 16 bits alone
/// ```
#[must_use]
pub fn directions(
    problem: &Problem<f64>,
    draw: Option<&Draw>,
    recipe: &Recipe,
) -> Vec<ErrorDirection> {
    if !are_used(problem, recipe) {
        return Vec::new();
    }
    let exact = Arithmetic { operand: recipe.input, ..Arithmetic::exact() };
    let rounded = Arithmetic { gradient: Format::F64, ..Arithmetic::of(recipe) };
    let config =
        |arithmetic| RunConfig { unfinished: true, ..RunConfig::new(problem, arithmetic, draw) };
    let (exact, rounded) = (config(exact), config(rounded));
    let controls = [exact, rounded].map(|config| config.run(Schedule::default()));
    let all = FORMULAS.iter().map(|name| (name, 0)).chain(SUMS.iter().map(|name| (name, 1)));
    let mut found: Vec<ErrorDirection> = all
        .collect::<Vec<_>>()
        .into_par_iter()
        .filter_map(|(name, at)| {
            let wrong = (named(name)?.run)(&[exact, rounded][at])?;
            Some(ErrorDirection { name, additions: difference(&wrong, &controls[at]) })
        })
        .collect();
    let delta = delta_in_bf16(&exact, &rounded);
    found.push(ErrorDirection {
        name: "delta_in_bf16",
        additions: difference(&delta, &controls[0]),
    });
    found.extend(of_results(&controls[0], recipe));
    if problem.options().v_of_k {
        // dk and dv are no results then, and a factor of one of them is none of dkv.
        for name in PARTS {
            let wrong = named(name).and_then(|bug| (bug.run)(&exact));
            let additions = wrong.map(|wrong| difference(&wrong, &controls[0]));
            found.extend(additions.map(|additions| ErrorDirection { name, additions }));
        }
    }
    found.retain(|direction| {
        direction.additions.slices().iter().any(|of| of.iter().any(|&x| x != 0.0))
    });
    found
}

/// `dq, dk, dv, dbias` of the plainest control of a recipe, if there are directions. Most kernels make its roundings;
/// a direction that depends on them identifies no bug.
#[must_use]
pub fn control_result(
    problem: &Problem<f64>,
    draw: Option<&Draw>,
    recipe: &Recipe,
) -> Option<GradientValues> {
    let config = RunConfig::new(problem, Arithmetic::of(recipe), draw);
    are_used(problem, recipe).then(|| gradients_of(&control_kernel(&config)))
}

/// The rounding bugs among the mutants, as a verdict takes them.
#[derive(Debug, Clone, Copy)]
pub struct RoundingBugs;

impl KnownBugs for RoundingBugs {
    fn directions(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Vec<ErrorDirection> {
        directions(problem, draw, recipe)
    }

    fn control_result(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Option<GradientValues> {
        control_result(problem, draw, recipe)
    }
}

/// A judge with every rule: [`Judge::builder`] with the [`RoundingBugs`].
pub fn judge<'a>(case: &'a Case, recipe: &'a Recipe) -> JudgeBuilder<'a> {
    Judge::builder(case, recipe).known_bugs(&RoundingBugs)
}

/// The gradients in a file; empty where one is missing.
fn gradients_of(file: &TensorFile) -> GradientValues {
    let has_dkv = file.arrays.contains_key(TensorName::Dkv.as_str());
    GradientValues {
        dq: floats(file, TensorName::Dq),
        dk: floats(file, if has_dkv { TensorName::Dkv } else { TensorName::Dk }),
        dv: floats(file, TensorName::Dv),
        dbias: floats(file, TensorName::Dbias),
    }
}

fn are_used(problem: &Problem<f64>, recipe: &Recipe) -> bool {
    let sizes = problem.sizes();
    let features = sizes.features.max(sizes.value_features);
    let products = problem.row_count().saturating_mul(sizes.keys).saturating_mul(features);
    recipe.output.precision() <= Format::F16.precision() && products <= LARGEST_DIRECTIONS
}

/// The exact control, with the error that rounding adds to the `delta` of the recipe.
fn delta_in_bf16(exact: &RunConfig<'_>, rounded: &RunConfig<'_>) -> TensorFile {
    let mut delta = Vec::new();
    rounded.mutate(Point::Delta, |state| delta.clone_from(&state.delta));
    exact.mutate(Point::Delta, |state| {
        for (to, delta) in state.delta.iter_mut().zip(delta) {
            *to += Format::Bf16.round(delta) - delta;
        }
    })
}

/// One tensor that is too large, and all tensors cut towards zero, by half a spacing in the mean.
fn of_results(control: &TensorFile, recipe: &Recipe) -> Vec<ErrorDirection> {
    let truth = GradientValues { dbias: Vec::new(), ..gradients_of(control) };
    let zero = truth.zip(&truth, |_, _| 0.0);
    let cut = |x: f64| -libm::copysign(recipe.output.rounding_error(x.abs(), false), x);
    let all_cut = truth.zip(&truth, |x, _| cut(x));
    let only = [
        ("a factor of dq", GradientValues { dq: truth.dq, ..zero.clone() }),
        ("a factor of dk", GradientValues { dk: truth.dk, ..zero.clone() }),
        ("a factor of dv", GradientValues { dv: truth.dv, ..zero }),
        ("gradients_truncated", all_cut),
    ];
    only.map(|(name, values)| ErrorDirection { name, additions: values }).into()
}

fn floats(file: &TensorFile, tensor: TensorName) -> Vec<f64> {
    match file.arrays.get(tensor.as_str()).map(|array| &array.numbers) {
        Some(Numbers::Float(data)) => data.clone(),
        _ => Vec::new(),
    }
}

/// The error that the mutant adds: of `dbias` only if there is no other; 0 where it is no number.
fn difference(mutant: &TensorFile, control: &TensorFile) -> GradientValues {
    let finite = |x: f64| if x.is_finite() { x } else { 0.0 };
    let (mutant, control) = (gradients_of(mutant), gradients_of(control));
    let error = mutant.zip(&control, |mutant, control| finite(mutant - control));
    let GradientValues { dq, dk, dv, dbias } = error;
    if [&dq, &dk, &dv].into_iter().flatten().any(|&x| x != 0.0) {
        GradientValues { dq, dk, dv, dbias: Vec::new() }
    } else {
        GradientValues { dbias, ..GradientValues::default() }
    }
}
