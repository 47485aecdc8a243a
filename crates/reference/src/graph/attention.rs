//! The computational graph of one attention head.
//!
//! Nodes are the single numbers of `q`, `k`, `v`, `bias`, the sink, the scores `s`, the outputs `o` and `lse`, and
//! a loss whose derivatives by `o` and `lse` are the given cotangents. Local derivatives, with `W = exp(s - lse)`:
//!
//! ```text
//! q_id -> s_ij    scale slope_ij k_jd         k_jd -> s_ij    scale slope_ij q_id       bias_ij -> s_ij   1
//! s_ij -> o_ie    W_ij (v_je - o_ie)   gated  v_je -> o_ie    W_ij               gated
//! s_ij -> lse_i   W_ij                 gated
//! sink -> o_ie   -w_i o_ie                    sink -> lse_i   w_i      (w_i = exp(sink - lse_i), the sink's weight)
//! o_ie -> loss    do_ie                       lse_i -> loss   dlse_i
//! ```
//!
//! The three kinds of gated edges are those with an explicit `W_ij`. The edges of the pair `(i, j)` share the gate
//! `i Nk + j`, and no path uses two of them. SUS gates them by `m/q`: it replaces `W` by `W~ = W m/q` and leaves `o`,
//! `lse` and `delta` exact.
//!
//! `W`, the slopes and the sink's weights are data, so a ring is enough, and rationals are exact.

use super::Graph;
use crate::scalar::Ring;

/// One head: sizes, operands, saved weights and cotangents, all row-major.
///
/// `D` is the query/key dimension `dim`, `E` the value dimension `value_dim`.
///
/// # Examples
/// ```
/// use sus_reference::graph::attention::{AttentionHead, attention_graph};
/// // Weights 1/4 and 3/4, values 0 and 1, so o = 3/4 and dS = W (G v - G o) = (-3/16, 3/16).
/// let head = AttentionHead {
///     queries: 1, keys: 2, dim: 1, value_dim: 1,
///     q: &[1.0], k: &[0.0, 16.0], v: &[0.0, 1.0], weights: &[0.25, 0.75], g: &[1.0],
///     scale: 1.0, slope: None, sink_weights: None, dlse: None,
/// };
/// let gradients = attention_graph(&head)?.gradients(|_| 1.0);
/// assert_eq!((gradients.dbias, gradients.dq), (vec![-0.1875, 0.1875], vec![3.0]));
/// # Ok::<(), sus_reference::graph::attention::LengthError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AttentionHead<'a, T> {
    /// `Nq`.
    pub queries: usize,
    /// `Nk`.
    pub keys: usize,
    /// `D`.
    pub dim: usize,
    /// `E`.
    pub value_dim: usize,
    /// `[Nq, D]`.
    pub q: &'a [T],
    /// `[Nk, D]`.
    pub k: &'a [T],
    /// `[Nk, E]`.
    pub v: &'a [T],
    /// `W`, `[Nq, Nk]`, zero where a key is masked.
    pub weights: &'a [T],
    /// The factor of `q . k`.
    pub scale: T,
    /// The softcap's derivative `1 - (s/softcap)^2`, `[Nq, Nk]`; `None` without a softcap.
    pub slope: Option<&'a [T]>,
    /// The sink's weight in every row, `[Nq]`; `None` without a sink.
    pub sink_weights: Option<&'a [T]>,
    /// `do`, the cotangent of `o`, `[Nq, E]`.
    pub g: &'a [T],
    /// The cotangent of `lse`, `[Nq]`; `None` for zero.
    pub dlse: Option<&'a [T]>,
}

/// An operand of a [`AttentionHead`] that has the wrong number of elements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operand}: expected {expected} elements, found {found}")]
pub struct LengthError {
    /// The field of [`AttentionHead`].
    pub operand: &'static str,
    /// The number of elements that the sizes require.
    pub expected: usize,
    /// The number of elements.
    pub found: usize,
}

/// The gradients of one head, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadGradients<T> {
    /// `[Nq, D]`.
    pub dq: Vec<T>,
    /// `[Nk, D]`.
    pub dk: Vec<T>,
    /// `[Nk, E]`.
    pub dv: Vec<T>,
    /// `[Nq, Nk]`, whether or not the scores had a bias: it is `dS`.
    pub dbias: Vec<T>,
    /// The sink's gradient, summed over the rows; zero without a sink.
    pub dsink: T,
}

/// The graph of a head, with the positions of its nodes.
#[derive(Clone, Debug)]
pub struct AttentionGraph<T> {
    graph: Graph<T>,
    at: NodeOffsets,
}

/// The first node of each tensor; the nodes of a tensor are consecutive, in row-major order.
#[derive(Clone, Copy, Debug)]
struct NodeOffsets {
    q: usize,
    k: usize,
    v: usize,
    bias: usize,
    sink: usize,
    s: usize,
    o: usize,
    lse: usize,
    loss: usize,
}

impl NodeOffsets {
    fn of<T>(head: &AttentionHead<T>) -> Self {
        let q = 0;
        let k = q + head.queries * head.dim;
        let v = k + head.keys * head.dim;
        let bias = v + head.keys * head.value_dim;
        let sink = bias + head.queries * head.keys;
        let s = sink + 1;
        let o = s + head.queries * head.keys;
        let lse = o + head.queries * head.value_dim;
        let loss = lse + head.queries;
        Self { q, k, v, bias, sink, s, o, lse, loss }
    }
}

impl<T: Ring> AttentionHead<'_, T> {
    fn check_lengths(&self) -> Result<(), LengthError> {
        let AttentionHead { queries, keys, dim, value_dim, .. } = *self;
        for (operand, slice, expected) in [
            ("q", Some(self.q), queries * dim),
            ("k", Some(self.k), keys * dim),
            ("v", Some(self.v), keys * value_dim),
            ("weights", Some(self.weights), queries * keys),
            ("slope", self.slope, queries * keys),
            ("sink_weights", self.sink_weights, queries),
            ("g", Some(self.g), queries * value_dim),
            ("dlse", self.dlse, queries),
        ] {
            if let Some(found) = slice.map(<[T]>::len).filter(|&found| found != expected) {
                return Err(LengthError { operand, expected, found });
            }
        }
        Ok(())
    }

    /// `o_ie = sum_j W_ij v_je`.
    fn output(&self, i: usize, e: usize) -> T {
        (0..self.keys).fold(T::zero(), |sum, j| {
            sum + self.weights[i * self.keys + j] * self.v[j * self.value_dim + e]
        })
    }
}

/// The graph of `head`.
///
/// A pair whose weight is zero has no gated edges, so its multiplier is not read.
///
/// # Errors
///
/// When an operand has another length than the sizes require.
///
/// # Examples
/// ```
/// use sus_reference::graph::attention::{AttentionHead, attention_graph};
/// // One query with equal weights on two keys.
/// let head = AttentionHead {
///     queries: 1, keys: 2, dim: 1, value_dim: 1,
///     q: &[0.0], k: &[3.0, 5.0], v: &[1.0, 0.0], weights: &[0.5, 0.5],
///     scale: 1.0, slope: None, sink_weights: None, g: &[2.0], dlse: None,
/// };
/// let gradients = attention_graph(&head)?.gradients(|_| 1.0);
/// assert_eq!((gradients.dq, gradients.dv), (vec![-1.0], vec![1.0, 1.0]));
/// # Ok::<(), sus_reference::graph::attention::LengthError>(())
/// ```
pub fn attention_graph<T: Ring>(head: &AttentionHead<T>) -> Result<AttentionGraph<T>, LengthError> {
    head.check_lengths()?;
    let AttentionHead { queries, keys, dim, value_dim, .. } = *head;
    let at = NodeOffsets::of(head);
    let mut graph = Graph::new(at.loss + 1);
    let mut join = |from: usize, to: usize, derivative: T, gate: Option<usize>| {
        let added = graph.add_edge(from, to, derivative, gate);
        debug_assert_eq!(added, Ok(()), "the offsets put tensors in topological order");
    };
    for i in 0..queries {
        for j in 0..keys {
            let pair = i * keys + j;
            let slope = head.scale * head.slope.map_or(T::one(), |slope| slope[pair]);
            for d in 0..dim {
                join(at.q + i * dim + d, at.s + pair, slope * head.k[j * dim + d], None);
                join(at.k + j * dim + d, at.s + pair, slope * head.q[i * dim + d], None);
            }
            join(at.bias + pair, at.s + pair, T::one(), None);
            let weight = head.weights[pair];
            if weight.is_zero() {
                continue;
            }
            for e in 0..value_dim {
                let (v, o) = (head.v[j * value_dim + e], head.output(i, e));
                join(at.s + pair, at.o + i * value_dim + e, weight * (v - o), Some(pair));
                join(at.v + j * value_dim + e, at.o + i * value_dim + e, weight, Some(pair));
            }
            join(at.s + pair, at.lse + i, weight, Some(pair));
        }
        for e in 0..value_dim {
            let output = i * value_dim + e;
            if let Some(sink) = head.sink_weights {
                join(at.sink, at.o + output, -sink[i] * head.output(i, e), None);
            }
            join(at.o + output, at.loss, head.g[output], None);
        }
        if let Some(sink) = head.sink_weights {
            join(at.sink, at.lse + i, sink[i], None);
        }
        join(at.lse + i, at.loss, head.dlse.map_or(T::zero(), |dlse| dlse[i]), None);
    }
    Ok(AttentionGraph { graph, at })
}

impl<T: Ring> AttentionGraph<T> {
    /// The graph itself.
    #[must_use]
    pub fn graph(&self) -> &Graph<T> {
        &self.graph
    }

    /// The gradients of the loss when the pair `(i, j)` is multiplied by `multiplier(i Nk + j)`: one everywhere for
    /// the dense backward, `m_ij / q_ij` for SUS.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::graph::attention::{AttentionHead, attention_graph};
    /// let head = AttentionHead {
    ///     queries: 1, keys: 2, dim: 1, value_dim: 1,
    ///     q: &[1.0], k: &[0.0, 16.0], v: &[0.0, 1.0], weights: &[0.25, 0.75], g: &[1.0],
    ///     scale: 1.0, slope: None, sink_weights: None, dlse: None,
    /// };
    /// let graph = attention_graph(&head)?;
    /// // SUS keeps key 0 with probability 1/4: with factor 4 then, else with factor 0.
    /// let [kept, dropped] = [4.0, 0.0].map(|m| graph.gradients(|pair| if pair == 0 { m } else { 1.0 }));
    /// assert_eq!((kept.dv, dropped.dv), (vec![1.0, 0.75], vec![0.0, 0.75]));
    /// assert_eq!(0.25 * kept.dk[0] + 0.75 * dropped.dk[0], graph.gradients(|_| 1.0).dk[0]); // unbiased
    /// # Ok::<(), sus_reference::graph::attention::LengthError>(())
    /// ```
    pub fn gradients(&self, multiplier: impl Fn(usize) -> T) -> HeadGradients<T> {
        let at = self.at;
        let adjoint = self.graph.derivatives_of(at.loss, multiplier);
        HeadGradients {
            dq: adjoint[at.q..at.k].to_vec(),
            dk: adjoint[at.k..at.v].to_vec(),
            dv: adjoint[at.v..at.bias].to_vec(),
            dbias: adjoint[at.bias..at.sink].to_vec(),
            dsink: adjoint[at.sink],
        }
    }
}
