//! The largest problems that the mutants run on, in products of one pass over the matrix.

/// A diagnosis runs all mutants in `f64`: at this size they take about half a minute together. A larger dense problem is
/// cut to its worst key head.
pub(crate) const LARGEST_DIAGNOSIS: usize = 1 << 27;

/// The verdict looks along the directions of known rounding bugs up to this size. A larger problem has enough errors
/// for the statistics of all errors to show the same bugs.
pub(crate) const LARGEST_DIRECTIONS: usize = 1 << 20;
