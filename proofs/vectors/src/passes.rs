//! The backward pass given the weights, and reverse accumulation over graphs.

use crate::numbers::{Exact, Numbers};
use crate::rules::list;
use std::ops::Range;
use sus_reference::backward::{Weight, Weights, backward_from_weights};
use sus_reference::graph::Graph;
use sus_reference::problem::{Inputs, Options, Problem, Row};
use sus_reference::tensor::Tensor;

/// The kept entries of every row, keys ascending.
struct Kept {
    heads: usize,
    queries: usize,
    rows: Vec<Vec<Weight<Exact>>>,
}

impl Weights<Exact> for Kept {
    fn for_each(&self, row: Row, keys: Range<usize>, visit: impl FnMut(Weight<Exact>)) {
        let entries = &self.rows[(row.b * self.heads + row.h) * self.queries + row.i];
        entries.iter().copied().filter(|entry| keys.contains(&entry.j)).for_each(visit);
    }
}

fn tensor(numbers: &mut Numbers, name: &'static str, shape: [usize; 4]) -> Tensor<Exact> {
    let data: Vec<Exact> = (0..shape.iter().product()).map(|_| numbers.signed(3)).collect();
    Tensor::new(name, shape, &data).expect("as many numbers as the shape says")
}

/// `backward_from_weights` over a batch, head groups, a bias of any shape and any kept entries.
pub fn backward_vector(numbers: &mut Numbers) -> String {
    let or_none = |numbers: &mut Numbers, most| {
        if numbers.one_in(20) { 0 } else { numbers.between(1, most) }
    };
    let [batch, key_heads] = [or_none(numbers, 2), numbers.between(1, 2)];
    let group = numbers.between(1, 3);
    let [features, value_features] = [numbers.between(1, 2), numbers.between(1, 2)];
    let queries = or_none(numbers, 3);
    // Above 64 the crate computes key gradients in more than one task.
    let keys = if numbers.one_in(100) { 65 + numbers.below(3) } else { or_none(numbers, 4) };
    let heads = key_heads * group;
    let q = tensor(numbers, "q", [batch, heads, queries, features]);
    let k = tensor(numbers, "k", [batch, key_heads, keys, features]);
    let v = tensor(numbers, "v", [batch, key_heads, keys, value_features]);
    let g = tensor(numbers, "do", [batch, heads, queries, value_features]);
    let dlse = numbers.one_in(2).then(|| tensor(numbers, "dlse", [batch, heads, queries, 1]));
    let bias = numbers.one_in(2).then(|| {
        let axis = |length, spread| if spread { 1 } else { length };
        let [b, h, i] = [batch, heads, queries].map(|length| axis(length, numbers.one_in(2)));
        tensor(numbers, "bias", [b, h, i, keys])
    });
    let rows = batch * heads * queries;
    let delta: Vec<Exact> = (0..rows).map(|_| numbers.signed(3)).collect();
    let kept = Kept {
        heads,
        queries,
        rows: (0..rows)
            .map(|_| {
                let kept = (0..keys).filter(|_| !numbers.one_in(3)).collect::<Vec<_>>();
                let mut weight = |j| Weight::new(j, numbers.part_of(6), numbers.signed(1));
                kept.into_iter().map(&mut weight).collect()
            })
            .collect(),
    };
    let inputs = Inputs::new(q, k, v, g).with_dlse(dlse).with_bias(bias);
    let problem = Problem::new(inputs, Options::default()).expect("a legal problem");
    let gradients = backward_from_weights(&problem, &kept, &delta);

    let inputs = problem.inputs();
    let optional = |tensor: &Option<Tensor<Exact>>| match tensor {
        None => "0".to_string(),
        Some(tensor) => format!("1 {}", list(tensor.as_slice())),
    };
    let [b, h, i] = inputs.bias.as_ref().map_or([0; 3], |bias| {
        let shape = bias.shape();
        [0, 1, 2].map(|axis| usize::from(shape[axis] == 1))
    });
    let entries = kept.rows.iter().map(|row| {
        list(row.iter().map(|entry| format!("{} {} {}", entry.j, entry.w, entry.slope)))
    });
    format!(
        "backward {batch} {key_heads} {group} {queries} {keys} {features} {value_features} {b} {h} {i} \
         {} {} {} {} {} {} {} {} {} {} {} {}",
        list(inputs.q.as_slice()),
        list(inputs.k.as_slice()),
        list(inputs.v.as_slice()),
        list(inputs.g.as_slice()),
        optional(&inputs.dlse),
        optional(&inputs.bias),
        list(&delta),
        list(entries),
        list(gradients.dq.as_slice()),
        list(gradients.dk.as_slice()),
        list(gradients.dv.as_slice()),
        optional(&gradients.dbias),
    )
}

/// `Graph::derivatives_of`, and whether a path uses a gate twice.
pub fn graph_vector(numbers: &mut Numbers) -> String {
    let nodes = numbers.between(1, 8);
    let gates = numbers.between(1, 5);
    let mut graph = Graph::new(nodes);
    if nodes > 1 {
        for _ in 0..numbers.below(3 * nodes) {
            let from = numbers.below(nodes - 1);
            let to = numbers.between(from + 1, nodes - 1);
            let gate = numbers.one_in(2).then(|| numbers.below(gates));
            graph.add_edge(from, to, numbers.signed(3), gate).expect("a forward edge");
        }
    }
    let multipliers: Vec<Exact> = (0..gates).map(|_| numbers.signed(2)).collect();
    let target = numbers.below(nodes);
    let edges = (0..nodes).map(|node| {
        list(graph.edges_from(node).iter().map(|edge| {
            let gate = edge.gate.map_or("-".to_string(), |gate| gate.to_string());
            format!("{} {} {gate}", edge.to, edge.derivative)
        }))
    });
    let derivatives = graph.derivatives_of(target, |gate| multipliers[gate]);
    let twice = graph.path_uses_a_gate_twice();
    format!(
        "graph {} {} {target} {} {}",
        list(edges),
        list(&multipliers),
        list(&derivatives),
        twice.map_or("-".to_string(), |gate| gate.to_string())
    )
}
