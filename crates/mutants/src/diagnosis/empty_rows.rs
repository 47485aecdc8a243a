//! NaN in the rows of queries that see no key: the softmax of such a row is 0/0 in a kernel that does not ask for it.

use super::{VISIBLE, floats};
use std::fmt::Write;
use sus_fast::{Workspace, backward, forward};
use sus_files::TensorFile;
use sus_reference::TensorName;
use sus_reference::problem::Problem;

/// A sentence if exactly the rows that see no key are NaN in `dq` and `o`, as far as they failed, and all other numbers are right.
///
/// Several bugs leave this pattern, so it names no known one. A wrong `lse` is another bug: then nothing is said.
#[must_use]
pub fn nan_in_rows_without_keys(
    problem: &Problem<f64>,
    candidate: &TensorFile,
    deviates: &[&str],
) -> Option<String> {
    if deviates.contains(&"lse") {
        return None;
    }
    let rows = problem.row_count();
    let empty: Vec<bool> = (0..rows).map(|at| problem.visible_keys(problem.row(at)) == 0).collect();
    let count = empty.iter().filter(|&&empty| empty).count();
    let by_row: Vec<TensorName> = [TensorName::O, TensorName::Dq]
        .into_iter()
        .filter(|name| deviates.contains(&name.as_str()))
        .collect();
    if count == 0 || by_row.is_empty() {
        return None;
    }
    for &name in &by_row {
        let data = floats(candidate, name)?;
        let width = data.len() / rows;
        if width == 0 || data.len() % rows != 0 {
            return None;
        }
        let matches = data
            .chunks(width)
            .zip(&empty)
            .all(|(row, &empty)| row.iter().all(|x| x.is_nan() == empty));
        if !matches {
            return None;
        }
    }
    // All other numbers have to be right: else there is more to explain.
    let mut workspace = Workspace::default();
    let saved = forward(problem, &mut workspace);
    let (truth, _) = backward(problem, &saved, &mut workspace);
    let of_truth = |name: &str| match name {
        "o" => Some(saved.o.as_slice()),
        "dq" => Some(truth.dq.as_slice()),
        "dk" => Some(truth.dk.as_slice()),
        "dv" => Some(truth.dv.as_slice()),
        _ => None,
    };
    for &name in deviates {
        let (found, truth) = (floats(candidate, name.parse().ok()?)?, of_truth(name)?);
        let has_nan = found.iter().any(|x| x.is_nan());
        if !has_nan || found.len() != truth.len() || !is_right_where_finite(found, truth) {
            return None;
        }
    }
    let by_key: Vec<&str> = deviates
        .iter()
        .copied()
        .filter(|&name| !by_row.iter().any(|of| of.as_str() == name))
        .collect();
    let names = |names: &[&str]| names.join(", ");
    let by_row: Vec<&str> = by_row.iter().map(|name| name.as_str()).collect();
    let (verb, these) = if by_row.len() == 1 { ("is", "it") } else { ("are", "them") };
    let mut said = format!(
        "{} {verb} NaN in exactly the rows that see no key, {count} of {rows}: a softmax over no keys is 0/0, and rows that are never written may hold NaN; the reference has zeros there",
        names(&by_row)
    );
    if !by_key.is_empty() {
        let _ = write!(said, ". The NaN of {} may come from {these}", names(&by_key));
    }
    Some(said)
}

/// Whether the numbers that are no NaN differ from the truth by no more than a rounding bug does.
fn is_right_where_finite(found: &[f64], truth: &[f64]) -> bool {
    let pairs = || found.iter().zip(truth).filter(|(x, _)| !x.is_nan());
    let off: f64 = pairs().map(|(x, truth)| (x - truth) * (x - truth)).sum();
    let size: f64 = pairs().map(|(_, truth)| truth * truth).sum();
    off <= VISIBLE * VISIBLE * size
}
