//! Random wrong kernels on random problems: each is explained, by its own cause or by one that is the same there; noise is not.
//!
//! The wrong results come from the reference's passes in `f32`, or from the true ones, and not from the code that explains.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sus_bounds::Recipe;
use sus_explain::{Explanation, explain};
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::tensor_file::Numbers;
use sus_files::{Settings, TensorFile};
use sus_reference::evaluation::evaluate;
use sus_reference::forward::{Saved, forward};
use sus_reference::mask::{Alignment, Window};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::tensor::Tensor;
use sus_verdict::{Case, Judge, Outcome};

/// Numbers between -1 and 1 that depend on a seed, by a linear congruential generator.
pub(crate) fn numbers(seed: u64, shape: [usize; 4]) -> Tensor<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Tensor::from_fn(shape, |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = (state >> 33) as f64 / f64::from(1_u32 << 31) * 2.0 - 1.0;
        f64::from((x * 2.0) as f32)
    })
}

/// A problem: grouped heads, more keys than queries or fewer, any mask, maybe a softcap, a bias and sinks.
fn problem() -> impl Strategy<Value = Problem<f64>> {
    let sizes = (1..3_usize, 1..3_usize, 1..3_usize, 9..20_usize, 9..20_usize);
    let options =
        (any::<bool>(), any::<bool>(), 0..3_u8, any::<bool>(), any::<bool>(), any::<bool>());
    (sizes, options, any::<u64>()).prop_map(|((b, hk, group, nq, nk), options, seed)| {
        let (causal, top_left, window, softcap, bias, sink) = options;
        let hq = hk * group;
        let (d, e) = (8, 6);
        let inputs = Inputs::new(
            numbers(seed, [b, hq, nq, d]),
            numbers(seed ^ 1, [b, hk, nk, d]),
            numbers(seed ^ 2, [b, hk, nk, e]),
            numbers(seed ^ 3, [b, hq, nq, e]),
        )
        .with_bias(bias.then(|| numbers(seed ^ 4, [1, hq, nq, nk])))
        .with_sink(sink.then(|| numbers(seed ^ 5, [1, 1, 1, hq]).as_slice().to_vec()));
        let window = match window {
            0 => None,
            1 => Some(Window { left: Some(4), right: Some(3) }),
            _ => Some(Window { left: Some(5), right: None }),
        };
        let alignment = if top_left { Alignment::TopLeft } else { Alignment::BottomRight };
        let options = Options::default()
            .with_causal(causal)
            .with_alignment(alignment)
            .with_window(window)
            .with_softcap(softcap.then_some(1.5));
        Problem::new(inputs, options).unwrap()
    })
}

/// What a kernel gets wrong.
#[derive(Debug, Clone)]
enum Mutation {
    /// Other settings, in both passes or in the backward pass alone.
    Setting(usize, bool),
    /// An operand from elsewhere, in the backward pass.
    Operand(usize, usize),
    /// A relation of one result to the truth.
    Relation(usize, usize, f64),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (0..9_usize, any::<bool>()).prop_map(|(what, both)| Mutation::Setting(what, both)),
        (0..4_usize, 0..5_usize).prop_map(|(operand, how)| Mutation::Operand(operand, how)),
        (0..3_usize, 0..6_usize, 0.2..3.0_f64)
            .prop_map(|(result, how, factor)| Mutation::Relation(result, how, factor)),
    ]
}

/// The problem with another setting; `None` where it has no such setting.
fn with_setting(problem: &Problem<f64>, what: usize) -> Option<Problem<f64>> {
    let (inputs, options) = (problem.inputs().clone(), problem.options().clone());
    let window = options.window;
    let (inputs, options) = match what {
        0 => (inputs, options.clone().with_causal(!options.causal)),
        1 => (inputs, options.with_alignment(Alignment::TopLeft)),
        2 => (inputs, options.with_window(window.map(|of| Window { left: None, ..of })?)),
        3 => {
            let shorter = Window { left: Some(window?.left? - 1), ..window? };
            (inputs, options.with_window(shorter))
        }
        4 => (inputs, options.with_scale(1.0)),
        5 => {
            let _ = options.softcap?;
            (inputs, options.with_softcap(None))
        }
        6 => {
            let bias = inputs.bias.as_ref()?.map(|x| x * problem.scale());
            (inputs.with_bias(bias), options)
        }
        7 => {
            let sink = inputs.sink.as_ref()?.iter().map(|_| -1e4).collect::<Vec<_>>();
            (inputs.with_sink(sink), options)
        }
        _ => {
            let bias = inputs.bias.as_ref()?.map(|x| -x);
            (inputs.with_bias(bias), options)
        }
    };
    let changed = Problem::new(inputs, options).unwrap();
    (changed != *problem).then_some(changed)
}

/// A tensor from elsewhere.
fn read(tensor: &Tensor<f64>, how: usize) -> Tensor<f64> {
    let [batch, heads, rows, features] = tensor.shape();
    Tensor::from_fn(tensor.shape(), |[b, h, n, d]| match how {
        0 => tensor.row(b, (h + 1) % heads, n)[d],
        1 => tensor.row(b, h, n.max(1) - 1)[d] * f64::from(u8::from(n > 0)),
        2 => tensor.row(b, h, rows - 1 - n)[d],
        3 => tensor.row((b + 1) % batch, h, n)[d],
        // Memory of [B, N, H, D] read as [B, H, N, D].
        _ => {
            let flat = ((b * heads + h) * rows + n) * features + d;
            let (row, d) = (flat / features, flat % features);
            let (n, h) = (row / heads % rows, row % heads);
            tensor.row(row / heads / rows, h, n)[d]
        }
    })
}

fn with_operand(problem: &Problem<f64>, operand: usize, how: usize) -> Problem<f64> {
    let inputs = problem.inputs().clone();
    let inputs = match operand {
        0 => inputs.clone().with_q(read(&inputs.q, how)),
        1 => inputs.clone().with_k(read(&inputs.k, how)),
        2 => inputs.clone().with_v(read(&inputs.v, how)),
        _ => inputs.clone().with_g(read(&inputs.g, how)),
    };
    Problem::new(inputs, problem.options().clone()).unwrap()
}

/// Changes one result.
fn relate(candidate: &mut TensorFile, result: usize, how: usize, factor: f64) {
    let names = ["dq", "dk", "dv"];
    let array = candidate.arrays.get_mut(names[result]).unwrap();
    let [_, heads, rows, width] = array.shape[..] else { unreachable!() };
    let Numbers::Float(data) = &mut array.numbers else { unreachable!() };
    let before = data.clone();
    for (at, x) in data.iter_mut().enumerate() {
        let (row, d) = (at / width, at % width);
        let (head, n) = (row / rows, row % rows);
        let from = |head: usize, n: usize| before[(head * rows + n) * width + d];
        *x = match how {
            0 => factor * *x,
            1 => -*x,
            // The last row is lost.
            2 if n + 1 == rows => 0.0,
            3 => from(head / heads * heads + (head + 1) % heads, n),
            4 => from(head, (n + 3) % rows),
            5 if head == 0 => 2.0 * *x,
            _ => *x,
        };
        *x = f64::from(*x as f32);
    }
}

/// The wrong candidate; `None` where the mutation does not apply.
fn candidate(problem: &Problem<f64>, mutation: &Mutation) -> Option<TensorFile> {
    let saved = forward(problem);
    let pass = |problem: &Problem<f64>, given: Option<&Saved<f64>>| {
        // A row whose keys the true forward pass does not see may overflow.
        let found = evaluate::<f32>(problem, given, None).ok()?;
        to_tensors(&found, &Settings::default(), Stored::F32).ok()
    };
    Some(match *mutation {
        Mutation::Setting(what, both) => {
            let changed = with_setting(problem, what)?;
            pass(&changed, if both { None } else { Some(&saved) })?
        }
        Mutation::Operand(operand, how) => {
            pass(&with_operand(problem, operand, how), Some(&saved))?
        }
        Mutation::Relation(result, how, factor) => {
            let mut right = pass(problem, None)?;
            relate(&mut right, result, how, factor);
            right
        }
    })
}

/// The explanation of a candidate; `None` if it does not fail.
fn explained(problem: &Problem<f64>, candidate: &TensorFile) -> Option<Explanation> {
    let case = Case::new(problem.clone(), Settings::default());
    let judge = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build().unwrap();
    let verdict = judge.check(candidate);
    (verdict.outcome == Outcome::Fail).then(|| explain(&judge, &verdict, candidate)).flatten()
}

/// A number from the environment, to try other cases by hand.
fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The same cases in each run; `SUS_EXPLAIN_SEED` and `SUS_EXPLAIN_CASES` ask for others.
fn config() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(u64::from(number("SUS_EXPLAIN_SEED", 19)));
    let cases = number("SUS_EXPLAIN_CASES", 64);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_random_wrong_kernel_is_explained(problem in problem(), mutation in mutation()) {
        let Some(candidate) = candidate(&problem, &mutation) else { return Ok(()) };
        let Some(why) = explained(&problem, &candidate) else { return Ok(()) };
        prop_assert!(why.unexplained.is_empty(), "{mutation:?}: {}", why.why());
        prop_assert!(why.causes.iter().all(|cause| cause.is_cause), "{mutation:?}: {}", why.why());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Errors of independent sizes, ten to a thousand times what roundings are, have no cause; neither have made-up numbers.
    #[test]
    fn noise_is_not_explained(problem in problem(), seed in any::<u64>(), size in 1e-4..1e-2_f64) {
        let found = evaluate::<f32>(&problem, None, None).unwrap();
        let mut candidate = to_tensors(&found, &Settings::default(), Stored::F32).unwrap();
        for (n, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
            let array = candidate.arrays.get_mut(name).unwrap();
            let shape = [array.shape[0], array.shape[1], array.shape[2], array.shape[3]];
            let noise = numbers(seed ^ (n as u64 + 7), shape);
            let Numbers::Float(data) = &mut array.numbers else { unreachable!() };
            for (x, noise) in data.iter_mut().zip(noise.as_slice()) {
                *x = f64::from((*x + size * noise) as f32);
            }
        }
        let why = explained(&problem, &candidate).expect("a failure");
        prop_assert!(why.causes.is_empty(), "{}", why.why());
        prop_assert_eq!(why.unexplained.len(), 3);
    }

    #[test]
    fn a_right_kernel_has_no_explanation(problem in problem()) {
        let found = evaluate::<f32>(&problem, None, None).unwrap();
        let candidate = to_tensors(&found, &Settings::default(), Stored::F32).unwrap();
        prop_assert_eq!(explained(&problem, &candidate), None);
    }
}
