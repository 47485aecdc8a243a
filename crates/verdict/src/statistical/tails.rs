//! Exact tails of sums of independent, bounded variables: Chernoff's bound with the true moment generating function.
//!
//! For independent `X_a` with known laws and mean zero, and any `theta > 0`,
//! `P(sum over S runs >= t) <= exp(S psi(theta) - theta t)`, `psi = sum_a ln E exp(theta X_a)`. The bound that is the least over
//! `theta` falls as `t` rises, so it is a valid p-value; a larger one, from some `theta` only, is valid too.

use std::borrow::Cow;
use std::f64::consts::LN_2;

/// One independent variable: its outcomes, and how much probability rounding can move among them.
#[derive(Debug, Clone, Default)]
pub(super) struct BoundedVariable {
    /// `(probability, value)`; the mean of the values is zero. One of probability zero is what only rounding can bring about.
    pub outcomes: Vec<(f64, f64)>,
    /// At most this much probability may be moved by the rounding of the keep probabilities.
    pub slack: f64,
}

impl BoundedVariable {
    /// An entry kept with probability `q`, times `scale`, less its mean.
    pub(super) fn entry(q: f64, scale: f64, slack: f64) -> Self {
        BoundedVariable { outcomes: vec![(q, scale * (1.0 - q)), (1.0 - q, -scale * q)], slack }
    }

    /// The product of the deviations of two independent entries.
    pub(super) fn product(a: f64, b: f64, slack: f64) -> Self {
        let outcomes = vec![
            (a * b, (1.0 - a) * (1.0 - b)),
            (a * (1.0 - b), (a - 1.0) * b),
            ((1.0 - a) * b, a * (b - 1.0)),
            ((1.0 - a) * (1.0 - b), a * b),
        ];
        BoundedVariable { outcomes, slack }
    }

    /// The variance.
    pub(super) fn variance(&self) -> f64 {
        self.outcomes.iter().map(|(p, x)| p * x * x).sum()
    }

    /// The largest distance from the mean.
    pub(super) fn deviation(&self) -> f64 {
        self.outcomes.iter().filter(|(p, _)| *p > 0.0).map(|(_, x)| x.abs()).fold(0.0, f64::max)
    }

    /// How far apart two values can be.
    pub(super) fn range(&self) -> f64 {
        let values = || self.outcomes.iter().map(|(_, x)| *x);
        values().fold(0.0, f64::max) - values().fold(0.0, f64::min)
    }

    /// The variance, at most.
    fn largest_variance(&self) -> f64 {
        let range = self.range();
        self.variance() + self.slack * range * range
    }

    /// `E X^4 - 3 Var^2` of the distance from its mean, at most, wherever rounding puts that.
    pub(super) fn largest_excess(&self) -> f64 {
        let (s, range) = (self.slack, self.range());
        let fourth: f64 = self.outcomes.iter().map(|(p, x)| p * x.powi(4)).sum();
        let fourth = (fourth + s * range.powi(4)).sqrt().sqrt() + s * range;
        let variance = (self.variance() - s * range * range).max(0.0);
        fourth.powi(4) - 3.0 * variance * variance
    }

    /// `E exp(theta X) - 1`, at most, and its first two derivatives by `theta`: what rounding moves, it moves at worst from the
    /// least outcome to the largest.
    fn moments(&self, theta: f64) -> [f64; 3] {
        let mut sums = [0.0; 3];
        let ([mut low, mut below], [mut high, mut above]) = ([0.0; 2], [0.0; 2]);
        for &(p, x) in &self.outcomes {
            let moment = libm::expm1(theta * x);
            // The mean of the values is zero, so that the first derivative needs no 1 that would hide what is small.
            sums[0] += p * moment;
            sums[1] += p * x * moment;
            sums[2] += p * x * x * (1.0 + moment);
            if x < low {
                [low, below] = [x, moment];
            }
            if x > high {
                [high, above] = [x, moment];
            }
        }
        // Downwards where the sum is to be small.
        let slack = if theta < 0.0 { -self.slack } else { self.slack };
        sums[0] += slack * (above - below);
        sums[1] += slack * (high * (1.0 + above) - low * (1.0 + below));
        sums[2] += slack * (high * high * (1.0 + above) - low * low * (1.0 + below));
        sums
    }
}

/// Several atoms, all in each of so many runs.
#[derive(Debug, Clone, Default)]
pub(super) struct IndependentSum<'a> {
    /// The atoms of one run.
    pub atoms: Cow<'a, [BoundedVariable]>,
    runs: f64,
}

impl IndependentSum<'_> {
    /// Atoms that occur once in each of `runs` runs.
    pub(super) fn of(atoms: Vec<BoundedVariable>, runs: f64) -> Self {
        IndependentSum { atoms: atoms.into(), runs }
    }

    /// The same atoms in so many times as many runs.
    pub(super) fn times(&self, runs: f64) -> IndependentSum<'_> {
        IndependentSum { atoms: Cow::Borrowed(&self.atoms), runs: runs * self.runs }
    }

    /// The variance of the sum.
    pub(super) fn variance(&self) -> f64 {
        self.runs * self.atoms.iter().map(BoundedVariable::variance).sum::<f64>()
    }

    /// `ln P(|sum| >= |total|)`, at most; both tails.
    pub(super) fn log_tail(&self, total: f64) -> f64 {
        (self.log_tail_one_sided(total) + LN_2).min(0.0)
    }

    /// `ln P(sum >= total)` for a total above 0, `ln P(sum <= total)` below, at most.
    pub(super) fn log_tail_one_sided(&self, total: f64) -> f64 {
        if total == 0.0 {
            return 0.0;
        }
        let variance =
            self.runs * self.atoms.iter().map(BoundedVariable::largest_variance).sum::<f64>();
        if variance <= 0.0 {
            // Nothing varies but for the rounding of its own sums.
            let noise = self.runs * self.atoms.len() as f64 * 1e-12;
            return if total.abs() > 1.0 + noise { f64::NEG_INFINITY } else { 0.0 };
        }
        let theta = self.tilt(total, total / variance);
        let log_moment = |atom: &BoundedVariable| libm::log1p(atom.moments(theta)[0]);
        let log_p = self.runs * self.atoms.iter().map(log_moment).sum::<f64>() - theta * total;
        if log_p < 0.0 { log_p + self.log_prefactor(theta) } else { 0.0 }
    }

    /// The `theta` for which the bound is least, nearly, where `psi'(theta) = total / runs`: from `first / 2^16` to `4 first`.
    ///
    /// Newton's steps are of `ln(theta)` and of `ln(psi')`, since rare events need a logarithm of what frequent ones need; where
    /// one leaves the interval that is left, the interval is halved.
    fn tilt(&self, total: f64, first: f64) -> f64 {
        const ENOUGH: f64 = 0.01;
        let at = |x: f64| first * libm::exp(x);
        let (mut low, mut high) = (-16.0 * LN_2, 2.0 * LN_2);
        let mut x = 0.0;
        while high - low > ENOUGH {
            let theta = at(x);
            let (mut slope, mut curvature) = (0.0, 0.0);
            for atom in &*self.atoms {
                let [mean, by, by_by] = atom.moments(theta);
                let by = by / (1.0 + mean);
                slope += by;
                curvature += by_by / (1.0 + mean) - by * by;
            }
            let step = -libm::log(slope * self.runs / total) * slope / (theta * curvature);
            // What overflows is too large.
            if slope * self.runs * total.signum() < total.abs() {
                low = x;
            } else {
                high = x;
            }
            let next =
                if x + step > low && x + step < high { x + step } else { 0.5 * (low + high) };
            let enough = (next - x).abs() < ENOUGH;
            x = next;
            if enough {
                break;
            }
        }
        at(x)
    }

    /// `ln E_theta[exp(-theta (sum - total)); sum >= total]`, at most, under the tilted law: by the theorem of Berry and
    /// Esseen, with the constant 0.56 of Shevtsova (2010) for unequal terms, the sum is in an interval of length `x` with
    /// probability at most `x / (sigma sqrt(2 pi)) + 2 * 0.56 rho / sigma^3`.
    fn log_prefactor(&self, theta: f64) -> f64 {
        let (mut variance, mut third) = (0.0, 0.0);
        for atom in &*self.atoms {
            let tilted = |x: f64, p: f64| p * libm::exp(theta * x);
            let mass: f64 = atom.outcomes.iter().map(|&(p, x)| tilted(x, p)).sum();
            let mean = atom.outcomes.iter().map(|&(p, x)| tilted(x, p) * x).sum::<f64>() / mass;
            let moment = |k: i32| -> f64 {
                let of = |&(p, x): &(f64, f64)| tilted(x, p) * (x - mean).abs().powi(k);
                atom.outcomes.iter().map(of).sum::<f64>() / mass
            };
            // What rounding moves is at most `moved` of the tilted law, and moves by at most the range.
            let ends = || atom.outcomes.iter().map(|&(_, x)| x);
            let (low, high) = (ends().fold(0.0, f64::min), ends().fold(0.0, f64::max));
            let most = if theta > 0.0 { high } else { low };
            let moved = 2.0 * atom.slack * libm::exp(theta * most) / mass;
            if moved > 0.01 {
                return 0.0;
            }
            let range = high - low;
            variance += self.runs * (moment(2) - moved * range * range);
            third += self.runs * (moment(3) + moved * range * range * range);
        }
        if variance <= 0.0 {
            return 0.0;
        }
        let sigma = libm::sqrt(variance);
        let density = 1.0 / (theta.abs() * sigma * 2.506_628_274_631_000_5);
        let factor = 1.01 * (density + 1.12 * third / (variance * sigma));
        if factor < 1.0 { libm::log(factor) } else { 0.0 }
    }
}

#[cfg(test)]
mod bounds {
    use super::{BoundedVariable, IndependentSum};

    /// `ln n!`.
    fn log_factorial(n: u32) -> f64 {
        libm::lgamma(f64::from(n) + 1.0)
    }

    /// `ln P(N = n)` of a binomial variable.
    fn log_binomial(draws: u32, q: f64, n: u32) -> f64 {
        log_factorial(draws) - log_factorial(n) - log_factorial(draws - n)
            + f64::from(n) * q.ln()
            + f64::from(draws - n) * (-q).ln_1p()
    }

    /// The tails of a binomial law whose probability is anywhere within the slack are below their bounds, and near them.
    #[test]
    fn a_binomial_tail_is_below_its_bound_wherever_rounding_puts_its_probability() {
        for (draws, q) in [(50, 0.3), (4000, 0.5), (4000, 0.004), (4000, 1e-5), (1_000_000, 0.25)] {
            for slack in [0.0, 1e-6 * q, 0.01 * q] {
                let tally = IndependentSum::of(
                    vec![BoundedVariable::entry(q, 1.0, slack)],
                    f64::from(draws),
                );
                let mean = q * f64::from(draws);
                for sign in [-1.0, 1.0] {
                    let p = q + sign * slack;
                    let deviation = (mean * (1.0 - q)).sqrt().max(1.0);
                    for far in [1.0, 2.0, 4.0, 6.0, 8.0, 12.0] {
                        let edge = (mean + sign * far * deviation).round();
                        if edge < 0.0 || edge > f64::from(draws) {
                            continue;
                        }
                        let edge = edge as u32;
                        let span = 20 * deviation as u32 + 20;
                        let beyond = if sign > 0.0 {
                            edge..=draws.min(edge + span)
                        } else {
                            edge.saturating_sub(span)..=edge
                        };
                        let tail: f64 = beyond.map(|n| log_binomial(draws, p, n).exp()).sum();
                        let bound = tally.log_tail_one_sided(f64::from(edge) - mean);
                        assert!(tail.ln() <= bound + 1e-9, "{draws} {q} {slack} {sign} {far}");
                        if far >= 4.0 {
                            // Chernoff's bound lacks this; the second factor has it, if rounding is small.
                            let chernoff = (far * (2.0 * std::f64::consts::PI).sqrt()).ln();
                            let many = mean >= 100.0 && slack <= 1e-6 * q;
                            let most = if many { 1.0 } else { chernoff + 0.5 };
                            let loose = bound - tail.ln();
                            assert!(loose < most, "{draws} {q} {slack} {sign} {far}: {loose}");
                        }
                    }
                }
            }
        }
    }

    /// What rounding can do is charged by how far it moves the sum: 240 entries in 4000 runs, each wrong by a millionth of
    /// its probability, make next to nothing of a likelihood ratio's level.
    #[test]
    fn rounding_costs_a_likelihood_ratio_next_to_nothing() {
        let of = |slack: f64| {
            let atoms =
                (0..240).map(|n| BoundedVariable::entry(0.25, 0.01 + 1e-5 * f64::from(n), slack));
            let tally = IndependentSum::of(atoms.collect(), 4000.0);
            let six = 6.0 * libm::sqrt(tally.variance());
            tally.log_tail_one_sided(six)
        };
        let (exact, rounded) = (of(0.0), of(2.5e-7));
        assert!((exact.exp() / 9.87e-10 - 1.0).abs() < 0.3, "{exact}");
        assert!(rounded > exact && rounded - exact < 0.02, "{exact} {rounded}");
    }

    /// A count that is constant but for rounding: one deviation is nothing, a deviation in every run is not.
    #[test]
    fn a_constant_that_rounding_moves_now_and_then_is_right() {
        let constant =
            BoundedVariable { outcomes: vec![(1.0, 0.0), (0.0, 1.0), (0.0, -1.0)], slack: 1e-5 };
        let tally = IndependentSum::of(vec![constant], 4000.0);
        assert!(tally.log_tail_one_sided(2.0) > -9.0);
        assert!(tally.log_tail_one_sided(200.0) < -500.0);
    }
}
