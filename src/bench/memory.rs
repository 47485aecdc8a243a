//! Peak memory of a stretch of the program, as Linux counts it; elsewhere unknown.

use std::fs;

/// The resident memory at the start of a stretch.
pub(super) struct Peak(Option<u64>);

impl Peak {
    /// Forgets the peak so far.
    pub(super) fn start() -> Self {
        let forgotten = fs::write("/proc/self/clear_refs", "5").is_ok();
        Peak(if forgotten { status("VmRSS:") } else { None })
    }

    /// The peak since the start, above what was there.
    pub(super) fn bytes(&self) -> Option<u64> {
        let (start, peak) = (self.0?, status("VmHWM:")?);
        Some(peak.saturating_sub(start))
    }
}

/// A line of the process's status, in bytes.
fn status(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
