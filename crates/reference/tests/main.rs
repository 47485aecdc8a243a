//! The tests of this crate, in one binary.

mod backward;
mod common;
mod exact;
mod graph;
mod hidden_keys;
mod identities;
mod mask;
mod moments;
mod moments_by_hand;
mod operands;
mod optimum;
mod problem;
mod scalar_dd;
mod scalar_dual;
mod scalar_native;
mod scalar_with_error;
mod sus_exact;
mod sus_sample;
mod uniform;
