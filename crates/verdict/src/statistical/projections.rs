//! Tests of projections, for runs whose masks are not recovered (docs/statistics.md, "Projections").
//!
//! A functional `phi = <R, g~>` is `sum_ij a_ij W~_ij`, a sum of independent terms whose distributions are known. Tested are its mean over
//! the runs, its variance, its range, the products of runs some steps apart, and the products of two functionals of one run.

use super::battery::{AlphaClass, Tests};
use super::functional::{DirectionDistribution, Functional};
use super::model::Model;
use super::projection_vectors::Directions;
use super::runs::{Projected, Runs};
use crate::candidate::GRADIENTS;
use rayon::prelude::*;
use sus_reference::sus::moments::functional::bernstein_tail;

/// The values of all runs on all directions.
pub(super) fn project(directions: &Directions, runs: &Runs<'_>) -> Projected {
    let values = std::array::from_fn(|t| {
        if runs.gradients[t].is_empty() {
            return Vec::new();
        }
        (0..runs.count)
            .into_par_iter()
            .flat_map_iter(|run| {
                let g = runs.of(t, run);
                (0..directions.count())
                    .map(move |p| directions.of(p)[t].iter().zip(g).map(|(r, g)| r * g).sum())
            })
            .collect()
    });
    Projected { count: runs.count, values, unit: 0.0 }
}

/// Every test of every direction: each gradient's own projection, the sum of all, and their products.
pub(super) fn test(
    model: &Model<'_>,
    directions: &Directions,
    projected: &Projected,
    tests: &mut Tests,
) {
    let present: [bool; 4] = std::array::from_fn(|t| !projected.values[t].is_empty());
    let single = |t: usize| std::array::from_fn(|other| other == t);
    let mut before: Option<(Functional, DirectionDistribution, Vec<f64>)> = None;
    for (p, name) in directions.names.iter().enumerate() {
        let joint = DirectionDistribution::new(model, directions.of(p));
        let mut singles: Vec<(usize, Functional, Vec<f64>)> = Vec::new();
        for t in (0..4).filter(|&t| present[t]) {
            let functional = joint.functional(single(t), projected.unit);
            let values = functional.values(directions.count(), p, single(t), projected);
            functional.test(&format!("{name}, of {}", GRADIENTS[t]), &values, tests);
            singles.push((t, functional, values));
        }
        for (at, (t, first, x)) in singles.iter().enumerate() {
            for (u, second, y) in &singles[at + 1..] {
                let distribution = joint.product(single(*t), &joint, single(*u));
                let of = format!("{name}, of {} and of {}", GRADIENTS[*t], GRADIENTS[*u]);
                products(&of, [first, second], [x, y], distribution, tests);
            }
        }
        let all = joint.functional(present, projected.unit);
        let values = all.values(directions.count(), p, present, projected);
        all.test(&format!("{name}, of all gradients"), &values, tests);
        if !directions.heads.contains(&p) {
            continue;
        }
        if let Some((first, other, x)) = &before {
            let distribution = other.product(present, &joint, present);
            let of = format!("{}, and {name}", directions.names[p - 1]);
            products(&of, [first, &all], [x, &values], distribution, tests);
        }
        before = Some((all, joint, values));
    }
}

/// A distance from the expectation, less the rounding error.
fn clear(x: f64, noise: f64) -> f64 {
    x.signum() * (x.abs() - noise).max(0.0)
}

/// The products of two functionals of the same run, against their covariance.
fn products(
    what: &str,
    [first, second]: [&Functional; 2],
    [x, y]: [&[f64]; 2],
    [covariance, variance]: [f64; 2],
    tests: &mut Tests,
) {
    if first.variance == 0.0 || second.variance == 0.0 {
        return;
    }
    let n = x.len() as f64;
    let ((cut, p), (other, q)) = (first.cut(n), second.cut(n));
    // The covariance of two functionals moves by at most twice the root of the product of what their squares move by.
    let moved = 2.0 * libm::sqrt(first.moved * second.moved);
    let variance = variance + first.largest_moved(second);
    let lost = n * (moved + libm::sqrt((variance + covariance * covariance) * (p + q)));
    let (mut sum, mut blur) = (0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x.clamp(-cut, cut), y.clamp(-other, other));
        sum += x * y;
        blur += first.noise() * y.abs() + second.noise() * x.abs() + first.noise() * second.noise();
    }
    let scale = libm::sqrt(first.variance * second.variance);
    let distance = clear(sum - n * covariance, blur + lost + 1e-9 * n * scale).abs();
    // The variance is E x^2 - (E x)^2: if the mean loses `lost`, its square loses 2 |covariance| lost.
    let spread = n * variance + 2.0 * covariance.abs() * lost;
    let tail = bernstein_tail(spread, cut * other + covariance.abs(), distance);
    tests.add(AlphaClass::Aimed, libm::log(tail), || {
        let found = [sum / n, covariance, libm::sqrt(variance / n)];
        (format!("the covariance of {what}"), found)
    });
}

impl Functional {
    /// The rounding error of one value, and of the mean that is subtracted from it, which is computed in f64.
    fn noise(&self) -> f64 {
        self.rounding + 1e-13 * self.mean.abs()
    }

    /// The values of all runs, less the mean.
    fn values(&self, count: usize, p: usize, of: [bool; 4], projected: &Projected) -> Vec<f64> {
        let value = |run: usize| -> f64 {
            (0..4).filter(|&t| of[t]).map(|t| projected.values[t][run * count + p]).sum()
        };
        (0..projected.count).map(|run| value(run) - self.mean).collect()
    }

    /// Mean, spread, range and independence of the runs.
    fn test(&self, name: &str, values: &[f64], tests: &mut Tests) {
        let (runs, noise) = (values.len(), self.noise());
        let n = runs as f64;
        if self.variance == 0.0 {
            // The value is constant but for rounding, which has a bound: a finding is certain.
            let worst =
                values.iter().fold(0.0_f64, |most, &x| if x.abs() > most.abs() { x } else { most });
            let log_p = if worst.abs() > noise { f64::NEG_INFINITY } else { 0.0 };
            tests.add(AlphaClass::First, log_p, || {
                (format!("{name}, which does not vary"), [worst + self.mean, self.mean, 0.0])
            });
            return;
        }
        let total: f64 = values.iter().sum();
        tests.add(AlphaClass::First, self.null.times(n).log_tail(clear(total, n * noise)), || {
            let found = [total / n + self.mean, self.mean, libm::sqrt(self.variance / n)];
            (format!("the mean of {name}"), found)
        });
        let (cut, p) = self.cut(n);
        let largest = values.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let log_tail = self.null.log_tail((largest - noise).max(0.0));
        let log_tail = log_tail.max(self.null.log_tail(-(largest - noise).max(0.0)));
        tests.add(AlphaClass::Aimed, (log_tail + libm::log(n)).min(0.0), || {
            (format!("the range of {name}"), [largest, 0.0, libm::sqrt(self.variance)])
        });
        let squares: f64 = values.iter().map(|x| (x * x).min(cut * cut)).sum();
        let blur: f64 = values.iter().map(|x| 2.0 * x.abs() * noise + noise * noise).sum();
        let lost = n * (libm::sqrt(self.fourth * p) + self.moved + 1e-9 * self.variance);
        let difference = clear(squares - n * self.variance, blur + lost);
        let spread = n * (self.fourth - self.variance * self.variance) + 2.0 * self.variance * lost;
        let tail = bernstein_tail(spread, cut * cut, difference.abs());
        tests.add(AlphaClass::Aimed, libm::log(tail), || {
            let found = [squares / n, self.variance, libm::sqrt(spread) / n];
            (format!("the variance of {name}"), found)
        });
        for lag in [1, 2, 3, 4, 8, runs / 2] {
            if lag == 0 || lag >= runs {
                continue;
            }
            for odd in 0..2 {
                let starts = (0..runs - lag).filter(|run| run / lag % 2 == odd);
                let (mut sum, mut count, mut blur) = (0.0, 0.0, 0.0);
                let clip = |x: f64| x.clamp(-cut, cut);
                for run in starts {
                    let (x, y) = (clip(values[run]), clip(values[run + lag]));
                    sum += x * y;
                    count += 1.0;
                    blur += noise * (x.abs() + y.abs() + noise);
                }
                let largest = self.variance + self.moved;
                let variance = count * largest * largest;
                // The means of two clipped independent values are within this of 0.
                let mean = self.drift + libm::sqrt(largest * p);
                let lost = count * mean * mean + 1e-9 * libm::sqrt(variance);
                let distance = clear(sum, blur + lost).abs();
                let tail = bernstein_tail(variance, cut * cut, distance);
                tests.add(AlphaClass::Aimed, libm::log(tail), || {
                    let found = [sum, 0.0, libm::sqrt(variance)];
                    (format!("the products of {name}, {lag} runs apart"), found)
                });
            }
        }
    }
}
