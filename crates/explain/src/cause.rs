//! What explains a failure, as data.

use serde::Serialize;
use sus_reference::TensorName;

/// The kind of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// The result is a simple function of the truth.
    Relation,
    /// The kernel has other settings.
    Setting,
    /// An operand is read in another order, or from elsewhere.
    Operand,
    /// Weights, `delta` or `dS` are computed otherwise.
    Weights,
    /// Numbers are kept with fewer bits than the recipe says.
    Rounding,
    /// Some entries take no part, or take part more than once.
    Entries,
    /// A known bug of the gallery.
    KnownBug,
    /// Nothing is known but the numbers of the results: NaN, zeros, a constant.
    Content,
    /// Several causes, added.
    Sum,
}

/// One cause, of one or several results.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// The results that it explains.
    #[serde(serialize_with = "names")]
    pub tensors: Vec<TensorName>,
    /// Its kind.
    pub kind: Kind,
    /// The cause in words, a sentence without a full stop.
    pub text: String,
    /// Whether nothing but roundings is left of the deviation.
    pub is_cause: bool,
    /// The largest part that is left of an element, over its bound.
    pub left_over_bound: f64,
    /// The norm of what is left over that of the deviation, both measured in bounds.
    pub unexplained: f64,
    /// Other causes that give the same numbers on this problem.
    pub tied: Vec<String>,
}

pub(crate) fn names<S: serde::Serializer>(
    tensors: &[TensorName],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tensors.iter().map(|name| name.as_str()))
}

/// Where a result is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Place {
    /// The result.
    #[serde(serialize_with = "name")]
    pub tensor: TensorName,
    /// The wrong elements in words.
    pub text: String,
    /// How many elements are outside their bounds.
    pub wrong: usize,
    /// Of how many.
    pub elements: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a field by reference")]
fn name<S: serde::Serializer>(tensor: &TensorName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(tensor.as_str())
}

/// Why a candidate failed, and where.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The causes, one or several that together explain the results.
    pub causes: Vec<Cause>,
    /// Where each failed result is wrong.
    pub places: Vec<Place>,
    /// The results that are right.
    #[serde(serialize_with = "names")]
    pub right: Vec<TensorName>,
    /// The failed results that no cause explains.
    #[serde(serialize_with = "names")]
    pub unexplained: Vec<TensorName>,
}
