//! Limits of statistics of the errors: the mean, the slope on the truth and the root mean square.
//!
//! A bound for each element leaves room for a small common factor: a gradient that is one percent too large errs by
//! less than its 16-bit roundings do. But those roundings are many and independent, so that of a sum of the errors
//! with known weights much less is left. `docs/verdict.md` derives the weights and the limits.

use super::bound::{Bound, Bounds};
use super::context::BoundContext;
use super::direction::{DirectionLimit, ErrorDirection, direction_limits};
use super::false_alarm::{DIRECTIONAL_FALSE_ALARM, STATISTICAL_FALSE_ALARM, tail_factor};
use super::input::BoundsInput;
use super::limits::LARGEST_HEAD;
use super::norm::Norm;
use super::rounding_model::RoundingModel;
use super::row::RowErrors;
use super::set_variances::{SetVariances, set_variances};
use super::statistic_weights::{LINEAR, StatisticWeights};
use rayon::prelude::*;
use sus_reference::tensor::{Tensor, dot};

/// A statistic of the errors of a set of elements; `s_x` is the scale of the error of element `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// `sum_x error_x / s_x`, over the number of elements.
    Mean,
    /// `sum_x error_x truth_x / s_x^2` over `sum_x truth_x^2 / s_x^2`.
    Slope,
    /// The root mean square of `error_x / s_x`.
    Rms,
}

/// Limits of one statistic over the rows, the heads and the whole of a tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SetLimits {
    /// Of each row (of `dq`) or key (of `dk`, `dv`).
    pub rows: Vec<f64>,
    /// Of each head, all batches apart.
    pub heads: Vec<f64>,
    /// Of the tensor.
    pub all: f64,
}

/// Limits of the statistics of one tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorLimits {
    /// The scale `s` of each element's error.
    pub scale: Vec<f64>,
    /// Of the mean, the slope and the root mean square.
    pub sets: [SetLimits; 3],
}

/// The limits of `dq`, `dk` and `dv`, and those of sums along directions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatisticalLimits {
    /// Of `dq`.
    pub dq: TensorLimits,
    /// Of `dk`; of `dkv` where the values are in the keys.
    pub dk: TensorLimits,
    /// Of `dv`; empty where the values are in the keys.
    pub dv: TensorLimits,
    /// Of the weighted sums of errors of all gradients, one for each direction.
    pub directions: Vec<DirectionLimit>,
}

/// The limits of `dq`, `dk`, `dv`, and of their errors together along some directions; `None` for a problem too large
/// for them. `rows` are those of [`rows_of`](crate::rows_of).
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Silent, Truth, bounds_of, rows_of, statistical_limits};
/// let truth = Truth::exact(&problem)?;
/// let (recipe, saved, gradients) = (Recipe::built_in("f32").unwrap(), truth.saved(), truth.gradients(None));
/// let input = BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients);
/// let (rows, of_rows, _) = rows_of(&input, &Silent, |_, _| ());
/// let bounds = bounds_of(&input, &Silent, &rows, of_rows);
/// let limits = statistical_limits(&input, &rows, &bounds, &[]).unwrap();
/// assert_eq!(limits.dq.sets[0].rows.len(), problem.row_count());
/// assert!(limits.directions.is_empty());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn statistical_limits(
    input: &BoundsInput<'_>,
    rows: &[RowErrors],
    bounds: &Bounds,
    directions: &[ErrorDirection],
) -> Option<StatisticalLimits> {
    let context = BoundContext::new(input);
    let p = input.problem;
    let s = p.sizes();
    if s.queries.saturating_mul(s.keys).saturating_mul(p.group()) > LARGEST_HEAD {
        return None;
    }
    let heads: Vec<RoundingModel> = (0..s.batch * s.key_heads)
        .into_par_iter()
        .map(|at| RoundingModel::new(&context, rows, at / s.key_heads, at % s.key_heads))
        .collect();
    let weights = statistic_weights(&context, &heads, bounds);
    let [dq, dk, dv] = &weights;
    let variances: Vec<[SetVariances; 3]> =
        heads.par_iter().map(|head| set_variances(head, &context, [dq, dk, dv])).collect();
    let directions =
        direction_limits(&context, &heads, [dq, dk, dv], bounds.dbias.as_ref(), directions);
    let factors = TailFactors::of(&context);
    let of = |which: usize| {
        // Where the values are in the keys there is no dv.
        if context.widths()[which] == 0 {
            return TensorLimits::default();
        }
        let variances: Vec<_> = variances.iter().map(|head| &head[which]).collect();
        tensor_limits(&weights[which], factors, &variances)
    };
    Some(StatisticalLimits { dq: of(0), dk: of(1), dv: of(2), directions })
}

/// The weights of the statistics of `dq`, `dk` and `dv`.
fn statistic_weights(
    context: &BoundContext<'_>,
    heads: &[RoundingModel],
    bounds: &Bounds,
) -> [StatisticWeights; 3] {
    let elements: Vec<[Vec<f64>; 3]> =
        heads.par_iter().map(|head| head.elements(context)).collect();
    let known: Vec<[Vec<f64>; 3]> = heads.par_iter().map(|head| head.known(context)).collect();
    let of_dropout: Option<Vec<[Vec<f64>; 3]>> =
        heads.par_iter().map(|head| head.of_dropout(context)).collect();
    let g = context.input.gradients;
    let (none, no_bound) = (Tensor::zeros([0; 4]), Bound::default());
    let mut tensors = [(&g.dq, &bounds.dq), (&g.dk, &bounds.dk), (&g.dv, &bounds.dv)];
    if let (Some(dkv), Some(bound)) = (&g.dkv, &bounds.dkv) {
        (tensors[1], tensors[2]) = ((dkv, bound), (&none, &no_bound));
    }
    [0, 1, 2].map(|which| {
        let (truth, bound) = tensors[which];
        let elements = elements.iter().flat_map(|head| head[which].iter().copied());
        let known = known.iter().flat_map(|head| head[which].iter().copied());
        let of_dropout = of_dropout.iter().flatten();
        let of_dropout: Vec<f64> =
            of_dropout.flat_map(|head| head[which].iter().copied()).collect();
        let elements = elements.zip(known);
        StatisticWeights::new(context, truth, bound, elements, &of_dropout, heads.len())
    })
}

/// The limits of all sets of one tensor.
fn tensor_limits(
    weights: &StatisticWeights,
    factors: TailFactors,
    heads: &[&SetVariances],
) -> TensorLimits {
    let width = weights.linear[0].shape()[3];
    let mut sets: [SetLimits; 3] = std::array::from_fn(|_| SetLimits::default());
    let (mut all, mut first) = (SetErrors::default(), 0);
    for variances in heads {
        let mut head = SetErrors::default();
        for at in 0..variances.rows.len() {
            let mut row = set_errors(weights, (first + at) * width..(first + at + 1) * width);
            row.norm = row.norm.plus(variances.norms[at]);
            for (sum, square) in row.squares.iter_mut().zip(variances.rows[at]) {
                *sum += square;
            }
            head.add(row);
            row.norm = row.norm.plus(variances.shared);
            row.push(factors, &mut sets, |set| &mut set.rows);
        }
        for (sum, across) in head.squares.iter_mut().zip(variances.across) {
            // Rounding may leave a negative difference of squares that cancel.
            *sum = (*sum + across).max(0.0);
        }
        head.shared = variances.shared;
        first += variances.rows.len();
        head.push(factors, &mut sets, |set| &mut set.heads);
        all.add(head);
    }
    for (set, limit) in sets.iter_mut().zip(all.limits(factors)) {
        set.all = limit;
    }
    TensorLimits { scale: weights.scale.clone(), sets }
}

/// The errors of some elements, without the roundings of `P` and `dS` that they share.
fn set_errors(weights: &StatisticWeights, at: std::ops::Range<usize>) -> SetErrors {
    let mut set = SetErrors { count: at.len() as f64, ..SetErrors::default() };
    let inverse = weights.linear[0].as_slice();
    set.norm = Norm::diagonal(at.clone().map(|at| weights.stored[at] * inverse[at] * inverse[at]));
    for (f, of_statistic) in weights.linear.iter().enumerate() {
        let known = dot(&of_statistic.as_slice()[at.clone()], &weights.known[at.clone()]);
        set.deterministic[f] = known.abs();
    }
    for at in at {
        for (f, of_statistic) in weights.linear.iter().enumerate() {
            let weight = of_statistic.as_slice()[at];
            set.squares[f] += weight * weight * weights.stored[at];
            set.deterministic[f] += weight.abs() * weights.rest[at];
        }
        let by = inverse[at] * inverse[at];
        let rest = weights.rest[at] + weights.known[at].abs();
        set.rest += rest * rest * by;
        set.divisors[1] += weights.truth[at] * weights.truth[at] * by;
    }
    set.divisors[0] = set.count;
    set
}

/// Tail factors of all sets of a problem: of a sum of independent errors, and the exponent of a norm of them.
#[derive(Clone, Copy)]
struct TailFactors {
    sum: f64,
    norm: f64,
}

impl TailFactors {
    fn of(context: &BoundContext<'_>) -> Self {
        let s = context.input.problem.whole_sizes();
        // Three tensors of a whole problem, and three of each part: a part is one key head in all sequences.
        let is_part = context.input.problem.options().part.is_some();
        let tensors = if is_part { 3 * s.key_heads } else { 3 };
        // Rows of dq, keys of dk and of dv; the heads of all three; the tensors.
        let (rows, key_heads) = (s.batch * s.query_heads * s.queries, s.batch * s.key_heads);
        let sets = (rows + 2 * key_heads * (s.keys + 1) + key_heads + tensors) as f64;
        let alarm = STATISTICAL_FALSE_ALARM - DIRECTIONAL_FALSE_ALARM;
        TailFactors {
            sum: tail_factor(LINEAR as f64 * sets, alarm),
            norm: libm::log(sets / STATISTICAL_FALSE_ALARM),
        }
    }
}

/// The errors of a set of elements.
#[derive(Default, Clone, Copy)]
struct SetErrors {
    count: f64,
    /// Of each linear statistic: its squared parameter, the bound of other errors, and its divisor.
    squares: [f64; LINEAR],
    deterministic: [f64; LINEAR],
    divisors: [f64; LINEAR],
    /// Of the normalised errors: the random part of each row, the part that rows share, and the squared norm of the rest.
    norm: Norm,
    shared: Norm,
    rest: f64,
}

impl SetErrors {
    fn add(&mut self, other: SetErrors) {
        self.count += other.count;
        self.rest += other.rest;
        self.norm = self.norm.below(other.norm);
        self.shared = self.shared.below(other.shared);
        for f in 0..LINEAR {
            self.squares[f] += other.squares[f];
            self.deterministic[f] += other.deterministic[f];
            self.divisors[f] += other.divisors[f];
        }
    }

    fn limits(&self, factors: TailFactors) -> [f64; 3] {
        let linear = |f: usize| {
            // lambda sqrt(sum c^2 a^2) + sum |c| rest, over the divisor of the statistic.
            let sum = factors.sum * libm::sqrt(self.squares[f]) + self.deterministic[f];
            if self.divisors[f] > 0.0 { sum / self.divisors[f] } else { f64::INFINITY }
        };
        // The norm of the random part, and of the errors that no model follows; over the root of the count.
        let norm = self.norm.plus(self.shared).limit(factors.norm) + libm::sqrt(self.rest);
        [linear(0), linear(1), norm / libm::sqrt(self.count.max(1.0))]
    }

    fn push(
        &self,
        factors: TailFactors,
        sets: &mut [SetLimits; 3],
        of: impl Fn(&mut SetLimits) -> &mut Vec<f64>,
    ) {
        for (set, limit) in sets.iter_mut().zip(self.limits(factors)) {
            of(set).push(limit);
        }
    }
}
