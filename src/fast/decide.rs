//! Which candidates a row keeps: exactly those that [`sample`](fn@crate::sus::sample) keeps.
//!
//! The kernels know a weight `w` up to a factor `e^(±d)`, and so does the plain path. Where both sides of that interval give the
//! same decision, it is the plain path's. Elsewhere the plain path is asked.
//!
//! # The bound `d`
//!
//! With unit roundoff `u`, `a = |scale| |q_i| max_j |k_j|` (Cauchy-Schwarz), the largest `|bias|` `b`, `M` a bound of every
//! `|s|` and of the sink, and a bound `e(u) = u ((D + 10) a + 2 b + 16 softcap)` of the error of a score (a dot product of `D`
//! terms in any order, its operands, the scale and the bias rounded; the softcap's `tanh` to `8 u`, a division and a product):
//!
//! - `lse` errs by `e`, and by the errors of the exponentials (`2 M u` from the difference, [`ERROR`]` u` of its own) and of
//!   their sum in tiles (`TILE u` within a tile; sums of tiles, in `f64`, `16 * 2^-53` each, rescaling included);
//! - `ln w = ln p + m - lse` errs by that, by `e`, and by `2 M u + ERROR u` of `p`.
//!
//! In sum `2 e + u (6 M + TILE + 3 ERROR + 16)`, and the plain path's own error is that of `f64` with its `n` terms in one sum.
//! The total is taken ten per cent larger, which covers the terms of second order as long as it is below 1.

use super::exp::ERROR;
use super::forward::MAX_TILE;
use super::lanes::Real;
use crate::forward::log_sum_exp;
use crate::problem::{Problem, Row};
use crate::scalar::Scalar;
use crate::sus::rule::keep_probability;
use crate::sus::uniform::{Uniforms, keep32, keep64};
use crate::sus::{Draw, UniformBits};

/// `2^32`.
const GRID: f64 = 4_294_967_296.0;

/// What bounds the scores of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Magnitude {
    /// `|scale| |q_i| max_j |k_j|`.
    pub(super) product: f64,
    /// The largest `|bias|`.
    pub(super) bias: f64,
    /// The sink's magnitude.
    pub(super) sink: f64,
    pub(super) softcap: Option<f64>,
    pub(super) features: usize,
    pub(super) keys: usize,
}

impl Magnitude {
    /// The bound `d` of `|ln(w / plain w)|` for a weight computed with unit roundoff `u`.
    pub(super) fn log_error(&self, u: f64) -> f64 {
        let Magnitude { product, bias, sink, softcap, features, keys } = *self;
        let score = |u: f64| {
            u * ((features + 10) as f64 * product + 2.0 * bias + 16.0 * softcap.unwrap_or(0.0))
        };
        let largest = softcap.map_or(product, |cap| cap.min(product)) + bias + sink;
        let plain = f64::EPSILON / 2.0;
        let tiles = keys.div_ceil(MAX_TILE / 4) as f64 * 16.0 * plain;
        let kernel = u * (6.0 * largest + MAX_TILE as f64 + 3.0 * ERROR + 16.0);
        let definition = plain * (6.0 * largest + keys as f64 + 32.0);
        1.1 * (2.0 * score(u) + kernel + tiles + 2.0 * score(plain) + definition)
    }
}

/// An entry that may be kept: its word, and its weight as `p exp(shift - lse)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) j: u32,
    pub(super) word: u32,
    pub(super) p: f64,
    pub(super) shift: f64,
}

/// How one draw decides.
#[derive(Clone, Copy)]
pub(super) struct Decider<'a> {
    /// The problem whose plain weights define the mask.
    pub(super) exact: &'a Problem<f64>,
    pub(super) draw: &'a Draw,
    pub(super) uniforms: &'a Uniforms,
}

/// The decision that every weight within the bound leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Keep,
    Drop,
    /// The bound allows both.
    Open,
}

/// What keep probabilities from `low` to `high` decide on a word. Both comparisons leave one step of the grid open, so that
/// they hold for either number of bits.
pub(super) fn decide(low: f64, high: f64, word: u32) -> Decision {
    let x = f64::from(word);
    if low >= 1.0 || x + 1.0 <= low * GRID {
        Decision::Keep
    } else if x >= high * GRID && high > 0.0 && word > 0 {
        Decision::Drop
    } else {
        Decision::Open
    }
}

impl Decider<'_> {
    /// Appends the kept keys of a row, given its candidates, `lse` and the bound. Returns the surplus
    /// `sum_j max(0, c w_j - 1)`.
    pub(super) fn row<T: Real>(
        &self,
        row: Row,
        candidates: &[Candidate],
        lse: f64,
        magnitude: &Magnitude,
        widen: f64,
        kept: &mut Vec<u32>,
    ) -> f64 {
        let c = self.draw.c.get();
        let bound = magnitude.log_error(T::ROUNDOFF) * widen;
        let (shrink, grow) = (libm::exp(-bound), libm::exp(bound));
        let mut surplus = 0.0;
        let mut better = None;
        for candidate in candidates {
            let weight = candidate.p * libm::exp(candidate.shift - lse);
            surplus += (c * weight - 1.0).max(0.0);
            let keep = match decide(c * weight * shrink, c * weight * grow, candidate.word) {
                Decision::Keep => true,
                Decision::Drop => false,
                Decision::Open => better
                    .get_or_insert_with(|| Better::new(self.exact, row))
                    .keeps(self, candidate, magnitude),
            };
            if keep {
                kept.push(candidate.j);
            }
        }
        surplus
    }

    /// The plain path's decision, `lse` being the plain one.
    fn plain(&self, row: Row, candidate: &Candidate, lse: f64) -> bool {
        let s = crate::forward::score(self.exact, row, candidate.j as usize).s;
        let q = keep_probability(self.draw.c.get(), Scalar::exp(s - lse));
        match self.draw.bits {
            UniformBits::Bits32 => keep32(q, candidate.word),
            UniformBits::Bits64 => keep64(q, candidate.word, || self.second_word(row, candidate)),
        }
    }

    fn second_word(&self, row: Row, candidate: &Candidate) -> u32 {
        let mask = self.exact.mask();
        let place = mask.place(row.i);
        let b = row.b * mask.segment_count() + place.segment;
        self.uniforms.second_word(b, row.h, place.query, candidate.j as usize - place.first_key)
    }
}

/// The plain `lse` of a row, computed when a decision is open.
struct Better {
    row: Row,
    lse: f64,
}

impl Better {
    fn new(exact: &Problem<f64>, row: Row) -> Self {
        let scores: Vec<f64> = exact
            .mask()
            .visible(row.i)
            .map(|j| crate::forward::score(exact, row, j).s)
            .collect();
        let sink = exact.inputs().sink.as_ref().map(|sink| sink[row.h]);
        Better { row, lse: log_sum_exp(&scores, sink) }
    }

    fn keeps(&self, decider: &Decider<'_>, candidate: &Candidate, _magnitude: &Magnitude) -> bool {
        decider.plain(self.row, candidate, self.lse)
    }
}
