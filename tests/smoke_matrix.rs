//! The kill matrix on the committed fixtures: every named bug shows in a smoke case, and no right kernel fails there.

use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use sus_oracle::corpus::{self as corpus, Bug, NamedProblem};
use sus_oracle::fixtures::{Flag, Tier, build};
use sus_oracle::mutants::matrix::Matrix;
use sus_oracle::mutants::{Kernel, kernels, named};
use sus_oracle::verdict::Outcome;

/// Wrong kernels whose decisions differ by less than the errors of `f32`.
const SHOWN_IN_F64: [&str; 1] = ["uniform_as_float"];

/// Wrong kernels of the layout `arrival`, which no smoke case has: the kill matrix has one.
const SHOWN_IN_ARRIVAL: [&str; 2] = ["cells_share_points", "height_below_q"];

/// Cases without any entry: a kernel can go wrong there only by failing, or by leaving its results unwritten, and no
/// kernel of the gallery does that where sequences are not packed.
const CONDEMN_NOTHING: [&str; 2] = ["size_0_batch", "size_0_queries"];

/// Cases whose bounds at `flash-bf16` are too wide to certify anything: right kernels are refused there, not passed.
const REFUSED_IN_BF16: [&str; 2] = ["group_3_ramps", "head_ramps"];

/// The smoke cases, as the gallery takes them.
static CASES: LazyLock<Vec<NamedProblem>> = LazyLock::new(|| {
    let cases: Vec<_> = Tier::Smoke.cases().collect();
    cases
        .into_par_iter()
        .map(|case| {
            let built = build(case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            NamedProblem {
                name: &case.name,
                purpose: &case.purpose,
                problem: built.problem,
                settings: built.settings,
                draw: built.mask.map(|mask| mask.draw),
            }
        })
        .collect()
});

/// Every kernel on every smoke case.
static MATRIX: LazyLock<Matrix> = LazyLock::new(|| {
    Matrix::run(kernels(), &CASES, &["f32", "flash-bf16"]).expect("cases that can be judged")
});

/// The flags of each smoke case.
static FLAGS: LazyLock<Vec<(&'static str, Vec<Flag>)>> = LazyLock::new(|| {
    Tier::Smoke
        .cases()
        .map(|case| (case.name.as_str(), build(case).expect("a case").flags))
        .collect()
});

/// The smoke cases on which a kernel fails in `f32`, where it errs by no rounding of a 16-bit type; in `flash-bf16` if
/// that rounding is all that it does wrong, so that it does not run in `f32`.
fn condemned_in(kernel: &Kernel) -> BTreeSet<&'static str> {
    let in_recipe = |recipe: &'static str| {
        MATRIX.row(kernel).filter(move |(column, _)| column.recipe == recipe)
    };
    let recipe = if in_recipe("f32").next().is_some() { "f32" } else { "flash-bf16" };
    in_recipe(recipe)
        .filter(|(_, cell)| cell.outcome == Outcome::Fail)
        .map(|(column, _)| column.case)
        .collect()
}

#[test]
fn every_bug_of_the_corpus_that_is_copied_shows_in_a_smoke_case() {
    let hidden: Vec<_> = corpus::bugs()
        .iter()
        .filter(|bug| bug.not_copied.is_none())
        .filter(|bug| {
            let copies: Vec<_> = kernels()
                .into_iter()
                .filter(|kernel| kernel.is_mutant && kernel.bugs.contains(&bug.id.as_str()))
                .collect();
            !copies.is_empty() && copies.iter().all(|kernel| condemned_in(kernel).is_empty())
        })
        .map(|bug| bug.id.as_str())
        .collect();
    assert!(hidden.is_empty(), "bugs in no smoke case: {hidden:?}");
}

#[test]
fn every_wrong_kernel_fails_on_some_smoke_case_but_for_those_that_f32_cannot_tell() {
    let hidden: Vec<_> = kernels()
        .into_iter()
        .filter(|kernel| kernel.is_mutant && kernel.indistinguishable().is_none())
        .filter(|kernel| condemned_in(kernel).is_empty())
        .map(|kernel| kernel.name)
        .collect();
    let (arrival, others): (Vec<_>, Vec<_>) =
        hidden.into_iter().partition(|name| SHOWN_IN_ARRIVAL.contains(name));
    assert_eq!(others, SHOWN_IN_F64, "wrong kernels in no smoke case");
    assert_eq!(arrival, SHOWN_IN_ARRIVAL, "a smoke case has the layout arrival");
}

#[test]
fn what_f32_cannot_tell_fails_in_f64_on_a_smoke_case() {
    let shown = SHOWN_IN_F64.map(|name| named(name).expect("a kernel"));
    let right = kernels().into_iter().filter(|kernel| !kernel.is_mutant);
    let sampled: Vec<NamedProblem> =
        CASES.iter().filter(|case| case.draw.is_some()).cloned().collect();
    let matrix = Matrix::run(shown.into_iter().chain(right).collect(), &sampled, &["f64"])
        .expect("cases that can be judged");
    for kernel in &matrix.kernels {
        let mut cells = matrix.row(kernel);
        let fails = cells.any(|(_, cell)| cell.outcome == Outcome::Fail);
        assert_eq!(fails, kernel.is_mutant, "{}", kernel.name);
    }
}

/// The mutants that copy the bug of a label; `None` if the label names no wrong backward kernel.
fn copies(label: &str) -> Option<Vec<&'static Kernel>> {
    let bug = Bug::of_label(label)?;
    let copies = |kernel: &&Kernel| kernel.is_mutant && kernel.bugs.contains(&bug.id.as_str());
    Some(kernels().into_iter().filter(copies).collect())
}

/// Whether one of the kernels is condemned on this case.
fn one_fails(copies: &[&'static Kernel], case: &str) -> bool {
    copies.iter().any(|kernel| condemned_in(kernel).contains(case))
}

#[test]
fn a_case_labelled_with_a_bug_of_the_corpus_condemns_the_copy_of_it() {
    let labels = Tier::Smoke
        .cases()
        .flat_map(|case| case.upstream.iter().map(|label| (case.name.as_str(), label)));
    let unconfirmed: Vec<_> = labels
        .filter(|(case, label)| copies(label).is_some_and(|copies| !one_fails(&copies, case)))
        .collect();
    assert!(unconfirmed.is_empty(), "labels without a copy that fails there: {unconfirmed:?}");
}

#[test]
fn a_flag_labelled_with_a_bug_of_the_corpus_is_true_of_a_case_that_condemns_the_copy_of_it() {
    let labels =
        Flag::ALL.iter().flat_map(|flag| flag.upstream().iter().map(move |label| (*flag, label)));
    let confirmed = |flag: Flag, copies: &[&'static Kernel]| {
        let flagged = FLAGS.iter().filter(|(_, flags)| flags.contains(&flag));
        flagged.into_iter().any(|(case, _)| one_fails(copies, case))
    };
    let unconfirmed: Vec<_> = labels
        .filter(|(flag, label)| copies(label).is_some_and(|copies| !confirmed(*flag, &copies)))
        .map(|(flag, label)| (flag.name(), label))
        .collect();
    assert!(unconfirmed.is_empty(), "labels without a copy that fails there: {unconfirmed:?}");
}

#[test]
fn every_case_condemns_some_wrong_kernel_unless_it_has_no_entry() {
    let condemning: BTreeSet<&str> = kernels()
        .into_iter()
        .filter(|kernel| kernel.is_mutant)
        .flat_map(|kernel| condemned_in(kernel))
        .collect();
    let idle: Vec<_> =
        CASES.iter().map(|case| case.name).filter(|name| !condemning.contains(name)).collect();
    assert_eq!(idle, CONDEMN_NOTHING);
}

#[test]
fn no_right_kernel_fails_on_a_smoke_case() {
    let mut failures = Vec::new();
    let mut refusals = BTreeSet::new();
    for kernel in kernels().into_iter().filter(|kernel| !kernel.is_mutant) {
        for (column, cell) in MATRIX.row(kernel) {
            let line =
                format!("{} {} {}: {:?}", kernel.name, column.case, column.recipe, cell.rule);
            match cell.outcome {
                Outcome::Pass => {}
                Outcome::Refused => {
                    refusals.insert((column.recipe, column.case));
                }
                _ => failures.push(line),
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(refusals, REFUSED_IN_BF16.map(|case| ("flash-bf16", case)).into());
}
