//! What known bugs of rounding do to the gradients: directions in which a verdict looks for small errors.
//!
//! The wrong kernels' formulas run in `f64`, so that a direction holds what the bug adds and nothing of the roundings
//! that every kernel makes. A rounding that coincides with that of the result, as the last of a running total does, is
//! left out: right kernels make it too.

use super::arithmetic::{Arithmetic, Format};
use super::simulated_kernel::{Schedule, Stage};
use super::{RunConfig, control_kernel, named};
use rayon::prelude::*;
use sus_bounds::{Direction, Recipe};
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;
use sus_verdict::{Case, Judge, JudgeBuilder, KnownBugs};

/// Wrong kernels whose formulas are run in `f64`: what they add does not depend on the roundings of a recipe.
const FORMULAS: [&str; 4] =
    ["scores_in_bf16", "keys_prescaled_and_rounded", "lse_in_bf16", "exponential_of_three_digits"];

/// Wrong kernels that round sums: they are run as the recipe says, since what they add depends on the bits of the sums.
const SUMS: [&str; 4] = [
    "dq_carried_in_bf16",
    "key_gradients_carried_in_bf16",
    "group_sum_in_bf16",
    "dbias_accumulated_in_bf16",
];

/// Products up to which the formulas are run: in larger problems there are enough errors to see them without.
const LARGEST: usize = 1 << 20;

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
pub fn directions(problem: &Problem<f64>, draw: Option<&Draw>, recipe: &Recipe) -> Vec<Direction> {
    if !are_used(problem, recipe) {
        return Vec::new();
    }
    let exact = Arithmetic { operand: recipe.input, ..Arithmetic::exact() };
    let rounded = Arithmetic { gradient: Format::F64, ..Arithmetic::of(recipe) };
    let config =
        |arithmetic| RunConfig { unfinished: true, ..RunConfig::new(problem, arithmetic, draw) };
    let (exact, rounded) = (config(exact), config(rounded));
    let rights = [exact, rounded].map(|config| config.run(Schedule::default()));
    let all = FORMULAS.iter().map(|name| (name, 0)).chain(SUMS.iter().map(|name| (name, 1)));
    let mut found: Vec<Direction> = all
        .collect::<Vec<_>>()
        .into_par_iter()
        .filter_map(|(name, at)| {
            let wrong = (named(name)?.run)(&[exact, rounded][at])?;
            Some(Direction { name, tensors: difference(&wrong, &rights[at]) })
        })
        .collect();
    let delta = delta_in_bf16(&exact, &rounded);
    found.push(Direction { name: "delta_in_bf16", tensors: difference(&delta, &rights[0]) });
    found.extend(of_results(&rights[0], recipe));
    found.retain(|direction| direction.tensors.iter().flatten().any(|&x| x != 0.0));
    found
}

/// What the plainest right kernel of a recipe gives, if there are directions. Its roundings are those that most kernels
/// make; along a direction that depends on them nothing can be told.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_mutants::control_result;
/// use sus_bounds::{Format, Recipe};
/// let [dq, ..] = control_result(&problem, None, &Recipe::built_in("flash-bf16").unwrap()).unwrap();
/// assert!(dq.iter().all(|&x| Format::Bf16.round(x) == x)); // as a kernel stores them
/// ```
#[must_use]
pub fn control_result(
    problem: &Problem<f64>,
    draw: Option<&Draw>,
    recipe: &Recipe,
) -> Option<[Vec<f64>; 4]> {
    let config = RunConfig::new(problem, Arithmetic::of(recipe), draw);
    are_used(problem, recipe).then(|| {
        let right = control_kernel(&config);
        TENSORS.map(|tensor| floats(&right, tensor))
    })
}

/// The rounding bugs of this gallery, as a verdict takes them.
#[derive(Debug, Clone, Copy)]
pub struct RoundingBugs;

impl KnownBugs for RoundingBugs {
    fn directions(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Vec<Direction> {
        directions(problem, draw, recipe)
    }

    fn control_result(
        &self,
        problem: &Problem<f64>,
        draw: Option<&Draw>,
        recipe: &Recipe,
    ) -> Option<[Vec<f64>; 4]> {
        control_result(problem, draw, recipe)
    }
}

/// A judge with every rule: [`Judge::builder`] with the [`RoundingBugs`] of this gallery.
pub fn judge<'a>(case: &'a Case, recipe: &'a Recipe) -> JudgeBuilder<'a> {
    Judge::builder(case, recipe).known_bugs(&RoundingBugs)
}

const TENSORS: [&str; 4] = ["dq", "dk", "dv", "dbias"];

fn are_used(problem: &Problem<f64>, recipe: &Recipe) -> bool {
    let sizes = problem.sizes();
    let features = sizes.features.max(sizes.value_features);
    let products = problem.row_count().saturating_mul(sizes.keys).saturating_mul(features);
    recipe.output.precision() <= Format::F16.precision() && products <= LARGEST
}

/// The exact kernel, with the error that rounding adds to the `delta` of the recipe.
fn delta_in_bf16(exact: &RunConfig<'_>, rounded: &RunConfig<'_>) -> TensorFile {
    let mut delta = Vec::new();
    rounded.mutate(Stage::Delta, |state| delta.clone_from(&state.delta));
    exact.mutate(Stage::Delta, |state| {
        for (to, delta) in state.delta.iter_mut().zip(delta) {
            *to += Format::Bf16.round(delta) - delta;
        }
    })
}

/// One tensor that is too large, and all tensors cut towards zero, by half a spacing in the mean.
fn of_results(right: &TensorFile, recipe: &Recipe) -> Vec<Direction> {
    let truth = TENSORS.map(|tensor| floats(right, tensor));
    let cut = |x: &f64| -libm::copysign(recipe.output.rounding_error(x.abs(), false), *x);
    let mut found = Vec::new();
    for (which, name) in
        ["a factor of dq", "a factor of dk", "a factor of dv"].into_iter().enumerate()
    {
        let tensors = std::array::from_fn(|t| {
            let length = if t < 3 { truth[t].len() } else { 0 };
            if t == which { truth[t].clone() } else { vec![0.0; length] }
        });
        found.push(Direction { name, tensors });
    }
    let mut tensors = truth.map(|tensor| tensor.iter().map(cut).collect::<Vec<_>>());
    tensors[3].clear();
    found.push(Direction { name: "gradients_truncated", tensors });
    found
}

fn floats(file: &TensorFile, tensor: &str) -> Vec<f64> {
    match file.arrays.get(tensor).map(|array| &array.numbers) {
        Some(Numbers::Float(data)) => data.clone(),
        _ => Vec::new(),
    }
}

/// What the wrong kernel adds, to `dbias` only if to nothing else; nothing where that is no number.
fn difference(wrong: &TensorFile, right: &TensorFile) -> [Vec<f64>; 4] {
    let finite = |x: f64| if x.is_finite() { x } else { 0.0 };
    let mut tensors: [Vec<f64>; 4] = TENSORS.map(|tensor| {
        let (wrong, right) = (floats(wrong, tensor), floats(right, tensor));
        wrong.iter().zip(right).map(|(wrong, right)| finite(wrong - right)).collect()
    });
    let [gradients @ .., dbias] = &mut tensors;
    if gradients.iter().flatten().any(|&x| x != 0.0) {
        dbias.clear();
    } else {
        gradients.iter_mut().for_each(Vec::clear);
    }
    tensors
}
