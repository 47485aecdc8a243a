//! Exact tails of sums of independent, bounded variables: Chernoff's bound with the true moment generating function.
//!
//! For independent `X_a` with known laws and mean zero, and any `theta > 0`,
//! `P(sum over S runs >= t) <= exp(S psi(theta) - theta t)`, `psi = sum_a ln E exp(theta X_a)`. The bound that is the least over
//! `theta` falls as `t` rises, so it is a valid p-value; a larger one, from some `theta` only, is valid too.

/// One independent variable: its outcomes, and how much probability rounding can move among them.
#[derive(Debug, Clone, Default)]
pub(super) struct Atom {
    /// `(probability, value)`; the mean of the values is zero.
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
        self.outcomes.iter().map(|(_, x)| x.abs()).fold(0.0, f64::max)
    }

    /// `ln E exp(theta X)`, at most.
    fn log_moment(&self, theta: f64) -> f64 {
        let most = self.outcomes.iter().map(|(_, x)| theta * x).fold(f64::NEG_INFINITY, f64::max);
        let mean: f64 = self.outcomes.iter().map(|(p, x)| p * libm::expm1(theta * x)).sum();
        libm::log1p(mean + self.slack * libm::exp(most))
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
        let variance = self.variance();
        if total == 0.0 {
            return 0.0;
        }
        if variance <= 0.0 {
            // Nothing varies but for rounding.
            let noise: f64 = self.atoms.iter().map(|(a, n)| n * (a.slack + 1e-12)).sum();
            return if total.abs() > 1.0 + noise { f64::NEG_INFINITY } else { 0.0 };
        }
        let first = total / variance;
        let at = |k: i32| {
            let theta = first * libm::exp2(f64::from(k) / 4.0);
            let psi: f64 = self.atoms.iter().map(|(atom, n)| n * atom.log_moment(theta)).sum();
            (psi - theta * total, theta)
        };
        let least = (-12..=4).map(at).filter(|x| !x.0.is_nan());
        let (log_p, theta) = least.fold((0.0, 0.0), |a, b| if b.0 < a.0 { b } else { a });
        if log_p < 0.0 { log_p + self.log_prefactor(theta) } else { 0.0 }
    }

    /// `ln E_theta[exp(-theta (sum - total)); sum >= total]`, at most, under the tilted law: by the theorem of Berry and
    /// Esseen, with the constant 0.56 of Shevtsova (2010) for unequal terms, the sum is in an interval of length `x` with
    /// probability at most `x / (sigma sqrt(2 pi)) + 2 * 0.56 rho / sigma^3`.
    fn log_prefactor(&self, theta: f64) -> f64 {
        let (mut variance, mut third) = (0.0, 0.0);
        for (atom, n) in &self.atoms {
            if atom.slack > 1e-4 {
                return 0.0;
            }
            let tilted = |x: f64, p: f64| p * libm::exp(theta * x);
            let mass: f64 = atom.outcomes.iter().map(|&(p, x)| tilted(x, p)).sum();
            let mean = atom.outcomes.iter().map(|&(p, x)| tilted(x, p) * x).sum::<f64>() / mass;
            let moment = |k: i32| -> f64 {
                let of = |&(p, x): &(f64, f64)| tilted(x, p) * (x - mean).abs().powi(k);
                atom.outcomes.iter().map(of).sum::<f64>() / mass
            };
            variance += n * moment(2);
            third += n * moment(3);
        }
        let sigma = libm::sqrt(variance);
        let density = 1.0 / (theta.abs() * sigma * 2.506_628_274_631_000_5);
        let factor = 1.01 * (density + 1.12 * third / (variance * sigma));
        if factor < 1.0 { libm::log(factor) } else { 0.0 }
    }
}
