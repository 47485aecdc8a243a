//! Tests of decoded masks as wholes: wrong probabilities, the spread of counts, sets of systematic rows, equal masks.

use super::masks::Masks;
use super::tails::{Atom, Tally};
use super::tests::{Kind, Tests};
use std::collections::HashMap;

impl Masks<'_> {
    /// Likelihood-ratio directions: `sum (q' - q) / (q (1 - q)) (m - q)` for wrong probabilities `q'`.
    pub(super) fn alternatives(&self, tests: &mut Tests) {
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
    pub(super) fn counts_of_rows(&self, tests: &mut Tests) {
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
    pub(super) fn counts_by_run(&self, tests: &mut Tests) {
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

    /// Systematic rows keep one of few sets, each as often as its piece is long.
    pub(super) fn support(&self, tests: &mut Tests) {
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
    pub(super) fn duplicates(&self, tests: &mut Tests) {
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
