//! The law of the number of kept entries.
//!
//! `bernoulli`: a sum of independent indicators, the Poisson-binomial law. `systematic`: the floor or the ceiling of
//! `sum q`, the ceiling with probability `frac(sum q)`.

use super::{Field, RowDistribution};
use crate::scalar::Ring;

/// `P(nnz = least + n)` for `n = 0, 1, ...`; outside, the probability is 0.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::count::{CountDistribution, poisson_binomial};
/// // One entry is kept outright, two with probability one half.
/// let law = poisson_binomial(&[1.0, 0.5, 0.5]);
/// assert_eq!(law, CountDistribution { least: 1, probability: vec![0.25, 0.5, 0.25] });
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CountDistribution<T> {
    /// The smallest possible count.
    pub least: usize,
    /// Probabilities of `least, least + 1, ...`; they add up to 1.
    pub probability: Vec<T>,
}

/// The law of `sum_n m_n` for independent `m_n` with these probabilities, by convolution.
///
/// Each step is `p_n <- p_n (1 - q) + p_{n-1} q`, a sum of positive terms: every probability, however small, keeps a
/// relative error of about three roundings a step.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::count::poisson_binomial;
/// let law = poisson_binomial(&[0.5, 0.5]);
/// assert_eq!((law.at(1), law.at_least(1), law.at_most(0)), (0.5, 0.75, 0.25));
/// ```
#[must_use]
pub fn poisson_binomial<T: Ring + PartialOrd>(q: &[T]) -> CountDistribution<T> {
    let (zero, one) = (T::zero(), T::one());
    let least = q.iter().filter(|&&q| q >= one).count();
    let mut p = vec![one];
    for &q in q.iter().filter(|&&q| zero < q && q < one) {
        p.push(zero);
        for n in (1..p.len()).rev() {
            p[n] = p[n] * (one - q) + p[n - 1] * q;
        }
        p[0] *= one - q;
    }
    CountDistribution { least, probability: p }
}

impl<T: Field> RowDistribution<T> {
    /// The exact law of the row's count.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Sampler, moments::RowDistribution};
    /// let law = |sampler| RowDistribution::new(sampler, 1.0, [0.5, 0.5].into_iter()).count_distribution();
    /// assert_eq!(law(Sampler::Bernoulli).probability, [0.25, 0.5, 0.25]);
    /// assert_eq!(law(Sampler::Systematic).at(1), 1.0);
    /// ```
    #[must_use]
    pub fn count_distribution(&self) -> CountDistribution<T> {
        let Some(pieces) = &self.pieces else {
            return poisson_binomial(&self.q);
        };
        let outright = self.q.iter().filter(|&&q| q >= T::one()).count();
        let mut law = CountDistribution { least: usize::MAX, probability: Vec::new() };
        let mut count = outright + pieces.start.len();
        // A step to no entry lowers the count, once at most: from the ceiling to the floor.
        let mut law_of = [(count, T::zero()); 2];
        pieces.for_each(|step, length| {
            if step.is_some_and(|step| step.enters.is_none()) {
                count -= 1;
                law_of[1].0 = count;
            }
            law_of[usize::from(count < outright + pieces.start.len())].1 += length;
        });
        if count < outright + pieces.start.len() {
            law.least = count;
            law.probability = vec![law_of[1].1, law_of[0].1];
        } else {
            law.least = count;
            law.probability = vec![law_of[0].1];
        }
        law
    }
}

impl<T: Field> CountDistribution<T> {
    /// `P(nnz = count)`.
    ///
    /// # Examples
    /// ```
    /// let law = sus_reference::sus::moments::count::poisson_binomial(&[1.0, 0.5, 0.5]);
    /// assert_eq!([0, 1, 2, 3, 4].map(|count| law.at(count)), [0.0, 0.25, 0.5, 0.25, 0.0]);
    /// ```
    #[must_use]
    pub fn at(&self, count: usize) -> T {
        let n = count.checked_sub(self.least);
        n.and_then(|n| self.probability.get(n)).copied().unwrap_or(T::zero())
    }

    /// `P(nnz >= count)`, the smallest terms first.
    ///
    /// # Examples
    /// ```
    /// let law = sus_reference::sus::moments::count::poisson_binomial(&[1.0, 0.5, 0.5]);
    /// assert_eq!([0, 1, 2, 3, 4].map(|count| law.at_least(count)), [1.0, 1.0, 0.75, 0.25, 0.0]);
    /// ```
    #[must_use]
    pub fn at_least(&self, count: usize) -> T {
        let from = count.saturating_sub(self.least).min(self.probability.len());
        self.probability[from..].iter().rev().fold(T::zero(), |sum, &p| sum + p)
    }

    /// `P(nnz <= count)`, the smallest terms first.
    ///
    /// # Examples
    /// ```
    /// let law = sus_reference::sus::moments::count::poisson_binomial(&[1.0, 0.5, 0.5]);
    /// assert_eq!([0, 1, 2, 3, 4].map(|count| law.at_most(count)), [0.0, 0.25, 0.75, 1.0, 1.0]);
    /// ```
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
/// let law = poisson_binomial(&[0.5; 8]);
/// assert!(law.at_least(7) <= chernoff_tail(4.0, 7.0));
/// ```
#[must_use]
pub fn chernoff_tail(mean: f64, count: f64) -> f64 {
    if count <= 0.0 {
        return libm::exp(-mean);
    }
    if mean <= 0.0 {
        return 0.0;
    }
    libm::exp(count - mean + count * libm::log(mean / count)).min(1.0)
}

/// The law of a sum of independent counts, such as of several rows, by convolution.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::count::{poisson_binomial, sum_distribution};
/// let row = poisson_binomial(&[0.5]);
/// assert_eq!(sum_distribution(&[row.clone(), row]).probability, [0.25, 0.5, 0.25]);
/// ```
#[must_use]
pub fn sum_distribution(laws: &[CountDistribution<f64>]) -> CountDistribution<f64> {
    let one = CountDistribution { least: 0, probability: vec![1.0] };
    laws.iter().fold(one, |sum, law| {
        let mut p = vec![0.0; sum.probability.len() + law.probability.len() - 1];
        for (m, &a) in sum.probability.iter().enumerate() {
            for (n, &b) in law.probability.iter().enumerate() {
                p[m + n] += a * b;
            }
        }
        CountDistribution { least: sum.least + law.least, probability: p }
    })
}
