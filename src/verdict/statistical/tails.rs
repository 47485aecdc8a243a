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

    /// The variance of the sum.
    pub(super) fn variance(&self) -> f64 {
        self.atoms.iter().map(|(atom, n)| n * atom.variance()).sum()
    }

    /// `ln P(|sum| >= |total|)`, at most; both tails.
    pub(super) fn log_tail(&self, total: f64) -> f64 {
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
            psi - theta * total
        };
        let least = (-12..=4).map(at).filter(|x| !x.is_nan()).fold(0.0, f64::min);
        (least + std::f64::consts::LN_2).min(0.0)
    }
}
