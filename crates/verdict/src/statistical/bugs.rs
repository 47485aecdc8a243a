//! How many runs each known bug of a sampler needs before it fails.
//!
//! A test's p-value falls as its statistic grows. Under a bug the statistic has a mean and a standard deviation that are
//! known too; a number of runs is enough if the test still fails four of those below the mean.

use super::battery::{ALPHA_SHARES, AlphaClass, FALSE_ALARM};
use super::grid::{cut, middle, neighbours, raised, rounded};
use super::mask_recovery::{Decoded, Decoder};
use super::masks::Masks;
use super::model::Model;
use super::pairs::{families, pair_atoms};
use super::tails::{BoundedVariable, IndependentSum};
use std::collections::BTreeMap;
use sus_bounds::Recipe;
use sus_reference::error::Error;
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::sus::moments::RowDistribution;
use sus_reference::sus::{Draw, Sampler};

/// A bug, and the runs that it needs.
///
/// # Examples
/// ```
/// use sus_verdict::statistical::{Prediction};
/// let never = Prediction {
///     bug: "words_reused",
///     what: "a word is used twice",
///     runs: None,
///     least: Some(7),
///     test: "pairs".into(),
/// };
/// let soon = Prediction { runs: Some(40), ..never.clone() };
/// assert!(soon != never && soon.least <= soon.runs); // no test could do with fewer than `least`
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The kernel of the gallery, or a name of its own.
    pub bug: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// The number of runs; `None` if no number is enough, as the roundings of the recipe may move probabilities as much.
    pub runs: Option<usize>,
    /// The number of runs below which no test of a false-alarm rate of 1e-9 whatsoever sees the bug in half of all cases; `None` where that
    /// is not computed.
    pub least: Option<usize>,
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

/// At most so many tests of each kind are made of a problem with `n` undecided entries.
fn level(kind: AlphaClass, n: usize) -> f64 {
    let count = match kind {
        AlphaClass::Main => 2.0,
        AlphaClass::First => 64.0,
        AlphaClass::Aimed => 1024.0,
        AlphaClass::Single => 1e5 + 10.0 * (n * n) as f64,
    };
    libm::log(FALSE_ALARM * ALPHA_SHARES[kind as usize] / count)
}

/// The largest deviation of a statistic from what a bug makes of it that is reckoned with, in standard deviations.
const MARGIN: f64 = 4.0;

/// The smallest number of runs at which a statistic of this law in one run fails, if a bug gives it this mean and variance.
fn runs_for(tally: &IndependentSum<'_>, mean: f64, variance: f64, level: f64) -> Option<usize> {
    let fails = |runs: usize| {
        let n = runs as f64;
        let least = n * mean.abs() - MARGIN * libm::sqrt(n * variance);
        least > 0.0 && tally.times(n).log_tail(least * mean.signum()) < level
    };
    smallest(fails)
}

/// The smallest number of runs that is enough; `None` beyond `2^40`.
pub(super) fn smallest(enough: impl Fn(usize) -> bool) -> Option<usize> {
    let mut most = 1_usize;
    while !enough(most) {
        most = most.checked_mul(2).filter(|&n| n <= 1 << 40)?;
    }
    let mut least = most / 2;
    while most - least > 1 {
        let middle = least + (most - least) / 2;
        if enough(middle) { most = middle } else { least = middle }
    }
    Some(most)
}

/// The most that any test with this false-alarm rate sees of entries that are kept with the probabilities `wrong`, not `right`.
///
/// With `L` the log-likelihood ratio of all runs and any `tau`, the set where a test fails and `L < tau` has at most `e^tau` times
/// the probability under the wrong law that it has under the right one: power `<= P_wrong(L >= tau) + e^tau alpha`.
fn largest_power(right: &[f64], wrong: &[f64], runs: f64, level: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * libm::log(p / q) } else { 0.0 };
    let with = || right.iter().zip(wrong);
    let divergence: f64 = with().map(|(&q, &p)| part(p, q) + part(1.0 - p, 1.0 - q)).sum();
    // What is never or always kept under the wrong law has no variance there.
    let varies = with().filter(|(_, p)| **p > 0.0 && **p < 1.0);
    let ratio = |p: f64, q: f64| libm::log(p / q) - libm::log((1.0 - p) / (1.0 - q));
    let atoms = varies.map(|(&q, &p)| BoundedVariable::entry(p, ratio(p, q), 0.0)).collect();
    let (tally, mean) = (IndependentSum::of(atoms, runs), divergence * runs);
    let of = |tau: f64| {
        let above = tau - mean;
        let beyond = if above > 0.0 { tally.log_tail_one_sided(above) } else { 0.0 };
        libm::exp(beyond) + libm::exp(tau) * level
    };
    let most = -libm::log(level);
    (0..=100).map(|n| of(most * f64::from(n) / 100.0)).fold(1.0, f64::min)
}

/// The smallest number of runs with which some test might see a bug in half of all cases; `None` beyond `2^40`.
fn least_runs(right: &[f64], wrong: fn(f64) -> f64) -> Option<usize> {
    let wrong: Vec<f64> = right.iter().map(|&q| wrong(q).clamp(0.0, 1.0)).collect();
    smallest(|runs| largest_power(right, &wrong, runs as f64, FALSE_ALARM) >= 0.5)
}

/// The known bugs of samplers with the number of runs after which each fails, for a problem whose gradients tell the masks;
/// `None` for others. A wrong weight, a lost entry or two masks in one run fail in any run, and are not listed.
///
/// # Errors
/// Those of the problem's bounds.
///
/// # Examples
/// ```
/// use sus_bench::Pattern;
/// use sus_bounds::Recipe;
/// use sus_reference::sus::{Budget, Draw};
/// use sus_verdict::statistical::{bugs, bugs_to_text};
/// let problem = Pattern::Random.problem(4, 16, true)?;
/// let draw = Draw::paper(Budget::new(1.5)?, 7);
/// let all = bugs(&problem, &Recipe::built_in("f64").unwrap(), &draw)?.expect("few keys, many features");
/// let of = |bug: &str| all.iter().find(|p| p.bug == bug).unwrap();
/// assert!(of("c_1_percent_too_large").runs > of("c_5_percent_too_large").runs);
/// // No test could do with fewer than `least`.
/// assert!(of("c_5_percent_too_large").least <= of("c_5_percent_too_large").runs);
/// assert!(bugs_to_text(&all).contains("c_5_percent_too_large"));
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
        let least = match effect {
            Effect::Probability(wrong) => least_runs(&masks.q, *wrong),
            _ => None,
        };
        Some(Prediction { bug, what, runs, least, test })
    });
    Ok(Some(all.collect()))
}

/// The predictions for people.
///
/// # Examples
/// ```
/// use sus_verdict::statistical::{Prediction, bugs_to_text};
/// let never = Prediction {
///     bug: "words_reused",
///     what: "a word is used twice",
///     runs: None,
///     least: Some(7),
///     test: "pairs".into(),
/// };
/// let text = bugs_to_text(&[never]);
/// let line: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
/// assert_eq!(line, ["words_reused", "no", "number", "7", "pairs"]);
/// ```
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
                // The least that the squared deviations of any mask add up to, in half of the pairs of runs.
                let pairs: Vec<(usize, usize)> = (0..self.q.len()).map(|at| (at, at)).collect();
                let least = |&q: &f64| q.min(1.0 - q) * q.min(1.0 - q);
                let mean = self.q.iter().map(least).sum();
                let tally = IndependentSum::of(pair_atoms(self, &pairs), 1.0);
                let runs = runs_for(&tally, mean, 0.0, level).map(|n| 2 * n + 2);
                Some((runs, "entries and themselves, 1 runs later".into()))
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
            let tally = IndependentSum::of(self.atoms(&all, |at| a[at]), 1.0);
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
            let tally = IndependentSum::of(pair_atoms(self, &pairs), 1.0);
            let runs = runs_for(&tally, mean, variance, level(AlphaClass::Aimed, self.q.len()));
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
            let law =
                RowDistribution::new(other, lambda, model.entries.iter().map(|entry| entry.w));
            let law = law.count_distribution();
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
        let runs = runs_for(
            &IndependentSum::of(atoms, 1.0),
            mean,
            variance,
            level(AlphaClass::Aimed, self.q.len()),
        );
        (runs, "how the numbers of kept entries of the rows vary".into())
    }
}

#[cfg(test)]
mod limits {
    use super::{largest_power, smallest};

    /// The randomized test of Neyman and Pearson of one entry, by its exact binomial laws: none is more powerful, and the
    /// bound is above it, and not by much.
    #[test]
    fn the_most_powerful_test_is_below_the_largest_power_and_near_it() {
        for (q, p, runs, level) in [
            (0.3, 0.6, 20, 1e-3),
            (0.5, 0.4, 400, 1e-4),
            (0.02, 0.0, 900_i32, 1e-6),
            (0.1, 0.2, 60, 1e-9),
        ] {
            let (q, p, level): (f64, f64, f64) = (q, p, level);
            let law = |q: f64| -> Vec<f64> {
                let choose = |n: i32| -> f64 {
                    (0..n).map(|k| f64::from(runs - k) / f64::from(k + 1)).product()
                };
                (0..=runs).map(|n| choose(n) * q.powi(n) * (1.0 - q).powi(runs - n)).collect()
            };
            let (right, wrong) = (law(q), law(p));
            // Outcomes in the order of their likelihood ratios, from an end: all of the level is spent.
            let (mut left, mut power) = (level, 0.0);
            for n in 0..=runs as usize {
                let n = if p > q { runs as usize - n } else { n };
                let share = (left / right[n]).min(1.0);
                left -= share * right[n];
                power += share * wrong[n];
            }
            let bound = largest_power(&[q], &[p], f64::from(runs), level);
            assert!(power <= bound && bound <= 4.0 * power + 0.01, "{q} {p} {power} {bound}");
        }
        let half = |runs: usize| largest_power(&[0.5], &[0.4], runs as f64, 1e-4) >= 0.5;
        // About 3.7 standard deviations of a likelihood ratio that grows by 0.2 of one with each root of a run.
        let least = smallest(half).unwrap();
        assert!((150..=345).contains(&least), "{least}");
    }
}
