//! The dense backward pass: against differentiation by dual numbers, and against what must not change it.

use crate::common::{Shape, differences, eighths, largest_share, shapes};
use proptest::prelude::*;
use sus_reference::backward::{Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::scalar::{Dd, DdWithError, Dual, Scalar};
use sus_reference::tensor::{Tensor, dot};

/// `sum o . G + sum lse dlse`, the number whose gradients the backward pass gives. A row that sees nothing has
/// constant outputs.
fn loss<T: Scalar>(problem: &Problem<T>) -> T {
    let Saved { o, lse } = forward(problem);
    let mut sum = dot(o.as_slice(), problem.inputs().g.as_slice());
    for (at, &lse) in lse.as_slice().iter().enumerate() {
        let row = problem.row(at);
        if !problem.span(row).is_empty() || problem.inputs().sink.is_some() {
            sum += lse * problem.dlse(row);
        }
    }
    sum
}

/// The inputs of a problem as one list, and back: `q, k, v, bias, sink` in this order.
fn flat<T: Scalar>(inputs: &Inputs<T>) -> Vec<T> {
    let mut all = Vec::new();
    for tensor in [Some(&inputs.q), Some(&inputs.k), Some(&inputs.v), inputs.bias.as_ref()] {
        all.extend_from_slice(tensor.map_or(&[], Tensor::as_slice));
    }
    all.extend_from_slice(inputs.sink.as_deref().unwrap_or(&[]));
    all
}

fn flat_gradients<T: Scalar>(gradients: &Gradients<T>) -> Vec<T> {
    let Gradients { dq, dk, dv, dbias, dsink, .. } = gradients;
    let mut all = Vec::new();
    for tensor in [Some(dq), Some(dk), Some(dv), dbias.as_ref()] {
        all.extend_from_slice(tensor.map_or(&[], Tensor::as_slice));
    }
    all.extend_from_slice(dsink.as_deref().unwrap_or(&[]));
    all
}

/// The derivative of the loss by input number `at` of [`flat`], by dual numbers.
fn derivative(problem: &Problem<DdWithError>, at: usize) -> DdWithError {
    let mut count = 0;
    let dual = problem.map(Dual::constant).expect("finite numbers stay finite");
    let mut seed = |x: &mut Dual<DdWithError>| {
        if count == at {
            x.eps = DdWithError::from_f64(1.0);
        }
        count += 1;
    };
    let mut inputs = dual.inputs().clone();
    inputs.q.as_mut_slice().iter_mut().for_each(&mut seed);
    inputs.k.as_mut_slice().iter_mut().for_each(&mut seed);
    inputs.v.as_mut_slice().iter_mut().for_each(&mut seed);
    inputs.bias.iter_mut().flat_map(Tensor::as_mut_slice).for_each(&mut seed);
    inputs.sink.iter_mut().flatten().for_each(&mut seed);
    let dual = Problem::new(inputs, problem.options().clone()).expect("still legal");
    loss(&dual).eps
}

/// Gradient minus derivative, for each input.
fn gradients_minus_derivatives(shape: &Shape) -> Vec<DdWithError> {
    let problem: Problem<DdWithError> = shape.problem().cast().unwrap();
    let gradients = flat_gradients(&backward(&problem, &forward(&problem)));
    assert_eq!(gradients.len(), flat(problem.inputs()).len());
    gradients.iter().enumerate().map(|(at, &g)| g - derivative(&problem, at)).collect()
}

/// `dq` and `dk`, minus those of the problem with a constant added to each feature of `v`. `dP_ij` and `delta_i` gain the
/// same `G_i . shift`, so `t` is unchanged, and with it `dq` and `dk`. Without a sink only: a sink takes weight from the
/// keys, so that `o` moves by less than the shift.
fn changes_under_a_shift_of_v(shape: &Shape) -> Vec<DdWithError> {
    let shape = Shape { sink: false, ..shape.clone() };
    let problem: Problem<DdWithError> = shape.problem().cast().unwrap();
    let mut inputs = problem.inputs().clone();
    for (at, v) in inputs.v.as_mut_slice().iter_mut().enumerate() {
        *v += DdWithError::from_f64([3.0, -5.0, 0.5, 7.0][at % shape.value_features]);
    }
    let shifted = Problem::new(inputs, shape.options.clone()).unwrap();
    let [a, b] = [problem, shifted].map(|problem| backward(&problem, &forward(&problem)));
    [differences(a.dq.as_slice(), b.dq.as_slice()), differences(a.dk.as_slice(), b.dk.as_slice())]
        .concat()
}

/// `dq`, `dk` and `dv`, minus those of the problem with rotated keys, rotated back.
fn changes_under_a_rotation_of_keys(shape: &Shape) -> Vec<DdWithError> {
    let options = shape.options.clone().with_causal(false).with_window(None).with_segments(None);
    let problem: Problem<DdWithError> =
        Shape { options, ..shape.clone() }.problem().cast().unwrap();
    let keys = problem.sizes().keys;
    let rotated = |tensor: &Tensor<DdWithError>| {
        Tensor::from_fn(tensor.shape(), |[b, h, n, d]| tensor.row(b, h, (n + 1) % keys)[d])
    };
    let mut inputs = problem.inputs().clone();
    (inputs.k, inputs.v) = (rotated(&inputs.k), rotated(&inputs.v));
    inputs.bias = inputs.bias.as_ref().map(|bias| {
        Tensor::from_fn(bias.shape(), |[b, h, i, j]| bias.row(b, h, i)[(j + 1) % keys])
    });
    let moved = Problem::new(inputs, problem.options().clone()).unwrap();
    let [a, b] = [problem, moved].map(|problem| backward(&problem, &forward(&problem)));
    [(rotated(&a.dk), b.dk), (rotated(&a.dv), b.dv), (a.dq, b.dq)]
        .map(|(a, b)| differences(a.as_slice(), b.as_slice()))
        .concat()
}

/// The three identities above are tests only if their bounds are not far above the errors that occur. A gradient of
/// these problems is a sum of at most 100 roundings that are not negligible (8 terms of about 12 operations), which are
/// independent: the error is about a tenth of the sum of their bounds, if each were as large as its bound, and roundings
/// are about a tenth of their bounds (`tests/scalar_dd.rs`).
#[test]
fn the_bounds_of_the_identities_are_within_a_thousand_of_the_errors() {
    let shape = Shape {
        key_heads: 2,
        group: 2,
        dlse: true,
        bias: Some([false, true, true]),
        sink: true,
        options: Options::default().with_softcap(1.5).with_causal(true),
        ..Shape::plain(4, 4)
    };
    let identities: [fn(&Shape) -> Vec<DdWithError>; 3] =
        [gradients_minus_derivatives, changes_under_a_shift_of_v, changes_under_a_rotation_of_keys];
    for (n, identity) in identities.into_iter().enumerate() {
        let shares = (1..4).map(|seed| largest_share(identity(&Shape { seed, ..shape.clone() })));
        let largest = shares.fold(0.0, f64::max);
        println!("identity {n}: at most {largest:.4} of the bound");
        assert!(largest > 1e-3, "identity {n}: at most {largest:e} of the bound");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn dense_gradients_are_the_derivatives_of_the_loss(shape in shapes(4, 4)) {
        largest_share(gradients_minus_derivatives(&shape));
    }

    #[test]
    fn a_constant_added_to_every_value_leaves_dq_and_dk(shape in shapes(4, 5)) {
        largest_share(changes_under_a_shift_of_v(&shape));
    }

    #[test]
    fn permuting_the_keys_permutes_dk_and_dv(shape in shapes(4, 5)) {
        largest_share(changes_under_a_rotation_of_keys(&shape));
    }

    #[test]
    fn each_sequence_of_a_batch_is_on_its_own(shape in shapes(4, 5)) {
        let shape = Shape { batch: 2, bias: None, sink: false, ..shape };
        let problem = shape.problem();
        let whole = backward(&problem, &forward(&problem));
        for b in 0..2 {
            let part = |tensor: &Tensor<f64>| {
                let [_, heads, positions, features] = tensor.shape();
                Tensor::from_fn([1, heads, positions, features], |[_, h, n, d]| {
                    tensor.row(b, h, n)[d]
                })
            };
            let inputs = problem.inputs();
            let alone = Inputs::new(part(&inputs.q), part(&inputs.k), part(&inputs.v), part(&inputs.g)).with_dlse(inputs.dlse.as_ref().map(part));
            let alone = Problem::new(alone, shape.options.clone()).unwrap();
            let alone = backward(&alone, &forward(&alone));
            prop_assert_eq!(part(&whole.dq), alone.dq);
            prop_assert_eq!(part(&whole.dk), alone.dk);
            prop_assert_eq!(part(&whole.dv), alone.dv);
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads(shape in shapes(6, 80)) {
        let problem = shape.problem();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let saved = forward(&problem);
                let gradients = backward(&problem, &saved);
                (saved, gradients)
            })
        };
        let one = with(1);
        prop_assert_eq!(&one, &with(2));
        prop_assert_eq!(&one, &with(7));
    }
}

#[test]
fn scores_of_ten_thousand_neither_overflow_nor_vanish() {
    let shape = Shape { features: 2, ..Shape::plain(3, 4) };
    let problem = shape.fill(|rng| 100.0 * eighths(rng));
    let wide: Problem<Dd> = problem.cast().unwrap();
    let (narrow, wide) = (forward(&problem), forward(&wide));
    let mut largest = 0.0_f64;
    for (&narrow, &wide) in narrow.lse.as_slice().iter().zip(wide.lse.as_slice()) {
        assert!(narrow.abs() > 1e3);
        let error = (Dd::from_f64(narrow) - wide).to_f64().abs();
        // q . k is exact: products of multiples of 12.5. With u = 2^-53, `1 / sqrt(2)` errs by 2 u and the product with it
        // by u; the last addition of lse by u. The logarithm, at most ln 4, errs by 2 u of itself: 0.01 u of lse.
        assert!(error <= narrow.abs() * 4.01 * f64::EPSILON / 2.0, "{narrow} errs by {error:e}");
        largest = largest.max(error);
    }
    assert!(largest > 0.0, "rounded numbers are never all exact");
}

#[test]
fn a_saturated_softcap_keeps_the_relative_accuracy_of_its_slope() {
    use sus_reference::forward::score;
    use sus_reference::problem::Row;
    let options = Options::default().with_softcap(1.0).with_scale(1.0);
    let tensor = |x: f64| Tensor::from_fn([1, 1, 1, 1], |_| x);
    let inputs = Inputs::new(tensor(20.0), tensor(1.0), tensor(1.0), tensor(1.0));
    let problem = Problem::new(inputs, options).unwrap();
    let slope = score(&problem, Row { b: 0, h: 0, i: 0 }, 0).slope;
    // 4 e^-40 / (1 + e^-40)^2, to 17 digits.
    let expected = 1.699_341_702_116_636e-17;
    // With u = 2^-53: `exp` errs by 2 u, `1 + e` by u and twice in its square, the square and the quotient by u; the
    // expected number and the quotient of the comparison add u each.
    assert!((slope / expected - 1.0).abs() <= 8.0 * f64::EPSILON / 2.0, "{slope:e}");
}
