//! Attention's own graph against the formulas of its backward pass, dense and upweighted.

use super::{Q, one, q, small, smalls, unbiased};
use proptest::prelude::*;
use sus_reference::graph::attention::{AttentionHead, HeadGradients, LengthError, attention_graph};
use sus_reference::graph::{Gate, mean_over_masks};

/// What a [`AttentionHead`] borrows.
#[derive(Clone, Debug)]
struct Case {
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
    q: Vec<Q>,
    k: Vec<Q>,
    v: Vec<Q>,
    weights: Vec<Q>,
    scale: Q,
    slope: Option<Vec<Q>>,
    sink_weights: Option<Vec<Q>>,
    g: Vec<Q>,
    dlse: Option<Vec<Q>>,
}

impl Case {
    fn head(&self) -> AttentionHead<'_, Q> {
        AttentionHead {
            queries: self.queries,
            keys: self.keys,
            dim: self.dim,
            value_dim: self.value_dim,
            q: &self.q,
            k: &self.k,
            v: &self.v,
            weights: &self.weights,
            scale: self.scale,
            slope: self.slope.as_deref(),
            sink_weights: self.sink_weights.as_deref(),
            g: &self.g,
            dlse: self.dlse.as_deref(),
        }
    }

    /// The paper's gates, `q = min(1, c W)`.
    fn gates(&self, c: Q) -> Vec<Gate<Q>> {
        self.weights.iter().map(|&w| unbiased((c * w).min(q(1, 1)))).collect()
    }

    /// The formulas of the dense backward, with the weights `upweighted` in the place of the explicit `W`; `o` and
    /// `delta` come from the true ones.
    fn by_the_formulas(&self, upweighted: &[Q]) -> HeadGradients<Q> {
        let &Case { queries, keys, dim, value_dim, scale, .. } = self;
        let zero = q(0, 1);
        let mut grads = HeadGradients {
            dq: vec![zero; queries * dim],
            dk: vec![zero; keys * dim],
            dv: vec![zero; keys * value_dim],
            dbias: vec![zero; queries * keys],
            dsink: zero,
        };
        for i in 0..queries {
            let g = &self.g[i * value_dim..][..value_dim];
            let dp = |j: usize| (0..value_dim).map(|e| g[e] * self.v[j * value_dim + e]).sum::<Q>();
            let delta: Q = (0..keys).map(|j| self.weights[i * keys + j] * dp(j)).sum();
            let dlse = self.dlse.as_ref().map_or(zero, |dlse| dlse[i]);
            grads.dsink -= self.sink_weights.as_ref().map_or(zero, |w| w[i]) * (delta - dlse);
            for j in 0..keys {
                let pair = i * keys + j;
                let ds = upweighted[pair] * (dp(j) - delta + dlse);
                let dz = ds * self.slope.as_ref().map_or(q(1, 1), |slope| slope[pair]);
                grads.dbias[pair] = ds;
                for d in 0..dim {
                    grads.dq[i * dim + d] += scale * dz * self.k[j * dim + d];
                    grads.dk[j * dim + d] += scale * dz * self.q[i * dim + d];
                }
                for (e, &g) in g.iter().enumerate() {
                    grads.dv[j * value_dim + e] += upweighted[pair] * g;
                }
            }
        }
        grads
    }
}

fn flat(grads: &HeadGradients<Q>) -> Vec<Q> {
    [&grads.dq, &grads.dk, &grads.dv, &grads.dbias, &vec![grads.dsink]].map(Clone::clone).concat()
}

/// A head whose rows of weights come from integers: masked keys are zeros, and the rest of a row is the sink's.
fn head(queries: usize, keys: usize, dim: usize, value_dim: usize) -> impl Strategy<Value = Case> {
    let row = (prop::collection::vec(0_i128..=4, keys), 0_i128..=2);
    let rows = prop::collection::vec(row, queries);
    let operands = (
        smalls(queries * dim),
        smalls(keys * dim),
        smalls(keys * value_dim),
        smalls(queries * value_dim),
    );
    let extras = (
        small(),
        prop::option::of(smalls(queries * keys)),
        prop::option::of(smalls(queries)),
        any::<bool>(),
    );
    (rows, operands, extras).prop_map(
        move |(rows, (q_rows, k, v, g), (scale, slope, dlse, sink))| {
            let total = |row: &(Vec<i128>, i128)| (row.0.iter().sum::<i128>() + row.1).max(1);
            Case {
                queries,
                keys,
                dim,
                value_dim,
                q: q_rows,
                k,
                v,
                weights: rows
                    .iter()
                    .flat_map(|r| r.0.iter().map(move |&w| q(w, total(r))))
                    .collect(),
                scale,
                slope,
                sink_weights: sink.then(|| rows.iter().map(|r| q(r.1, total(r))).collect()),
                g,
                dlse,
            }
        },
    )
}

/// Sizes from zero up, every one different from the others somewhere.
fn any_head() -> impl Strategy<Value = Case> {
    (0_usize..=3, 0_usize..=3, 0_usize..=2, 0_usize..=3)
        .prop_flat_map(|(queries, keys, dim, value_dim)| head(queries, keys, dim, value_dim))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_graph_of_attention_gives_the_dense_formulas(case in any_head()) {
        let graph = attention_graph(&case.head()).unwrap();
        prop_assert_eq!(graph.gradients(one), case.by_the_formulas(&case.weights));
    }

    #[test]
    fn gating_the_pairs_is_upweighting_the_explicit_weights_and_nothing_else(
        case in any_head(),
        m in smalls(9),
    ) {
        let graph = attention_graph(&case.head()).unwrap();
        let upweighted: Vec<Q> = case.weights.iter().zip(&m).map(|(w, m)| w * m).collect();
        prop_assert_eq!(graph.gradients(|pair| m[pair]), case.by_the_formulas(&upweighted));
    }

    #[test]
    fn no_path_of_attention_runs_through_a_gate_twice(case in any_head()) {
        let graph = attention_graph(&case.head()).unwrap();
        prop_assert_eq!(graph.graph().path_uses_a_gate_twice(), None);
    }

    #[test]
    fn the_mean_of_the_sparse_gradients_over_all_masks_is_the_dense_gradient(
        case in head(2, 3, 2, 2),
        c in prop::sample::select(vec![q(1, 2), q(1, 1), q(2, 1), q(3, 1)]),
    ) {
        let graph = attention_graph(&case.head()).unwrap();
        let mean = mean_over_masks(&case.gates(c), |m| flat(&graph.gradients(|pair| m[pair])));
        prop_assert_eq!(mean, flat(&case.by_the_formulas(&case.weights)));
    }
}

/// Two queries, two keys, nothing zero and nothing equal by accident.
fn fixed_case() -> Case {
    let ints = |values: &[i128]| values.iter().map(|&n| q(n, 1)).collect::<Vec<Q>>();
    Case {
        queries: 2,
        keys: 2,
        dim: 1,
        value_dim: 1,
        q: ints(&[2, 3]),
        k: ints(&[5, -7]),
        v: ints(&[1, 4]),
        weights: vec![q(1, 4), q(3, 4), q(1, 3), q(2, 3)],
        scale: q(1, 2),
        slope: None,
        sink_weights: None,
        g: ints(&[8, 9]),
        dlse: None,
    }
}

#[test]
fn a_gradient_worked_out_by_hand_comes_out() {
    // o = (13/4, 3); t = g (v - o): row 0: 8 (-9/4, 3/4) = (-18, 6), row 1: 9 (-2, 1) = (-18, 9).
    // dS = W t: (-9/2, 9/2), (-6, 6).
    let expected = HeadGradients {
        dq: vec![q(-27, 1), q(-36, 1)],
        dk: vec![q(-27, 2), q(27, 2)],
        dv: vec![q(5, 1), q(12, 1)],
        dbias: vec![q(-9, 2), q(9, 2), q(-6, 1), q(6, 1)],
        dsink: q(0, 1),
    };
    assert_eq!(attention_graph(&fixed_case().head()).unwrap().gradients(one), expected);
}

#[test]
fn the_sinks_gradient_crosses_no_gate() {
    let mut case = fixed_case();
    case.sink_weights = Some(vec![q(1, 5), q(1, 7)]);
    case.dlse = Some(vec![q(2, 1), q(-3, 1)]);
    let graph = attention_graph(&case.head()).unwrap();
    let all_closed = graph.gradients(|_| q(0, 1));
    assert_ne!(all_closed.dsink, q(0, 1));
    assert_eq!(all_closed.dsink, graph.gradients(one).dsink);
    assert!(flat(&all_closed).iter().rev().skip(1).all(|x| *x == q(0, 1)));
}

#[test]
fn an_operand_of_the_wrong_length_is_named() {
    let case = fixed_case();
    let short = &case.v[..1];
    let named = |head: AttentionHead<Q>| attention_graph(&head).unwrap_err();
    let error = |operand, expected| LengthError { operand, expected, found: 1 };
    assert_eq!(named(AttentionHead { q: short, ..case.head() }), error("q", 2));
    assert_eq!(named(AttentionHead { k: short, ..case.head() }), error("k", 2));
    assert_eq!(named(AttentionHead { v: short, ..case.head() }), error("v", 2));
    assert_eq!(named(AttentionHead { weights: short, ..case.head() }), error("weights", 4));
    assert_eq!(named(AttentionHead { slope: Some(short), ..case.head() }), error("slope", 4));
    assert_eq!(
        named(AttentionHead { sink_weights: Some(short), ..case.head() }),
        error("sink_weights", 2)
    );
    assert_eq!(named(AttentionHead { g: short, ..case.head() }), error("g", 2));
    assert_eq!(named(AttentionHead { dlse: Some(short), ..case.head() }), error("dlse", 2));
    assert_eq!(error("g", 2).to_string(), "g: expected 2 elements, found 1");
}
