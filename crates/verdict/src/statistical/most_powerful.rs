//! The power that no test exceeds (docs/statistics.md, "The limit of every test").

use super::battery::FALSE_ALARM;
use super::tails::{BoundedVariable, IndependentSum};
use crate::limits::MAX_RUNS_SEARCHED;

/// The smallest number of runs that is enough; `None` beyond `2^40`.
pub(super) fn smallest(enough: impl Fn(usize) -> bool) -> Option<usize> {
    let mut most = 1_usize;
    while !enough(most) {
        most = most.checked_mul(2).filter(|&n| n <= MAX_RUNS_SEARCHED)?;
    }
    let mut least = most / 2;
    while most - least > 1 {
        let middle = least + (most - least) / 2;
        if enough(middle) { most = middle } else { least = middle }
    }
    Some(most)
}

/// The largest power of any test of this level against entries that are kept with the probabilities `wrong` instead of `right`
/// (docs/statistics.md, "The limit of every test").
///
/// With `L` the log-likelihood ratio of all runs and any `tau`, the set where a test fails and `L < tau` has at most `e^tau` times
/// the probability under the wrong distribution that it has under the right one: power `<= P_wrong(L >= tau) + e^tau alpha`.
fn largest_power(right: &[f64], wrong: &[f64], runs: f64, level: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * libm::log(p / q) } else { 0.0 };
    let with = || right.iter().zip(wrong);
    let divergence: f64 = with().map(|(&q, &p)| part(p, q) + part(1.0 - p, 1.0 - q)).sum();
    // Entries that are never or always kept under the wrong distribution have no variance there.
    let varies = with().filter(|(_, p)| **p > 0.0 && **p < 1.0);
    let ratio = |p: f64, q: f64| libm::log(p / q) - libm::log((1.0 - p) / (1.0 - q));
    let variables = varies.map(|(&q, &p)| BoundedVariable::entry(p, ratio(p, q), 0.0)).collect();
    let (null, mean) = (IndependentSum::of(variables, runs), divergence * runs);
    let of = |tau: f64| {
        let above = tau - mean;
        let beyond = if above > 0.0 { null.log_tail_one_sided(above) } else { 0.0 };
        libm::exp(beyond) + libm::exp(tau) * level
    };
    let most = -libm::log(level);
    (0..=100).map(|n| of(most * f64::from(n) / 100.0)).fold(1.0, f64::min)
}

/// The smallest number of runs at which some test may have a power of one half; `None` beyond `2^40`.
pub(super) fn least_runs(right: &[f64], wrong: fn(f64) -> f64) -> Option<usize> {
    let wrong: Vec<f64> = right.iter().map(|&q| wrong(q).clamp(0.0, 1.0)).collect();
    smallest(|runs| largest_power(right, &wrong, runs as f64, FALSE_ALARM) >= 0.5)
}

#[cfg(test)]
mod tests {
    use super::{largest_power, smallest};

    /// The randomized test of Neyman and Pearson of one entry, by its exact binomial distributions, is the most powerful one: the bound is
    /// above its power, and not by much.
    #[test]
    fn the_most_powerful_test_is_below_the_largest_power_and_near_it() {
        for (q, p, runs, level) in [
            (0.3, 0.6, 20, 1e-3),
            (0.5, 0.4, 400, 1e-4),
            (0.02, 0.0, 900_i32, 1e-6),
            (0.1, 0.2, 60, 1e-9),
        ] {
            let (q, p, level): (f64, f64, f64) = (q, p, level);
            let distribution = |q: f64| -> Vec<f64> {
                let choose = |n: i32| -> f64 {
                    (0..n).map(|k| f64::from(runs - k) / f64::from(k + 1)).product()
                };
                (0..=runs).map(|n| choose(n) * q.powi(n) * (1.0 - q).powi(runs - n)).collect()
            };
            let (right, wrong) = (distribution(q), distribution(p));
            // Outcomes in the order of their likelihood ratios, from an end: all of the level is spent.
            let (mut left, mut power) = (level, 0.0);
            for n in 0..=runs as usize {
                let n = if p > q { runs as usize - n } else { n };
                let share = (left / right[n]).min(1.0);
                left -= share * right[n];
                power += share * wrong[n];
            }
            let bound = largest_power(&[q], &[p], f64::from(runs), level);
            assert!(power <= bound && bound <= 4.0 * power + 0.01, "{q} {p} {power} {bound}");
        }
        let half = |runs: usize| largest_power(&[0.5], &[0.4], runs as f64, 1e-4) >= 0.5;
        // About 3.7 standard deviations of a likelihood ratio that grows by 0.2 of one with each root of a run.
        let least = smallest(half).unwrap();
        assert!((150..=345).contains(&least), "{least}");
    }
}
