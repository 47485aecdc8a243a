//! The limits of this crate, each with its reason.

/// Multiply-adds of one pass up to which an analysis runs in double-double arithmetic. One takes about 20 operations
/// there, so a pass stays far below a second.
pub(crate) const DOUBLE_DOUBLE_WORK: u64 = 1 << 18;

/// Visible entries of one query head up to which the optimum over the whole head is computed. It holds three `f64` of
/// every entry, twice while they are joined: 805 MB at this limit.
pub const HEAD_OPTIMUM_ENTRIES: usize = 1 << 24;

/// Rows whose entries are held together: as many as the fast kernels compute at a time.
pub(crate) const ROWS: usize = 6;

/// Budgets that one pass over the entries evaluates while `choose` searches: 16 points divide the interval by 17.
pub(crate) const BUDGETS_PER_PASS: usize = 16;

/// The smallest budget that `choose` tries, as a power of 2: below it a row keeps an entry in 2^24 draws.
pub(crate) const LEAST_EXPONENT: i32 = -24;

/// Powers of 2 that one pass tries: the first pass ends at 2^23, above the number of keys of any problem at hand.
pub(crate) const EXPONENTS_PER_PASS: i32 = 48;

/// Blocks of rows whose curves exist at the same time: 147 kB each.
pub(crate) const BLOCKS_TOGETHER: usize = 16;
