//! The sparse-stochastic ("SUS") backward pass.
//!
//! - [`uniform`]: the words that decide which weights are kept, so that any kernel can draw the same mask.

pub mod uniform;
