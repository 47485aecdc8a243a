//! One key head of a large dense problem with the query heads that read it: their gradients do not depend on the rest.

use super::super::matrix::Outputs;
use sus_fast::{Workspace, backward, forward};
use sus_files::{Array, TensorFile};
use sus_reference::TensorName;
use sus_reference::problem::{Inputs, Problem};
use sus_reference::tensor::Tensor;

/// A part of a problem, and a candidate's results for it.
pub(super) struct HeadProblem {
    pub(super) problem: Problem<f64>,
    pub(super) candidate: TensorFile,
}

/// The key head whose `dq`, `dk` and `dv` are furthest from the truth; `None` if a shape does not fit the problem.
pub(super) fn worst_head(problem: &Problem<f64>, candidate: &TensorFile) -> Option<HeadProblem> {
    let sizes = problem.sizes();
    let mut workspace = Workspace::default();
    let saved = forward(problem, &mut workspace);
    let (truth, _) = backward(problem, &saved, &mut workspace);
    let outputs = Outputs::of_file(candidate).0;
    let take = |name: TensorName, like: &Tensor<f64>| {
        Tensor::new("candidate", like.shape(), outputs.get(&name)?).ok()
    };
    let found = [
        take(TensorName::Dq, &truth.dq)?,
        take(TensorName::Dk, &truth.dk)?,
        take(TensorName::Dv, &truth.dv)?,
    ];
    let truth = [truth.dq, truth.dk, truth.dv];
    let heads = (0..sizes.batch).flat_map(|b| (0..sizes.key_heads).map(move |head| (b, head)));
    let distance = |&(b, head): &(usize, usize)| -> f64 {
        let parts = found.iter().zip(&truth).map(|(found, truth)| {
            let (found, truth) =
                (part(found, sizes.key_heads, b, head), part(truth, sizes.key_heads, b, head));
            let pairs = found.as_slice().iter().zip(truth.as_slice());
            let size: f64 = truth.as_slice().iter().map(|x| x * x).sum();
            let off: f64 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
            if off.is_nan() { f64::INFINITY } else { off / size.max(f64::MIN_POSITIVE) }
        });
        parts.sum()
    };
    let (b, head) = heads.max_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    let cut = |tensor: &Tensor<f64>| part(tensor, sizes.key_heads, b, head);
    let Inputs { q, k, v, g, dlse, bias, sink, .. } = problem.inputs();
    let group = problem.group();
    let inputs = Inputs::new(cut(q), cut(k), cut(v), cut(g))
        .with_dlse(dlse.as_ref().map(cut))
        .with_bias(bias.as_ref().map(|bias| {
            let [batch, heads, ..] = bias.shape();
            let b = if batch == 1 { 0 } else { b };
            if heads == 1 { part(bias, 1, b, 0) } else { part(bias, sizes.key_heads, b, head) }
        }))
        .with_sink(sink.as_ref().map(|sink| sink[head * group..(head + 1) * group].to_vec()));
    let problem = Problem::new(inputs, problem.options().clone()).ok()?;
    let mut candidate = TensorFile::default();
    let names = [TensorName::Dq, TensorName::Dk, TensorName::Dv];
    for (name, tensor) in names.into_iter().zip(&found) {
        let tensor = cut(tensor);
        let array = Array::f64(&tensor.shape(), tensor.as_slice().to_vec());
        candidate.arrays.insert(name.to_string(), array);
    }
    Some(HeadProblem { problem, candidate })
}

/// The heads of one sequence that belong to a key head.
fn part(tensor: &Tensor<f64>, key_heads: usize, b: usize, head: usize) -> Tensor<f64> {
    let [_, heads, positions, features] = tensor.shape();
    let group = heads / key_heads;
    Tensor::from_fn([1, group, positions, features], |[_, h, n, d]| {
        tensor.row(b, head * group + h, n)[d]
    })
}
