//! How many rows and keys have at least each number of kept entries. A buffer that has room for some entries and drops the others
//! changes the tail of a count long before its mean or variance.

use super::battery::{AlphaClass, Tests};
use super::masks::Masks;
use super::tails::{BoundedVariable, IndependentSum};

/// Tests how often the counts of rows, and of the keys of a head, reach each number. All entries count, also those always kept.
pub(super) fn test(masks: &Masks<'_>, tests: &mut Tests) {
    let rows: Vec<(usize, Vec<usize>)> = masks
        .of_row
        .iter()
        .zip(&masks.model.rows)
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, row)| {
            (row.distribution.q.iter().filter(|&&q| q >= 1.0).count(), group.clone())
        })
        .collect();
    reached(masks, tests, "rows", &rows);
    // The counts of different keys are independent, unless the entries of a row share one uniform.
    if masks.is_systematic() {
        return;
    }
    let s = masks.model.problem.sizes();
    let of = |[b, h, _, j]: [usize; 4]| (b * s.query_heads + h) * s.keys + j;
    let mut keys = vec![(0, Vec::new()); s.batch * s.query_heads * s.keys];
    for at in 0..masks.q.len() {
        keys[of(masks.place(at))].1.push(at);
    }
    for row in &masks.model.rows {
        for (entry, _) in row.entries.iter().zip(&row.distribution.q).filter(|(_, q)| **q >= 1.0) {
            keys[of([row.row.b, row.row.h, row.row.i, entry.j])].0 += 1;
        }
    }
    keys.retain(|(_, group)| !group.is_empty());
    reached(masks, tests, "keys", &keys);
}

/// Groups, each with its number of entries that are always kept, whose counts are independent of each other.
fn reached(masks: &Masks<'_>, tests: &mut Tests, name: &str, groups: &[(usize, Vec<usize>)]) {
    let most = groups.iter().map(|(always, group)| always + group.len()).max().unwrap_or(0);
    let mut found = vec![0.0; most + 1];
    for (always, group) in groups {
        for run in 0..masks.runs {
            found[always + group.iter().filter(|&&at| masks.bit(at, run)).count()] += 1.0;
        }
    }
    let distributions: Vec<Vec<f64>> =
        groups.iter().map(|(_, group)| masks.count_distribution(group).probability).collect();
    for number in 1..=most {
        let found: f64 = found[number..].iter().sum();
        let (mut variables, mut expected) = (Vec::new(), 0.0);
        for ((always, group), distribution) in groups.iter().zip(&distributions) {
            let drawn = number.saturating_sub(*always);
            if drawn == 0 || drawn > group.len() {
                expected += f64::from(u8::from(drawn == 0));
                continue;
            }
            let p =
                distribution[drawn.min(distribution.len())..].iter().sum::<f64>().clamp(0.0, 1.0);
            let slack = if masks.is_systematic() {
                masks.row_slack[masks.unknowns[group[0]].row]
            } else {
                group.iter().map(|&at| masks.slack[at]).sum()
            };
            variables.push(BoundedVariable::entry(p, 1.0, slack));
            expected += p;
        }
        let runs = masks.runs as f64;
        let null = IndependentSum::of(variables, runs);
        let log_p = null.log_tail(found - runs * expected);
        tests.add(AlphaClass::Aimed, log_p, || {
            let what = format!("how many {name} have {number} kept entries or more");
            (what, [found, runs * expected, libm::sqrt(null.variance())])
        });
    }
}
