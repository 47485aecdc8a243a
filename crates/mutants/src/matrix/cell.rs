//! One kernel on one case at one recipe.

use std::collections::BTreeMap;
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_reference::TensorName;
use sus_verdict::{Criterion, Outcome};

/// The verdict on a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Our verdict.
    pub outcome: Outcome,
    /// The first of the rules that led to it.
    pub rule: Option<Criterion>,
    /// The largest `|error| / bound`.
    pub used: f64,
    /// It changes some output by more than twice the error of the controls there.
    pub visible: bool,
    /// Whether each baseline tolerance passes it; `None` where the rule judges nothing.
    pub baselines: Vec<Option<bool>>,
}

/// The outputs of a run by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs(pub BTreeMap<TensorName, Vec<f64>>);

/// The outputs that are compared.
pub(super) const NAMES: [TensorName; 9] = [
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

impl Outputs {
    /// The outputs in a file.
    #[must_use]
    pub fn of_file(file: &TensorFile) -> Self {
        let floats = |name: TensorName| match &file.arrays.get(name.as_str())?.numbers {
            Numbers::Float(data) => Some((name, data.clone())),
            _ => None,
        };
        Outputs(NAMES.into_iter().filter_map(floats).collect())
    }
}

/// The largest error of the controls of a column, by output: in one element, and in the norm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ControlErrors(BTreeMap<TensorName, [f64; 2]>);

/// The largest difference of two outputs and the norm of all; infinite if a NaN meets a number.
fn distance(a: &[f64], b: &[f64]) -> [f64; 2] {
    let mut largest = 0.0_f64;
    let mut squares = 0.0_f64;
    for (a, b) in a.iter().zip(b).filter(|(a, b)| a != b) {
        let difference = if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
        largest = largest.max(difference);
        squares += difference * difference;
    }
    [largest, libm::sqrt(squares)]
}

impl ControlErrors {
    /// Counts in one control.
    pub fn include(&mut self, outputs: &Outputs, truth: &Outputs) {
        for (name, truth) in &truth.0 {
            let found = distance(&outputs.0[name], truth);
            let worst = self.0.entry(*name).or_default();
            *worst = [worst[0].max(found[0]), worst[1].max(found[1])];
        }
    }

    /// Whether some output is off by more than twice as much.
    ///
    /// # Examples
    /// ```
    /// use sus_mutants::matrix::{ControlErrors, Outputs};
    /// use sus_reference::TensorName;
    /// let outputs = |x| Outputs([(TensorName::Dq, vec![x])].into());
    /// let mut controls = ControlErrors::default();
    /// controls.include(&outputs(1.25), &outputs(1.0));
    /// assert!(controls.shows(&outputs(1.75), &outputs(1.0)));
    /// assert!(!controls.shows(&outputs(1.5), &outputs(1.0))); // twice as much, not more
    /// ```
    #[must_use]
    pub fn shows(&self, outputs: &Outputs, truth: &Outputs) -> bool {
        truth.0.iter().any(|(name, truth)| {
            let right = self.0.get(name).copied().unwrap_or_default();
            let found = distance(&outputs.0[name], truth);
            found[0] > 2.0 * right[0] || found[1] > 2.0 * right[1]
        })
    }
}
