//! The kernels of the gallery: a wrong one is explained.

use std::sync::LazyLock;
use sus_explain::coverage::{CASES, Coverage, RECIPES};
use sus_mutants::BugType;

/// Every wrong kernel on the cases of the table.
static COVERAGE: LazyLock<Coverage> =
    LazyLock::new(|| Coverage::run(&CASES, &RECIPES).expect("cases that can be judged"));

/// A rounding that the gallery files under the scale: it leaves no formula at 16 bits, and is not explained there.
const ROUNDS: &str = "keys_prescaled_and_rounded";

/// Every wrong formula has an explanation. Roundings have one or not: a number that is rounded elsewhere leaves no formula.
#[test]
fn the_wrong_kernels_of_the_gallery_are_explained() {
    let coverage = &*COVERAGE;
    assert!(coverage.failures.len() > 200, "{}", coverage.failures.len());
    let formula = |of: &&sus_explain::coverage::Failure| {
        let rounds = of.kernel.bug_type == Some(BugType::Rounding) || of.kernel.name == ROUNDS;
        !rounds && !of.is_explained()
    };
    let missed: Vec<String> = coverage
        .failures
        .iter()
        .filter(formula)
        .map(|of| format!("{} on {} at {}: {}", of.kernel.name, of.case, of.recipe, of.why.why()))
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_committed_table_of_explanations_is_this_one() {
    let page = std::fs::read_to_string("../../docs/kill-matrix.md").unwrap();
    let at = page.find("\n## Failures that explain themselves").expect("the table is in the book");
    assert_eq!(COVERAGE.markdown(), page[at..], "`sus-oracle selftest --matrix` makes it");
}

#[test]
#[ignore = "prints all explanations"]
fn print_all() {
    let names = std::env::var("CASES").unwrap_or("primes".into());
    let recipe: &'static str = if std::env::var("BF16").is_ok() { "flash-bf16" } else { "f32" };
    if names == "all" {
        print!("{}", Coverage::run(&CASES, &RECIPES).unwrap().markdown());
        return;
    }
    for name in names.split(',') {
        let start = std::time::Instant::now();
        let case = sus_corpus::all().into_iter().find(|case| case.name == name).unwrap();
        let all = Coverage::run(&[case.name], &[recipe]).unwrap().failures;
        let named = all.iter().filter(|of| of.is_explained()).count();
        println!("{name}: {named} of {} in {:.1?}", all.len(), start.elapsed());
        for of in all {
            let mark = if of.is_explained() { "=" } else { "!" };
            println!("{mark} {} {}: {}", of.case, of.kernel.name, of.why.why());
        }
    }
}
