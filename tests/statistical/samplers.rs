//! Samplers that are wrong in ways that no mean, variance or pair of neighbours shows; each is found by the test that is for it.

use super::{RUNS, case, drawn, judge, keyed, problem, right, right_value, settings, uniform};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::collections::HashMap;
use sus_reference::sus::{Rule, Sampler};
use sus_verdict::{Case, Outcome};

type Keep<'a> = Box<dyn FnMut(f64, usize, [usize; 3], &mut ChaCha8Rng) -> bool + 'a>;

/// Whether a word of this run, head and place keeps.
fn word(q: f64, run: usize, h: usize, at: usize, stream: u64) -> bool {
    keyed([run as u64, h as u64, at as u64, stream]) < q
}

/// Keeps no more than `room` entries of a group; what comes later is dropped.
fn with_room(
    counts: &RefCell<HashMap<[usize; 3], usize>>,
    room: usize,
    group: fn([usize; 3]) -> usize,
) -> Keep<'_> {
    Box::new(move |q, run, [h, i, j], rng| {
        let mut counts = counts.borrow_mut();
        let count = counts.entry([run, h, group([h, i, j])]).or_default();
        let kept = uniform(rng) < q && (q >= 1.0 || *count < room);
        *count += usize::from(kept);
        kept
    })
}

#[test]
fn samplers_that_are_wrong_in_some_runs_or_some_places_fail() {
    let (rows, keys) = (RefCell::default(), RefCell::default());
    let scaled = |factor: f64| move |q: f64, u: f64| q >= 1.0 || u < (factor * q).min(1.0);
    let wrong: Vec<(&str, Keep)> = vec![
        ("rows have 9 kept", with_room(&rows, 8, |[_, i, _]| i)),
        ("keys have 12 kept", with_room(&keys, 11, |[_, _, j]| j)),
        (
            "modulo 2",
            Box::new(move |q, run, _, rng| {
                scaled(if run % 2 == 0 { 1.03 } else { 0.97 })(q, uniform(rng))
            }),
        ),
        (
            "of part 0 of 2",
            Box::new(move |q, run, _, rng| {
                scaled(if run < RUNS / 2 { 1.03 } else { 0.97 })(q, uniform(rng))
            }),
        ),
        (
            "heads 1 apart, 37 runs later",
            Box::new(|q, run, [h, i, j], _| word(q, run + 37 * h, 0, 16 * i + j, 31)),
        ),
        (
            "themselves, 1000 runs later",
            Box::new(|q, run, [h, i, j], rng| {
                let old = uniform(rng) < 0.3 && run >= 1000;
                word(q, if old { run - 1000 } else { run }, h, 16 * i + j, 32)
            }),
        ),
        (
            "the deviance",
            Box::new(move |q, _, [h, i, j], rng| {
                let sign = keyed([h as u64, i as u64, j as u64, 33]) < 0.5;
                scaled(if sign { 1.08 } else { 0.92 })(q, uniform(rng))
            }),
        ),
        (
            "of keys modulo 2",
            Box::new(move |q, _, [_, _, j], rng| {
                scaled(if j % 2 == 0 { 1.04 } else { 0.96 })(q, uniform(rng))
            }),
        ),
    ];
    let case = case(Sampler::Bernoulli);
    for (found_by, keep) in wrong {
        let verdict = judge(&case, &drawn(RUNS, keep, right_value));
        assert_eq!(verdict.outcome, Outcome::Fail, "{found_by} {verdict:#?}");
        let found = verdict.findings.iter().any(|finding| finding.message.contains(found_by));
        assert!(found, "{found_by} {verdict:#?}");
    }
}

/// Every calibrated row keeps `c` entries, whatever its uniform: their number says nothing, and must not be waited for.
#[test]
fn rows_whose_counts_never_vary_pass_and_fail_like_others() {
    let case = Case::new(problem(8), settings(Sampler::Systematic, Rule::Calibrated, None));
    let verdict = judge(&case, &right(&case, 1 << 45, 1000, false));
    assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:#?}");
    let verdict = judge(&case, &right(&case, 1 << 45, 3, false));
    assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:#?}");
    let independent = Case::new(problem(8), settings(Sampler::Bernoulli, Rule::Calibrated, None));
    let verdict = judge(&case, &right(&independent, 1 << 45, 10, false));
    assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:#?}");
}
