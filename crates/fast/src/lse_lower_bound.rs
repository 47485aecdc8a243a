//! A lower bound of the part of `lse` that the keys still to come contribute. It keeps the number of sampling candidates small.
//!
//! The exponential is convex, so `sum_j exp(s_j) >= N exp(mean_j s_j)` over any `N` visible keys (Jensen's inequality), and the mean
//! of their scores is the score of their mean: one product.

use super::score_error::Magnitude;
use rayon::prelude::*;
use std::ops::Range;
use sus_reference::problem::Problem;

/// Sums of keys are kept after so many of them each.
const STEP: usize = 64;

/// The sums of the first keys of each `(b, key head)`.
#[derive(Debug)]
pub(super) struct LseLowerBounds {
    /// For each head, `[n / STEP + 1][features]`: the sums of the first `0, STEP, 2 STEP, ...` keys.
    sums: Vec<Vec<f64>>,
    scale: f64,
    /// Bounds of the scores of all rows.
    magnitude: Magnitude,
}

impl LseLowerBounds {
    /// `None` where scores are no linear functions of the keys, with a softcap, a bias or slopes, and where keys may be hidden: the mean is
    /// that of all keys.
    pub(super) fn new(problem: &Problem<f64>, magnitude: Magnitude) -> Option<Self> {
        if problem.options().softcap.is_some()
            || problem.inputs().bias.is_some()
            || problem.inputs().alibi_slopes.is_some()
            || problem.hides_keys()
        {
            return None;
        }
        let sizes = problem.sizes();
        let head = (sizes.keys * sizes.features).max(1);
        let heads = problem.inputs().k.as_slice().par_chunks(head);
        let sums = heads.map(|k| sums_of_first(k, sizes.features)).collect();
        Some(LseLowerBounds { sums, scale: problem.scale(), magnitude })
    }

    /// The number of keys in `keys` of head `number = b Hk + key head`, and a lower bound of the mean of their scores:
    /// `sum_j exp(s_j) >= count exp(mean)`. Keys before the first and after the last multiple of [`STEP`] are left out.
    ///
    /// # Error
    /// With `u = 2^-53`, `a` the largest `|scale| |q| |k|` and `n` keys: a sum of keys errs by `n u` of the norms that it adds
    /// up, the difference of two of them, over `N` keys, by `(2 n^2 + 2 n) u / N` of a key's norm, and the product by `(D + 3) u`
    /// more. In sum below `4 u a (n^2 / N + D)`, which is taken off, with the rounding of an exponential of the result.
    pub(super) fn of(&self, number: usize, q: &[f64], keys: &Range<usize>) -> ScoreMean {
        let Magnitude { product, keys: n, features, .. } = self.magnitude;
        let (first, end) = (keys.start.div_ceil(STEP), keys.end / STEP);
        if first >= end {
            return ScoreMean::default();
        }
        let count = ((end - first) * STEP) as f64;
        let sum = |at: usize| &self.sums[number][at * features..][..features];
        let mut lanes = [0.0; 8];
        for (n, ((q, first), end)) in q.iter().zip(sum(first)).zip(sum(end)).enumerate() {
            lanes[n % 8] += q * (end - first);
        }
        let mean = self.scale * lanes.iter().sum::<f64>() / count;
        let error = product * (n as f64 * n as f64 / count + features as f64);
        ScoreMean { count, mean: mean - 2.0 * f64::EPSILON * (error + mean.abs() + 4.0) }
    }
}

/// A number of keys, and a lower bound of the mean of their scores.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ScoreMean {
    /// How many keys there are.
    pub(super) count: f64,
    /// A lower bound of the mean of their scores.
    pub(super) mean: f64,
}

impl ScoreMean {
    /// A lower bound of `sum_j exp(s_j - shift)`.
    pub(super) fn sum(self, shift: f64) -> f64 {
        if self.count == 0.0 { 0.0 } else { self.count * libm::exp(self.mean - shift) }
    }
}

/// The sums of the first `0, STEP, 2 STEP, ...` rows.
fn sums_of_first(rows: &[f64], features: usize) -> Vec<f64> {
    let mut sum = vec![0.0; features];
    let mut sums = sum.clone();
    for rows in rows.chunks_exact(STEP * features) {
        for row in rows.chunks_exact(features) {
            for (sum, &x) in sum.iter_mut().zip(row) {
                *sum += x;
            }
        }
        sums.extend_from_slice(&sum);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score_error::largest_magnitude;
    use sus_reference::forward::score;
    use sus_reference::problem::{Inputs, Options, Row};
    use sus_reference::scalar::{Dd, Scalar};
    use sus_reference::tensor::Tensor;

    /// Two query heads on one key head; scores of about this size.
    fn problem(size: f64) -> Problem<f64> {
        let wave = |phase: f64| {
            move |[_, h, n, d]: [usize; 4]| libm::sin(phase * (7 * n + 3 * d + h + 1) as f64)
        };
        let of = |heads, n, phase| Tensor::from_fn([1, heads, n, 5], wave(phase));
        let inputs = Inputs::new(of(2, 3, 1.0), of(1, 400, 2.0), of(1, 400, 3.0), of(2, 3, 4.0));
        Problem::new(inputs, Options::default().with_scale(size)).unwrap()
    }

    #[test]
    fn a_floor_is_never_above_the_sum_and_meets_it_where_all_scores_are_equal() {
        for size in [0.0, 0.3, 5.0, -5.0] {
            let problem = problem(size);
            let lse_lower_bounds =
                LseLowerBounds::new(&problem, largest_magnitude(&problem)).unwrap();
            for (h, i) in [(0, 0), (0, 2), (1, 1)] {
                for keys in [0..400, 0..64, 63..192, 64..391, 250..400] {
                    let row = Row { b: 0, h, i };
                    let floor = lse_lower_bounds.of(0, problem.q(row), &keys);
                    // The keys that it speaks of.
                    let whole = keys.start.next_multiple_of(STEP)..keys.end / STEP * STEP;
                    assert_eq!(floor.count, whole.len() as f64, "{keys:?}");
                    let dd = problem.cast::<Dd>().unwrap();
                    let sum = |shift: f64| {
                        let terms = whole
                            .clone()
                            .map(|j| (score(&dd, row, j).s - Dd::from_f64(shift)).exp());
                        terms.fold(Dd::from_f64(0.0), |sum, x| sum + x).to_f64()
                    };
                    for shift in [0.0, 4.0] {
                        let (least, sum) = (floor.sum(shift), sum(shift));
                        assert!(least <= sum, "{size} {keys:?}: {least} above {sum}");
                        let spread = 2.0 * problem.scale().abs() * 5.0;
                        assert!(
                            least >= sum * libm::exp(-spread) * (1.0 - 1e-9),
                            "{size} {keys:?}: {least} of {sum}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn few_keys_and_scores_that_are_no_linear_functions_of_keys_have_no_floor() {
        let plain = problem(1.0);
        let lse_lower_bounds = LseLowerBounds::new(&plain, largest_magnitude(&plain)).unwrap();
        for keys in [0..0, 0..63, 1..127, 70..70] {
            let floor = lse_lower_bounds.of(0, plain.q(Row { b: 0, h: 0, i: 0 }), &keys);
            assert_eq!(
                (floor.count, floor.sum(0.0), floor.sum(f64::NEG_INFINITY)),
                (0.0, 0.0, 0.0)
            );
        }
        let options = plain.options().clone().with_softcap(3.0);
        let capped = Problem::new(plain.inputs().clone(), options).unwrap();
        let biased = plain.inputs().clone().with_bias(Tensor::zeros([1, 1, 1, 400]));
        let biased = Problem::new(biased, Options::default()).unwrap();
        for problem in [capped, biased] {
            assert!(LseLowerBounds::new(&problem, largest_magnitude(&problem)).is_none());
        }
    }
}
