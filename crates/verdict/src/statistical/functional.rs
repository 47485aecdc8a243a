//! The distribution of the projections of gradients on one direction (docs/statistics.md, "Projections").

use super::model::{Model, for_each_part, slices};
use super::tails::{BoundedVariable, IndependentSum};
use crate::limits::MAX_EXACT_TERMS;
use sus_reference::sus::moments::functional::bernstein_limit;

/// An independent term of the projections of all gradients on one direction.
#[derive(Debug, Clone)]
struct DirectionTerm {
    /// `(probability, deviation of each gradient's projection)`.
    outcomes: Vec<(f64, [f64; 4])>,
    slack: f64,
}

/// The joint distribution of the projections of all gradients on one direction.
#[derive(Debug, Clone)]
pub(super) struct DirectionDistribution {
    terms: Vec<DirectionTerm>,
    mean: [f64; 4],
    rounding: [f64; 4],
    /// The largest `sum |R| |g~|`: the projection itself errs by a unit roundoff of it.
    reach: [f64; 4],
}

/// The distribution of one functional.
#[derive(Debug, Clone)]
pub(super) struct Functional {
    pub null: IndependentSum<'static>,
    pub mean: f64,
    pub variance: f64,
    pub fourth: f64,
    pub deviation: f64,
    /// The rounding error of one value, at most.
    pub rounding: f64,
    /// The error of the mean by the rounding of the keep probabilities, at most: `sum s_a r_a`.
    pub drift: f64,
    /// The error of `E (phi - mean)^2` by the same, at most: `sum s_a r_a^2 + (sum s_a r_a)^2`.
    pub moved: f64,
}

impl DirectionDistribution {
    /// The distribution of a direction.
    pub(super) fn new(model: &Model<'_>, parts: [&[f64]; 4]) -> Self {
        let (mut terms, mut mean) = (Vec::new(), [0.0; 4]);
        for row in &model.rows {
            let distribution = &row.distribution;
            let mut a = vec![[0.0; 4]; row.entries.len()];
            for (n, (a, entry)) in a.iter_mut().zip(&row.entries).enumerate() {
                for_each_part(model.problem, row.row, entry, |t, at, x| {
                    if let Some(r) = parts[t].get(at) {
                        a[t] += r * x;
                    }
                });
                mean = std::array::from_fn(|t| mean[t] + a[t] * distribution.w[n]);
            }
            let stochastic = || (0..a.len()).filter(|&n| distribution.is_stochastic(n));
            let Some(pieces) = &distribution.pieces else {
                terms.extend(stochastic().map(|n| {
                    let (q, x) = (distribution.q[n], a[n].map(|a| a * distribution.kept[n]));
                    let outcomes =
                        vec![(q, x.map(|x| x * (1.0 - q))), (1.0 - q, x.map(|x| -x * q))];
                    DirectionTerm { outcomes, slack: row.slack(n) }
                }));
                continue;
            };
            let mut at = [0.0; 4];
            let add = |at: &mut [f64; 4], n: usize, x: f64| {
                *at = std::array::from_fn(|t| at[t] + a[n][t] * x);
            };
            stochastic().for_each(|n| add(&mut at, n, -distribution.w[n]));
            pieces.start.iter().for_each(|&n| add(&mut at, n, distribution.kept[n]));
            let mut outcomes = Vec::new();
            pieces.for_each(|step, length| {
                if let Some(step) = step {
                    add(&mut at, step.leaves, -distribution.kept[step.leaves]);
                    if let Some(n) = step.enters {
                        add(&mut at, n, distribution.kept[n]);
                    }
                }
                outcomes.push((length, at));
            });
            // Rounding can lead to sets that belong to no piece: their sums lie between these two.
            for pick in [f64::min, f64::max] {
                let mut at = [0.0; 4];
                for n in stochastic() {
                    let kept = |t: usize| {
                        pick(a[n][t] * distribution.kept[n], 0.0) - a[n][t] * distribution.w[n]
                    };
                    at = std::array::from_fn(|t| at[t] + kept(t));
                }
                outcomes.push((0.0, at));
            }
            terms.push(DirectionTerm { outcomes, slack: row.row_slack() });
        }
        let dot = |t: usize, other: &[f64]| -> f64 {
            parts[t].iter().zip(other).map(|(r, b)| (r * b).abs()).sum()
        };
        let (bounds, sizes) = (slices(&model.bounds), slices(&model.sizes));
        DirectionDistribution {
            terms,
            mean,
            rounding: std::array::from_fn(|t| dot(t, bounds[t])),
            reach: std::array::from_fn(|t| dot(t, sizes[t])),
        }
    }

    /// The distribution of the sum over some gradients; `unit` is the roundoff that values were projected with.
    pub(super) fn functional(&self, of: [bool; 4], unit: f64) -> Functional {
        let pick = |x: &[f64; 4]| (0..4).filter(|&t| of[t]).map(|t| x[t]).sum::<f64>();
        let variables: Vec<BoundedVariable> = self
            .terms
            .iter()
            .map(|term| {
                let outcomes = term.outcomes.iter().map(|(p, x)| (*p, pick(x))).collect();
                BoundedVariable { outcomes, slack: term.slack }
            })
            .collect();
        let moment = |variable: &BoundedVariable, n: i32| -> f64 {
            variable.outcomes.iter().map(|(p, x)| p * x.powi(n)).sum()
        };
        let variance: f64 = variables.iter().map(|variable| moment(variable, 2)).sum();
        let excess: f64 = variables
            .iter()
            .map(|variable| moment(variable, 4) - 3.0 * moment(variable, 2) * moment(variable, 2))
            .sum();
        let deviation = variables.iter().map(BoundedVariable::deviation).fold(0.0, f64::max);
        // A probability s that moves within a range r moves the mean by s r at most and the variance by s r^2.
        let with = |n: i32| {
            variables.iter().map(move |variable| variable.slack * variable.range().powi(n))
        };
        let (drift, spread) = (with(1).sum::<f64>(), with(2).sum::<f64>());
        let excess: f64 =
            variables.iter().map(BoundedVariable::largest_excess).sum::<f64>().max(excess);
        let largest = variance + spread;
        let fourth = (3.0 * largest * largest + excess).max(largest * largest);
        let fourth = (fourth.sqrt().sqrt() + drift).powi(4);
        let moved = spread + drift * drift;
        let rounding = pick(&self.rounding) + unit * pick(&self.reach);
        let null = IndependentSum::of(variables, 1.0);
        let mean = pick(&self.mean);
        Functional { null, mean, variance, fourth, deviation, rounding, drift, moved }
    }

    /// `Cov(phi, phi')` of two sums over gradients, and the variance of the product of their deviations.
    pub(super) fn product(
        &self,
        of: [bool; 4],
        other: &DirectionDistribution,
        and: [bool; 4],
    ) -> [f64; 2] {
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

impl Functional {
    /// The cut `tau` at which values are clipped before they are squared or multiplied, and the probability that a right value is beyond it.
    ///
    /// The clipped part belongs to the null distribution: by the inequality of Cauchy and Schwarz it takes at most `sqrt(p E x^2)` from the
    /// mean of a product `x`. A lower cut makes Bernstein's limit narrower.
    pub(super) fn cut(&self, runs: f64) -> (f64, f64) {
        let level = 0.01 / runs;
        let range = self.null.variables.iter().map(BoundedVariable::range).fold(0.0, f64::max);
        let mut most = bernstein_limit(self.variance + self.moved, range, level) + self.drift;
        if self.null.variables.len() > MAX_EXACT_TERMS {
            return (most, level);
        }
        let mut least = 0.0;
        for _ in 0..12 {
            let middle = 0.5 * (least + most);
            let tail = |x: f64| self.null.log_tail(x);
            if tail(middle).max(tail(-middle)) < libm::log(level) {
                most = middle;
            } else {
                least = middle;
            }
        }
        (most, level)
    }

    /// The error of the mean square of a product with another functional by the rounding of the keep probabilities, at most.
    pub(super) fn largest_moved(&self, other: &Functional) -> f64 {
        let variables = self.null.variables.iter().zip(&*other.null.variables);
        let root = |f: &Functional, variable: &BoundedVariable| {
            libm::sqrt(libm::sqrt(f.fourth)) + 2.0 * variable.range()
        };
        let part = |(a, b): (&BoundedVariable, &BoundedVariable)| {
            let product = root(self, a) * root(other, b);
            a.slack * product * product
        };
        variables.map(part).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{DirectionDistribution, DirectionTerm};

    /// All masks of eight entries whose probabilities are off by their slack, in every pattern of signs: the moments of two functionals
    /// are within their bounds, and the largest are not many times below.
    #[test]
    fn moved_probabilities_move_no_moment_further_than_allowed() {
        let (slack, count) = (0.004, 8_usize);
        let q = |n: usize| 0.1 + 0.09 * n as f64;
        let x = |n: usize, t: usize| ((3 * n + 5 * t) % 7) as f64 / 3.0 - 0.9;
        let terms = (0..count).map(|n| {
            let of = |kept: f64| {
                std::array::from_fn(|t| if t < 2 { x(n, t) * (kept - q(n)) } else { 0.0 })
            };
            DirectionTerm { outcomes: vec![(q(n), of(1.0)), (1.0 - q(n), of(0.0))], slack }
        });
        let joint = DirectionDistribution {
            terms: terms.collect(),
            mean: [0.0; 4],
            rounding: [0.0; 4],
            reach: [0.0; 4],
        };
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
