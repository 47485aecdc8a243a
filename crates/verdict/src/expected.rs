//! The reference of one tensor and the errors that a right kernel may make.

use sus_bounds::{Bound, RoundingRange, TensorLimits};

/// The reference of one tensor and the errors that a right kernel may make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub name: &'static str,
    pub shape: &'a [usize],
    pub reference: &'a [f64],
    pub bound: &'a Bound,
    /// Limits of the error statistics, for `dq`, `dk` and `dv` of problems that have them.
    pub limits: Option<&'a TensorLimits>,
    /// Sets of ranges; the elements of a right kernel all lie in the ranges of one set. Empty if no ranges are known.
    pub ranges: &'a [&'a [RoundingRange]],
    /// Rows that share a limit of the heads: those of the query heads of one key head, or the keys.
    pub head_rows: usize,
}
