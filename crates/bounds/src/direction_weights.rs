//! The weights of a sum of errors along a direction, and the errors of the sum, for one key head.
//!
//! Of all sums of the errors with fixed weights, the one with the weights `R = S^-1 m` sees an addition `m` best, where `S`
//! is the covariance matrix of the rounding model (generalised least squares). "Directions" in `docs/verdict.md`.

use super::context::BoundContext;
use super::gradient_values::GradientValues;
use super::rounding_model::{EntryRoundings, RoundingModel, add};
use super::statistic_weights::StatisticWeights;
use sus_reference::problem::Row;
use sus_reference::tensor::dot;

/// Steps of the conjugate gradients. The limits hold for any weights: more steps only make the weights better.
const STEPS: usize = 16;

/// Factors of the bounds of errors that are not random, when weights are sought: a sum of many elements grows with such an
/// error in full, and with a random one by its root. The weights with the largest power are taken.
pub(super) const CAUTIONS: [f64; 3] = [1.0, 4.0, 16.0];

/// The errors of a weighted sum over one key head: squares of sub-Gaussian parameters, and bounds.
#[derive(Default, Clone, Copy)]
pub(super) struct SumErrors {
    /// The roundings of `dZ`: the scale before or after them; `dq` and `dk` from the same, or each from its own.
    ds: [f64; 4],
    /// The roundings of `P`, for `dv`, in `dS` and in `delta`, whichever of them are the same.
    pub(super) p: f64,
    /// The same but for those in `delta`.
    pub(super) p_without_delta: f64,
    /// Those of the stored `o` in `delta`.
    pub(super) delta: f64,
    /// The roundings of the results.
    stored: f64,
    /// The known roundings of `P`, in `dv` and in `dS`.
    known: [f64; 2],
    /// The bound of all other errors.
    rest: f64,
}

impl SumErrors {
    pub(super) fn plus(self, other: SumErrors) -> SumErrors {
        SumErrors {
            ds: std::array::from_fn(|at| self.ds[at] + other.ds[at]),
            p: self.p + other.p,
            p_without_delta: self.p_without_delta + other.p_without_delta,
            delta: self.delta + other.delta,
            stored: self.stored + other.stored,
            known: [self.known[0] + other.known[0], self.known[1] + other.known[1]],
            rest: self.rest + other.rest,
        }
    }

    /// The limit of the sum, whichever of the choices a kernel makes.
    pub(super) fn limit(&self, tail: f64) -> f64 {
        self.limit_of(tail, self.p + self.delta)
    }

    /// The same with these squares for `P` and `delta`.
    pub(super) fn limit_of(&self, tail: f64, p_and_delta: f64) -> f64 {
        // tail sqrt(sum of squared parameters) + bounds, for the choice with the largest sum.
        let ds = self.ds.iter().copied().fold(0.0, f64::max);
        let known = self.known[0].abs().max((self.known[0] + self.known[1]).abs());
        tail * libm::sqrt(ds + p_and_delta + self.stored) + known + self.rest
    }
}

/// The squares of the roundings of `P` in one row, in `dv`, in `dS` and in `delta`: of kernels in which the three are apart, in
/// which two of them are one rounding, in which all are one.
#[derive(Default)]
struct SharedRoundings {
    apart: [f64; 2],
    with_forward: f64,
    with_ds: f64,
    all: f64,
}

impl SharedRoundings {
    /// Under dropout `dv` and `delta` may have the rounding of `P Z`, which is up to so many times `larger`, and `dS` has that of `P`.
    fn add(&mut self, dv: f64, ds: f64, delta: f64, larger: f64) {
        let of_product = larger * larger;
        self.apart = [self.apart[0] + of_product * dv * dv, self.apart[1] + ds * ds];
        self.with_forward += of_product * (dv + delta) * (dv + delta);
        self.with_ds += (dv + ds) * (dv + ds);
        self.all += (dv + ds + delta) * (dv + ds + delta);
    }

    /// The largest sum of squares, given that of a forward pass whose roundings are its own.
    fn largest(&self, forward: f64) -> f64 {
        // A forward pass with roundings of its own, or with those of dv, or of dv and dS.
        let own = (self.apart[0] + self.apart[1]).max(self.with_ds) + forward;
        own.max(self.with_forward).max(self.all)
    }
}

/// One key head: its rounding model, and the scales of its elements.
pub(super) struct HeadErrors<'a> {
    pub(super) context: &'a BoundContext<'a>,
    pub(super) model: &'a RoundingModel,
    pub(super) weights: [&'a StatisticWeights; 3],
    /// Where its elements begin in the tensors.
    pub(super) first: [usize; 3],
    pub(super) lengths: [usize; 3],
}

/// Vectors over the elements of `dq`, `dk` and `dv` of one key head.
pub(super) type HeadVectors = [Vec<f64>; 3];

fn inner(a: &HeadVectors, b: &HeadVectors) -> f64 {
    a.iter().zip(b).map(|(a, b)| dot(a, b)).sum()
}

impl HeadErrors<'_> {
    /// The squared scale of each element; 0 where there is none.
    fn squares(&self, caution: f64) -> HeadVectors {
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

    /// An addition to the square of an element's own scale: more caution, and the square of an eighth of a spacing, so that a
    /// few elements whose rounding is known do not take all the weight. It makes the weights better, and no limit wrong.
    fn more(&self, which: usize, at: usize, caution: f64) -> f64 {
        let StatisticWeights { rest, spacing, .. } = self.weights[which];
        let part = spacing[at] / 8.0;
        (caution * caution - 1.0) * rest[at] * rest[at] + part * part
    }

    /// `R . k`, `R . q` and `R . G` of one entry, `G` that of the row.
    fn products(&self, r: &HeadVectors, at: usize, (row, g): (Row, &[f64]), j: usize) -> [f64; 3] {
        let p = self.context.input.problem;
        let (k, q) = (p.k(row, j), p.q(row));
        [
            dot(&r[0][at * k.len()..][..k.len()], k),
            dot(&r[1][j * q.len()..][..q.len()], q),
            dot(&r[self.context.of_values()][j * g.len()..][..g.len()], g),
        ]
    }

    /// `S R`, for the kernel that rounds before it scales and takes one rounded `P` for all.
    fn apply(&self, r: &HeadVectors, caution: f64) -> HeadVectors {
        let p = self.context.input.problem;
        let mut out: HeadVectors = self.lengths.map(|n| vec![0.0; n]);
        for (which, out) in out.iter_mut().enumerate() {
            for (at, (out, r)) in out.iter_mut().zip(&r[which]).enumerate() {
                let at = self.first[which] + at;
                let StatisticWeights { stored, rest, .. } = self.weights[which];
                let own = stored[at] + rest[at] * rest[at] + self.more(which, at, caution);
                *out = own * r;
            }
        }
        let mut known = [0.0; 2];
        for entries in self.model.by_row() {
            let (at, row) = self.model.row(self.context, entries);
            let g = self.context.g_of_values(row);
            // In the weights the two roundings of delta count as independent.
            let [forward, stored] = self.model.delta[at];
            let delta = libm::hypot(forward, stored);
            let mut shared = 0.0;
            let sums: Vec<[f64; 3]> = entries
                .iter()
                .map(|e| {
                    let sums = self.products(r, at, (row, &g), e.j as usize);
                    let z = sums[0] + sums[1];
                    shared += f64::from(e.by_weight) * z;
                    known[0] += f64::from(e.known) * sums[2];
                    known[1] += f64::from(e.known_ds) * z;
                    sums
                })
                .collect();
            for (e, [dq, dk, dv]) in entries.iter().zip(sums) {
                let (z, j) = (dq + dk, e.j as usize);
                let (ds, of_p) = (f64::from(e.ds[1]), f64::from(e.p_in_dv()));
                let in_ds = f64::from(e.p_in_ds);
                // S R = sum over roundings a of a (a . R): first of P, in dv and in dS, then of dS, then of delta.
                let of_rounding = dv * of_p + z * in_ds;
                let z = z * ds * ds
                    + of_rounding * in_ds
                    + shared * delta * delta * f64::from(e.by_weight);
                add(&mut out[0], at, z, p.k(row, j));
                add(&mut out[1], j, z, p.q(row));
                add(&mut out[self.context.of_values()], j, of_rounding * of_p, &g);
            }
        }
        if known != [0.0; 2] {
            let total = known[0] + known[1];
            let of_known = self.model.known(self.context);
            for (out, of_known) in out.iter_mut().zip(of_known) {
                out.iter_mut().zip(of_known).for_each(|(out, x)| *out += total * x);
            }
        }
        out
    }

    /// Weights near `S^-1 m`, by conjugate gradients with the diagonal of `S` as the preconditioner.
    pub(super) fn weights(&self, additions: &GradientValues, caution: f64) -> HeadVectors {
        let squares = self.squares(caution);
        let scaled = |x: &HeadVectors| -> HeadVectors {
            let scale = |(x, &s): (&f64, &f64)| if s > 0.0 { x / s } else { 0.0 };
            std::array::from_fn(|t| x[t].iter().zip(&squares[t]).map(scale).collect())
        };
        let mut left: HeadVectors = std::array::from_fn(|which| {
            let at = self.first[which]..self.first[which] + self.lengths[which];
            additions.slices()[which][at].to_vec()
        });
        let mut r: HeadVectors = self.lengths.map(|n| vec![0.0; n]);
        let mut step = scaled(&left);
        let mut size = inner(&left, &step);
        let first = size;
        for _ in 0..STEPS {
            // Smaller residuals do not change the power of the sum by a visible part.
            if size <= 1e-9 * first {
                break;
            }
            let applied = self.apply(&step, caution);
            let by = size / inner(&step, &applied);
            if !by.is_finite() {
                break;
            }
            for t in 0..3 {
                r[t].iter_mut().zip(&step[t]).for_each(|(r, x)| *r += by * x);
                left[t].iter_mut().zip(&applied[t]).for_each(|(left, x)| *left -= by * x);
            }
            let next = scaled(&left);
            let after = inner(&left, &next);
            for (step, next) in step.iter_mut().zip(&next) {
                step.iter_mut().zip(next).for_each(|(step, x)| *step = x + after / size * *step);
            }
            size = after;
        }
        // An element without a scale has the weight 0.
        for (r, squares) in r.iter_mut().zip(&squares) {
            r.iter_mut().zip(squares).filter(|(_, s)| **s == 0.0).for_each(|(r, _)| *r = 0.0);
        }
        r
    }

    /// The errors of the sum with these weights; and the factor of an error of `delta` in it, by row.
    pub(super) fn sum_errors(&self, r: &HeadVectors) -> (SumErrors, Vec<f64>) {
        let mut errors = SumErrors::default();
        let mut of_delta = vec![0.0; self.model.delta.len()];
        for entries in self.model.by_row() {
            let (at, row) = self.model.row(self.context, entries);
            let g = self.context.g_of_values(row);
            let all: Vec<[f64; 3]> =
                entries.iter().map(|e| self.products(r, at, (row, &g), e.j as usize)).collect();
            let by_weight =
                |(e, [dq, dk, _]): (&EntryRoundings, &[f64; 3])| f64::from(e.by_weight) * (dq + dk);
            let shared: f64 = entries.iter().zip(&all).map(by_weight).sum();
            // dZ has -W delta.
            of_delta[at] = -shared;
            let (mut of_p, mut without_delta) =
                (SharedRoundings::default(), SharedRoundings::default());
            for (e, [dq, dk, dv]) in entries.iter().zip(all) {
                let z = dq + dk;
                // The scale before or after the rounding; one dS for dq and dk, or one for each.
                for (scaled, &ds) in e.ds.iter().enumerate() {
                    let square = f64::from(ds) * f64::from(ds);
                    errors.ds[2 * scaled] += z * z * square;
                    errors.ds[2 * scaled + 1] += (dq * dq + dk * dk) * square;
                }
                let [p, factor, larger] = [e.p, e.dropout[0], e.dropout[1]].map(f64::from);
                let (of_dv, of_ds) = (dv * factor * p, z * f64::from(e.p_in_ds));
                of_p.add(of_dv, of_ds, -shared * f64::from(e.dp) * p, larger);
                without_delta.add(of_dv, of_ds, 0.0, larger);
                errors.known[0] += dv * f64::from(e.known);
                errors.known[1] += z * f64::from(e.known_ds);
            }
            let [forward, stored] =
                self.model.delta[at].map(|delta| shared * shared * delta * delta);
            errors.p += of_p.largest(forward);
            errors.p_without_delta += without_delta.largest(0.0);
            errors.delta += stored;
        }
        for (which, r) in r.iter().enumerate() {
            for (at, r) in r.iter().enumerate() {
                let at = self.first[which] + at;
                errors.stored += r * r * self.weights[which].stored[at];
                errors.rest += r.abs() * self.weights[which].rest[at];
            }
        }
        (errors, of_delta)
    }
}
