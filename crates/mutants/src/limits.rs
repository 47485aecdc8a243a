//! The largest problem that the mutants run on, in products of one pass over the matrix.

/// The verdict looks along the directions of known rounding bugs up to this size. A larger problem has enough errors
/// for the statistics of all errors to show the same bugs.
pub(crate) const LARGEST_DIRECTIONS: usize = 1 << 20;
