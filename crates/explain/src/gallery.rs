//! The known bugs of the gallery.

use crate::cause::{Cause, Kind};
use crate::evidence::{Evidence, is_forward};
use std::collections::BTreeMap;
use sus_files::{Settings, TensorFile};
use sus_mutants::diagnosis::diagnose;
use sus_reference::TensorName;
use sus_verdict::{Case, OneHead};

/// Products of a pass up to which the kernels of the gallery run: they take as long as a hundred passes. Of a larger dense problem
/// they run on the key head with most wrong elements, if that is small enough.
const LARGEST: u64 = 1 << 22;

/// Products up to which they run to name the public bug of a cause that is known already.
const LARGEST_TO_NAME: u64 = 1 << 21;

/// The products of one pass.
fn products(evidence: &Evidence<'_>) -> u64 {
    let sizes = evidence.problem.sizes();
    let rows = evidence.problem.row_count() as u64;
    rows * sizes.keys as u64 * (sizes.features + sizes.value_features) as u64
}

/// The key head with most wrong elements of these results, and its sequence.
fn worst_head(evidence: &Evidence<'_>, open: &[TensorName]) -> Option<(usize, usize)> {
    let key_heads = evidence.problem.sizes().key_heads;
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let by_head =
        |name: &&TensorName| matches!(name, TensorName::Dq | TensorName::Dk | TensorName::Dv);
    for output in open.iter().filter(by_head).filter_map(|&name| evidence.output(name)) {
        let group = output.shape[1] / key_heads;
        for at in (0..output.wrong.len()).filter(|&at| output.wrong[at]) {
            let [b, h, ..] = crate::maps::index(output.shape, at);
            *counts.entry((b, h / group)).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|&(_, count)| count).map(|(head, _)| head)
}

/// The known bug that explains all of these results.
pub(crate) fn known_bug(
    evidence: &Evidence<'_>,
    shown: &TensorFile,
    open: &[TensorName],
) -> Option<Cause> {
    // Their forward passes are right.
    let open: Vec<TensorName> = open.iter().copied().filter(|&name| !is_forward(name)).collect();
    if open.is_empty() {
        return None;
    }
    let failed: Vec<&str> = open.iter().map(|name| name.as_str()).collect();
    let found = if products(evidence) <= LARGEST {
        diagnose(evidence.problem, evidence.draw, shown, &failed)?
    } else {
        let sizes = evidence.problem.sizes();
        let heads = (sizes.batch * sizes.key_heads).max(1);
        if products(evidence) / heads as u64 > LARGEST || evidence.draw.is_some() {
            return None;
        }
        let (b, head) = worst_head(evidence, &open)?;
        let case = Case::new(evidence.problem.clone(), Settings::default());
        let cut = OneHead::cut(&case, shown, b, head)?;
        diagnose(&cut.case.problem, None, &cut.candidate, &failed)?
    };
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
    let is_small = products(evidence) <= LARGEST_TO_NAME && !evidence.forward_failed();
    if is_small
        && cause.tensors == failed
        && matches!(cause.kind, Kind::Setting | Kind::Operand | Kind::Weights)
        && let Some(known) = known_bug(evidence, shown, &failed)
    {
        cause.tied.insert(0, format!("the known bug {}", known.text));
    }
}
