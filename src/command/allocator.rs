//! The allocator of the command: the system's, which counts for the benchmark.

use peakmem_alloc::{PeakMemAlloc, PeakMemAllocTrait};
use std::alloc::System;
use sus_bench::Memory;

#[global_allocator]
static ALLOCATOR: PeakMemAlloc<System> = PeakMemAlloc::system();

/// What the command asks of its allocator.
pub(crate) struct Counted;

impl Memory for Counted {
    fn restart(&self) {
        ALLOCATOR.reset_peak_memory();
    }

    fn peak_bytes(&self) -> Option<u64> {
        Some(ALLOCATOR.get_peak_memory() as u64)
    }
}
