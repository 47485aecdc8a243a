//! Projections: what can be told of runs whose masks cannot be decoded.
//!
//! A functional `phi = <R, g~>` is `sum_ij a_ij W~_ij`, a sum of independent terms whose laws are known. Its mean over the runs, its
//! spread, its range, and the products of neighbouring runs are held against that law.

use super::model::{Model, for_each_part, slices};
use super::runs::Runs;
use super::tails::{Atom, Tally};
use super::tests::{FALSE_ALARM, Kind, Tests};
use crate::backward::Gradients;
use crate::sus::moments::functional::{bernstein_limit, bernstein_tail};
use crate::sus::moments::variances;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// A direction by its coefficients of `dq, dk, dv, dbias`.
pub(super) struct Direction {
    pub name: String,
    pub parts: [Vec<f64>; 4],
}

/// The law of one functional.
#[derive(Debug, Clone)]
pub(super) struct Functional {
    pub tally: Tally,
    pub mean: f64,
    pub variance: f64,
    pub fourth: f64,
    pub deviation: f64,
    /// What rounding can do to one value.
    pub rounding: f64,
}

const NAMES: [&str; 4] = ["dq", "dk", "dv", "dbias"];
/// Random directions of each gradient, and of all together.
const RANDOM: usize = 16;

/// The fixed directions: random signs, the truth (a wrong scale), its heads, its large and its small weights.
pub(super) fn directions(
    model: &Model<'_>,
    truth: &Gradients<f64>,
    present: [bool; 4],
) -> Vec<Direction> {
    let variances = variances(&model.law);
    let (truth, variances) = (slices(truth), slices(&variances));
    let scale: Vec<f64> = variances
        .iter()
        .map(|v| {
            let mean = v.iter().sum::<f64>() / v.len().max(1) as f64;
            if mean > 0.0 { 1.0 / libm::sqrt(mean) } else { 0.0 }
        })
        .collect();
    let zero = || variances.map(|v| vec![0.0; v.len()]);
    let mut all = Vec::new();
    let mut rng = ChaCha8Rng::from_seed(*b"sus-oracle/projections/1........");
    for subset in [vec![0], vec![1], vec![2], vec![3], vec![0, 1, 2, 3]] {
        let subset: Vec<usize> = subset.into_iter().filter(|&t| present[t]).collect();
        if subset.is_empty() {
            continue;
        }
        let name = subset.iter().map(|&t| NAMES[t]).collect::<Vec<_>>().join(", ");
        for number in 0..RANDOM {
            let mut parts = zero();
            for &t in &subset {
                for x in &mut parts[t] {
                    *x = if rng.next_u32() >> 31 == 0 { scale[t] } else { -scale[t] };
                }
            }
            all.push(Direction { name: format!("random direction {number} of {name}"), parts });
        }
        // The truth over the variance: a wrong scale, as little disturbed as may be.
        let mut parts = zero();
        for &t in &subset {
            let floor = 1e-6 / (scale[t] * scale[t]).max(f64::MIN_POSITIVE);
            for (x, (g, v)) in parts[t].iter_mut().zip(truth[t].iter().zip(variances[t])) {
                *x = if scale[t] > 0.0 { g / (v + floor) } else { 0.0 };
            }
        }
        all.push(Direction { name: format!("the truth of {name} over its variance"), parts });
        let mut parts = zero();
        for &t in &subset {
            parts[t].iter_mut().zip(truth[t]).for_each(|(x, g)| *x = g * scale[t] * scale[t]);
        }
        all.push(Direction { name: format!("the truth of {name}"), parts });
    }
    let classes = [("q < 1/16", 0.0..0.0625), ("q < 1/2", 0.0..0.5), ("q >= 1/2", 0.5..2.0)];
    for (name, class) in classes {
        let inside = |q: f64| class.contains(&q);
        let mut parts = zero();
        for row in &model.rows {
            for (n, entry) in row.entries.iter().enumerate().filter(|(n, _)| inside(row.law.q[*n]))
            {
                for_each_part(model.problem, row.row, entry, |t, at, x| {
                    parts[t][at] += row.law.w[n] * x * scale[t] * scale[t];
                });
            }
        }
        for (t, part) in parts.iter_mut().enumerate().filter(|(t, _)| !present[*t]) {
            let _ = t;
            part.fill(0.0);
        }
        all.push(Direction { name: format!("the truth of the weights with {name}"), parts });
    }
    all
}

impl Functional {
    /// The law of a direction.
    pub(super) fn new(model: &Model<'_>, direction: &Direction) -> Self {
        let (mut tally, mut mean) = (Vec::new(), 0.0);
        for row in &model.rows {
            let mut a = vec![0.0; row.entries.len()];
            for (a, entry) in a.iter_mut().zip(&row.entries) {
                for_each_part(model.problem, row.row, entry, |t, at, x| {
                    if let Some(r) = direction.parts[t].get(at) {
                        *a += r * x;
                    }
                });
            }
            mean += a.iter().zip(&row.law.w).map(|(a, w)| a * w).sum::<f64>();
            let law = &row.law;
            let undecided = || (0..a.len()).filter(|&n| law.is_undecided(n));
            let Some(pieces) = &law.pieces else {
                tally.extend(
                    undecided().map(|n| Atom::entry(law.q[n], a[n] * law.kept[n], row.slack(n))),
                );
                continue;
            };
            let mut at: f64 = -undecided().map(|n| a[n] * law.w[n]).sum::<f64>();
            at += pieces.start.iter().map(|&n| a[n] * law.kept[n]).sum::<f64>();
            let mut outcomes = Vec::new();
            pieces.for_each(|step, length| {
                if let Some(step) = step {
                    at -= a[step.leaves] * law.kept[step.leaves];
                    at += step.enters.map_or(0.0, |n| a[n] * law.kept[n]);
                }
                outcomes.push((length, at));
            });
            let slack: f64 = undecided().map(|n| row.slack(n)).sum();
            tally.push(Atom { outcomes, slack: 2.0 * slack * (a.len() + 1) as f64 });
        }
        let moment =
            |atom: &Atom, n: i32| -> f64 { atom.outcomes.iter().map(|(p, x)| p * x.powi(n)).sum() };
        let variance: f64 = tally.iter().map(|atom| moment(atom, 2)).sum();
        let excess: f64 = tally
            .iter()
            .map(|atom| moment(atom, 4) - 3.0 * moment(atom, 2) * moment(atom, 2))
            .sum();
        let deviation = tally.iter().map(Atom::deviation).fold(0.0, f64::max);
        let bounds = slices(&model.bounds);
        let rounding = direction
            .parts
            .iter()
            .zip(bounds)
            .map(|(r, b)| r.iter().zip(b).map(|(r, b)| (r * b).abs()).sum::<f64>())
            .sum();
        let fourth = (3.0 * variance * variance + excess).max(variance * variance);
        let tally = Tally::of(tally, 1.0);
        Functional { tally, mean, variance, fourth, deviation, rounding }
    }

    /// No value is farther from the mean, but with a probability that is part of the budget.
    pub(super) fn cut(&self, runs: f64) -> f64 {
        let level = FALSE_ALARM / (1e5 * runs);
        let mut most = bernstein_limit(self.variance, self.deviation, level);
        let mut least = 0.0;
        for _ in 0..12 {
            let middle = 0.5 * (least + most);
            let tail = |x: f64| self.tally.log_tail(x);
            if tail(middle).max(tail(-middle)) < libm::log(level) {
                most = middle;
            } else {
                least = middle;
            }
        }
        most
    }

    /// The values of all runs, less the mean.
    fn values(&self, direction: &Direction, runs: &Runs<'_>) -> Vec<f64> {
        (0..runs.count)
            .into_par_iter()
            .map(|run| {
                let dot = |t: usize| -> f64 {
                    direction.parts[t].iter().zip(runs.of(t, run)).map(|(r, g)| r * g).sum()
                };
                (0..4).map(dot).sum::<f64>() - self.mean
            })
            .collect()
    }

    /// Mean, spread, range and independence of the runs.
    pub(super) fn test(&self, direction: &Direction, runs: &Runs<'_>, tests: &mut Tests) {
        let values = self.values(direction, runs);
        let n = runs.count as f64;
        let name = &direction.name;
        let noise = self.rounding + 1e-13 * self.mean.abs();
        let total: f64 = values.iter().sum();
        let clear = |x: f64, noise: f64| x.signum() * (x.abs() - noise).max(0.0);
        tests.add(Kind::Aimed, self.tally.times(n).log_tail(clear(total, n * noise)), || {
            let found = [total / n + self.mean, self.mean, libm::sqrt(self.variance / n)];
            (format!("the mean of {name}"), found)
        });
        if self.variance == 0.0 {
            return;
        }
        let cut = self.cut(n);
        let largest = values.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let tail = bernstein_tail(self.variance, self.deviation, (largest - noise).max(0.0));
        tests.add(Kind::Aimed, (libm::log(tail) + libm::log(n)).min(0.0), || {
            (format!("the range of {name}"), [largest, 0.0, libm::sqrt(self.variance)])
        });
        let squares: f64 = values.iter().map(|x| (x * x).min(cut * cut)).sum();
        let blur: f64 = values.iter().map(|x| 2.0 * x.abs() * noise + noise * noise).sum();
        let spread = n * (self.fourth - self.variance * self.variance);
        let difference = clear(squares - n * self.variance, blur + 1e-9 * n * self.variance);
        let tail = bernstein_tail(spread, cut * cut, difference.abs());
        tests.add(Kind::Aimed, libm::log(tail), || {
            let found = [squares / n, self.variance, libm::sqrt(spread) / n];
            (format!("the variance of {name}"), found)
        });
        for lag in [1, 2, 3, 4, 8, runs.count / 2] {
            if lag == 0 || lag >= runs.count {
                continue;
            }
            for odd in 0..2 {
                let starts = (0..runs.count - lag).filter(|run| run / lag % 2 == odd);
                let (mut sum, mut count, mut blur) = (0.0, 0.0, 0.0);
                let clip = |x: f64| x.clamp(-cut, cut);
                for run in starts {
                    let (x, y) = (clip(values[run]), clip(values[run + lag]));
                    sum += x * y;
                    count += 1.0;
                    blur += noise * (x.abs() + y.abs() + noise);
                }
                let variance = count * self.variance * self.variance;
                let distance = clear(sum, blur + 1e-9 * variance.sqrt()).abs();
                let tail = bernstein_tail(variance, cut * cut, distance);
                tests.add(Kind::Aimed, libm::log(tail), || {
                    let found = [sum, 0.0, libm::sqrt(variance)];
                    (format!("the products of {name}, {lag} runs apart"), found)
                });
            }
        }
    }
}
