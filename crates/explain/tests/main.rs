//! The explanations of failures.

mod gallery;
mod random;
