//! The error that the `f64` kernels claim for themselves holds against double-double, and is next to nothing.

use crate::common::{Shape, eighths, shapes, with_operands};
use crate::large_shapes::large_shapes;
use proptest::prelude::*;
use sus_bounds::{BoundsInput, Mode, Recipe, Truth, bounds};
use sus_fast::{self as fast, Workspace, has_reference_error_bounds};
use sus_reference::backward::Gradients;
use sus_reference::forward::Saved;
use sus_reference::problem::{Options, Problem};
use sus_reference::sus::{Budget, Draw, Rule, Sample, Sampler, sample};
use sus_reference::tensor::Tensor;

/// Every element of the blocked truth within its own error of the exact one, which is itself rounded to `f64`.
fn holds(blocked: &Truth, exact: &Truth, mask: Option<&Sample>) -> Result<(), String> {
    let own = blocked.reference_error_bounds(mask).ok_or("no bound")?;
    let (found, truth) = (results(blocked, mask), results(exact, mask));
    for (((name, found), (_, truth)), (_, own)) in
        found.iter().zip(&truth).zip(&slices(&own.saved, &own.gradients))
    {
        assert_eq!((found.len(), found.len()), (truth.len(), own.len()), "{name}");
        for (at, ((x, y), own)) in found.iter().zip(truth).zip(own).enumerate() {
            let bound = own + Truth::RELATIVE_ERROR * y.abs();
            if !(x == y || (x - y).abs() <= bound) {
                return Err(format!("{name}[{at}]: {x:e} for {y:e}, bound {bound:e}"));
            }
        }
    }
    Ok(())
}

fn results(truth: &Truth, mask: Option<&Sample>) -> Vec<(&'static str, Vec<f64>)> {
    slices(&truth.saved(), &truth.gradients(mask))
}

fn slices(saved: &Saved<f64>, g: &Gradients<f64>) -> Vec<(&'static str, Vec<f64>)> {
    let mut all: Vec<(&'static str, Vec<f64>)> =
        [("o", &saved.o), ("lse", &saved.lse), ("dq", &g.dq), ("dk", &g.dk), ("dv", &g.dv)]
            .map(|(name, tensor): (_, &Tensor<f64>)| (name, tensor.as_slice().to_vec()))
            .into();
    all.extend(g.dsink.iter().map(|dsink| ("dsink", dsink.clone())));
    all.extend(g.dkv.iter().map(|dkv| ("dkv", dkv.as_slice().to_vec())));
    all
}

/// Dense, with masks of both rules and samplers, and with a forward pass that somebody stored.
fn all_hold(problem: &Problem<f64>) -> Result<(), String> {
    let Some(blocked) = Truth::blocked(problem) else {
        let bias = problem.inputs().bias.is_some();
        return if bias { Ok(()) } else { Err("not covered".into()) };
    };
    let exact = Truth::exact(problem).unwrap();
    holds(&blocked, &exact, None)?;
    let paper = Draw::paper(Budget::new(3.5).unwrap(), 5);
    let (again, mask) = Truth::blocked_and_sampled(problem, &paper).unwrap().unwrap();
    if mask.pattern
        != sample(problem, &sus_reference::forward::forward(problem), &paper).unwrap().pattern
    {
        return Err("another mask".into());
    }
    holds(&again, &exact, Some(&mask))?;
    let other = paper.with_rule(Rule::Calibrated).with_sampler(Sampler::Systematic);
    let mask = sample(problem, &exact.saved(), &other).unwrap();
    holds(&blocked, &exact, Some(&mask))?;
    // As a kernel of 16 bits would have stored it.
    let Saved { o, lse } = exact.saved();
    let given =
        Saved { o: o.map(|x| f64::from(half::bf16::from_f64(x))), lse: lse.map(|x| x + 0.01) };
    let pair =
        (Truth::blocked_given(problem, &given).unwrap(), Truth::given(problem, &given).unwrap());
    holds(&pair.0, &pair.1, None)?;
    holds(&pair.0, &pair.1, Some(&mask))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_own_error_of_small_problems_holds(shape in shapes(9, 9), operands: Option<u64>) {
        let shape = Shape { bias: None, ..shape };
        let problem = shape.fill(|rng| eighths(rng) / 3.0);
        // The kernels do not know all of the operands.
        let problem = operands.map_or(problem.clone(), |seed| with_operands(&problem, seed));
        if has_reference_error_bounds(&problem) {
            prop_assert_eq!(all_hold(&problem), Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_own_error_of_problems_over_many_tiles_holds(shape in large_shapes(), operands: Option<u64>) {
        let shape = Shape { bias: None, ..shape };
        let problem = shape.fill(|rng| eighths(rng) / 3.0);
        // The kernels do not know all of the operands.
        let problem = operands.map_or(problem.clone(), |seed| with_operands(&problem, seed));
        if has_reference_error_bounds(&problem) {
            prop_assert_eq!(all_hold(&problem), Ok(()));
        }
    }
}

#[test]
fn the_own_error_is_above_what_is_found_and_far_below_the_bounds_of_32_bits() {
    let options = Options::default().with_causal(true);
    let shape =
        Shape { features: 32, value_features: 24, group: 2, options, ..Shape::plain(300, 300) };
    let problem = shape.fill(|rng| eighths(rng) / 3.0);
    let (blocked, exact) = (Truth::blocked(&problem).unwrap(), Truth::exact(&problem).unwrap());
    let own = blocked.reference_error_bounds(None).unwrap();
    let (found, truth) = (results(&blocked, None), results(&exact, None));
    for (((name, found), (_, truth)), (_, own)) in
        found.iter().zip(&truth).zip(&slices(&own.saved, &own.gradients))
    {
        let ratios = found.iter().zip(truth).zip(own).map(|((x, y), own)| (x - y).abs() / own);
        let largest = ratios.fold(0.0, f64::max);
        // A sum of n roundings of random sign uses about the root of n of its n units.
        assert!(1e-5 < largest && largest < 0.5, "{name}: {largest:e} of its bound");
    }
    let gradients = blocked.gradients(None);
    let mut bounds = bounds(&BoundsInput::dense(
        &problem,
        &Recipe::built_in("f32").unwrap(),
        Mode::Exact,
        &blocked.saved(),
        &gradients,
    ));
    let before = bounds.clone();
    let share = bounds.widen(&own);
    assert!(0.0 < share && share < 1e-6, "{share:e}");
    for (wide, narrow, own) in [
        (&bounds.dq, &before.dq, &own.gradients.dq),
        (&bounds.dk, &before.dk, &own.gradients.dk),
        (&bounds.dv, &before.dv, &own.gradients.dv),
    ] {
        for (at, own) in own.as_slice().iter().enumerate() {
            assert_eq!(wide.threshold[at], narrow.threshold[at] + own);
            assert_eq!(wide.worst_case[at], narrow.worst_case[at] + own);
        }
    }
}

#[test]
fn what_has_no_derived_error_has_no_blocked_truth() {
    let bias = Shape { bias: Some([true, true, false]), ..Shape::plain(5, 6) }.problem();
    assert!(Truth::blocked(&bias).is_none() && !fast::has_reference_error_bounds(&bias));
    let options = Options::default().with_scale(1e12);
    let large = Shape { options, ..Shape::plain(5, 6) }.problem();
    assert!(Truth::blocked(&large).is_none());
    let saved = fast::forward(&large, &mut Workspace::default());
    assert!(fast::reference_error_bounds(&large, &saved, None, false).is_none());
}
