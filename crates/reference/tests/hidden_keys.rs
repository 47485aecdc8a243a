//! A key that a bias of `-inf` hides takes no part: the bits are those of the problem whose mask hides it, or that does not have it.

use crate::common::{Shape, eighths};
use sus_reference::backward::{Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::mask::{Alignment, Segments, Window};
use sus_reference::problem::{Inputs, Options, Problem, Row};
use sus_reference::scalar::{Dd, Scalar};
use sus_reference::sus::moments::{MaskDistribution, variances};
use sus_reference::sus::{Budget, Draw, Rule, Sampler, UniformBits, sample, sus_backward};
use sus_reference::tensor::Tensor;

/// The problem without its mask, and a bias that hides what the mask hid. The problem has a bias.
fn mask_as_bias(p: &Problem<f64>) -> Problem<f64> {
    let sizes = p.sizes();
    let shape = [sizes.batch, sizes.query_heads, sizes.queries, sizes.keys];
    let bias = Tensor::from_fn(shape, |[b, h, i, j]| {
        let seen = p.mask().span(0, i).contains(&j);
        if seen { p.bias(Row { b, h, i }).unwrap()[j] } else { f64::NEG_INFINITY }
    });
    let Options { scale, softcap, .. } = *p.options();
    let options = Options::default().with_scale(scale).with_softcap(softcap);
    Problem::new(p.inputs().clone().with_bias(bias), options).unwrap()
}

/// Causal in both alignments, a window, packed sequences, all of them; some rows see nothing.
fn masked() -> Vec<Problem<f64>> {
    let window = Window { left: Some(2), right: Some(1) };
    let segments = Segments { queries: vec![0, 3, 9, 9], keys: vec![0, 2, 5, 7] };
    let causal = Options::default().with_causal(true);
    let top_left = causal.clone().with_alignment(Alignment::TopLeft).with_softcap(1.5);
    let options = [
        causal.clone(),
        top_left,
        Options::default().with_window(window),
        Options::default().with_segments(segments.clone()),
        causal.with_window(window).with_segments(segments),
    ];
    let of = |options: &Options| {
        [false, true].map(|sink| {
            let bias = Some([false, false, false]);
            let options = options.clone();
            let shape = Shape { batch: 2, key_heads: 2, group: 2, ..Shape::plain(9, 7) };
            Shape { dlse: true, bias, sink, options, ..shape }.fill(|rng| eighths(rng) / 3.0)
        })
    };
    options.iter().flat_map(of).collect()
}

fn bits<T: Scalar>(x: &[T]) -> Vec<u64> {
    x.iter().map(|x| x.to_f64().to_bits()).collect()
}

fn same_saved<T: Scalar>(found: &Saved<T>, expected: &Saved<T>) {
    assert_eq!(bits(found.o.as_slice()), bits(expected.o.as_slice()));
    assert_eq!(bits(found.lse.as_slice()), bits(expected.lse.as_slice()));
}

/// `dbias` where a mask hides the key is 0 on both sides.
fn same_gradients<T: Scalar>(found: &Gradients<T>, expected: &Gradients<T>) {
    let all = |g: &Gradients<T>| {
        let dbias = g.dbias.as_ref().unwrap();
        let tensors = [&g.dq, &g.dk, &g.dv, dbias].map(|x| bits(x.as_slice()));
        (tensors, g.dsink.as_ref().map(|x| bits(x)))
    };
    assert_eq!(all(found), all(expected));
}

fn same_passes<T: Scalar>(hidden: &Problem<f64>, masked: &Problem<f64>) {
    let [hidden, masked]: [Problem<T>; 2] = [hidden, masked].map(|p| p.cast().unwrap());
    let [found, expected] = [&hidden, &masked].map(forward);
    same_saved(&found, &expected);
    same_gradients(&backward(&hidden, &found), &backward(&masked, &expected));
}

#[test]
fn a_mask_as_a_bias_has_the_bits_of_the_mask() {
    let (mut empty, mut hidden_keys) = (0, 0);
    for masked in masked() {
        let hidden = mask_as_bias(&masked);
        assert!(hidden.hides_keys() && !masked.hides_keys());
        same_passes::<f64>(&hidden, &masked);
        same_passes::<f32>(&hidden, &masked);
        same_passes::<half::bf16>(&hidden, &masked);
        same_passes::<Dd>(&hidden, &masked);
        for row in (0..hidden.row_count()).map(|at| hidden.row(at)) {
            empty += usize::from(hidden.visible_keys(row) == 0);
            hidden_keys += 7 - hidden.visible_keys(row);
            assert!(hidden.visible(row).eq(masked.span(row)));
        }
    }
    assert!(empty > 50 && hidden_keys > 500, "{empty} {hidden_keys}");
}

#[test]
fn a_row_whose_keys_are_all_hidden_is_one_that_sees_none() {
    for sink in [false, true] {
        let shape = Shape { bias: Some([true, true, false]), sink, ..Shape::plain(3, 4) };
        let mut inputs = Shape { dlse: true, ..shape }.problem().inputs().clone();
        inputs.bias.as_mut().unwrap().as_mut_slice()[4..8].fill(f64::NEG_INFINITY);
        let p = Problem::new(inputs.clone(), Options::default()).unwrap();
        let saved = forward(&p);
        let gradients = backward(&p, &saved);
        let lse = inputs.sink.map_or(f64::NEG_INFINITY, |sink| sink[0]);
        assert_eq!(saved.lse.as_slice()[1], lse);
        assert_eq!(saved.o.row(0, 0, 1), [0.0; 2]);
        assert_eq!(gradients.dq.row(0, 0, 1), [0.0; 3]);
        assert_eq!(gradients.dbias.as_ref().unwrap().row(0, 0, 1), [0.0; 4]);
        // The others see all.
        assert!(gradients.dbias.unwrap().row(0, 0, 2).iter().all(|&x| x != 0.0));
        assert!(gradients.dk.as_slice().iter().all(|x| x.is_finite() && *x != 0.0));
        let given = Saved::given(&p, saved.o.clone(), saved.lse.clone()).unwrap();
        assert_eq!(given, saved);
    }
}

#[test]
fn a_draw_never_keeps_a_hidden_key_and_is_that_of_the_mask() {
    let mut kept = 0;
    for masked in masked() {
        // Words belong to positions within a segment, which a bias does not have.
        if masked.options().segments.is_some() {
            continue;
        }
        let hidden = mask_as_bias(&masked);
        for c in [0.5, 2.0, 4.5, f64::INFINITY] {
            for (rule, sampler, bits) in [
                (Rule::Paper, Sampler::Bernoulli, UniformBits::Bits32),
                (Rule::Paper, Sampler::Systematic, UniformBits::Bits32),
                (Rule::Calibrated, Sampler::Bernoulli, UniformBits::Bits64),
                (Rule::Calibrated, Sampler::Systematic, UniformBits::Bits32),
            ] {
                let budget = Budget::new(c).unwrap();
                let draw = Draw::paper(budget, 7).with_rule(rule).with_sampler(sampler);
                let draw = draw.with_bits(bits);
                let [found, expected] = [&hidden, &masked].map(|p| {
                    let saved = forward(p);
                    let drawn = sample(p, &saved, &draw).unwrap();
                    let gradients = sus_backward(p, &saved, &drawn);
                    let of_all = MaskDistribution::new(p, &saved, budget, rule, sampler);
                    (drawn, gradients, variances(&of_all))
                });
                assert_eq!(found.0, expected.0, "{rule} {sampler}");
                same_gradients(&found.1, &expected.1);
                same_gradients(&found.2, &expected.2);
                kept += found.0.pattern.count();
            }
        }
    }
    assert!(kept > 5_000, "{kept}");
}

/// `dP = 2 * 60000 = inf` in `f16`, and no `0 inf`.
#[test]
fn a_hidden_key_whose_products_overflow_takes_no_part() {
    let tensor = |name, x: &[f64]| Tensor::new(name, [1, 1, x.len(), 1], x).unwrap();
    let (q, k, g) = (tensor("q", &[1.0]), tensor("k", &[1.0, 0.5]), tensor("do", &[2.0]));
    let inputs = Inputs::new(q, k, tensor("v", &[1.0, 60000.0]), g);
    let bias = Tensor::new("bias", [1, 1, 1, 2], &[0.0, f64::NEG_INFINITY]).unwrap();
    let p = Problem::new(inputs.with_bias(bias), Options::default()).unwrap();
    let small: Problem<half::f16> = p.cast().unwrap();
    let saved = forward(&small);
    let found = backward(&small, &saved);
    assert_eq!((saved.o.as_slice()[0].to_f64(), saved.lse.as_slice()[0].to_f64()), (1.0, 1.0));
    assert_eq!(bits(found.dv.as_slice()), bits(&[2.0, 0.0]));
    let zeros = [found.dq, found.dk, found.dbias.unwrap()];
    assert!(zeros.iter().all(|x| x.as_slice().iter().all(|x| x.to_f64() == 0.0)));
    let saved = forward(&p);
    let c = Budget::new(1.0).unwrap();
    let of_all = MaskDistribution::new(&p, &saved, c, Rule::Paper, Sampler::Bernoulli);
    assert_eq!(of_all.entries(p.row(0)).len(), 1);
}

/// Two of seven keys hidden from all rows, against the five others alone.
#[test]
fn a_problem_without_the_hidden_keys_has_the_bits_of_the_others() {
    let shape = Shape { batch: 2, key_heads: 2, group: 3, ..Shape::plain(6, 7) };
    let p = Shape { dlse: true, bias: Some([true; 3]), sink: true, ..shape }.problem();
    let seen = [0, 2, 3, 4, 6];
    let mut hidden = p.inputs().clone();
    for j in [1, 5] {
        hidden.bias.as_mut().unwrap().as_mut_slice()[j] = f64::NEG_INFINITY;
    }
    let hidden = Problem::new(hidden, Options::default()).unwrap();
    let part = |x: &Tensor<f64>| {
        let [b, h, _, d] = x.shape();
        Tensor::from_fn([b, h, 5, d], |[b, h, j, d]| x.row(b, h, seen[j])[d])
    };
    let bias = Tensor::from_fn([1, 1, 1, 5], |[.., j]| p.bias(p.row(0)).unwrap()[seen[j]]);
    let inputs = p.inputs().clone();
    let (k, v) = (part(&inputs.k), part(&inputs.v));
    let fewer = inputs.with_k(k).with_v(v).with_bias(bias);
    let fewer = Problem::new(fewer, Options::default()).unwrap();
    let [of_all, of_fewer] = [&hidden, &fewer].map(forward);
    same_saved(&of_all, &of_fewer);
    let mut found = backward(&hidden, &of_all);
    assert!([1, 5].iter().all(|&j| found.dk.row(1, 1, j).iter().all(|&x| x == 0.0)));
    (found.dk, found.dv) = (part(&found.dk), part(&found.dv));
    let dbias = found.dbias.unwrap();
    assert_eq!((dbias.as_slice()[1], dbias.as_slice()[5]), (0.0, 0.0));
    let visible = |[.., j]: [usize; 4]| dbias.as_slice()[seen[j]];
    found.dbias = Some(Tensor::from_fn([1, 1, 1, 5], visible));
    same_gradients(&found, &backward(&fewer, &of_fewer));
}
