//! The kernels of the gallery: a wrong one is explained.

use sus_explain::coverage::{CASES, Coverage, RECIPES};
use sus_mutants::BugType;

/// A rounding that the gallery files under the scale: it leaves no formula at 16 bits, and is not explained there.
const ROUNDS: &str = "keys_prescaled_and_rounded";

/// Every wrong formula has an explanation. Roundings have one or not: a number that is rounded elsewhere leaves no formula.
#[test]
fn the_wrong_kernels_of_the_gallery_are_explained() {
    let coverage = Coverage::run(&CASES, &RECIPES).unwrap();
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
