//! The kill matrix: no mutant passes, no control is rejected, and the committed tables are these.

use std::sync::LazyLock;
use sus_oracle::bounds::Recipe;
use sus_oracle::corpus;
use sus_oracle::mutants::kernels;
use sus_oracle::mutants::matrix::{Matrix, RECIPES};
use sus_oracle::verdict::Outcome;

/// Every kernel on every case at the recipes of the matrix.
static MATRIX: LazyLock<Matrix> = LazyLock::new(|| {
    Matrix::run(kernels(), &corpus::all(), &RECIPES).expect("cases that can be judged")
});

/// Compares with a committed file, which `command` makes.
fn is_committed(found: &str, path: &str, command: &str) {
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    is_equal(found, &committed, path, command);
}

fn is_equal(found: &str, committed: &str, path: &str, command: &str) {
    let first = found.lines().zip(committed.lines()).find(|(a, b)| a != b);
    assert!(
        found == committed,
        "{path} is not what `{command}` prints; first difference: {first:?}"
    );
}

/// The mutants that pass are in the committed matrix; each is a rounding at a 16-bit recipe.
#[test]
fn no_control_fails_and_no_mutant_passes_but_for_roundings() {
    let mistakes = MATRIX.mistakes();
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));
    assert!(MATRIX.refusals().is_empty(), "refused: {}", MATRIX.refusals().join(", "));
}

#[test]
fn the_committed_matrix_is_this_one() {
    // The table of explanations behind it is held by `crates/explain/tests/gallery.rs`.
    let page = std::fs::read_to_string("docs/kill-matrix.md").unwrap();
    let (matrix, _) = page.split_once("\n## Failures that explain themselves").unwrap();
    is_equal(&MATRIX.markdown(), matrix, "docs/kill-matrix.md", "sus-oracle selftest --matrix");
}

#[test]
fn the_committed_gallery_is_this_one() {
    is_committed(&MATRIX.gallery_markdown(), "docs/gallery.md", "sus-oracle selftest --gallery");
}

#[test]
fn the_committed_picture_is_of_this_matrix() {
    is_committed(
        &sus_charts::kill_matrix(&MATRIX),
        "docs/pictures/ratios.svg",
        "sus-oracle selftest --plot FILE",
    );
}

#[test]
fn every_mutant_shows_on_some_case_unless_it_is_indistinguishable() {
    for kernel in kernels().into_iter().filter(|kernel| kernel.is_mutant) {
        let shows = !MATRIX.shows_on(kernel).is_empty();
        assert_ne!(shows, kernel.indistinguishable().is_some(), "{}", kernel.name);
    }
}

/// A mutant that passes everywhere is one that the verdict misses.
#[test]
fn every_mutant_fails_on_some_case_unless_it_is_indistinguishable() {
    for kernel in kernels().into_iter().filter(|kernel| kernel.is_mutant) {
        let fails = MATRIX.row(kernel).any(|(_, cell)| cell.outcome == Outcome::Fail);
        assert_ne!(fails, kernel.indistinguishable().is_some(), "{}", kernel.name);
    }
}

#[test]
fn controls_do_not_fail_at_any_other_recipe() {
    let right = kernels().into_iter().filter(|kernel| !kernel.is_mutant).collect();
    // The simulated kernels of these recipes have no scales; those of 8 bits are `fp8::controls`.
    let plain = |name: &&str| Recipe::built_in(name).is_some_and(|recipe| !recipe.has_8_bits());
    let others: Vec<_> =
        Recipe::NAMES.into_iter().filter(plain).filter(|name| !RECIPES.contains(name)).collect();
    let matrix = Matrix::run(right, &corpus::all(), &others).expect("cases that can be judged");
    let mistakes = matrix.mistakes();
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));
}
