//! The limits of the command, each with its reason.

/// Multiply-adds of one pass up to which `grad` computes in double-double. One takes about 20 operations there, so a
/// pass stays well under a second.
pub(crate) const DOUBLE_DOUBLE_WORK: u64 = 1 << 22;

/// Visible entries up to which a SUS run of `grad` also computes the dense gradients, to print the error of the draw.
/// The dense pass is then a few seconds at most.
pub(crate) const COMPARED_ENTRIES: u64 = 1 << 26;
