//! One kernel on one case at one recipe.

use std::collections::BTreeMap;
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_verdict::{Criterion, Outcome};

/// What became of a kernel.
///
/// # Examples
/// ```
/// use sus_corpus as cases;
/// use sus_mutants::{kernels, matrix::Matrix, named};
/// let right = kernels().into_iter().filter(|kernel| !kernel.is_mutant);
/// let kernels = right.chain(named("delta_missing")).collect();
/// let matrix = Matrix::run(kernels, &[cases::named("primes").unwrap()], &["f32"])?;
/// use sus_verdict::Outcome;
/// let (_, cell) = matrix.row(named("delta_missing").unwrap()).next().unwrap();
/// assert!(cell.outcome == Outcome::Fail && cell.rule.is_some() && cell.used > 1.0);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Our verdict.
    pub outcome: Outcome,
    /// The first of the rules that led to it.
    pub rule: Option<Criterion>,
    /// The largest `|error| / bound`.
    pub used: f64,
    /// It changes some output by more than twice what the right kernels err there.
    pub visible: bool,
    /// Whether each rival rule passes it; `None` where the rule says nothing.
    pub rivals: Vec<Option<bool>>,
}

/// The outputs of a run by name.
///
/// # Examples
/// ```
/// use sus_mutants::matrix::{Outputs, ControlErrors};
/// let outputs = |x| Outputs([("dq", vec![x])].into());
/// assert!(ControlErrors::default().shows(&outputs(1.5), &outputs(1.0)));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs(pub BTreeMap<&'static str, Vec<f64>>);

/// The outputs that are compared.
pub(super) const NAMES: [&str; 7] = ["o", "lse", "dq", "dk", "dv", "dbias", "dsink"];

impl Outputs {
    /// The outputs in a file.
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Array, TensorFile};
    /// use sus_mutants::matrix::Outputs;
    /// let arrays = [("dq", 1), ("other", 2)].map(|(name, n)| (name.into(), Array::f64(&[n], vec![0.5; n])));
    /// let outputs = Outputs::of_file(&TensorFile { arrays: arrays.into(), metadata: None });
    /// assert_eq!(outputs.0, [("dq", vec![0.5])].into());
    /// ```
    #[must_use]
    pub fn of_file(file: &TensorFile) -> Self {
        let floats = |name: &'static str| match &file.arrays.get(name)?.numbers {
            Numbers::Float(data) => Some((name, data.clone())),
            _ => None,
        };
        Outputs(NAMES.into_iter().filter_map(floats).collect())
    }
}

/// What the right kernels of a column err at most, by output: in one element, and in the norm.
///
/// # Examples
/// ```
/// use sus_mutants::matrix::{Outputs, ControlErrors};
/// let outputs = |x| Outputs([("dq", vec![x])].into());
/// let mut right = ControlErrors::default();
/// right.include(&outputs(1.25), &outputs(1.0));
/// assert_ne!(right, ControlErrors::default());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ControlErrors(BTreeMap<&'static str, [f64; 2]>);

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
    /// Counts in one right kernel.
    ///
    /// # Examples
    /// ```
    /// use sus_mutants::matrix::{Outputs, ControlErrors};
    /// let outputs = |x| Outputs([("dq", vec![x])].into());
    /// let mut right = ControlErrors::default();
    /// right.include(&outputs(1.25), &outputs(1.0));
    /// let before = right.clone();
    /// right.include(&outputs(1.125), &outputs(1.0)); // a smaller error
    /// assert_eq!(right, before);
    /// ```
    pub fn include(&mut self, outputs: &Outputs, truth: &Outputs) {
        for (name, truth) in &truth.0 {
            let found = distance(&outputs.0[name], truth);
            let worst = self.0.entry(name).or_default();
            *worst = [worst[0].max(found[0]), worst[1].max(found[1])];
        }
    }

    /// Whether some output is off by more than twice as much.
    ///
    /// # Examples
    /// ```
    /// use sus_mutants::matrix::{Outputs, ControlErrors};
    /// let outputs = |x| Outputs([("dq", vec![x])].into());
    /// let mut right = ControlErrors::default();
    /// right.include(&outputs(1.25), &outputs(1.0));
    /// assert!(right.shows(&outputs(1.75), &outputs(1.0)));
    /// assert!(!right.shows(&outputs(1.5), &outputs(1.0))); // twice as much, not more
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
