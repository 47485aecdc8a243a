//! From weights to keep probabilities: `q_ij = min(1, lambda_i W_ij)`.
//!
//! Both rules have this form. `paper` (arXiv 2505.15080) takes `lambda_i = c`; `calibrated` takes the
//! `lambda_i` that spends the whole budget, `sum_j q_ij = min(c, visible_i)`. A kept weight is then
//! `W / q = max(W, 1 / lambda_i)`.

use crate::error::Error;
use crate::scalar::{Field, Ring};
use std::fmt;
use std::str::FromStr;

/// The expected number of interactions that a row keeps: a real number above 0, `inf` for the dense backward.
///
/// # Examples
/// ```
/// use sus_reference::sus::Budget;
/// assert!(Budget::new(0.5)? < Budget::new(f64::INFINITY)?); // less than one per row is legal
/// assert!(Budget::new(-1.0).is_err() && Budget::new(f64::NAN).is_err());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Budget(f64);

impl Budget {
    /// A budget of `c` interactions per row.
    ///
    /// # Errors
    /// [`Error::Option`] unless `c > 0`.
    pub fn new(c: f64) -> Result<Self, Error> {
        if c > 0.0 { Ok(Budget(c)) } else { Err(Error::option("c", "a number above 0, or inf", c)) }
    }

    /// The number `c`.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// The rule that turns a row of weights into keep probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// `lambda_i = c`: at most `c` kept in expectation.
    #[default]
    Paper,
    /// `lambda_i` such that `min(c, visible_i)` are kept in expectation.
    Calibrated,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rule::Paper => "paper",
            Rule::Calibrated => "calibrated",
        })
    }
}

impl FromStr for Rule {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "paper" => Ok(Rule::Paper),
            "calibrated" => Ok(Rule::Calibrated),
            _ => Err(Error::option("rule", "'paper' or 'calibrated'", format!("'{name}'"))),
        }
    }
}

impl Rule {
    /// `lambda_i` for a row with these weights: above 0, `inf` when every weight is kept.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Budget, Rule};
    /// let (c, weights) = (Budget::new(2.0)?, [0.75, 0.125, 0.125]);
    /// assert_eq!(Rule::Paper.lambda(c, &weights), 2.0); // 1.5 of 2 are spent
    /// assert_eq!(Rule::Calibrated.lambda(c, &weights), 4.0); // all of them
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn lambda(self, budget: Budget, weights: &[f64]) -> f64 {
        match self {
            Rule::Paper => budget.get(),
            Rule::Calibrated => calibrated_lambda(budget.get(), weights),
        }
    }
}

/// `q = min(1, lambda w)`; 0 for a weight of 0, whatever `lambda`.
///
/// # Examples
/// ```
/// use sus_reference::sus::rule::keep_probability;
/// assert_eq!([0.75, 0.125, 0.0].map(|w| keep_probability(4.0, w)), [1.0, 0.5, 0.0]);
/// ```
#[inline]
#[must_use]
pub fn keep_probability<T: Ring + PartialOrd>(lambda: T, w: T) -> T {
    if w <= T::zero() {
        return T::zero();
    }
    // An infinite lambda keeps every positive weight.
    let q = lambda * w;
    if q < T::one() { q } else { T::one() }
}

/// `w / q = max(w, 1 / lambda)`: the value of a kept weight.
#[inline]
#[must_use]
pub fn kept_weight<T: Field>(lambda: T, w: T) -> T {
    let least = T::one() / lambda;
    if w < least { least } else { w }
}

/// The `lambda` with `sum_j min(1, lambda w_j) = min(c, number of positive weights)`, the sum taken in the order
/// of `j` and never above its target in floating point.
fn calibrated_lambda(c: f64, weights: &[f64]) -> f64 {
    let Some(WaterLevel { mut lambda, rest }) = water_level(c, weights) else {
        return f64::INFINITY;
    };
    // Rounding may leave the sum above c: lower lambda until it is not.
    loop {
        let excess = expected_count(lambda, weights) - c;
        if excess <= 0.0 {
            return lambda;
        }
        lambda = (lambda - excess / rest).min(lambda.next_down());
    }
}

/// The solution of water-filling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaterLevel<T> {
    /// `lambda`.
    pub lambda: T,
    /// The sum of the weights that are not saturated, those with `lambda w <= 1`.
    pub rest: T,
}

/// Solves `sum_j min(1, lambda w_j) = c`; `None` if there are no more than `c` positive weights, so that all are kept.
///
/// If exactly the `m` largest weights are saturated, `m + lambda rest_m = c` with `rest_m` the sum of the others. `m` is
/// the smallest number for which the next weight `w` has `lambda w <= 1`, that is `(c - m) w <= rest_m`. (At equality,
/// saturated or not gives the same `lambda`.) As `w <= rest_m`, the condition holds at the latest for the last `m` below
/// `c`, also in floating point, so `lambda` is never 0.
///
/// # Panics
/// If a weight is NaN.
#[must_use]
pub fn water_level<T: Field>(c: T, weights: &[T]) -> Option<WaterLevel<T>> {
    let mut descending: Vec<T> = weights.iter().copied().filter(|&w| w > T::zero()).collect();
    let count = descending.iter().fold(T::zero(), |n, _| n + T::one());
    if c >= count {
        return None;
    }
    descending.sort_unstable_by(|a, b| b.partial_cmp(a).expect("weights are numbers"));
    // rest[m] is the sum of all but the m largest, smallest first: no cancellation.
    let mut rest = vec![T::zero(); descending.len() + 1];
    for m in (0..descending.len()).rev() {
        rest[m] = rest[m + 1] + descending[m];
    }
    // `left` is c - m, the budget of the entries that are not saturated.
    let mut left = c;
    descending.iter().zip(&rest).find_map(|(&w, &rest)| {
        let budget = left;
        left -= T::one();
        (budget * w <= rest).then(|| WaterLevel { lambda: budget / rest, rest })
    })
}

/// `sum_j min(1, lambda w_j)`, in the order of `j`: the expected number of kept entries of a row.
#[must_use]
pub fn expected_count<T: Ring + PartialOrd>(lambda: T, weights: &[T]) -> T {
    weights.iter().fold(T::zero(), |sum, &w| sum + keep_probability(lambda, w))
}
