//! How many runs each known bug of a sampler needs before it fails.
//!
//! A test's p-value falls as its statistic grows. Under a bug the statistic has a mean and a standard deviation that are
//! known too; a number of runs is enough if the test still fails four of those below the mean.

use super::decode::{Decoded, Decoder};
use super::grid::{cut, raised, rounded};
use super::masks::Masks;
use super::model::Model;
use super::pairs::{families, pair_atoms};
use super::tails::Tally;
use super::tests::{FALSE_ALARM, Kind, SHARES};
use crate::error::Error;
use crate::forward::forward;
use crate::precision::Recipe;
use crate::problem::Problem;
use crate::sus::moments::RowLaw;
use crate::sus::{Draw, Sampler};
use std::collections::BTreeMap;

/// A bug, and the runs that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The kernel of the gallery, or a name of its own.
    pub bug: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// The number of runs; `None` if no number is enough, as the roundings of the recipe may move probabilities as much.
    pub runs: Option<usize>,
    /// The test that fails.
    pub test: String,
}

/// What a bug does to the law.
enum Effect {
    /// Other probabilities, independent.
    Probability(fn(f64) -> f64),
    /// One word for all entries `[b, h, i, j]` with the same number.
    Shared(fn([usize; 4]) -> [usize; 4]),
    /// The same mask in every run.
    Constant,
    /// The other sampler.
    Sampler,
}

/// The gallery's kernels that draw wrongly and could be right in any one run, and some that it does not have.
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

/// At most so many tests of each kind are made of a problem with `n` undecided entries.
fn level(kind: Kind, n: usize) -> f64 {
    let count = match kind {
        Kind::Main => 2.0,
        Kind::First => 64.0,
        Kind::Aimed => 1024.0,
        Kind::Single => 1e5 + 10.0 * (n * n) as f64,
    };
    libm::log(FALSE_ALARM * SHARES[kind as usize] / count)
}

/// The largest deviation of a statistic from what a bug makes of it that is reckoned with, in standard deviations.
const MARGIN: f64 = 4.0;

/// The smallest number of runs at which a statistic of this law in one run fails, if a bug gives it this mean and variance.
fn runs_for(tally: &Tally, mean: f64, variance: f64, level: f64) -> Option<usize> {
    let fails = |runs: usize| {
        let n = runs as f64;
        let least = n * mean.abs() - MARGIN * libm::sqrt(n * variance);
        least > 0.0 && tally.times(n).log_tail(least * mean.signum()) < level
    };
    let mut most = 1_usize;
    while !fails(most) {
        most = most.checked_mul(2).filter(|&n| n <= 1 << 40)?;
    }
    let mut least = most / 2;
    while most - least > 1 {
        let middle = least + (most - least) / 2;
        if fails(middle) { most = middle } else { least = middle }
    }
    Some(most)
}

/// The known bugs of samplers with the number of runs after which each fails, for a problem whose gradients tell the masks;
/// `None` for others. A wrong weight, a lost entry or two masks in one run fail in any run, and are not listed.
///
/// # Errors
/// Those of the problem's bounds.
pub fn bugs(
    problem: &Problem<f64>,
    recipe: &Recipe,
    draw: &Draw,
) -> Result<Option<Vec<Prediction>>, Error> {
    let saved = forward(problem);
    let model = Model::new(problem, &saved, recipe, draw)?;
    let Some(decoder) = Decoder::new(&model, problem.inputs().bias.is_some(), false) else {
        return Ok(None);
    };
    let bits = vec![Vec::new(); decoder.unknowns.len()];
    let decoded = Decoded { bits, wrong: Vec::new(), unsupported: None };
    let masks = Masks::new(&model, &decoder, &decoded, 0);
    let all = BUGS.iter().filter_map(|(bug, what, effect)| {
        let (runs, test) = masks.predict(effect)?;
        Some(Prediction { bug, what, runs, test })
    });
    Ok(Some(all.collect()))
}

/// The predictions for people.
#[must_use]
pub fn bugs_to_text(predictions: &[Prediction]) -> String {
    let line = |bug: &str, runs: &str, test: &str| format!("{bug:<22} {runs:>16}  {test}\n");
    let of = |Prediction { bug, runs, test, .. }: &Prediction| {
        line(bug, &runs.map_or("no number".into(), |n| n.to_string()), test)
    };
    line("bug", "runs", "found by") + &predictions.iter().map(of).collect::<String>()
}

impl Masks<'_> {
    fn predict(&self, effect: &Effect) -> Option<(Option<usize>, String)> {
        match effect {
            Effect::Probability(wrong) => {
                (!self.is_systematic()).then(|| self.predict_probability(*wrong))
            }
            Effect::Shared(word) => self.predict_shared(*word),
            Effect::Constant => {
                let level = level(Kind::Aimed, self.q.len());
                if self.log_equal() < level {
                    return Some((Some(2), "pairs of runs with the same mask".into()));
                }
                // The least that the squared deviations of any mask add up to, in half of the pairs of runs.
                let pairs: Vec<(usize, usize)> = (0..self.q.len()).map(|at| (at, at)).collect();
                let least = |&q: &f64| q.min(1.0 - q) * q.min(1.0 - q);
                let mean = self.q.iter().map(least).sum();
                let tally = Tally::of(pair_atoms(self, &pairs), 1.0);
                let runs = runs_for(&tally, mean, 0.0, level).map(|n| 2 * n + 2);
                Some((runs, "entries and themselves 1 runs later".into()))
            }
            Effect::Sampler => Some(self.predict_sampler()),
        }
    }

    /// The best of the likelihood ratios.
    fn predict_probability(&self, wrong: fn(f64) -> f64) -> (Option<usize>, String) {
        let wrong: Vec<f64> = self.q.iter().map(|&q| wrong(q).clamp(0.0, 1.0)).collect();
        let mut best: (Option<usize>, String) = (None, "none: rounding may do as much".into());
        for (kind, name, a) in self.likelihood_ratios() {
            let with = || a.iter().zip(self.q.iter().zip(&wrong));
            let mean: f64 = with().map(|(a, (q, p))| a * (p - q)).sum();
            if mean <= 0.0 {
                continue;
            }
            let variance = with().map(|(a, (_, p))| a * a * p * (1.0 - p)).sum();
            let all: Vec<usize> = (0..self.q.len()).collect();
            let tally = Tally::of(self.atoms(&all, |at| a[at]), 1.0);
            let runs = runs_for(&tally, mean, variance, level(kind, self.q.len()));
            if runs.is_some_and(|runs| best.0.is_none_or(|best| runs < best)) {
                best = (runs, name);
            }
        }
        best
    }

    /// The best of the families of pairs.
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
                // Pairs that share a word may all move together; systematic rows share one word each.
                let [b, h, i, j] = shared;
                let key = if self.is_systematic() { [b, h, i, 0] } else { [b, h, i, j] };
                *groups.entry(key).or_default() += libm::sqrt(variance.max(0.0));
            }
            if mean == 0.0 || self.is_systematic() {
                continue;
            }
            let variance = groups.values().map(|sum| sum * sum).sum();
            let tally = Tally::of(pair_atoms(self, &pairs), 1.0);
            let runs = runs_for(&tally, mean, variance, level(Kind::Aimed, self.q.len()));
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
        let (mut mean, mut variance, mut atoms) = (0.0, 0.0, Vec::new());
        for (row, group) in self.of_row.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
            let right = self.squares(group, 0.0).0;
            let model = &self.model.rows[row];
            let lambda = self.model.lambda[row];
            let law = RowLaw::new(other, lambda, model.entries.iter().map(|entry| entry.w));
            let law = law.count_law();
            let all =
                || law.probability.iter().enumerate().map(|(n, &p)| (p, (law.least + n) as f64));
            let center: f64 = all().map(|(p, n)| p * n).sum();
            let square = |n: f64| (n - center) * (n - center);
            let second: f64 = all().map(|(p, n)| p * square(n)).sum();
            mean += second - self.count_variance(group);
            variance +=
                all().map(|(p, n)| p * (square(n) - second) * (square(n) - second)).sum::<f64>();
            atoms.push(right);
        }
        let runs =
            runs_for(&Tally::of(atoms, 1.0), mean, variance, level(Kind::Aimed, self.q.len()));
        (runs, "how the numbers of kept entries of the rows vary".into())
    }
}
