//! The explanations of failures.

mod gallery;
mod lengths;
mod random;
