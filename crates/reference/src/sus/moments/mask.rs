//! The joint distribution of a problem's mask, row by row.

use super::entry::{RowEntry, entries_into};
use super::row::{RowDistribution, Traces};
use crate::backward::{DenseWeights, Weights, delta};
use crate::forward::Saved;
use crate::problem::{Problem, Row};
use crate::scalar::{Field, Scalar};
use crate::sus::rule::{Budget, Rule};
use crate::sus::sampler::Sampler;
use crate::tensor::squared_norms;
use rayon::prelude::*;
use std::ops::Range;

/// Rows per task. The traces are sums of the tasks' partial sums, so their last bits depend on it: it never changes.
pub const ROWS_PER_TASK: usize = 64;

/// A problem with the joint distribution of its mask.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::MaskDistribution};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let paper = MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
/// // Any lambda for each row is legal: twice the lambda gives less variance.
/// let twice = MaskDistribution { lambda: vec![8.0; problem.row_count()], ..paper.clone() };
/// assert!(twice.traces().dq < paper.traces().dq && twice.traces().expected > paper.traces().expected);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MaskDistribution<'a, T, W> {
    /// The problem.
    pub problem: &'a Problem<T>,
    /// Its dense weights.
    pub weights: W,
    /// `delta_i = G_i . o_i` for each row, in `(b, h, i)` order.
    pub delta: Vec<T>,
    /// `lambda_i` for each row: `q_ij = min(1, lambda_i W_ij)`.
    pub lambda: Vec<T>,
    /// The joint distribution of a row's mask.
    pub sampler: Sampler,
}

impl<'a, T: Scalar> MaskDistribution<'a, T, DenseWeights<'a, T>> {
    /// The distribution of the mask of a draw with this budget, rule and sampler.
    ///
    /// As in a draw, `lambda_i` comes from weights rounded to `f64`.
    #[must_use]
    pub fn new(
        problem: &'a Problem<T>,
        saved: &'a Saved<T>,
        c: Budget,
        rule: Rule,
        sampler: Sampler,
    ) -> Self {
        let weights = DenseWeights { problem, saved };
        let lambda = match rule {
            Rule::Paper => vec![T::from_f64(c.get()); problem.row_count()],
            Rule::Calibrated => {
                let rows = (0..problem.row_count()).into_par_iter();
                rows.map_init(Vec::new, |w, at| {
                    w.clear();
                    let row = problem.row(at);
                    w.extend(problem.span(row).map(|j| weights.at(row, j).w.to_f64()));
                    T::from_f64(rule.lambda(c, w))
                })
                .collect()
            }
        };
        MaskDistribution { problem, weights, delta: delta(problem, &saved.o), lambda, sampler }
    }
}

impl<T: Field, W: Weights<T>> MaskDistribution<'_, T, W> {
    /// The visible entries of a row, keys ascending.
    ///
    /// # Panics
    /// If the row is outside the problem.
    #[must_use]
    pub fn entries(&self, row: Row) -> Vec<RowEntry<T>> {
        let mut entries = Vec::new();
        let delta = self.delta[self.problem.row_number(row)];
        entries_into(self.problem, &self.weights, delta, row, &mut entries);
        entries
    }

    /// The distribution of a row's mask.
    ///
    /// # Panics
    /// If the row is outside the problem.
    #[must_use]
    pub fn row(&self, row: Row) -> RowDistribution<T> {
        let lambda = self.lambda[self.problem.row_number(row)];
        RowDistribution::new(self.sampler, lambda, self.entries(row).iter().map(|entry| entry.w))
    }

    /// Variances of each gradient summed over its elements, and the count of kept entries, over all rows.
    ///
    /// Rows are taken in `(b, h, i)` order in blocks of fixed size, so the sums do not depend on the number of threads.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Budget, Rule, Sampler, moments::MaskDistribution};
    /// let problem = sus_reference::problem::example();
    /// let saved = sus_reference::forward::forward(&problem);
    /// let masks = MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
    /// let traces = masks.traces();
    /// assert!(traces.dq > 0.0 && traces.expected <= 4.0 * problem.row_count() as f64);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn traces(&self) -> Traces<T> {
        let rows = self.problem.row_count();
        let k_squared = squared_norms(&self.problem.inputs().k);
        let blocks: Vec<Traces<T>> = (0..rows.div_ceil(ROWS_PER_TASK))
            .into_par_iter()
            .map(|block| {
                let first = block * ROWS_PER_TASK;
                self.traces_of_rows(first..rows.min(first + ROWS_PER_TASK), &k_squared)
            })
            .collect();
        blocks.iter().fold(Traces::zero(), |mut sum, block| {
            sum.add(block);
            sum
        })
    }
    /// The traces of the rows with these numbers; `k_squared` is `|k|^2` of every row of `K`.
    fn traces_of_rows(&self, rows: Range<usize>, k_squared: &[T]) -> Traces<T> {
        let p = self.problem;
        let mut sum = Traces::zero();
        let mut entries = Vec::new();
        for at in rows {
            let row = p.row(at);
            entries.clear();
            entries_into(p, &self.weights, self.delta[at], row, &mut entries);
            let weights = entries.iter().map(|entry| entry.w);
            let distribution = RowDistribution::new(self.sampler, self.lambda[at], weights);
            // The first row of K that this row reads.
            let first = (row.b * p.sizes().key_heads + p.key_head(row.h)) * p.sizes().keys;
            sum.add(&distribution.traces(p, row, &entries, |j| k_squared[first + j]));
        }
        sum
    }
}
