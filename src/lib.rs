//! A verified reference and test oracle for the attention backward pass: the dense one, and the sparse, unbiased,
//! stochastic one of "SUS backprop" (Pankov & Harik, arXiv 2505.15080).
//!
//! # The equations and their functions
//!
//! | equation | function |
//! |---|---|
//! | `sᵢⱼ = softcap · tanh(scale qᵢ·kⱼ / softcap) + biasᵢⱼ` | [`forward::score`] |
//! | `lseᵢ = ln(Σⱼ exp sᵢⱼ + exp sink)`, `oᵢ = Σⱼ Wᵢⱼ vⱼ` | [`forward::forward`] |
//! | `Wᵢⱼ = exp(sᵢⱼ − lseᵢ)` | [`backward::DenseWeights`] |
//! | `δᵢ = Gᵢ·oᵢ` | [`backward::delta`] |
//! | `dSᵢⱼ = Wᵢⱼ (Gᵢ·vⱼ − δᵢ + dlseᵢ)`, `dqᵢ = scale Σⱼ dSᵢⱼ kⱼ`, `dkⱼ = scale Σᵢ dSᵢⱼ qᵢ`, `dvⱼ = Σᵢ Wᵢⱼ Gᵢ` | [`backward::backward_from_weights`] |
//! | SUS takes `max(Wᵢⱼ, 1/λᵢ)` for `Wᵢⱼ`, with probability `qᵢⱼ = min(1, λᵢ Wᵢⱼ)`, else 0 | [`sus::SampledWeights`], [`sus::sample`](fn@sus::sample) |
//! | the variance of that is `Wᵢⱼ (max(Wᵢⱼ, 1/λᵢ) − Wᵢⱼ)`; exact distributions follow | [`sus::moments`] |
//!
//! `q`, `k`, `v` are queries, keys and values, `G` is the cotangent of `o` and `dlse` that of `lse`. Without a
//! softcap the score is `scale qᵢ·kⱼ + biasᵢⱼ`; under one, `dq` and `dk` have its derivative as another factor. `λᵢ` is the
//! budget `c` under the paper's [rule](sus::Rule).
//!
//! # Where to start
//!
//! A [`problem::Problem`] is made from tensors or read by [`files::ProblemFile`]; [`evaluation::evaluate`] computes its
//! forward pass, gradients and mask, in any [`scalar`]. [`judge`](fn@judge) judges the results of a kernel.
//!
//! # The crates
//!
//! This crate re-exports the crates of the workspace and adds nothing, except the command under the feature `command`.
//! Each uses only crates above it in this list.
//!
//! | module | crate | content |
//! |---|---|---|
//! | [`scalar`], [`problem`], [`mask`], [`forward`], [`backward`], [`mod@sus`], [`graph`], [`evaluation`] | `sus-reference` | the equations, over any scalar |
//! | [`files`] | `sus-files` | problems, candidates and settings as safetensors files |
//! | [`corpus`] | `sus-corpus` | small named problems, each with its purpose |
//! | [`fast`] | `sus-fast` | the same passes, blocked and vectorised |
//! | [`bounds`] | `sus-bounds` | recipes, and the error bound of every element |
//! | [`analysis`] | `sus-analysis` | exact variances over a set of sequences, and the smallest budget for a target |
//! | [`verdict`] | `sus-verdict` | the verdict on a candidate, for one run and for many |
//! | [`fixtures`] | `sus-fixtures` | suites of problems with stored answers |
//! | [`mutants`] | `sus-mutants` | simulated kernels (mutants and controls), the diagnosis and the kill matrix |
//! | [`mod@explain`] | `sus-explain` | why a candidate fails, and where |
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
//! let inputs = Inputs::new(q, k, v, g);
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

pub use sus_analysis as analysis;
pub use sus_bounds as bounds;
pub use sus_corpus as corpus;
pub use sus_explain as explain;
pub use sus_fast as fast;
pub use sus_files as files;
pub use sus_fixtures as fixtures;
pub use sus_mutants as mutants;
pub use sus_reference::{
    Error, TensorName, backward, error, evaluation, forward, graph, mask, problem, quote, scalar,
    sus, tensor,
};
pub use sus_verdict as verdict;

pub use sus_mutants::judge;

#[cfg(doctest)]
mod book;
