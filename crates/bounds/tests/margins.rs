//! Both sides of the bounds' margins: right kernels that come near, and errors a little larger that are outside.
//!
//! Each kernel here is one that the recipe allows, with roundings pushed to one side as far as its model has them.

use approx::assert_relative_eq;
use sus_bounds::{Bound, Bounds, BoundsInput, Format, Mode, Recipe, Stage, Truth, bounds};
use sus_reference::backward::Gradients;
use sus_reference::forward::Saved;
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::tensor::Tensor;

/// A problem with one head and one feature.
fn problem(q: &[f64], k: &[f64], v: &[f64], g: &[f64]) -> Problem<f64> {
    let column = |x: &[f64]| Tensor::from_fn([1, 1, x.len(), 1], |[.., n, _]| x[n]);
    Problem::new(Inputs::new(column(q), column(k), column(v), column(g)), Options::default())
        .expect("a legal problem")
}

/// The bounds and the truth, for the forward pass that was stored or for the true one.
fn judged(
    p: &Problem<f64>,
    recipe: &Recipe,
    given: Option<&Saved<f64>>,
) -> (Bounds, Gradients<f64>) {
    let mode = if given.is_some() { Mode::Given } else { Mode::Exact };
    let truth = match given {
        Some(saved) => Truth::given(p, saved).unwrap(),
        None => Truth::exact(p).unwrap(),
    };
    let (saved, gradients) = (truth.saved(), truth.gradients(None));
    let input = BoundsInput::dense(p, recipe, mode, &saved, &gradients);
    (bounds(&input), gradients)
}

/// A forward pass as a kernel stored it.
fn stored(o: &[f64], lse: &[f64]) -> Saved<f64> {
    let column = |x: &[f64]| Tensor::from_fn([1, 1, x.len(), 1], |[.., n, _]| x[n]);
    Saved { o: column(o), lse: column(lse) }
}

/// `rows` rows that see one key with the weight 1. The cotangent of the first row is 1, of `absorbed` others half a unit in
/// the last place of 1, of the rest 0: a sum in the order of the rows rounds each of them off, a tie to even.
fn absorbing(rows: usize, absorbed: usize, u: f64) -> (Problem<f64>, Saved<f64>) {
    let g = |n: usize| match n {
        0 => 1.0,
        n if n <= absorbed => u,
        _ => 0.0,
    };
    let g: Vec<f64> = (0..rows).map(g).collect();
    let zeros = vec![0.0; rows];
    (problem(&zeros, &[0.0], &[0.0], &g), stored(&zeros, &zeros))
}

/// The random part of a sum. Section 3.2: `n` roundings of a sum of about 1 exceed `lambda sqrt(n) u` with the stated
/// probability; fewer of them, all to one side, reach the threshold, and a few more are outside.
#[test]
fn the_threshold_of_a_sum_is_lambda_times_the_root_of_its_terms() {
    for name in ["f32", "f64", "f32-repeated"] {
        let recipe = Recipe::built_in(name).unwrap();
        let (u, rows) = (recipe.accumulator.unit_roundoff(), 400_usize);
        let share = |absorbed: usize| {
            let (p, saved) = absorbing(rows, absorbed, u);
            let (bounds, truth) = judged(&p, &recipe, Some(&saved));
            let found =
                p.inputs().g.as_slice().iter().fold(0.0, |sum, g| recipe.output.round(sum + g));
            assert_eq!(found, 1.0, "the kernel rounds every small term off");
            let error = (found - truth.dv.as_slice()[0]).abs();
            (bounds.lambda, error / bounds.dv.threshold[0])
        };
        let (lambda, _) = share(0);
        // Without the other stages of one row: 5 u of exp, 2 u of the scale, 2 u of the store and the truth.
        let random = lambda * libm::sqrt((rows + 6) as f64);
        assert!(random + 9.0 < rows as f64, "{random}: the worst case is larger");
        let (_, inside) = share(random as usize);
        assert!((0.9..=1.0).contains(&inside), "{name}: {inside}");
        let (_, outside) = share((random * 1.03) as usize + 10);
        assert!(outside > 1.0, "{name}: {outside}");
    }
}

/// Section 3.1: below `lambda^2` terms the worst case is smaller than the random part, and a kernel reaches it.
#[test]
fn the_threshold_of_a_short_sum_is_its_worst_case() {
    for name in ["f32", "f64"] {
        let recipe = Recipe::built_in(name).unwrap();
        let u = recipe.accumulator.unit_roundoff();
        let (p, saved) = absorbing(40, 38, u);
        let (bounds, truth) = judged(&p, &recipe, Some(&saved));
        assert!(bounds.lambda * bounds.lambda > 46.0);
        let error = (1.0 - truth.dv.as_slice()[0]).abs();
        // 38 of n + 6 = 46 roundings, with 5 u of exp, 2 u of the scale and 2 u of the store and the truth.
        assert_relative_eq!(error / bounds.dv.threshold[0], 38.0 / 54.5, max_relative = 0.02);
    }
}

/// A recipe whose `exp` errs by 64 units in the last place: in a right kernel by as much for all equal arguments.
fn coarse_exp() -> Recipe {
    Recipe::built_in("f32").unwrap().with_exp_ulp(64.0)
}

const TIED: usize = 4096;
/// 64 units in the last place of 1.
const COARSE: f64 = 64.0 * f32::EPSILON as f64;

/// The weights of `TIED` rows err by the same 64 units; other rows keep the sum near 0. Section 3.3.
#[test]
fn rows_with_equal_lse_may_all_err_alike_in_dv() {
    let recipe = coarse_exp();
    // Rows of even number: exp(0) = 1. Rows of odd number: exp(-ln 2), and a cotangent twice as large.
    let ln2 = Format::F32.round(std::f64::consts::LN_2);
    let lse: Vec<f64> = (0..2 * TIED).map(|n| if n % 2 == 0 { 0.0 } else { ln2 }).collect();
    let g: Vec<f64> = (0..2 * TIED).map(|n| if n % 2 == 0 { 1.0 } else { -2.0 }).collect();
    let zeros = vec![0.0; 2 * TIED];
    let p = problem(&zeros, &[0.0], &[0.0], &g);
    let (bounds, truth) = judged(&p, &recipe, Some(&stored(&zeros, &lse)));
    // The kernel: every product and partial sum is a number of f32.
    let found: f32 = (0..2 * TIED).fold(0.0, |sum, n| {
        let w = if n % 2 == 0 { 1.0 + COARSE as f32 } else { 0.5 };
        sum + w * g[n] as f32
    });
    assert_eq!(f64::from(found), TIED as f64 * COARSE);
    let share = (f64::from(found) - truth.dv.as_slice()[0]).abs() / bounds.dv.threshold[0];
    assert!((0.25..=1.0).contains(&share), "{share}");
    // Without the tied roundings the threshold would be a third of the error.
    let independent =
        bounds.lambda * libm::sqrt(2.0 * TIED as f64) * 130.0 * Format::F32.unit_roundoff();
    assert!(3.0 * independent < f64::from(found));
}

/// The same of the keys of one row with equal scores, in `o`.
#[test]
fn keys_with_equal_scores_may_all_err_alike_in_o() {
    // In two passes: an online softmax may rescale 512 times, and err by 64 units each time.
    let recipe = coarse_exp().with_tile(0);
    let ln2 = Format::F32.round(std::f64::consts::LN_2);
    let k: Vec<f64> = (0..2 * TIED).map(|n| if n % 2 == 0 { 0.0 } else { -ln2 }).collect();
    let v: Vec<f64> = (0..2 * TIED).map(|n| if n % 2 == 0 { 1.0 } else { -2.0 }).collect();
    let p = problem(&[1.0], &k, &v, &[1.0]);
    let (bounds, _) = judged(&p, &recipe, None);
    let truth = Truth::exact(&p).unwrap().saved().o.as_slice()[0];
    let (sum, weights) = (0..2 * TIED).fold((0.0_f32, 0.0_f32), |(sum, weights), n| {
        let w = if n % 2 == 0 { 1.0 + COARSE as f32 } else { 0.5 };
        (sum + w * v[n] as f32, weights + w)
    });
    assert_eq!(f64::from(sum), TIED as f64 * COARSE);
    let error = (f64::from(sum / weights) - truth).abs();
    let share = error / bounds.o.threshold[0];
    assert!((0.2..=1.0).contains(&share), "{share}");
    let weight = 1.0 / (1.5 * TIED as f64);
    let independent = bounds.lambda
        * libm::sqrt(2.0 * TIED as f64)
        * weight
        * 130.0
        * Format::F32.unit_roundoff();
    assert!(3.0 * independent < error);
}

/// Every share of every bound is one of a whole, and the threshold is never above the worst case.
#[test]
fn shares_add_up_and_thresholds_stay_below_worst_cases() {
    for case in sus_corpus::all() {
        let p = &case.problem;
        for name in ["f32", "flash-bf16", "eager-f16"] {
            let (bounds, _) = judged(p, &Recipe::built_in(name).unwrap(), None);
            let Bounds { o, lse, dq, dk, dv, dbias, dsink, .. } = &bounds;
            let all =
                [Some(o), Some(lse), Some(dq), Some(dk), Some(dv), dbias.as_ref(), dsink.as_ref()];
            for Bound { threshold, worst_case, stages } in all.into_iter().flatten() {
                for (at, shares) in stages.iter().enumerate() {
                    assert!(threshold[at] <= worst_case[at], "{} {name}", case.name);
                    let sum: f32 = shares.iter().sum();
                    if threshold[at] > 0.0 && threshold[at].is_finite() {
                        // Eleven shares are rounded to f32, and their sum is made in it.
                        assert_relative_eq!(
                            sum,
                            1.0,
                            epsilon = 2.0 * Stage::COUNT as f32 * f32::EPSILON
                        );
                    }
                }
            }
        }
    }
}
