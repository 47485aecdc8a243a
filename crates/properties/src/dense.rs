//! Properties of the dense backward pass.

use super::enumeration::{flat, problem};
use super::{differences, largest_of_zeros};
use num_traits::One;
use sus_reference::backward::backward;
use sus_reference::forward::{Saved, forward};
use sus_reference::mask::Alignment;
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::scalar::{DdWithError, Dual, Scalar};
use sus_reference::tensor::{Tensor, dot};

/// `sum o . G + sum lse dlse`.
fn loss<T: Scalar>(problem: &Problem<T>) -> T {
    let Saved { o, lse } = forward(problem);
    let dlse = problem
        .inputs()
        .dlse
        .as_ref()
        .map_or(T::zero(), |dlse| dot(lse.as_slice(), dlse.as_slice()));
    dot(o.as_slice(), problem.inputs().g.as_slice()) + dlse
}

/// The gradients against derivatives by dual numbers.
pub(super) fn dense_gradients() -> Result<String, String> {
    let exact: Problem<DdWithError> =
        problem([1, 1, 2, 2, 3, 2, 2], 0).cast().expect("finite numbers");
    let gradients = flat(&backward(&exact, &forward(&exact)));
    let mut derivatives = Vec::new();
    for at in 0..gradients.len() {
        let dual = exact.map(Dual::constant).expect("finite numbers");
        let Inputs { mut q, mut k, mut v, g, dlse, mut bias, mut sink, .. } = dual.inputs().clone();
        let tensors = [&mut q, &mut k, &mut v].into_iter().chain(&mut bias);
        let numbers =
            tensors.flat_map(|t| t.as_mut_slice().iter_mut()).chain(sink.iter_mut().flatten());
        // The loss does not depend on a bias of -inf: its derivative is 0 without being asked for.
        let moved = numbers.skip(at).take(1).filter(|x| x.re.value().is_finite());
        moved.for_each(|x| x.eps = DdWithError::one());
        let inputs = Inputs::new(q, k, v, g).with_dlse(dlse).with_bias(bias).with_sink(sink);
        let moved = Problem::new(inputs, exact.options().clone()).expect("the same problem");
        derivatives.push(loss(&moved).eps);
    }
    let subject = format!("{} derivatives by dual numbers agree", gradients.len());
    largest_of_zeros(differences(&gradients, &derivatives), &subject)
}

/// The first three of five causal queries see none of the two keys.
pub(super) fn empty_rows() -> Result<String, String> {
    let shape = |n, d| Tensor::from_fn([1, 1, n, d], |[_, _, n, d]| (n as f64 - d as f64) / 4.0);
    let (q, k, v, g) = (shape(5, 2), shape(2, 2), shape(2, 2), shape(5, 2));
    let inputs = Inputs::new(q, k, v, g);
    let options = Options::default().with_causal(true).with_alignment(Alignment::BottomRight);
    let problem = Problem::new(inputs, options).map_err(|e| e.to_string())?;
    let saved = forward(&problem);
    let gradients = backward(&problem, &saved);
    let empty = (0..5).filter(|&i| problem.mask().span(0, i).is_empty());
    let right = empty.clone().all(|i| {
        saved.lse.row(0, 0, i)[0] == f64::NEG_INFINITY
            && saved.o.row(0, 0, i).iter().all(|&x| x == 0.0)
            && gradients.dq.row(0, 0, i).iter().all(|&x| x == 0.0)
    });
    let finite =
        gradients.dk.as_slice().iter().chain(gradients.dv.as_slice()).all(|x| x.is_finite());
    match empty.count() {
        3 if right && finite => Ok("3 such rows of 5".into()),
        n => Err(format!("{n} such rows, zeros: {right}, finite: {finite}")),
    }
}

/// A constant added to all keys leaves `dq`, as `sum_j dS_ij = 0` without sink, softcap and `dlse`. A constant added to all
/// values leaves `dq` and `dk`, as `delta` changes by as much as `dP`.
pub(super) fn invariances() -> Result<String, String> {
    let Inputs { q, k, v, g, .. } = problem([1, 1, 2, 3, 4, 2, 3], 1).inputs().clone();
    let gradients = |k: &Tensor<f64>, v: &Tensor<f64>| {
        let inputs = Inputs::new(q.clone(), k.clone(), v.clone(), g.clone());
        let exact: Problem<DdWithError> = Problem::new(inputs, Options::default())
            .and_then(|p| p.cast())
            .expect("a legal problem");
        backward(&exact, &forward(&exact))
    };
    let (plain, keys, values) =
        (gradients(&k, &v), gradients(&k.map(|x| x + 1.5), &v), gradients(&k, &v.map(|x| x - 2.5)));
    let moved = [(&plain.dq, &keys.dq), (&plain.dq, &values.dq), (&plain.dk, &values.dk)];
    let changes = moved.iter().flat_map(|(a, b)| differences(a.as_slice(), b.as_slice()));
    largest_of_zeros(changes, "unchanged")
}
