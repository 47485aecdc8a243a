//! The general theorem: random gates of mean one leave the expected derivatives of a computational graph unchanged.
//!
//! Section 2 of Pankov & Harik, *SUS backprop* (arXiv 2505.15080). In a directed acyclic graph with a local
//! derivative `d_e` on every edge, the total derivative of one node by another is a sum over paths,
//!
//! ```text
//! d to / d from = sum over paths p of  prod over e in p of  d_e
//! ```
//!
//! Multiply every edge by a gate `m/q`, `m ~ Bernoulli(q)`. A path uses an edge at most once, so the product of each path
//! has *different*, independent gates of mean one, and the expectation of the sum is the sum. Edges may share a gate, as
//! the edges of the pair `(i, j)` of attention do, unless a path uses two edges of one gate: its product then has the
//! factor `(m/q)^2`, whose mean is `1/q`.
//!
//! All of it needs a [`Ring`] only, so the tests compare by `==`, in rationals ([`mean_over_masks`]). This module uses
//! nothing else of the crate but the scalars. [`attention`] builds the graph of one attention head, a second definition
//! of the backward pass.

pub mod attention;

use crate::scalar::Ring;

/// An edge that is not legal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// An end of the edge is not a node of the graph.
    #[error("edge {from} -> {to}: the graph has {nodes} nodes, numbered from 0")]
    NoSuchNode {
        /// The first node.
        from: usize,
        /// The second node.
        to: usize,
        /// The number of nodes.
        nodes: usize,
    },
    /// The edge does not lead to a later node.
    #[error(
        "edge {from} -> {to}: nodes are in topological order, so an edge leads to a larger number"
    )]
    NotForward {
        /// The first node.
        from: usize,
        /// The second node.
        to: usize,
    },
}

/// An edge, in the list of the node where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge<T> {
    /// The node where it ends.
    pub to: usize,
    /// The partial derivative of that node by the starting one.
    pub derivative: T,
    /// Its gate, if it has one.
    pub gate: Option<usize>,
}

impl<T: Ring> Edge<T> {
    /// The derivative, times the multiplier of the gate if there is one.
    fn gated(&self, multiplier: &impl Fn(usize) -> T) -> T {
        self.gate.map_or(self.derivative, |gate| self.derivative * multiplier(gate))
    }
}

/// A computational graph: nodes `0..nodes` in topological order, and the edges out of each.
///
/// Two nodes may be joined by several edges.
///
/// # Examples
/// ```
/// use sus_reference::graph::Graph;
/// // y = a b and z = y + a, at a = 2 and b = 3: dz/da = b + 1.
/// let (a, b, y, z) = (0, 1, 2, 3);
/// let mut graph = Graph::new(4);
/// for (from, to, derivative) in [(a, y, 3), (b, y, 2), (y, z, 1), (a, z, 1)] {
///     graph.add_edge(from, to, derivative, None)?;
/// }
/// assert_eq!(graph.total_derivative(a, z, |_| 1), 4);
/// # Ok::<(), sus_reference::graph::EdgeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph<T> {
    out: Vec<Vec<Edge<T>>>,
}

impl<T: Ring> Graph<T> {
    /// `nodes` nodes and no edge.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { out: vec![Vec::new(); nodes] }
    }

    /// The number of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.out.len()
    }

    /// The edges out of `node`, in the order they were added.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    #[must_use]
    pub fn edges_from(&self, node: usize) -> &[Edge<T>] {
        &self.out[node]
    }

    /// Adds an edge.
    ///
    /// # Errors
    ///
    /// When an end is not a node, or the edge does not lead from a smaller number to a larger one.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::graph::Graph;
    /// let mut graph = Graph::new(2);
    /// graph.add_edge(0, 1, 5, None)?;
    /// graph.add_edge(0, 1, 7, None)?; // a second edge between the same nodes adds
    /// assert_eq!(graph.total_derivative(0, 1, |_| 1), 12);
    /// assert!(graph.add_edge(1, 1, 1, None).is_err());
    /// # Ok::<(), sus_reference::graph::EdgeError>(())
    /// ```
    pub fn add_edge(
        &mut self,
        from: usize,
        to: usize,
        derivative: T,
        gate: Option<usize>,
    ) -> Result<(), EdgeError> {
        let nodes = self.nodes();
        if from >= nodes || to >= nodes {
            return Err(EdgeError::NoSuchNode { from, to, nodes });
        }
        if from >= to {
            return Err(EdgeError::NotForward { from, to });
        }
        self.out[from].push(Edge { to, derivative, gate });
        Ok(())
    }

    /// The derivative of node `to` by every node, `[nodes]`, by reverse accumulation.
    ///
    /// `multiplier` gives the factor of a gate: one everywhere for the plain derivative, `m/q` for a gated one.
    /// A node without a path to `to` has derivative zero, `to` itself one.
    ///
    /// # Panics
    ///
    /// When there is no node `to`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::graph::Graph;
    /// let mut graph = Graph::new(3);
    /// graph.add_edge(0, 1, 5, Some(0))?;
    /// graph.add_edge(1, 2, 7, None)?;
    /// assert_eq!(graph.derivatives_of(2, |_| 1), [35, 7, 1]);
    /// assert_eq!(graph.derivatives_of(2, |_| 0), [0, 7, 1]); // gate 0 is closed
    /// # Ok::<(), sus_reference::graph::EdgeError>(())
    /// ```
    pub fn derivatives_of(&self, to: usize, multiplier: impl Fn(usize) -> T) -> Vec<T> {
        let mut adjoint = vec![T::zero(); self.nodes()];
        adjoint[to] = T::one();
        for node in (0..to).rev() {
            // Every edge leads to a larger number, whose adjoint is complete (and zero beyond `to`).
            adjoint[node] = self.out[node]
                .iter()
                .fold(T::zero(), |sum, edge| sum + edge.gated(&multiplier) * adjoint[edge.to]);
        }
        adjoint
    }

    /// The derivative of node `to` by node `from`: one entry of [`Graph::derivatives_of`].
    ///
    /// # Panics
    ///
    /// When there is no node `from` or `to`.
    pub fn total_derivative(&self, from: usize, to: usize, multiplier: impl Fn(usize) -> T) -> T {
        self.derivatives_of(to, multiplier)[from]
    }

    /// Every path between two nodes, each as its edges in order; from a node to itself, the empty path.
    ///
    /// Their number can grow exponentially with the nodes, so the graph must be small.
    ///
    /// # Panics
    ///
    /// When there is no node `from`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::graph::Graph;
    /// let mut graph = Graph::new(3);
    /// graph.add_edge(0, 2, 2, None)?;
    /// graph.add_edge(0, 1, 5, None)?;
    /// graph.add_edge(1, 2, 7, None)?;
    /// let lengths: Vec<usize> = graph.paths(0, 2).iter().map(Vec::len).collect();
    /// assert_eq!(lengths.iter().sum::<usize>(), 3);
    /// assert_eq!(graph.total_derivative_over_paths(0, 2, |_| 1), graph.total_derivative(0, 2, |_| 1));
    /// # Ok::<(), sus_reference::graph::EdgeError>(())
    /// ```
    #[must_use]
    pub fn paths(&self, from: usize, to: usize) -> Vec<Vec<Edge<T>>> {
        let mut complete = Vec::new();
        let mut growing = vec![(from, Vec::new())];
        while let Some((end, path)) = growing.pop() {
            for edge in &self.out[end] {
                let mut longer = path.clone();
                longer.push(*edge);
                growing.push((edge.to, longer));
            }
            if end == to {
                complete.push(path);
            }
        }
        complete
    }

    /// The derivative of `to` by `from` as the sum over [`Graph::paths`] of the products of their edges: the
    /// definition, computed independently of [`Graph::total_derivative`].
    ///
    /// # Panics
    ///
    /// When there is no node `from`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::graph::Graph;
    /// let mut graph = Graph::new(4);
    /// for (from, to, derivative) in [(0, 1, 2), (0, 2, 3), (1, 3, 5), (2, 3, 7), (1, 2, 11)] {
    ///     graph.add_edge(from, to, derivative, None)?;
    /// }
    /// assert_eq!(graph.total_derivative_over_paths(0, 3, |_| 1), 2 * 5 + 3 * 7 + 2 * 11 * 7);
    /// # Ok::<(), sus_reference::graph::EdgeError>(())
    /// ```
    pub fn total_derivative_over_paths(
        &self,
        from: usize,
        to: usize,
        multiplier: impl Fn(usize) -> T,
    ) -> T {
        self.paths(from, to)
            .iter()
            .map(|path| {
                path.iter().fold(T::one(), |product, edge| product * edge.gated(&multiplier))
            })
            .fold(T::zero(), |sum, product| sum + product)
    }

    /// A gate that some path uses twice, if there is one. Only without such a gate is gating unbiased in general.
    ///
    /// All paths count, whatever their ends and derivatives.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::graph::Graph;
    /// let mut graph = Graph::new(3);
    /// graph.add_edge(0, 1, 5, Some(7))?;
    /// assert_eq!(graph.path_uses_a_gate_twice(), None);
    /// graph.add_edge(1, 2, 5, Some(7))?;
    /// assert_eq!(graph.path_uses_a_gate_twice(), Some(7));
    /// # Ok::<(), sus_reference::graph::EdgeError>(())
    /// ```
    #[must_use]
    pub fn path_uses_a_gate_twice(&self) -> Option<usize> {
        self.out.iter().flatten().find_map(|first| {
            let gate = first.gate?;
            // The nodes that a path through this edge reaches, in topological order.
            let mut reached = vec![false; self.nodes()];
            reached[first.to] = true;
            for node in first.to..self.nodes() {
                if reached[node] {
                    for later in &self.out[node] {
                        if later.gate == Some(gate) {
                            return Some(gate);
                        }
                        reached[later.to] = true;
                    }
                }
            }
            None
        })
    }
}

/// The distribution of one gate: open with probability `keep`, a factor `upweight`; else closed, a factor zero.
///
/// Unbiased gating has `upweight = 1/keep`. A ring has no division, so both are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate<T> {
    /// The probability `q` that the gate is open.
    pub keep: T,
    /// The factor of an open gate, `1/q`.
    pub upweight: T,
}

/// The largest number of gates that [`mean_over_masks`] enumerates: about a million masks.
const MAX_GATES: usize = 20;

/// The mean of `value(multipliers)` over all masks of independent gates: no sampling, `2^gates` terms.
///
/// `value` gets the multiplier of every gate, `[gates.len()]`, and returns any number of components, the same
/// number each time; the mean has as many. A mask of probability zero is not visited.
///
/// # Panics
///
/// When there are more than 20 gates, or `value` returns different numbers of components.
///
/// # Examples
/// ```
/// use sus_reference::graph::{Gate, mean_over_masks};
/// let gates = [Gate { keep: 0.25, upweight: 4.0 }];
/// assert_eq!(mean_over_masks(&gates, |m| vec![m[0], m[0] * m[0]]), [1.0, 4.0]);
/// ```
pub fn mean_over_masks<T: Ring>(
    gates: &[Gate<T>],
    mut value: impl FnMut(&[T]) -> Vec<T>,
) -> Vec<T> {
    assert!(gates.len() <= MAX_GATES, "{} gates are too many to enumerate", gates.len());
    let mut mean: Option<Vec<T>> = None;
    for mask in 0_u32..1 << gates.len() {
        // Bit g of the mask is the state of gate g.
        let open = |gate: usize| mask >> gate & 1 == 1;
        let probability = gates.iter().enumerate().fold(T::one(), |product, (id, gate)| {
            product * if open(id) { gate.keep } else { T::one() - gate.keep }
        });
        if probability.is_zero() {
            continue;
        }
        let multipliers: Vec<T> = (gates.iter().enumerate())
            .map(|(id, gate)| if open(id) { gate.upweight } else { T::zero() })
            .collect();
        let terms = value(&multipliers);
        let sums = mean.get_or_insert_with(|| vec![T::zero(); terms.len()]);
        assert_eq!(sums.len(), terms.len(), "the number of components changed between masks");
        for (sum, term) in sums.iter_mut().zip(terms) {
            *sum += probability * term;
        }
    }
    // The probabilities add up to one, so at least one mask was visited.
    mean.unwrap_or_default()
}
