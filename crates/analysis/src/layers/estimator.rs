//! Which unbiased estimator is drawn: the budgets of the rows, what is subtracted from the keys and from the weights.
//!
//! ```text
//! dq_i = sum_j W_ij f_ij (k_j - kappa) + kappa sum_j W_ij f_ij       W = u_i + (W - u_i)
//! ```
//!
//! Both hold for any `kappa` of a head and any `u_i` of a row. What is left of `W` is sampled, the rest is computed exactly.
//! `docs/budgets.md` derives what that costs.

use std::fmt;
use std::str::FromStr;
use sus_reference::error::Error;
use sus_reference::problem::{Problem, Row};
use sus_reference::scalar::Scalar;
use sus_reference::tensor::{Tensor, add_scaled, dot, squared_norms};

/// The budget of a row: `lambda_i = c s_i`, with a scale `s_i` that no mask enters, so that any choice is unbiased.
///
/// # Examples
/// ```
/// use sus_analysis::layers::RowBudgets;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// assert!(RowBudgets::Uniform.scales(&problem, 0, 0).iter().all(|&s| s == 1.0));
/// let scales = RowBudgets::Cotangent.scales(&problem, 0, 0);
/// let mean = scales.iter().sum::<f64>() / scales.len() as f64;
/// assert!((mean - 1.0).abs() < 1e-14);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowBudgets {
    /// `s_i = 1`: the paper's rule.
    #[default]
    Uniform,
    /// `s_i = |(G_i, dlse_i)|`, over its mean over the rows of the head. Where all of it is zero the row adds nothing to any
    /// gradient, and keeps nothing.
    Cotangent,
}

impl RowBudgets {
    /// `s_i` for the rows of head `(b, h)`, with a mean of 1 unless all are 0.
    #[must_use]
    pub fn scales<T: Scalar>(self, problem: &Problem<T>, b: usize, h: usize) -> Vec<f64> {
        let queries = problem.sizes().queries;
        if self == RowBudgets::Uniform {
            return vec![1.0; queries];
        }
        let norm = |i: usize| {
            let row = Row { b, h, i };
            let (g, dlse) = (problem.g(row), problem.dlse(row));
            (dot(g, g) + dlse * dlse).sqrt().to_f64()
        };
        let norms: Vec<f64> = (0..queries).map(norm).collect();
        let mean = norms.iter().sum::<f64>() / queries as f64;
        norms.iter().map(|&x| if mean > 0.0 { x / mean } else { 0.0 }).collect()
    }
}

/// An unbiased estimator. The default is that of SUS.
///
/// # Examples
/// ```
/// use sus_analysis::layers::{Estimator, RowBudgets};
/// let sus = Estimator::default();
/// assert!(sus.rows == RowBudgets::Uniform && !sus.centred_keys && !sus.remainder);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimator {
    /// The budgets of the rows.
    pub rows: RowBudgets,
    /// `dq` is sampled with the keys less their mean over the head; `kappa sum_j W_ij f_ij` is known without a sum over keys.
    /// Not with a softcap, where that sum is not known.
    pub centred_keys: bool,
    /// `W_ij - u_i` is sampled in place of `W_ij`, `u_i` the median weight of the row's visible keys, and the part of `u_i` is
    /// computed exactly. Not with a softcap or dropout, where `f` is no product of a query's and a key's factors.
    pub remainder: bool,
}

impl Estimator {
    /// Whether the exact part can be computed for this problem.
    ///
    /// # Errors
    /// [`Error::Option`] if not.
    pub(super) fn check<T: Scalar>(self, problem: &Problem<T>) -> Result<(), Error> {
        let options = problem.options();
        let refuse = |expected| Err(Error::option("estimator", expected, "one with them"));
        match () {
            () if self.centred_keys && options.softcap.is_some() => {
                refuse("a problem without a softcap for centred keys")
            }
            () if self.remainder && (options.softcap.is_some() || options.dropout.is_some()) => {
                refuse("a problem without softcap and dropout for a remainder")
            }
            () => Ok(()),
        }
    }

    /// Replaces each weight of a row by what of it is sampled, `|W - u|`. Its sign changes no moment of second order.
    pub(super) fn sampled(self, weights: &mut [f64]) {
        if !self.remainder || weights.is_empty() {
            return;
        }
        let mut sorted = weights.to_vec();
        let middle = (sorted.len() - 1) / 2;
        let (_, &mut u, _) = sorted.select_nth_unstable_by(middle, f64::total_cmp);
        for w in weights {
            *w = (*w - u).abs();
        }
    }

    /// `|k_j - kappa|^2` of every key, in the order of the keys.
    pub(super) fn k_squared(self, k: &Tensor<f64>) -> Vec<f64> {
        if !self.centred_keys {
            return squared_norms(k);
        }
        let [batch, heads, keys, features] = k.shape();
        let mut squared = Vec::with_capacity(batch * heads * keys);
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let mut mean = vec![0.0; features];
            for j in 0..keys {
                add_scaled(&mut mean, 1.0 / keys as f64, k.row(b, h, j));
            }
            let distance = |j: usize| -> f64 {
                k.row(b, h, j).iter().zip(&mean).map(|(k, mean)| (k - mean) * (k - mean)).sum()
            };
            squared.extend((0..keys).map(distance));
        }
        squared
    }

    /// Its name in a report.
    pub(super) fn describe(self) -> String {
        let rows = match self.rows {
            RowBudgets::Uniform => "c for every row of a head",
            RowBudgets::Cotangent => "c times |(G_i, dlse_i)| over its mean in the head",
        };
        let keys = if self.centred_keys { "; dq by keys less their mean" } else { "" };
        let rest = if self.remainder { "; W less its row's median is sampled" } else { "" };
        format!("{rows}{keys}{rest}")
    }
}

impl fmt::Display for RowBudgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RowBudgets::Uniform => "uniform",
            RowBudgets::Cotangent => "cotangent",
        })
    }
}

impl FromStr for RowBudgets {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "uniform" => Ok(RowBudgets::Uniform),
            "cotangent" => Ok(RowBudgets::Cotangent),
            _ => Err(Error::option("rows", "'uniform' or 'cotangent'", format!("'{name}'"))),
        }
    }
}
