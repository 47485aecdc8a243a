//! SUS in exact rationals: by enumerating every mask, the mean of the sampled gradient `==` the dense gradient.

use crate::common::shapes;
use crate::exact::{
    Exact, Rational, RowMasks, add_gradients, bernoulli_masks, calibrated, exact, exact_with, flat,
    for_each_mask, mask_count, ratio, systematic_masks,
};
use num_traits::{One, Zero};
use proptest::prelude::*;
use sus_reference::graph::attention::{AttentionHead, attention_graph};
use sus_reference::sus::sampler::systematic;
use sus_reference::tensor::{Tensor, add_scaled};

/// The most masks that one case enumerates.
const MASKS: u128 = 5000;

/// Budgets below, at and above the saturation of single weights, and whole and broken ones.
fn budgets() -> impl Strategy<Value = Rational> {
    prop_oneof![
        Just(ratio(1, 2)),
        Just(ratio(1, 1)),
        Just(ratio(3, 2)),
        Just(ratio(5, 2)),
        Just(ratio(4, 1))
    ]
}

/// `lambda` of every row.
fn lambdas(exact: &Exact, c: Rational, is_calibrated: bool) -> Vec<Rational> {
    let rows = exact.weights.rows.iter();
    rows.map(|row| {
        let weights: Vec<Rational> = row.iter().map(|weight| weight.w).collect();
        if is_calibrated { calibrated(c, &weights) } else { c }
    })
    .collect()
}

/// The mean of the sampled gradients over all masks, and the dense gradients.
fn mean_and_dense(
    exact: &Exact,
    lambda: &[Rational],
    rows: &[RowMasks],
) -> (Vec<Rational>, Vec<Rational>) {
    let mut mean = Vec::new();
    let mut total = Rational::zero();
    for_each_mask(rows, |p, mask| {
        total += p;
        add_gradients(&mut mean, p, &exact.gradients(&exact.kept(lambda, mask)));
    });
    assert_eq!(total, Rational::one(), "the probabilities of all masks add up to 1");
    (mean, flat(&exact.gradients(&exact.weights)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_mean_over_all_bernoulli_masks_is_the_dense_gradient(
        shape in shapes(2, 4), c in budgets(), is_calibrated: bool, zeros: bool, factors: bool,
    ) {
        let exact = exact_with(&shape, zeros, factors);
        let lambda = lambdas(&exact, c, is_calibrated);
        let rows: Vec<RowMasks> =
            lambda.iter().enumerate().map(|(row, &l)| bernoulli_masks(&exact.q(l, row))).collect();
        prop_assume!(mask_count(&rows) <= MASKS);
        let (mean, dense) = mean_and_dense(&exact, &lambda, &rows);
        prop_assert_eq!(mean, dense);
    }

    #[test]
    fn the_mean_over_all_systematic_masks_is_the_dense_gradient(
        shape in shapes(3, 5), c in budgets(), is_calibrated: bool, zeros: bool, factors: bool,
    ) {
        let exact = exact_with(&shape, zeros, factors);
        let lambda = lambdas(&exact, c, is_calibrated);
        let rows: Vec<RowMasks> =
            lambda.iter().enumerate().map(|(row, &l)| systematic_masks(&exact.q(l, row), c)).collect();
        prop_assume!(mask_count(&rows) <= MASKS);
        let (mean, dense) = mean_and_dense(&exact, &lambda, &rows);
        prop_assert_eq!(mean, dense);
    }

    #[test]
    fn systematic_keeps_each_entry_with_its_probability_and_the_floor_or_ceiling_of_their_sum(
        parts in proptest::collection::vec(0..6_i128, 1..9), c in budgets(),
    ) {
        let whole: i128 = parts.iter().sum::<i128>().max(1);
        let w: Vec<Rational> = parts.iter().map(|&part| ratio(part, whole)).collect();
        let q: Vec<Rational> = w.iter().map(|&w| (c * w).min(Rational::one())).collect();
        let masks = systematic_masks(&q, c);
        let sum: Rational = q.iter().copied().sum();
        for (n, &q) in q.iter().enumerate() {
            let kept: Rational =
                masks.iter().filter(|(_, mask)| mask.contains(&n)).map(|&(p, _)| p).sum();
            prop_assert_eq!(kept, q, "entry {}", n);
        }
        for (_, mask) in &masks {
            let count = ratio(mask.len() as i128, 1);
            prop_assert!(count == sum.floor() || count == sum.ceil());
            prop_assert!(count <= c.ceil());
        }
        // At the ends of the pieces, u = 0 among them, the count holds as well.
        for u in [ratio(0, 1), q[0].fract(), sum.fract()] {
            let count = ratio(systematic(&q, u, c).len() as i128, 1);
            prop_assert!(count == sum.floor() || count == sum.ceil());
        }
    }

    #[test]
    fn the_backward_pass_of_a_mask_is_that_of_attentions_graph_with_gated_edges(
        shape in shapes(3, 3), c in budgets(), pick: u32,
    ) {
        // One head without bias broadcasting: the graph is of one head, and its dbias is dS.
        let shape = crate::common::Shape {
            batch: 1, key_heads: 1, group: 1, bias: Some([false; 3]), ..shape
        };
        let exact = exact(&shape, false);
        let lambda = vec![c; exact.problem.row_count()];
        let mask: Vec<Vec<usize>> = exact.weights.rows.iter().enumerate().map(|(i, row)| {
            (0..row.len()).filter(|&n| (pick >> ((3 * i + n) % 32)) & 1 == 1).collect()
        }).collect();
        let kept = exact.kept(&lambda, &mask);

        let keys = shape.keys;
        let mut weights = vec![Rational::zero(); shape.queries * keys];
        let (mut slope, mut multiplier) = (weights.clone(), weights.clone());
        for (i, row) in exact.weights.rows.iter().enumerate() {
            for weight in row {
                weights[i * keys + weight.j] = weight.w;
                slope[i * keys + weight.j] = weight.slope;
            }
            for weight in &kept.rows[i] {
                multiplier[i * keys + weight.j] = weight.w / weights[i * keys + weight.j];
            }
        }
        let inputs = exact.problem.inputs();
        let sink_weights: Vec<Rational> = (0..shape.queries)
            .map(|i| Rational::one() - weights[i * keys..(i + 1) * keys].iter().copied().sum::<Rational>())
            .collect();
        let head = AttentionHead {
            queries: shape.queries,
            keys,
            dim: shape.features,
            value_dim: shape.value_features,
            q: inputs.q.as_slice(),
            k: inputs.k.as_slice(),
            v: inputs.v.as_slice(),
            weights: &weights,
            scale: Rational::one(),
            slope: Some(&slope),
            sink_weights: shape.sink.then_some(&sink_weights),
            g: inputs.g.as_slice(),
            dlse: inputs.dlse.as_ref().map(Tensor::as_slice),
        };
        let graph = attention_graph(&head).unwrap();
        let from_graph = graph.gradients(|gate| multiplier[gate]);
        let from_core = exact.gradients(&kept);
        prop_assert_eq!(&from_graph.dq[..], from_core.dq.as_slice());
        prop_assert_eq!(&from_graph.dk[..], from_core.dk.as_slice());
        prop_assert_eq!(&from_graph.dv[..], from_core.dv.as_slice());
        let dbias = from_core.dbias.expect("the problem has a bias");
        prop_assert_eq!(&from_graph.dbias[..], dbias.as_slice());
    }
}

#[test]
fn a_delta_of_the_sampled_weights_is_biased() {
    // The rows above can fail: with delta = G . (W~ v) instead of G . (W v) the mean is not the dense gradient,
    // because E[W~^2] = W^2 / q.
    let exact = exact(&crate::common::Shape::plain(1, 3), false);
    let c = Rational::one();
    let rows = vec![bernoulli_masks(&exact.q(c, 0))];
    let mut mean = Vec::new();
    for_each_mask(&rows, |p, mask| {
        let kept = exact.kept(&[c], mask);
        let mut o = Tensor::zeros(exact.problem.inputs().g.shape());
        for weight in &kept.rows[0] {
            let v = exact.problem.v(exact.problem.row(0), weight.j);
            add_scaled(o.as_mut_slice(), weight.w, v);
        }
        let delta = sus_reference::backward::delta(&exact.problem, &o);
        let wrong = Exact { delta, ..exact.clone() };
        add_gradients(&mut mean, p, &wrong.gradients(&kept));
    });
    assert_ne!(mean, flat(&exact.gradients(&exact.weights)));
}
