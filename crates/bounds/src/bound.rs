//! The bounds of the elements of one tensor and of all results.

use super::stage::Stage;
use super::sums::ElementError;

/// The bounds of one tensor, in the order of its elements.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bound {
    /// The bound that a right kernel does not exceed: by stage the smaller of the worst case and of a limit that independent
    /// roundings exceed with the stated probability.
    pub threshold: Vec<f64>,
    /// The worst case.
    pub worst_case: Vec<f64>,
    /// The share of each stage in the threshold.
    pub stages: Vec<[f32; Stage::COUNT]>,
}

/// The bounds of all results of a problem.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bounds {
    /// Of `o`.
    pub o: Bound,
    /// Of `lse`.
    pub lse: Bound,
    /// Of `dq`.
    pub dq: Bound,
    /// Of `dk`.
    pub dk: Bound,
    /// Of `dv`.
    pub dv: Bound,
    /// Of `dbias`, if there is a bias.
    pub dbias: Option<Bound>,
    /// Of `dsink`, if there is a sink.
    pub dsink: Option<Bound>,
    /// Of `dslopes`, if there are slopes.
    pub dslopes: Option<Bound>,
    /// Of `dkv`, if the values are a part of the keys.
    pub dkv: Option<Bound>,
    /// The factor of the random part.
    pub lambda: f64,
}

impl Bound {
    pub(super) fn from_elements(elements: impl IntoIterator<Item = ElementError>) -> Self {
        let mut bound = Bound::default();
        for element in elements {
            bound.threshold.push(element.threshold);
            bound.worst_case.push(element.worst_case);
            bound.stages.push(element.shares());
        }
        bound
    }

    pub(super) fn extend(&mut self, other: Bound) {
        self.threshold.extend(other.threshold);
        self.worst_case.extend(other.worst_case);
        self.stages.extend(other.stages);
    }

    pub(super) fn concat(all: Vec<Bound>) -> Self {
        let mut bound = Bound::default();
        for other in all {
            bound.extend(other);
        }
        bound
    }
}
