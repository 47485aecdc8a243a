//! Limits of weighted sums of the errors of all gradients, along the directions in which known bugs move them.
//!
//! Whatever the weights, the sum is linear in the roundings, and its limit is derived as that of the mean: "Directions" in
//! `docs/verdict.md`.

use super::bound::Bound;
use super::context::BoundContext;
use super::direction_dbias::dbias_limit;
use super::direction_weights::{CAUTIONS, HeadErrors, HeadVectors, SumErrors};
use super::false_alarm::{DIRECTIONAL_FALSE_ALARM, tail_factor};
use super::gradient_values::GradientValues;
use super::recipe::Delta;
use super::rounding_model::RoundingModel;
use super::row::Mode;
use super::statistic_weights::StatisticWeights;
use rayon::prelude::*;
use sus_reference::tensor::dot;

/// What a known bug adds to the gradients: to `dq`, `dk`, `dv`, or to `dbias` alone.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorDirection {
    /// The bug.
    pub name: &'static str,
    /// The addition to each element.
    pub additions: GradientValues,
}

/// A sum of the errors of `dq`, `dk` and `dv`, or of `dbias`, with known weights, and its limit.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{
///     BoundsInput, ErrorDirection, Mode, GradientValues, Recipe, Silent, Truth, bounds_of, rows_of,
///     statistical_limits,
/// };
/// let truth = Truth::exact(&problem)?;
/// let (recipe, saved, gradients) = (Recipe::built_in("flash-bf16").unwrap(), truth.saved(), truth.gradients(None));
/// let input = BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients);
/// // A bug that makes dq one percent too large.
/// let percent = input.gradients.dq.as_slice().iter().map(|x| x / 100.0).collect();
/// let zeros = |n: usize| vec![0.0; n];
/// let additions = GradientValues {
///     dq: percent,
///     dk: zeros(problem.inputs().k.as_slice().len()),
///     dv: zeros(problem.inputs().v.as_slice().len()),
///     dbias: vec![],
/// };
/// let bug = ErrorDirection { name: "a factor of dq", additions };
/// let (rows, of_rows, _) = rows_of(&input, &Silent, |_, _| ());
/// let bounds = bounds_of(&input, &Silent, &rows, of_rows);
/// let limits = statistical_limits(&input, &rows, &bounds, &[bug]).unwrap();
/// assert!(limits.directions[0].limit > 0.0 && limits.directions[0].expected > 0.0);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DirectionLimit {
    /// The bug that the sum sees.
    pub name: &'static str,
    /// The weights of the elements.
    pub weights: GradientValues,
    /// The limit of the sum in a right kernel.
    pub limit: f64,
    /// The limits in a right kernel whose stored `o` is known.
    pub stored_o: Option<StoredOLimit>,
    /// The sum of the bug itself.
    pub expected: f64,
}

/// The limits of a sum when the `o` of the candidate is known, and with it the error of a `delta` from the stored `o`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredOLimit {
    /// The factor of an error of `delta` in the sum, for each row.
    pub of_delta: Vec<f64>,
    /// The limit of the other errors if `delta` is made of the stored `o`.
    pub stored: f64,
    /// The limit of the other errors if `delta` is made of the `o` before it was stored, and the limit of the whole sum.
    pub unstored: [f64; 2],
}

/// The weights and the limits of the directions.
pub(super) fn direction_limits(
    context: &BoundContext<'_>,
    heads: &[RoundingModel],
    weights: [&StatisticWeights; 3],
    dbias: Option<&Bound>,
    directions: &[ErrorDirection],
) -> Vec<DirectionLimit> {
    let s = context.input.problem.sizes();
    let rows = context.input.problem.group() * s.queries;
    let [width, of_dk, of_dv] = context.widths();
    let lengths = [rows * width, s.keys * of_dk, s.keys * of_dv];
    let count = directions.len().max(1) as f64;
    let alarm = DIRECTIONAL_FALSE_ALARM * context.input.problem.share();
    let tail_of = |events: f64| tail_factor(events, alarm);
    let (tail, tail_of_two) = (tail_of(count), tail_of(2.0 * count));
    // delta is made of the stored o, and the rounding of o is in the model.
    let says_o = context.input.mode == Mode::Exact
        && context.input.recipe.delta == Delta::Stored
        && context.roundoff.is_narrow(context.input.recipe.o)
        && !context.roundoff.is_narrow(context.input.recipe.elementwise);
    let one = |direction: &ErrorDirection| {
        if let Some(bound) = dbias.filter(|_| !direction.additions.dbias.is_empty()) {
            let (dbias, limit) =
                dbias_limit(context, heads, bound, &direction.additions.dbias, tail);
            let expected = dot(&dbias, &direction.additions.dbias);
            let weights = GradientValues { dbias, ..GradientValues::default() };
            return DirectionLimit {
                name: direction.name,
                weights,
                limit,
                stored_o: None,
                expected,
            };
        }
        let best = CAUTIONS.map(|caution| {
            let of_heads: Vec<(HeadVectors, SumErrors, Vec<f64>)> = heads
                .par_iter()
                .enumerate()
                .map(|(at, model)| {
                    let first = lengths.map(|n| at * n);
                    let head = HeadErrors { context, model, weights, first, lengths };
                    let r = head.weights(&direction.additions, caution);
                    let (errors, of_delta) = head.sum_errors(&r);
                    (r, errors, of_delta)
                })
                .collect();
            let errors =
                of_heads.iter().fold(SumErrors::default(), |sum, (_, errors, _)| sum.plus(*errors));
            let weights: [Vec<f64>; 4] = std::array::from_fn(|which| {
                let of_tensor = of_heads.iter().filter_map(|(r, ..)| r.get(which));
                of_tensor.flatten().copied().collect()
            });
            let weights = GradientValues::from(weights);
            let pairs = weights.slices().into_iter().zip(direction.additions.slices());
            let expected = pairs.map(|(w, m)| dot(w, m)).sum();
            let stored_o = says_o.then(|| StoredOLimit {
                // Rows of the heads of a group follow each other, in the order of all rows.
                of_delta: of_heads.iter().flat_map(|(_, _, of_delta)| of_delta.clone()).collect(),
                stored: errors.limit_of(tail, errors.p_without_delta),
                unstored: [
                    errors.limit_of(tail_of_two, errors.p_without_delta + errors.delta),
                    errors.limit_of(tail_of_two, errors.p),
                ],
            });
            let limit = errors.limit(tail);
            DirectionLimit { name: direction.name, weights, limit, stored_o, expected }
        });
        let power = |sum: &DirectionLimit| sum.expected / sum.limit;
        let better =
            |a: DirectionLimit, b: DirectionLimit| if power(&b) > power(&a) { b } else { a };
        best.into_iter().reduce(better).expect("more than one")
    };
    directions.iter().map(one).collect()
}
