//! The exact laws of the SUS gradients: mean, variance, covariance, range, and the law of the kept counts.
//!
//! The mean is the dense gradient. For everything else, with `f_ij = t_ij slope_ij`, a gradient is linear in `W~`:
//!
//! ```text
//! dq_i = sum_j W~_ij f_ij k_j      dk_j = sum_i W~_ij f_ij q_i      dv_j = sum_i W~_ij G_i      dbias_ij = W~_ij t_ij
//! r_ij = Var W~_ij = W_ij (max(W_ij, 1/lambda_i) - W_ij)
//! ```
//!
//! Rows are independent under both samplers. Within a row, entries are independent under `bernoulli`; under
//! `systematic` the mask is a step function of one uniform, and its moments are sums over the [steps](pieces).
//! `dk`, `dv` and `dbias` never add two entries of one row to one element, so their variances need `r` alone.
//!
//! Nothing here needs more than `+ - * /` and order, so the laws run in exact rationals, where the tests compare
//! them with an enumeration of every mask by `==`. Derivations: `docs/moments.md`.

pub mod count;
mod elementwise;
pub mod enumerate;
pub mod functional;
pub mod pieces;
pub mod row;

pub use elementwise::variances;
pub use functional::{Functional, FunctionalDistribution, covariance, functional_distribution};
pub use row::{RowDistribution, Traces};

use super::rule::{Budget, Rule};
use super::sampler::Sampler;
use crate::backward::{DenseWeights, Weight, Weights, delta};
use crate::forward::Saved;
use crate::problem::{Problem, Row};
use crate::scalar::{Ring, Scalar};
use crate::tensor::{Tensor, dot};
use nalgebra::ClosedDivAssign;
use rayon::prelude::*;

/// An ordered field: what the laws need of a scalar. `num_rational::Ratio<i128>` is one, and so is every [`Scalar`].
///
/// # Examples
/// ```
/// use num_rational::Ratio;
/// use sus_reference::sus::{Sampler, moments::{Field, RowDistribution}};
/// /// The standard error of a kept weight, squared, over the weight squared.
/// fn relative_variance<T: Field>(lambda: T, w: T) -> T {
///     RowDistribution::new(Sampler::Bernoulli, lambda, [w].into_iter()).variance(0) / (w * w)
/// }
/// let third = Ratio::new(1_i128, 3);
/// assert_eq!(relative_variance(Ratio::from(2), third), Ratio::new(1, 2)); // (1 - q) / q with q = 2/3, exactly
/// assert_eq!(relative_variance(2.0, 0.25), 1.0);
/// ```
pub trait Field: Ring + ClosedDivAssign + PartialOrd {}

impl<T: Ring + ClosedDivAssign + PartialOrd> Field for T {}

/// A problem together with the joint law of its mask.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::Law};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// let paper = Law::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
/// // A rule of one's own is a lambda for each row: with twice the rate, less variance.
/// let twice = Law { lambda: vec![8.0; problem.row_count()], ..paper.clone() };
/// assert!(twice.traces().dq < paper.traces().dq && twice.traces().expected > paper.traces().expected);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Law<'a, T, W> {
    /// The problem.
    pub problem: &'a Problem<T>,
    /// Its dense weights.
    pub weights: W,
    /// `delta_i = G_i . o_i` for each row, in `(b, h, i)` order.
    pub delta: Vec<T>,
    /// `lambda_i` for each row: `q_ij = min(1, lambda_i W_ij)`.
    pub lambda: Vec<T>,
    /// The joint law of a row's mask.
    pub sampler: Sampler,
}

/// One visible entry of a row, as the laws use it.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::{Entry, Law}};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// let law = Law::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
/// // Without a cotangent of lse, a row of dS = W t adds up to zero: so says delta.
/// let entries = law.entries(problem.row(0));
/// let sum: f64 = entries.iter().map(|&Entry { w, t, .. }| w * t).sum();
/// let magnitude: f64 = entries.iter().map(|&Entry { w, t, .. }| (w * t).abs()).sum();
/// assert!(sum.abs() < 1e-13 * magnitude);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<T> {
    /// The key.
    pub j: usize,
    /// `W_ij`.
    pub w: T,
    /// `t_ij = G_i . v_j - delta_i + dlse_i`.
    pub t: T,
    /// `f_ij = t_ij slope_ij`.
    pub f: T,
}

impl<'a, T: Scalar> Law<'a, T, DenseWeights<'a, T>> {
    /// The law of the mask that a draw with this budget, rule and sampler has.
    ///
    /// As in a draw, `lambda_i` comes from weights rounded to `f64`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::sus::{Budget, Rule, Sampler, moments::Law};
    /// let saved = sus_reference::forward::forward(&problem);
    /// let law = Law::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
    /// assert_eq!(law.lambda, vec![4.0; problem.row_count()]); // the paper's rule: c
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
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
                    w.extend(problem.mask().visible(row.i).map(|j| weights.at(row, j).w.to_f64()));
                    T::from_f64(rule.lambda(c, w))
                })
                .collect()
            }
        };
        Law { problem, weights, delta: delta(problem, &saved.o), lambda, sampler }
    }
}

impl<T: Field, W: Weights<T>> Law<'_, T, W> {
    /// The visible entries of a row, keys ascending.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Budget, Rule, Sampler, moments::Law};
    /// let problem = sus_corpus::named("window_causal").unwrap().problem;
    /// let saved = sus_reference::forward::forward(&problem);
    /// let law = Law::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
    /// let row = problem.row(7);
    /// let keys = law.entries(row).iter().map(|entry| entry.j).collect::<Vec<_>>();
    /// assert_eq!(keys, problem.mask().visible(row.i).collect::<Vec<_>>());
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn entries(&self, row: Row) -> Vec<Entry<T>> {
        let mut entries = Vec::new();
        let delta = self.delta[self.problem.row_number(row)];
        entries_into(self.problem, &self.weights, delta, row, &mut entries);
        entries
    }

    /// The law of a row's mask.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::sus::{Budget, Rule, Sampler, moments::Law};
    /// let saved = sus_reference::forward::forward(&problem);
    /// let law = Law::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
    /// let row = law.row(problem.row(0));
    /// assert!(row.expected() <= 4.0 && row.q.iter().all(|&q| q <= 1.0));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
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
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::sus::{Budget, Rule, Sampler, moments::Law};
    /// let saved = sus_reference::forward::forward(&problem);
    /// let law = Law::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
    /// let traces = law.traces();
    /// assert!(traces.dq > 0.0 && traces.expected <= 4.0 * problem.row_count() as f64);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn traces(&self) -> Traces<T> {
        let rows = self.problem.row_count();
        let norms = squared_norms(&self.problem.inputs().k);
        let blocks: Vec<Traces<T>> = (0..rows.div_ceil(ROWS_PER_TASK))
            .into_par_iter()
            .map(|block| {
                let mut sum = Traces::zero();
                let mut entries = Vec::new();
                for at in block * ROWS_PER_TASK..rows.min((block + 1) * ROWS_PER_TASK) {
                    let row = self.problem.row(at);
                    entries.clear();
                    let delta = self.delta[at];
                    entries_into(self.problem, &self.weights, delta, row, &mut entries);
                    let law = RowDistribution::new(
                        self.sampler,
                        self.lambda[at],
                        entries.iter().map(|entry| entry.w),
                    );
                    let first = (row.b * self.problem.sizes().key_heads
                        + self.problem.key_head(row.h))
                        * self.problem.sizes().keys;
                    sum.add(&law.traces(self.problem, row, &entries, |j| norms[first + j]));
                }
                sum
            })
            .collect();
        blocks.iter().fold(Traces::zero(), |mut sum, block| {
            sum.add(block);
            sum
        })
    }
}

/// Rows per task. Their partial sums are part of what is computed: it is fixed.
pub const ROWS_PER_TASK: usize = 64;

/// `|x|^2` of each row of a tensor, in row-major order.
pub fn squared_norms<T: Ring>(x: &Tensor<T>) -> Vec<T> {
    let [.., features] = x.shape();
    x.as_slice().chunks_exact(features).map(|x| dot(x, x)).collect()
}

/// Appends the visible entries of a row to `entries`.
pub fn entries_into<T: Ring>(
    problem: &Problem<T>,
    weights: &impl Weights<T>,
    delta: T,
    row: Row,
    entries: &mut Vec<Entry<T>>,
) {
    let shift = problem.dlse(row) - delta;
    weights.for_each(row, 0..problem.sizes().keys, |Weight { j, w, slope }| {
        let t = dot(problem.g(row), problem.v(row, j)) + shift;
        entries.push(Entry { j, w, t, f: t * slope });
    });
}
