//! The distribution of the number of kept entries.
//!
//! `bernoulli`: that of a sum of independent indicators, the Poisson-binomial distribution. `systematic`: the floor or the
//! ceiling of `sum q`, the ceiling with probability `frac(sum q)`.

use super::row::RowDistribution;
use crate::scalar::{Field, Ring};

/// `P(nnz = least + n)` for `n = 0, 1, ...`; outside, the probability is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct CountDistribution<T> {
    /// The smallest possible count.
    pub least: usize,
    /// Probabilities of `least, least + 1, ...`; they add up to 1.
    pub probability: Vec<T>,
}

/// The distribution of `sum_n m_n` for independent `m_n` with these probabilities, by convolution.
///
/// Each step is `p_n <- p_n (1 - q) + p_{n-1} q`, a sum of positive terms: the relative error of every probability,
/// however small, is about three roundings per step.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::count::poisson_binomial;
/// let counts = poisson_binomial(&[0.5, 0.5]);
/// assert_eq!((counts.at(1), counts.at_least(1), counts.at_most(0)), (0.5, 0.75, 0.25));
/// ```
#[must_use]
pub fn poisson_binomial<T: Ring + PartialOrd>(q: &[T]) -> CountDistribution<T> {
    let (zero, one) = (T::zero(), T::one());
    let least = q.iter().filter(|&&q| q >= one).count();
    let mut p = vec![one];
    for &q in q.iter().filter(|&&q| zero < q && q < one) {
        // In place, from the largest count down: p[n - 1] is still that without this entry.
        p.push(zero);
        for n in (1..p.len()).rev() {
            p[n] = p[n] * (one - q) + p[n - 1] * q;
        }
        p[0] *= one - q;
    }
    CountDistribution { least, probability: p }
}

impl<T: Field> RowDistribution<T> {
    /// The exact distribution of the row's count.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Sampler, moments::RowDistribution};
    /// let counts = |sampler| RowDistribution::new(sampler, 1.0, [0.5, 0.5].into_iter()).count_distribution();
    /// assert_eq!(counts(Sampler::Bernoulli).probability, [0.25, 0.5, 0.25]);
    /// assert_eq!(counts(Sampler::Systematic).at(1), 1.0);
    /// ```
    #[must_use]
    pub fn count_distribution(&self) -> CountDistribution<T> {
        let Some(pieces) = &self.pieces else {
            return poisson_binomial(&self.q);
        };
        let always = self.q.iter().filter(|&&q| q >= T::one()).count();
        let ceiling = always + pieces.start.len();
        let mut count = ceiling;
        let (mut of_ceiling, mut of_floor) = (T::zero(), T::zero());
        pieces.for_each(|step, length| {
            // Only a step that no entry enters lowers the count, and there is one at most.
            if step.is_some_and(|step| step.enters.is_none()) {
                count -= 1;
            }
            *(if count == ceiling { &mut of_ceiling } else { &mut of_floor }) += length;
        });
        let probability =
            if count == ceiling { vec![of_ceiling] } else { vec![of_floor, of_ceiling] };
        CountDistribution { least: count, probability }
    }
}

impl<T: Field> CountDistribution<T> {
    /// `P(nnz = count)`.
    #[must_use]
    pub fn at(&self, count: usize) -> T {
        let n = count.checked_sub(self.least);
        n.and_then(|n| self.probability.get(n)).copied().unwrap_or(T::zero())
    }

    /// `P(nnz >= count)`, the smallest terms first.
    #[must_use]
    pub fn at_least(&self, count: usize) -> T {
        let from = count.saturating_sub(self.least).min(self.probability.len());
        self.probability[from..].iter().rev().fold(T::zero(), |sum, &p| sum + p)
    }

    /// `P(nnz <= count)`, the smallest terms first.
    #[must_use]
    pub fn at_most(&self, count: usize) -> T {
        let end = (count + 1).saturating_sub(self.least).min(self.probability.len());
        self.probability[..end].iter().fold(T::zero(), |sum, &p| sum + p)
    }
}

/// Chernoff: `P(nnz >= count) <= e^{x - mean} (mean / x)^x` at `x = count` above the mean, and `P(nnz <= count)` by the
/// same expression below it. For independent entries of any probabilities.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::count::{chernoff_tail, poisson_binomial};
/// let counts = poisson_binomial(&[0.5; 8]);
/// assert!(counts.at_least(7) <= chernoff_tail(4.0, 7.0));
/// ```
#[must_use]
pub fn chernoff_tail(mean: f64, count: f64) -> f64 {
    if count <= 0.0 {
        return libm::exp(-mean);
    }
    if mean <= 0.0 {
        return 0.0;
    }
    // Above and below the mean alike, the exponent is count - mean - count ln(count / mean) <= 0.
    libm::exp(count - mean + count * libm::log(mean / count)).min(1.0)
}

/// The distribution of a sum of independent counts, such as those of several rows, by convolution.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::count::{poisson_binomial, sum_distribution};
/// let row = poisson_binomial(&[0.5]);
/// assert_eq!(sum_distribution(&[row.clone(), row]).probability, [0.25, 0.5, 0.25]);
/// ```
#[must_use]
pub fn sum_distribution(counts: &[CountDistribution<f64>]) -> CountDistribution<f64> {
    let one = CountDistribution { least: 0, probability: vec![1.0] };
    counts.iter().fold(one, |sum, next| {
        let mut p = vec![0.0; sum.probability.len() + next.probability.len() - 1];
        for (m, &a) in sum.probability.iter().enumerate() {
            for (n, &b) in next.probability.iter().enumerate() {
                p[m + n] += a * b;
            }
        }
        CountDistribution { least: sum.least + next.least, probability: p }
    })
}
