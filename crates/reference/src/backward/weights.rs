//! The weights that the backward pass reads, by rows.

use crate::forward::{Saved, Score, score};
use crate::problem::{Problem, Row};
use crate::scalar::{Ring, Scalar};
use crate::tensor::dot;
use std::ops::Range;

/// One entry of the matrix of weights, as the backward pass uses it.
///
/// # Examples
/// ```
/// use sus_reference::backward::{DenseWeights, Weight, Weights};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let weights = DenseWeights { problem: &problem, saved: &saved };
/// let (mut sum, mut next) = (0.0, 0);
/// weights.for_each(problem.row(0), 0..problem.sizes().keys, |Weight { j, w, slope, .. }| {
///     assert_eq!((j, slope), (next, problem.scale())); // keys ascend; without a softcap the slope is the scale
///     (sum, next) = (sum + w, next + 1);
/// });
/// assert!((sum - 1.0_f64).abs() < 1e-14);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight<T> {
    /// The key.
    pub j: usize,
    /// `W_ij`, or `W~_ij`.
    pub w: T,
    /// `ds_ij / d(q_i . k_j)`.
    pub slope: T,
    /// `ds_ij / dbias_ij` where it is not 1.
    pub bias_slope: Option<T>,
    /// `Z_ij`, the factor of dropout; none without dropout.
    pub dropout: Option<T>,
}

impl<T> Weight<T> {
    /// An entry without dropout, of a score whose derivative by the bias is 1.
    #[must_use]
    pub fn new(j: usize, w: T, slope: T) -> Self {
        Weight { j, w, slope, bias_slope: None, dropout: None }
    }

    /// `dP_ij = Z_ij G_i . v_j`.
    #[must_use]
    pub fn dp(&self, problem: &Problem<T>, row: Row) -> T
    where
        T: Ring,
    {
        let gv = dot(problem.g(row), problem.v(row, self.j));
        self.dropout.map_or(gv, |z| z * gv)
    }
}

/// A matrix of weights that can be read by rows.
///
/// # Examples
/// ```
/// use sus_reference::backward::{Weight, Weights};
/// use sus_reference::problem::Row;
/// use std::ops::Range;
/// /// Query `i` has a weight of 1 on key `i`, and no other.
/// struct Diagonal;
/// impl Weights<f64> for Diagonal {
///     fn for_each(&self, row: Row, keys: Range<usize>, mut visit: impl FnMut(Weight<f64>)) {
///         if keys.contains(&row.i) {
///             visit(Weight::new(row.i, 1.0, 1.0));
///         }
///     }
/// }
/// let problem = sus_reference::problem::example();
/// let delta = vec![0.0; problem.row_count()];
/// let gradients = sus_reference::backward::backward_from_weights(&problem, &Diagonal, &delta);
/// assert_eq!(gradients.dv.shape(), problem.inputs().v.shape());
/// ```
pub trait Weights<T>: Sync {
    /// Calls `visit` for each entry of `row` whose key is in `keys`, keys ascending. Entries not visited are zero.
    fn for_each(&self, row: Row, keys: Range<usize>, visit: impl FnMut(Weight<T>));
}

/// The dense weights `W = exp(s - lse)`, recomputed from the inputs and the saved `lse`.
///
/// # Examples
/// ```
/// use sus_reference::backward::DenseWeights;
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// let tensor = |name, numbers: &[f64]| Tensor::new(name, [1, 1, numbers.len(), 1], numbers);
/// // Scores 0 and ln 3: weights 1/4 and 3/4.
/// let (q, k) = (tensor("q", &[1.0])?, tensor("k", &[0.0, 3.0_f64.ln()])?);
/// let (v, g) = (tensor("v", &[0.0, 1.0])?, tensor("do", &[1.0])?);
/// let inputs = Inputs::new(q, k, v, g);
/// let problem = Problem::new(inputs, Options::default())?;
/// let saved = sus_reference::forward::forward(&problem);
/// let weights = DenseWeights { problem: &problem, saved: &saved };
/// assert!((weights.at(problem.row(0), 0).w - 0.25).abs() < 1e-15);
/// assert!((weights.at(problem.row(0), 1).w - 0.75).abs() < 1e-15);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DenseWeights<'a, T> {
    /// The problem.
    pub problem: &'a Problem<T>,
    /// Its forward pass, exact or given.
    pub saved: &'a Saved<T>,
}

impl<T: Scalar> DenseWeights<'_, T> {
    /// The weight of one entry that the mask leaves visible; exactly 0 if a key set or a `-inf` in the bias hides it.
    #[must_use]
    pub fn at(&self, row: Row, j: usize) -> Weight<T> {
        let Score { s, slope, bias_slope } = score(self.problem, row, j);
        let dropout = self.problem.dropout(row, j);
        let lse = self.saved.lse.row(row.b, row.h, row.i)[0];
        // Not exp(-inf - lse) of a hidden key: lse may be -inf too.
        let w = if self.problem.hides(row, j) { T::zero() } else { (s - lse).exp() };
        Weight { j, w, slope, bias_slope, dropout }
    }
}

impl<T: Scalar> Weights<T> for DenseWeights<'_, T> {
    fn for_each(&self, row: Row, keys: Range<usize>, mut visit: impl FnMut(Weight<T>)) {
        for range in self.problem.ranges(row) {
            for j in range.start.max(keys.start)..range.end.min(keys.end) {
                visit(self.at(row, j));
            }
        }
    }
}
