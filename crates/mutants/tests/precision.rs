//! Right kernels, emulated at every recipe over random problems, stay within their bounds.

use crate::common::{Shape, shapes, with_operands};
use crate::emulate::{Conversions, Kernel, ORDERS, Order, Scaled, Tf32};
use proptest::prelude::*;
use rand_core::Rng;
use sus_bounds::{Mode, Recipe};
use sus_files::{Pass, Settings, TensorFile};
use sus_reference::forward::forward;
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::sus::{Budget, Draw, sample};
use sus_reference::tensor::Tensor;
use sus_verdict::{Case, Judge, Outcome, Verdict};

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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent choice of the emulated kernel"
)]
struct Choices {
    recipe: &'static str,
    order: Order,
    base_two: bool,
    scale_first: bool,
    online: bool,
    truncates: bool,
    conversions: Option<Conversions>,
}

/// The built-in recipes of this emulation; `fp8.rs` has the others.
fn without_8_bits() -> Vec<&'static str> {
    let plain = |name: &&str| Recipe::built_in(name).is_some_and(|recipe| !recipe.has_8_bits());
    Recipe::NAMES.into_iter().filter(plain).collect()
}

fn choices() -> impl Strategy<Value = Choices> {
    let recipe = proptest::sample::select(without_8_bits());
    let order = proptest::sample::select(ORDERS.to_vec());
    (recipe, order, any::<[bool; 4]>()).prop_map(
        |(recipe, order, [base_two, scale_first, online, truncates])| Choices {
            recipe,
            order,
            base_two,
            scale_first,
            online,
            truncates,
            conversions: None,
        },
    )
}

fn kernel<'a>(problem: &'a Problem<f64>, recipe: &'a Recipe, choices: Choices) -> Kernel<'a> {
    let Choices { order, base_two, scale_first, online, truncates, conversions, .. } = choices;
    let eager = recipe.tile == 0;
    Kernel {
        problem,
        recipe,
        order,
        base_two,
        scale_first: scale_first && !eager,
        online: if online && !eager { recipe.tile } else { 0 },
        sample: None,
        truncates,
        conversions,
    }
}

/// A number of all 24 bits of an `f32`, of either sign, of magnitudes from 1/8 to 2.
fn full_bits(rng: &mut rand_chacha::ChaCha8Rng) -> f64 {
    let word = rng.next_u32();
    sus_bounds::Format::F32.round(eight_bits(rng) * (1.0 + libm::ldexp(f64::from(word >> 9), -31)))
}

fn conversions() -> impl Strategy<Value = Conversions> {
    let rule = || proptest::sample::select(vec![Tf32::Truncated, Tf32::ToEven, Tf32::AwayFromZero]);
    let scaled = vec![Scaled::Scores, Scaled::Q, Scaled::Both, Scaled::KeysInBaseTwo];
    (rule(), rule(), proptest::sample::select(scaled), any::<bool>()).prop_map(
        |(a, b, scaled, delta_from_weights)| Conversions {
            rules: [a, b],
            scaled,
            delta_from_weights,
        },
    )
}

/// Recipes with a key of their own. `16` stands for a format of 16 bits.
const OTHER_KEYS: [&str; 6] = [
    "base = \"eager-16\"\nshifted = \"16\"",
    "base = \"flash-16\"\nnormalised_p = false",
    "base = \"flash-16\"\nrow_maximum = false",
    "base = \"flash-16\"\nrunning_dq = 3",
    "base = \"flash-16-repeated\"\nrunning_dk = 2\nrunning_dv = 3",
    "base = \"flash-16\"\nscaled_operands = true\nconversion = \"nearest\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 2000 }))]

    #[test]
    fn a_right_kernel_stays_within_its_bounds(shape in shapes(12, 40), choices in choices()) {
        let problem = shape.fill(eight_bits);
        let recipe = Recipe::built_in(choices.recipe).unwrap();
        let judge = sus_mutants::judge(&dense(&problem), &recipe).build().unwrap();
        is_right(&judge.check(&kernel(&problem, &recipe, choices).run()))?;
    }

    /// Masks, lists, lengths, dropout, slopes, a bias before the softcap and values in the keys, dense and sampled.
    #[test]
    fn a_right_kernel_with_more_operands_stays_within_its_bounds(
        shape in shapes(12, 40), choices in choices(), operands in any::<u64>(), c in 0..12_u32, seed in any::<u64>(),
    ) {
        let problem = with_operands(&shape.fill(eight_bits), operands);
        let recipe = Recipe::built_in(choices.recipe).unwrap();
        let (mut case, mut kernel) = (dense(&problem), kernel(&problem, &recipe, choices));
        let drawn;
        if c > 0 {
            let draw = Draw::paper(Budget::new(f64::from(c) / 2.0).unwrap(), seed);
            drawn = sample(&problem, &forward(&problem), &draw).unwrap();
            kernel.sample = Some(&drawn);
            let settings = Settings::default().with_pass(Pass::Sus).with_c(draw.c).with_seed(seed);
            case = Case::new(problem.clone(), settings);
        }
        let judge = sus_mutants::judge(&case, &recipe).build().unwrap();
        is_right(&judge.check(&kernel.run()))?;
    }

    #[test]
    fn a_right_kernel_stays_within_its_bounds_where_scores_are_large(shape in shapes(6, 30), choices in choices()) {
        let problem = shape.fill(|rng| 6.0 * (eight_bits(rng) * 16.0).round() / 16.0);
        let recipe = Recipe::built_in(choices.recipe).unwrap();
        let judge = sus_mutants::judge(&dense(&problem), &recipe).build().unwrap();
        is_right(&judge.check(&kernel(&problem, &recipe, choices).run()))?;
    }

    /// Operands truncated or rounded to tf32 in all five products, of inputs that tf32 does not hold.
    #[test]
    fn a_right_tf32_kernel_stays_within_its_bounds_on_f32_inputs(
        shape in shapes(12, 40), choices in choices(), conversions in conversions(), large in any::<bool>(), given in any::<bool>(),
    ) {
        let size = if large { 4.0 } else { 1.0 };
        let problem = shape.fill(|rng| size * full_bits(rng));
        let recipe = Recipe::built_in("tf32").unwrap();
        let given = given && !conversions.delta_from_weights;
        let mode = if given { Mode::Given } else { Mode::Exact };
        let judge = sus_mutants::judge(&dense(&problem), &recipe).mode(mode).build().unwrap();
        let choices = Choices { conversions: Some(conversions), ..choices };
        is_right(&judge.check(&kernel(&problem, &recipe, choices).run()))?;
    }

    /// One key of a recipe file at a time: kernels of libraries.
    #[test]
    fn a_right_kernel_of_another_recipe_stays_within_its_bounds(
        shape in shapes(12, 40), choices in choices(), which in 0..OTHER_KEYS.len(), narrow in proptest::sample::select(vec!["bf16", "f16"]),
    ) {
        let problem = shape.fill(eight_bits);
        let text = OTHER_KEYS[which].replace("16", narrow);
        let recipe = Recipe::from_toml("other", &text).unwrap();
        let judge = sus_mutants::judge(&dense(&problem), &recipe).build().unwrap();
        is_right(&judge.check(&kernel(&problem, &recipe, choices).run()))?;
    }

    #[test]
    fn a_right_kernel_stays_within_its_bounds_given_its_own_forward_pass(shape in shapes(8, 30), choices in choices()) {
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
    fn a_right_kernel_stays_within_its_bounds_with_a_mask(shape in shapes(8, 40), choices in choices(), c in 1..12_u32, seed in any::<u64>()) {
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

/// Numbers that the inputs of a recipe may be: for tf32 products of all bits of an `f32`.
fn inputs_of(recipe: &str) -> fn(&mut rand_chacha::ChaCha8Rng) -> f64 {
    if recipe == "tf32" { full_bits } else { eight_bits }
}

/// The conversions of a kernel of tf32 products that truncates.
fn truncated(recipe: &str, scaled: Scaled) -> Option<Conversions> {
    let rules = [Tf32::Truncated; 2];
    (recipe == "tf32").then_some(Conversions { rules, scaled, delta_from_weights: false })
}

/// The largest share of its bound that an element of a right kernel's results uses: of `o`, `lse`, `dq`, `dk`, `dv`.
fn shares(problem: &Problem<f64>, recipe: &Recipe, choices: Choices) -> [f64; 5] {
    let judge = sus_mutants::judge(&dense(problem), recipe).build().unwrap();
    shares_by(&judge, &kernel(problem, recipe, choices).run(), choices)
}

/// The same of the results of a kernel, by a judge of its problem.
fn shares_by(judge: &Judge, results: &TensorFile, choices: Choices) -> [f64; 5] {
    let verdict = judge.check(results);
    let failed = verdict.findings.iter().any(|finding| finding.outcome == Outcome::Fail);
    assert!(!failed, "{choices:?}: {:?}", verdict.findings);
    std::array::from_fn(|at| verdict.tensors[at].worst.as_ref().map_or(0.0, |worst| worst.ratio))
}

/// The larger of two shares of each tensor.
fn larger(a: [f64; 5], b: [f64; 5]) -> [f64; 5] {
    std::array::from_fn(|at| a[at].max(b[at]))
}

fn print_shares(name: &str, [o, lse, dq, dk, dv]: [f64; 5]) {
    println!("| `{name}` | {o:.3} | {lse:.3} | {dq:.3} | {dk:.3} | {dv:.3} |");
}

/// A problem of the usual size: its roundings cancel, but for truncations, and its bounds allow for those that do not. Above 1 the kernel would
/// fail; a table in `docs/bounds.md` has the figures.
#[test]
fn right_kernels_of_usual_size_stay_within_half_of_their_bounds() {
    let shape = Shape { features: 64, value_features: 64, key_heads: 2, ..Shape::plain(64, 96) };
    for name in without_8_bits() {
        let problem = shape.fill(inputs_of(name));
        let recipe = Recipe::built_in(name).unwrap();
        let judge = sus_mutants::judge(&dense(&problem), &recipe).build().unwrap();
        let of_order = |order| {
            let choices = Choices {
                recipe: name,
                order,
                base_two: true,
                scale_first: false,
                online: true,
                truncates: false,
                conversions: truncated(name, Scaled::Scores),
            };
            shares_by(&judge, &kernel(&problem, &recipe, choices).run(), choices)
        };
        let most = ORDERS.map(of_order).into_iter().fold([0.0; 5], larger);
        print_shares(name, most);
        // Truncated operands all err to one side, and this problem's scores nearly as far as they can: lse comes nearest.
        let limit = if name == "tf32" { 0.75 } else { 0.5 };
        assert!(most.iter().all(|&share| 0.0 < share && share < limit), "{name}: {most:?}");
    }
}

/// One query and one key. The first product of `q . k` and of `G . v` is 4, and 63 others are a little less than a unit in
/// the last place of 4 in f32: where additions truncate, each of them is dropped whole.
fn absorbing() -> Problem<f64> {
    let small = libm::ldexp(127.0 / 128.0, -10);
    let row =
        |small: f64| Tensor::from_fn([1, 1, 1, 64], |[.., d]| if d == 0 { 2.0 } else { small });
    let (a, b) = (row(small), row(libm::ldexp(1.0, -11)));
    Problem::new(Inputs::new(a.clone(), b.clone(), a, b), Options::default()).unwrap()
}

/// Small problems whose roundings cannot cancel: one or two queries, keys and features, with equal scores (`q = 0`), with
/// large scores, and with a `dP` that is nearly `delta`, each with many seeds; and sums that truncate. Some kernel of every recipe comes within a
/// factor of 20 of the bound of every tensor, and none exceeds it: no bound is 20 times as wide as it has to be.
#[test]
fn right_kernels_use_a_twentieth_of_their_bounds_or_more() {
    for name in without_8_bits() {
        let recipe = Recipe::built_in(name).unwrap();
        let mut most = [0.0; 5];
        for seed in 0..40 {
            for (queries, keys) in [(1, 1), (1, 2), (2, 2), (1, 5)] {
                let plain =
                    Shape { features: 1, value_features: 1, seed, ..Shape::plain(queries, keys) };
                let tiny = plain.fill(inputs_of(name));
                let inputs = tiny.inputs();
                let with = |inputs| Problem::new(inputs, Options::default()).unwrap();
                let equal = with(inputs.clone().with_q(inputs.q.map(|_| 0.0)));
                let large = with(inputs.clone().with_q(inputs.q.map(|q| 8.0 * q)));
                // Exact in bf16 and in f16, as the other inputs are.
                let near_one = |v: f64| sus_bounds::Format::Bf16.round(1.0 + v / 128.0);
                let cancelling = with(inputs.clone().with_v(inputs.v.map(near_one)));
                for problem in [&tiny, &equal, &large, &cancelling] {
                    for base_two in [false, true] {
                        let scaled = if base_two { Scaled::KeysInBaseTwo } else { Scaled::Scores };
                        let choices = Choices {
                            recipe: name,
                            order: Order::Forward,
                            base_two,
                            scale_first: base_two,
                            online: false,
                            truncates: true,
                            conversions: truncated(name, scaled),
                        };
                        most = larger(most, shares(problem, &recipe, choices));
                    }
                }
            }
        }
        let choices = Choices {
            recipe: name,
            order: Order::Forward,
            base_two: false,
            scale_first: false,
            online: false,
            truncates: true,
            conversions: None,
        };
        most = larger(most, shares(&absorbing(), &recipe, choices));
        print_shares(name, most);
        assert!(most.iter().all(|&share| share >= 0.05), "{name}: {most:?}");
    }
}
