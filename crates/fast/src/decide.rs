//! Which candidates a row keeps: exactly those that [`sample`](fn@sus_reference::sus::sample) keeps.
//!
//! A kernel's weight and the reference's differ by at most a factor `e^(±d)` ([`Magnitude::log_error`]). Where both ends of that
//! interval give the same decision, it is the reference's. The other entries are computed again by the reference.

use super::product_rows::dot;
use super::score_error::Magnitude;
use super::scores::{Addends, LANES, Scoring, exponentials, largest};
use super::simd::{Dispatch, Real};
use super::tiles::head;
use pulp::{Simd, WithSimd};
use sus_reference::forward::log_sum_exp;
use sus_reference::problem::{Problem, Row};
use sus_reference::scalar::Scalar;
use sus_reference::sus::rule::keep_probability;
use sus_reference::sus::uniform::{Uniforms, keep32, keep64};
use sus_reference::sus::{Draw, UniformBits};

/// `2^32`.
pub(super) const GRID: f64 = 4_294_967_296.0;

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
    pub(super) dispatch: Dispatch,
    /// A factor of the bound: 1, except in tests, where a larger one leaves more entries ambiguous.
    pub(super) widen: f64,
}

/// The decision that every weight within the bound leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Keep,
    Drop,
    /// The bound allows both.
    Ambiguous,
}

/// The decision on a word for all keep probabilities from `low` to `high`. Each comparison leaves one step of the grid
/// ambiguous, so that it holds for 32 and for 64 random bits.
pub(super) fn decide(low: f64, high: f64, word: u32) -> Decision {
    let x = f64::from(word);
    if low >= 1.0 || x + 1.0 <= low * GRID {
        Decision::Keep
    } else if drops(high, word) {
        Decision::Drop
    } else {
        Decision::Ambiguous
    }
}

/// Whether every keep probability up to `high` drops the word.
#[inline]
fn drops(high: f64, word: u32) -> bool {
    f64::from(word) >= high * GRID && high > 0.0 && word > 0
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
        weights: &mut Vec<(usize, f64)>,
        kept: &mut Vec<u32>,
    ) -> f64 {
        let c = self.draw.c.get();
        let bound = magnitude.log_error(T::ROUNDOFF) * self.widen;
        // Nearly e^-bound and e^bound, and outside of them.
        let (shrink, grow) = if bound < 0.125 {
            (1.0 - bound, 1.0 / (1.0 - bound))
        } else {
            (libm::exp(-bound), libm::exp(bound))
        };
        // Most candidates of the early tiles are dropped here, by a branch-free compaction (the branch would be unpredictable).
        weights.clear();
        weights.resize(candidates.len() + 1, (0, 0.0));
        let mut count = 0;
        // Neighbouring candidates share the running maximum of their tile.
        let (mut shift, mut factor) = (f64::NAN, 0.0);
        for (at, candidate) in candidates.iter().enumerate() {
            if candidate.shift != shift {
                (shift, factor) = (candidate.shift, libm::exp(candidate.shift - lse));
            }
            let weight = candidate.p * factor;
            weights[count] = (at, weight);
            // A word of 0 is below any threshold, that of a weight of 0 included.
            let hidden = self.exact.hides(row, candidate.j as usize);
            count += usize::from(!hidden && !drops(c * weight * grow, candidate.word));
        }
        let mut surplus = 0.0;
        let mut again = None;
        for &(at, weight) in &weights[..count] {
            let candidate = &candidates[at];
            surplus += (c * weight - 1.0).max(0.0);
            let keep = match decide(c * weight * shrink, c * weight * grow, candidate.word) {
                Decision::Keep => true,
                Decision::Drop => false,
                // First with the plain score of this entry, then with the whole row in `f64`.
                Decision::Ambiguous => {
                    match self.with_reference_score::<T>(row, candidate, lse, magnitude) {
                        Decision::Keep => true,
                        Decision::Drop => false,
                        Decision::Ambiguous => again
                            .get_or_insert_with(|| Recomputed::new(self.dispatch, self.exact, row))
                            .keeps(self, row, candidate, magnitude.log_error_again() * self.widen),
                    }
                }
            };
            if keep {
                kept.push(candidate.j);
            }
        }
        surplus
    }

    /// The decision by the plain score and the kernel's `lse`.
    fn with_reference_score<T: Real>(
        &self,
        row: Row,
        candidate: &Candidate,
        lse: f64,
        magnitude: &Magnitude,
    ) -> Decision {
        let s = sus_reference::forward::score(self.exact, row, candidate.j as usize).s;
        let q = self.draw.c.get() * libm::exp(s - lse);
        let bound = magnitude.log_error_of_lse(T::ROUNDOFF) * self.widen;
        decide(q * libm::exp(-bound), q * libm::exp(bound), candidate.word)
    }

    /// The reference's decision, from the reference's `lse`.
    fn plain(&self, row: Row, candidate: &Candidate, lse: f64) -> bool {
        let s = sus_reference::forward::score(self.exact, row, candidate.j as usize).s;
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

/// A row with ambiguous entries, computed again: its weights in `f64`, then by the reference if an entry is still ambiguous.
struct Recomputed {
    first: usize,
    scores: Vec<f64>,
    lse: f64,
    plain_lse: Option<f64>,
}

impl Recomputed {
    fn new(dispatch: Dispatch, exact: &Problem<f64>, row: Row) -> Self {
        let (scores, lse) = dispatch.run(Scores { exact, row });
        Recomputed { first: exact.span(row).start, scores, lse, plain_lse: None }
    }

    fn keeps(
        &mut self,
        decider: &Decider<'_>,
        row: Row,
        candidate: &Candidate,
        bound: f64,
    ) -> bool {
        let s = self.scores[candidate.j as usize - self.first];
        let q = decider.draw.c.get() * libm::exp(s - self.lse);
        match decide(q * libm::exp(-bound), q * libm::exp(bound), candidate.word) {
            Decision::Keep => true,
            Decision::Drop => false,
            Decision::Ambiguous => {
                let lse = *self.plain_lse.get_or_insert_with(|| plain_lse(decider.exact, row));
                decider.plain(row, candidate, lse)
            }
        }
    }
}

/// The scores of one row in `f64`, and their `lse`.
struct Scores<'a> {
    exact: &'a Problem<f64>,
    row: Row,
}

impl WithSimd for Scores<'_> {
    type Output = (Vec<f64>, f64);

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) -> (Vec<f64>, f64) {
        let Scores { exact, row } = self;
        let visible = exact.span(row);
        let d = exact.sizes().features;
        let number = row.b * exact.sizes().key_heads + exact.key_head(row.h);
        let k = head(exact.inputs().k.as_slice(), number, exact.sizes().keys * d);
        let q = exact.q(row);
        let mut scores: Vec<f64> = Vec::with_capacity(visible.len());
        for k in k[visible.start * d..visible.end * d].chunks_exact(d) {
            scores.push(dot(simd, q, k));
        }
        let scoring = Scoring::new(exact.scale(), exact.options().softcap);
        // Whole vectors; the exponentials of the last ones are 0.
        scores.resize(visible.len().next_multiple_of(LANES), 0.0);
        Addends::of(exact, row, visible.clone()).apply(simd, &scoring, &mut scores);
        scores[visible.len()..].fill(f64::NEG_INFINITY);
        let count = visible.len();
        for (j, s) in visible.zip(&mut scores) {
            if exact.hides(row, j) {
                *s = f64::NEG_INFINITY;
            }
        }
        let sink = exact.sink(row).unwrap_or(f64::NEG_INFINITY);
        let largest = largest(simd, &scores).max(sink);
        let mut weights = scores.clone();
        let sum = exponentials(simd, &mut weights, largest) + libm::exp(sink - largest);
        scores.truncate(count);
        (scores, largest + libm::log(sum))
    }
}

/// The reference's `lse` of a row.
fn plain_lse(exact: &Problem<f64>, row: Row) -> f64 {
    let scores: Vec<f64> =
        exact.visible(row).map(|j| sus_reference::forward::score(exact, row, j).s).collect();
    log_sum_exp(&scores, exact.sink(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sus_reference::forward::forward;
    use sus_reference::problem::{Inputs, Options};
    use sus_reference::sus::Budget;
    use sus_reference::sus::sample::uniforms;
    use sus_reference::tensor::Tensor;

    /// Words one step below and above the threshold, and weights or their sum off by as much as `f32` may be: only a margin, and asking
    /// again, gives the plain decisions. A wide margin sends all of them to the reference path.
    #[test]
    fn weights_off_by_less_than_the_bound_lead_to_the_plain_decision_next_to_the_threshold() {
        let wave = |[_, _, n, d]: [usize; 4]| libm::sin((7 * n + 3 * d) as f64);
        let tensor = || Tensor::from_fn([1, 1, 40, 5], wave);
        let inputs = Inputs::new(tensor(), tensor(), tensor(), tensor());
        let exact = Problem::new(inputs, Options::default()).unwrap();
        let saved = forward(&exact);
        let row = Row { b: 0, h: 0, i: 3 };
        let lse = saved.lse.row(0, 0, 3)[0];
        let magnitude = Magnitude {
            product: 4.0,
            chain: 24.0,
            bias: 0.0,
            sink: 0.0,
            softcap: None,
            features: 5,
            keys: 40,
        };
        let mut decided = [0, 0];
        for bits in [UniformBits::Bits32, UniformBits::Bits64] {
            let draw = Draw::paper(Budget::new(3.0).unwrap(), 9).with_bits(bits);
            let uniforms = uniforms(&exact, &draw).unwrap();
            let off = [(1.0 + 1e-6, 0.0), (1.0 - 1e-6, 0.0), (1.0, 1e-6), (1.0, -1e-6)];
            let off = off.map(|off| (1.0, off)).into_iter().chain([(1e4, (1.0, 0.0))]);
            for (widen, (factor, off)) in off {
                let dispatch = Dispatch::Native;
                let decider =
                    Decider { exact: &exact, draw: &draw, uniforms: &uniforms, dispatch, widen };
                for j in 0..40 {
                    let s = sus_reference::forward::score(&exact, row, j as usize).s;
                    let q = keep_probability(3.0, Scalar::exp(s - lse));
                    let floor = (q * GRID) as u32;
                    for word in [floor - 1, floor, floor + 1] {
                        let candidate = Candidate { j, word, p: libm::exp(s) * factor, shift: 0.0 };
                        let expected = decider.plain(row, &candidate, lse);
                        let mut kept = Vec::new();
                        decider.row::<f32>(
                            row,
                            &[candidate],
                            lse + off,
                            &magnitude,
                            &mut Vec::new(),
                            &mut kept,
                        );
                        assert_eq!(
                            kept == [j],
                            expected,
                            "key {j}, word {word}, {widen} {factor} {off}"
                        );
                        decided[usize::from(expected)] += 1;
                    }
                }
            }
        }
        assert!(decided[0] > 200 && decided[1] > 200, "both decisions occur: {decided:?}");
    }

    /// A word of 0 may make any entry a candidate. In a row without a visible key `lse` is `-inf`, and `exp(s - lse)` is no number.
    #[test]
    fn a_hidden_key_is_not_kept_even_by_a_word_of_zero() {
        let tensor = || Tensor::from_fn([1, 1, 3, 2], |[.., d]| d as f64);
        let bias = |seen: usize| {
            Tensor::from_fn([1, 1, 1, 3], |[.., j]| if j < seen { 0.0 } else { f64::NEG_INFINITY })
        };
        for seen in 0..=3 {
            let inputs = Inputs::new(tensor(), tensor(), tensor(), tensor());
            let inputs = inputs.with_bias(bias(seen));
            let exact = Problem::new(inputs, Options::default()).unwrap();
            let lse = forward(&exact).lse.row(0, 0, 1)[0];
            let draw = Draw::paper(Budget::new(2.0).unwrap(), 9);
            let uniforms = uniforms(&exact, &draw).unwrap();
            let (dispatch, widen) = (Dispatch::Native, 1.0);
            let decider =
                Decider { exact: &exact, draw: &draw, uniforms: &uniforms, dispatch, widen };
            let (shift, p) = if seen == 0 { (lse, 0.0) } else { (0.0, 1.0) };
            let word = 0;
            let candidates: Vec<Candidate> =
                (0..3).map(|j| Candidate { j, word, p, shift }).collect();
            let row = Row { b: 0, h: 0, i: 1 };
            let magnitude = crate::score_error::largest_magnitude(&exact);
            let (mut kept, mut memory) = (Vec::new(), Vec::new());
            decider.row::<f64>(row, &candidates, lse, &magnitude, &mut memory, &mut kept);
            assert!(kept.iter().copied().eq(0..seen as u32), "{seen} {kept:?}");
        }
    }
}
