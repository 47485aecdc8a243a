//! The deviance of how often each entry is kept: it detects wrong probabilities of any kind (docs/statistics.md, "Tests of the masks").
//!
//! For an entry kept in `n` of `S` runs, the deviance is `n ln (n / S q) + (S - n) ln ((S - n) / S (1 - q))`. It is convex in `n`, so
//! its exponential's mean over a binomial distribution is convex in the probability (Bernstein), and largest at an end of the interval
//! that rounding
//! allows. That mean is summed over all `n`, and the entries are independent: Chernoff's bound with it is a valid p-value.

use super::battery::Tests;
use super::masks::Masks;
use crate::limits::MAX_RUNS_OF_DEVIANCE;

/// The exponents that are tried.
const THETAS: [f64; 8] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Terms below `e^-40` are bounded by it, not computed.
const NEGLIGIBLE: f64 = 40.0;

/// `n ln (n / S q) + (S - n) ln ((S - n) / S (1 - q))`.
fn deviance(n: f64, runs: f64, q: f64) -> f64 {
    let part = |n: f64, p: f64| if n > 0.0 { n * libm::log(n / (runs * p)) } else { 0.0 };
    (part(n, q) + part(runs - n, 1.0 - q)).max(0.0)
}

/// `ln E exp(theta deviance)` for each theta, if the probability is `p` and the deviance is about `q`.
fn log_moments(runs: usize, p: f64, q: f64) -> [f64; 8] {
    let s = runs as f64;
    let (log_p, log_rest) = (libm::log(p), libm::log1p(-p));
    let mut sums = [0.0; 8];
    // P(n) <= exp(-deviance about p), so the terms that are left out are small.
    let mut left_out = 0.0;
    let (mut binomial, center) = (0.0, s * q);
    for n in 0..=runs {
        let at = n as f64;
        if n > 0 {
            binomial += libm::log((s - at + 1.0) / at);
        }
        let log_probability = binomial + at * log_p + (s - at) * log_rest;
        let far = deviance(at, s, q);
        if log_probability + THETAS[7] * far < -NEGLIGIBLE && (at - center).abs() > 1.0 {
            left_out += 1.0;
            continue;
        }
        for (sum, theta) in sums.iter_mut().zip(THETAS) {
            *sum += libm::exp(log_probability + theta * far);
        }
    }
    sums.map(|sum| libm::log(sum + left_out * libm::exp(-NEGLIGIBLE)) + 1e-9)
}

/// Tests the sums of the deviances of all entries, and of each group of them.
pub(super) fn test(masks: &Masks<'_>, tests: &mut Tests) {
    if masks.is_systematic() || masks.runs > MAX_RUNS_OF_DEVIANCE || masks.runs == 0 {
        return;
    }
    let runs = masks.runs as f64;
    let deviances: Vec<f64> =
        (0..masks.q.len()).map(|at| deviance(masks.count(at), runs, masks.q[at])).collect();
    let moments: Vec<[f64; 8]> = (0..masks.q.len())
        .map(|at| {
            let (q, slack) = (masks.q[at], masks.slack[at]);
            let ends = [-1.0, 1.0].map(|sign| (q + sign * slack).clamp(1e-300, 1.0 - 1e-16));
            let [a, b] = ends.map(|p| log_moments(masks.runs, p, q));
            std::array::from_fn(|n| a[n].max(b[n]))
        })
        .collect();
    for (class, name, group) in masks.groups() {
        let found: f64 = group.iter().map(|&at| deviances[at]).sum();
        let log_p = (0..8)
            .map(|n| group.iter().map(|&at| moments[at][n]).sum::<f64>() - THETAS[n] * found)
            .fold(0.0, f64::min);
        tests.add(class, log_p, || {
            let half = group.len() as f64 / 2.0;
            let what = format!("how often each entry of {name} is kept, the deviance");
            (what, [found, half, libm::sqrt(half)])
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{THETAS, deviance, log_moments};

    /// Against the sum over all counts in plain probabilities, and the distribution that it tends to: `-ln (1 - theta) / 2`.
    #[test]
    fn the_moments_of_the_deviance_are_those_of_the_law_and_grow_with_what_rounding_allows() {
        for (runs, q) in [(5_i32, 0.3_f64), (60, 0.02), (60, 0.5), (300, 0.2)] {
            let plain: Vec<f64> = THETAS
                .iter()
                .map(|theta| {
                    let mut probability = (1.0 - q).powi(runs);
                    let mut sum = 0.0_f64;
                    for n in 0..=runs {
                        let far = deviance(f64::from(n), f64::from(runs), q);
                        sum += probability * (theta * far).exp();
                        probability *= f64::from(runs - n) / f64::from(n + 1) * q / (1.0 - q);
                    }
                    sum.ln()
                })
                .collect();
            let moments = log_moments(runs as usize, q, q);
            for (n, (a, b)) in plain.iter().zip(moments).enumerate() {
                assert!((a - b).abs() < 1e-8, "{runs} {q} {a} {b}");
                if runs == 300 && n < 5 {
                    let limit = -0.5 * (1.0 - THETAS[n]).ln();
                    assert!((b / limit - 1.0).abs() < 0.05, "{n} {b} {limit}");
                }
            }
            for p in [0.99 * q, 1.01 * q] {
                let middle = log_moments(runs as usize, f64::midpoint(p, q), q);
                let end = log_moments(runs as usize, p, q);
                assert!((0..8).all(|n| middle[n] <= end[n].max(moments[n])), "{runs} {p}");
            }
        }
    }
}
