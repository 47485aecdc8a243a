//! One key head of a dense case, with the query heads that read it: its gradients do not depend on the other heads.

use crate::Case;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, TensorFile};
use sus_reference::problem::{Inputs, Problem};
use sus_reference::tensor::Tensor;

/// A case and a candidate, cut to one key head of one sequence.
#[derive(Debug, Clone)]
pub struct OneHead {
    /// The problem of this head.
    pub case: Case,
    /// The candidate's `o`, `lse`, `dq`, `dk` and `dv` for it.
    pub candidate: TensorFile,
}

impl OneHead {
    /// Cuts a dense case of several heads and a candidate of one run; `None` if there is one head, a mask is drawn, or the problem has
    /// operands that are not cut here.
    ///
    /// # Examples
    /// ```
    /// use sus_files::gradient_file::{Stored, to_tensors};
    /// use sus_reference::evaluation::evaluate;
    /// use sus_verdict::{Case, OneHead};
    /// let case = Case::new(sus_corpus::named("primes").unwrap().problem, Default::default());
    /// let gradients = evaluate::<f32>(&case.problem, None, None)?;
    /// let candidate = to_tensors(&gradients, &case.settings, Stored::F32)?;
    /// let head = OneHead::cut(&case, &candidate, 1, 0).unwrap();
    /// // Its gradients are those of the whole problem.
    /// let own = evaluate::<f32>(&head.case.problem, None, None)?;
    /// assert_eq!(to_tensors(&own, &case.settings, Stored::F32)?.arrays["dk"], head.candidate.arrays["dk"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cut(case: &Case, candidate: &TensorFile, b: usize, key_head: usize) -> Option<Self> {
        let problem = &case.problem;
        let sizes = problem.sizes();
        if sizes.batch * sizes.key_heads < 2 || !matches!(case.draw(), Ok(None)) {
            return None;
        }
        let Inputs { q, k, v, g, dlse, bias, sink, .. } = problem.inputs();
        let known = Inputs::new(q.clone(), k.clone(), v.clone(), g.clone())
            .with_dlse(dlse.clone())
            .with_bias(bias.clone())
            .with_sink(sink.clone());
        let options = problem.options();
        let cut_by_others =
            options.lengths.is_some() || options.dropout.is_some() || options.v_of_k;
        if known != *problem.inputs() || cut_by_others || !options.key_sets.is_empty() {
            return None;
        }
        let cut = |x: &Tensor<f64>| part(x, sizes.key_heads, b, key_head);
        let group = problem.group();
        let inputs = Inputs::new(cut(q), cut(k), cut(v), cut(g))
            .with_dlse(dlse.as_ref().map(cut))
            .with_bias(bias.as_ref().map(|bias| {
                let [batch, heads, ..] = bias.shape();
                let b = if batch == 1 { 0 } else { b };
                if heads == 1 {
                    part(bias, 1, b, 0)
                } else {
                    part(bias, sizes.key_heads, b, key_head)
                }
            }))
            .with_sink(
                sink.as_ref().map(|it| it[key_head * group..(key_head + 1) * group].to_vec()),
            );
        let problem = Problem::new(inputs, problem.options().clone()).ok()?;
        let mut arrays = TensorFile::default();
        for name in ["o", "lse", "dq", "dk", "dv"] {
            let Some(array) = candidate.arrays.get(name) else { continue };
            let cut = cut_array(array, name == "lse", sizes.key_heads, b, key_head)?;
            arrays.arrays.insert(name.to_owned(), cut);
        }
        Some(OneHead { case: Case { problem, ..case.clone() }, candidate: arrays })
    }
}

/// The heads of one sequence that belong to a key head.
fn part(tensor: &Tensor<f64>, key_heads: usize, b: usize, head: usize) -> Tensor<f64> {
    let [_, heads, positions, features] = tensor.shape();
    let group = heads / key_heads;
    Tensor::from_fn([1, group, positions, features], |[_, h, n, d]| {
        tensor.row(b, head * group + h, n)[d]
    })
}

/// The same part of a result.
fn cut_array(
    array: &Array,
    is_lse: bool,
    key_heads: usize,
    b: usize,
    head: usize,
) -> Option<Array> {
    let Numbers::Float(data) = &array.numbers else { return None };
    let mut shape = array.shape.clone();
    if shape.len() != if is_lse { 3 } else { 4 } || !shape[1].is_multiple_of(key_heads) {
        return None;
    }
    let group = shape[1] / key_heads;
    let of_head: usize = shape[2..].iter().product();
    let first = (b * shape[1] + head * group) * of_head;
    let part = data.get(first..first + group * of_head)?.to_vec();
    (shape[0], shape[1]) = (1, group);
    Some(Array { shape, numbers: Numbers::Float(part), ..array.clone() })
}
