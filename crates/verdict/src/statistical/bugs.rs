//! How many runs each known bug of a sampler needs before it fails.
//!
//! A test's p-value falls as its statistic grows. The mean and the standard deviation of the statistic under a bug are known too. A
//! number of runs is enough if the test fails at four standard deviations below that mean (docs/statistics.md, "How many runs").

use super::battery::{ALPHA_SHARES, AlphaClass, FALSE_ALARM};
use super::grid::{cut, middle, neighbours, raised, rounded};
use super::mask_recovery::{MaskRecovery, RecoveredMasks};
use super::masks::Masks;
use super::model::Model;
use super::most_powerful::{least_runs, smallest};
use super::pairs::{families, pair_products};
use super::tails::IndependentSum;
use std::collections::BTreeMap;
use sus_bounds::Recipe;
use sus_reference::error::Error;
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::sus::moments::RowDistribution;
use sus_reference::sus::{Draw, Sampler};

/// A bug and the number of runs after which it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The wrong kernel of that name, or a name of its own.
    pub bug: &'static str,
    /// The defect, in words.
    pub what: &'static str,
    /// The number of runs; `None` if no number is enough, as the roundings of the recipe may move probabilities as much.
    pub runs: Option<usize>,
    /// The number of runs below which no test of a false-alarm rate of 1e-9 whatsoever sees the bug in half of all cases; `None` where that
    /// is not computed.
    pub least: Option<usize>,
    /// The test that fails.
    pub test: String,
}

/// The effect of a bug on the distribution.
enum Effect {
    /// Other probabilities, independent.
    Probability(fn(f64) -> f64),
    /// One word for all entries `[b, h, i, j]` that are mapped to the same index.
    Shared(fn([usize; 4]) -> [usize; 4]),
    /// The same mask in every run.
    Constant,
    /// The other sampler.
    Sampler,
}

/// Bugs of the sampler that no single run shows.
const BUGS: &[(&str, &str, Effect)] = &[
    (
        "c_5_percent_too_large",
        "c is 5 % too large in the probabilities",
        Effect::Probability(|q| 1.05 * q),
    ),
    (
        "c_1_percent_too_large",
        "c is 1 % too large in the probabilities",
        Effect::Probability(|q| 1.01 * q),
    ),
    (
        "c_1_percent_too_small",
        "c is 1 % too small in the probabilities",
        Effect::Probability(|q| 0.99 * q),
    ),
    ("uniform_of_4_bits", "the uniform has 4 bits", Effect::Probability(|q| raised(q, 4))),
    ("uniform_of_8_bits", "the uniform has 8 bits", Effect::Probability(|q| raised(q, 8))),
    ("threshold_of_8_bits", "q is cut to 8 bits", Effect::Probability(|q| cut(q, 8))),
    ("rounded_to_8_bits", "q is rounded to 8 bits", Effect::Probability(|q| rounded(q, 8))),
    ("threshold_of_16_bits", "q is rounded to 16 bits", Effect::Probability(|q| rounded(q, 16))),
    (
        "uniform_of_bf16",
        "the uniform is rounded to bf16",
        Effect::Probability(|q| middle(neighbours(q, 8))),
    ),
    (
        "uniform_of_f16",
        "the uniform is rounded to f16",
        Effect::Probability(|q| middle(neighbours(q, 11))),
    ),
    ("uniform_of_24_bits", "the uniform has 24 bits", Effect::Probability(|q| raised(q, 24))),
    (
        "word_is_signed",
        "the word is read as a signed number",
        Effect::Probability(|q| if q < 0.5 { 0.5 + q } else { 1.0 }),
    ),
    ("decision_inverted", "kept and dropped are mixed up", Effect::Probability(|q| 1.0 - q)),
    (
        "heads_share_words",
        "all heads share their words",
        Effect::Shared(|[b, _, i, j]| [b, 0, i, j]),
    ),
    (
        "batch_shares_words",
        "all sequences share their words",
        Effect::Shared(|[_, h, i, j]| [0, h, i, j]),
    ),
    ("rows_share_words", "all rows share their words", Effect::Shared(|[b, h, _, j]| [b, h, 0, j])),
    ("seed_constant", "every run has the same mask", Effect::Constant),
    (
        "other_sampler",
        "independent draws for systematic ones, or the other way about",
        Effect::Sampler,
    ),
];

/// `ln` of the smallest level that a test of a class can have in a problem with `n` stochastic entries: its share over an upper bound of the
/// number of tests.
fn level(class: AlphaClass, n: usize) -> f64 {
    let count = match class {
        AlphaClass::Main => 2.0,
        AlphaClass::First => 64.0,
        AlphaClass::Aimed => 1024.0,
        AlphaClass::Single => 1e5 + 10.0 * (n * n) as f64,
    };
    libm::log(FALSE_ALARM * ALPHA_SHARES[class as usize] / count)
}

/// Standard deviations by which a statistic may lie below its mean under the bug; a normal one lies lower in 3 of 100,000 cases.
const MARGIN: f64 = 4.0;

/// The smallest number of runs at which a statistic of this distribution in one run fails, if a bug gives it this mean and variance.
fn runs_for(null: &IndependentSum<'_>, mean: f64, variance: f64, level: f64) -> Option<usize> {
    let fails = |runs: usize| {
        let n = runs as f64;
        let least = n * mean.abs() - MARGIN * libm::sqrt(n * variance);
        least > 0.0 && null.times(n).log_tail(least * mean.signum()) < level
    };
    smallest(fails)
}

/// The known bugs of samplers with the number of runs after which each fails; `None` for a problem whose masks are not recovered. A wrong
/// weight, a lost entry or two masks in one run fail in any run, and are not listed.
///
/// # Errors
/// Those of the problem's bounds.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_reference::sus::{Budget, Draw};
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// use sus_verdict::statistical::bugs;
/// let tensor = |seed: usize| {
///     let numbers = (0..64).map(|n| (n * n * (seed + 3) % 17) as f64 / 8.0 - 1.0);
///     Tensor::new("a tensor", [1, 1, 4, 16], &numbers.collect::<Vec<_>>()).unwrap()
/// };
/// let inputs = Inputs::new(tensor(1), tensor(2), tensor(3), tensor(4));
/// let problem = Problem::new(inputs, Options::default())?;
/// let draw = Draw::paper(Budget::new(1.5)?, 7);
/// let all = bugs(&problem, &Recipe::built_in("f64").unwrap(), &draw)?.expect("few keys, many features");
/// let of = |bug: &str| all.iter().find(|p| p.bug == bug).unwrap();
/// assert!(of("c_1_percent_too_large").runs > of("c_5_percent_too_large").runs);
/// // No test needs fewer runs than `least`.
/// assert!(of("c_5_percent_too_large").least <= of("c_5_percent_too_large").runs);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn bugs(
    problem: &Problem<f64>,
    recipe: &Recipe,
    draw: &Draw,
) -> Result<Option<Vec<Prediction>>, Error> {
    let saved = forward(problem);
    let model = Model::new(problem, &saved, recipe, draw)?;
    let Some(recovery) = MaskRecovery::new(&model, problem.inputs().bias.is_some(), false) else {
        return Ok(None);
    };
    let bits = vec![Vec::new(); recovery.unknowns.len()];
    let recovered = RecoveredMasks { bits, wrong: Vec::new(), unsupported: None };
    let masks = Masks::new(&model, &recovery, &recovered, 0);
    let all = BUGS.iter().filter_map(|(bug, what, effect)| {
        let (runs, test) = masks.predict(effect)?;
        let least = match effect {
            Effect::Probability(wrong) => least_runs(&masks.q, *wrong),
            _ => None,
        };
        Some(Prediction { bug, what, runs, least, test })
    });
    Ok(Some(all.collect()))
}

/// The predictions as text.
#[must_use]
pub fn bugs_to_text(predictions: &[Prediction]) -> String {
    let line = |bug: &str, runs: &str, least: &str, test: &str| {
        format!("{bug:<22} {runs:>10} {least:>10}  {test}\n")
    };
    let of = |Prediction { bug, runs, least, test, .. }: &Prediction| {
        let least = least.map_or("-".into(), |n| n.to_string());
        line(bug, &runs.map_or("no number".into(), |n| n.to_string()), &least, test)
    };
    line("bug", "runs", "any test", "found by") + &predictions.iter().map(of).collect::<String>()
}

impl Masks<'_> {
    fn predict(&self, effect: &Effect) -> Option<(Option<usize>, String)> {
        match effect {
            Effect::Probability(wrong) => {
                (!self.is_systematic()).then(|| self.predict_probability(*wrong))
            }
            Effect::Shared(word) => self.predict_shared(*word),
            Effect::Constant => {
                let level = level(AlphaClass::Aimed, self.q.len());
                if self.log_equal() < level {
                    return Some((Some(2), "pairs of runs with the same mask".into()));
                }
                // The smallest sum of squared deviations of any mask. Disjoint pairs are half of all: twice the runs.
                let pairs: Vec<(usize, usize)> = (0..self.q.len()).map(|at| (at, at)).collect();
                let least = |&q: &f64| q.min(1.0 - q) * q.min(1.0 - q);
                let mean = self.q.iter().map(least).sum();
                let null = IndependentSum::of(pair_products(self, &pairs), 1.0);
                let runs = runs_for(&null, mean, 0.0, level).map(|n| 2 * n + 2);
                Some((runs, "entries and themselves, 1 runs later".into()))
            }
            Effect::Sampler => Some(self.predict_sampler()),
        }
    }

    /// The likelihood ratio that needs the fewest runs.
    fn predict_probability(&self, wrong: fn(f64) -> f64) -> (Option<usize>, String) {
        let wrong: Vec<f64> = self.q.iter().map(|&q| wrong(q).clamp(0.0, 1.0)).collect();
        let mut best: (Option<usize>, String) = (None, "none: rounding may do as much".into());
        for (class, name, a) in self.likelihood_ratios() {
            let with = || a.iter().zip(self.q.iter().zip(&wrong));
            let mean: f64 = with().map(|(a, (q, p))| a * (p - q)).sum();
            if mean <= 0.0 {
                continue;
            }
            let variance = with().map(|(a, (_, p))| a * a * p * (1.0 - p)).sum();
            let all: Vec<usize> = (0..self.q.len()).collect();
            let null = IndependentSum::of(self.variables(&all, |at| a[at]), 1.0);
            let runs = runs_for(&null, mean, variance, level(class, self.q.len()));
            if runs.is_some_and(|runs| best.0.is_none_or(|best| runs < best)) {
                best = (runs, name);
            }
        }
        best
    }

    /// The family of pairs that needs the fewest runs.
    fn predict_shared(
        &self,
        word: fn([usize; 4]) -> [usize; 4],
    ) -> Option<(Option<usize>, String)> {
        let mut best: Option<(Option<usize>, String)> = None;
        for (name, pairs) in families(self) {
            let (mut mean, mut groups) = (0.0, BTreeMap::<[usize; 4], f64>::new());
            for &(a, b) in &pairs {
                let shared = word(self.place(a));
                if shared != word(self.place(b)) {
                    continue;
                }
                let (p, q) = (self.q[a], self.q[b]);
                let (both, cov) = (p.min(q), p.min(q) - p * q);
                mean += cov;
                let x = |a: f64, b: f64| (a - p) * (b - q) - cov;
                let variance = both * x(1.0, 1.0) * x(1.0, 1.0)
                    + (p - both) * x(1.0, 0.0) * x(1.0, 0.0)
                    + (q - both) * x(0.0, 1.0) * x(0.0, 1.0)
                    + (1.0 - p.max(q)) * x(0.0, 0.0) * x(0.0, 0.0);
                // Pairs that share a word are taken as fully dependent; a systematic row has one word.
                let [b, h, i, j] = shared;
                let key = if self.is_systematic() { [b, h, i, 0] } else { [b, h, i, j] };
                *groups.entry(key).or_default() += libm::sqrt(variance.max(0.0));
            }
            if mean == 0.0 || self.is_systematic() {
                continue;
            }
            let variance = groups.values().map(|sum| sum * sum).sum();
            let null = IndependentSum::of(pair_products(self, &pairs), 1.0);
            let runs = runs_for(&null, mean, variance, level(AlphaClass::Aimed, self.q.len()));
            if runs.is_some_and(|n| best.as_ref().and_then(|best| best.0).is_none_or(|m| n < m)) {
                best = Some((runs, name));
            }
        }
        best
    }

    /// The spread of the rows' counts.
    fn predict_sampler(&self) -> (Option<usize>, String) {
        let other = match self.model.draw.sampler {
            Sampler::Bernoulli => Sampler::Systematic,
            Sampler::Systematic => Sampler::Bernoulli,
        };
        let (mut mean, mut variance, mut variables) = (0.0, 0.0, Vec::new());
        for (row, group) in self.of_row.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
            let right = self.squares(group, 0.0).0;
            let model = &self.model.rows[row];
            let lambda = self.model.lambda[row];
            let distribution =
                RowDistribution::new(other, lambda, model.entries.iter().map(|entry| entry.w));
            let distribution = distribution.count_distribution();
            let all = || {
                distribution
                    .probability
                    .iter()
                    .enumerate()
                    .map(|(n, &p)| (p, (distribution.least + n) as f64))
            };
            let center: f64 = all().map(|(p, n)| p * n).sum();
            let square = |n: f64| (n - center) * (n - center);
            let second: f64 = all().map(|(p, n)| p * square(n)).sum();
            mean += second - self.count_variance(group);
            variance +=
                all().map(|(p, n)| p * (square(n) - second) * (square(n) - second)).sum::<f64>();
            variables.push(right);
        }
        let runs = runs_for(
            &IndependentSum::of(variables, 1.0),
            mean,
            variance,
            level(AlphaClass::Aimed, self.q.len()),
        );
        (runs, "how the numbers of kept entries of the rows vary".into())
    }
}
