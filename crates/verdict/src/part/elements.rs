//! Some rows and some keys of a head, element by element.
//!
//! `o`, `lse` and `dq` of a row need its keys and nothing else: the selected rows are a problem of their own ([`Problem::queries`]).
//!
//! `dk` and `dv` of a key are sums over the rows that see it, `dv_j = sum_i W_ij G_i` and `dk_j = scale sum_i dS_ij q_i`, with `W_ij =
//! exp(s_ij - lse_i)` and `dS_ij = W_ij (dP_ij - delta_i + dlse_i)`: of each such row they need `lse_i` and `delta_i`, which are sums over
//! all of its keys. So one forward pass goes over all keys of these rows, and the backward pass over the selected keys alone
//! ([`Problem::keys`]). The errors of `lse_i` and `delta_i` are those of the row's own sums, as in a whole problem. No array has the
//! rows times the keys.

use super::candidate::take_indices;
use super::ranges::numbers;
use super::selection::Selection;
use crate::candidate::{float_numbers, refuse_extra, shape_of};
use crate::elements::compare;
use crate::expected::{Expected, Places};
use crate::judge::round_inputs;
use crate::limits::MAX_ENTRIES_OF_ROWS;
use crate::{Criterion, Reference, Verdict};
use sus_bounds::{
    Bound, BoundsInput, Mode, Progress, Recipe, has_row_envelopes, key_bounds, row_bounds, rows_of,
    summaries_by_norms, summaries_of,
};
use sus_files::TensorFile;
use sus_reference::TensorName;
use sus_reference::error::Error;
use sus_reference::evaluation::visible_count;
use sus_reference::problem::Problem;
use sus_reference::tensor::Tensor;

/// The gradients that a candidate has to hold.
const REQUIRED: [&str; 4] = ["dq", "dk", "dv", "dkv"];

/// One key head of a dense problem, and what of it is judged.
pub(super) struct ElementInput<'a> {
    pub(super) problem: &'a Problem<f64>,
    pub(super) candidate: &'a TensorFile,
    pub(super) recipe: &'a Recipe,
    pub(super) reference: Reference,
    pub(super) only: Option<&'a [TensorName]>,
    /// Results that have a finding already.
    pub(super) without: &'a [&'static str],
    pub(super) selection: &'a Selection,
    pub(super) progress: &'a dyn Progress,
}

/// Judges the selected rows and keys.
pub(super) fn judge_elements(input: &ElementInput<'_>) -> Result<Verdict, Error> {
    let mut verdict = Verdict::default();
    refuse_extra(input.problem, false, input.candidate, &mut verdict);
    let problem = round_inputs(input.problem, input.recipe)?;
    if problem != *input.problem {
        let format = input.recipe.input.name();
        verdict
            .notes
            .push(format!("the inputs were rounded to {format}, as the recipe reads them"));
    }
    if let Some(rows) = &input.selection.rows {
        of_rows(input, &problem.queries(&numbers(rows))?, &numbers(rows), &mut verdict)?;
    }
    if let Some(keys) = &input.selection.keys {
        of_keys(input, &problem, &numbers(keys), &mut verdict)?;
    }
    for name in ["dbias", "dsink", "dslopes"] {
        if input.candidate.arrays.contains_key(name) && shape_of(input.problem, name).is_some() {
            verdict
                .notes
                .push(format!("{name}: a sum over all rows, not judged in a part of them"));
        }
    }
    Ok(verdict)
}

/// `o`, `lse` and `dq` of a problem that has the selected rows.
fn of_rows(
    input: &ElementInput<'_>,
    problem: &Problem<f64>,
    rows: &[usize],
    verdict: &mut Verdict,
) -> Result<(), Error> {
    let ElementInput { recipe, reference, progress, .. } = *input;
    progress.stage("truth of the rows", 0);
    let (truth, _) = reference.exact(problem, recipe, None)?;
    let (saved, gradients) = (truth.saved(), truth.gradients(None));
    let of_rows = BoundsInput::dense(problem, recipe, Mode::Exact, &saved, &gradients);
    let (errors, made, _) = rows_of(&of_rows, progress, |_, _| ());
    let mut bounds = row_bounds(&of_rows, &errors, made);
    if let Some(own) = truth.reference_error_bounds(None) {
        let own = [own.saved.o, own.saved.lse, own.gradients.dq];
        widen(bounds.iter_mut().zip(own.iter().map(Tensor::as_slice)), verdict);
    }
    let values = [saved.o.as_slice(), saved.lse.as_slice(), gradients.dq.as_slice()];
    for ((name, values), bound) in ["o", "lse", "dq"].into_iter().zip(values).zip(&bounds) {
        compare_part(input, problem, (name, values, bound), rows, verdict)?;
    }
    Ok(())
}

/// `dk` and `dv` of some keys of a problem.
fn of_keys(
    input: &ElementInput<'_>,
    problem: &Problem<f64>,
    keys: &[usize],
    verdict: &mut Verdict,
) -> Result<(), Error> {
    let ElementInput { recipe, reference, progress, .. } = *input;
    let seeing = rows_that_see(problem, keys);
    let rows = problem.queries(&seeing)?;
    progress.stage(reference.describe(&rows, recipe), 0);
    let (truth, _) = reference.exact(&rows, recipe, None)?;
    let saved = truth.saved();
    let some = rows.keys(keys)?;
    let gradients = truth.gradients_of_keys(&some, None)?;
    let of_rows = BoundsInput::dense(&rows, recipe, Mode::Exact, &saved, &gradients);
    let by_norms = visible_count(&rows) > MAX_ENTRIES_OF_ROWS && has_row_envelopes(&rows, recipe);
    let errors = if by_norms {
        verdict.notes.push("the errors of lse and delta in the rows that see these keys are bounded by norms: the bounds of dk and dv are wider than in the whole problem".into());
        summaries_by_norms(&of_rows, progress)
    } else {
        summaries_of(&of_rows, progress)
    };
    let of_keys = BoundsInput { problem: &some, ..of_rows };
    let (dk, dv, dkv) = key_bounds(&of_keys, progress, &errors);
    let mut bounds = vec![("dk", gradients.dk.as_slice(), dk), ("dv", gradients.dv.as_slice(), dv)];
    bounds.extend(
        gradients.dkv.as_ref().zip(dkv).map(|(values, bound)| ("dkv", values.as_slice(), bound)),
    );
    if let Some(own) = truth.error_bounds_of_keys(&some, [None; 2]) {
        let of_dkv = own.gradients.dkv.as_ref().map_or(&[][..], |own| own.as_slice());
        let own = [own.gradients.dk.as_slice(), own.gradients.dv.as_slice(), of_dkv];
        widen(bounds.iter_mut().map(|(_, _, bound)| bound).zip(own), verdict);
    }
    for (name, values, bound) in &bounds {
        compare_part(input, &some, (name, values, bound), keys, verdict)?;
    }
    Ok(())
}

/// Adds the errors of the reference itself to the bounds.
fn widen<'a>(all: impl Iterator<Item = (&'a mut Bound, &'a [f64])>, verdict: &mut Verdict) {
    let share = all.map(|(bound, own)| bound.widen(own)).fold(0.0, f64::max);
    verdict.notes.push(format!(
        "the truth is computed in f64 by blocks; its own error, at most {share:.1e} of a bound, is part of the bounds"
    ));
}

/// The queries that see one of these keys, in any sequence, by their spans; the first one if none does.
fn rows_that_see(problem: &Problem<f64>, keys: &[usize]) -> Vec<usize> {
    let sizes = problem.sizes();
    let sees = |i: &usize| {
        (0..sizes.batch).any(|b| {
            let span = problem.mask().span(b, *i);
            let after = keys.partition_point(|&key| key < span.start);
            keys.get(after).is_some_and(|key| span.contains(key))
        })
    };
    let mut rows: Vec<usize> = (0..sizes.queries).filter(sees).collect();
    if rows.is_empty() && sizes.queries > 0 {
        rows.push(0);
    }
    rows
}

/// Compares a result of the part: `problem` has the elements at `positions` of axis 2 of the candidate's.
fn compare_part(
    input: &ElementInput<'_>,
    problem: &Problem<f64>,
    (name, reference, bound): (&'static str, &[f64], &Bound),
    positions: &[usize],
    verdict: &mut Verdict,
) -> Result<(), Error> {
    let Some(shape) = shape_of(problem, name) else { return Ok(()) };
    if let Some(index) =
        reference.iter().position(|x| x.is_nan() || name != "lse" && !x.is_finite())
    {
        let found = reference[index].to_string();
        return Err(Error::Overflow { tensor: name, index, found });
    }
    let asked = input.only.is_none_or(|only| only.iter().any(|it| it.as_str() == name));
    let found = input.candidate.arrays.get(name);
    match found {
        _ if input.without.contains(&name) => {}
        Some(_) if !asked => verdict.notes.push(format!("{name}: not asked for, not judged")),
        None if asked && (REQUIRED.contains(&name) || input.only.is_some()) => {
            let message = format!("expected shape {shape:?} in this part, found none");
            verdict.fail(name, Criterion::Missing, message);
        }
        None => verdict.notes.push(format!("{name}: not in the candidate, not judged")),
        Some(array) => {
            let part = take_indices(array, 2, positions);
            let Some(found) = float_numbers(name, &part, verdict) else { return Ok(()) };
            let expected = Expected {
                name,
                shape: &shape,
                reference,
                bound,
                limits: None,
                ranges: &[],
                head_rows: 1,
                places: Places::of(problem, name),
            };
            let result = compare(expected, found, verdict);
            verdict.tensors.push(result);
        }
    }
    Ok(())
}
