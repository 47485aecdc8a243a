//! The errors of all gradients together, along what a known bug would add to them.
//!
//! Of all tests that use the sum of the errors with fixed weights, the weights `R = S^-1 m` see an addition `m` best,
//! where `S` is the matrix of what roundings do to pairs of errors (generalised least squares). Whatever the weights,
//! the sum is linear in the roundings, and its limit is derived as that of the mean: `docs/verdict.md`.

use super::bound::{Bound, Core};
use super::error_statistics::{DIRECTIONAL_FALSE_ALARM, Weights, stored_parameter};
use super::recipe::Delta;
use super::rounding_model::{Drawn, Entry, add};
use super::row::Mode;
use super::stage::Stage;
use rayon::prelude::*;
use sus_reference::problem::{Row, bias_row};
use sus_reference::tensor::dot;

/// Steps of the conjugate gradients. They make the weights good, not the limits right: those hold for any weights.
const STEPS: usize = 16;

/// By how much what is not random counts as more than it is, when weights are sought: a sum of many elements grows with
/// it in full, and with what is random by its root. The best of these is taken.
const CAUTIONS: [f64; 3] = [1.0, 4.0, 16.0];

/// What a bug would add to `dq`, `dk`, `dv`, or to `dbias` alone.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_mutants::directions;
/// use sus_bounds::Recipe;
/// let all = directions(&problem, None, &Recipe::built_in("flash-bf16").unwrap());
/// let lse = all.iter().find(|direction| direction.name == "lse_in_bf16").unwrap();
/// assert_eq!(lse.tensors[0].len(), problem.inputs().q.as_slice().len());
/// assert!(lse.tensors[3].is_empty()); // no bias
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    /// The bug.
    pub name: &'static str,
    /// What it adds to each element of `dq`, `dk`, `dv` and `dbias`; empty for a tensor without.
    pub tensors: [Vec<f64>; 4],
}

/// A sum of the errors of `dq`, `dk` and `dv`, or of `dbias`, with known weights, and its limit.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds, limits};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("flash-bf16").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let all = sus_mutants::directions(&problem, None, question.recipe);
/// let (_, along) = limits(&question, &bounds(&question), &all).unwrap();
/// assert!(!along.is_empty() && along.iter().all(|sum| sum.limit > 0.0 && sum.expected > 0.0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Along {
    /// The bug that it looks for.
    pub name: &'static str,
    /// The weights of the elements of `dq`, `dk`, `dv` and `dbias`; empty for a tensor without.
    pub weights: [Vec<f64>; 4],
    /// What a right kernel does not exceed.
    pub limit: f64,
    /// The same of kernels that say what `o` they stored.
    pub with_o: Option<WithO>,
    /// What the bug itself makes of it.
    pub expected: f64,
}

/// What a sum does not exceed when the `o` of the candidate is known, and with it what a stored `o` makes of `delta`.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds, limits};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("flash-bf16").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let all = sus_mutants::directions(&problem, None, question.recipe);
/// let (_, along) = limits(&question, &bounds(&question), &all).unwrap();
/// let with_o = along.iter().find_map(|sum| Some((sum.with_o.as_ref()?, sum.limit)));
/// let (with_o, limit) = with_o.unwrap();
/// assert_eq!(with_o.of_delta.len(), problem.row_count());
/// assert!(with_o.stored <= limit); // what is known need not be allowed for
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WithO {
    /// What an error of `delta` adds to the sum, for each row.
    pub of_delta: Vec<f64>,
    /// The limit of what is left if `delta` is made of the stored `o`.
    pub stored: f64,
    /// The limit of what is left if it is made of the `o` before it was stored, and that of the whole sum.
    pub unstored: [f64; 2],
}

/// What a sum of the errors of one key head can be: squares of sub-Gaussian parameters, and bounds.
#[derive(Default, Clone, Copy)]
struct Parts {
    /// The roundings of `dZ`: the scale before or after them; `dq` and `dk` from the same, or each from its own.
    ds: [f64; 4],
    /// The roundings of `P`, for `dv`, in `dS` and in `delta`, whichever of them are the same.
    p: f64,
    /// The same but for those in `delta`.
    p_without_delta: f64,
    /// Those of the stored `o` in `delta`.
    delta: f64,
    stored: f64,
    /// What is known of `P`, in `dv` and in `dS`.
    known: [f64; 2],
    rest: f64,
}

impl Parts {
    fn plus(self, other: Parts) -> Parts {
        Parts {
            ds: std::array::from_fn(|at| self.ds[at] + other.ds[at]),
            p: self.p + other.p,
            p_without_delta: self.p_without_delta + other.p_without_delta,
            delta: self.delta + other.delta,
            stored: self.stored + other.stored,
            known: [self.known[0] + other.known[0], self.known[1] + other.known[1]],
            rest: self.rest + other.rest,
        }
    }

    /// What the sum does not exceed, for a kernel that makes any of the choices.
    fn limit(&self, tail: f64) -> f64 {
        self.limit_of(tail, self.p + self.delta)
    }

    /// The same with these squares for `P` and `delta`.
    fn limit_of(&self, tail: f64, p_and_delta: f64) -> f64 {
        let ds = self.ds.iter().copied().fold(0.0, f64::max);
        let known = self.known[0].abs().max((self.known[0] + self.known[1]).abs());
        tail * libm::sqrt(ds + p_and_delta + self.stored) + known + self.rest
    }
}

/// What the roundings of `P` in one row add to a sum, in `dv`, in `dS` and in `delta`, for kernels in which some of the
/// three are the same rounding, or `dS` has none.
#[derive(Default)]
struct Hypotheses {
    apart: [f64; 2],
    with_forward: f64,
    with_ds: f64,
    all: f64,
}

impl Hypotheses {
    fn add(&mut self, dv: f64, ds: f64, delta: f64) {
        self.apart = [self.apart[0] + dv * dv, self.apart[1] + ds * ds];
        self.with_forward += (dv + delta) * (dv + delta);
        self.with_ds += (dv + ds) * (dv + ds);
        self.all += (dv + ds + delta) * (dv + ds + delta);
    }

    /// The largest sum of squares, given that of a forward pass whose roundings are its own.
    fn largest(&self, forward: f64) -> f64 {
        let own = (self.apart[0] + self.apart[1]).max(self.with_ds) + forward;
        own.max(self.with_forward).max(self.all)
    }
}

/// One key head, with what stands for its elements in the tensors.
struct Head<'a> {
    core: &'a Core<'a>,
    drawn: &'a Drawn,
    weights: [&'a Weights; 3],
    /// Where its elements begin.
    first: [usize; 3],
    lengths: [usize; 3],
}

type Vectors = [Vec<f64>; 3];

fn inner(a: &Vectors, b: &Vectors) -> f64 {
    a.iter().zip(b).map(|(a, b)| dot(a, b)).sum()
}

impl Head<'_> {
    /// The squared scale of each element; 0 where there is none.
    fn squares(&self, caution: f64) -> Vectors {
        std::array::from_fn(|which| {
            let at = self.first[which]..self.first[which] + self.lengths[which];
            let scale = &self.weights[which].scale;
            let square = |at: usize| match scale[at] {
                s if s > 0.0 && s.is_finite() => s * s + self.more(which, at, caution),
                _ => 0.0,
            };
            at.map(square).collect()
        })
    }

    /// What is added to the square of an element's own scale: more caution, and a part of a spacing, lest a few elements
    /// whose rounding is known take all the weight.
    fn more(&self, which: usize, at: usize, caution: f64) -> f64 {
        let Weights { rest, spacing, .. } = self.weights[which];
        let part = spacing[at] / 8.0;
        (caution * caution - 1.0) * rest[at] * rest[at] + part * part
    }

    /// `R . k`, `R . q` and `R . G` of one entry.
    fn products(&self, r: &Vectors, at: usize, row: Row, j: usize) -> [f64; 3] {
        let p = self.core.q.problem;
        let (k, q, g) = (p.k(row, j), p.q(row), p.g(row));
        [
            dot(&r[0][at * k.len()..][..k.len()], k),
            dot(&r[1][j * q.len()..][..q.len()], q),
            dot(&r[2][j * g.len()..][..g.len()], g),
        ]
    }

    /// `S R`, for the kernel that rounds before it scales and takes one rounded `P` for all.
    fn apply(&self, r: &Vectors, caution: f64) -> Vectors {
        let p = self.core.q.problem;
        let mut out: Vectors = self.lengths.map(|n| vec![0.0; n]);
        for (which, out) in out.iter_mut().enumerate() {
            for (at, (out, r)) in out.iter_mut().zip(&r[which]).enumerate() {
                let at = self.first[which] + at;
                let Weights { stored, rest, .. } = self.weights[which];
                let own = stored[at] + rest[at] * rest[at] + self.more(which, at, caution);
                *out = own * r;
            }
        }
        let mut known = [0.0; 2];
        for entries in self.drawn.by_row() {
            let (at, row) = self.drawn.row(self.core, entries);
            let [forward, stored] = self.drawn.delta[at];
            let delta = libm::hypot(forward, stored);
            let mut shared = 0.0;
            let sums: Vec<[f64; 3]> = entries
                .iter()
                .map(|e| {
                    let sums = self.products(r, at, row, e.j as usize);
                    let z = sums[0] + sums[1];
                    shared += f64::from(e.by_weight) * z;
                    known[0] += f64::from(e.known) * sums[2];
                    known[1] += f64::from(e.known_ds) * z;
                    sums
                })
                .collect();
            for (e, [dq, dk, dv]) in entries.iter().zip(sums) {
                let (z, j) = (dq + dk, e.j as usize);
                let (ds, of_p) = (f64::from(e.ds[1]), f64::from(e.p));
                let in_ds = f64::from(e.p_in_ds);
                let of_rounding = dv * of_p + z * in_ds;
                let z = z * ds * ds
                    + of_rounding * in_ds
                    + shared * delta * delta * f64::from(e.by_weight);
                add(&mut out[0], at, z, p.k(row, j));
                add(&mut out[1], j, z, p.q(row));
                add(&mut out[2], j, of_rounding * of_p, p.g(row));
            }
        }
        if known != [0.0; 2] {
            let total = known[0] + known[1];
            let of_known = self.drawn.known(self.core);
            for (out, of_known) in out.iter_mut().zip(of_known) {
                out.iter_mut().zip(of_known).for_each(|(out, x)| *out += total * x);
            }
        }
        out
    }

    /// Weights near `S^-1 m`.
    fn weights(&self, direction: &Direction, caution: f64) -> Vectors {
        let squares = self.squares(caution);
        let scaled = |x: &Vectors| -> Vectors {
            let scale = |(x, &s): (&f64, &f64)| if s > 0.0 { x / s } else { 0.0 };
            std::array::from_fn(|t| x[t].iter().zip(&squares[t]).map(scale).collect())
        };
        let mut left: Vectors = std::array::from_fn(|which| {
            let at = self.first[which]..self.first[which] + self.lengths[which];
            direction.tensors[which][at].to_vec()
        });
        let mut r: Vectors = self.lengths.map(|n| vec![0.0; n]);
        let mut step = scaled(&left);
        let mut size = inner(&left, &step);
        let first = size;
        for _ in 0..STEPS {
            if size <= 1e-9 * first {
                break;
            }
            let along = self.apply(&step, caution);
            let by = size / inner(&step, &along);
            if !by.is_finite() {
                break;
            }
            for t in 0..3 {
                r[t].iter_mut().zip(&step[t]).for_each(|(r, x)| *r += by * x);
                left[t].iter_mut().zip(&along[t]).for_each(|(left, x)| *left -= by * x);
            }
            let next = scaled(&left);
            let after = inner(&left, &next);
            for (step, next) in step.iter_mut().zip(&next) {
                step.iter_mut().zip(next).for_each(|(step, x)| *step = x + after / size * *step);
            }
            size = after;
        }
        // No element without a scale is weighted.
        for (r, squares) in r.iter_mut().zip(&squares) {
            r.iter_mut().zip(squares).filter(|(_, s)| **s == 0.0).for_each(|(r, _)| *r = 0.0);
        }
        r
    }

    /// What the sum of the errors with these weights can be; and what an error of `delta` adds to it, row by row.
    fn parts(&self, r: &Vectors) -> (Parts, Vec<f64>) {
        let mut parts = Parts::default();
        let mut of_delta = vec![0.0; self.drawn.delta.len()];
        for entries in self.drawn.by_row() {
            let (at, row) = self.drawn.row(self.core, entries);
            let all: Vec<[f64; 3]> =
                entries.iter().map(|e| self.products(r, at, row, e.j as usize)).collect();
            let by_weight =
                |(e, [dq, dk, _]): (&Entry, &[f64; 3])| f64::from(e.by_weight) * (dq + dk);
            let shared: f64 = entries.iter().zip(&all).map(by_weight).sum();
            of_delta[at] = -shared;
            let (mut of_p, mut without_delta) = (Hypotheses::default(), Hypotheses::default());
            for (e, [dq, dk, dv]) in entries.iter().zip(all) {
                let z = dq + dk;
                for (scaled, &ds) in e.ds.iter().enumerate() {
                    let square = f64::from(ds) * f64::from(ds);
                    parts.ds[2 * scaled] += z * z * square;
                    parts.ds[2 * scaled + 1] += (dq * dq + dk * dk) * square;
                }
                let p = f64::from(e.p);
                of_p.add(dv * p, z * f64::from(e.p_in_ds), -shared * f64::from(e.dp) * p);
                without_delta.add(dv * p, z * f64::from(e.p_in_ds), 0.0);
                parts.known[0] += dv * f64::from(e.known);
                parts.known[1] += z * f64::from(e.known_ds);
            }
            let [forward, stored] =
                self.drawn.delta[at].map(|delta| shared * shared * delta * delta);
            parts.p += of_p.largest(forward);
            parts.p_without_delta += without_delta.largest(0.0);
            parts.delta += stored;
        }
        for (which, r) in r.iter().enumerate() {
            for (at, r) in r.iter().enumerate() {
                let at = self.first[which] + at;
                parts.stored += r * r * self.weights[which].stored[at];
                parts.rest += r.abs() * self.weights[which].rest[at];
            }
        }
        (parts, of_delta)
    }
}

/// The weights and the limits of the directions.
pub(super) fn along(
    core: &Core<'_>,
    heads: &[Drawn],
    weights: [&Weights; 3],
    dbias: Option<&Bound>,
    directions: &[Direction],
) -> Vec<Along> {
    let s = core.q.problem.sizes();
    let rows = core.q.problem.group() * s.queries;
    let lengths = [rows * s.features, s.keys * s.features, s.keys * s.value_features];
    let count = directions.len().max(1) as f64;
    let tail_of = |events: f64| libm::sqrt(2.0 * libm::log(2.0 * events / DIRECTIONAL_FALSE_ALARM));
    let (tail, tail_of_two) = (tail_of(count), tail_of(2.0 * count));
    // The stored o is what delta is made of, and its rounding is followed.
    let says_o = core.q.mode == Mode::Exact
        && core.q.recipe.delta == Delta::Stored
        && core.a.is_narrow(core.q.recipe.o)
        && !core.a.is_narrow(core.q.recipe.elementwise);
    let one = |direction: &Direction| {
        if let Some(bound) = dbias.filter(|_| !direction.tensors[3].is_empty()) {
            return along_bias(core, heads, bound, direction, tail);
        }
        let best = CAUTIONS.map(|caution| {
            let of_heads: Vec<(Vectors, Parts, Vec<f64>)> = heads
                .par_iter()
                .enumerate()
                .map(|(at, drawn)| {
                    let first = lengths.map(|n| at * n);
                    let head = Head { core, drawn, weights, first, lengths };
                    let r = head.weights(direction, caution);
                    let (parts, of_delta) = head.parts(&r);
                    (r, parts, of_delta)
                })
                .collect();
            let parts =
                of_heads.iter().fold(Parts::default(), |sum, (_, parts, _)| sum.plus(*parts));
            let weights: [Vec<f64>; 4] = std::array::from_fn(|which| {
                let of_tensor = of_heads.iter().filter_map(|(r, ..)| r.get(which));
                of_tensor.flatten().copied().collect()
            });
            let expected = weights.iter().zip(&direction.tensors).map(|(w, m)| dot(w, m)).sum();
            let with_o = says_o.then(|| WithO {
                // Rows of the heads of a group follow each other, in the order of all rows.
                of_delta: of_heads.iter().flat_map(|(_, _, of_delta)| of_delta.clone()).collect(),
                stored: parts.limit_of(tail, parts.p_without_delta),
                unstored: [
                    parts.limit_of(tail_of_two, parts.p_without_delta + parts.delta),
                    parts.limit_of(tail_of_two, parts.p),
                ],
            });
            Along { name: direction.name, limit: parts.limit(tail), with_o, expected, weights }
        });
        let power = |along: &Along| along.expected / along.limit;
        let better = |a: Along, b: Along| if power(&b) > power(&a) { b } else { a };
        best.into_iter().reduce(better).expect("more than one")
    };
    directions.iter().map(one).collect()
}

/// The same of `dbias`; its weights are those of errors that are independent.
fn along_bias(
    core: &Core<'_>,
    heads: &[Drawn],
    bound: &Bound,
    direction: &Direction,
    tail: f64,
) -> Along {
    let (recipe, keys) = (core.q.recipe, core.q.problem.sizes().keys);
    let truth = core.q.gradients.dbias.as_ref().expect("a bound is that of a gradient");
    let shape = truth.shape();
    let place = |row: Row, j: usize| {
        let Row { b, h, i } = bias_row(shape, row);
        ((b * shape[1] + h) * shape[2] + i) * keys + j
    };
    let square = |x: f32| f64::from(x) * f64::from(x);
    let mut squares = vec![0.0; truth.as_slice().len()];
    for drawn in heads {
        for entries in drawn.by_row() {
            let (at, row) = drawn.row(core, entries);
            let delta = drawn.delta[at].iter().map(|x| x * x).sum::<f64>();
            for e in entries {
                let [ds, p, w] = e.bias.map(square);
                squares[place(row, e.j as usize)] += ds + p + w * delta;
            }
        }
    }
    let followed = [Stage::P, Stage::Ds, Stage::Store, Stage::StoredO];
    let (mut weights, mut stored, mut rest) = (Vec::new(), 0.0, 0.0);
    for (at, (&truth, &m)) in truth.as_slice().iter().zip(&direction.tensors[3]).enumerate() {
        let threshold = bound.threshold[at];
        let share = |stage: Stage| f64::from(bound.stages[at][stage as usize]) * threshold;
        let random: f64 = followed.iter().map(|&of| share(of)).sum();
        let of_rest = ((threshold - random) + 1e-6 * threshold).max(0.0);
        let store = recipe.output.rounding_error(truth.abs(), recipe.flush_to_zero);
        let store = store.max(share(Stage::Store));
        let of_store = stored_parameter(recipe.output, truth) * store * store;
        let scale = squares[at] + of_store + of_rest * of_rest;
        let weight = if scale > 0.0 && scale.is_finite() { m / scale } else { 0.0 };
        stored += weight * weight * of_store;
        rest += weight.abs() * of_rest;
        weights.push(weight);
    }
    let mut sum = stored;
    for drawn in heads {
        for entries in drawn.by_row() {
            let (at, row) = drawn.row(core, entries);
            let (mut ds, mut of_p, mut shared) = (0.0, 0.0, 0.0);
            for e in entries {
                let weight = weights[place(row, e.j as usize)];
                ds += weight * weight * square(e.bias[0]);
                of_p += weight * weight * square(e.bias[1]);
                shared += weight * f64::from(e.bias[2]);
            }
            let [forward, stored] = drawn.delta[at].map(|delta| shared.abs() * delta);
            // The P in dS may be that of the forward pass.
            let p = libm::sqrt(of_p) + forward;
            sum += ds + p * p + stored * stored;
        }
    }
    let expected = dot(&weights, &direction.tensors[3]);
    let limit = tail * libm::sqrt(sum) + rest;
    let weights = [vec![], vec![], vec![], weights];
    Along { name: direction.name, weights, limit, with_o: None, expected }
}
