//! What is refused as a problem, and in which words.

use crate::common::Shape;
use half::f16;
use sus_reference::evaluation::visible_count;
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::scalar::{Dd, DdWithError, Dual};
use sus_reference::tensor::Tensor;

/// A problem with every optional input: B = 2, Hq = 6, Hk = 2, Nq = 3, Nk = 4, D = 3, E = 2.
fn inputs() -> Inputs<f64> {
    let shape = Shape {
        batch: 2,
        key_heads: 2,
        group: 3,
        dlse: true,
        bias: Some([false, true, false]),
        sink: true,
        ..Shape::plain(3, 4)
    };
    shape.problem().inputs().clone()
}

fn refusal(change: impl FnOnce(&mut Inputs<f64>, &mut Options)) -> String {
    let (mut inputs, mut options) = (inputs(), Options::default());
    change(&mut inputs, &mut options);
    Problem::new(inputs, options).unwrap_err().to_string()
}

fn zeros(shape: [usize; 4]) -> Tensor<f64> {
    Tensor::zeros(shape)
}

#[test]
fn every_tensor_is_held_to_the_shape_that_the_others_imply() {
    let cases: [(&str, String); 10] = [
        (
            "tensor 'q': expected shape [B, Hq >= 1, Nq, D >= 1], found [2, 6, 3, 0]",
            refusal(|i, _| i.q = zeros([2, 6, 3, 0])),
        ),
        (
            "tensor 'v': expected shape [2, Hk >= 1, Nk, E >= 1], found [1, 2, 4, 2]",
            refusal(|i, _| i.v = zeros([1, 2, 4, 2])),
        ),
        (
            "tensor 'v': expected shape [2, Hk >= 1, Nk, E >= 1], found [2, 0, 4, 2]",
            refusal(|i, _| i.v = zeros([2, 0, 4, 2])),
        ),
        (
            "tensor 'k': expected shape [2, 2, 4, 3], found [2, 2, 5, 3]",
            refusal(|i, _| i.k = zeros([2, 2, 5, 3])),
        ),
        (
            "tensor 'do': expected shape [2, 6, 3, 2], found [2, 6, 3, 3]",
            refusal(|i, _| i.g = zeros([2, 6, 3, 3])),
        ),
        (
            "tensor 'dlse': expected shape [2, 6, 3, 1], found [2, 6, 4, 1]",
            refusal(|i, _| i.dlse = Some(zeros([2, 6, 4, 1]))),
        ),
        (
            "tensor 'bias': expected shape [2 or 1, 6 or 1, 3 or 1, 4], found [2, 1, 3, 1]",
            refusal(|i, _| i.bias = Some(zeros([2, 1, 3, 1]))),
        ),
        (
            "tensor 'bias': expected shape [2 or 1, 6 or 1, 3 or 1, 4], found [2, 2, 3, 4]",
            refusal(|i, _| i.bias = Some(zeros([2, 2, 3, 4]))),
        ),
        (
            "tensor 'sink': expected shape [6], found [2]",
            refusal(|i, _| i.sink = Some(vec![0.0; 2])),
        ),
        (
            "tensors 'q' and 'k': expected Hq to be a multiple of Hk, found Hq = 6 and Hk = 4",
            refusal(|i, _| (i.k, i.v) = (zeros([2, 4, 4, 3]), zeros([2, 4, 4, 2]))),
        ),
    ];
    for (expected, found) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn every_number_is_held_to_be_finite() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let said = |tensor, index| {
            format!(
                "tensor '{tensor}': expected finite numbers, found {bad:?} at flat index {index}"
            )
        };
        assert_eq!(refusal(|i, _| i.q.as_mut_slice()[5] = bad), said("q", 5));
        assert_eq!(refusal(|i, _| i.k.as_mut_slice()[0] = bad), said("k", 0));
        assert_eq!(refusal(|i, _| i.v.as_mut_slice()[31] = bad), said("v", 31));
        assert_eq!(refusal(|i, _| i.g.as_mut_slice()[1] = bad), said("do", 1));
        assert_eq!(
            refusal(|i, _| i.dlse.as_mut().unwrap().as_mut_slice()[2] = bad),
            said("dlse", 2)
        );
        assert_eq!(refusal(|i, _| i.sink.as_mut().unwrap()[4] = bad), said("sink", 4));
    }
}

#[test]
fn a_bias_is_held_to_be_finite_or_minus_infinity() {
    for bad in [f64::NAN, -f64::NAN, f64::INFINITY] {
        assert_eq!(
            refusal(|i, _| i.bias.as_mut().unwrap().as_mut_slice()[3] = bad),
            format!(
                "tensor 'bias': expected finite numbers or -inf, found {bad:?} at flat index 3"
            )
        );
    }
    let mut inputs = inputs();
    assert!(!Problem::new(inputs.clone(), Options::default()).unwrap().hides_keys());
    inputs.bias.as_mut().unwrap().as_mut_slice()[3] = f64::NEG_INFINITY;
    let problem = Problem::new(inputs, Options::default()).unwrap();
    // In every scalar; the bias is [2, 1, 3, 4], so that element 3 is key 3 of query 0 of every head.
    for row in (0..problem.row_count()).map(|at| problem.row(at)) {
        let hidden = row.b == 0 && row.i == 0;
        for j in 0..4 {
            assert_eq!(problem.hides(row, j), hidden && j == 3);
            assert_eq!(problem.cast::<f16>().unwrap().hides(row, j), hidden && j == 3);
            assert_eq!(problem.cast::<Dd>().unwrap().hides(row, j), hidden && j == 3);
            assert_eq!(problem.cast::<DdWithError>().unwrap().hides(row, j), hidden && j == 3);
            let dual = problem.map(Dual::constant).unwrap();
            assert_eq!(dual.hides(row, j), hidden && j == 3);
        }
        assert_eq!(problem.visible_keys(row), problem.visible(row).count());
        assert_eq!(problem.visible_keys(row), if hidden { 3 } else { 4 });
    }
    assert_eq!(visible_count(&problem), 2 * 6 * 3 * 4 - 6);
}

#[test]
fn a_finite_bias_below_the_range_of_a_scalar_does_not_begin_to_hide_keys() {
    let mut inputs = inputs();
    inputs.bias.as_mut().unwrap().as_mut_slice()[7] = -70000.0;
    let problem = Problem::new(inputs, Options::default()).unwrap();
    assert!(problem.cast::<Dd>().is_ok());
    assert_eq!(
        problem.cast::<f16>().unwrap_err().to_string(),
        "tensor 'bias': expected finite numbers or -inf, found -70000.0, which becomes -inf, at flat index 7"
    );
}

#[test]
fn options_that_mean_nothing_are_refused() {
    assert_eq!(
        refusal(|_, o| o.scale = Some(f64::NAN)),
        "option 'scale': expected a finite number, found NaN"
    );
    for cap in [0.0, -1.0, f64::INFINITY] {
        assert_eq!(
            refusal(|_, o| o.softcap = Some(cap)),
            format!("option 'softcap': expected a finite number above 0, found {cap}")
        );
    }
}

#[test]
fn a_number_beyond_the_range_of_a_scalar_is_refused_by_the_cast() {
    let mut inputs = inputs();
    inputs.k.as_mut_slice()[7] = 70000.0;
    let problem = Problem::new(inputs, Options::default()).unwrap();
    assert!(problem.cast::<Dd>().is_ok());
    assert_eq!(
        problem.cast::<f16>().unwrap_err().to_string(),
        "tensor 'k': expected finite numbers, found inf at flat index 7"
    );
}

#[test]
fn a_tensor_holds_as_many_elements_as_its_shape_says() {
    assert_eq!(
        Tensor::new("q", [1, 2, 2, 2], &[0.0; 7]).unwrap_err().to_string(),
        "tensor 'q': expected shape one with 7 elements, found [1, 2, 2, 2]"
    );
    let huge = 1 << 40;
    assert_eq!(
        Tensor::new("q", [huge, huge, 0, 1], &[0.0; 0]).unwrap_err().to_string(),
        format!(
            "elements of a tensor: expected fewer than 2^64, found q of shape [{huge}, {huge}, 0, 1]"
        )
    );
}

#[test]
fn a_head_is_a_matrix_of_positions_and_features() {
    let tensor =
        Tensor::from_fn([2, 3, 4, 5], |[b, h, n, d]| (1000 * b + 100 * h + 10 * n + d) as i64);
    let head = tensor.head(1, 2);
    assert_eq!(head.shape(), (4, 5));
    assert_eq!((head[(0, 0)], head[(3, 4)], head[(2, 1)]), (1200, 1234, 1221));
    assert_eq!(tensor.row(1, 2, 3), [1230, 1231, 1232, 1233, 1234]);
}

#[test]
fn a_given_forward_pass_is_held_to_the_problem() {
    let problem = Problem::new(inputs(), Options::default()).unwrap();
    let Saved { o, lse } = forward(&problem);
    let refused = |o: &Tensor<f64>, lse: &Tensor<f64>| {
        Saved::given(&problem, o.clone(), lse.clone()).unwrap_err().to_string()
    };
    assert!(Saved::given(&problem, o.clone(), lse.clone()).is_ok());
    assert_eq!(
        refused(&zeros([2, 6, 3, 3]), &lse),
        "tensor 'o': expected shape [2, 6, 3, 2], found [2, 6, 3, 3]"
    );
    assert_eq!(
        refused(&o, &zeros([2, 6, 2, 1])),
        "tensor 'lse': expected shape [2, 6, 3, 1], found [2, 6, 2, 1]"
    );
    let mut bad = o.clone();
    bad.as_mut_slice()[3] = f64::NAN;
    assert_eq!(
        refused(&bad, &lse),
        "tensor 'o': expected finite numbers, found NaN at flat index 3"
    );
    let mut bad = lse.clone();
    bad.as_mut_slice()[4] = f64::NEG_INFINITY;
    assert_eq!(
        refused(&o, &bad),
        "tensor 'lse': expected finite numbers, found -inf at flat index 4"
    );
}

#[test]
fn the_given_lse_of_a_row_that_sees_nothing_may_be_either_infinity_and_reads_as_minus() {
    let shape = Shape { options: Options::default().with_causal(true), ..Shape::plain(3, 1) };
    let problem = shape.problem();
    let Saved { o, mut lse } = forward(&problem);
    assert_eq!(lse.as_slice()[..2], [f64::NEG_INFINITY; 2]);
    lse.as_mut_slice()[0] = f64::INFINITY;
    let given = Saved::given(&problem, o.clone(), lse.clone()).unwrap();
    assert_eq!(given, forward(&problem));
    lse.as_mut_slice()[1] = f64::NAN;
    assert!(Saved::given(&problem, o, lse).is_err());
}

#[test]
fn every_tensor_begins_at_a_cache_line() {
    let numbers: Vec<f64> = (0..21).map(f64::from).collect();
    // A slice that begins one number after wherever the vector does.
    let new = Tensor::new("x", [1, 1, 4, 5], &numbers[1..]).unwrap();
    let zeros = Tensor::<f32>::zeros([1, 2, 3, 7]);
    assert_eq!(new.as_slice().as_ptr().align_offset(64), 0);
    assert_eq!(new.clone().as_slice().as_ptr().align_offset(64), 0);
    assert_eq!(new.map(|x| x as f32).as_slice().as_ptr().align_offset(64), 0);
    assert_eq!(zeros.as_slice().as_ptr().align_offset(64), 0);
}
