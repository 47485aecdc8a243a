//! The sizes up to which each computation is made, and what is done beyond them.
//!
//! | limit | beyond it |
//! |---|---|
//! | [`LARGE`] | the reference is computed in `f64` by blocks, where that has an error bound |
//! | [`MAX_STOCHASTIC_OF_HEAD`], [`MAX_STOCHASTIC`] | runs are judged by projections |
//! | [`MAX_PAIRED`], [`MAX_COUNTED`], [`MAX_RUNS_OF_DEVIANCE`], [`MAX_ENUMERATED_OF_ROW`], [`MAX_ENUMERATED_MASKS`], [`MAX_CONVOLVED_ROWS`] | the test is left out; the others judge |
//! | [`MAX_RUNS_EACH`] | the command refuses to judge runs one by one |
//! | [`MAX_RUNS_TIMES_LAGS`] | fewer distances between runs are tested |
//! | [`MAX_ENTRIES_BY_STORED_O`] | a sample of the rows of `dq` is held against the candidate's own `o` |
//! | [`MAX_ROWS_KEPT`] | the errors of rows are computed again when `dq` is held against the candidate's own `o` |
//! | [`MAX_ENTRIES_OF_ROWS`] | the errors of rows that are not judged are bounded by norms, where a bound is derived |
//! | [`MAX_EXACT_TERMS`] | Bernstein's limit replaces the exact tail |
//!
//! No limit depends on the candidate's values, so none changes how often a right kernel fails.

/// Products of numbers, visible entries times `D + E`, above which the reference is computed by blocks: one head of 1024 queries
/// and keys with 64 features has as many, and takes double-double a few seconds.
pub const LARGE: u64 = 1 << 27;

/// Stochastic entries of one key head whose masks are recovered: the left inverse takes the cube of their number, `640^3 = 2.6e8`
/// products for each stage.
pub(crate) const MAX_STOCHASTIC_OF_HEAD: usize = 640;

/// Stochastic entries of a whole problem whose masks are recovered: each keeps a bit of every run and a test of its own.
pub(crate) const MAX_STOCHASTIC: usize = 4096;

/// Stochastic entries whose pairs are all tested, at nine distances between runs: `9 * 1100^2 = 1.1e7` tests.
pub(crate) const MAX_PAIRED: usize = 1100;

/// Stochastic entries of a group whose count has its exact distribution convolved: `4096^2 / 2 = 8.4e6` products.
pub(crate) const MAX_COUNTED: usize = 4096;

/// Runs up to which the mean of the exponential of a deviance is summed over all counts: 16,384 counts for each entry and both ends
/// of its probability.
pub(crate) const MAX_RUNS_OF_DEVIANCE: usize = 1 << 14;

/// Independent stochastic entries of a row whose masks are all enumerated: `2^8 = 256` masks.
pub(crate) const MAX_ENUMERATED_OF_ROW: usize = 8;

/// Masks of all rows together that are enumerated: the divergence has one degree of freedom for each, and sees less with more.
pub(crate) const MAX_ENUMERATED_MASKS: usize = 1 << 10;

/// Rows whose counts are convolved to the distribution of the count of all rows.
pub(crate) const MAX_CONVOLVED_ROWS: usize = 1024;

/// Runs times distances between runs at which streams that overlap are looked for: every distance up to 4096 runs, `2^24` products
/// for each entry.
pub(crate) const MAX_RUNS_TIMES_LAGS: usize = 1 << 24;

/// Terms of a projection whose exact tail sets the cut. The cut only decides how much is seen, and sums of more terms are so near
/// to normal that Bernstein's limit is as good.
pub(crate) const MAX_EXACT_TERMS: usize = 4096;

/// Visible entries up to which all rows of `dq` are held against the candidate's own `o`: eight heads of 1024 queries and keys. It costs
/// as much as the bounds of `dq`, for each way in which a kernel may round.
pub(crate) const MAX_ENTRIES_BY_STORED_O: u64 = 1 << 23;

/// Rows whose errors are kept for the comparison with the candidate's own `o`, some 400 bytes each: 25 MiB. Above, those of the rows
/// that are compared are computed once more.
pub(crate) const MAX_ROWS_KEPT: usize = 1 << 16;

/// Visible entries of the rows that see the selected keys, up to which the errors of these rows are computed entry by entry: a causal head
/// of 8192. Each takes some hundred nanoseconds; above, norms bound them.
pub(crate) const MAX_ENTRIES_OF_ROWS: u64 = 1 << 25;

/// Exponents above this are cut: `e^700 = 1e304` is still a number of `f64`, and any decision is open at such an error.
pub(crate) const MAX_LOG_ERROR: f64 = 700.0;

/// Numbers of runs that a power analysis searches: `2^40` runs take any kernel years.
pub(crate) const MAX_RUNS_SEARCHED: usize = 1 << 40;

/// Findings that a text report prints.
pub(crate) const MAX_FINDINGS_SHOWN: usize = 12;

/// Failed statistical tests that become findings; a note counts the others.
pub(crate) const MAX_TESTS_SHOWN: usize = 8;

/// Tensors that do not belong to the case and become findings of their own; one more finding counts the others.
pub(crate) const MAX_EXTRA_SHOWN: usize = 8;

/// Runs of one candidate that are judged one by one: each keeps a verdict of some kilobytes until all are there.
pub(crate) const MAX_RUNS_EACH: usize = 1 << 16;
