//! Counts `nnz` of a candidate whose masks are not recovered, each against its exact distribution.

use super::battery::{AlphaClass, Tests};
use super::model::Model;
use super::tails::{BoundedVariable, IndependentSum};
use crate::limits::MAX_CONVOLVED_ROWS;
use sus_reference::sus::moments::count::{CountDistribution, sum_distribution};

/// The outcomes of a count of at most `entries`, its mean and its variance. 0 and `entries` are outcomes even of probability zero, as
/// rounding may reach them.
fn moments(distribution: &CountDistribution<f64>, entries: usize) -> (Vec<(f64, f64)>, f64, f64) {
    let all = distribution.probability.iter().enumerate();
    let mut all: Vec<(f64, f64)> =
        all.map(|(n, &p)| (p, (distribution.least + n) as f64)).collect();
    all.extend([(0.0, 0.0), (0.0, entries as f64)]);
    let mean: f64 = all.iter().map(|(p, n)| p * n).sum();
    let variance = all.iter().map(|(p, n)| p * (n - mean) * (n - mean)).sum();
    (all, mean, variance)
}

/// Tests the mean, the variance and the range of the counts, by row and of all rows. `counts` is by run, then by row.
pub(super) fn test(model: &Model<'_>, counts: &[f64], runs: usize, tests: &mut Tests) {
    let rows = model.rows.len();
    let of = |row: usize| (0..runs).map(move |run| counts[run * rows + row]);
    let distributions: Vec<CountDistribution<f64>> =
        model.rows.iter().map(|row| row.distribution.count_distribution()).collect();
    let (mut means, mut squares, mut excess, mut spread) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for (at, distribution) in distributions.iter().enumerate() {
        let (all, mean, variance) = moments(distribution, model.rows[at].distribution.q.len());
        let row = &model.rows[at];
        let slack = match row.distribution.pieces {
            None => (0..row.distribution.q.len()).map(|n| row.slack(n)).sum::<f64>(),
            Some(_) => row.row_slack(),
        };
        let place = [row.row.b, row.row.h, row.row.i];
        let inside = |n: f64| {
            n >= distribution.least as f64
                && n < (distribution.least + distribution.probability.len()) as f64
        };
        let outside = of(at).filter(|&n| !inside(n) || n.fract() != 0.0).count() as f64;
        let most = slack * runs as f64;
        let log_p = match outside {
            x if x > most && most > 0.0 => x - most + x * libm::log(most / x),
            x if x > most => f64::NEG_INFINITY,
            _ => 0.0,
        };
        tests.add(AlphaClass::Single, log_p, || {
            (format!("counts of row {place:?} that no mask has"), [outside, most, libm::sqrt(most)])
        });
        let sum: f64 = of(at).map(|n| n - mean).sum();
        let variable =
            BoundedVariable { outcomes: all.iter().map(|(p, n)| (*p, n - mean)).collect(), slack };
        if variance > 0.0 {
            let null = IndependentSum::of(vec![variable.clone()], runs as f64);
            tests.add(AlphaClass::Single, null.log_tail(sum), || {
                let found = [sum, 0.0, libm::sqrt(null.variance())];
                (format!("the mean count of row {place:?}"), found)
            });
        }
        let square = |n: f64| (n - mean) * (n - mean) - variance;
        spread += of(at).map(square).sum::<f64>();
        excess += sum;
        means.push(variable);
        squares.push(BoundedVariable {
            outcomes: all.iter().map(|(p, n)| (*p, square(*n))).collect(),
            slack,
        });
    }
    let slack: f64 = means.iter().map(|variable| variable.slack).sum();
    for (class, what, variables, found) in [
        (AlphaClass::First, "the mean count of all rows", means, excess),
        (AlphaClass::Aimed, "how the counts of the rows vary from run to run", squares, spread),
    ] {
        let null = IndependentSum::of(variables, runs as f64);
        tests.add(class, null.log_tail(found), || {
            (what.into(), [found, 0.0, libm::sqrt(null.variance())])
        });
    }
    if rows > MAX_CONVOLVED_ROWS {
        return;
    }
    let entries = model.rows.iter().map(|row| row.distribution.q.len()).sum();
    let (all, mean, variance) = moments(&sum_distribution(&distributions), entries);
    let square = |n: f64| (n - mean) * (n - mean) - variance;
    let outcomes = all.iter().map(|(p, n)| (*p, square(*n))).collect();
    let null = IndependentSum::of(vec![BoundedVariable { outcomes, slack }], runs as f64);
    let total = |run: usize| counts[run * rows..(run + 1) * rows].iter().sum::<f64>();
    let found: f64 = (0..runs).map(|run| square(total(run))).sum();
    tests.add(AlphaClass::Aimed, null.log_tail(found), || {
        let what = "how the count of all rows varies from run to run".into();
        (what, [found, 0.0, libm::sqrt(null.variance())])
    });
}
