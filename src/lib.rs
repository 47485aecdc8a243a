//! A verified reference and test oracle for the attention backward pass: the dense one, and the sparse, unbiased,
//! stochastic one of "SUS backprop" (Pankov & Harik, arXiv 2505.15080).
//!
//! # The equations, each beside the function that is it
//!
//! | equation | function |
//! |---|---|
//! | `s_ij = softcap tanh(scale q_i . k_j / softcap) + bias_ij` | [`forward::score`] |
//! | `lse_i = ln(sum_j e^{s_ij} + e^{sink})`, `o_i = sum_j W_ij v_j` | [`forward::forward`] |
//! | `W_ij = e^{s_ij - lse_i}` | [`backward::DenseWeights`] |
//! | `delta_i = G_i . o_i` | [`backward::delta`] |
//! | `dS_ij = W_ij (G_i . v_j - delta_i + dlse_i)` and the sums `dq, dk, dv, dbias` | [`backward::backward_from_weights`] |
//! | `Var W~_ij = W_ij (max(W_ij, 1 / lambda_i) - W_ij)` and the exact laws that follow | [`sus::moments`] |
//! | `W~_ij = m_ij max(W_ij, 1 / lambda_i)`, `m_ij ~ min(1, lambda_i W_ij)` | [`sus::SampledWeights`], [`sus::sample`](fn@sus::sample) |
//!
//! # Example
//!
//! ```
//! use sus_oracle::problem::{Inputs, Options, Problem};
//! use sus_oracle::sus::{Budget, Draw, sample, sus_backward};
//! use sus_oracle::{backward::backward, forward::forward, tensor::Tensor};
//!
//! let ramp = |[_, _, n, d]: [usize; 4]| (n as f64 - d as f64) / 4.0;
//! let (q, k) = (Tensor::from_fn([1, 1, 5, 3], ramp), Tensor::from_fn([1, 1, 7, 3], ramp));
//! let (v, g) = (Tensor::from_fn([1, 1, 7, 2], ramp), Tensor::from_fn([1, 1, 5, 2], ramp));
//! let inputs = Inputs { q, k, v, g, dlse: None, bias: None, sink: None };
//! let problem = Problem::new(inputs, Options::default())?;
//!
//! let saved = forward(&problem);
//! let dense = backward(&problem, &saved);
//! let mask = sample(&problem, &saved, &Draw::paper(Budget::new(2.0)?, 42))?;
//! let sparse = sus_backward(&problem, &saved, &mask);
//! assert_eq!(dense.dq.shape(), sparse.dq.shape());
//! assert!(mask.expected.iter().all(|&kept| kept <= 2.0));
//! # Ok::<(), sus_oracle::Error>(())
//! ```

pub mod analysis;
pub mod backward;
pub mod bench;
pub mod error;
pub mod evaluation;
pub mod fast;
pub mod file;
pub mod fixture;
pub mod forward;
pub mod gallery;
pub mod graph;
pub mod mask;
pub mod precision;
pub mod problem;
pub mod scalar;
pub mod selftest;
pub mod sus;
pub mod tensor;
pub mod verdict;

#[cfg(doctest)]
mod book;

pub use error::Error;
