//! The mask of one row: probabilities, variances and traces.

use super::entry::RowEntry;
use super::pieces::Pieces;
use crate::problem::{Problem, Row};
use crate::scalar::{Field, Ring};
use crate::sus::rule::{keep_probability, kept_weight};
use crate::sus::sampler::Sampler;
use crate::tensor::{add_scaled, dot};

/// The joint distribution of one row's `W~`.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Sampler, moments::RowDistribution};
/// let row = RowDistribution::new(Sampler::Bernoulli, 2.0, [0.75, 0.25].into_iter());
/// assert_eq!((row.q.as_slice(), row.kept.as_slice()), (&[1.0, 0.5][..], &[0.75, 0.5][..]));
/// assert!((0..2).all(|n| row.q[n] * row.kept[n] == row.w[n])); // unbiased
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RowDistribution<T> {
    /// `W`.
    pub w: Vec<T>,
    /// `q = min(1, lambda W)`, the probability that an entry is kept.
    pub q: Vec<T>,
    /// `max(W, 1 / lambda)`, the value of a kept entry.
    pub kept: Vec<T>,
    /// The steps of a systematic mask; `None` if entries are independent.
    pub pieces: Option<Pieces<T>>,
}

/// Variances of the gradients summed over all elements, and of the number of kept entries.
///
/// Rows are independent, so the traces of several rows are the sums of their traces.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::MaskDistribution};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let traces = |sampler| Ok::<_, sus_reference::Error>(
///     MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, sampler).traces(),
/// );
/// let (independent, systematic) = (traces(Sampler::Bernoulli)?, traces(Sampler::Systematic)?);
/// assert_eq!(independent.expected, systematic.expected);
/// // A row's count is within one of its mean: its variance is at most 1/4.
/// assert!(systematic.count_variance <= 0.25 * problem.row_count() as f64);
/// assert!(systematic.count_variance < independent.count_variance);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traces<T> {
    /// `sum Var dq`.
    pub dq: T,
    /// `sum Var dk`.
    pub dk: T,
    /// `sum Var dv`.
    pub dv: T,
    /// `sum Var dbias`, also if the problem has no bias.
    pub dbias: T,
    /// `E nnz`.
    pub expected: T,
    /// `Var nnz`.
    pub count_variance: T,
}

impl<T: Ring> Traces<T> {
    /// The traces of no rows.
    #[must_use]
    pub fn zero() -> Self {
        let zero = T::zero();
        Traces { dq: zero, dk: zero, dv: zero, dbias: zero, expected: zero, count_variance: zero }
    }

    /// Adds the traces of other rows.
    pub fn add(&mut self, other: &Self) {
        self.dq += other.dq;
        self.dk += other.dk;
        self.dv += other.dv;
        self.dbias += other.dbias;
        self.expected += other.expected;
        self.count_variance += other.count_variance;
    }
}

impl<T: Field> RowDistribution<T> {
    /// The distribution of a row with these weights.
    #[must_use]
    pub fn new(sampler: Sampler, lambda: T, weights: impl Iterator<Item = T>) -> Self {
        let w: Vec<T> = weights.collect();
        let q: Vec<T> = w.iter().map(|&w| keep_probability(lambda, w)).collect();
        let kept = w.iter().map(|&w| kept_weight(lambda, w)).collect();
        let pieces = (sampler == Sampler::Systematic).then(|| Pieces::new(&q));
        RowDistribution { w, q, kept, pieces }
    }

    /// Whether entry `n` is sometimes kept and sometimes dropped: `0 < q < 1`.
    #[must_use]
    pub fn is_stochastic(&self, n: usize) -> bool {
        T::zero() < self.q[n] && self.q[n] < T::one()
    }

    /// `r = Var W~ = W^2 (1 - q) / q = W (max(W, 1/lambda) - W)`; 0 where the entry is not stochastic.
    #[must_use]
    pub fn variance(&self, n: usize) -> T {
        if self.is_stochastic(n) { self.w[n] * (self.kept[n] - self.w[n]) } else { T::zero() }
    }

    /// `Cov(sum_n a_n W~_n, sum_n b_n W~_n)`.
    ///
    /// # Panics
    /// If `a` or `b` has not one number per entry.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Sampler, moments::RowDistribution};
    /// // Exactly one of the two is kept: the systematic sampler makes them negatively correlated.
    /// let row = RowDistribution::new(Sampler::Systematic, 1.0, [0.5, 0.5].into_iter());
    /// assert_eq!(row.covariance(&[1.0, 0.0], &[0.0, 1.0]), -0.25);
    /// assert_eq!(row.covariance(&[1.0, 1.0], &[1.0, 1.0]), 0.0);
    /// ```
    #[must_use]
    pub fn covariance(&self, a: &[T], b: &[T]) -> T {
        assert!(a.len() == self.q.len() && b.len() == self.q.len(), "one coefficient per entry");
        match &self.pieces {
            None => (0..self.q.len()).fold(T::zero(), |s, n| s + self.variance(n) * a[n] * b[n]),
            Some(pieces) => {
                // W~_n jumps between 0 and kept_n. The mean over the stochastic entries is subtracted; the others are constant.
                let jumps = |a: &[T]| -> Vec<T> {
                    a.iter().zip(&self.kept).map(|(&a, &kept)| a * kept).collect()
                };
                let (x, y) = (jumps(a), jumps(b));
                pieces.product((-self.mean_of(&x), &x), (-self.mean_of(&y), &y))
            }
        }
    }

    /// `sum_n q_n x_n` over the stochastic entries.
    fn mean_of(&self, x: &[T]) -> T {
        let stochastic = (0..x.len()).filter(|&n| self.is_stochastic(n));
        stochastic.fold(T::zero(), |sum, n| sum + self.q[n] * x[n])
    }

    /// Adds to `out` the variance of each element of `sum_n W~_n a_n vector(n)`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Sampler, moments::RowDistribution};
    /// // W = 1/4 counts as 1/2 half of the time: Var W~ = 1/16, and a vector 2 (3, 0) times W~ has 36/16 and 0.
    /// let row = RowDistribution::new(Sampler::Bernoulli, 2.0, [0.25].into_iter());
    /// let mut variances = [0.0; 2];
    /// row.add_variances(|_| 2.0, |_| &[3.0, 0.0], &mut variances);
    /// assert_eq!(variances, [2.25, 0.0]);
    /// ```
    pub fn add_variances<'v>(
        &self,
        a: impl Fn(usize) -> T,
        vector: impl Fn(usize) -> &'v [T],
        out: &mut [T],
    ) where
        T: 'v,
    {
        let Some(pieces) = &self.pieces else {
            for n in (0..self.q.len()).filter(|&n| self.is_stochastic(n)) {
                let factor = self.variance(n) * a(n) * a(n);
                for (out, &x) in out.iter_mut().zip(vector(n)) {
                    *out += factor * x * x;
                }
            }
            return;
        };
        // The deviation from the mean, on the current piece.
        let mut deviation = vec![T::zero(); out.len()];
        for n in (0..self.q.len()).filter(|&n| self.is_stochastic(n)) {
            add_scaled(&mut deviation, -(self.w[n] * a(n)), vector(n));
        }
        let jump = |n: usize| self.kept[n] * a(n);
        for &n in &pieces.start {
            add_scaled(&mut deviation, jump(n), vector(n));
        }
        pieces.for_each(|step, length| {
            if let Some(step) = step {
                add_scaled(&mut deviation, -jump(step.leaves), vector(step.leaves));
                if let Some(n) = step.enters {
                    add_scaled(&mut deviation, jump(n), vector(n));
                }
            }
            for (out, &x) in out.iter_mut().zip(&deviation) {
                *out += length * x * x;
            }
        });
    }

    /// The variance of `sum_n W~_n a_n vector(n)`, summed over the elements. `squared(n)` is `|vector(n)|^2`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Sampler, moments::RowDistribution};
    /// // One of two is kept, as a weight of 1: the vector is (3, 0) or (0, 4), as likely, with mean (1.5, 2).
    /// let vectors = [[3.0, 0.0], [0.0, 4.0]];
    /// let trace = |sampler| {
    ///     let row = RowDistribution::new(sampler, 1.0, [0.5, 0.5].into_iter());
    ///     row.trace(|_| 1.0, |n| &vectors[n], |n| [9.0, 16.0][n], 2)
    /// };
    /// assert_eq!(trace(Sampler::Systematic), 2.25 + 4.0);
    /// assert_eq!(trace(Sampler::Bernoulli), 0.25 * (9.0 + 16.0)); // the same here: the vectors are orthogonal
    /// ```
    pub fn trace<'v>(
        &self,
        a: impl Fn(usize) -> T,
        vector: impl Fn(usize) -> &'v [T],
        squared: impl Fn(usize) -> T,
        length: usize,
    ) -> T
    where
        T: 'v,
    {
        if self.pieces.is_none() {
            let stochastic = (0..self.q.len()).filter(|&n| self.is_stochastic(n));
            return stochastic
                .fold(T::zero(), |sum, n| sum + self.variance(n) * a(n) * a(n) * squared(n));
        }
        let mut variances = vec![T::zero(); length];
        self.add_variances(a, vector, &mut variances);
        variances.iter().fold(T::zero(), |sum, &x| sum + x)
    }

    /// `E nnz = sum q`.
    #[must_use]
    pub fn expected(&self) -> T {
        self.q.iter().fold(T::zero(), |sum, &q| sum + q)
    }

    /// `Var nnz`: `sum q (1 - q)`; for a systematic row that of a two-point distribution.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Sampler, moments::RowDistribution};
    /// let row = |sampler| RowDistribution::new(sampler, 1.0, [0.5, 0.5].into_iter());
    /// assert_eq!(row(Sampler::Bernoulli).count_variance(), 0.5);
    /// assert_eq!(row(Sampler::Systematic).count_variance(), 0.0); // always one kept
    /// ```
    #[must_use]
    pub fn count_variance(&self) -> T {
        match &self.pieces {
            None => self.q.iter().fold(T::zero(), |sum, &q| sum + q * (T::one() - q)),
            Some(pieces) => pieces.fraction * (T::one() - pieces.fraction),
        }
    }

    /// The traces of the row. `entries` are its entries, `k_squared(j)` is `|k_j|^2`.
    ///
    /// # Panics
    /// If `entries` is longer than the row.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Budget, Rule, Sampler, moments::MaskDistribution};
    /// use sus_reference::tensor::dot;
    /// let problem = sus_reference::problem::example();
    /// let saved = sus_reference::forward::forward(&problem);
    /// let masks = MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
    /// let row = problem.row(5);
    /// let (mask, entries) = (masks.row(row), masks.entries(row));
    /// let traces = mask.traces(&problem, row, &entries, |j| dot(problem.k(row, j), problem.k(row, j)));
    /// // dv_j = W~_ij G_i
    /// let variance: f64 = (0..entries.len()).map(|n| mask.variance(n)).sum();
    /// assert_eq!(traces.dv, variance * dot(problem.g(row), problem.g(row)));
    /// assert_eq!(traces.expected, mask.expected());
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn traces(
        &self,
        problem: &Problem<T>,
        row: Row,
        entries: &[RowEntry<T>],
        k_squared: impl Fn(usize) -> T,
    ) -> Traces<T> {
        // One pass for all sums: the additions of different sums can overlap in the processor.
        let [zero, one] = [T::zero(), T::one()];
        let [mut expected, mut count_variance] = [zero; 2];
        let [mut f_squared_k, mut f_squared, mut t_squared, mut total] = [zero; 4];
        for (n, entry) in entries.iter().enumerate() {
            let q = self.q[n];
            expected += q;
            if !self.is_stochastic(n) {
                continue;
            }
            count_variance += q * (one - q);
            let r = self.variance(n);
            total += r * entry.of_v * entry.of_v;
            f_squared += r * entry.f * entry.f;
            t_squared += r * entry.of_bias * entry.of_bias;
            f_squared_k += r * entry.f * entry.f * k_squared(entry.j);
        }
        let mut dq = f_squared_k;
        if self.pieces.is_some() {
            let k = |n: usize| problem.k(row, entries[n].j);
            let k_squared = |n: usize| k_squared(entries[n].j);
            dq = self.trace(|n| entries[n].f, k, k_squared, problem.sizes().features);
            count_variance = self.count_variance();
        }
        Traces {
            dq,
            dk: f_squared * dot(problem.q(row), problem.q(row)),
            dv: total * dot(problem.g(row), problem.g(row)),
            dbias: t_squared,
            expected,
            count_variance,
        }
    }
}
