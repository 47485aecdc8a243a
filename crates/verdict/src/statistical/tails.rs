//! Tails of sums of independent, bounded variables: Chernoff's bound with the exact moment generating function
//! (docs/statistics.md, "Tests of the masks").
//!
//! For independent `X_a` with known distributions and mean zero, and any `theta > 0`,
//! `P(sum over S runs >= t) <= exp(S psi(theta) - theta t)`, `psi = sum_a ln E exp(theta X_a)`. The smallest bound over
//! `theta` falls as `t` rises, so it is a valid p-value; the bound at any other `theta` is larger and valid too.

use std::borrow::Cow;
use std::f64::consts::LN_2;

/// The constant of the theorem of Berry and Esseen for independent terms that differ: I. Shevtsova, *An improvement of convergence
/// rate estimates in the Lyapunov theorem*, Doklady Mathematics 82 (2010), 0.5600.
const BERRY_ESSEEN: f64 = 0.56;

/// `sqrt(2 pi)`.
const SQRT_2_PI: f64 = 2.506_628_274_631_000_5;

/// One percent for the rounding of these sums in `f64`: a sum of `n` terms errs by `n 2^-53` of itself, far less for any `n` in memory.
const SUMMATION: f64 = 1.01;

/// One independent variable: its outcomes, and how much probability rounding can move between them.
#[derive(Debug, Clone, Default)]
pub(super) struct BoundedVariable {
    /// `(probability, value)`; the mean of the values is zero. An outcome of probability zero is reached by rounding alone.
    pub outcomes: Vec<(f64, f64)>,
    /// The probability that the rounding of the keep probabilities may move, at most.
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

    /// The variance, at most: the slack `s` moved across the range `r` adds up to `s r^2`.
    fn largest_variance(&self) -> f64 {
        let range = self.range();
        self.variance() + self.slack * range * range
    }

    /// `E (X - E X)^4 - 3 Var^2`, at most, for every mean and variance within the slack: the fourth root of the fourth moment moves by at
    /// most `s r` with the mean (Minkowski), and the variance falls by at most `s r^2`.
    pub(super) fn largest_excess(&self) -> f64 {
        let (s, range) = (self.slack, self.range());
        let fourth: f64 = self.outcomes.iter().map(|(p, x)| p * x.powi(4)).sum();
        let fourth = (fourth + s * range.powi(4)).sqrt().sqrt() + s * range;
        let variance = (self.variance() - s * range * range).max(0.0);
        fourth.powi(4) - 3.0 * variance * variance
    }

    /// `E exp(theta X) - 1`, at most, and its first two derivatives by `theta`. At worst rounding moves the slack from the smallest outcome
    /// to the largest: it adds `s (exp(theta x_max) - exp(theta x_min))`.
    fn moments(&self, theta: f64) -> [f64; 3] {
        let mut sums = [0.0; 3];
        let ([mut low, mut below], [mut high, mut above]) = ([0.0; 2], [0.0; 2]);
        for &(p, x) in &self.outcomes {
            let moment = libm::expm1(theta * x);
            // The mean is zero, so sum p x exp(theta x) = sum p x (exp(theta x) - 1), which does not cancel for small theta.
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
        // For the lower tail the slack moves from the largest outcome to the smallest.
        let slack = if theta < 0.0 { -self.slack } else { self.slack };
        sums[0] += slack * (above - below);
        sums[1] += slack * (high * (1.0 + above) - low * (1.0 + below));
        sums[2] += slack * (high * high * (1.0 + above) - low * low * (1.0 + below));
        sums
    }
}

/// A sum over independent variables, each of which occurs once in each of several runs.
#[derive(Debug, Clone, Default)]
pub(super) struct IndependentSum<'a> {
    /// The variables of one run.
    pub variables: Cow<'a, [BoundedVariable]>,
    runs: f64,
}

impl IndependentSum<'_> {
    /// Atoms that occur once in each of `runs` runs.
    pub(super) fn of(variables: Vec<BoundedVariable>, runs: f64) -> Self {
        IndependentSum { variables: variables.into(), runs }
    }

    /// The same sum over `runs` times as many runs.
    pub(super) fn times(&self, runs: f64) -> IndependentSum<'_> {
        IndependentSum { variables: Cow::Borrowed(&self.variables), runs: runs * self.runs }
    }

    /// The variance of the sum.
    pub(super) fn variance(&self) -> f64 {
        self.runs * self.variables.iter().map(BoundedVariable::variance).sum::<f64>()
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
            self.runs * self.variables.iter().map(BoundedVariable::largest_variance).sum::<f64>();
        if variance <= 0.0 {
            // The sum is constant. It is computed in f64 to 1e-12 of each term; a difference of 1, one entry, is certain.
            let noise = self.runs * self.variables.len() as f64 * 1e-12;
            return if total.abs() > 1.0 + noise { f64::NEG_INFINITY } else { 0.0 };
        }
        let theta = self.tilt(total, total / variance);
        let log_moment = |variable: &BoundedVariable| libm::log1p(variable.moments(theta)[0]);
        let log_p = self.runs * self.variables.iter().map(log_moment).sum::<f64>() - theta * total;
        if log_p < 0.0 { log_p + self.log_prefactor(theta) } else { 0.0 }
    }

    /// The `theta` at which the bound is smallest, nearly: the root of `psi'(theta) = total / runs` between `first / 2^16` and `4 first`.
    ///
    /// Newton's steps are taken in `ln(theta)` and `ln(psi')`, as the root for rare events is the logarithm of that for frequent ones.
    /// A step that leaves the remaining interval is replaced by its midpoint. Any `theta` is valid, so 1 % is near enough.
    fn tilt(&self, total: f64, first: f64) -> f64 {
        const ENOUGH: f64 = 0.01;
        let at = |x: f64| first * libm::exp(x);
        let (mut low, mut high) = (-16.0 * LN_2, 2.0 * LN_2);
        let mut x = 0.0;
        while high - low > ENOUGH {
            let theta = at(x);
            let (mut slope, mut curvature) = (0.0, 0.0);
            for variable in &*self.variables {
                let [mean, by, by_by] = variable.moments(theta);
                let by = by / (1.0 + mean);
                slope += by;
                curvature += by_by / (1.0 + mean) - by * by;
            }
            let step = -libm::log(slope * self.runs / total) * slope / (theta * curvature);
            // An overflow compares as false, and lowers theta.
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

    /// `ln E_theta[exp(-theta (sum - total)); sum >= total]`, at most, under the tilted distribution: by the theorem of Berry and
    /// Esseen the sum is in an interval of length `x` with probability at most `x / (sigma sqrt(2 pi)) + 2 C rho / sigma^3`
    /// (docs/statistics.md, "Tests of the masks").
    fn log_prefactor(&self, theta: f64) -> f64 {
        let (mut variance, mut third) = (0.0, 0.0);
        for variable in &*self.variables {
            let tilted = |x: f64, p: f64| p * libm::exp(theta * x);
            let mass: f64 = variable.outcomes.iter().map(|&(p, x)| tilted(x, p)).sum();
            let mean = variable.outcomes.iter().map(|&(p, x)| tilted(x, p) * x).sum::<f64>() / mass;
            let moment = |k: i32| -> f64 {
                let of = |&(p, x): &(f64, f64)| tilted(x, p) * (x - mean).abs().powi(k);
                variable.outcomes.iter().map(of).sum::<f64>() / mass
            };
            // Rounding moves at most `moved` of the tilted distribution, by at most the range: 2 s exp(theta x_max) / E exp(theta X).
            let ends = || variable.outcomes.iter().map(|&(_, x)| x);
            let (low, high) = (ends().fold(0.0, f64::min), ends().fold(0.0, f64::max));
            let most = if theta > 0.0 { high } else { low };
            let moved = 2.0 * variable.slack * libm::exp(theta * most) / mass;
            // Too much for the estimate: the factor 1 is always valid.
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
        let density = 1.0 / (theta.abs() * sigma * SQRT_2_PI);
        let factor = SUMMATION * (density + 2.0 * BERRY_ESSEEN * third / (variance * sigma));
        if factor < 1.0 { libm::log(factor) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
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

    /// The tails of a binomial distribution whose probability is anywhere within the slack are below their bounds, and near them.
    #[test]
    fn a_binomial_tail_is_below_its_bound_wherever_rounding_puts_its_probability() {
        for (draws, q) in [(50, 0.3), (4000, 0.5), (4000, 0.004), (4000, 1e-5), (1_000_000, 0.25)] {
            for slack in [0.0, 1e-6 * q, 0.01 * q] {
                let null = IndependentSum::of(
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
                        let bound = null.log_tail_one_sided(f64::from(edge) - mean);
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

    /// Rounding is charged by how far it moves the sum: 240 entries in 4000 runs, each wrong by a millionth of
    /// its probability, make next to nothing of a likelihood ratio's level.
    #[test]
    fn rounding_costs_a_likelihood_ratio_next_to_nothing() {
        let of = |slack: f64| {
            let variables =
                (0..240).map(|n| BoundedVariable::entry(0.25, 0.01 + 1e-5 * f64::from(n), slack));
            let null = IndependentSum::of(variables.collect(), 4000.0);
            let six = 6.0 * libm::sqrt(null.variance());
            null.log_tail_one_sided(six)
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
        let null = IndependentSum::of(vec![constant], 4000.0);
        assert!(null.log_tail_one_sided(2.0) > -9.0);
        assert!(null.log_tail_one_sided(200.0) < -500.0);
    }
}
