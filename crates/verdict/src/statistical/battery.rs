//! The tests of one invocation, each with the logarithm of its p-value, and the level at which each of them fails.

/// The share of false alarms of all tests of one invocation.
pub(super) const FALSE_ALARM: f64 = 1e-9;

/// The kinds of tests, the fewest and hardest to pass unseen first. Each kind has a share of the budget, its tests equal parts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlphaClass {
    /// What is hardest to see of what kernels do: uniforms of 8 bits.
    Main,
    /// One of a handful.
    First,
    /// One of a few.
    Aimed,
    /// One of many.
    Single,
}

/// The share of each kind. A part of 4e-10 fails 6.14 standard deviations off, one of 1e-14 7.7: what is hard to see gains more
/// than the others lose, as the bugs that those are for are tens of standard deviations off.
pub(super) const ALPHA_SHARES: [f64; 4] = [0.8, 0.1, 0.05, 0.05];

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    pub what: String,
    pub kind: AlphaClass,
    /// `ln` of its p-value, at most.
    pub log_p: f64,
    pub found: f64,
    pub expected: f64,
    pub deviation: f64,
}

/// All tests of an invocation: those that are small are kept, the others are counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Tests {
    pub counts: [usize; 4],
    pub kept: Vec<Test>,
}

/// Tests above this `ln p` are counted and forgotten: `e^-18` is above every level.
const SMALL: f64 = -18.0;

impl Tests {
    /// Counts a test, and keeps it if it is small.
    pub(super) fn add(
        &mut self,
        kind: AlphaClass,
        log_p: f64,
        of: impl FnOnce() -> (String, [f64; 3]),
    ) {
        self.counts[kind as usize] += 1;
        if log_p < SMALL || log_p.is_nan() {
            let (what, [found, expected, deviation]) = of();
            self.kept.push(Test { what, kind, log_p, found, expected, deviation });
        }
    }

    /// Adds the tests of another part.
    pub(super) fn append(&mut self, part: Tests) {
        self.counts.iter_mut().zip(part.counts).for_each(|(count, more)| *count += more);
        self.kept.extend(part.kept);
    }

    /// Counts tests that need not be looked at.
    pub(super) fn skip(&mut self, count: usize) {
        self.counts[AlphaClass::Single as usize] += count;
    }

    /// `ln` of the level of a test of this kind. What an invocation has no tests of leaves its share to the others.
    pub(super) fn level(&self, kind: AlphaClass) -> f64 {
        let used: f64 = ALPHA_SHARES
            .iter()
            .zip(self.counts)
            .filter(|(_, n)| *n > 0)
            .map(|(share, _)| share)
            .sum();
        let share = ALPHA_SHARES[kind as usize] / used.max(ALPHA_SHARES[kind as usize]);
        libm::log(FALSE_ALARM * share / self.counts[kind as usize].max(1) as f64)
    }

    /// The tests that fail, the most certain first.
    pub(super) fn failed(&self) -> Vec<&Test> {
        let mut failed: Vec<&Test> =
            self.kept.iter().filter(|test| test.log_p < self.level(test.kind)).collect();
        failed.sort_by(|a, b| a.kind.cmp(&b.kind).then(a.log_p.total_cmp(&b.log_p)));
        failed
    }
}
