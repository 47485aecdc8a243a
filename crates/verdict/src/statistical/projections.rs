//! Projections: what can be told of runs whose masks cannot be decoded.
//!
//! A functional `phi = <R, g~>` is `sum_ij a_ij W~_ij`, a sum of independent terms whose laws are known. Its mean over the runs, its
//! spread, its range, the products of runs some steps apart, and of two functionals of one run, are held against that law.

use super::GRADIENTS;
use super::battery::{AlphaClass, Tests};
use super::model::{Model, for_each_part, slices};
use super::projection_vectors::Directions;
use super::runs::{Projected, Runs};
use super::tails::{BoundedVariable, IndependentSum};
use rayon::prelude::*;
use sus_reference::sus::moments::functional::{bernstein_limit, bernstein_tail};

/// Sums of more terms are near enough to normal for Bernstein's limit; exact tails of so many take long.
const LARGEST: usize = 4096;

/// An independent term of the projections of all gradients on one direction.
#[derive(Debug, Clone)]
struct Term {
    /// `(probability, deviation of each gradient's projection)`.
    outcomes: Vec<(f64, [f64; 4])>,
    slack: f64,
}

/// The joint law of the projections of all gradients on one direction.
#[derive(Debug, Clone)]
pub(super) struct Joint {
    terms: Vec<Term>,
    mean: [f64; 4],
    rounding: [f64; 4],
    /// The largest `sum |R| |g~|`, which the rounding of the projection itself is a part of.
    reach: [f64; 4],
}

/// The law of one functional.
#[derive(Debug, Clone)]
pub(super) struct Functional {
    pub tally: IndependentSum<'static>,
    pub mean: f64,
    pub variance: f64,
    pub fourth: f64,
    pub deviation: f64,
    /// What rounding can do to one value.
    pub rounding: f64,
    /// How far the rounding of the keep probabilities can move the mean.
    drift: f64,
    /// And the mean square of the distance from `mean`.
    moved: f64,
}

impl Joint {
    /// The law of a direction.
    pub(super) fn new(model: &Model<'_>, parts: [&[f64]; 4]) -> Self {
        let (mut terms, mut mean) = (Vec::new(), [0.0; 4]);
        for row in &model.rows {
            let law = &row.law;
            let mut a = vec![[0.0; 4]; row.entries.len()];
            for (n, (a, entry)) in a.iter_mut().zip(&row.entries).enumerate() {
                for_each_part(model.problem, row.row, entry, |t, at, x| {
                    if let Some(r) = parts[t].get(at) {
                        a[t] += r * x;
                    }
                });
                mean = std::array::from_fn(|t| mean[t] + a[t] * law.w[n]);
            }
            let undecided = || (0..a.len()).filter(|&n| law.is_stochastic(n));
            let Some(pieces) = &law.pieces else {
                terms.extend(undecided().map(|n| {
                    let (q, x) = (law.q[n], a[n].map(|a| a * law.kept[n]));
                    let outcomes =
                        vec![(q, x.map(|x| x * (1.0 - q))), (1.0 - q, x.map(|x| -x * q))];
                    Term { outcomes, slack: row.slack(n) }
                }));
                continue;
            };
            let mut at = [0.0; 4];
            let add = |at: &mut [f64; 4], n: usize, x: f64| {
                *at = std::array::from_fn(|t| at[t] + a[n][t] * x);
            };
            undecided().for_each(|n| add(&mut at, n, -law.w[n]));
            pieces.start.iter().for_each(|&n| add(&mut at, n, law.kept[n]));
            let mut outcomes = Vec::new();
            pieces.for_each(|step, length| {
                if let Some(step) = step {
                    add(&mut at, step.leaves, -law.kept[step.leaves]);
                    if let Some(n) = step.enters {
                        add(&mut at, n, law.kept[n]);
                    }
                }
                outcomes.push((length, at));
            });
            // Rounding can make sets that no piece is: their sums are between these two.
            for pick in [f64::min, f64::max] {
                let mut at = [0.0; 4];
                for n in undecided() {
                    let kept = |t: usize| pick(a[n][t] * law.kept[n], 0.0) - a[n][t] * law.w[n];
                    at = std::array::from_fn(|t| at[t] + kept(t));
                }
                outcomes.push((0.0, at));
            }
            terms.push(Term { outcomes, slack: row.row_slack() });
        }
        let dot = |t: usize, other: &[f64]| -> f64 {
            parts[t].iter().zip(other).map(|(r, b)| (r * b).abs()).sum()
        };
        let (bounds, sizes) = (slices(&model.bounds), slices(&model.sizes));
        Joint {
            terms,
            mean,
            rounding: std::array::from_fn(|t| dot(t, bounds[t])),
            reach: std::array::from_fn(|t| dot(t, sizes[t])),
        }
    }

    /// The law of the sum over some gradients; `unit` is the roundoff that values were projected with.
    pub(super) fn functional(&self, of: [bool; 4], unit: f64) -> Functional {
        let pick = |x: &[f64; 4]| (0..4).filter(|&t| of[t]).map(|t| x[t]).sum::<f64>();
        let atoms: Vec<BoundedVariable> = self
            .terms
            .iter()
            .map(|term| {
                let outcomes = term.outcomes.iter().map(|(p, x)| (*p, pick(x))).collect();
                BoundedVariable { outcomes, slack: term.slack }
            })
            .collect();
        let moment = |atom: &BoundedVariable, n: i32| -> f64 {
            atom.outcomes.iter().map(|(p, x)| p * x.powi(n)).sum()
        };
        let variance: f64 = atoms.iter().map(|atom| moment(atom, 2)).sum();
        let excess: f64 = atoms
            .iter()
            .map(|atom| moment(atom, 4) - 3.0 * moment(atom, 2) * moment(atom, 2))
            .sum();
        let deviation = atoms.iter().map(BoundedVariable::deviation).fold(0.0, f64::max);
        // To move a probability of `s` within a range of `r` moves a mean by `s r`, a variance by `s r^2`.
        let with = |n: i32| atoms.iter().map(move |atom| atom.slack * atom.range().powi(n));
        let (drift, spread) = (with(1).sum::<f64>(), with(2).sum::<f64>());
        let excess: f64 =
            atoms.iter().map(BoundedVariable::largest_excess).sum::<f64>().max(excess);
        let largest = variance + spread;
        let fourth = (3.0 * largest * largest + excess).max(largest * largest);
        let fourth = (fourth.sqrt().sqrt() + drift).powi(4);
        let moved = spread + drift * drift;
        let rounding = pick(&self.rounding) + unit * pick(&self.reach);
        let tally = IndependentSum::of(atoms, 1.0);
        let mean = pick(&self.mean);
        Functional { tally, mean, variance, fourth, deviation, rounding, drift, moved }
    }

    /// `Cov(phi, phi')` of two sums over gradients, and the variance of the product of their deviations.
    fn product(&self, of: [bool; 4], other: &Joint, and: [bool; 4]) -> [f64; 2] {
        let pick =
            |x: &[f64; 4], of: [bool; 4]| (0..4).filter(|&t| of[t]).map(|t| x[t]).sum::<f64>();
        let (mut covariance, mut both, mut one, mut two) = (0.0, 0.0, 0.0, 0.0);
        for (a, b) in self.terms.iter().zip(&other.terms) {
            let (mut xx, mut yy, mut xy, mut four) = (0.0, 0.0, 0.0, 0.0);
            for ((p, x), (_, y)) in a.outcomes.iter().zip(&b.outcomes) {
                let (x, y) = (pick(x, of), pick(y, and));
                xx += p * x * x;
                yy += p * y * y;
                xy += p * x * y;
                four += p * x * x * y * y;
            }
            covariance += xy;
            one += xx;
            two += yy;
            both += four - xx * yy - 2.0 * xy * xy;
        }
        let variance = both + one * two + covariance * covariance;
        [covariance, variance.max(1e-9 * one * two)]
    }
}

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
    let mut before: Option<(Functional, Joint, Vec<f64>)> = None;
    for (p, name) in directions.names.iter().enumerate() {
        let joint = Joint::new(model, directions.of(p));
        let mut singles: Vec<(usize, Functional, Vec<f64>)> = Vec::new();
        for t in (0..4).filter(|&t| present[t]) {
            let functional = joint.functional(single(t), projected.unit);
            let values = functional.values(directions.count(), p, single(t), projected);
            functional.test(&format!("{name}, of {}", GRADIENTS[t]), &values, tests);
            singles.push((t, functional, values));
        }
        for (at, (t, first, x)) in singles.iter().enumerate() {
            for (u, second, y) in &singles[at + 1..] {
                let law = joint.product(single(*t), &joint, single(*u));
                let of = format!("{name}, of {} and of {}", GRADIENTS[*t], GRADIENTS[*u]);
                products(&of, [first, second], [x, y], law, tests);
            }
        }
        let all = joint.functional(present, projected.unit);
        let values = all.values(directions.count(), p, present, projected);
        all.test(&format!("{name}, of all gradients"), &values, tests);
        if !directions.heads.contains(&p) {
            continue;
        }
        if let Some((first, other, x)) = &before {
            let law = other.product(present, &joint, present);
            let of = format!("{}, and {name}", directions.names[p - 1]);
            products(&of, [first, &all], [x, &values], law, tests);
        }
        before = Some((all, joint, values));
    }
}

/// Distance from what is expected, less what rounding can do.
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
    // The mean of a product of independent sums moves by at most twice the root of what their squares move by, and its square
    // with each term that is moved by at most what such a product is anywhere in that term's range.
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
    // What the mean loses, its square may lose, too.
    let spread = n * variance + 2.0 * covariance.abs() * lost;
    let tail = bernstein_tail(spread, cut * other + covariance.abs(), distance);
    tests.add(AlphaClass::Aimed, libm::log(tail), || {
        let found = [sum / n, covariance, libm::sqrt(variance / n)];
        (format!("the covariance of {what}"), found)
    });
}

impl Functional {
    /// Where values are cut off before they are squared or multiplied, and how often a right one is beyond it at most.
    ///
    /// What is cut off is a part of the null: by the inequality of Cauchy and Schwarz it takes at most the root of that
    /// probability times the second moment from the mean of a product. The lower the cut, the narrower is Bernstein's limit.
    pub(super) fn cut(&self, runs: f64) -> (f64, f64) {
        let level = 0.01 / runs;
        let range = self.tally.atoms.iter().map(BoundedVariable::range).fold(0.0, f64::max);
        let mut most = bernstein_limit(self.variance + self.moved, range, level) + self.drift;
        if self.tally.atoms.len() > LARGEST {
            return (most, level);
        }
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
        (most, level)
    }

    /// How far the rounding of the keep probabilities can move the mean square of a product with another functional.
    fn largest_moved(&self, other: &Functional) -> f64 {
        let atoms = self.tally.atoms.iter().zip(&*other.tally.atoms);
        let root = |f: &Functional, atom: &BoundedVariable| {
            libm::sqrt(libm::sqrt(f.fourth)) + 2.0 * atom.range()
        };
        let part = |(a, b): (&BoundedVariable, &BoundedVariable)| {
            let product = root(self, a) * root(other, b);
            a.slack * product * product
        };
        atoms.map(part).sum()
    }

    /// What rounding can do to one value, that of the mean included.
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
            // Nothing but rounding moves a value, and that no further than its bound: a finding is certain.
            let worst =
                values.iter().fold(0.0_f64, |most, &x| if x.abs() > most.abs() { x } else { most });
            let log_p = if worst.abs() > noise { f64::NEG_INFINITY } else { 0.0 };
            tests.add(AlphaClass::First, log_p, || {
                (format!("{name}, which does not vary"), [worst + self.mean, self.mean, 0.0])
            });
            return;
        }
        let total: f64 = values.iter().sum();
        tests.add(AlphaClass::First, self.tally.times(n).log_tail(clear(total, n * noise)), || {
            let found = [total / n + self.mean, self.mean, libm::sqrt(self.variance / n)];
            (format!("the mean of {name}"), found)
        });
        let (cut, p) = self.cut(n);
        let largest = values.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let log_tail = self.tally.log_tail((largest - noise).max(0.0));
        let log_tail = log_tail.max(self.tally.log_tail(-(largest - noise).max(0.0)));
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
                // The means of two independent values that were cut off are at most so far from 0.
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

#[cfg(test)]
mod rounding {
    use super::{Joint, Term};

    /// All masks of eight entries whose probabilities are off by as much as their slack, in every pattern of signs: the moments
    /// of two functionals are within what is allowed for, and that is not many times what happens.
    #[test]
    fn moved_probabilities_move_no_moment_further_than_allowed() {
        let (slack, count) = (0.004, 8_usize);
        let q = |n: usize| 0.1 + 0.09 * n as f64;
        let x = |n: usize, t: usize| ((3 * n + 5 * t) % 7) as f64 / 3.0 - 0.9;
        let terms = (0..count).map(|n| {
            let of = |kept: f64| {
                std::array::from_fn(|t| if t < 2 { x(n, t) * (kept - q(n)) } else { 0.0 })
            };
            Term { outcomes: vec![(q(n), of(1.0)), (1.0 - q(n), of(0.0))], slack }
        });
        let joint =
            Joint { terms: terms.collect(), mean: [0.0; 4], rounding: [0.0; 4], reach: [0.0; 4] };
        let single = |t: usize| std::array::from_fn(|other| other == t);
        let [first, second] = [0, 1].map(|t| joint.functional(single(t), 0.0));
        let [covariance, variance] = joint.product(single(0), &joint, single(1));
        let square = variance + covariance * covariance;
        let mut most = [0.0_f64; 3];
        for signs in 0..1_usize << count {
            let p = |n: usize| q(n) + if signs >> n & 1 == 1 { slack } else { -slack };
            let mut moments = [0.0; 4];
            for mask in 0..1_usize << count {
                let kept = |n: usize| mask >> n & 1 == 1;
                let probability: f64 =
                    (0..count).map(|n| if kept(n) { p(n) } else { 1.0 - p(n) }).product();
                let [a, b] = [0, 1].map(|t| -> f64 {
                    (0..count).map(|n| x(n, t) * (f64::from(u8::from(kept(n))) - q(n))).sum()
                });
                let terms = [a * a, a * b, a * a * b * b, a.powi(4)];
                moments.iter_mut().zip(terms).for_each(|(sum, x)| *sum += probability * x);
            }
            let allowed = 2.0 * (first.moved * second.moved).sqrt();
            let moved = [
                (moments[0] - first.variance).abs() / first.moved,
                (moments[1] - covariance).abs() / allowed,
                (moments[2] - square) / first.largest_moved(&second),
            ];
            assert!(moved.iter().all(|&x| x <= 1.0), "{signs} {moved:?}");
            assert!(moments[3] <= first.fourth, "{signs}");
            most = std::array::from_fn(|n| most[n].max(moved[n]));
        }
        assert!(most[0] > 0.3 && most[1] > 0.1 && most[2] > 0.0, "{most:?}");
    }
}
