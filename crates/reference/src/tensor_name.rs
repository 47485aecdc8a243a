//! The names of the tensors, as files and reports have them.

use std::fmt;
use std::str::FromStr;

/// A tensor of the specification, by its name in files, reports and equations.
///
/// # Examples
/// ```
/// use sus_reference::TensorName;
/// assert_eq!("dq".parse(), Ok(TensorName::Dq));
/// assert!("grad_q".parse::<TensorName>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TensorName {
    /// `q`: queries.
    Q,
    /// `k`: keys.
    K,
    /// `v`: values.
    V,
    /// `do`: cotangent of `o`; `G` in the equations.
    Do,
    /// `dlse`: cotangent of `lse`.
    Dlse,
    /// `bias`: added to the scores.
    Bias,
    /// `sink`: a logit that carries no value.
    Sink,
    /// `o`: output of the forward pass.
    O,
    /// `lse`: natural logarithm of the softmax denominator.
    Lse,
    /// `dq`: gradient of the queries.
    Dq,
    /// `dk`: gradient of the keys.
    Dk,
    /// `dv`: gradient of the values.
    Dv,
    /// `dbias`: gradient of the bias.
    Dbias,
    /// `dsink`: gradient of the sinks.
    Dsink,
    /// `dslopes`: gradient of the slopes.
    Dslopes,
    /// `dkv`: gradient of keys whose first features are the values.
    Dkv,
}

impl TensorName {
    /// Every name: inputs, results of the forward pass, gradients.
    pub const ALL: [TensorName; 16] = [
        TensorName::Q,
        TensorName::K,
        TensorName::V,
        TensorName::Do,
        TensorName::Dlse,
        TensorName::Bias,
        TensorName::Sink,
        TensorName::O,
        TensorName::Lse,
        TensorName::Dq,
        TensorName::Dk,
        TensorName::Dv,
        TensorName::Dbias,
        TensorName::Dsink,
        TensorName::Dslopes,
        TensorName::Dkv,
    ];

    /// The gradients, in the order of reports.
    pub const GRADIENTS: [TensorName; 7] = [
        TensorName::Dq,
        TensorName::Dk,
        TensorName::Dv,
        TensorName::Dbias,
        TensorName::Dsink,
        TensorName::Dslopes,
        TensorName::Dkv,
    ];

    /// Whether it is a result of a pass: `o`, `lse` or a gradient.
    #[must_use]
    pub fn is_result(self) -> bool {
        matches!(self, TensorName::O | TensorName::Lse) || TensorName::GRADIENTS.contains(&self)
    }

    /// The name in files and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TensorName::Q => "q",
            TensorName::K => "k",
            TensorName::V => "v",
            TensorName::Do => "do",
            TensorName::Dlse => "dlse",
            TensorName::Bias => "bias",
            TensorName::Sink => "sink",
            TensorName::O => "o",
            TensorName::Lse => "lse",
            TensorName::Dq => "dq",
            TensorName::Dk => "dk",
            TensorName::Dv => "dv",
            TensorName::Dbias => "dbias",
            TensorName::Dsink => "dsink",
            TensorName::Dslopes => "dslopes",
            TensorName::Dkv => "dkv",
        }
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No tensor has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of a tensor ({}), found '{}'", TensorName::ALL.map(TensorName::as_str).join(", "), crate::quote::text(found))]
pub struct UnknownTensor {
    /// What was given.
    pub found: String,
}

impl FromStr for TensorName {
    type Err = UnknownTensor;
    fn from_str(name: &str) -> Result<Self, UnknownTensor> {
        let found = TensorName::ALL.into_iter().find(|tensor| tensor.as_str() == name);
        found.ok_or_else(|| UnknownTensor { found: name.to_owned() })
    }
}
