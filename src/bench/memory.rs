//! Peak memory of a stretch of the program, as its allocator counts it.

/// An allocator that counts the bytes that are asked of it, in all threads.
///
/// Resident memory does not serve: an allocator keeps what was freed, and hands it out again without a trace.
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
