//! Tests of whole masks: wrong probabilities, the variance of counts, sets of systematic rows, equal masks.

use super::battery::{AlphaClass, Tests};
use super::grid::{cut, float, middle, neighbours, raised, rounded};
use super::masks::{Masks, Piece};
use super::tails::{BoundedVariable, IndependentSum};
use crate::limits::MAX_COUNTED;
use std::collections::HashMap;

/// The largest log-likelihood ratio of one entry or set. An infinite one, of an outcome that is impossible under the alternative, would
/// make the sum useless after a single rounding.
const MOST: f64 = 3.0;

/// `ln p/(1 - p) - ln q/(1 - q)`, at most [`MOST`] either way.
fn log_odds(p: f64, q: f64) -> f64 {
    (libm::log(p / q) - libm::log((1.0 - p) / (1.0 - q))).clamp(-MOST, MOST)
}

impl Masks<'_> {
    /// Likelihood ratios `sum a (m - q)`, `a = ln q'/(1 - q') - ln q/(1 - q)`, for wrong probabilities `q'`: kind, name, `a`.
    pub(super) fn likelihood_ratios(&self) -> Vec<(AlphaClass, String, Vec<f64>)> {
        let mut all = Vec::new();
        let mut aim = |class: AlphaClass, name: String, wrong: &dyn Fn(f64) -> f64| {
            let ratio = |&q: &f64| log_odds(wrong(q).clamp(0.0, 1.0), q);
            let ratios: Vec<f64> = self.q.iter().map(ratio).collect();
            if ratios.iter().any(|&a| a != 0.0) {
                all.push((class, name, ratios));
            }
        };
        aim(AlphaClass::First, "c too large".into(), &|q| q * 1.01);
        aim(AlphaClass::First, "c too small".into(), &|q| q * 0.99);
        aim(AlphaClass::Aimed, "q squared".into(), &|q| q * q);
        aim(AlphaClass::Aimed, "the root of q".into(), &|q| libm::sqrt(q));
        for (name, bits) in [("bf16", 8), ("f16", 11)] {
            aim(AlphaClass::Aimed, format!("q of {name}"), &|q| float(q, bits));
            aim(AlphaClass::Aimed, format!("uniforms cut to {name}"), &|q| neighbours(q, bits)[1]);
            aim(AlphaClass::Aimed, format!("uniforms rounded to {name}"), &|q| {
                middle(neighbours(q, bits))
            });
        }
        for bits in 1..=16 {
            let steps = libm::exp2(f64::from(bits));
            let first =
                if [6, 7, 8, 10].contains(&bits) { AlphaClass::First } else { AlphaClass::Aimed };
            let main = if bits == 8 && !self.is_systematic() { AlphaClass::Main } else { first };
            aim(main, format!("q cut to {bits} bits"), &|q| cut(q, bits));
            aim(main, format!("uniforms of {bits} bits"), &|q| raised(q, bits));
            aim(first, format!("q rounded to {bits} bits"), &|q| rounded(q, bits));
            aim(AlphaClass::Aimed, format!("uniforms of {bits} bits from 1"), &|q| {
                (libm::floor(q * steps) + 1.0) / (steps + 1.0)
            });
            aim(AlphaClass::Aimed, format!("uniforms of {bits} bits to 1"), &|q| {
                libm::ceil(q * (steps - 1.0)) / steps
            });
            aim(AlphaClass::Aimed, format!("no q below 2^-{bits}"), &|q| {
                if q * steps < 1.0 { 0.0 } else { q }
            });
            aim(AlphaClass::Aimed, format!("no q below 2^-{bits} but 0"), &|q| q.max(1.0 / steps));
        }
        all
    }

    /// Tests every likelihood ratio. Only an excess speaks for the alternative.
    pub(super) fn alternatives(&self, tests: &mut Tests) {
        let all: Vec<usize> = (0..self.q.len()).collect();
        for (class, name, a) in self.likelihood_ratios() {
            let of = |at: &usize| a[*at] * (self.count(*at) - self.runs as f64 * self.q[*at]);
            let excess: f64 = all.iter().map(of).sum();
            let null = IndependentSum::of(self.variables(&all, |at| a[at]), self.runs as f64);
            let log_p = if excess > 0.0 { null.log_tail_one_sided(excess) } else { 0.0 };
            tests.add(class, log_p, || {
                let what = format!("{name}, a likelihood ratio whose mean is 0 if right");
                (what, [excess, 0.0, libm::sqrt(null.variance())])
            });
        }
    }

    /// `sum f(set)` over all runs and systematic rows, less its mean; only an excess counts if `one_sided`.
    fn sets(
        &self,
        counts: &[Vec<f64>],
        tests: &mut Tests,
        (class, one_sided): (AlphaClass, bool),
        what: impl Fn() -> String,
        f: impl Fn(&Piece) -> f64,
    ) {
        let (mut variables, mut found) = (Vec::new(), 0.0);
        for (row, pieces) in self.pieces.iter().enumerate().filter(|(_, pieces)| pieces.len() > 1) {
            let values: Vec<f64> = pieces.iter().map(&f).collect();
            let with = || pieces.iter().zip(&values);
            let mean: f64 = with().map(|(piece, x)| piece.p * x).sum();
            let outcomes = with().map(|(piece, x)| (piece.p, x - mean)).collect();
            variables.push(BoundedVariable { outcomes, slack: self.row_slack[row] });
            found += values.iter().zip(&counts[row]).map(|(x, n)| (x - mean) * n).sum::<f64>();
        }
        let null = IndependentSum::of(variables, self.runs as f64);
        let log_p = match found {
            x if x <= 0.0 && one_sided => 0.0,
            x if one_sided => null.log_tail_one_sided(x),
            x => null.log_tail(x),
        };
        tests.add(class, log_p, || (what(), [found, 0.0, libm::sqrt(null.variance())]));
    }

    /// The distribution of the uniforms of systematic rows: likelihood ratios of grids of `2^bits` points, moments, sines and cosines.
    pub(super) fn row_uniforms(&self, counts: &[Vec<f64>], tests: &mut Tests) {
        for bits in [4, 5, 6, 7, 8, 9, 10, 12, 16] {
            for (shift, from) in [(0.0, "0"), (0.5, "half a step")] {
                let steps = libm::exp2(f64::from(bits));
                // The uniform 0 keeps the set of the uniforms just below 1.
                let points = |&(from, to): &(f64, f64)| {
                    libm::floor(to * steps + shift) - libm::floor(from * steps + shift)
                };
                let class = match bits {
                    8 if shift == 0.0 => AlphaClass::Main,
                    6..=10 => AlphaClass::First,
                    _ => AlphaClass::Aimed,
                };
                let what =
                    || format!("row uniforms of {bits} bits from {from}, a likelihood ratio");
                self.sets(counts, tests, (class, true), what, |piece| {
                    let p = piece.spans.iter().map(points).sum::<f64>() / steps;
                    libm::log(p / piece.p).clamp(-MOST, MOST)
                });
            }
        }
        // The mean over a set's uniforms of the derivative of `integral`.
        let mut mean = |name: String, integral: &dyn Fn(f64) -> f64| {
            let what = || format!("the mean of {name} of the row uniforms u");
            self.sets(counts, tests, (AlphaClass::First, false), what, |piece| {
                let sum: f64 = piece.spans.iter().map(|&(a, b)| integral(b) - integral(a)).sum();
                if piece.p > 0.0 { sum / piece.p } else { 0.0 }
            });
        };
        mean("u".into(), &|u| u * u / 2.0);
        mean("u^2".into(), &|u| u * u * u / 3.0);
        mean("ln u".into(), &|u| if u > 0.0 { u * libm::log(u) - u } else { 0.0 });
        mean("ln (1 - u)".into(), &|u| {
            if u < 1.0 { (u - 1.0) * libm::log(1.0 - u) - u } else { -1.0 }
        });
        for k in 1..=4 {
            let turns = 2.0 * std::f64::consts::PI * f64::from(k);
            mean(format!("cos 2 pi {k} u"), &|u| libm::sin(turns * u) / turns);
            mean(format!("sin 2 pi {k} u"), &|u| -libm::cos(turns * u) / turns);
        }
    }

    /// The variance over the runs of the counts of all rows together.
    pub(super) fn counts_of_rows(&self, tests: &mut Tests) {
        let (mut variables, mut found) = (Vec::new(), 0.0);
        for (row, group) in self.of_row.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
            let slack = if self.is_systematic() {
                self.row_slack[row]
            } else {
                group.iter().map(|&at| self.slack[at]).sum()
            };
            let (variable, sum) = self.squares(group, slack);
            variables.push(variable);
            found += sum;
        }
        let null = IndependentSum::of(variables, self.runs as f64);
        tests.add(AlphaClass::Aimed, null.log_tail(found), || {
            let what = "how the numbers of kept entries of the rows vary from run to run".into();
            (what, [found, 0.0, libm::sqrt(null.variance())])
        });
    }

    /// The squared deviation of a group's count, less its mean: as a variable, and summed over the runs.
    pub(super) fn squares(&self, group: &[usize], slack: f64) -> (BoundedVariable, f64) {
        let distribution = self.count_distribution(group);
        let all = || {
            distribution
                .probability
                .iter()
                .enumerate()
                .map(|(n, &p)| ((distribution.least + n) as f64, p))
        };
        let mean: f64 = all().map(|(n, p)| n * p).sum();
        let square = |x: f64| (x - mean) * (x - mean);
        let variance: f64 = all().map(|(n, p)| p * square(n)).sum();
        let outcomes = all().map(|(n, p)| (p, square(n) - variance)).collect();
        let found = (0..self.runs)
            .map(|run| square(group.iter().filter(|&&at| self.bit(at, run)).count() as f64))
            .map(|x| x - variance)
            .sum();
        (BoundedVariable { outcomes, slack }, found)
    }

    /// The variance of a group's count.
    pub(super) fn count_variance(&self, group: &[usize]) -> f64 {
        let distribution = self.count_distribution(group);
        let all = || {
            distribution
                .probability
                .iter()
                .enumerate()
                .map(|(n, &p)| ((distribution.least + n) as f64, p))
        };
        let mean: f64 = all().map(|(n, p)| n * p).sum();
        all().map(|(n, p)| p * (n - mean) * (n - mean)).sum()
    }

    /// The variance over the runs of the count of each group.
    pub(super) fn counts_by_run(&self, tests: &mut Tests) {
        for (class, name, group) in self.groups() {
            if group.len() > MAX_COUNTED {
                continue;
            }
            let slack = group.iter().map(|&at| self.slack[at]).sum::<f64>()
                + if self.is_systematic() { self.row_slacks(&group) } else { 0.0 };
            let (variable, found) = self.squares(&group, slack);
            let null = IndependentSum::of(vec![variable], self.runs as f64);
            tests.add(class, null.log_tail(found), || {
                let what =
                    format!("how the number of kept entries of {name} varies from run to run");
                (what, [found, 0.0, libm::sqrt(null.variance())])
            });
        }
    }

    /// A systematic row keeps one of few sets, each with the length of its piece as its probability.
    pub(super) fn support(&self, tests: &mut Tests) {
        if !self.is_systematic() {
            return;
        }
        let all: Vec<Vec<f64>> = (0..self.pieces.len()).map(|row| self.piece_counts(row)).collect();
        self.row_uniforms(&all, tests);
        for (row, pieces) in self.pieces.iter().enumerate() {
            if self.of_row[row].is_empty() {
                continue;
            }
            let counts = &all[row];
            let (slack, at) = (self.row_slack[row], self.model.rows[row].row);
            let outside = counts[pieces.len()];
            let most = slack * self.runs as f64;
            let log_p = if outside > most {
                outside - most + outside * libm::log(most / outside)
            } else {
                0.0
            };
            tests.add(AlphaClass::Single, log_p, || {
                let what = format!("sets kept by row {at:?} that no uniform keeps");
                (what, [outside, most, libm::sqrt(most)])
            });
            for (piece, count) in pieces.iter().zip(counts) {
                let p = piece.p.clamp(0.0, 1.0);
                let null = IndependentSum::of(
                    vec![BoundedVariable::entry(p, 1.0, slack)],
                    self.runs as f64,
                );
                let expected = p * self.runs as f64;
                tests.add(AlphaClass::Single, null.log_tail(count - expected), || {
                    let what = format!("how often row {at:?} keeps one of its sets");
                    (what, [*count, expected, libm::sqrt(null.variance())])
                });
            }
        }
    }

    /// How often a systematic row keeps each of its sets, and at the end how often any other set.
    fn piece_counts(&self, row: usize) -> Vec<f64> {
        let pieces = &self.pieces[row];
        let mut counts = vec![0.0_f64; pieces.len() + 1];
        for run in 0..self.runs {
            let mask = self.of_row[row].iter().map(|&at| self.bit(at, run));
            let same = |piece: &Piece| piece.mask.iter().copied().eq(mask.clone());
            let piece = pieces.iter().position(same);
            counts[piece.unwrap_or(pieces.len())] += 1.0;
        }
        counts
    }

    /// `ln` of the probability that two runs have the same mask, at most.
    pub(super) fn log_equal(&self) -> f64 {
        if self.is_systematic() {
            self.pieces
                .iter()
                .zip(&self.row_slack)
                .map(|(row, slack)| {
                    row.iter().map(|piece| piece.p * piece.p).sum::<f64>() + 4.0 * slack
                })
                .map(|p| libm::log(p.min(1.0)))
                .sum()
        } else {
            let of = |at: usize| (1.0 - 2.0 * self.variance(at) + 4.0 * self.slack[at]).min(1.0);
            (0..self.q.len()).map(|at| libm::log(of(at))).sum()
        }
    }

    /// Runs with the same mask.
    pub(super) fn duplicates(&self, tests: &mut Tests) {
        let same = self.log_equal();
        let mut seen: HashMap<Vec<u64>, usize> = HashMap::new();
        for run in 0..self.runs {
            let mut mask = vec![0_u64; self.q.len().div_ceil(64)];
            for at in (0..self.q.len()).filter(|&at| self.bit(at, run)) {
                mask[at / 64] |= 1 << (at % 64);
            }
            *seen.entry(mask).or_default() += 1;
        }
        let pairs: f64 = seen.values().map(|&n| (n as f64) * (n as f64 - 1.0) / 2.0).sum();
        let all = self.runs as f64 * (self.runs as f64 - 1.0) / 2.0;
        let expected = all * libm::exp(same);
        // Markov's inequality for the number of equal pairs (docs/statistics.md, "Tests of the masks").
        let log_p =
            if pairs > 0.0 { (libm::log(all) + same - libm::log(pairs)).min(0.0) } else { 0.0 };
        tests.add(AlphaClass::Aimed, log_p, || {
            ("pairs of runs with the same mask".into(), [pairs, expected, libm::sqrt(expected)])
        });
    }
}
