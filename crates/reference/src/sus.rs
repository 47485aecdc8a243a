//! SUS: a sparse, unbiased, stochastic backward pass (Pankov & Harik, arXiv 2505.15080).
//!
//! ```text
//! q_ij = min(1, lambda_i W_ij)      m_ij ~ q_ij      W~_ij = W_ij m_ij / q_ij = m_ij max(W_ij, 1 / lambda_i)
//! ```
//!
//! [`rule`] turns weights into probabilities, [`uniform`] gives every weight its random word, [`sampler`] turns
//! probabilities and words into a mask, and [`sample`](mod@sample) holds the mask and applies it in any scalar.
//! [`moments`] has the exact distribution of the gradients, [`optimum`] the least variance of any probabilities.

pub mod draw;
pub mod moments;
pub mod optimum;
pub mod pattern;
pub mod rule;
pub mod sample;
pub mod sampler;
pub mod uniform;

pub use draw::Draw;
pub use moments::MaskDistribution;
pub use pattern::Pattern;
pub use rule::{Budget, Rule};
pub use sample::{Sample, SampledWeights, sample, sampled_values, sus_backward};
pub use sampler::{Sampler, UniformBits};
pub use uniform::{Layout, Uniforms};
