//! The law of decoded masks: every bit of every run is known, and so is its exact law.

use super::decode::{Decoded, Decoder, Unknown};
use super::model::Model;
use super::tails::{Atom, Tally};
use super::tests::{Kind, Tests};
use crate::sus::Sampler;
use crate::sus::moments::count::{CountLaw, poisson_binomial, sum_law};
use std::collections::HashMap;

/// The decoded masks with their law.
pub(super) struct Masks<'a> {
    pub model: &'a Model<'a>,
    pub unknowns: &'a [Unknown],
    pub bits: &'a [Vec<u64>],
    pub runs: usize,
    /// `q` of each unknown.
    pub q: Vec<f64>,
    pub slack: Vec<f64>,
    /// The unknowns of each row.
    pub of_row: Vec<Vec<usize>>,
    /// The pieces of each systematic row: probability, bit of each unknown of the row.
    pub pieces: Vec<Vec<(f64, Vec<bool>)>>,
    /// What rounding can move in a systematic row.
    pub row_slack: Vec<f64>,
}

impl<'a> Masks<'a> {
    pub(super) fn new(
        model: &'a Model<'a>,
        decoder: &'a Decoder,
        decoded: &'a Decoded,
        runs: usize,
    ) -> Self {
        let unknowns = &decoder.unknowns;
        let mut of_row = vec![Vec::new(); model.rows.len()];
        for (at, unknown) in unknowns.iter().enumerate() {
            of_row[unknown.row].push(at);
        }
        let q = unknowns.iter().map(|u| model.rows[u.row].law.q[u.n]).collect();
        let slack = unknowns.iter().map(|u| model.slack(&model.rows[u.row], u.n)).collect();
        let pieces = (0..model.rows.len()).map(|row| pieces(model, row)).collect();
        let row_slack = (0..model.rows.len()).map(|row| row_slack(model, row)).collect();
        let bits = &decoded.bits;
        Masks { model, unknowns, bits, runs, q, slack, of_row, pieces, row_slack }
    }

    pub(super) fn is_systematic(&self) -> bool {
        self.model.draw.sampler == Sampler::Systematic
    }

    pub(super) fn count(&self, at: usize) -> f64 {
        f64::from(self.bits[at].iter().map(|word| word.count_ones()).sum::<u32>())
    }

    pub(super) fn bit(&self, at: usize, run: usize) -> bool {
        self.bits[at][run / 64] >> (run % 64) & 1 == 1
    }

    pub(super) fn variance(&self, at: usize) -> f64 {
        self.q[at] * (1.0 - self.q[at])
    }

    /// `[b, h, i, j]` of an unknown.
    pub(super) fn place(&self, at: usize) -> [usize; 4] {
        let Unknown { row, n, .. } = self.unknowns[at];
        let row = &self.model.rows[row];
        [row.row.b, row.row.h, row.row.i, row.entries[n].j]
    }

    /// `sum a (m - q)` over some unknowns, in one run, as independent atoms.
    pub(super) fn atoms(&self, group: &[usize], a: impl Fn(usize) -> f64) -> Vec<Atom> {
        if !self.is_systematic() {
            return group
                .iter()
                .map(|&at| Atom::entry(self.q[at], a(at), self.slack[at]))
                .collect();
        }
        let mut by_row: HashMap<usize, f64> = HashMap::new();
        let inside: HashMap<usize, f64> = group.iter().map(|&at| (at, a(at))).collect();
        for &at in group {
            *by_row.entry(self.unknowns[at].row).or_default() += inside[&at] * self.q[at];
        }
        let mut rows: Vec<(usize, f64)> = by_row.into_iter().collect();
        rows.sort_by_key(|row| row.0);
        rows.into_iter()
            .map(|(row, mean)| {
                let weights: Vec<f64> = self.of_row[row]
                    .iter()
                    .map(|at| inside.get(at).copied().unwrap_or(0.0))
                    .collect();
                let value = |mask: &[bool]| {
                    mask.iter().zip(&weights).filter(|(m, _)| **m).map(|(_, a)| a).sum::<f64>()
                };
                let outcomes =
                    self.pieces[row].iter().map(|(p, mask)| (*p, value(mask) - mean)).collect();
                Atom { outcomes, slack: self.row_slack[row] }
            })
            .collect()
    }

    /// Tests the mean of `sum a (m - q)`.
    fn sum(
        &self,
        tests: &mut Tests,
        kind: Kind,
        group: &[usize],
        a: impl Fn(usize) -> f64,
        what: impl FnOnce() -> String,
    ) {
        let runs = self.runs as f64;
        let found: f64 = group.iter().map(|&at| a(at) * self.count(at)).sum();
        let expected: f64 = group.iter().map(|&at| a(at) * self.q[at] * runs).sum();
        let tally = Tally::of(self.atoms(group, &a), runs);
        let log_p = tally.log_tail(found - expected);
        tests.add(kind, log_p, || (what(), [found, expected, libm::sqrt(tally.variance())]));
    }

    /// Every test.
    pub(super) fn test(&self, tests: &mut Tests) {
        self.probabilities(tests);
        self.alternatives(tests);
        self.counts_of_rows(tests);
        self.counts_by_run(tests);
        self.support(tests);
        self.duplicates(tests);
        super::pairs::test(self, tests);
    }

    /// Kept too often or too seldom: entry by entry, by group, by size of `q`.
    fn probabilities(&self, tests: &mut Tests) {
        for at in 0..self.q.len() {
            self.sum(
                tests,
                Kind::Single,
                &[at],
                |_| 1.0,
                || format!("how often entry {:?} is kept", self.place(at)),
            );
        }
        for (kind, name, group) in self.groups() {
            self.sum(
                tests,
                kind,
                &group,
                |_| 1.0,
                || format!("how many entries of {name} are kept"),
            );
        }
        for power in 1..20 {
            let below = libm::exp2(-f64::from(power));
            let group: Vec<usize> = (0..self.q.len()).filter(|&at| self.q[at] < below).collect();
            if !group.is_empty() {
                self.sum(
                    tests,
                    Kind::Aimed,
                    &group,
                    |_| 1.0,
                    || format!("how many entries with q < 2^-{power} are kept"),
                );
            }
        }
    }

    /// All; heads; rows; keys of a head.
    pub(super) fn groups(&self) -> Vec<(Kind, String, Vec<usize>)> {
        let mut groups: Vec<(Kind, String, Vec<usize>)> =
            vec![(Kind::First, "the whole mask".into(), (0..self.q.len()).collect())];
        let mut by = |kind: Kind, name: &str, key: &dyn Fn([usize; 4]) -> Vec<usize>| {
            let mut found: std::collections::BTreeMap<Vec<usize>, Vec<usize>> =
                std::collections::BTreeMap::new();
            for at in 0..self.q.len() {
                found.entry(key(self.place(at))).or_default().push(at);
            }
            if found.len() > 1 {
                groups.extend(found.into_iter().map(|(k, g)| (kind, format!("{name} {k:?}"), g)));
            }
        };
        by(Kind::Aimed, "batch and head", &|[b, h, ..]| vec![b, h]);
        by(Kind::Single, "row", &|[b, h, i, _]| vec![b, h, i]);
        by(Kind::Single, "batch, head and key", &|[b, h, _, j]| vec![b, h, j]);
        groups
    }

    /// Likelihood-ratio directions: `sum (q' - q) / (q (1 - q)) (m - q)` for wrong probabilities `q'`.
    fn alternatives(&self, tests: &mut Tests) {
        let all: Vec<usize> = (0..self.q.len()).collect();
        let mut aim = |kind: Kind, name: String, wrong: &dyn Fn(f64) -> f64| {
            let difference: Vec<f64> =
                self.q.iter().map(|&q| wrong(q).clamp(0.0, 1.0) - q).collect();
            let a = |at: usize| difference[at] / self.variance(at);
            if difference.iter().all(|&d| d == 0.0) {
                return;
            }
            let excess: f64 = all
                .iter()
                .map(|&at| a(at) * (self.count(at) - self.runs as f64 * self.q[at]))
                .sum();
            let tally = Tally::of(self.atoms(&all, a), self.runs as f64);
            // Only an excess speaks for the alternative.
            let log_p = if excess > 0.0 { tally.log_tail_one_sided(excess) } else { 0.0 };
            tests.add(kind, log_p, || {
                let expected =
                    all.iter().map(|&at| a(at) * difference[at]).sum::<f64>() * self.runs as f64;
                let what = format!("{name}, a score that is 0 if right and {expected:.1} so");
                (what, [excess, 0.0, libm::sqrt(tally.variance())])
            });
        };
        aim(Kind::First, "c too large".into(), &|q| q * 1.01);
        aim(Kind::First, "c too small".into(), &|q| q * 0.99);
        aim(Kind::Aimed, "q squared".into(), &|q| q * q);
        aim(Kind::Aimed, "the root of q".into(), &|q| libm::sqrt(q));
        for bits in 1..=16 {
            let kind = if [7, 8, 10].contains(&bits) { Kind::First } else { Kind::Aimed };
            let steps = libm::exp2(f64::from(bits));
            aim(kind, format!("q cut to {bits} bits"), &|q| libm::floor(q * steps) / steps);
            aim(kind, format!("uniforms of {bits} bits"), &|q| libm::ceil(q * steps) / steps);
            aim(Kind::Aimed, format!("q rounded to {bits} bits"), &|q| {
                libm::round(q * steps) / steps
            });
            aim(Kind::Aimed, format!("uniforms of {bits} bits from 1"), &|q| {
                (libm::floor(q * steps) + 1.0) / (steps + 1.0)
            });
            aim(Kind::Aimed, format!("no q below 2^-{bits}"), &|q| {
                if q * steps < 1.0 { 0.0 } else { q }
            });
            aim(Kind::Aimed, format!("no q below 2^-{bits} but 0"), &|q| q.max(1.0 / steps));
        }
    }

    /// The spread over runs of the numbers of kept entries of all rows together.
    fn counts_of_rows(&self, tests: &mut Tests) {
        let (mut atoms, mut found) = (Vec::new(), 0.0);
        for (row, group) in self.of_row.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
            let slack = if self.is_systematic() {
                self.row_slack[row]
            } else {
                group.iter().map(|&at| self.slack[at]).sum()
            };
            let (atom, sum) = self.squares(group, slack);
            atoms.push(atom);
            found += sum;
        }
        let tally = Tally::of(atoms, self.runs as f64);
        tests.add(Kind::Aimed, tally.log_tail(found), || {
            let what = "how the numbers of kept entries of the rows vary from run to run".into();
            (what, [found, 0.0, libm::sqrt(tally.variance())])
        });
    }

    /// The squared deviation of a group's count, less its mean: as an atom, and summed over the runs.
    fn squares(&self, group: &[usize], slack: f64) -> (Atom, f64) {
        let law = self.count_law(group);
        let all = || law.probability.iter().enumerate().map(|(n, &p)| ((law.least + n) as f64, p));
        let mean: f64 = all().map(|(n, p)| n * p).sum();
        let square = |x: f64| (x - mean) * (x - mean);
        let variance: f64 = all().map(|(n, p)| p * square(n)).sum();
        let outcomes = all().map(|(n, p)| (p, square(n) - variance)).collect();
        let found = (0..self.runs)
            .map(|run| square(group.iter().filter(|&&at| self.bit(at, run)).count() as f64))
            .map(|x| x - variance)
            .sum();
        (Atom { outcomes, slack }, found)
    }

    /// The spread over runs of the number of kept entries of a group.
    fn counts_by_run(&self, tests: &mut Tests) {
        for (kind, name, group) in self.groups() {
            if group.len() > 4096 {
                continue;
            }
            let slack = group.iter().map(|&at| self.slack[at]).sum::<f64>()
                + if self.is_systematic() { self.row_slacks(&group) } else { 0.0 };
            let (atom, found) = self.squares(&group, slack);
            let tally = Tally::of(vec![atom], self.runs as f64);
            tests.add(kind, tally.log_tail(found), || {
                let what =
                    format!("how the number of kept entries of {name} varies from run to run");
                (what, [found, 0.0, libm::sqrt(tally.variance())])
            });
        }
    }

    fn row_slacks(&self, group: &[usize]) -> f64 {
        let mut rows: Vec<usize> = group.iter().map(|&at| self.unknowns[at].row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows.iter().map(|&row| self.row_slack[row]).sum()
    }

    /// The law of the number of kept entries of a group.
    pub(super) fn count_law(&self, group: &[usize]) -> CountLaw<f64> {
        if !self.is_systematic() {
            return poisson_binomial(&group.iter().map(|&at| self.q[at]).collect::<Vec<_>>());
        }
        let mut rows: std::collections::BTreeMap<usize, Vec<usize>> =
            std::collections::BTreeMap::new();
        for &at in group {
            rows.entry(self.unknowns[at].row).or_default().push(at);
        }
        let laws: Vec<CountLaw<f64>> = rows
            .into_iter()
            .map(|(row, inside)| {
                let mut probability = vec![0.0; inside.len() + 1];
                for (p, mask) in &self.pieces[row] {
                    let kept = self.of_row[row].iter().zip(mask);
                    let kept = kept.filter(|(at, m)| **m && inside.contains(at)).count();
                    probability[kept] += p;
                }
                CountLaw { least: 0, probability }
            })
            .collect();
        sum_law(&laws)
    }

    /// Systematic rows keep one of few sets, each as often as its piece is long.
    fn support(&self, tests: &mut Tests) {
        if !self.is_systematic() {
            return;
        }
        for (row, pieces) in self.pieces.iter().enumerate() {
            if self.of_row[row].is_empty() {
                continue;
            }
            let mut counts = vec![0.0_f64; pieces.len() + 1];
            for run in 0..self.runs {
                let mask: Vec<bool> =
                    self.of_row[row].iter().map(|&at| self.bit(at, run)).collect();
                let piece = pieces.iter().position(|(_, piece)| *piece == mask);
                counts[piece.unwrap_or(pieces.len())] += 1.0;
            }
            let (slack, at) = (self.row_slack[row], self.model.rows[row].row);
            let outside = counts[pieces.len()];
            let most = slack * self.runs as f64;
            let log_p = if outside > most {
                outside - most + outside * libm::log(most / outside)
            } else {
                0.0
            };
            tests.add(Kind::Single, log_p, || {
                let what = format!("sets kept by row {at:?} that no uniform keeps");
                (what, [outside, most, libm::sqrt(most)])
            });
            for ((p, _), count) in pieces.iter().zip(&counts) {
                let p = p.clamp(0.0, 1.0);
                let tally = Tally::of(vec![Atom::entry(p, 1.0, slack)], self.runs as f64);
                let expected = p * self.runs as f64;
                tests.add(Kind::Single, tally.log_tail(count - expected), || {
                    let what = format!("how often row {at:?} keeps one of its sets");
                    (what, [*count, expected, libm::sqrt(tally.variance())])
                });
            }
        }
    }

    /// Runs with the same mask.
    fn duplicates(&self, tests: &mut Tests) {
        let same: f64 = if self.is_systematic() {
            self.pieces
                .iter()
                .zip(&self.row_slack)
                .map(|(row, slack)| row.iter().map(|(p, _)| p * p).sum::<f64>() + 4.0 * slack)
                .map(|p| libm::log(p.min(1.0)))
                .sum()
        } else {
            let of = |at: usize| (1.0 - 2.0 * self.variance(at) + 4.0 * self.slack[at]).min(1.0);
            (0..self.q.len()).map(|at| libm::log(of(at))).sum()
        };
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
        // Markov's inequality for the number of equal pairs.
        let log_p =
            if pairs > 0.0 { (libm::log(all) + same - libm::log(pairs)).min(0.0) } else { 0.0 };
        tests.add(Kind::Aimed, log_p, || {
            ("pairs of runs with the same mask".into(), [pairs, expected, libm::sqrt(expected)])
        });
    }
}

/// The pieces of a systematic row over its undecided entries.
fn pieces(model: &Model<'_>, row: usize) -> Vec<(f64, Vec<bool>)> {
    let law = &model.rows[row].law;
    let Some(pieces) = &law.pieces else { return Vec::new() };
    let undecided: Vec<usize> = (0..law.q.len()).filter(|&n| law.is_undecided(n)).collect();
    let slot = |n: usize| undecided.binary_search(&n).expect("a step is at an undecided entry");
    let mut mask = vec![false; undecided.len()];
    pieces.start.iter().for_each(|&n| mask[slot(n)] = true);
    let mut all: Vec<(f64, Vec<bool>)> = Vec::new();
    pieces.for_each(|step, length| {
        if let Some(step) = step {
            mask[slot(step.leaves)] = false;
            if let Some(n) = step.enters {
                mask[slot(n)] = true;
            }
        }
        match all.iter_mut().find(|(_, other)| *other == mask) {
            Some((p, _)) => *p += length,
            None => all.push((length, mask.clone())),
        }
    });
    all
}

/// How much probability rounding can move between the pieces of a row: every cut may move by the errors of the sums
/// before it.
fn row_slack(model: &Model<'_>, row: usize) -> f64 {
    let row = &model.rows[row];
    let n = row.law.q.len() as f64;
    let total: f64 = row.law.q.iter().sum();
    let relative = libm::expm1(row.log_error) + n * row.log_error.max(1.2e-16);
    2.0 * (n + 1.0) * (total * relative + 1.0 / 4_294_967_296.0)
}
