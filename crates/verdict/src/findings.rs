//! A verdict and its findings.

use crate::{Criterion, DirectionResult, Outcome, Runs, TensorResult};
use serde::Serialize;
use sus_reference::quote;

/// One defect of a candidate, or one reason why it could not be judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The tensor.
    pub tensor: String,
    /// The rule.
    pub rule: Criterion,
    /// The outcome that it causes.
    pub outcome: Outcome,
    /// What was expected and what was found.
    pub message: String,
}

/// The judgement of one candidate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// The worst outcome of all findings.
    pub outcome: Outcome,
    /// The tensors that were compared, in the order `o, lse, dq, dk, dv, dbias, dsink`.
    pub tensors: Vec<TensorResult>,
    /// The errors of all gradients together, along the errors of known rounding bugs; empty if an element is above its bound.
    pub directions: Vec<DirectionResult>,
    /// The runs, if there are several and each is judged by itself; the tensors are those of one of them.
    pub runs: Option<Runs>,
    /// Everything that is wrong or could not be judged.
    pub findings: Vec<Finding>,
    /// Entries of the mask that a right kernel may keep or drop.
    pub ambiguous: usize,
    /// Remarks that do not change the outcome.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Adds a finding and its outcome.
    pub(crate) fn find(&mut self, mut finding: Finding) {
        self.outcome = self.outcome.max(finding.outcome);
        finding.tensor = quote::text(&finding.tensor).to_string();
        finding.message = quote::message(&finding.message).to_string();
        self.findings.push(finding);
    }

    /// A finding that fails the candidate.
    pub(crate) fn fail(&mut self, tensor: &str, rule: Criterion, message: impl Into<String>) {
        self.add(tensor, rule, Outcome::Fail, message);
    }

    /// A candidate that cannot be judged for lack of data.
    pub(crate) fn inconclusive(&mut self, tensor: &str, message: impl Into<String>) {
        self.add(tensor, Criterion::Unjudged, Outcome::Inconclusive, message);
    }

    /// A tensor that cannot be judged at this recipe or in this mode.
    pub(crate) fn refuse(&mut self, tensor: &str, rule: Criterion, message: impl Into<String>) {
        self.add(tensor, rule, Outcome::Refused, message);
    }

    fn add(&mut self, tensor: &str, rule: Criterion, outcome: Outcome, message: impl Into<String>) {
        let (tensor, message) = (tensor.to_owned(), message.into());
        self.find(Finding { tensor, rule, outcome, message });
    }
}
