//! The dense backward pass: against differentiation by dual numbers, and against what must not change it.

use crate::common::{Shape, eighths, shapes};
use proptest::prelude::*;
use sus_reference::backward::{Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::scalar::{Dd, Dual, Scalar};
use sus_reference::tensor::{Tensor, dot};

/// `sum o . G + sum lse dlse`, the number whose gradients the backward pass gives. A row that sees nothing has
/// constant outputs.
fn loss<T: Scalar>(problem: &Problem<T>) -> T {
    let Saved { o, lse } = forward(problem);
    let mut sum = dot(o.as_slice(), problem.inputs().g.as_slice());
    for (at, &lse) in lse.as_slice().iter().enumerate() {
        let row = problem.row(at);
        if !problem.mask().visible(row.i).is_empty() || problem.inputs().sink.is_some() {
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
    let Gradients { dq, dk, dv, dbias, dsink } = gradients;
    let mut all = Vec::new();
    for tensor in [Some(dq), Some(dk), Some(dv), dbias.as_ref()] {
        all.extend_from_slice(tensor.map_or(&[], Tensor::as_slice));
    }
    all.extend_from_slice(dsink.as_deref().unwrap_or(&[]));
    all
}

/// The derivative of the loss by input number `at` of [`flat`], by dual numbers.
fn derivative(problem: &Problem<Dd>, at: usize) -> Dd {
    let mut count = 0;
    let dual = problem.map(Dual::constant).expect("finite numbers stay finite");
    let mut seed = |x: &mut Dual<Dd>| {
        if count == at {
            x.eps = Dd::from_f64(1.0);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Inputs are below 2, sums have at most a hundred terms below 100, `Dd` errs by less than 2^-102 an operation:
    /// the two derivations may differ by less than 1e2 * 1e2 * 2^-102 = 2e-27 in principle, and by 1e-28 in fact.
    #[test]
    fn dense_gradients_are_the_derivatives_of_the_loss(shape in shapes(4, 4)) {
        let problem: Problem<Dd> = shape.problem().cast().unwrap();
        let gradients = flat_gradients(&backward(&problem, &forward(&problem)));
        prop_assert_eq!(gradients.len(), flat(problem.inputs()).len());
        for (at, &gradient) in gradients.iter().enumerate() {
            let error = (gradient - derivative(&problem, at)).to_f64().abs();
            prop_assert!(error < 1e-28, "input {at}: {gradient:?} errs by {error:e}");
        }
    }

    /// `dP_ij` and `delta_i` gain the same `G_i . shift`, so `t` stays, and with it `dq` and `dk`. Without a sink
    /// only: a sink takes weight from the keys, so that `o` moves by less than the shift.
    #[test]
    fn a_constant_added_to_every_value_leaves_dq_and_dk(shape in shapes(4, 5)) {
        let shape = Shape { sink: false, ..shape };
        let problem: Problem<Dd> = shape.problem().cast().unwrap();
        let mut inputs = problem.inputs().clone();
        for (at, v) in inputs.v.as_mut_slice().iter_mut().enumerate() {
            *v += Dd::from_f64([3.0, -5.0, 0.5, 7.0][at % shape.value_features]);
        }
        let shifted = Problem::new(inputs, shape.options.clone()).unwrap();
        let [a, b] = [problem, shifted].map(|problem| backward(&problem, &forward(&problem)));
        for (a, b) in [(&a.dq, &b.dq), (&a.dk, &b.dk)] {
            for (&a, &b) in a.as_slice().iter().zip(b.as_slice()) {
                prop_assert!((a - b).to_f64().abs() < 1e-28);
            }
        }
    }

    #[test]
    fn permuting_the_keys_permutes_dk_and_dv(shape in shapes(4, 5)) {
        let options = shape.options.clone().with_causal(false).with_window(None).with_segments(None);
        let problem: Problem<Dd> = Shape { options, ..shape }.problem().cast().unwrap();
        let keys = problem.sizes().keys;
        let permuted = |tensor: &Tensor<Dd>| {
            Tensor::from_fn(tensor.shape(), |[b, h, n, d]| tensor.row(b, h, (n + 1) % keys)[d])
        };
        let mut inputs = problem.inputs().clone();
        (inputs.k, inputs.v) = (permuted(&inputs.k), permuted(&inputs.v));
        inputs.bias = inputs.bias.as_ref().map(|bias| {
            Tensor::from_fn(bias.shape(), |[b, h, i, j]| bias.row(b, h, i)[(j + 1) % keys])
        });
        let rotated = Problem::new(inputs, problem.options().clone()).unwrap();
        let [a, b] = [problem, rotated].map(|problem| backward(&problem, &forward(&problem)));
        for (a, b) in [(permuted(&a.dk), b.dk), (permuted(&a.dv), b.dv), (a.dq, b.dq)] {
            for (&a, &b) in a.as_slice().iter().zip(b.as_slice()) {
                prop_assert!((a - b).to_f64().abs() < 1e-28);
            }
        }
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
    for (&narrow, &wide) in narrow.lse.as_slice().iter().zip(wide.lse.as_slice()) {
        assert!(narrow.abs() > 1e3);
        let error = (Dd::from_f64(narrow) - wide).to_f64().abs();
        assert!(error <= narrow.abs() * 4.0 * f64::EPSILON, "{narrow} errs by {error:e}");
    }
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
    assert!((slope / expected - 1.0).abs() < 8.0 * f64::EPSILON, "{slope:e}");
}
