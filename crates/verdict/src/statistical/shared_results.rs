//! Results that are the same in every run: `o`, `lse`, `dsink`, and the gradients that no weight contributes to.

use super::StatisticalInput;
use super::model::{Model, for_each_part, slices};
use super::runs::{self, Runs};
use crate::candidate::{GRADIENTS, shape_of};
use crate::{Criterion, Verdict};
use sus_files::TensorFile;

/// `o`, `lse` and `dsink` do not depend on the mask: every run has the same reference.
pub(super) fn check(
    input: &StatisticalInput<'_>,
    count: usize,
    file: &TensorFile,
    verdict: &mut Verdict,
) {
    let none = sus_bounds::Bound::default();
    let bounds = input.bounds;
    let dsink = input.dense.dsink.as_deref().unwrap_or(&[]);
    let results = [
        ("o", input.saved.o.as_slice(), &bounds.o),
        ("lse", input.saved.lse.as_slice(), &bounds.lse),
        ("dsink", dsink, bounds.dsink.as_ref().unwrap_or(&none)),
    ];
    for (name, truth, bound) in results {
        let Some(shape) = shape_of(input.problem, name) else { continue };
        let Some(array) = file.arrays.get(name) else { continue };
        let single = array.shape == shape;
        let (runs, shape) = if single { (1, [&[1][..], &shape].concat()) } else { (count, shape) };
        let mut array = array.clone();
        let rest = if single {
            array.shape.insert(0, 1);
            &shape[1..]
        } else {
            &shape[..]
        };
        if name == "lse" && truth.contains(&f64::NEG_INFINITY) {
            verdict.notes.push("lse: has rows that see nothing; not judged with many runs".into());
            continue;
        }
        let Some(data) = runs::floats(name, &array, runs, rest, verdict) else { continue };
        let length = truth.len().max(1);
        let wrong = |&at: &usize| {
            let n = at % length;
            (data[at] - truth[n]).abs() > bound.worst_case[n]
        };
        let wrong: Vec<usize> = (0..data.len()).filter(wrong).collect();
        if let Some(&at) = wrong.first() {
            let message = format!(
                "{} elements outside their bounds, the first in run {}: found {:e}, expected {:e}",
                wrong.len(),
                at / length,
                data[at],
                truth[at % length]
            );
            verdict.fail(name, Criterion::Bound, message);
        }
    }
}

/// The first element that is not zero though no weight contributes to it.
pub(super) fn outside(model: &Model<'_>, runs: &Runs<'_>) -> Option<String> {
    let bounds = slices(&model.bounds);
    let mut reached: Vec<Vec<bool>> = bounds.iter().map(|bound| vec![false; bound.len()]).collect();
    for row in &model.rows {
        for entry in &row.entries {
            for_each_part(model.problem, row.row, entry, |tensor, at, _| {
                reached[tensor][at] = true;
            });
        }
    }
    for (tensor, reached) in reached.iter().enumerate() {
        let data = runs.gradients[tensor];
        let wrong = |at: &usize| !reached[at % reached.len()] && data[*at] != 0.0;
        if let Some(at) = (0..data.len()).find(wrong) {
            let (run, at) = (at / reached.len(), at % reached.len());
            return Some(format!(
                "{} of run {run} is not zero at flat index {at}, which no weight reaches",
                GRADIENTS[tensor]
            ));
        }
    }
    None
}
