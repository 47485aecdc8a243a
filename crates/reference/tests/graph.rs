//! The general theorem of SUS and attention's own graph, in exact rationals: every comparison is `==`.

mod attention;

use num_rational::Ratio;
use proptest::prelude::*;
use sus_reference::graph::{EdgeError, Gate, Graph, mean_over_masks};

type Q = Ratio<i128>;

fn q(numerator: i128, denominator: i128) -> Q {
    Q::new(numerator, denominator)
}

fn one(_gate: usize) -> Q {
    q(1, 1)
}

/// A gate that is unbiased at this probability; never open where it is zero.
fn unbiased(keep: Q) -> Gate<Q> {
    let zero = q(0, 1);
    Gate { keep, upweight: if keep == zero { zero } else { keep.recip() } }
}

fn mean_derivative(graph: &Graph<Q>, from: usize, to: usize, gates: &[Gate<Q>]) -> Q {
    mean_over_masks(gates, |m| vec![graph.total_derivative(from, to, |gate| m[gate])])[0]
}

/// Small rationals, zero among them.
fn small() -> impl Strategy<Value = Q> {
    (-6_i128..=6, 1_i128..=3).prop_map(|(n, d)| q(n, d))
}

fn smalls(len: usize) -> impl Strategy<Value = Vec<Q>> {
    prop::collection::vec(small(), len)
}

fn keep_probability() -> impl Strategy<Value = Q> {
    prop::sample::select(vec![q(1, 2), q(1, 3), q(2, 3), q(1, 4), q(1, 1)])
}

const GATES: usize = 6;

/// A graph of 2 to 7 nodes with up to 12 edges, some parallel, some gated, gates shared at random.
fn dag() -> impl Strategy<Value = Graph<Q>> {
    let edge = |nodes: usize| {
        (0..nodes - 1).prop_flat_map(move |from| {
            (Just(from), from + 1..nodes, small(), prop::option::of(0..GATES))
        })
    };
    (2_usize..=7).prop_flat_map(move |nodes| {
        prop::collection::vec(edge(nodes), 0..=12).prop_map(move |edges| {
            let mut graph = Graph::new(nodes);
            for (from, to, derivative, gate) in edges {
                graph.add_edge(from, to, derivative, gate).expect("edges lead forward");
            }
            graph
        })
    })
}

/// The same graph without the gates that a path runs through twice.
fn with_lawful_gates(graph: &Graph<Q>) -> Graph<Q> {
    let mut lawful = graph.clone();
    while let Some(offender) = lawful.path_uses_a_gate_twice() {
        let mut without = Graph::new(lawful.nodes());
        for from in 0..lawful.nodes() {
            for edge in lawful.edges_from(from) {
                let gate = edge.gate.filter(|&gate| gate != offender);
                without.add_edge(from, edge.to, edge.derivative, gate).expect("as before");
            }
        }
        lawful = without;
    }
    lawful
}

/// Straight from the definition: some path, between any two nodes, holds a gate at least twice.
fn some_path_repeats_a_gate(graph: &Graph<Q>) -> bool {
    let ends = (0..graph.nodes()).flat_map(|from| (from..graph.nodes()).map(move |to| (from, to)));
    ends.flat_map(|(from, to)| graph.paths(from, to)).any(|path| {
        let gates: Vec<usize> = path.iter().filter_map(|edge| edge.gate).collect();
        (1..gates.len()).any(|n| gates[..n].contains(&gates[n]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn reverse_accumulation_is_the_sum_over_paths(graph in dag(), m in smalls(GATES)) {
        for to in 0..graph.nodes() {
            let all = graph.derivatives_of(to, |gate| m[gate]);
            for (from, &derivative) in all.iter().enumerate() {
                prop_assert_eq!(
                    derivative,
                    graph.total_derivative_over_paths(from, to, |gate| m[gate])
                );
            }
        }
    }

    #[test]
    fn the_mean_over_masks_is_the_total_derivative_when_no_path_repeats_a_gate(
        graph in dag().prop_map(|graph| with_lawful_gates(&graph)),
        keep in prop::collection::vec(keep_probability(), GATES),
    ) {
        let gates: Vec<_> = keep.into_iter().map(unbiased).collect();
        let last = graph.nodes() - 1;
        let mean = mean_over_masks(&gates, |m| graph.derivatives_of(last, |gate| m[gate]));
        prop_assert_eq!(mean, graph.derivatives_of(last, one));
    }

    #[test]
    fn the_check_finds_a_repeated_gate_exactly_when_a_path_has_one(graph in dag()) {
        prop_assert_eq!(graph.path_uses_a_gate_twice().is_some(), some_path_repeats_a_gate(&graph));
    }
}

#[test]
fn a_chain_multiplies_and_a_fork_adds() {
    let mut graph = Graph::new(4);
    for (from, to, derivative) in [(0, 1, 2), (1, 3, 3), (0, 2, 5), (2, 3, 7), (0, 3, 11)] {
        graph.add_edge(from, to, derivative, None).unwrap();
    }
    let expected = 2 * 3 + 5 * 7 + 11;
    assert_eq!(graph.total_derivative(0, 3, |_| 1), expected);
    assert_eq!(graph.total_derivative_over_paths(0, 3, |_| 1), expected);
    assert_eq!(graph.total_derivative(3, 3, |_| 1), 1);
    assert_eq!(graph.total_derivative(3, 0, |_| 1), 0);
}

#[test]
fn parallel_edges_may_share_a_gate_without_bias() {
    let mut graph = Graph::new(3);
    graph.add_edge(0, 1, q(2, 1), Some(0)).unwrap();
    graph.add_edge(0, 2, q(3, 1), Some(0)).unwrap();
    graph.add_edge(1, 2, q(5, 1), None).unwrap();
    assert_eq!(graph.path_uses_a_gate_twice(), None);
    assert_eq!(mean_derivative(&graph, 0, 2, &[unbiased(q(1, 4))]), q(13, 1));
}

#[test]
fn a_path_through_one_gate_twice_is_too_large_by_the_inverse_probability() {
    let mut graph = Graph::new(4);
    graph.add_edge(0, 1, q(2, 1), Some(0)).unwrap();
    graph.add_edge(1, 2, q(3, 1), None).unwrap();
    graph.add_edge(2, 3, q(5, 1), Some(0)).unwrap();
    assert_eq!(graph.path_uses_a_gate_twice(), Some(0));
    let gate = unbiased(q(1, 4));
    let unbroken = graph.total_derivative(0, 3, one);
    assert_eq!(mean_derivative(&graph, 0, 3, &[gate]), unbroken * gate.upweight);
    assert_eq!(unbroken * gate.upweight, q(120, 1));
}

#[test]
fn a_gate_without_its_upweight_shrinks_the_mean_by_its_probability() {
    let mut graph = Graph::new(2);
    graph.add_edge(0, 1, q(6, 1), Some(0)).unwrap();
    let plain_dropout = Gate { keep: q(1, 3), upweight: q(1, 1) };
    assert_eq!(mean_derivative(&graph, 0, 1, &[plain_dropout]), q(2, 1));
}

#[test]
fn a_mean_without_gates_is_the_value_itself() {
    assert_eq!(mean_over_masks(&[], |m| vec![q(7, 3), q(m.len() as i128, 1)]), [q(7, 3), q(0, 1)]);
}

#[test]
#[should_panic(expected = "21 gates are too many to enumerate")]
fn more_masks_than_can_be_enumerated_are_refused() {
    let _ = mean_over_masks(&[unbiased(q(1, 2)); 21], <[Q]>::to_vec);
}

#[test]
#[should_panic(expected = "the number of components changed between masks")]
fn a_value_keeps_its_number_of_components() {
    let zero = q(0, 1);
    let only_the_open = |m: &[Q]| m.iter().copied().filter(|&m| m != zero).collect();
    let _ = mean_over_masks(&[unbiased(q(1, 2))], only_the_open);
}

#[test]
fn an_edge_that_leads_nowhere_or_backward_is_refused() {
    let mut graph = Graph::new(3);
    assert_eq!(
        graph.add_edge(0, 3, 1, None),
        Err(EdgeError::NoSuchNode { from: 0, to: 3, nodes: 3 })
    );
    assert_eq!(graph.add_edge(2, 1, 1, None), Err(EdgeError::NotForward { from: 2, to: 1 }));
    assert_eq!(graph.add_edge(1, 1, 1, None), Err(EdgeError::NotForward { from: 1, to: 1 }));
    assert!((0..3).all(|node| graph.edges_from(node).is_empty()));
}
