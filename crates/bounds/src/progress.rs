//! The progress of a long computation.

/// Receives the progress of a long computation, from any of its threads.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use sus_bounds::{BoundsInput, Mode, Progress, Recipe, Truth, bounds_of, rows_of};
/// #[derive(Default)]
/// struct Counter { all: AtomicU64, done: AtomicU64 }
/// impl Progress for Counter {
///     fn stage(&self, _name: &'static str, work: u64) {
///         self.all.fetch_add(work, Ordering::Relaxed);
///     }
///     fn done(&self, work: u64) {
///         self.done.fetch_add(work, Ordering::Relaxed);
///     }
/// }
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let truth = Truth::exact(&problem)?;
/// let (recipe, saved, gradients) = (Recipe::built_in("f32").unwrap(), truth.saved(), truth.gradients(None));
/// let input = BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients);
/// let counter = Counter::default();
/// let (rows, of_rows, _) = rows_of(&input, &counter, |_, _| ());
/// bounds_of(&input, &counter, &rows, of_rows);
/// let (all, done) = (counter.all.into_inner(), counter.done.into_inner());
/// assert!(all > 0 && all == done);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub trait Progress: Sync {
    /// A stage begins, with the amount of its work in no particular unit; 0 if that is not known.
    fn stage(&self, name: &'static str, work: u64);
    /// This much of the work of the stage was done since the last call.
    fn done(&self, work: u64);
}

/// Ignores the progress.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &'static str, _: u64) {}
    fn done(&self, _: u64) {}
}
