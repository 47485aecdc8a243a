//! Kernels that change during the runs, and streams of random numbers that overlap at any distance of runs.

use super::battery::{AlphaClass, Tests};
use super::bits::{count, counts_in_both, select};
use super::masks::Masks;
use super::pairs::{Pooled, families};
use super::tails::IndependentSum;
use crate::limits::MAX_RUNS_TIMES_LAGS;
use rayon::prelude::*;

/// All of these tests.
pub(super) fn test(masks: &Masks<'_>, tests: &mut Tests) {
    parts(masks, tests);
    overlaps(masks, tests);
}

/// The whole count of each half, quarter and eighth of the runs, and of every second, third, fourth and eighth run.
fn parts(masks: &Masks<'_>, tests: &mut Tests) {
    let all: Vec<usize> = (0..masks.q.len()).collect();
    let variables = IndependentSum::of(masks.variables(&all, |_| 1.0), 1.0);
    let mean: f64 = masks.q.iter().sum();
    let mut part = |name: String, inside: &dyn Fn(usize) -> bool| {
        let inside = select(masks.runs, inside);
        let runs = count(&inside);
        if runs == 0.0 {
            return;
        }
        let found: f64 = counts_in_both(masks.bits, &inside).iter().sum();
        let null = variables.times(runs);
        let log_p = null.log_tail(found - runs * mean);
        tests.add(AlphaClass::Aimed, log_p, || {
            let what = format!("how many entries {name} keep");
            (what, [found, runs * mean, libm::sqrt(null.variance())])
        });
    };
    for parts in [2, 4, 8] {
        for n in 0..parts {
            part(format!("the runs of part {n} of {parts}"), &|run| run * parts / masks.runs == n);
        }
    }
    for step in [2, 3, 4, 8] {
        for n in 0..step {
            part(format!("the runs {n} modulo {step}"), &|run| run % step == n);
        }
    }
}

/// Entries and themselves, and the nearest pairs of each family, at every distance of runs that [`super::pairs`] does not test.
fn overlaps(masks: &Masks<'_>, tests: &mut Tests) {
    let mut all = vec![Pooled::own(masks)];
    for (name, pairs) in families(masks) {
        if name.contains("heads") || name.contains("sequences") || name.contains(" 1 apart") {
            let back = pairs.iter().map(|&(a, b)| (b, a)).collect();
            all.extend([pairs, back].map(|pairs| Pooled::new(masks, name.clone(), pairs)));
        }
    }
    let most = masks.runs.min(MAX_RUNS_TIMES_LAGS / masks.runs.max(1));
    let lags: Vec<usize> = (9..most).collect();
    let parts: Vec<Tests> = lags
        .par_chunks(64)
        .map(|lags| {
            let mut tests = Tests::of_share(1.0);
            for &lag in lags {
                for pooled in &all {
                    pooled.test(masks, &mut tests, AlphaClass::Single, lag);
                }
            }
            tests
        })
        .collect();
    for part in parts {
        tests.append(part);
    }
}
