//! The known bugs of the gallery.

use crate::cause::{Cause, Kind};
use crate::evidence::{Evidence, is_forward};
use sus_files::TensorFile;
use sus_mutants::diagnosis::diagnose;
use sus_reference::TensorName;

/// Products of a pass up to which the kernels of the gallery run: they take as long as a hundred passes.
const LARGEST: u64 = 1 << 24;

/// Products up to which they run to name the public bug of a cause that is known already.
const LARGEST_TO_NAME: u64 = 1 << 21;

/// The products of one pass.
fn products(evidence: &Evidence<'_>) -> u64 {
    let sizes = evidence.problem.sizes();
    let rows = evidence.problem.row_count() as u64;
    rows * sizes.keys as u64 * (sizes.features + sizes.value_features) as u64
}

/// The known bug that explains all of these results.
pub(crate) fn known_bug(
    evidence: &Evidence<'_>,
    shown: &TensorFile,
    open: &[TensorName],
) -> Option<Cause> {
    // Their forward passes are right.
    let open: Vec<TensorName> = open.iter().copied().filter(|&name| !is_forward(name)).collect();
    if open.is_empty() || products(evidence) > LARGEST {
        return None;
    }
    let failed: Vec<&str> = open.iter().map(|name| name.as_str()).collect();
    let found = diagnose(evidence.problem, evidence.draw, shown, &failed)?;
    let unexplained = found.outputs.iter().map(|fit| fit.unexplained).fold(0.0, f64::max);
    Some(Cause {
        tensors: open,
        kind: Kind::KnownBug,
        text: found.to_string(),
        is_cause: false,
        left_over_bound: f64::NAN,
        unexplained,
        tied: Vec::new(),
    })
}

/// Adds the known bug that gives the same numbers as a cause of all results, if one does.
pub(crate) fn name_known_bug(evidence: &Evidence<'_>, shown: &TensorFile, causes: &mut [Cause]) {
    let failed = evidence.failed();
    let [cause] = causes else { return };
    let is_small = products(evidence) <= LARGEST_TO_NAME;
    if is_small
        && cause.tensors == failed
        && matches!(cause.kind, Kind::Setting | Kind::Operand | Kind::Weights)
        && let Some(known) = known_bug(evidence, shown, &failed)
    {
        cause.tied.insert(0, format!("the known bug {}", known.text));
    }
}
