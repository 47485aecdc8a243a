//! The fast path against the plain one: within rounding, with the same mask, on any number of threads.

use crate::bounds::{Bounds, Errors};
use crate::common::{Shape, eighths, shapes, with_hidden_keys, with_operands};
use crate::large_shapes::large_shapes;
use proptest::prelude::*;
use sus_fast::{self as fast, Backend, Dispatch, Fallback, Real, Workspace};
use sus_reference::backward::{Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Options, Problem};
use sus_reference::sus::{Budget, Draw, Sample, sample, sus_backward};

/// Each element within the sum of both sides' bounds.
fn agree<T: Real>(
    name: &str,
    fast: &[T],
    plain: &[f64],
    bounds: [&[f64]; 2],
) -> Result<(), String> {
    if fast.len() != plain.len() {
        return Err(format!("{name}: {} elements for {}", fast.len(), plain.len()));
    }
    for (at, (x, &y)) in fast.iter().zip(plain).enumerate() {
        let (x, bound) = (x.to_f64(), bounds[0][at] + bounds[1][at]);
        let same = x == y || (x - y).abs() <= bound;
        if !same {
            return Err(format!(
                "{name}[{at}]: {x} for {y}, off by {:e}, bound {bound:e}",
                (x - y).abs()
            ));
        }
    }
    Ok(())
}

fn roundoff<T: Real>() -> (f64, f64) {
    if size_of::<T>() == 4 {
        (f64::from(f32::EPSILON) / 2.0, 4.0 * f64::from(f32::MIN_POSITIVE))
    } else {
        (f64::EPSILON / 2.0, 4.0 * f64::MIN_POSITIVE)
    }
}

/// Both passes of `T` against the plain path in `f64`, dense or sampled.
fn check<T: Real>(
    problem: &Problem<f64>,
    sample: Option<&Sample>,
    dispatch: Dispatch,
) -> Result<(), String> {
    let small: Problem<T> = problem.cast().unwrap();
    // The same inputs for both, whatever `T` rounds.
    let problem: Problem<f64> = small.cast().unwrap();
    let mut workspace = Workspace::new(dispatch);
    let saved = fast::forward(&small, &mut workspace);
    let (gradients, path) = match sample {
        None => fast::backward(&small, &saved, &mut workspace),
        Some(sample) => fast::sus_backward(&small, &saved, sample, &mut workspace),
    };
    let expected_path = match problem.inputs().bias {
        Some(_) => Backend::Reference(Fallback::BiasGradient),
        None => Backend::Fast,
    };
    if path != expected_path {
        return Err(format!("path {path}"));
    }
    let plain: Saved<f64> = forward(&problem);
    let expected: Gradients<f64> = match sample {
        None => backward(&problem, &plain),
        Some(sample) => sus_backward(&problem, &plain, sample),
    };
    let (u, least) = roundoff::<T>();
    let errors = |u, least| Bounds { problem: &problem, saved: &plain, sample, u, least }.errors();
    let [a, b]: [Errors; 2] = [errors(u, least), errors(f64::EPSILON / 2.0, 0.0)];
    agree("o", saved.o.as_slice(), plain.o.as_slice(), [&a.o, &b.o])?;
    agree("lse", saved.lse.as_slice(), plain.lse.as_slice(), [&a.lse, &b.lse])?;
    agree("dq", gradients.dq.as_slice(), expected.dq.as_slice(), [&a.dq, &b.dq])?;
    agree("dk", gradients.dk.as_slice(), expected.dk.as_slice(), [&a.dk, &b.dk])?;
    agree("dv", gradients.dv.as_slice(), expected.dv.as_slice(), [&a.dv, &b.dv])?;
    if gradients.dbias.is_some() != expected.dbias.is_some() {
        return Err("dbias on one side".into());
    }
    match (&gradients.dsink, &expected.dsink) {
        (Some(x), Some(y)) => agree("dsink", x, y, [&a.dsink, &b.dsink])?,
        (None, None) => {}
        _ => return Err("dsink on one side".into()),
    }
    match (&gradients.dslopes, &expected.dslopes) {
        (Some(x), Some(y)) => {
            agree("dslopes", x.as_slice(), y.as_slice(), [&a.dslopes, &b.dslopes])
        }
        (None, None) => Ok(()),
        _ => Err("dslopes on one side".into()),
    }
}

fn check_all<T: Real>(problem: &Problem<f64>, dispatch: Dispatch) -> Result<(), String> {
    check::<T>(problem, None, dispatch)?;
    // Rows of a few kept entries, and of several chunks of them.
    for c in [3.5, 60.0] {
        let draw = Draw::paper(Budget::new(c).unwrap(), 5);
        let drawn = sample(problem, &forward(problem), &draw).unwrap();
        check::<T>(problem, Some(&drawn), dispatch)
            .map_err(|message| format!("c = {c}: {message}"))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn small_problems_agree_within_both_bounds(shape in shapes(9, 9), hidden: bool, operands: Option<u64>) {
        let problem = shape.problem();
        let problem = if hidden { with_hidden_keys(&problem) } else { problem };
        let problem = operands.map_or(problem.clone(), |seed| with_operands(&problem, seed));
        for dispatch in Dispatch::ALL {
            prop_assert_eq!(check_all::<f64>(&problem, dispatch), Ok(()));
            prop_assert_eq!(check_all::<f32>(&problem, dispatch), Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn problems_over_many_tiles_agree_within_both_bounds(shape in large_shapes(), hidden: bool, operands: Option<u64>) {
        let problem = shape.fill(|rng| eighths(rng) / 3.0);
        let problem = if hidden { with_hidden_keys(&problem) } else { problem };
        let problem = operands.map_or(problem.clone(), |seed| with_operands(&problem, seed));
        prop_assert_eq!(check_all::<f64>(&problem, Dispatch::Native), Ok(()));
        prop_assert_eq!(check_all::<f32>(&problem, Dispatch::Native), Ok(()));
        prop_assert_eq!(check_all::<f64>(&problem, Dispatch::Portable), Ok(()));
    }
}

#[test]
fn scores_of_ten_thousand_neither_overflow_nor_vanish() {
    let shape = Shape {
        features: 8,
        options: Options::default().with_scale(500.0),
        ..Shape::plain(70, 110)
    };
    let problem = shape.problem();
    for dispatch in Dispatch::ALL {
        assert_eq!(check::<f64>(&problem, None, dispatch), Ok(()));
    }
    let saved = fast::forward(&problem, &mut Workspace::default());
    assert!(saved.lse.as_slice().iter().any(|&lse| lse > 5_000.0), "the scores are large");
}

#[test]
fn rows_that_see_nothing_give_zeros_and_minus_infinity() {
    let options = Options::default().with_causal(true);
    let problem = Shape { options, ..Shape::plain(200, 150) }.problem();
    let mut workspace = Workspace::default();
    let saved = fast::forward(&problem, &mut workspace);
    let (gradients, path) = fast::backward(&problem, &saved, &mut workspace);
    assert_eq!(path, Backend::Fast);
    assert!(saved.lse.as_slice()[..50].iter().all(|&lse| lse == f64::NEG_INFINITY));
    assert!(saved.o.as_slice()[..50 * 2].iter().all(|&o| o == 0.0));
    assert!(gradients.dq.as_slice()[..50 * 3].iter().all(|&dq| dq == 0.0));
    assert!(gradients.dk.as_slice().iter().all(|dk| dk.is_finite()));
}

#[test]
fn a_workspace_can_serve_problems_of_any_sizes_in_turn() {
    let mut workspace = Workspace::default();
    for (queries, keys) in [(300, 200), (1, 1), (0, 5), (5, 0), (130, 401)] {
        let problem = Shape { batch: 2, group: 2, ..Shape::plain(queries, keys) }.problem();
        let draw = Draw::paper(Budget::new(2.0).unwrap(), 1);
        let used = fast::forward_and_sample(&problem, &problem, &draw, &mut workspace).unwrap();
        let fresh =
            fast::forward_and_sample(&problem, &problem, &draw, &mut Workspace::default()).unwrap();
        assert_eq!(used, fresh);
        let (saved, mask, _) = used;
        let mut gradients = fast::blank_gradients(&problem);
        gradients.dq.as_mut_slice().fill(f64::NAN);
        gradients.dk.as_mut_slice().fill(f64::NAN);
        gradients.dv.as_mut_slice().fill(f64::NAN);
        fast::backward_into(&problem, &saved, &mut gradients, &mut workspace);
        assert_eq!(gradients, fast::backward(&problem, &saved, &mut Workspace::default()).0);
        fast::sus_backward_into(&problem, &saved, &mask, &mut gradients, &mut workspace);
        let fresh = fast::sus_backward(&problem, &saved, &mask, &mut Workspace::default());
        assert_eq!(gradients, fresh.0);
    }
}
