//! Exact tails of sums of independent, bounded variables: Chernoff's bound with the true moment generating function.
//!
//! For independent `X_a` with known laws and mean zero, and any `theta > 0`,
//! `P(sum over S runs >= t) <= exp(S psi(theta) - theta t)`, `psi = sum_a ln E exp(theta X_a)`. The bound that is the least over
//! `theta` falls as `t` rises, so it is a valid p-value; a larger one, from some `theta` only, is valid too.

/// One independent variable: its outcomes, and how much probability rounding can move among them.
#[derive(Debug, Clone, Default)]
pub(super) struct Atom {
    /// `(probability, value)`; the mean of the values is zero. One of probability zero is what only rounding can bring about.
    pub outcomes: Vec<(f64, f64)>,
    /// At most this much probability may be moved by the rounding of the keep probabilities.
    pub slack: f64,
}

impl Atom {
    /// An entry kept with probability `q`, times `scale`, less its mean.
    pub(super) fn entry(q: f64, scale: f64, slack: f64) -> Self {
        Atom { outcomes: vec![(q, scale * (1.0 - q)), (1.0 - q, -scale * q)], slack }
    }

    /// The product of the deviations of two independent entries.
    pub(super) fn product(a: f64, b: f64, slack: f64) -> Self {
        let outcomes = vec![
            (a * b, (1.0 - a) * (1.0 - b)),
            (a * (1.0 - b), (a - 1.0) * b),
            ((1.0 - a) * b, a * (b - 1.0)),
            ((1.0 - a) * (1.0 - b), a * b),
        ];
        Atom { outcomes, slack }
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

    /// `ln E exp(theta X)`, at most: what rounding moves, it moves at worst from the least outcome to the largest.
    fn log_moment(&self, theta: f64) -> f64 {
        let with = || self.outcomes.iter().map(|(_, x)| libm::expm1(theta * x));
        let (least, most) = with().fold((0.0, 0.0), |(a, b), x| (x.min(a), x.max(b)));
        let mean: f64 = with().zip(&self.outcomes).map(|(x, (p, _))| p * x).sum();
        libm::log1p(mean + self.slack * (most - least))
    }
}

/// Several atoms of one kind, each `count` times.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// The atoms and how often each occurs.
    pub atoms: Vec<(Atom, f64)>,
}

impl Tally {
    /// Atoms that occur once in each of `runs` runs.
    pub(super) fn of(atoms: Vec<Atom>, runs: f64) -> Self {
        Tally { atoms: atoms.into_iter().map(|atom| (atom, runs)).collect() }
    }

    /// The same atoms in so many times as many runs.
    pub(super) fn times(&self, runs: f64) -> Self {
        Tally { atoms: self.atoms.iter().map(|(atom, n)| (atom.clone(), n * runs)).collect() }
    }

    /// The variance of the sum.
    pub(super) fn variance(&self) -> f64 {
        self.atoms.iter().map(|(atom, n)| n * atom.variance()).sum()
    }

    /// `ln P(|sum| >= |total|)`, at most; both tails.
    pub(super) fn log_tail(&self, total: f64) -> f64 {
        (self.log_tail_one_sided(total) + std::f64::consts::LN_2).min(0.0)
    }

    /// `ln P(sum >= total)` for a total above 0, `ln P(sum <= total)` below, at most.
    pub(super) fn log_tail_one_sided(&self, total: f64) -> f64 {
        if total == 0.0 {
            return 0.0;
        }
        let variance: f64 = self.atoms.iter().map(|(atom, n)| n * atom.largest_variance()).sum();
        if variance <= 0.0 {
            // Nothing varies but for the rounding of its own sums.
            let noise: f64 = self.atoms.iter().map(|(_, n)| n * 1e-12).sum();
            return if total.abs() > 1.0 + noise { f64::NEG_INFINITY } else { 0.0 };
        }
        let exponent = |theta: f64| {
            let psi: f64 = self.atoms.iter().map(|(atom, n)| n * atom.log_moment(theta)).sum();
            let x = psi - theta * total;
            if x.is_nan() { f64::INFINITY } else { x }
        };
        let theta = least(exponent, total / variance);
        let log_p = exponent(theta);
        if log_p < 0.0 { log_p + self.log_prefactor(theta) } else { 0.0 }
    }

    /// `ln E_theta[exp(-theta (sum - total)); sum >= total]`, at most, under the tilted law: by the theorem of Berry and
    /// Esseen, with the constant 0.56 of Shevtsova (2010) for unequal terms, the sum is in an interval of length `x` with
    /// probability at most `x / (sigma sqrt(2 pi)) + 2 * 0.56 rho / sigma^3`.
    fn log_prefactor(&self, theta: f64) -> f64 {
        let (mut variance, mut third) = (0.0, 0.0);
        for (atom, n) in &self.atoms {
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
            variance += n * (moment(2) - moved * range * range);
            third += n * (moment(3) + moved * range * range * range);
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

/// Where a convex function of a number of the sign of `first` is least, nearly, from `first / 2^16` to `4 first`; by golden sections
/// of the logarithm, as rare events need a logarithm of what frequent ones need.
fn least(f: impl Fn(f64) -> f64, first: f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let at = |x: f64| first * libm::exp2(x);
    let (mut low, mut high) = (-16.0, 2.0);
    let inside = |low: f64, high: f64| [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
    let [mut a, mut b] = inside(low, high);
    let (mut of_a, mut of_b) = (f(at(a)), f(at(b)));
    while high - low > 0.02 {
        // What overflows is too large, so equal values mean less.
        if of_a <= of_b {
            (high, b, of_b) = (b, a, of_a);
            a = inside(low, high)[0];
            of_a = f(at(a));
        } else {
            (low, a, of_a) = (a, b, of_b);
            b = inside(low, high)[1];
            of_b = f(at(b));
        }
    }
    at(if of_a <= of_b { a } else { b })
}

#[cfg(test)]
mod bounds {
    use super::{Atom, Tally};

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
                let tally = Tally::of(vec![Atom::entry(q, 1.0, slack)], f64::from(draws));
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
            let atoms = (0..240).map(|n| Atom::entry(0.25, 0.01 + 1e-5 * f64::from(n), slack));
            let tally = Tally::of(atoms.collect(), 4000.0);
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
        let constant = Atom { outcomes: vec![(1.0, 0.0), (0.0, 1.0), (0.0, -1.0)], slack: 1e-5 };
        let tally = Tally::of(vec![constant], 4000.0);
        assert!(tally.log_tail_one_sided(2.0) > -9.0);
        assert!(tally.log_tail_one_sided(200.0) < -500.0);
    }
}
