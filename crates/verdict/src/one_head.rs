//! One key head of a dense case, with the query heads that read it: its gradients do not depend on the other heads.

use crate::Case;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, TensorFile};
use sus_reference::mask::{AttnMask, BlockMask, Indices, KeySet, Lengths};
use sus_reference::problem::{Dropout, Inputs, Options, Problem, Sizes};
use sus_reference::tensor::Tensor;

/// A case and a candidate, cut to one key head of one sequence.
#[derive(Debug, Clone)]
pub struct OneHead {
    /// The problem of this head.
    pub case: Case,
    /// The candidate's `o`, `lse`, `dq`, `dk`, `dv` and `dkv` for it.
    pub candidate: TensorFile,
}

impl OneHead {
    /// Cuts a dense case of several heads and a candidate of one run; `None` if there is one head, or a mask is drawn.
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
        let inputs = problem.inputs();
        let at = Place { sizes, b, key_head };
        let cut = |x: &Tensor<f64>| at.part_of_tensor(x);
        let group = problem.group();
        let of_head = key_head * group..(key_head + 1) * group;
        let slopes = inputs.alibi_slopes.as_ref().map(|slopes| {
            let first = if slopes.shape()[0] > 1 { b * sizes.query_heads } else { 0 };
            let own = &slopes.as_slice()[first..first + sizes.query_heads][of_head.clone()];
            Tensor::from_fn([1, group, 1, 1], |[_, h, ..]| own[h])
        });
        let inputs = Inputs::new(cut(&inputs.q), cut(&inputs.k), cut(&inputs.v), cut(&inputs.g))
            .with_dlse(inputs.dlse.as_ref().map(cut))
            .with_bias(inputs.bias.as_ref().map(cut))
            .with_sink(inputs.sink.as_ref().map(|it| it[of_head].to_vec()))
            .with_alibi_slopes(slopes);
        let problem = Problem::new(inputs, at.part_of_options(problem.options())).ok()?;
        let mut arrays = TensorFile::default();
        for name in ["o", "lse", "dq", "dk", "dv", "dkv"] {
            let Some(array) = candidate.arrays.get(name) else { continue };
            let cut = cut_array(array, name == "lse", sizes.key_heads, b, key_head)?;
            arrays.arrays.insert(name.to_owned(), cut);
        }
        Some(OneHead { case: Case { problem, ..case.clone() }, candidate: arrays })
    }
}

/// One key head of one sequence.
#[derive(Clone, Copy)]
struct Place {
    sizes: Sizes,
    b: usize,
    key_head: usize,
}

impl Place {
    /// The heads of the sequence that belong to the key head, of operands `[B or 1, Hq or Hk or 1, _, _]`. An axis of length 1 is
    /// broadcast and stays.
    fn part<T: Copy>(self, shape: [usize; 4], elements: &[T]) -> ([usize; 4], Vec<T>) {
        let [batch, heads, n, d] = shape;
        let key_heads = self.sizes.key_heads;
        let (first, count) = match heads {
            1 => (0, 1),
            _ => (self.key_head * heads / key_heads, heads / key_heads),
        };
        let b = if batch == 1 { 0 } else { self.b };
        let start = (b * heads + first) * n * d;
        ([1, count, n, d], elements[start..start + count * n * d].to_vec())
    }

    fn part_of_tensor(self, tensor: &Tensor<f64>) -> Tensor<f64> {
        let (shape, elements) = self.part(tensor.shape(), tensor.as_slice());
        Tensor::new("operand", shape, &elements).expect("as many elements as the shape says")
    }

    /// The options that the head has.
    fn part_of_options(self, options: &Options) -> Options {
        let own = |lengths: &Option<Vec<usize>>| lengths.as_ref().map(|of| vec![of[self.b]]);
        let lengths = options
            .lengths
            .as_ref()
            .map(|of| Lengths { queries: own(&of.queries), keys: own(&of.keys) });
        let dropout = options.dropout.as_ref().map(|of| {
            let (shape, kept) = self.part(of.shape, &of.kept);
            Dropout { shape, kept: kept.into(), p: of.p }
        });
        let key_sets = options.key_sets.iter().map(|set| self.part_of_keys(set)).collect();
        let options = options.clone().with_key_sets(key_sets);
        options.with_lengths(lengths).with_dropout(dropout)
    }

    fn part_of_keys(self, set: &KeySet) -> KeySet {
        match set {
            KeySet::AttnMask(AttnMask { shape, seen }) => {
                let (shape, seen) = self.part(*shape, seen);
                KeySet::AttnMask(AttnMask { shape, seen: seen.into() })
            }
            KeySet::BlockMask(BlockMask { shape, block, seen }) => {
                let (shape, seen) = self.part(*shape, seen);
                KeySet::BlockMask(BlockMask { shape, block: *block, seen: seen.into() })
            }
            KeySet::Indices(of) => {
                let (shape, keys) = self.part(of.shape(), of.as_slice());
                KeySet::Indices(Indices::new(shape, keys))
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::OneHead;
    use crate::Case;
    use sus_files::gradient_file::{Stored, to_tensors};
    use sus_files::{Settings, TensorFile};
    use sus_reference::evaluation::evaluate;
    use sus_reference::problem::{Inputs, Problem};
    use sus_reference::tensor::Tensor;

    fn results(problem: &Problem<f64>) -> TensorFile {
        let gradients = evaluate::<f64>(problem, None, None).unwrap();
        to_tensors(&gradients, &Settings::default(), Stored::F64).unwrap()
    }

    /// Every dense case of the corpus with several heads: all masks, lists, lengths, slopes, dropout, values in the keys.
    #[test]
    fn each_head_that_is_cut_has_the_results_that_it_has_in_the_whole() {
        let mut cut = Vec::new();
        for case in sus_corpus::all().iter().filter(|case| case.draw.is_none()) {
            let whole = Case::new(case.problem.clone(), Settings::default());
            let candidate = results(&case.problem);
            let sizes = case.problem.sizes();
            let heads = (0..sizes.batch).flat_map(|b| (0..sizes.key_heads).map(move |h| (b, h)));
            for (b, h) in heads {
                let Some(head) = OneHead::cut(&whole, &candidate, b, h) else { continue };
                let own = results(&head.case.problem);
                for (name, array) in &head.candidate.arrays {
                    assert_eq!(&own.arrays[name], array, "{name} of {} at {b}, {h}", case.name);
                }
                assert!(head.candidate.arrays.contains_key("dq"), "{}", case.name);
                cut.push(case.name);
            }
        }
        let of = |test: fn(&Problem<f64>) -> bool| {
            cut.iter().any(|name| test(&sus_corpus::named(name).unwrap().problem))
        };
        assert!(of(|p| p.options().lengths.is_some()), "lengths: {cut:?}");
        assert!(of(|p| p.options().dropout.is_some()), "dropout: {cut:?}");
        assert!(of(|p| !p.options().key_sets.is_empty()), "key sets: {cut:?}");
        assert!(of(|p| p.options().v_of_k), "v of k: {cut:?}");
        assert!(of(|p| p.inputs().alibi_slopes.is_some()), "slopes: {cut:?}");
        assert!(of(|p| p.inputs().bias.is_some()), "bias: {cut:?}");
    }

    /// Slopes of each sequence are those of the sequence that is cut.
    #[test]
    fn slopes_of_each_sequence_are_cut_with_it() {
        let example = sus_reference::problem::example(); // B = 2, Hq = 6
        let slopes = Tensor::from_fn([2, 1, 1, 6], |[b, _, _, h]| 0.25 * (1 + h + 6 * b) as f64);
        let inputs: Inputs<f64> = example.inputs().clone().with_alibi_slopes(Some(slopes));
        let problem = Problem::new(inputs, example.options().clone()).unwrap();
        let candidate = results(&problem);
        let case = Case::new(problem, Settings::default());
        let head = OneHead::cut(&case, &candidate, 1, 1).unwrap();
        assert_eq!(results(&head.case.problem).arrays["dq"], head.candidate.arrays["dq"]);
    }
}
