//! The page of `check --html`, and the explanation in JSON and `JUnit`. `tests/browser/check_page.py` opens it in a browser.

use crate::common::Shape;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use sus_oracle::bounds::Recipe;
use sus_oracle::files::gradient_file::{Stored, to_tensors};
use sus_oracle::files::tensor_file::Numbers;
use sus_oracle::files::{Settings, TensorFile};
use sus_oracle::verdict::report::Report;
use sus_oracle::verdict::{Case, Judge, Outcome, Verdict};
use sus_report::MAX_CELLS;

const CASE: &str = "fixtures/broken/case.safetensors";
const CANDIDATE: &str = "fixtures/broken/candidate.safetensors";

fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sus-oracle"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("check").args(arguments).output().unwrap()
}

/// The page of a check in a folder of its own.
fn page(arguments: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let output = check(&[arguments, &["--html", path.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    std::fs::read_to_string(path).unwrap()
}

/// The tags of a page in order, without their brackets.
fn tags(page: &str) -> Vec<&str> {
    let body = page.strip_prefix("<!DOCTYPE html>").expect("a document type");
    body.split('<').skip(1).map(|part| part.split_once('>').expect("a tag ends").0).collect()
}

/// The values of an attribute of all tags.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    let value = |tag: &&'a str| Some(tag.split_once(&start)?.1.split('"').next().unwrap());
    tags(page).iter().filter_map(value).collect()
}

/// Tags are closed in order, identifiers are there once, links lead to them, and nothing is loaded or run.
fn is_whole(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in tags(page) {
        let name = tag.split([' ', '\n']).next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if ["meta", "link"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let ids = values(page, "id");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an identifier stands twice");
    for link in values(page, "href") {
        let to = link.strip_prefix('#');
        assert!(link == "data:," || to.is_some_and(|to| unique.contains(to)), "{link}");
    }
    for tag in tags(page) {
        let loads = ["script", "iframe", "object", "img", "image", "use", "base", "form"];
        assert!(!loads.iter().any(|name| tag.split(' ').next() == Some(name)), "{tag}");
        assert!(!tag.contains(" on") && !tag.contains("http:") && !tag.contains("https:"), "{tag}");
    }
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    assert!(!style.contains("url(") && !style.contains("@import"), "{style}");
}

/// Text as the page has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[test]
fn the_page_of_a_failure_says_why_where_and_how_to_repeat_it() {
    let page = page(&[CASE, CANDIDATE], 1);
    is_whole(&page);
    let json = check(&[CASE, CANDIDATE, "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let said = |key: &str| escaped(json[key].as_str().unwrap());
    for part in [said("diagnosis"), said("where"), "✗ FAIL".into(), "✓ PASS".into()] {
        assert!(page.contains(&part), "{part}");
    }
    assert!(page.contains("sus-oracle check fixtures/broken/case.safetensors"), "the command");
    let worst =
        &json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "dq").unwrap()["worst"];
    for key in ["found", "expected"] {
        let number = format!("{:e}", worst[key].as_f64().unwrap());
        assert!(
            page.matches(&number).count() >= 2,
            "{key} {number}: in the table and in its part of the map"
        );
    }
    let stage = worst["stages"][0]["stage"].as_str().unwrap();
    let share = 100.0 * worst["stages"][0]["share"].as_f64().unwrap();
    assert!(page.contains(&format!("{stage} {share:.0} %")), "{stage}");
    assert!(page.contains("accumulator"), "the keys of the recipe");
    // The same verdict gives the same bytes but for the name of the page in the command.
    let again = self::page(&[CASE, CANDIDATE], 1);
    let without = |page: &str| page.lines().filter(|l| !l.contains("--html")).collect::<String>();
    assert_eq!(without(&page), without(&again));
}

#[test]
fn every_verdict_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let grad = |out: &str, draw: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sus-oracle"));
        let made =
            command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["grad", CASE, "--out", out]);
        assert!(made.args(draw).output().unwrap().status.success());
    };
    let right = path("right");
    grad(&right, &["--dense", "--dtype", "f32"]);
    let passed = page(&[CASE, &right], 0);
    is_whole(&passed);
    assert!(passed.contains("✓ PASS") && !passed.contains("✗ FAIL"));

    let vague = path("vague.toml");
    std::fs::write(&vague, "base = \"f32\"\nexp_ulp = 1e7\n").unwrap();
    let refused = page(&[CASE, &right, "--recipe", &vague], 3);
    is_whole(&refused);
    assert!(refused.contains("⊘ REFUSED") && refused.contains("a made-up answer could pass"));

    let runs = [path("run-0"), path("run-1")];
    for (seed, run) in ["0", "1"].iter().zip(&runs) {
        grad(run, &["--c", "4", "--seed", seed, "--dtype", "f32"]);
        let mut file = TensorFile::read(Path::new(run)).unwrap();
        file.arrays.retain(|name, _| !name.starts_with("mask/"));
        file.write(Path::new(run)).unwrap();
    }
    let sampled = page(&[CASE, &runs[0], &runs[1], "--c", "4", "--law", "--recipe", "f32"], 4);
    is_whole(&sampled);
    assert!(
        sampled.contains("? INCONCLUSIVE") && sampled.contains("tests of the law"),
        "{sampled}"
    );

    let several = page(&[CASE, CANDIDATE, CANDIDATE], 1);
    is_whole(&several);
    assert!(several.contains("2 runs: "), "{several}");
}

#[test]
fn names_from_outside_are_text_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let name = "<script>alert(1)<'&\" onload=x \u{202e}.safetensors";
    let hostile = folder.path().join(name.replace('/', ""));
    let mut file =
        TensorFile::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(CANDIDATE).as_path()).unwrap();
    let copy = file.arrays["dv"].clone();
    file.arrays.insert("</td><script>dv".into(), copy);
    file.write(&hostile).unwrap();
    let page = page(&[CASE, hostile.to_str().unwrap()], 1);
    is_whole(&page);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;'&amp;&quot; onload=x \\u{202e}.safetensors"));
    assert!(page.contains("&lt;/td&gt;&lt;script&gt;dv"), "the name of a tensor");
    assert!(!page.contains('\u{202e}'));
}

#[test]
fn nothing_is_left_where_no_page_can_be() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("nowhere").join("report.html"), folder.path().to_owned()] {
        let output = check(&[CASE, CANDIDATE, "--html", path.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
        assert!(error.contains(path.to_str().unwrap()) && output.stdout.is_empty(), "{error}");
    }
    // Neither does bad input leave one.
    let path = folder.path().join("report.html");
    let output = check(&[CASE, "no-such-file", "--html", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// 48 heads of 72 by 66 elements, each with a wrong one.
#[test]
fn a_page_of_many_heads_is_bounded_and_says_what_it_leaves_out() {
    let shape =
        Shape { batch: 2, key_heads: 24, features: 66, value_features: 66, ..Shape::plain(72, 72) };
    let case = Case::new(shape.problem(), Settings::default());
    let recipe = Recipe::built_in("f32").unwrap();
    let judge = Judge::builder(&case, &recipe).build().unwrap();
    let gradients = sus_oracle::evaluation::evaluate::<f32>(&case.problem, None, None).unwrap();
    let mut candidate = to_tensors(&gradients, &case.settings, Stored::F32).unwrap();
    for name in ["dq", "dk", "dv"] {
        let Numbers::Float(data) = &mut candidate.arrays.get_mut(name).unwrap().numbers else {
            panic!()
        };
        data.iter_mut().step_by(72 * 66).for_each(|x| *x += 1.0);
    }
    let verdict = judge.check(&candidate);
    assert_eq!(verdict.outcome, Outcome::Fail);
    let page = sus_report::page(&report(&verdict), &case, &recipe);
    is_whole(&page);
    let cells = page.matches("<td class=\"l").count();
    assert!(cells <= MAX_CELLS && cells > MAX_CELLS / 2, "{cells}");
    assert!(page.len() < 6_000_000, "{}", page.len());
    for said in [
        "In 48 of 48 an element is outside its bound.",
        "The worst 4 of them are drawn below.",
        "A cell holds up to 2 querys and up to 2 features",
        "The numbers of this head are left out",
    ] {
        assert!(page.contains(&said.replace("querys", "queries")), "{said}");
    }
}

fn report(verdict: &Verdict) -> Report<'_> {
    Report {
        verdict,
        case: "case".into(),
        candidate: "candidate".into(),
        recipe: "f32".into(),
        mode: "exact",
        pass: "dense".into(),
        command: "sus-oracle check case candidate".into(),
        passes_as: None,
        diagnosis: None,
        place: None,
        explanation: None,
    }
}

/// The keys that `docs/report.md` lists.
#[test]
fn json_and_junit_have_the_explanation_under_the_names_of_the_book() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("verdict.xml");
    let output = check(&[CASE, CANDIDATE, "--json", "--junit", path.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let explanation = json["explanation"].as_object().unwrap();
    let keys =
        |of: &serde_json::Map<String, serde_json::Value>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(explanation), ["causes", "places", "right", "unexplained"]);
    let cause = explanation["causes"][0].as_object().unwrap();
    let names = ["is_cause", "kind", "left_over_bound", "tensors", "text", "tied", "unexplained"];
    assert_eq!(keys(cause), names);
    assert_eq!(cause["tensors"], serde_json::json!(["dq", "dk"]));
    let place = explanation["places"][0].as_object().unwrap();
    assert_eq!(keys(place), ["elements", "tensor", "text", "wrong"]);
    assert_eq!(explanation["right"], serde_json::json!(["o", "lse", "dv"]));
    let text = String::from_utf8(check(&[CASE, CANDIDATE]).stdout).unwrap();
    let xml = std::fs::read_to_string(path).unwrap();
    for (key, label) in [("diagnosis", "diagnosis  "), ("where", "where      ")] {
        let said = json[key].as_str().unwrap();
        assert!(text.contains(&format!("{label}{said}\n")), "{key}");
        let property = format!("<property name=\"{key}\" value=\"{}\"/>", escaped(said));
        assert!(xml.contains(&property), "{xml}");
    }
    let page = include_str!("../docs/report.md");
    let top = json.as_object().unwrap().keys();
    for key in top.chain(explanation.keys()).chain(cause.keys()).chain(place.keys()) {
        assert!(
            key == "spec" || page.contains(&format!("`{key}`")),
            "docs/report.md has no `{key}`"
        );
    }
}
