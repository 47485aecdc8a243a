//! The limits of size in this crate, each with its reason. None of them changes a value.

/// Entries of one key head up to which its roundings are followed; above, there are no statistics and no ranges.
///
/// A followed entry takes 64 bytes, so that a head of this size takes half a GiB.
pub const LARGEST_HEAD: usize = 1 << 23;

/// Products that the Gram matrices of one head may cost: about a second. Above, traces bound their norms.
pub(crate) const LARGEST_GRAM_WORK: usize = 1 << 30;

/// Numbers that the Gram matrices of one head may hold: 64 MiB. It also bounds the error of their sums: `norm.rs`.
pub(crate) const LARGEST_GRAM: usize = 1 << 23;

/// Visible entries from which packing keys and values costs less than it saves.
pub(crate) const SMALLEST_PACKED: u64 = 1 << 12;

/// Numbers from which a table of cells finds ties faster than sorting all of them.
pub(crate) const SMALLEST_TABLE: usize = 256;

/// Keys of a task. The sums of one key with 64 features take 17 kB for each of `dk` and `dv` (three numbers for each of 11
/// stages), those of a task about 1 MiB: the second cache of a core.
pub(crate) const KEYS: usize = 32;

/// Rows whose entries a task of keys holds at a time: 1024 entries with the keys.
pub(crate) const ROWS: usize = 32;

/// Terms that are added to sums at a time.
pub(crate) const TERMS: usize = 64;
