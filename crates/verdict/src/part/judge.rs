//! The judgement of a part, unit by unit.

use super::candidate::of_key_head;
use super::document::Unit;
use super::elements::{ElementInput, judge_elements};
use super::selection::Selection;
use crate::{Case, Finding, Judge, Mode, Reference, Verdict};
use sus_bounds::{Progress, Recipe};
use sus_files::TensorFile;
use sus_reference::error::Error;

/// What is judged, and how.
#[derive(Clone, Copy)]
pub struct PartInput<'a> {
    /// The whole case.
    pub case: &'a Case,
    /// The whole candidate.
    pub candidate: &'a TensorFile,
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The mode.
    pub mode: Mode,
    /// How the reference is computed.
    pub reference: Reference,
    /// Whether runs have to agree in every bit.
    pub bitwise: bool,
    /// What is judged.
    pub selection: &'a Selection,
    /// What explains a unit of whole heads that fails, in words.
    pub explain: &'a dyn Fn(&Judge, &Verdict, &TensorFile) -> Option<String>,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
}

/// Judges a part.
///
/// # Errors
/// [`Error::Option`] if nothing is selected, or what is selected is not in the problem or cannot be judged in part; those of the draw
/// and of the reference.
pub fn judge(input: &PartInput<'_>) -> Result<Vec<Unit>, Error> {
    let PartInput { case, candidate, selection, mode, .. } = *input;
    let key_heads = selection.key_heads(&case.problem.sizes())?;
    if !selection.is_of_heads() {
        let only = "with rows, keys or a sample of them";
        if case.draw()?.is_some() {
            let expected =
                format!("the dense pass {only}; a sampled pass is judged by whole heads");
            return Err(Error::option("pass", expected, "sus"));
        }
        if mode == Mode::Given {
            return Err(Error::option("mode", format!("exact {only}"), "given"));
        }
        if input.recipe.has_8_bits() {
            let expected =
                format!("one without P and dS of 8 bits {only}; those are judged by whole heads");
            return Err(Error::option("recipe", expected, &input.recipe.name));
        }
        if let Some(runs) = crate::candidate::run_count(&case.problem, candidate) {
            return Err(Error::option(
                "runs",
                format!("one run without an axis of runs {only}"),
                runs,
            ));
        }
    }
    let units: Vec<Unit> =
        key_heads.into_iter().map(|key_head| unit(input, key_head)).collect::<Result<_, _>>()?;
    if units.iter().all(Unit::judges_nothing) {
        let expected = "at least one element of a result that is judged";
        return Err(Error::option("part", expected, "none in these heads, rows and keys"));
    }
    Ok(units)
}

fn unit(input: &PartInput<'_>, key_head: usize) -> Result<Unit, Error> {
    let PartInput { case, candidate, recipe, mode, reference, selection, progress, .. } = *input;
    let cut = of_key_head(&case.problem, candidate, key_head)?;
    let problem = case.problem.key_heads(key_head..key_head + 1)?;
    let mut diagnosis = None;
    let mut verdict = if selection.is_of_heads() {
        let case = Case { problem, ..case.clone() };
        let judge = Judge::builder(&case, recipe)
            .mode(mode)
            .reference(reference)
            .bitwise_repeat(input.bitwise)
            .progress(progress)
            .build()?;
        progress.stage("verdict", 0);
        let verdict = judge.check_with_progress(&cut.file, progress);
        if verdict.outcome == crate::Outcome::Fail {
            progress.stage("diagnosis", 0);
            diagnosis = (input.explain)(&judge, &verdict, &cut.file);
        }
        verdict
    } else {
        let only = case.settings.gradients.as_deref();
        judge_elements(&ElementInput {
            problem: &problem,
            candidate: &cut.file,
            recipe,
            reference,
            only,
            without: &cut.without,
            selection,
            progress,
        })?
    };
    // What was taken out of the candidate is not missing.
    let taken = |tensor: &str| cut.without.contains(&tensor);
    verdict.findings.retain(|of| !(of.rule == crate::Criterion::Missing && taken(&of.tensor)));
    verdict.notes.retain(|note| !note.split_once(':').is_some_and(|(name, _)| taken(name)));
    verdict.findings.extend(cut.verdict.findings);
    verdict.notes.extend(cut.verdict.notes);
    let worst = verdict.findings.iter().map(|finding: &Finding| finding.outcome).max();
    verdict.outcome = worst.unwrap_or_default();
    Ok(Unit::new(&case.problem, key_head, selection, &verdict, diagnosis))
}
