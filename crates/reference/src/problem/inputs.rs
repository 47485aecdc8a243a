//! The tensors and the options of a problem, before validation.

use super::part::Part;
use crate::mask::{Alignment, KeySet, Lengths, Segments, Window};
use crate::setters;
use crate::tensor::Tensor;
use std::sync::Arc;

/// The tensors of a problem, not yet validated. Shapes as in [`Problem`](super::Problem).
///
/// # Examples
/// ```
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// let one = Tensor::new("q", [1, 1, 1, 1], &[2.0_f64])?;
/// let inputs = Inputs::new(one.clone(), one.clone(), one.clone(), one).with_sink(vec![4.0]);
/// // The score 2 * 2 and the sink 4 are equal: the key has half of the weight.
/// let problem = Problem::new(inputs, Options::default())?;
/// assert!((sus_reference::forward::forward(&problem).o.as_slice()[0] - 1.0).abs() < 1e-15);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inputs<T> {
    /// Queries `[B, Hq, Nq, D]`.
    pub q: Tensor<T>,
    /// Keys `[B, Hk, Nk, D]`.
    pub k: Tensor<T>,
    /// Values `[B, Hk, Nk, E]`.
    pub v: Tensor<T>,
    /// Cotangent of `o`, `[B, Hq, Nq, E]`; `do` in the files, `G` in the equations.
    pub g: Tensor<T>,
    /// Cotangent of `lse`, `[B, Hq, Nq, 1]`.
    pub dlse: Option<Tensor<T>>,
    /// Added to the scores, `[B or 1, Hq or 1, Nq or 1, Nk]`; `-inf` hides the key.
    pub bias: Option<Tensor<T>>,
    /// One logit per query head, `[Hq]`, that takes part in the softmax and carries no value.
    pub sink: Option<Vec<T>>,
    /// Slopes `[1, Hq, 1, 1]`, or `[B, 1, 1, Hq]` for slopes of each sequence: `-slope |i + Nk - Nq - j|` is added to the score after the softcap.
    pub alibi_slopes: Option<Tensor<T>>,
}

impl<T> Inputs<T> {
    /// The four tensors that every problem has.
    #[must_use]
    pub fn new(q: Tensor<T>, k: Tensor<T>, v: Tensor<T>, g: Tensor<T>) -> Self {
        Inputs { q, k, v, g, dlse: None, bias: None, sink: None, alibi_slopes: None }
    }
}

setters! { Inputs<T>, [T];
    with_q(q: Tensor<T>);
    with_k(k: Tensor<T>);
    with_v(v: Tensor<T>);
    with_g(g: Tensor<T>);
    with_dlse(dlse: Option<Tensor<T>>);
    with_bias(bias: Option<Tensor<T>>);
    with_sink(sink: Option<Vec<T>>);
    with_alibi_slopes(alibi_slopes: Option<Tensor<T>>);
}

/// The options of a problem.
///
/// # Examples
/// ```
/// use sus_reference::mask::Window;
/// use sus_reference::problem::Options;
/// let window = Some(Window { left: Some(128), right: None });
/// let options = Options::default().with_causal(true).with_window(window).with_softcap(50.0);
/// assert_eq!(options.scale, None); // 1 / sqrt(D)
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Options {
    /// Factor of `q . k`; `None` is `1 / sqrt(D)`.
    pub scale: Option<f64>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// A query sees no key after its diagonal.
    pub causal: bool,
    /// Where the diagonal lies.
    pub alignment: Alignment,
    /// The keys around its diagonal that a query sees.
    pub window: Option<Window>,
    /// Packed sequences.
    pub segments: Option<Segments>,
    /// The part of the sequences that is used; the rest is padding.
    pub lengths: Option<Lengths>,
    /// Masks by elements, by blocks and by lists. A row sees a key that all of them let it see.
    pub key_sets: Vec<KeySet>,
    /// The bias is added before the softcap, not after it.
    pub bias_first: bool,
    /// Weights of the products with `v` that are set to 0, the others scaled up.
    pub dropout: Option<Dropout>,
    /// `v` is the first `E` features of `k`, and their gradient is one tensor.
    pub v_of_k: bool,
    /// Whether slopes are `[B, Hq]` in their file, and their gradient is: with one sequence and one head the tensor does not tell.
    pub slopes_by_sequence: bool,
    /// The larger problem that this one is a part of.
    pub part: Option<Arc<Part>>,
}

/// Dropout with a mask that the caller gives: `Z_ij = kept_ij / (1 - p)`, and `o_i = sum_j W_ij Z_ij v_j`.
///
/// `lse` and `delta = G . o` are as they are, and SUS draws by `W`.
///
/// # Examples
/// ```
/// use sus_reference::problem::{Dropout, Options, Problem};
/// let example = sus_reference::problem::example(); // [B, Hq, Nq, Nk] = [2, 6, 7, 11]
/// // Key 0 is dropped everywhere, the others count twice.
/// let kept = (0..7 * 11).map(|at| u8::from(at % 11 != 0)).collect();
/// let dropout = Dropout { shape: [1, 1, 7, 11], kept, p: 0.5 };
/// let problem = Problem::new(example.inputs().clone(), Options::default().with_dropout(dropout))?;
/// let row = problem.row(0);
/// assert_eq!([0, 1].map(|j| problem.dropout(row, j)), [Some(0.0), Some(2.0)]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// `[B or 1, Hq or 1, Nq, Nk]`.
    pub shape: [usize; 4],
    /// Non-zero: kept. Row-major.
    pub kept: Arc<[u8]>,
    /// The probability of being dropped, at least 0 and below 1.
    pub p: f64,
}

setters! { Options, [];
    with_scale(scale: Option<f64>);
    with_softcap(softcap: Option<f64>);
    with_causal(causal: bool);
    with_alignment(alignment: Alignment);
    with_window(window: Option<Window>);
    with_segments(segments: Option<Segments>);
    with_lengths(lengths: Option<Lengths>);
    with_key_sets(key_sets: Vec<KeySet>);
    with_bias_first(bias_first: bool);
    with_dropout(dropout: Option<Dropout>);
    with_v_of_k(v_of_k: bool);
    with_slopes_by_sequence(slopes_by_sequence: bool);
}
