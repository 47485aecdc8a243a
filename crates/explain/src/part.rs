//! The answer to a part of a candidate: its verdict, and what explains the heads that fail.

use crate::assessment::{Request, prepared};
use crate::{Explanation, explain};
use std::collections::BTreeSet;
use std::path::Path;
use sus_bounds::Progress;
use sus_files::{FileError, TensorFile};
use sus_verdict::part::document::{Header, Whole, candidate_digest, problem_digest};
use sus_verdict::part::{Document, PartInput, Selection, draw, judge};
use sus_verdict::{Case, Judge, Verdict};

/// Which part is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartRequest {
    /// The selected heads, rows and keys.
    pub selection: Selection,
    /// As many rows and keys are drawn where none are selected.
    pub sample: Option<usize>,
    /// The seed of that draw; `None` is the problem itself.
    pub sample_seed: Option<u64>,
    /// The command that computes the report again.
    pub command: String,
}

/// Judges a part of a candidate.
///
/// # Errors
/// As [`assess`](crate::assess), and if nothing is selected or what is selected is not in the problem.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use sus_bounds::Silent;
/// use sus_explain::{PartRequest, Request, assess_part};
/// use sus_files::Settings;
/// use sus_files::gradient_file::{Stored, to_tensors};
/// use sus_reference::evaluation::evaluate;
/// use sus_verdict::{Case, part::Selection};
/// let case = Case::new(sus_corpus::named("primes").unwrap().problem, Settings::default());
/// let candidate = to_tensors(&evaluate::<f32>(&case.problem, None, None)?, &case.settings, Stored::F32)?;
/// let rows = Selection { rows: Some(vec![0..2]), ..Selection::default() };
/// let part = PartRequest { selection: rows, ..PartRequest::default() };
/// let found = assess_part(case, &candidate, &Request::new(Path::new("mine")), &part, &Silent)?;
/// assert_eq!(found.exit_code(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn assess_part(
    case: Case,
    candidate: &TensorFile,
    request: &Request<'_>,
    part: &PartRequest,
    progress: &dyn Progress,
) -> Result<Document, FileError> {
    let (case, recipe, was_asked) = prepared(case, candidate, request)?;
    let digest = problem_digest(&case.problem, &case.settings);
    let mut selection = part.selection.clone();
    if let Some(count) = part.sample {
        selection = draw(selection, &case.problem.sizes(), count, &digest, part.sample_seed);
    }
    let of_heads = |judge: &Judge, verdict: &Verdict, file: &TensorFile| {
        explain(judge, verdict, file).map(|why| words(&why, judge))
    };
    let units = judge(&PartInput {
        case: &case,
        candidate,
        recipe: &recipe,
        mode: request.mode,
        reference: request.reference,
        bitwise: request.bitwise,
        selection: &selection,
        explain: &of_heads,
        progress,
    })
    .map_err(|e| FileError::new(Path::new(&case.label), e))?;
    let chosen = if was_asked { "as asked" } else { "by the candidate's dtype" };
    let header = Header {
        case: case.label.clone(),
        candidate: request.label.display().to_string(),
        recipe: format!("{} ({chosen})", recipe.name),
        mode: request.mode.name().to_owned(),
        pass: case.describe_pass(),
        commands: BTreeSet::from([part.command.clone()]),
        digests: [digest, candidate_digest(candidate)],
        of: Whole::of(&case.problem),
    };
    Ok(Document::new(header, units))
}

/// An explanation of one key head. It counts heads from the first one of that key head.
fn words(why: &Explanation, judge: &Judge) -> String {
    let places = why.whereabouts();
    let said = [why.why(), places].into_iter().filter(|it| !it.is_empty());
    let said = said.collect::<Vec<_>>().join(". ");
    let first = judge.problem().options().part.as_ref().map_or(0, |part| part.first_head);
    if first > 0 && said.contains("head") {
        format!("{said} (heads counted from head {first})")
    } else {
        said
    }
}
