//! What is known about a failed candidate: its numbers, the truth and the bounds, and which results failed.

use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_reference::TensorName;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Pattern, Sample};
use sus_reference::tensor::Tensor;
use sus_verdict::{Judge, Mode, Outcome, TensorResult, Verdict};

use crate::kernel::{Kernel, Machine, Probe};

/// One result: the truth, the candidate's numbers and the bounds of a right kernel.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: TensorName,
    /// Four axes: `lse` has one feature, `dsink` one number for each head.
    pub(crate) shape: [usize; 4],
    pub(crate) truth: Vec<f64>,
    pub(crate) found: Vec<f64>,
    pub(crate) bound: Vec<f64>,
    /// Root mean square of the bounds over that of the truth.
    pub(crate) width: f64,
    /// Whether the verdict fails it.
    pub(crate) failed: bool,
    /// The elements outside their bounds.
    pub(crate) wrong: Vec<bool>,
}

/// A failed candidate.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) problem: &'a Problem<f64>,
    pub(crate) draw: Option<&'a Draw>,
    /// The forward pass that the gradients are judged by.
    pub(crate) saved: Saved<f64>,
    /// The mask that the gradients are judged by.
    pub(crate) sample: Option<Sample>,
    /// The results that can be compared.
    pub(crate) outputs: Vec<Output>,
}

impl<'a> Evidence<'a> {
    /// The evidence of a candidate of one run; `None` if nothing that can be compared failed.
    pub(crate) fn new(
        judge: &'a Judge,
        verdict: &Verdict,
        candidate: &TensorFile,
    ) -> Option<Evidence<'a>> {
        let problem = judge.problem();
        let saved = match judge.mode() {
            Mode::Exact => judge.saved().clone(),
            Mode::Given => stored_forward(problem, candidate)?,
        };
        let own = own_mask(problem, judge.drawn_mask(), candidate);
        let own_truth = own.is_some() || judge.mode() == Mode::Given;
        let sample = own.or_else(|| judge.drawn_mask().cloned());
        let mut evidence =
            Evidence { problem, draw: judge.draw(), saved, sample, outputs: Vec::new() };
        for result in &verdict.tensors {
            let name: TensorName = result.name.parse().ok()?;
            let found = floats(candidate, name)?.to_vec();
            let (truth, bound) = reference(judge, name)?;
            if found.len() == truth.len() {
                let shape = shape_of(problem, name)?;
                let output = Output::new(name, shape, (truth, found, bound), result);
                evidence.outputs.push(output);
            }
        }
        if own_truth {
            // The gradients follow from the candidate's own forward pass or mask.
            let machine = Machine::new(&evidence);
            let truth = machine.run(&Kernel::default(), &Probe::everything(&evidence));
            for (output, truth) in evidence.outputs.iter_mut().zip(truth) {
                if let (false, Some(truth)) = (is_forward(output.name), truth) {
                    output.truth = truth;
                }
            }
        }
        evidence.outputs.iter().any(|output| output.failed).then_some(evidence)
    }

    /// The results that failed.
    pub(crate) fn failed(&self) -> Vec<TensorName> {
        self.outputs.iter().filter(|output| output.failed).map(|output| output.name).collect()
    }

    /// One result.
    pub(crate) fn output(&self, name: TensorName) -> Option<&Output> {
        self.outputs.iter().find(|output| output.name == name)
    }

    /// Visible entries, or kept ones of a sampled pass.
    pub(crate) fn entries(&self) -> u64 {
        match &self.sample {
            Some(sample) => sample.pattern.count() as u64,
            None => sus_reference::evaluation::visible_count(self.problem),
        }
    }

    /// Whether the candidate's forward pass fails.
    pub(crate) fn forward_failed(&self) -> bool {
        self.outputs.iter().any(|output| output.failed && is_forward(output.name))
    }
}

impl Output {
    fn new(
        name: TensorName,
        shape: [usize; 4],
        (truth, found, bound): (Vec<f64>, Vec<f64>, Vec<f64>),
        result: &TensorResult,
    ) -> Self {
        let wrong = result.ratios.iter().map(|&ratio| ratio > 1.0 || ratio.is_nan()).collect();
        let width = if result.width.is_finite() { result.width } else { 1.0 };
        let failed = result.outcome == Outcome::Fail;
        Output { name, shape, truth, found, bound, width, failed, wrong }
    }
}

/// Whether a result is one of the forward pass.
pub(crate) fn is_forward(name: TensorName) -> bool {
    matches!(name, TensorName::O | TensorName::Lse)
}

fn floats(file: &TensorFile, name: TensorName) -> Option<&[f64]> {
    match &file.arrays.get(name.as_str())?.numbers {
        Numbers::Float(data) => Some(data),
        _ => None,
    }
}

/// The shape of a result with four axes.
pub(crate) fn shape_of(problem: &Problem<f64>, name: TensorName) -> Option<[usize; 4]> {
    let (s, inputs) = (problem.sizes(), problem.inputs());
    Some(match name {
        TensorName::O => inputs.g.shape(),
        TensorName::Lse => [s.batch, s.query_heads, s.queries, 1],
        TensorName::Dq => inputs.q.shape(),
        TensorName::Dk => inputs.k.shape(),
        TensorName::Dv => inputs.v.shape(),
        TensorName::Dbias => inputs.bias.as_ref()?.shape(),
        TensorName::Dsink => [1, inputs.sink.as_ref()?.len(), 1, 1],
        TensorName::Dslopes => [1, inputs.alibi_slopes.as_ref()?.as_slice().len(), 1, 1],
        TensorName::Dkv if problem.options().v_of_k => inputs.k.shape(),
        _ => return None,
    })
}

/// The truth of a result in mode exact, and its bounds.
fn reference(judge: &Judge, name: TensorName) -> Option<(Vec<f64>, Vec<f64>)> {
    let (gradients, bounds, saved) = (judge.gradients(), judge.bounds(), judge.saved());
    let of = |tensor: &Tensor<f64>| tensor.as_slice().to_vec();
    let (truth, bound) = match name {
        TensorName::O => (of(&saved.o), &bounds.o),
        TensorName::Lse => (of(&saved.lse), &bounds.lse),
        TensorName::Dq => (of(&gradients.dq), &bounds.dq),
        TensorName::Dk => (of(&gradients.dk), &bounds.dk),
        TensorName::Dv => (of(&gradients.dv), &bounds.dv),
        TensorName::Dbias => (of(gradients.dbias.as_ref()?), bounds.dbias.as_ref()?),
        TensorName::Dsink => (gradients.dsink.clone()?, bounds.dsink.as_ref()?),
        TensorName::Dslopes => (of(gradients.dslopes.as_ref()?), bounds.dslopes.as_ref()?),
        TensorName::Dkv => (of(gradients.dkv.as_ref()?), bounds.dkv.as_ref()?),
        _ => return None,
    };
    Some((truth, bound.threshold.clone()))
}

/// The forward pass that the candidate stored.
fn stored_forward(problem: &Problem<f64>, candidate: &TensorFile) -> Option<Saved<f64>> {
    let take = |name, label| {
        let shape = shape_of(problem, name)?;
        Tensor::new(label, shape, floats(candidate, name)?).ok()
    };
    Saved::given(problem, take(TensorName::O, "o")?, take(TensorName::Lse, "lse")?).ok()
}

/// The candidate's own mask as compressed rows.
fn own_mask(
    problem: &Problem<f64>,
    drawn: Option<&Sample>,
    candidate: &TensorFile,
) -> Option<Sample> {
    let integers = |name: &str| match &candidate.arrays.get(name)?.numbers {
        Numbers::Integer(data) => Some(data.clone()),
        _ => None,
    };
    let drawn = drawn?;
    let offsets = integers("mask/row_offsets")?.iter().map(|&n| n as usize).collect();
    let columns = integers("mask/columns")?.iter().map(|&j| j as u32).collect();
    let rows = problem.row_count();
    let pattern = Pattern::new(rows, problem.sizes().keys, offsets, columns).ok()?;
    (pattern != drawn.pattern).then(|| Sample { pattern, ..drawn.clone() })
}
