//! The tests of one invocation, each with the logarithm of its p-value, and the level at which each of them fails.

/// The share of false alarms of all tests of one invocation.
pub(super) const FALSE_ALARM: f64 = 1e-9;

/// Half of the budget goes to a handful of tests of what is hardest to see, a quarter to those aimed at other known bugs, a
/// quarter to the many of single entries and pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// One of a handful.
    First,
    /// One of a few.
    Aimed,
    /// One of many.
    Single,
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    pub what: String,
    pub kind: Kind,
    /// `ln` of its p-value, at most.
    pub log_p: f64,
    pub found: f64,
    pub expected: f64,
    pub deviation: f64,
}

/// All tests of an invocation: those that are small are kept, the others are counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Tests {
    pub first: usize,
    pub aimed: usize,
    pub single: usize,
    pub kept: Vec<Test>,
}

/// Tests above this `ln p` are counted and forgotten: `e^-18` is above every level.
const SMALL: f64 = -18.0;

impl Tests {
    /// Counts a test, and keeps it if it is small.
    pub(super) fn add(&mut self, kind: Kind, log_p: f64, of: impl FnOnce() -> (String, [f64; 3])) {
        match kind {
            Kind::First => self.first += 1,
            Kind::Aimed => self.aimed += 1,
            Kind::Single => self.single += 1,
        }
        if log_p < SMALL || log_p.is_nan() {
            let (what, [found, expected, deviation]) = of();
            self.kept.push(Test { what, kind, log_p, found, expected, deviation });
        }
    }

    /// Counts tests that need not be looked at.
    pub(super) fn skip(&mut self, count: usize) {
        self.single += count;
    }

    /// `ln` of the level of a test of this kind.
    pub(super) fn level(&self, kind: Kind) -> f64 {
        let (share, count) = match kind {
            Kind::First => (0.5, self.first),
            Kind::Aimed => (0.25, self.aimed),
            Kind::Single => (0.25, self.single),
        };
        libm::log(FALSE_ALARM * share / count.max(1) as f64)
    }

    /// The tests that fail, the most certain first.
    pub(super) fn failed(&self) -> Vec<&Test> {
        let mut failed: Vec<&Test> =
            self.kept.iter().filter(|test| test.log_p < self.level(test.kind)).collect();
        failed.sort_by(|a, b| a.kind.cmp(&b.kind).then(a.log_p.total_cmp(&b.log_p)));
        failed
    }
}
