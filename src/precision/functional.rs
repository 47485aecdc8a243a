//! What linear functionals of the errors, and their root mean square, can be in a right kernel.
//!
//! A bound for each element leaves room for a small common factor: a gradient that is one percent too large errs by
//! less than its 16-bit roundings do. But those roundings are many and independent, so that of a sum of the errors
//! with known weights much less is left. The weights here are the truth itself (the slope) and the inverse bounds (the
//! mean). `docs/verdict.md` derives the limits.

use super::bound::{Bound, Bounds, Core, Question};
use super::row::{EntryError, RowErrors};
use super::stage::Stage;
use crate::problem::Row;
use crate::tensor::{Tensor, dot};
use rayon::prelude::*;

/// The share of the false-alarm budget that each of the three statistics may spend.
pub const STATISTICAL_FALSE_ALARM: f64 = 2.5e-10;

/// Entries of one head up to which its multiplicities are counted; above, there are no statistics.
const LARGEST_HEAD: usize = 1 << 23;

/// A statistic of the errors of a set of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// `sum_x error_x / bound_x`, over the number of elements.
    Mean,
    /// `sum_x error_x truth_x / sum_x truth_x^2`.
    Slope,
    /// The root mean square of `error_x / bound_x`.
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

/// Limits of the three statistics of one tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Of the mean.
    pub mean: SetLimits,
    /// Of the slope.
    pub slope: SetLimits,
    /// Of the root mean square.
    pub rms: SetLimits,
}

/// The limits of `dq`, `dk`, `dv`; `None` for a problem too large for them.
#[must_use]
pub fn limits(question: &Question<'_>, bounds: &Bounds) -> Option<[Limits; 3]> {
    let core = Core::new(question);
    let p = question.problem;
    let s = p.sizes();
    if s.queries.saturating_mul(s.keys).saturating_mul(p.group()) > LARGEST_HEAD {
        return None;
    }
    let g = question.gradients;
    let tensors = [(&g.dq, &bounds.dq), (&g.dk, &bounds.dk), (&g.dv, &bounds.dv)];
    let weights = tensors.map(|(truth, bound)| Weights::new(truth, bound));
    let pass = Pass { core: &core, weights: &weights };
    let heads: Vec<Head> = (0..s.batch * s.key_heads)
        .into_par_iter()
        .map(|at| pass.head(at / s.key_heads, at % s.key_heads))
        .collect();
    let events = 2.0 * (p.row_count() + 2 * s.batch * s.key_heads * (s.keys + 2) + 3) as f64;
    let chances = Chances {
        sum: libm::sqrt(2.0 * libm::log(2.0 * events / STATISTICAL_FALSE_ALARM)),
        norm: libm::sqrt(8.0 * libm::log(events / STATISTICAL_FALSE_ALARM)),
    };
    Some([0, 1, 2].map(|which| {
        let (truth, bound) = tensors[which];
        let parts = Tensors { truth, bound, weights: &weights[which], chances };
        parts.limits(&core, &heads.iter().map(|head| &head.tensors[which]).collect::<Vec<_>>())
    }))
}

/// The weights of the two functionals, of a tensor's shape.
struct Weights {
    mean: Tensor<f64>,
    slope: Tensor<f64>,
}

impl Weights {
    fn new(truth: &Tensor<f64>, bound: &Bound) -> Self {
        let mut mean = Tensor::zeros(truth.shape());
        for (weight, &bound) in mean.as_mut_slice().iter_mut().zip(&bound.decides) {
            *weight = if bound > 0.0 && bound.is_finite() { 1.0 / bound } else { 0.0 };
        }
        Weights { mean, slope: truth.clone() }
    }

    fn rows(&self, b: usize, h: usize, n: usize) -> [&[f64]; 2] {
        [self.mean.row(b, h, n), self.slope.row(b, h, n)]
    }
}

/// Tail factors: of a sum of independent errors, and of a norm of them.
#[derive(Clone, Copy)]
struct Chances {
    sum: f64,
    norm: f64,
}

/// Squared scales of one tensor in one key head.
#[derive(Default, Clone)]
struct Scales {
    /// By row or key, by source, for the mean and the slope.
    rows: Vec<[[f64; 2]; SOURCES]>,
    /// What `delta` adds to the sums of `rows` in the head, since it reaches more than one row or key.
    across: [f64; 2],
    /// Squared scale of each element by source, from what reaches its own row or key alone.
    elements: Vec<[f64; SOURCES]>,
    /// How many roundings of each source may be alike.
    alike: [f64; SOURCES],
}

/// Sources of roundings: `dS`, `P`, `delta`.
const SOURCES: usize = 3;
const OF_DS: usize = 0;
const OF_P: usize = 1;
const OF_DELTA: usize = 2;

/// Squared scales of one key head.
struct Head {
    tensors: [Scales; 3],
}

struct Pass<'a> {
    core: &'a Core<'a>,
    weights: &'a [Weights; 3],
}

impl Pass<'_> {
    fn head(&self, b: usize, key_head: usize) -> Head {
        let p = self.core.q.problem;
        let (s, group) = (p.sizes(), p.group());
        let scales = |rows: usize, width: usize| Scales {
            rows: vec![[[0.0; 2]; SOURCES]; rows],
            elements: vec![[0.0; SOURCES]; rows * width],
            ..Scales::default()
        };
        let mut tensors = [
            scales(group * s.queries, s.features),
            scales(s.keys, s.features),
            scales(s.keys, s.value_features),
        ];
        let (mut of_p, mut of_ds, mut lses) = (Vec::new(), Vec::new(), Vec::new());
        for h in key_head * group..(key_head + 1) * group {
            for i in 0..s.queries {
                let row = Row { b, h, i };
                let errors = self.core.row_errors(row, self.core.q.mode);
                lses.push(errors.lse as f32);
                let at = (h - key_head * group) * s.queries + i;
                self.row(row, at, &errors, &mut tensors, &mut of_p, &mut of_ds);
            }
        }
        let recipe = self.core.q.recipe;
        let alike = [
            alike(of_ds, recipe.ds.unit_roundoff()),
            alike(of_p, recipe.p.unit_roundoff()),
            alike(lses, recipe.o.unit_roundoff()),
        ];
        for tensor in &mut tensors {
            tensor.alike = alike;
        }
        Head { tensors }
    }

    /// Adds the roundings of one row.
    fn row(
        &self,
        row: Row,
        at: usize,
        errors: &RowErrors,
        tensors: &mut [Scales; 3],
        of_p: &mut Vec<f32>,
        of_ds: &mut Vec<f32>,
    ) {
        let (core, p) = (self.core, self.core.q.problem);
        let [dq, dk, dv] = tensors;
        let number = p.row_number(row);
        let key_head = p.key_head(row.h);
        let r_dq = self.weights[0].rows(row.b, row.h, row.i);
        let (mut shared_dq, mut shared_dk) = ([0.0; 2], [0.0; 2]);
        for e in &errors.entries {
            let Some(kept) = core.kept(errors, e, number) else { continue };
            let t = e.dp - errors.delta + p.dlse(row);
            let dz = kept.w * t * e.slope;
            let (errors_of, p_error) = self.roundings(errors, e, kept.w, t);
            of_p.push(libm::log(kept.w) as f32);
            if dz != 0.0 {
                of_ds.push(libm::log(dz.abs()) as f32);
            }
            let by_weight = kept.w * e.slope;
            let r_dk = self.weights[1].rows(row.b, key_head, e.j);
            let r_dv = self.weights[2].rows(row.b, key_head, e.j);
            let (q, k, g) = (p.q(row), p.k(row, e.j), p.g(row));
            for f in 0..2 {
                let of_dq = dot(r_dq[f], k);
                dq.rows[at][OF_DS][f] += of_dq * of_dq * errors_of[OF_DS];
                dq.rows[at][OF_P][f] += of_dq * of_dq * errors_of[OF_P];
                shared_dq[f] += by_weight * of_dq;
                let of_dk = dot(r_dk[f], q);
                let delta = by_weight * errors.delta_stored_norm;
                dk.rows[e.j][OF_DS][f] += of_dk * of_dk * errors_of[OF_DS];
                dk.rows[e.j][OF_P][f] += of_dk * of_dk * errors_of[OF_P];
                dk.rows[e.j][OF_DELTA][f] += of_dk * of_dk * delta * delta;
                shared_dk[f] += by_weight * of_dk;
                // In the head, the keys' shares of one row's error add up before they are squared.
                dk.across[f] -= of_dk * of_dk * delta * delta;
                let of_dv = dot(r_dv[f], g);
                dv.rows[e.j][OF_P][f] += of_dv * of_dv * p_error;
            }
            let add = |elements: &mut [[f64; SOURCES]], row: usize, errors: [f64; 2], x: &[f64]| {
                let elements = &mut elements[row * x.len()..(row + 1) * x.len()];
                for (sums, x) in elements.iter_mut().zip(x) {
                    sums[OF_DS] += errors[OF_DS] * x * x;
                    sums[OF_P] += errors[OF_P] * x * x;
                }
            };
            add(&mut dq.elements, at, errors_of, k);
            add(&mut dk.elements, e.j, errors_of, q);
            add(&mut dv.elements, e.j, [0.0, p_error], g);
        }
        for f in 0..2 {
            let square = |x: f64| x * x;
            dq.rows[at][OF_DELTA][f] += square(shared_dq[f] * errors.delta_stored_norm);
            dk.across[f] += square(shared_dk[f] * errors.delta_stored_norm);
        }
    }

    /// Squared rounding errors of `dZ`, its own and that of the `P` in it, and of `P`, at the sizes that they may have.
    fn roundings(&self, errors: &RowErrors, e: &EntryError, w: f64, t: f64) -> ([f64; 2], f64) {
        let (a, recipe) = (&self.core.a, self.core.q.recipe);
        let largest = libm::exp(e.log.worst + e.log_stored + errors.lse_error.worst);
        let of_t = errors.delta_error.worst + errors.delta_stored + e.dp_sum.worst + e.dp_stored;
        let (w, t) = (w * largest, t.abs() + of_t);
        let slope = e.slope.abs() + e.slope_error;
        let of_ds = self.core.dz_rounding(w * t * slope);
        let of_p_in_ds = a.narrow_scaled(recipe.p_in_ds, w) * t * slope;
        let of_elementwise = a.elementwise(w * t) * slope;
        let of_p = a.narrow_scaled(recipe.p, w);
        let of_ds = of_ds * of_ds + of_elementwise * of_elementwise;
        ([of_ds, of_p_in_ds * of_p_in_ds], of_p * of_p)
    }
}

/// The most numbers, given as logarithms, within a 32nd of a roundoff of each other.
///
/// `N` numbers that all round alike lie within one roundoff of each other, so at least `N / 32` of them are counted
/// here, and `lambda sqrt(N / 32) sqrt(N) >= N` as soon as `lambda >= 5.7`, which it is.
fn alike(mut logs: Vec<f32>, u: f64) -> f64 {
    logs.sort_unstable_by(f32::total_cmp);
    let (mut most, mut first) = (1, 0);
    for (at, &x) in logs.iter().enumerate() {
        while f64::from(x - logs[first]) > (u / 32.0).max(4.0e-7 * f64::from(x.abs())) {
            first += 1;
        }
        most = most.max(at + 1 - first);
    }
    most as f64
}

/// One tensor: its truth, its bounds, its weights.
struct Tensors<'a> {
    truth: &'a Tensor<f64>,
    bound: &'a Bound,
    weights: &'a Weights,
    chances: Chances,
}

/// What a set of elements adds up to.
#[derive(Default, Clone, Copy)]
struct Set {
    count: f64,
    /// Squared scales of the two functionals.
    squares: [f64; 2],
    /// What else may err, with its sign unknown, in the two functionals.
    certain: [f64; 2],
    /// Squared norm of what is random of the normalised errors, and of the rest.
    norm: f64,
    rest: f64,
    /// `sum truth^2`.
    truth: f64,
}

impl Set {
    fn add(&mut self, other: Set) {
        self.count += other.count;
        self.norm += other.norm;
        self.rest += other.rest;
        self.truth += other.truth;
        for f in 0..2 {
            self.squares[f] += other.squares[f];
            self.certain[f] += other.certain[f];
        }
    }
}

impl Tensors<'_> {
    fn limits(&self, core: &Core<'_>, heads: &[&Scales]) -> Limits {
        let width = self.truth.shape()[3].max(1);
        let mut limits = Limits::default();
        let (mut all, mut largest_block, mut first) = (Set::default(), 0.0_f64, 0);
        for scales in heads {
            let (mut head, mut block) = (Set::default(), 0.0_f64);
            for (at, squares) in scales.rows.iter().enumerate() {
                let mut row = self.row(core, scales, at, first + at, width);
                for (f, sum) in row.squares.iter_mut().enumerate() {
                    let of = |source: usize| squares[source][f] * scales.alike[source];
                    *sum += (0..SOURCES).map(of).sum::<f64>();
                }
                block = block.max(row.norm);
                self.push(&mut limits, row, row.norm, |set| &mut set.rows);
                head.add(row);
            }
            for f in 0..2 {
                let across = scales.across[f] * scales.alike[OF_DELTA];
                head.squares[f] = (head.squares[f] + across).max(0.0);
            }
            first += scales.rows.len();
            self.push(&mut limits, head, block, |set| &mut set.heads);
            largest_block = largest_block.max(block);
            all.add(head);
        }
        let (mean, slope, rms) = self.of(all, largest_block);
        (limits.mean.all, limits.slope.all, limits.rms.all) = (mean, slope, rms);
        limits
    }

    fn push(
        &self,
        limits: &mut Limits,
        set: Set,
        block: f64,
        sets: impl Fn(&mut SetLimits) -> &mut Vec<f64>,
    ) {
        let (mean, slope, rms) = self.of(set, block);
        sets(&mut limits.mean).push(mean);
        sets(&mut limits.slope).push(slope);
        sets(&mut limits.rms).push(rms);
    }

    /// The limits of a set whose largest block of dependent errors has this squared norm.
    fn of(&self, set: Set, block: f64) -> (f64, f64, f64) {
        let Chances { sum, norm } = self.chances;
        let count = set.count.max(1.0);
        let functional = |f: usize| sum * libm::sqrt(set.squares[f]) + set.certain[f];
        let mean = functional(0) / count;
        let slope = if set.truth > 0.0 { functional(1) / set.truth } else { f64::INFINITY };
        let random = libm::sqrt(set.norm) + norm * libm::sqrt(block);
        (mean, slope, (random + libm::sqrt(set.rest)) / libm::sqrt(count))
    }

    /// One row or key of the tensor.
    fn row(&self, core: &Core<'_>, scales: &Scales, at: usize, row: usize, width: usize) -> Set {
        let recipe = core.q.recipe;
        let mut set = Set { count: width as f64, ..Set::default() };
        for d in 0..width {
            let element = row * width + d;
            let truth = self.truth.as_slice()[element];
            let decides = self.bound.decides[element];
            let stage =
                |stage: Stage| f64::from(self.bound.stages[element][stage as usize]) * decides;
            let random = [Stage::P, Stage::Ds, Stage::Store, Stage::StoredO];
            // Where scores are stored, their roundings are in delta's share too, and are not followed.
            let followed = if core.a.is_narrow(recipe.elementwise) { 3 } else { 4 };
            let random = &random[..followed];
            let random: f64 = random.iter().map(|&of| stage(of)).sum();
            // Shares are kept in f32.
            let own = (decides - random) + 1e-6 * decides;
            let store = recipe.output.rounding_error(truth.abs(), recipe.flush_to_zero);
            // Repeated heads round more than once.
            let store = store.max(stage(Stage::Store));
            let weights =
                [self.weights.mean.as_slice()[element], self.weights.slope.as_slice()[element]];
            for (f, weight) in weights.into_iter().enumerate() {
                set.squares[f] += (weight * store) * (weight * store);
                set.certain[f] += weight.abs() * own.max(0.0);
            }
            let inverse = weights[0];
            let own_roundings = scales.elements[at * width + d];
            let of = |source: usize| own_roundings[source] * scales.alike[source];
            let random = (0..SOURCES).map(of).sum::<f64>() + store * store;
            let rest = (own.max(0.0) + stage(Stage::StoredO)) * inverse;
            set.norm += random * inverse * inverse;
            set.rest += rest * rest;
            set.truth += truth * truth;
        }
        set
    }
}
