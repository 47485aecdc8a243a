//! Why a candidate fails, and where: causes that are read off its deviation.
//!
//! A [`Verdict`] says that a result is wrong. [`explain`] looks for what makes it right: a relation to the truth (a factor, another
//! tensor, rows or axes in another order), other settings, an operand that is read from elsewhere, other weights, entries that are
//! lost or added twice, a known bug of the gallery, or two of these. A supposition is the cause if nothing but roundings is left of
//! the deviation (module `fit`); several results may have several causes. Where the wrong elements are is always said.
//!
//! Everything is computed in `f64` at a sample of rows and keys first, and on the whole result for the best suppositions alone.

mod assessment;
mod cause;
pub mod cost;
pub mod coverage;
mod entries;
mod evidence;
mod fit;
mod gallery;
mod kernel;
mod maps;
mod numbers;
mod operands;
mod other_recipes;
mod part;
mod places;
mod relations;
mod roundings;
mod search;
mod settings;
mod supposition;
mod weights;
mod words;

pub use assessment::{Assessment, Request, assess};
pub use cause::{Cause, Explanation, Kind, Place};
pub use part::{PartRequest, assess_part};

use evidence::Evidence;
use kernel::Machine;
use search::{Search, Tier};
use sus_files::TensorFile;
use sus_reference::TensorName;
use sus_verdict::{Judge, Outcome, Verdict};

/// Explains a verdict that fails; `None` if no result failed that can be compared.
///
/// `candidate` is that of the verdict, one run or several; of several, the run that the verdict shows is explained.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_files::Settings;
/// use sus_files::gradient_file::{Stored, to_tensors};
/// use sus_files::tensor_file::Numbers;
/// use sus_reference::evaluation::evaluate;
/// use sus_verdict::{Case, Judge};
/// let case = Case::new(sus_corpus::named("primes").unwrap().problem, Settings::default());
/// let judge = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build()?;
/// let gradients = evaluate::<f32>(&case.problem, None, None)?;
/// let mut candidate = to_tensors(&gradients, &case.settings, Stored::F32)?;
/// let Numbers::Float(dq) = &mut candidate.arrays.get_mut("dq").unwrap().numbers else { unreachable!() };
/// dq.iter_mut().for_each(|x| *x *= 2.0);
/// let why = sus_explain::explain(&judge, &judge.check(&candidate), &candidate).unwrap();
/// assert_eq!(why.causes[0].text, "dq is 2.000000 (2) times the truth");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn explain(judge: &Judge, verdict: &Verdict, candidate: &TensorFile) -> Option<Explanation> {
    if verdict.outcome != Outcome::Fail {
        return None;
    }
    let shown = judge.shown_run(candidate, verdict);
    let evidence = Evidence::new(judge, verdict, &shown)?;
    let mut causes = empty_rows(judge, &evidence, &shown);
    let mut open = remaining(&evidence.failed(), &causes);
    for name in open.clone() {
        let output = evidence.output(name)?;
        causes.extend(relations::of_output(&evidence, output));
    }
    open = remaining(&open, &causes);
    // The passes of the search do not round P and dS to 8 bits: their results are no truth here.
    if !open.is_empty() && !judge.recipe().has_8_bits() {
        passes(&evidence, &shown, &mut causes);
        open = remaining(&evidence.failed(), &causes);
        gallery::name_known_bug(&evidence, &shown, &mut causes);
    }
    let places = evidence.outputs.iter().filter(|output| output.failed);
    let places = places.filter_map(|output| {
        Some(Place {
            tensor: output.name,
            text: places::place(&evidence, output)?,
            wrong: output.wrong.iter().filter(|&&wrong| wrong).count(),
            elements: output.wrong.len(),
        })
    });
    let right = evidence.outputs.iter().filter(|output| !output.failed);
    Some(Explanation {
        places: places.collect(),
        right: right.map(|output| output.name).collect(),
        unexplained: open,
        causes: words::joined(causes),
    })
}

/// The failed results without a cause.
fn remaining(failed: &[TensorName], causes: &[Cause]) -> Vec<TensorName> {
    let has = |name: &TensorName| causes.iter().any(|cause| cause.tensors.contains(name));
    failed.iter().copied().filter(|name| !has(name)).collect()
}

/// NaN in the rows that see no key.
fn empty_rows(judge: &Judge, evidence: &Evidence<'_>, shown: &TensorFile) -> Vec<Cause> {
    let failed = evidence.failed();
    let names: Vec<&str> = failed.iter().map(|name| name.as_str()).collect();
    let found = judge
        .draw()
        .is_none()
        .then(|| sus_mutants::diagnosis::nan_in_rows_without_keys(judge.problem(), shown, &names));
    let cause = |text| Cause {
        tensors: failed.clone(),
        kind: Kind::Content,
        text,
        is_cause: true,
        left_over_bound: 0.0,
        unexplained: 0.0,
        tied: Vec::new(),
    };
    found.flatten().map(cause).into_iter().collect()
}

/// Looks for causes among the passes of other kernels. Relations that were found already give way to a cause of all results.
fn passes(evidence: &Evidence<'_>, shown: &TensorFile, causes: &mut Vec<Cause>) {
    let machine = Machine::new(evidence);
    let failed = evidence.failed();
    let mut search = Search::new(evidence, &machine);
    let forward_failed = evidence.forward_failed();
    if search.is_faithful() {
        for stage in 0..4 {
            search.add(match stage {
                0 => settings::settings(evidence.problem, forward_failed),
                1 => weights::weights(&machine),
                2 => roundings::roundings(&machine),
                _ => operands::operands(&machine, forward_failed),
            });
            if let Some(cause) = search.best(&failed, Tier::Cause)
                && cause.tensors.len() == failed.len()
            {
                *causes = vec![cause];
                return;
            }
        }
        let mut open = remaining(&failed, causes);
        while let Some(cause) = search.best(&open, Tier::Cause) {
            causes.push(cause);
            open = remaining(&failed, causes);
        }
    }
    for name in remaining(&failed, causes) {
        let output = evidence.output(name).expect("a failed result");
        causes.extend(entries::of_output(evidence, &machine, output));
    }
    if causes.len() == 1 && remaining(&failed, causes).is_empty() {
        return;
    }
    // One known bug says more than several causes, or than one that leaves a part.
    if !forward_failed && let Some(cause) = gallery::known_bug(evidence, shown, &failed) {
        *causes = vec![cause];
        return;
    }
    let open = remaining(&failed, causes);
    // Of all results none was found.
    if (forward_failed || open != failed)
        && let Some(cause) = gallery::known_bug(evidence, shown, &open)
    {
        causes.push(cause);
    }
    if let Some(cause) = search.best(&failed, Tier::Most)
        && cause.tensors.len() == failed.len()
        && !remaining(&failed, causes).is_empty()
    {
        *causes = vec![cause];
        return;
    }
    while let Some(cause) = search.best(&remaining(&failed, causes), Tier::Most) {
        causes.push(cause);
    }
    while let Some(cause) = search.multiple(&remaining(&failed, causes)) {
        causes.push(cause);
    }
    for name in remaining(&failed, causes) {
        let cause = search.sum_of_two(name);
        causes.extend(cause);
    }
}
