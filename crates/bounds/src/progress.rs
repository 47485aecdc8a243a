//! How far bounds are that take long to compute.

/// Hears how far a long computation is, from any of its threads.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use sus_corpus as cases;
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge, Progress, Reference};
/// #[derive(Default)]
/// struct Heard { all: AtomicU64, done: AtomicU64 }
/// impl Progress for Heard {
///     fn stage(&self, _name: &'static str, work: u64) {
///         self.all.fetch_add(work, Ordering::Relaxed);
///     }
///     fn done(&self, work: u64) {
///         self.done.fetch_add(work, Ordering::Relaxed);
///     }
/// }
/// let case = cases::named("primes").unwrap();
/// let case = Case::new(case.problem, case.settings);
/// let (heard, recipe) = (Heard::default(), Recipe::built_in("f32").unwrap());
/// sus_mutants::judge(&case, &recipe).progress(&heard).build()?;
/// let (all, done) = (heard.all.into_inner(), heard.done.into_inner());
/// assert!(all > 0 && all == done);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub trait Progress: Sync {
    /// A stage begins that is so much work, of no particular unit; 0 if that is not known.
    fn stage(&self, name: &'static str, work: u64);
    /// So much of the work of the stage is done, since the last call.
    fn done(&self, work: u64);
}

/// Says nothing.
///
/// # Examples
/// ```
/// use sus_corpus as cases;
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge, Silent, Reference};
/// let case = cases::named("primes").unwrap();
/// let (case, recipe) = (Case::new(case.problem, case.settings), Recipe::built_in("f32").unwrap());
/// let silent = sus_mutants::judge(&case, &recipe).build()?;
/// assert_eq!(silent.bounds(), sus_mutants::judge(&case, &recipe).build()?.bounds());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &'static str, _: u64) {}
    fn done(&self, _: u64) {}
}
