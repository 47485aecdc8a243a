//! The optimum of `sum y^2 (1 - q) / q`, against every set of saturated entries and against other probabilities.

use proptest::prelude::*;
use sus_reference::sus::optimum::{least_variance, multiplier};
use sus_reference::sus::rule::keep_probability;

const U: f64 = f64::EPSILON / 2.0;

/// `mu` by trying every number of saturated entries: those of the largest `y`, which all have `mu y >= 1`, while the
/// largest of the others has `mu y <= 1`.
fn by_trying(y: &[f64], budget: f64) -> f64 {
    let mut descending: Vec<f64> = y.iter().copied().filter(|&y| y > 0.0).collect();
    descending.sort_unstable_by(|a, b| b.total_cmp(a));
    (0..descending.len())
        .map(|saturated| {
            let rest: f64 = descending[saturated..].iter().rev().sum();
            ((budget - saturated as f64) / rest, descending[saturated])
        })
        .find(|&(mu, next)| mu > 0.0 && mu * next <= 1.0)
        .expect("a budget below the number of entries")
        .0
}

/// `sum y^2 (1 - q) / q` for these probabilities.
fn variance(y: &[f64], q: &[f64]) -> f64 {
    y.iter().zip(q).filter(|&(&y, _)| y > 0.0).map(|(y, q)| y * y * (1.0 - q) / q).sum()
}

/// Multiples of 1/16, zeros and ties among them, and a budget below the number of those above 0, in quarters: all sums
/// are exact.
fn cases() -> impl Strategy<Value = (Vec<f64>, f64)> {
    let y = proptest::collection::vec(0..24_u32, 1..10)
        .prop_filter("a number above 0", |y| y.iter().any(|&n| n > 0));
    y.prop_flat_map(|y| {
        let positive = y.iter().filter(|&&n| n > 0).count() as u32;
        let y: Vec<f64> = y.into_iter().map(|n| f64::from(n) / 16.0).collect();
        (Just(y), (1..4 * positive).prop_map(|quarters| f64::from(quarters) / 4.0))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// `mu` is one quotient of exact numbers in both, and equal unless the next `mu y` is 1 up to rounding, where both
    /// numbers of saturated entries give the same `mu`.
    #[test]
    fn the_multiplier_is_that_of_some_number_of_saturated_entries(
        (y, budget) in cases(),
    ) {
        let (found, expected) = (multiplier(&y, budget), by_trying(&y, budget));
        prop_assert!((found / expected - 1.0).abs() <= 4.0 * U, "{found} for {expected}");
        // The budget is spent: each of n products and n - 1 additions rounds once, mu twice.
        let sum: f64 = y.iter().map(|&y| keep_probability(found, y)).sum();
        let allowed = (2.0 * y.len() as f64 + 2.0) * U;
        prop_assert!((sum / budget - 1.0).abs() <= allowed, "{sum} of {budget}");
    }

    /// The variance is that of `q = min(1, mu y)`, and moving probability from one entry to another makes it larger.
    #[test]
    fn no_other_probabilities_of_the_same_sum_have_less_variance(
        (y, budget) in cases(), part in 0.01..0.99_f64,
    ) {
        let mu = multiplier(&y, budget);
        let q: Vec<f64> = y.iter().map(|&y| keep_probability(mu, y)).collect();
        let least = least_variance(&y, budget);
        // A term y (1/mu - y) or y^2 (1 - q) / q has four roundings relative to y/mu, each sum n more.
        let scale: f64 = y.iter().zip(&q).filter(|&(_, &q)| q < 1.0).map(|(y, _)| y / mu).sum();
        let allowed = (8.0 + 2.0 * y.len() as f64) * U * scale;
        prop_assert!((variance(&y, &q) - least).abs() <= allowed);
        for from in 0..y.len() {
            for to in 0..y.len() {
                if from == to || y[from] == 0.0 || y[to] == 0.0 {
                    continue;
                }
                let step = part * q[from].min(1.0 - q[to]);
                let mut other = q.clone();
                other[from] -= step;
                other[to] += step;
                prop_assert!(variance(&y, &other) >= least - allowed, "{from} to {to}");
            }
        }
    }
}

#[test]
fn a_budget_for_every_entry_leaves_no_variance_and_none_leaves_no_bound() {
    let y = [0.5, 0.0, 0.25];
    assert_eq!(least_variance(&y, 2.0), 0.0);
    assert_eq!(least_variance(&y, 2.5), 0.0);
    assert!(least_variance(&y, 2.0_f64.next_down()) > 0.0);
    assert_eq!(least_variance(&y, 0.0), f64::INFINITY);
    assert_eq!(multiplier(&y, 0.0), 0.0);
    assert_eq!(least_variance(&[], 1.0), 0.0);
    // Exactly, although 1 / 49 * 49 is below 1.
    assert_eq!(least_variance(&[49.0], 1.0), 0.0);
    assert_eq!(least_variance(&[49.0, 0.0], 1.0), 0.0);
}

#[test]
fn a_large_entry_is_saturated_and_the_rest_shares_what_is_left() {
    let y = [0.75, 0.125, 0.125];
    assert_eq!(multiplier(&y, 2.0), 4.0);
    assert_eq!(least_variance(&y, 2.0), 2.0 * 0.125 * (0.25 - 0.125));
    assert_eq!(multiplier(&y, 0.5), 0.5);
    assert_eq!(least_variance(&y, 0.5), 0.75 * 1.25 + 2.0 * 0.125 * 1.875);
}
