//! Every public item of these files has an example. A file joins the list when its last item gets one.

use std::path::Path;

const FILES: [&str; 109] = [
    "analysis.rs",
    "analysis/choose.rs",
    "analysis/plot.rs",
    "analysis/report.rs",
    "analysis/scan.rs",
    "analysis/spread.rs",
    "analysis/totals.rs",
    "backward.rs",
    "bench.rs",
    "bench/memory.rs",
    "bench/patterns.rs",
    "bench/plot.rs",
    "bench/report.rs",
    "error.rs",
    "evaluation.rs",
    "fast.rs",
    "fast/ceilings.rs",
    "fast/evaluate.rs",
    "fast/lanes.rs",
    "fast/own_error.rs",
    "fast/path.rs",
    "fast/sampling.rs",
    "file/error.rs",
    "file/gradient_file.rs",
    "file/problem_file.rs",
    "file/settings.rs",
    "file/tensor_file.rs",
    "fixture.rs",
    "fixture/answers.rs",
    "fixture/blind.rs",
    "fixture/build.rs",
    "fixture/case.rs",
    "fixture/flag.rs",
    "fixture/hash.rs",
    "fixture/inputs.rs",
    "fixture/manifest.rs",
    "fixture/margin.rs",
    "fixture/selection.rs",
    "fixture/suite.rs",
    "fixture/verify.rs",
    "forward.rs",
    "gallery.rs",
    "gallery/arithmetic.rs",
    "gallery/cases.rs",
    "gallery/catalogue.rs",
    "gallery/diagnosis.rs",
    "gallery/directions.rs",
    "gallery/matrix.rs",
    "gallery/matrix/cell.rs",
    "gallery/matrix/plot.rs",
    "gallery/matrix/report.rs",
    "gallery/matrix/tally.rs",
    "gallery/rivals.rs",
    "graph.rs",
    "graph/attention.rs",
    "mask.rs",
    "precision/bound.rs",
    "precision/directional.rs",
    "precision/entry.rs",
    "precision/format.rs",
    "precision/functional.rs",
    "precision/progress.rs",
    "precision/ranges.rs",
    "precision/recipe.rs",
    "precision/row.rs",
    "precision/score.rs",
    "precision/stage.rs",
    "precision/truth.rs",
    "precision/widen.rs",
    "problem.rs",
    "scalar.rs",
    "scalar/dd.rs",
    "scalar/dual.rs",
    "selftest.rs",
    "selftest/laws.rs",
    "sus/moments.rs",
    "sus/moments/count.rs",
    "sus/moments/elementwise.rs",
    "sus/moments/enumerate.rs",
    "sus/moments/functional.rs",
    "sus/moments/pieces.rs",
    "sus/moments/row.rs",
    "sus/optimum.rs",
    "sus/rule.rs",
    "sus/sample.rs",
    "sus/sampler.rs",
    "sus/uniform.rs",
    "sus/uniform/decision.rs",
    "sus/uniform/layout.rs",
    "sus/uniform/philox.rs",
    "sus/uniform/threefry.rs",
    "tensor.rs",
    "verdict.rs",
    "verdict/candidate.rs",
    "verdict/case.rs",
    "verdict/elements.rs",
    "verdict/forced.rs",
    "verdict/judge.rs",
    "verdict/judge/truth.rs",
    "verdict/merge.rs",
    "verdict/report.rs",
    "verdict/report/json.rs",
    "verdict/report/junit.rs",
    "verdict/report/plot.rs",
    "verdict/statistical.rs",
    "verdict/statistical/bugs.rs",
    "verdict/statistical/directions.rs",
    "verdict/statistical/plan.rs",
    "verdict/statistics.rs",
];

/// The name of a public item that this line declares, fields and modules aside.
fn item(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest =
        rest.strip_prefix("const fn ").map_or(rest, |name| &rest[rest.len() - name.len() - 3..]);
    let kinds = ["fn ", "struct ", "enum ", "trait ", "type ", "const ", "static "];
    let name = kinds.iter().find_map(|kind| rest.strip_prefix(kind))?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The public items whose documentation has no example: no block of code, one of plain text aside.
fn without_example(source: &str) -> Vec<&str> {
    let (mut inside, mut example) = (false, false);
    let mut found = Vec::new();
    for line in source.lines().take_while(|line| !ends_public_part(line)) {
        let text = line.trim_start();
        if let Some(documentation) = text.strip_prefix("///") {
            if let Some(language) = documentation.trim_start().strip_prefix("```") {
                example |= !inside && language != "text";
                inside = !inside;
            }
        } else if !text.starts_with("#[") {
            found.extend(item(line).filter(|_| !example));
            example = false;
        }
    }
    found
}

/// Whether nothing after this line is public: the tests, or a module that is not.
fn ends_public_part(line: &str) -> bool {
    line.trim() == "#[cfg(test)]" || (line.starts_with("pub(super) mod ") && line.ends_with('{'))
}

#[test]
fn every_public_item_of_the_listed_files_has_an_example() {
    for file in FILES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
        let source = std::fs::read_to_string(path).unwrap();
        assert!(source.lines().any(|line| item(line).is_some()), "{file} has no public item");
        assert_eq!(without_example(&source), Vec::<&str>::new(), "{file}");
    }
}

#[test]
fn an_item_without_an_example_is_found() {
    let source = "/// One.\n/// ```\n/// ```\npub struct A;\n/// Two.\n#[must_use]\npub const fn b() {}\n/// Three.\nfn c() {}\n";
    assert_eq!(without_example(source), ["b"]);
}

#[test]
fn a_formula_is_no_example() {
    let text = "/// One.\n///\n/// ```text\n/// a + b\n/// ```\npub fn a() {}\n";
    assert_eq!(without_example(text), ["a"]);
    assert_eq!(without_example(&text.replace("text", "")), Vec::<&str>::new());
}
