//! The tests that a candidate can fail.

use serde::{Serialize, Serializer};

/// The tests that a candidate can fail; `docs/verdict.md` has a table of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Criterion {
    /// A required tensor is missing.
    Missing,
    /// The case has no such tensor.
    Extra,
    /// The shape differs.
    Shape,
    /// The type is no floating-point type.
    Dtype,
    /// A NaN or an infinity stands where the reference is a number.
    NotANumber,
    /// The memory was never written.
    Unwritten,
    /// All elements are zero.
    Zero,
    /// All elements are equal.
    Constant,
    /// The error of an element is above its bound.
    Bound,
    /// A value is within its bound, but no right kernel rounds to it.
    Rounded,
    /// A sum over rows is within its bound, but does not follow from the `o` that the candidate stored.
    StoredO,
    /// The errors have a common sign.
    Mean,
    /// The errors grow with the reference, as a wrong factor makes them.
    Slope,
    /// The root mean square of the errors is too large.
    Rms,
    /// The errors of all gradients lie along the errors that a known bug makes.
    Direction,
    /// The runs of one kernel differ in a bit.
    Repeat,
    /// The bounds are too wide to decide.
    Vacuous,
    /// The mask keeps an entry that it must drop, or drops one that it must keep.
    Mask,
    /// The mask's values are wrong.
    Values,
    /// The counts of kept entries are wrong.
    Counts,
    /// Many runs do not follow the distribution of the estimator.
    Distribution,
    /// The candidate lacks tensors, runs or a seed that this mode needs.
    Unjudged,
}

impl Criterion {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Criterion::Missing => "missing",
            Criterion::Extra => "extra",
            Criterion::Shape => "shape",
            Criterion::Dtype => "dtype",
            Criterion::NotANumber => "not-a-number",
            Criterion::Unwritten => "unwritten",
            Criterion::Zero => "zero",
            Criterion::Constant => "constant",
            Criterion::Bound => "bound",
            Criterion::Rounded => "rounded",
            Criterion::StoredO => "stored-o",
            Criterion::Mean => "mean",
            Criterion::Slope => "slope",
            Criterion::Rms => "rms",
            Criterion::Direction => "direction",
            Criterion::Repeat => "repeat",
            Criterion::Vacuous => "vacuous",
            Criterion::Mask => "mask",
            Criterion::Values => "values",
            Criterion::Counts => "nnz",
            Criterion::Distribution => "law",
            Criterion::Unjudged => "unjudged",
        }
    }
}

impl Serialize for Criterion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
