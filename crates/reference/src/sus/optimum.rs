//! The probabilities of least variance at a given expected number of kept entries.
//!
//! A gradient's mask variance, summed over its elements, is `sum A W^2 (1 - q) / q` with `A = |d(gradient)/dW~|^2`:
//!
//! ```text
//! dq: A_ij = f_ij^2 |k_j|^2      dk: A_ij = f_ij^2 |q_i|^2      dv: A_ij = |G_i|^2
//! ```
//!
//! Among all `0 < q <= 1` with `sum q = S` it is least for `q = min(1, mu W sqrt(A))`, with the `mu` that spends `S`
//! (proof: `docs/moments.md`). A rule that knows `W` alone must take all `A` as equal. Then `q = min(1, lambda W)`, which
//! within one row is the optimum for `dv`.

use super::rule::keep_probability;

/// The least `sum y^2 (1 - q) / q`, `y = W sqrt(A) >= 0`, over all `0 < q <= 1` with `sum q = budget`.
///
/// Entries with `y = 0` need no budget.
///
/// # Examples
/// ```
/// use sus_reference::sus::optimum::{least_variance, multiplier};
/// let y: [f64; 3] = [0.75, 0.125, 0.125];
/// let mu = multiplier(&y, 2.0);
/// assert_eq!(mu, 4.0); // q = 1, 1/2, 1/2
/// assert_eq!(least_variance(&y, 2.0), 2.0 * 0.125 * 0.125);
/// ```
#[must_use]
pub fn least_variance(y: &[f64], budget: f64) -> f64 {
    let positive = y.iter().filter(|&&y| y > 0.0).count();
    if budget >= positive as f64 {
        return 0.0;
    }
    // y^2 (1 - q) / q = y (1 / mu - y) at q = mu y; rounding may leave it below 0 where mu y is almost 1.
    let mu = multiplier(y, budget);
    if mu <= 0.0 {
        return f64::INFINITY;
    }
    y.iter()
        .filter(|&&y| y > 0.0 && keep_probability(mu, y) < 1.0)
        .map(|&y| y * (1.0 / mu - y).max(0.0))
        .sum()
}

/// `mu` with `sum min(1, mu y) = budget`, for a budget below the number of positive `y`; 0 for a budget of 0.
///
/// Newton's method on a concave, piecewise linear function. At first no entry is saturated; every step saturates all
/// entries whose `mu y` reaches 1 and raises `mu`. The last step is exact.
#[must_use]
pub fn multiplier(y: &[f64], budget: f64) -> f64 {
    let mut mu = 0.0;
    let mut saturated = 0;
    // Where some mu y is 1 up to rounding, steps could alternate: stop unless the number of saturated entries rises.
    loop {
        let unsaturated = y.iter().copied().filter(|&y| y > 0.0 && keep_probability(mu, y) < 1.0);
        let (count, sum) = unsaturated.fold((0_usize, 0.0), |(n, sum), y| (n + 1, sum + y));
        let saturated_now = y.iter().filter(|&&y| y > 0.0).count() - count;
        let left = budget - saturated_now as f64;
        if count == 0 || left <= 0.0 || (mu > 0.0 && saturated_now <= saturated) {
            return mu;
        }
        saturated = saturated_now;
        mu = left / sum;
    }
}
