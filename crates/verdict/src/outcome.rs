//! The four outcomes of a verdict.

use serde::{Serialize, Serializer};

/// The outcome of a verdict. Of several the worst counts, which is the greatest.
///
/// # Examples
/// ```
/// use sus_verdict::Outcome;
/// let of_tensors = [Outcome::Pass, Outcome::Refused, Outcome::Inconclusive];
/// assert_eq!(of_tensors.into_iter().max(), Some(Outcome::Refused));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Outcome {
    /// Every test passed.
    #[default]
    Pass,
    /// Too little was given to decide.
    Inconclusive,
    /// The bounds are so wide that a made-up answer could pass.
    Refused,
    /// Something is wrong.
    Fail,
}

impl Outcome {
    /// The exit code of the command.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Outcome::Pass => 0,
            Outcome::Fail => 1,
            Outcome::Refused => 3,
            Outcome::Inconclusive => 4,
        }
    }

    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "PASS",
            Outcome::Fail => "FAIL",
            Outcome::Refused => "REFUSED",
            Outcome::Inconclusive => "INCONCLUSIVE",
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
