//! Right kernels, emulated at every recipe over random problems, stay within their bounds.

use crate::common::{Shape, shapes};
use crate::emulate::{Kernel, ORDERS, Order};
use proptest::prelude::*;
use rand_core::Rng;
use sus_bounds::{Mode, Recipe};
use sus_files::{Pass, Settings};
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::sus::{Budget, Draw, sample};
use sus_verdict::{Case, Outcome, Verdict};

/// A number that f16 and bf16 hold exactly, of either sign, of magnitudes from 1/8 to 2.
fn eight_bits(rng: &mut rand_chacha::ChaCha8Rng) -> f64 {
    let word = rng.next_u32();
    let significand = f64::from(128 + (word & 127)) / 128.0;
    let exponent = (word >> 8) % 4;
    let sign = if word >> 31 == 0 { 1.0 } else { -1.0 };
    sign * significand / f64::from(1 << exponent)
}

fn dense(problem: &Problem<f64>) -> Case {
    let settings = Settings::default().with_pass(Pass::Dense);
    Case::new(problem.clone(), settings)
}

/// Nothing but a refusal, which small problems often earn, may be found in a right kernel.
fn is_right(verdict: &Verdict) -> Result<(), TestCaseError> {
    let failed: Vec<_> = verdict.findings.iter().filter(|f| f.outcome == Outcome::Fail).collect();
    prop_assert!(
        failed.is_empty(),
        "{failed:#?} {:#?}",
        verdict.tensors.iter().map(|t| (t.name, &t.worst)).collect::<Vec<_>>()
    );
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Choices {
    recipe: &'static str,
    order: Order,
    base_two: bool,
    scale_first: bool,
    online: bool,
}

fn choices() -> impl Strategy<Value = Choices> {
    let recipe = proptest::sample::select(Recipe::NAMES.to_vec());
    let order = proptest::sample::select(ORDERS.to_vec());
    (recipe, order, any::<[bool; 3]>()).prop_map(
        |(recipe, order, [base_two, scale_first, online])| Choices {
            recipe,
            order,
            base_two,
            scale_first,
            online,
        },
    )
}

fn kernel<'a>(problem: &'a Problem<f64>, recipe: &'a Recipe, choices: Choices) -> Kernel<'a> {
    let Choices { order, base_two, scale_first, online, .. } = choices;
    let eager = recipe.tile == 0;
    Kernel {
        problem,
        recipe,
        order,
        base_two,
        scale_first: scale_first && !eager,
        online: if online && !eager { recipe.tile } else { 0 },
        sample: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 2000 }))]

    #[test]
    fn a_right_kernel_stays_within_its_bounds(shape in shapes(12, 40), choices in choices()) {
        let problem = shape.fill(eight_bits);
        let recipe = Recipe::built_in(choices.recipe).unwrap();
        let judge = sus_mutants::judge(&dense(&problem), &recipe).build().unwrap();
        is_right(&judge.check(&kernel(&problem, &recipe, choices).run()))?;
    }

    #[test]
    fn so_it_does_where_scores_are_large(shape in shapes(6, 30), choices in choices()) {
        let problem = shape.fill(|rng| 6.0 * (eight_bits(rng) * 16.0).round() / 16.0);
        let recipe = Recipe::built_in(choices.recipe).unwrap();
        let judge = sus_mutants::judge(&dense(&problem), &recipe).build().unwrap();
        is_right(&judge.check(&kernel(&problem, &recipe, choices).run()))?;
    }

    #[test]
    fn and_judged_by_its_own_forward_pass(shape in shapes(8, 30), choices in choices()) {
        let problem = shape.fill(eight_bits);
        let recipe = Recipe::built_in(choices.recipe).unwrap();
        // Eager kernels make delta from their weights and not from what they stored.
        if recipe.tile == 0 {
            return Ok(());
        }
        let judge = sus_mutants::judge(&dense(&problem), &recipe).mode(Mode::Given).build().unwrap();
        is_right(&judge.check(&kernel(&problem, &recipe, choices).run()))?;
    }

    #[test]
    fn and_with_a_mask(shape in shapes(8, 40), choices in choices(), c in 1..12_u32, seed in any::<u64>()) {
        let problem = shape.fill(eight_bits);
        let recipe = Recipe::built_in(choices.recipe).unwrap();
        let draw = Draw::paper(Budget::new(f64::from(c) / 2.0).unwrap(), seed);
        let sample = sample(&problem, &forward(&problem), &draw).unwrap();
        let settings = Settings::default().with_pass(Pass::Sus).with_c(draw.c).with_seed(seed);
        let case = Case::new(problem.clone(), settings);
        let judge = sus_mutants::judge(&case, &recipe).build().unwrap();
        let kernel = Kernel { sample: Some(&sample), ..kernel(&problem, &recipe, choices) };
        is_right(&judge.check(&kernel.run()))?;
    }
}

#[test]
fn right_kernels_use_a_twentieth_of_their_bounds_or_more() {
    let shape = Shape { features: 64, value_features: 64, key_heads: 2, ..Shape::plain(64, 96) };
    let problem = shape.fill(eight_bits);
    for name in Recipe::NAMES {
        let recipe = Recipe::built_in(name).unwrap();
        let judge = sus_mutants::judge(&dense(&problem), &recipe).build().unwrap();
        let mut most = [0.0_f64; 5];
        for order in ORDERS {
            let choices =
                Choices { recipe: name, order, base_two: true, scale_first: false, online: true };
            let verdict = judge.check(&kernel(&problem, &recipe, choices).run());
            assert_eq!(verdict.outcome, Outcome::Pass, "{name} {order:?}: {:?}", verdict.findings);
            for (most, tensor) in most.iter_mut().zip(&verdict.tensors) {
                *most = most.max(tensor.worst.as_ref().unwrap().ratio);
            }
        }
        println!(
            "{name:20} o {:.3} lse {:.3} dq {:.3} dk {:.3} dv {:.3}",
            most[0], most[1], most[2], most[3], most[4]
        );
    }
}
