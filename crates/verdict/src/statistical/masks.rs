//! Tests of recovered masks against their exact distribution.

use super::battery::{AlphaClass, Tests};
use super::bits::count;
use super::mask_recovery::{MaskRecovery, RecoveredMasks, Unknown};
use super::model::{Model, ModelRow};
use super::tails::{BoundedVariable, IndependentSum};
use std::collections::HashMap;
use sus_reference::sus::Sampler;
use sus_reference::sus::moments::count::{CountDistribution, poisson_binomial, sum_distribution};

/// The recovered masks with their distribution.
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
    pub pieces: Vec<Vec<Piece>>,
    /// The probability that rounding can move in a systematic row.
    pub row_slack: Vec<f64>,
}

/// One of the sets that a systematic row can keep.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Its probability.
    pub p: f64,
    /// Which of the row's unknowns it keeps.
    pub mask: Vec<bool>,
    /// The uniforms `(from, to]` that keep it.
    pub spans: Vec<(f64, f64)>,
}

impl<'a> Masks<'a> {
    pub(super) fn new(
        model: &'a Model<'a>,
        recovery: &'a MaskRecovery,
        recovered: &'a RecoveredMasks,
        runs: usize,
    ) -> Self {
        let unknowns = &recovery.unknowns;
        let mut of_row = vec![Vec::new(); model.rows.len()];
        for (at, unknown) in unknowns.iter().enumerate() {
            of_row[unknown.row].push(at);
        }
        let q = unknowns.iter().map(|u| model.rows[u.row].distribution.q[u.n]).collect();
        let slack = unknowns.iter().map(|u| model.rows[u.row].slack(u.n)).collect();
        let pieces = (0..model.rows.len()).map(|row| pieces(model, row)).collect();
        let row_slack = model.rows.iter().map(ModelRow::row_slack).collect();
        let bits = &recovered.bits;
        Masks { model, unknowns, bits, runs, q, slack, of_row, pieces, row_slack }
    }

    pub(super) fn is_systematic(&self) -> bool {
        self.model.draw.sampler == Sampler::Systematic
    }

    pub(super) fn count(&self, at: usize) -> f64 {
        count(&self.bits[at])
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

    /// `sum a (m - q)` over some unknowns, in one run, as independent variables.
    pub(super) fn variables(
        &self,
        group: &[usize],
        a: impl Fn(usize) -> f64,
    ) -> Vec<BoundedVariable> {
        if !self.is_systematic() {
            return group
                .iter()
                .map(|&at| BoundedVariable::entry(self.q[at], a(at), self.slack[at]))
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
                let of_piece = |piece: &Piece| (piece.p, value(&piece.mask) - mean);
                let mut outcomes: Vec<(f64, f64)> = self.pieces[row].iter().map(of_piece).collect();
                // Rounding can lead to sets that belong to no piece: their sums lie between these two.
                for pick in [f64::min, f64::max] {
                    let sum: f64 = weights.iter().map(|&a| pick(a, 0.0)).sum();
                    outcomes.push((0.0, sum - mean));
                }
                BoundedVariable { outcomes, slack: self.row_slack[row] }
            })
            .collect()
    }

    /// Tests the mean of `sum a (m - q)`.
    pub(super) fn sum(
        &self,
        tests: &mut Tests,
        class: AlphaClass,
        group: &[usize],
        a: impl Fn(usize) -> f64,
        what: impl FnOnce() -> String,
    ) {
        let runs = self.runs as f64;
        let found: f64 = group.iter().map(|&at| a(at) * self.count(at)).sum();
        let expected: f64 = group.iter().map(|&at| a(at) * self.q[at] * runs).sum();
        let null = IndependentSum::of(self.variables(group, &a), runs);
        let log_p = null.log_tail(found - expected);
        tests.add(class, log_p, || (what(), [found, expected, libm::sqrt(null.variance())]));
    }

    /// How often entries are kept: each entry, each group, each class of `q`.
    pub(super) fn probabilities(&self, tests: &mut Tests) {
        for at in 0..self.q.len() {
            self.sum(
                tests,
                AlphaClass::Single,
                &[at],
                |_| 1.0,
                || format!("how often entry {:?} is kept", self.place(at)),
            );
        }
        for (class, name, group) in self.groups() {
            self.sum(
                tests,
                class,
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
                    AlphaClass::Aimed,
                    &group,
                    |_| 1.0,
                    || format!("how many entries with q < 2^-{power} are kept"),
                );
            }
        }
    }

    /// All entries; heads; rows and keys modulo 2, 4, 8; rows; keys of a head.
    pub(super) fn groups(&self) -> Vec<(AlphaClass, String, Vec<usize>)> {
        let mut groups: Vec<(AlphaClass, String, Vec<usize>)> =
            vec![(AlphaClass::First, "the whole mask".into(), (0..self.q.len()).collect())];
        let mut by = |class: AlphaClass, name: &str, key: &dyn Fn([usize; 4]) -> Vec<usize>| {
            let mut found: std::collections::BTreeMap<Vec<usize>, Vec<usize>> =
                std::collections::BTreeMap::new();
            for at in 0..self.q.len() {
                found.entry(key(self.place(at))).or_default().push(at);
            }
            if found.len() > 1 {
                groups.extend(found.into_iter().map(|(k, g)| (class, format!("{name} {k:?}"), g)));
            }
        };
        by(AlphaClass::Aimed, "batch and head", &|[b, h, ..]| vec![b, h]);
        for step in [2, 4, 8] {
            by(AlphaClass::Aimed, &format!("rows modulo {step},"), &|[_, _, i, _]| vec![i % step]);
            by(AlphaClass::Aimed, &format!("keys modulo {step},"), &|[.., j]| vec![j % step]);
        }
        by(AlphaClass::Single, "row", &|[b, h, i, _]| vec![b, h, i]);
        by(AlphaClass::Single, "batch, head and key", &|[b, h, _, j]| vec![b, h, j]);
        groups
    }

    /// The error of an entry's keep probability, at most; in a systematic row that of the running sum is part of it.
    pub(super) fn entry_slack(&self, at: usize) -> f64 {
        if self.is_systematic() { self.row_slack[self.unknowns[at].row] } else { self.slack[at] }
    }

    pub(super) fn row_slacks(&self, group: &[usize]) -> f64 {
        let mut rows: Vec<usize> = group.iter().map(|&at| self.unknowns[at].row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows.iter().map(|&row| self.row_slack[row]).sum()
    }

    /// The distribution of the number of kept entries of a group.
    pub(super) fn count_distribution(&self, group: &[usize]) -> CountDistribution<f64> {
        if !self.is_systematic() {
            return poisson_binomial(&group.iter().map(|&at| self.q[at]).collect::<Vec<_>>());
        }
        let mut rows: std::collections::BTreeMap<usize, Vec<usize>> =
            std::collections::BTreeMap::new();
        for &at in group {
            rows.entry(self.unknowns[at].row).or_default().push(at);
        }
        let distributions: Vec<CountDistribution<f64>> = rows
            .into_iter()
            .map(|(row, inside)| {
                let mut probability = vec![0.0; inside.len() + 1];
                for Piece { p, mask, .. } in &self.pieces[row] {
                    let kept = self.of_row[row].iter().zip(mask);
                    let kept = kept.filter(|(at, m)| **m && inside.contains(at)).count();
                    probability[kept] += p;
                }
                CountDistribution { least: 0, probability }
            })
            .collect();
        sum_distribution(&distributions)
    }
}

/// The pieces of a systematic row over its stochastic entries.
fn pieces(model: &Model<'_>, row: usize) -> Vec<Piece> {
    let distribution = &model.rows[row].distribution;
    let Some(pieces) = &distribution.pieces else { return Vec::new() };
    let stochastic: Vec<usize> =
        (0..distribution.q.len()).filter(|&n| distribution.is_stochastic(n)).collect();
    let slot = |n: usize| stochastic.binary_search(&n).expect("a step is at an undecided entry");
    let mut mask = vec![false; stochastic.len()];
    pieces.start.iter().for_each(|&n| mask[slot(n)] = true);
    let mut all: Vec<Piece> = Vec::new();
    let mut from = 0.0;
    pieces.for_each(|step, length| {
        if let Some(step) = step {
            mask[slot(step.leaves)] = false;
            if let Some(n) = step.enters {
                mask[slot(n)] = true;
            }
        }
        let span = (from, from + length);
        from += length;
        match all.iter_mut().find(|other| other.mask == mask) {
            Some(piece) => {
                piece.p += length;
                piece.spans.push(span);
            }
            None => all.push(Piece { p: length, mask: mask.clone(), spans: vec![span] }),
        }
    });
    all
}
