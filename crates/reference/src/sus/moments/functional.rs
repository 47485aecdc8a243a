//! Linear functionals of the gradients: mean, covariance, range, and Bernstein's limits.
//!
//! ```text
//! phi = <R_q, dq> + <R_k, dk> + <R_v, dv> + <R_bias, dbias> + <R_slopes, dslopes> = sum_ij a_ij W~_ij
//! a_ij = Z_ij R_v,j . G_i + f_ij (R_q,i . k_j + R_k,j . q_i) + R_bias,ij t_ij ds_ij/dbias_ij - R_slopes,h t_ij |i + Nk - Nq - j|
//! Cov(phi, phi') = sum_i Cov(sum_j a_ij W~_ij, sum_j a'_ij W~_ij)
//! ```

use super::entry::RowEntry;
use super::mask::MaskDistribution;
use super::row::RowDistribution;
use crate::backward::{Gradients, Weights};
use crate::problem::{Problem, Row, bias_row};
use crate::scalar::Field;
use crate::tensor::{Tensor, dot};
use rayon::prelude::*;

/// A linear functional, by its coefficients: `R_q`, `R_k`, `R_v` and `R_bias`, each of its gradient's shape.
/// `dsink` is exact, so a coefficient of it adds nothing to a covariance and is not read. A coefficient of `dkv` is that of
/// `dk`, and its first features are those of `dv`; `dkv` itself is not read.
///
/// # Examples
/// ```
/// use sus_reference::backward::backward;
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::{Functional, MaskDistribution, functional_distribution, variances}};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let masks = MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
/// // The functional that reads one element of dk has its mean and its variance.
/// let dense = backward(&problem, &saved);
/// let mut element: Functional<f64> = Functional {
///     dq: dense.dq.map(|_| 0.0),
///     dk: dense.dk.map(|_| 0.0),
///     dv: dense.dv.map(|_| 0.0),
///     ..dense.clone()
/// };
/// element.dk.as_mut_slice()[3] = 1.0;
/// let (found, mean) = (functional_distribution(&masks, &element), dense.dk.as_slice()[3]);
/// assert!((found.mean / mean - 1.0).abs() < 1e-10);
/// assert!((found.variance / variances(&masks).dk.as_slice()[3] - 1.0).abs() < 1e-12);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub type Functional<T> = Gradients<T>;

/// Mean, variance and ranges of `phi` over the distribution of the mask.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::{MaskDistribution, functional_distribution}};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let r = sus_reference::backward::backward(&problem, &saved);
/// let of = |c| {
///     let masks = MaskDistribution::new(&problem, &saved, Budget::new(c)?, Rule::Paper, Sampler::Bernoulli);
///     Ok::<_, sus_reference::Error>(functional_distribution(&masks, &r))
/// };
/// let (sparse, all) = (of(4.0)?, of(f64::INFINITY)?);
/// assert_eq!((all.variance, all.deviation, all.range), (0.0, 0.0, 0.0)); // every entry is kept
/// assert!(sparse.variance > 0.0 && sparse.mean == all.mean); // unbiased
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FunctionalDistribution<T> {
    /// `E phi`, which is `phi` of the dense gradients (`dsink` apart).
    pub mean: T,
    /// `Var phi`.
    pub variance: T,
    /// The largest distance of an independent term from its mean. The terms are entries, or whole systematic rows.
    pub deviation: T,
    /// The largest range `|a_ij| max(W_ij, 1 / lambda_i)` of the term of a stochastic entry.
    pub range: T,
}

/// `a_ij` for the entries of a row.
fn coefficients<T: Field>(
    problem: &Problem<T>,
    r: &Functional<T>,
    row: Row,
    entries: &[RowEntry<T>],
) -> Vec<T> {
    let head = problem.key_head(row.h);
    let bias = r.dbias.as_ref().map(|bias| {
        let Row { b, h, i } = bias_row(bias.shape(), row);
        bias.row(b, h, i)
    });
    let slope = r.dslopes.as_ref().map(|slopes| slopes.as_slice()[problem.slope_index(row)]);
    let r_q = r.dq.row(row.b, row.h, row.i);
    entries
        .iter()
        .map(|&RowEntry { j, t, f, of_bias, of_v: z, .. }| {
            let of_k = dot(r.dk.row(row.b, head, j), problem.q(row));
            let of_v = dot(r.dv.row(row.b, head, j), problem.g(row));
            let of_bias = bias.map_or(T::zero(), |bias| bias[j] * of_bias);
            let a = of_v * z + f * (dot(r_q, problem.k(row, j)) + of_k) + of_bias;
            slope.map_or(a, |slope| a + slope * t * problem.alibi_distance(row, j))
        })
        .collect()
}

/// The covariance of two functionals of the same draw.
///
/// # Panics
/// If a coefficient tensor has not its gradient's shape.
#[must_use]
pub fn covariance<T: Field, W: Weights<T>>(
    masks: &MaskDistribution<'_, T, W>,
    a: &Functional<T>,
    b: &Functional<T>,
) -> T {
    assert_shapes(masks.problem, a);
    assert_shapes(masks.problem, b);
    let rows: Vec<T> = (0..masks.problem.row_count())
        .into_par_iter()
        .map(|at| {
            let row = masks.problem.row(at);
            let entries = masks.entries(row);
            let of = |r| coefficients(masks.problem, r, row, &entries);
            masks.row(row).covariance(&of(a), &of(b))
        })
        .collect();
    rows.iter().fold(T::zero(), |sum, &x| sum + x)
}

/// Mean, variance and ranges of a functional.
///
/// # Panics
/// If a coefficient tensor has not its gradient's shape.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::MaskDistribution};
/// use sus_reference::backward::backward;
/// use sus_reference::sus::moments::functional::functional_distribution;
/// use sus_reference::tensor::dot;
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let masks = MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
/// let dense = backward(&problem, &saved);
/// let found = functional_distribution(&masks, &dense); // along the gradient itself
/// let squared = [&dense.dq, &dense.dk, &dense.dv].map(|g| dot(g.as_slice(), g.as_slice()));
/// assert!((found.mean / squared.iter().sum::<f64>() - 1.0).abs() < 1e-12 && found.variance > 0.0);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn functional_distribution<T: Field, W: Weights<T>>(
    masks: &MaskDistribution<'_, T, W>,
    r: &Functional<T>,
) -> FunctionalDistribution<T> {
    assert_shapes(masks.problem, r);
    let rows: Vec<FunctionalDistribution<T>> = (0..masks.problem.row_count())
        .into_par_iter()
        .map(|at| {
            let row = masks.problem.row(at);
            let entries = masks.entries(row);
            let a = coefficients(masks.problem, r, row, &entries);
            let row = masks.row(row);
            FunctionalDistribution {
                mean: dot(&a, &row.w),
                variance: row.covariance(&a, &a),
                deviation: deviation(&row, &a),
                range: range(&row, &a),
            }
        })
        .collect();
    let zero = T::zero();
    let start = FunctionalDistribution { mean: zero, variance: zero, deviation: zero, range: zero };
    rows.iter().fold(start, |sum, row| FunctionalDistribution {
        mean: sum.mean + row.mean,
        variance: sum.variance + row.variance,
        deviation: larger(sum.deviation, row.deviation),
        range: larger(sum.range, row.range),
    })
}

fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

fn magnitude<T: Field>(x: T) -> T {
    if x < T::zero() { -x } else { x }
}

/// The largest `|a| max(W, 1 / lambda)` of a stochastic entry.
fn range<T: Field>(row: &RowDistribution<T>, a: &[T]) -> T {
    let stochastic = (0..a.len()).filter(|&n| row.is_stochastic(n));
    stochastic.fold(T::zero(), |most, n| larger(most, magnitude(a[n]) * row.kept[n]))
}

/// The largest distance of an independent term from its mean.
fn deviation<T: Field>(row: &RowDistribution<T>, a: &[T]) -> T {
    let stochastic = || (0..a.len()).filter(|&n| row.is_stochastic(n));
    let Some(pieces) = &row.pieces else {
        return stochastic().fold(T::zero(), |most, n| {
            // A dropped term is W below its mean, a kept one 1/lambda - W above.
            let (w, kept) = (row.w[n], row.kept[n]);
            larger(most, magnitude(a[n]) * larger(w, kept - w))
        });
    };
    // The row's sum minus its mean, over the stochastic entries: the others do not vary.
    let mut at = stochastic().fold(T::zero(), |sum, n| sum - a[n] * row.w[n]);
    for &n in &pieces.start {
        at += a[n] * row.kept[n];
    }
    let mut most = T::zero();
    pieces.for_each(|step, length| {
        if let Some(step) = step {
            at -= a[step.leaves] * row.kept[step.leaves];
            if let Some(n) = step.enters {
                at += a[n] * row.kept[n];
            }
        }
        // Between two steps at the same cut is no mask.
        if length > T::zero() {
            most = larger(most, magnitude(at));
        }
    });
    most
}

fn assert_shapes<T: Field>(problem: &Problem<T>, r: &Functional<T>) {
    let inputs = problem.inputs();
    assert_eq!(r.dq.shape(), inputs.q.shape(), "R_q has the shape of dq");
    assert_eq!(r.dk.shape(), inputs.k.shape(), "R_k has the shape of dk");
    assert_eq!(r.dv.shape(), inputs.v.shape(), "R_v has the shape of dv");
    if let Some(bias) = &r.dbias {
        let expected = inputs.bias.as_ref().map(Tensor::shape);
        assert_eq!(Some(bias.shape()), expected, "R_bias has the shape of dbias");
    }
}

/// Bernstein: `P(|S - E S| >= x) <= 2 exp(-x^2 / (2 V + 2 b x / 3))` for a sum `S` of independent terms, none
/// farther than `b` from its mean, of variance `V`.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::functional::bernstein_tail;
/// let gaussian = 2.0 * (-8.0_f64).exp(); // four standard deviations, of Gaussian terms
/// assert!((bernstein_tail(1.0, 0.0, 4.0) / gaussian - 1.0).abs() < 1e-14);
/// assert!(bernstein_tail(1.0, 0.5, 4.0) > gaussian); // large terms make large deviations more likely
/// assert_eq!(bernstein_tail(1.0, 0.5, 0.0), 1.0);
/// ```
#[must_use]
pub fn bernstein_tail(variance: f64, deviation: f64, distance: f64) -> f64 {
    if distance <= 0.0 {
        return 1.0;
    }
    // Without any variance and range, the sum is its mean.
    let denominator = 2.0 * variance + 2.0 * deviation * distance / 3.0;
    if denominator == 0.0 {
        return 0.0;
    }
    (2.0 * libm::exp(-distance * distance / denominator)).min(1.0)
}

/// The distance that a sum as in [`bernstein_tail`] exceeds with probability at most `alpha`.
///
/// With `l = ln(2 / alpha)` it solves `x^2 = 2 V l + 2 b l x / 3`.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::functional::{bernstein_limit, bernstein_tail};
/// let x = bernstein_limit(2.0, 0.5, 1e-9);
/// assert!((bernstein_tail(2.0, 0.5, x) / 1e-9 - 1.0).abs() < 1e-6);
/// ```
#[must_use]
pub fn bernstein_limit(variance: f64, deviation: f64, alpha: f64) -> f64 {
    let l = libm::log(2.0 / alpha);
    let half = deviation * l / 3.0;
    half + libm::sqrt(half * half + 2.0 * variance * l)
}
