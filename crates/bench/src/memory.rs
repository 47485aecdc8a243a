//! Peak memory of a stretch of the program, as its allocator counts it.

/// An allocator that counts the bytes that are asked of it, in all threads.
///
/// Resident memory does not serve: an allocator keeps what was freed, and hands it out again without a trace.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use sus_bench::Memory;
/// /// What an allocator that counts would tell.
/// #[derive(Default)]
/// struct Counted { now: AtomicU64, start: AtomicU64, peak: AtomicU64 }
/// impl Counted {
///     fn allocate(&self, bytes: u64) {
///         let now = self.now.fetch_add(bytes, Relaxed) + bytes;
///         self.peak.fetch_max(now, Relaxed);
///     }
/// }
/// impl Memory for Counted {
///     fn restart(&self) {
///         self.start.store(self.now.load(Relaxed), Relaxed);
///         self.peak.store(self.now.load(Relaxed), Relaxed);
///     }
///     fn peak_bytes(&self) -> Option<u64> {
///         Some(self.peak.load(Relaxed) - self.start.load(Relaxed))
///     }
/// }
/// let memory = Counted::default();
/// memory.allocate(100);
/// memory.restart(); // what is in use now does not count
/// assert_eq!(memory.peak_bytes(), Some(0));
/// memory.allocate(7);
/// assert_eq!(memory.peak_bytes(), Some(7));
/// ```
pub trait Memory {
    /// Begins to count from 0, with an empty peak.
    fn restart(&self);

    /// The largest number of bytes that were in use at once since the start, above what was in use then; `None` where
    /// nobody counts.
    fn peak_bytes(&self) -> Option<u64>;
}

/// Nobody counts.
#[derive(Debug, Clone, Copy)]
pub struct Uncounted;

impl Memory for Uncounted {
    fn restart(&self) {}

    fn peak_bytes(&self) -> Option<u64> {
        None
    }
}
