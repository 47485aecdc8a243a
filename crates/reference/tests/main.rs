//! The tests of this crate, in one binary.

mod backward;
mod common;
mod exact;
mod graph;
mod identities;
mod mask;
mod moments;
mod problem;
mod scalar_dd;
mod scalar_dual;
mod scalar_native;
mod sus_exact;
mod sus_sample;
mod uniform;
