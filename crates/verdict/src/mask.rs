//! A candidate's own mask: it is read, compared with the decisions of every right kernel, and turned into a sample.

use super::candidate::printable;
use super::mask_constraints::MaskConstraints;
use super::{Criterion, Verdict};
use sus_files::TensorFile;
use sus_files::tensor_file::{Array, Numbers};
use sus_reference::problem::Problem;
use sus_reference::sus::{Pattern, Sample};

/// The mask of a candidate.
pub(super) struct CandidateMask {
    pub pattern: Pattern,
    pub values: Option<Vec<f64>>,
}

/// Reads the mask of a candidate, if it has one. A mask that cannot be read becomes a finding.
pub(super) fn read(
    problem: &Problem<f64>,
    file: &TensorFile,
    verdict: &mut Verdict,
) -> Result<Option<CandidateMask>, ()> {
    let csr = ["mask/row_offsets", "mask/columns"].map(|name| file.arrays.get(name));
    let values = file.arrays.get("mask/values");
    let found = match (file.arrays.get("mask"), csr, values) {
        (None, [None, None], None) => return Ok(None),
        (Some(dense), [None, None], None) => dense_pattern(problem, dense).map(|p| (p, None)),
        (None, [Some(offsets), Some(columns)], values) => {
            csr_pattern(problem, offsets, columns, values)
        }
        (Some(_), ..) => Err("expected 'mask' or 'mask/...', found both".into()),
        (None, ..) => Err("expected 'mask/row_offsets' and 'mask/columns', found not both".into()),
    };
    match found {
        Ok((pattern, values)) => Ok(Some(CandidateMask { pattern, values })),
        Err(message) => {
            verdict.fail("mask", Criterion::Mask, message);
            Err(())
        }
    }
}

fn integers(name: &str, array: &Array) -> Result<Vec<i64>, String> {
    match &array.numbers {
        Numbers::Integer(data) => Ok(data.clone()),
        Numbers::Unsigned(data) => data
            .iter()
            .map(|&x| {
                i64::try_from(x).map_err(|_| format!("{name}: expected below 2^63, found {x}"))
            })
            .collect(),
        Numbers::Float(_) => Err(format!("{name}: expected integers, found {:?}", array.dtype)),
    }
}

fn dense_pattern(problem: &Problem<f64>, array: &Array) -> Result<Pattern, String> {
    let s = problem.sizes();
    let shape = [s.batch, s.query_heads, s.queries, s.keys];
    if array.shape != shape {
        return Err(format!("expected shape {shape:?}, found {:?}", array.shape));
    }
    let data = integers("mask", array)?;
    let (mut offsets, mut columns) = (vec![0], Vec::new());
    for row in 0..problem.row_count() {
        let row = &data[row * s.keys..(row + 1) * s.keys];
        columns.extend((0..s.keys).filter(|&j| row[j] != 0).map(|j| j as u32));
        offsets.push(columns.len());
    }
    Pattern::new(problem.row_count(), s.keys, offsets, columns).map_err(|e| e.to_string())
}

fn csr_pattern(
    problem: &Problem<f64>,
    offsets: &Array,
    columns: &Array,
    values: Option<&Array>,
) -> Result<(Pattern, Option<Vec<f64>>), String> {
    let index = |name: &str, x: i64| {
        usize::try_from(x).map_err(|_| format!("{name}: expected at least 0, found {x}"))
    };
    let offsets = integers("mask/row_offsets", offsets)?;
    let columns = integers("mask/columns", columns)?;
    let offsets: Result<Vec<usize>, _> =
        offsets.iter().map(|&x| index("mask/row_offsets", x)).collect();
    let columns: Result<Vec<u32>, String> = columns
        .iter()
        .map(|&x| u32::try_from(x).map_err(|_| format!("mask/columns: expected a key, found {x}")))
        .collect();
    let pattern = Pattern::new(problem.row_count(), problem.sizes().keys, offsets?, columns?)
        .map_err(|e| e.to_string())?;
    let values = match values {
        None => None,
        Some(Array { numbers: Numbers::Float(data), .. }) if data.len() == pattern.count() => {
            Some(data.clone())
        }
        Some(array) => {
            let n = pattern.count();
            let (dtype, shape) = (array.dtype, &array.shape);
            return Err(format!("mask/values: expected {n} floats, found {dtype:?} {shape:?}"));
        }
    };
    Ok((pattern, values))
}

/// Compares a mask with the decisions of every right kernel.
pub(super) fn check(
    problem: &Problem<f64>,
    pattern: &Pattern,
    constraints: &MaskConstraints,
    seed_known: bool,
    verdict: &mut Verdict,
) {
    let (mut missing, mut extra, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..problem.row_count() {
        let row = problem.row(at);
        let visible = problem.span(row);
        let kept = pattern.row(at);
        for &j in kept {
            if !visible.contains(&(j as usize)) || problem.hides(row, j as usize) {
                hidden.push((row, j));
            } else if seed_known
                && constraints.must_keep[at].binary_search(&j).is_err()
                && constraints.ambiguous[at].binary_search(&j).is_err()
            {
                extra.push((row, j));
            }
        }
        if seed_known {
            let lost = constraints.must_keep[at].iter().filter(|j| kept.binary_search(j).is_err());
            missing.extend(lost.map(|&j| (row, j)));
        }
    }
    let kinds = [
        (hidden, "entries are kept that the mask of the problem hides"),
        (missing, "entries are dropped that every right kernel keeps"),
        (extra, "entries are kept that every right kernel drops"),
    ];
    for (entries, what) in kinds {
        if let Some((row, j)) = entries.first() {
            let at = [row.b, row.h, row.i, *j as usize];
            let message = format!("{} {what}, the first at {at:?}", entries.len());
            verdict.fail("mask", Criterion::Mask, message);
        }
    }
}

/// Compares the values of a mask with `max(W, 1 / lambda)`, within their bounds.
pub(super) fn check_values(expected: &[(f64, f64)], found: &[f64], verdict: &mut Verdict) {
    let wrong = |&at: &usize| {
        let (value, bound) = expected[at];
        let error = (found[at] - value).abs();
        error.is_nan() || error > bound
    };
    let wrong: Vec<usize> = (0..expected.len()).filter(wrong).collect();
    if let Some(&at) = wrong.first() {
        let (value, bound) = expected[at];
        let message = format!(
            "{} of {} values outside their bounds, the first at {at}: expected {value:e} within {bound:.2e}, found {:e}",
            wrong.len(),
            expected.len(),
            found[at]
        );
        verdict.fail("mask/values", Criterion::Values, message);
    }
}

/// Compares the candidate's `nnz` with the counts of its mask.
pub(super) fn check_counts(
    problem: &Problem<f64>,
    array: &Array,
    counts: &[(usize, usize)],
    verdict: &mut Verdict,
) {
    let s = problem.sizes();
    let shape = [s.batch, s.query_heads, s.queries];
    if array.shape != shape {
        let message = format!("expected shape {shape:?}, found {:?}", array.shape);
        verdict.fail("nnz", Criterion::Shape, message);
        return;
    }
    let found: Vec<f64> = match &array.numbers {
        Numbers::Float(data) => data.clone(),
        Numbers::Integer(data) => data.iter().map(|&x| x as f64).collect(),
        Numbers::Unsigned(data) => data.iter().map(|&x| x as f64).collect(),
    };
    let legal = |at: usize| {
        let (least, most) = counts[at];
        (least as f64..=most as f64).contains(&found[at])
    };
    let wrong: Vec<usize> = (0..found.len()).filter(|&at| !legal(at)).collect();
    if let Some(&at) = wrong.first() {
        let row = problem.row(at);
        let (least, most) = counts[at];
        let message = format!(
            "{} rows with another count than the mask, the first at {:?}: expected {least} to {most}, found {}",
            wrong.len(),
            [row.b, row.h, row.i],
            printable(&found[at].to_string())
        );
        verdict.fail("nnz", Criterion::Counts, message);
    }
}

/// The sample of a candidate's mask, without the entries that the problem hides.
pub(super) fn sample(problem: &Problem<f64>, pattern: &Pattern, lambda: &[f64]) -> Sample {
    let (mut offsets, mut columns) = (vec![0], Vec::new());
    for at in 0..problem.row_count() {
        let row = problem.row(at);
        let visible = problem.span(row);
        let seen = |j: usize| visible.contains(&j) && !problem.hides(row, j);
        columns.extend(pattern.row(at).iter().filter(|&&j| seen(j as usize)));
        offsets.push(columns.len());
    }
    let keys = problem.sizes().keys;
    let pattern = Pattern::new(problem.row_count(), keys, offsets, columns)
        .expect("a part of a legal pattern is one");
    Sample { pattern, lambda: lambda.to_vec(), expected: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::check_values;
    use crate::{Outcome, Verdict};

    #[test]
    fn a_value_passes_up_to_its_bound() {
        for (found, outcome) in
            [(0.25, Outcome::Pass), (0.2599, Outcome::Pass), (0.2601, Outcome::Fail)]
        {
            let mut verdict = Verdict::default();
            check_values(&[(1.0, 0.0), (0.25, 0.01)], &[1.0, found], &mut verdict);
            assert_eq!(verdict.outcome, outcome, "{found}");
        }
        let mut verdict = Verdict::default();
        check_values(&[(0.25, 0.01)], &[f64::NAN], &mut verdict);
        assert_eq!(verdict.outcome, Outcome::Fail);
    }
}
