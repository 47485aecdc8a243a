//! The tests of one invocation, each with the logarithm of its p-value, and their levels by a weighted Bonferroni correction
//! (docs/statistics.md, "False alarms").

/// The probability that any test of one invocation fails a right kernel, at most.
pub(super) const FALSE_ALARM: f64 = 1e-9;

/// The classes of the alpha allocation. Each class has a share of the false-alarm rate, and its tests equal parts of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlphaClass {
    /// Uniforms and thresholds of 8 bits: of the known bugs the hardest to detect.
    Main,
    /// One of dozens.
    First,
    /// One of hundreds.
    Aimed,
    /// One of up to millions.
    Single,
}

/// The share of each class. A level of 4e-10 is reached at 6.1 standard deviations, one of 1e-14 at 7.7: the first class gains more than
/// the others lose, as the bugs of the others are tens of standard deviations off.
pub(super) const ALPHA_SHARES: [f64; 4] = [0.8, 0.1, 0.05, 0.05];

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    pub what: String,
    pub class: AlphaClass,
    /// `ln` of its p-value, at most.
    pub log_p: f64,
    pub found: f64,
    pub expected: f64,
    pub deviation: f64,
}

/// All tests of an invocation: those with a small p-value are kept, the others are counted.
#[derive(Debug, Clone)]
pub(super) struct Tests {
    pub counts: [usize; 4],
    /// The share of the false-alarm rate that these runs have: that of their heads in the whole problem.
    pub of_whole: f64,
    pub kept: Vec<Test>,
}

/// Tests above this `ln p` are counted and not kept: `e^-18 = 1.5e-8` is above `1e-9`, the largest possible level.
const SMALL: f64 = -18.0;

impl Tests {
    /// None yet, of a problem that has this share of the whole.
    pub(super) fn of_share(of_whole: f64) -> Self {
        Tests { counts: [0; 4], of_whole, kept: Vec::new() }
    }

    /// Counts a test, and keeps it if its p-value is small.
    pub(super) fn add(
        &mut self,
        class: AlphaClass,
        log_p: f64,
        of: impl FnOnce() -> (String, [f64; 3]),
    ) {
        self.counts[class as usize] += 1;
        if log_p < SMALL || log_p.is_nan() {
            let (what, [found, expected, deviation]) = of();
            self.kept.push(Test { what, class, log_p, found, expected, deviation });
        }
    }

    /// Adds the tests of another part.
    pub(super) fn append(&mut self, part: Tests) {
        self.counts.iter_mut().zip(part.counts).for_each(|(count, more)| *count += more);
        self.kept.extend(part.kept);
    }

    /// Counts tests that cannot fail.
    pub(super) fn skip(&mut self, count: usize) {
        self.counts[AlphaClass::Single as usize] += count;
    }

    /// `ln` of the level of a test of this class. A class without tests leaves its share to the others.
    pub(super) fn level(&self, class: AlphaClass) -> f64 {
        let used: f64 = ALPHA_SHARES
            .iter()
            .zip(self.counts)
            .filter(|(_, n)| *n > 0)
            .map(|(share, _)| share)
            .sum();
        let share = ALPHA_SHARES[class as usize] / used.max(ALPHA_SHARES[class as usize]);
        // Weighted Bonferroni: a part of a problem has its share of the heads, whatever else is judged.
        libm::log(FALSE_ALARM * self.of_whole * share / self.counts[class as usize].max(1) as f64)
    }

    /// The tests that fail, by class and then by p-value.
    pub(super) fn failed(&self) -> Vec<&Test> {
        let mut failed: Vec<&Test> =
            self.kept.iter().filter(|test| test.log_p < self.level(test.class)).collect();
        failed.sort_by(|a, b| a.class.cmp(&b.class).then(a.log_p.total_cmp(&b.log_p)));
        failed
    }
}
