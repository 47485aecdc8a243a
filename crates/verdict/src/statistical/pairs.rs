//! Independence: pairs of entries, of one run and of runs some steps apart.

use super::battery::{AlphaClass, Tests};
use super::bits::{Together, alternate, count, counts_in_both, earlier, select};
use super::masks::{Masks, Piece};
use super::tails::{BoundedVariable, IndependentSum};
use crate::limits::MAX_PAIRED;
use std::collections::{BTreeMap, HashMap};

/// Every pair of entries is tested up to this many runs apart.
const LAGS: usize = 8;
/// Standard deviations below which a pair is not tested further: it counts as passed, which only lowers the rate of false alarms. The
/// level of a pair is below 1e-14, 7.7 standard deviations.
const LOOKED_AT: f64 = 4.5;

/// All tests of independence.
pub(super) fn test(masks: &Masks<'_>, tests: &mut Tests) {
    for lag in 0..=LAGS {
        all_pairs(masks, tests, lag);
    }
    for (name, pairs) in families(masks) {
        let back = pairs.iter().map(|&(a, b)| (b, a)).collect();
        let [forth, back] = [pairs, back].map(|pairs| Pooled::new(masks, name.clone(), pairs));
        forth.test(masks, tests, AlphaClass::Aimed, 0);
        for lag in [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64].into_iter().filter(|&n| n < masks.runs) {
            forth.test(masks, tests, AlphaClass::Single, lag);
            back.test(masks, tests, AlphaClass::Single, lag);
        }
    }
    let own = Pooled::own(masks);
    let mut lags = vec![1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512, 1024, masks.runs / 2];
    lags.retain(|&lag| lag > 0 && lag < masks.runs);
    lags.dedup();
    for lag in lags {
        own.test(masks, tests, AlphaClass::Aimed, lag);
    }
}

/// Every pair of entries, the second `lag` runs later.
///
/// The terms must be independent of each other. Those of an entry with itself, or with an entry of its systematic row, are independent if
/// the pairs of runs are disjoint: these are tested in two halves, and not within one run.
fn all_pairs(masks: &Masks<'_>, tests: &mut Tests, lag: usize) {
    let entries = masks.q.len();
    if entries > MAX_PAIRED || masks.runs <= lag + 1 {
        return;
    }
    let second: Vec<Vec<u64>> = masks.bits.iter().map(|bits| earlier(bits, lag)).collect();
    let tied = |a: usize, b: usize| {
        a == b || masks.is_systematic() && masks.unknowns[a].row == masks.unknowns[b].row
    };
    let all = masks.runs - lag;
    let halves: &[Option<bool>] = if lag == 0 { &[None] } else { &[None, Some(false), Some(true)] };
    for &half in halves {
        let starts = half.map_or_else(|| select(all, |_| true), |odd| alternate(all, lag, odd));
        let runs = count(&starts);
        if runs == 0.0 {
            continue;
        }
        let of_first = counts_in_both(masks.bits, &starts);
        let of_second = counts_in_both(&second, &starts);
        for (a, &of_first) in of_first.iter().enumerate() {
            let first: Vec<u64> = masks.bits[a].iter().zip(&starts).map(|(x, s)| x & s).collect();
            let least = if lag == 0 { a + 1 } else { 0 };
            let both = counts_in_both(&second[least..], &first);
            for (b, both) in (least..entries).zip(both) {
                if tied(a, b) != half.is_some() {
                    continue;
                }
                let (p, q) = (masks.q[a], masks.q[b]);
                let found = both - p * of_second[b] - q * of_first + runs * p * q;
                let deviation = libm::sqrt(runs * masks.variance(a) * masks.variance(b));
                if found.abs() < LOOKED_AT * deviation {
                    tests.skip(1);
                    continue;
                }
                let variable =
                    BoundedVariable::product(p, q, masks.entry_slack(a) + masks.entry_slack(b));
                let log_p = IndependentSum::of(vec![variable], runs).log_tail(found);
                tests.add(AlphaClass::Single, log_p, || {
                    let later =
                        if lag == 0 { String::new() } else { format!(", {lag} runs later") };
                    let what = format!(
                        "whether entries {:?} and{later} {:?} are kept together",
                        masks.place(a),
                        masks.place(b)
                    );
                    (what, [found, 0.0, deviation])
                });
            }
        }
    }
}

/// Pairs of entries that known bugs make dependent.
pub(super) fn families(masks: &Masks<'_>) -> Vec<(String, Vec<(usize, usize)>)> {
    let places: HashMap<[usize; 4], usize> =
        (0..masks.q.len()).map(|at| (masks.place(at), at)).collect();
    let s = masks.model.problem.sizes();
    let mut families: Vec<(String, Vec<(usize, usize)>)> = Vec::new();
    let mut family = |name: String, other: &dyn Fn([usize; 4]) -> Option<[usize; 4]>| {
        let pairs: Vec<(usize, usize)> = (0..masks.q.len())
            .filter_map(|at| Some((at, *places.get(&other(masks.place(at))?)?)))
            .filter(|&(a, b)| {
                a != b && !(masks.is_systematic() && masks.unknowns[a].row == masks.unknowns[b].row)
            })
            .collect();
        if !pairs.is_empty() {
            families.push((name, pairs));
        }
    };
    for step in 1..s.query_heads.min(9) {
        // Disjoint pairs: heads of an even block of `step` with those of the next.
        for odd in 0..2 {
            family(format!("entries of heads {step} apart"), &|[b, h, i, j]| {
                (h / step % 2 == odd).then_some([b, h + step, i, j])
            });
        }
    }
    for step in 1..s.batch.min(9) {
        for odd in 0..2 {
            family(format!("entries of sequences {step} apart"), &|[b, h, i, j]| {
                (b / step % 2 == odd).then_some([b + step, h, i, j])
            });
        }
    }
    for step in [1, 2, 3, 4, 8, 16] {
        for odd in 0..2 {
            family(format!("entries of rows {step} apart"), &|[b, h, i, j]| {
                (i / step % 2 == odd).then_some([b, h, i + step, j])
            });
            family(format!("entries of keys {step} apart"), &|[b, h, i, j]| {
                (j / step % 2 == odd).then_some([b, h, i, j + step])
            });
            family(format!("entries on a diagonal {step} apart"), &|[b, h, i, j]| {
                (i / step % 2 == odd).then_some([b, h, i + step, j + step])
            });
        }
    }
    family("entries and their transposed".into(), &|[b, h, i, j]| {
        (i < j && !masks.is_systematic()).then_some([b, h, j, i])
    });
    families
}

/// The sum of the products of the deviations of many pairs of entries.
pub(super) struct Pooled {
    name: String,
    pairs: Vec<(usize, usize)>,
    /// Its distribution in one run.
    distribution: IndependentSum<'static>,
}

impl Pooled {
    pub(super) fn new(masks: &Masks<'_>, name: String, pairs: Vec<(usize, usize)>) -> Self {
        let distribution = IndependentSum::of(pair_products(masks, &pairs), 1.0);
        Pooled { name, pairs, distribution }
    }

    /// Each entry with itself, in another run.
    pub(super) fn own(masks: &Masks<'_>) -> Self {
        let pairs = (0..masks.q.len()).map(|at| (at, at)).collect();
        Pooled::new(masks, "entries and themselves".into(), pairs)
    }

    /// Tests the sum with the second entry of each pair `lag` runs later, in sets of runs whose terms are independent.
    pub(super) fn test(&self, masks: &Masks<'_>, tests: &mut Tests, class: AlphaClass, lag: usize) {
        let runs = masks.runs - lag;
        let own = self.pairs.iter().any(|(a, b)| a == b);
        // An entry with itself needs disjoint pairs of runs.
        let starts = if own {
            vec![alternate(runs, lag, false), alternate(runs, lag, true)]
        } else {
            vec![select(runs, |_| true)]
        };
        for starts in &starts {
            let number = count(starts);
            if number == 0.0 {
                continue;
            }
            let pairs = Together { sets: masks.bits, pairs: &self.pairs, starts, lag };
            let mut found = 0.0;
            for (&(a, b), [first, second, both]) in self.pairs.iter().zip(pairs.counts()) {
                let (p, q) = (masks.q[a], masks.q[b]);
                found += both - p * second - q * first + number * p * q;
            }
            // Below 3 standard deviations the test counts as passed, which only lowers the rate of false alarms.
            let deviation = libm::sqrt(number * self.distribution.variance());
            let near = found.abs() < 3.0 * deviation;
            let log_p = if near { 0.0 } else { self.distribution.times(number).log_tail(found) };
            tests.add(class, log_p, || {
                let later = if lag == 0 { String::new() } else { format!(", {lag} runs later,") };
                let what = format!("whether {}{later} are kept together", self.name);
                (what, [found, 0.0, deviation])
            });
        }
    }
}

/// The products of the deviations of pairs, as independent variables; of two systematic rows, all pairs are one variable.
pub(super) fn pair_products(masks: &Masks<'_>, pairs: &[(usize, usize)]) -> Vec<BoundedVariable> {
    if !masks.is_systematic() {
        return pairs
            .iter()
            .map(|&(a, b)| {
                BoundedVariable::product(masks.q[a], masks.q[b], masks.slack[a] + masks.slack[b])
            })
            .collect();
    }
    let mut by_rows: BTreeMap<(usize, usize), Vec<(usize, usize)>> = BTreeMap::new();
    for &(a, b) in pairs {
        by_rows.entry((masks.unknowns[a].row, masks.unknowns[b].row)).or_default().push((a, b));
    }
    by_rows
        .into_iter()
        .map(|((first, second), pairs)| {
            let slot = |row: usize, at: usize| {
                masks.of_row[row].iter().position(|&other| other == at).expect("its row")
            };
            let slots: Vec<(usize, usize)> =
                pairs.iter().map(|&(a, b)| (slot(first, a), slot(second, b))).collect();
            let y = |mask: &[bool], slot: usize, at: usize| {
                f64::from(u8::from(mask[slot])) - masks.q[at]
            };
            // Rounding can lead to sets that belong to no piece; no product is larger than 1.
            let most = pairs.len() as f64;
            let mut outcomes = vec![(0.0, most), (0.0, -most)];
            for Piece { p, mask: x, .. } in &masks.pieces[first] {
                for Piece { p: r, mask: z, .. } in &masks.pieces[second] {
                    let value = pairs.iter().zip(&slots);
                    let value = value.map(|(&(a, b), &(m, n))| y(x, m, a) * y(z, n, b)).sum();
                    outcomes.push((p * r, value));
                }
            }
            BoundedVariable { outcomes, slack: masks.row_slack[first] + masks.row_slack[second] }
        })
        .collect()
}
