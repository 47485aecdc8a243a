//! What linear functionals of the errors, and their root mean square, can be in a right kernel.
//!
//! A bound for each element leaves room for a small common factor: a gradient that is one percent too large errs by
//! less than its 16-bit roundings do. But those roundings are many and independent, so that of a sum of the errors
//! with known weights much less is left. `docs/verdict.md` derives the weights and the limits.

use super::bound::{Bound, Bounds, BoundsInput, Core};
use super::directional::{Along, Direction, along};
use super::format::Format;
use super::norm::Norm;
use super::rounding_model::{Alike, Drawn, Scales};
use super::stage::Stage;
use rayon::prelude::*;
use sus_reference::tensor::{Tensor, dot};

/// The share of the false-alarm budget that the functionals may spend, and the norms as much again.
///
/// # Examples
/// ```
/// use sus_bounds::{ELEMENTWISE_FALSE_ALARM, STATISTICAL_FALSE_ALARM};
/// assert_eq!(STATISTICAL_FALSE_ALARM, ELEMENTWISE_FALSE_ALARM);
/// ```
pub const STATISTICAL_FALSE_ALARM: f64 = 2.5e-10;

/// What the sums along directions may spend of the functionals' share.
pub(super) const DIRECTIONAL_FALSE_ALARM: f64 = 2e-10;

/// Entries of one key head up to which its roundings are followed; above, there are no statistics and no ranges.
///
/// # Examples
/// ```
/// assert_eq!(sus_bounds::LARGEST_HEAD, 4096 * 2048); // queries times keys
/// ```
pub const LARGEST_HEAD: usize = 1 << 23;

/// Bits beyond its format from which a result's rounding is taken as nearly uniform.
const MANY_BITS: i32 = 6;

/// A statistic of the errors of a set of elements; `s_x` is the scale of the error of element `x`.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Statistic, Truth, bounds, limits};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let ([dq, _, _], _) = limits(&question, &bounds(&question), &[]).unwrap();
/// let [mean, rms] = [Statistic::Mean, Statistic::Rms].map(|statistic| dq.sets[statistic as usize].all);
/// assert!(mean < rms); // roundings cancel in a mean
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// `sum_x error_x / s_x`, over the number of elements.
    Mean,
    /// `sum_x error_x truth_x / s_x^2` over `sum_x truth_x^2 / s_x^2`.
    Slope,
    /// The root mean square of `error_x / s_x`.
    Rms,
}

/// How many of them are linear.
pub(super) const FUNCTIONALS: usize = 2;

/// Limits of one statistic over the rows, the heads and the whole of a tensor.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds, limits};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let ([dq, _, _], _) = limits(&question, &bounds(&question), &[]).unwrap();
/// let mean = &dq.sets[0];
/// assert!(mean.rows.iter().all(|&row| mean.all < row)); // more elements, a smaller mean
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds, limits};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let ([_, dk, _], _) = limits(&question, &bounds(&question), &[]).unwrap();
/// assert_eq!(dk.scale.len(), problem.inputs().k.as_slice().len());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// The scale `s` of each element's error.
    pub scale: Vec<f64>,
    /// Of the mean, the slope and the root mean square.
    pub sets: [SetLimits; 3],
}

/// The limits of `dq`, `dk`, `dv`, and those of sums along directions.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{AllLimits, Mode, BoundsInput, Recipe, Truth, bounds, limits};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let all: AllLimits = limits(&question, &bounds(&question), &[]).unwrap();
/// let scales = all.0.map(|of| of.scale.iter().all(|&scale| scale > 0.0));
/// assert_eq!(scales, [true; 3]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub type AllLimits = ([Limits; 3], Vec<Along>);

/// The limits of `dq`, `dk`, `dv`, and of their errors together along some directions; `None` for a problem too large
/// for them.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds, limits};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let ([dq, _, _], along) = limits(&question, &bounds(&question), &[]).unwrap();
/// assert_eq!(dq.sets[0].rows.len(), problem.row_count());
/// assert!(along.is_empty());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn limits(
    question: &BoundsInput<'_>,
    bounds: &Bounds,
    directions: &[Direction],
) -> Option<AllLimits> {
    let core = Core::new(question);
    let p = question.problem;
    let s = p.sizes();
    if s.queries.saturating_mul(s.keys).saturating_mul(p.group()) > LARGEST_HEAD {
        return None;
    }
    let heads: Vec<Drawn> = (0..s.batch * s.key_heads)
        .into_par_iter()
        .map(|at| Drawn::new(&core, at / s.key_heads, at % s.key_heads))
        .collect();
    let elements: Vec<[Vec<f64>; 3]> = heads.par_iter().map(|head| head.elements(&core)).collect();
    let known: Vec<[Vec<f64>; 3]> = heads.par_iter().map(|head| head.known(&core)).collect();
    let g = question.gradients;
    let tensors = [(&g.dq, &bounds.dq), (&g.dk, &bounds.dk), (&g.dv, &bounds.dv)];
    let weights = [0, 1, 2].map(|which| {
        let (truth, bound) = tensors[which];
        let elements = elements.iter().flat_map(|head| head[which].iter().copied());
        let known = known.iter().flat_map(|head| head[which].iter().copied());
        Weights::new(&core, truth, bound, elements.zip(known), s.batch * s.key_heads)
    });
    let [dq, dk, dv] = &weights;
    let scales: Vec<[Scales; 3]> =
        heads.par_iter().map(|head| head.scales(&core, [dq, dk, dv])).collect();
    let sets =
        (p.row_count() + 2 * s.batch * s.key_heads * (s.keys + 1) + s.batch * s.key_heads + 3)
            as f64;
    let functionals = STATISTICAL_FALSE_ALARM - DIRECTIONAL_FALSE_ALARM;
    let chances = Chances {
        sum: libm::sqrt(2.0 * libm::log(2.0 * FUNCTIONALS as f64 * sets / functionals)),
        norm: libm::log(sets / STATISTICAL_FALSE_ALARM),
    };
    let along = along(&core, &heads, [dq, dk, dv], bounds.dbias.as_ref(), directions);
    let mut which = 0;
    let limits = weights.map(|weights| {
        let scales = scales.iter().map(|head| &head[which]).collect::<Vec<_>>();
        which += 1;
        weights.limits(chances, &scales)
    });
    Some((limits, along))
}

/// The squared parameter of the rounding of a stored result of about this size, over the square of half a spacing.
///
/// With `k` bits more than the format holds the rounding is one of `2^k` points, and the parameter `1/3 + (2/3) 4^-k`.
pub(super) fn stored_parameter(format: Format, truth: f64) -> f64 {
    let significant = 53 - (truth.to_bits() | 1 << 52).trailing_zeros() as i32;
    let more = if significant >= format.precision() + MANY_BITS { MANY_BITS } else { 1 };
    1.0 / 3.0 + libm::ldexp(2.0 / 3.0, -2 * more)
}

/// One tensor: the scales of its errors, and the weights of the functionals.
pub(super) struct Weights {
    /// Of the functionals; those of the mean also normalise.
    functionals: [Tensor<f64>; FUNCTIONALS],
    pub scale: Vec<f64>,
    /// Squared parameters of the roundings of the results.
    pub stored: Vec<f64>,
    /// What is not followed, with its sign unknown.
    pub rest: Vec<f64>,
    /// Half the spacing of the results' format.
    pub spacing: Vec<f64>,
    /// What known roundings add, if a kernel makes them.
    known: Vec<f64>,
    truth: Vec<f64>,
}

impl Weights {
    /// From the squared parameters of the roundings that are followed.
    fn new(
        core: &Core<'_>,
        truth: &Tensor<f64>,
        bound: &Bound,
        elements: impl Iterator<Item = (f64, f64)>,
        heads: usize,
    ) -> Self {
        let recipe = core.q.recipe;
        // Where scores are stored, their roundings are in delta's share too, and are not followed.
        let followed: &[Stage] = if core.a.is_narrow(recipe.elementwise) {
            &[Stage::P, Stage::Ds, Stage::Store]
        } else {
            &[Stage::P, Stage::Ds, Stage::Store, Stage::StoredO]
        };
        // Truncated operands all err to one side.
        let truncated = [recipe.p, recipe.ds, recipe.p_in_ds].contains(&Format::Tf32);
        let followed = if truncated { &[Stage::Store] } else { followed };
        let logs =
            truth.as_slice().iter().map(|x| libm::log(x.abs().max(f64::MIN_POSITIVE)) as f32);
        let logs: Vec<f32> = logs.collect();
        let per_head = (logs.len() / heads.max(1)).max(1);
        let alike: Vec<f64> = logs
            .chunks(per_head)
            .flat_map(|logs| {
                let alike = Alike::new(logs.iter().copied(), recipe.output);
                logs.iter().map(|&log| alike.count(log)).collect::<Vec<_>>()
            })
            .collect();
        let mut all = Weights {
            functionals: std::array::from_fn(|_| Tensor::zeros(truth.shape())),
            scale: Vec::new(),
            stored: Vec::new(),
            rest: Vec::new(),
            spacing: Vec::new(),
            known: Vec::new(),
            truth: truth.as_slice().to_vec(),
        };
        for (at, (of_roundings, known)) in elements.enumerate() {
            let (truth, threshold) = (all.truth[at], bound.threshold[at]);
            let share = |stage: Stage| f64::from(bound.stages[at][stage as usize]) * threshold;
            // Shares are kept in f32.
            let random: f64 = followed.iter().map(|&of| share(of)).sum();
            let rest = ((threshold - random) + 1e-6 * threshold).max(0.0);
            // Repeated heads round more than once.
            let store = recipe.output.rounding_error(truth.abs(), recipe.flush_to_zero);
            let store = store.max(share(Stage::Store));
            let stored = stored_parameter(recipe.output, truth) * store * store * alike[at];
            let scale = libm::sqrt(of_roundings + stored + rest * rest + known * known);
            let inverse = if scale > 0.0 && scale.is_finite() { 1.0 / scale } else { 0.0 };
            let of = [inverse, truth * inverse * inverse];
            for (weights, weight) in all.functionals.iter_mut().zip(of) {
                weights.as_mut_slice()[at] = weight;
            }
            all.scale.push(scale);
            all.stored.push(stored);
            all.rest.push(rest);
            all.spacing.push(store);
            all.known.push(known);
        }
        all
    }

    /// The weights of one row or key.
    pub(super) fn row(&self, b: usize, h: usize, n: usize) -> [&[f64]; FUNCTIONALS] {
        std::array::from_fn(|f| self.functionals[f].row(b, h, n))
    }

    fn limits(self, chances: Chances, heads: &[&Scales]) -> Limits {
        let width = self.functionals[0].shape()[3];
        let mut sets: [SetLimits; 3] = std::array::from_fn(|_| SetLimits::default());
        let (mut all, mut first) = (Set::default(), 0);
        for scales in heads {
            let mut head = Set::default();
            for at in 0..scales.rows.len() {
                let mut row = self.set((first + at) * width..(first + at + 1) * width);
                row.norm = row.norm.plus(scales.norms[at]);
                for (sum, square) in row.squares.iter_mut().zip(scales.rows[at]) {
                    *sum += square;
                }
                head.add(row);
                row.norm = row.norm.plus(scales.shared);
                row.push(chances, &mut sets, |set| &mut set.rows);
            }
            for (sum, across) in head.squares.iter_mut().zip(scales.across) {
                *sum = (*sum + across).max(0.0);
            }
            head.shared = scales.shared;
            first += scales.rows.len();
            head.push(chances, &mut sets, |set| &mut set.heads);
            all.add(head);
        }
        for (set, limit) in sets.iter_mut().zip(all.limits(chances)) {
            set.all = limit;
        }
        Limits { scale: self.scale, sets }
    }

    /// What some elements add up to, but for the roundings that they share.
    fn set(&self, at: std::ops::Range<usize>) -> Set {
        let mut set = Set { count: at.len() as f64, ..Set::default() };
        let inverse = self.functionals[0].as_slice();
        set.norm = Norm::diagonal(at.clone().map(|at| self.stored[at] * inverse[at] * inverse[at]));
        for (f, weights) in self.functionals.iter().enumerate() {
            let known = dot(&weights.as_slice()[at.clone()], &self.known[at.clone()]);
            set.deterministic[f] = known.abs();
        }
        for at in at {
            for (f, weights) in self.functionals.iter().enumerate() {
                let weight = weights.as_slice()[at];
                set.squares[f] += weight * weight * self.stored[at];
                set.deterministic[f] += weight.abs() * self.rest[at];
            }
            let by = inverse[at] * inverse[at];
            let rest = self.rest[at] + self.known[at].abs();
            set.rest += rest * rest * by;
            set.divisors[1] += self.truth[at] * self.truth[at] * by;
        }
        set.divisors[0] = set.count;
        set
    }
}

/// Tail factors: of a sum of independent errors, and of a norm of them.
#[derive(Clone, Copy)]
struct Chances {
    sum: f64,
    norm: f64,
}

/// What a set of elements adds up to.
#[derive(Default, Clone, Copy)]
struct Set {
    count: f64,
    /// Of each functional: its squared parameter, what else may err, and what it is divided by.
    squares: [f64; FUNCTIONALS],
    deterministic: [f64; FUNCTIONALS],
    divisors: [f64; FUNCTIONALS],
    /// Of the normalised errors: what is random in each row, what rows share, and the squared norm of the rest.
    norm: Norm,
    shared: Norm,
    rest: f64,
}

impl Set {
    fn add(&mut self, other: Set) {
        self.count += other.count;
        self.rest += other.rest;
        self.norm = self.norm.below(other.norm);
        self.shared = self.shared.below(other.shared);
        for f in 0..FUNCTIONALS {
            self.squares[f] += other.squares[f];
            self.deterministic[f] += other.deterministic[f];
            self.divisors[f] += other.divisors[f];
        }
    }

    fn limits(&self, chances: Chances) -> [f64; 3] {
        let functional = |f: usize| {
            let sum = chances.sum * libm::sqrt(self.squares[f]) + self.deterministic[f];
            if self.divisors[f] > 0.0 { sum / self.divisors[f] } else { f64::INFINITY }
        };
        let norm = self.norm.plus(self.shared).limit(chances.norm) + libm::sqrt(self.rest);
        [functional(0), functional(1), norm / libm::sqrt(self.count.max(1.0))]
    }

    fn push(
        &self,
        chances: Chances,
        sets: &mut [SetLimits; 3],
        of: impl Fn(&mut SetLimits) -> &mut Vec<f64>,
    ) {
        for (set, limit) in sets.iter_mut().zip(self.limits(chances)) {
            of(set).push(limit);
        }
    }
}
