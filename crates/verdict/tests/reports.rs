//! The reports of each outcome, as text, as JSON and as `JUnit` XML. Numbers with a fraction or an exponent are masked.

use crate::common::Shape;
use sus_bounds::Recipe;
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::tensor_file::Numbers;
use sus_files::{Pass, Settings, TensorFile};
use sus_reference::evaluation::evaluate;
use sus_reference::problem::{Options, Problem};
use sus_reference::sus::Budget;
use sus_verdict::report::{Report, json, junit, text};
use sus_verdict::{Case, Judge, Mode, Outcome};

/// Replaces each number with a fraction or an exponent by `#`: its digits depend on roundings, its place does not.
fn masked(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || ".e+-".contains(c);
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = rest[start..].find(|c| !is_number(c)).map_or(rest.len(), |n| start + n);
        // A dot or a sign at the end belongs to the sentence.
        let number = rest[start..end].trim_end_matches(['.', '+', '-', 'e']);
        let before = rest[..start].chars().next_back();
        let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '^');
        let is_float = number.parse::<f64>().is_ok() && number.contains(['.', 'e']) && !is_word;
        out.push_str(&rest[..start]);
        out.push_str(if is_float { "#" } else { number });
        rest = &rest[start + number.len()..];
    }
    out + rest
}

/// The three reports of a candidate made from the exact results.
fn reports(case: &Case, recipe: &str, edit: impl Fn(&mut TensorFile)) -> (Outcome, [String; 3]) {
    let recipe = Recipe::built_in(recipe).unwrap();
    let draw = case.draw().unwrap();
    let exact = evaluate::<f64>(&case.problem, None, draw.as_ref()).unwrap();
    let mut file = to_tensors(&exact, &case.settings, Stored::F64).unwrap();
    edit(&mut file);
    let verdict = Judge::builder(case, &recipe).build().unwrap().check(&file);
    let report = Report {
        verdict: &verdict,
        case: "case.safetensors".into(),
        candidate: "mine.safetensors".into(),
        recipe: format!("{} (as asked)", recipe.name),
        mode: Mode::Exact.name(),
        pass: case.describe_pass(),
        command: "sus-oracle check case.safetensors mine.safetensors".into(),
        passes_as: None,
        diagnosis: (verdict.outcome == Outcome::Fail).then(|| "no known bug matches".into()),
        place: None,
        explanation: None,
    };
    (verdict.outcome, [text(&report), json(&report), junit(&report)].map(|out| masked(&out)))
}

fn dense() -> Case {
    let options = Options::default().with_causal(true);
    let shape = Shape { features: 4, value_features: 4, options, ..Shape::plain(6, 6) };
    Case::new(shape.problem(), Settings::default().with_pass(Pass::Dense))
}

fn floats<'a>(file: &'a mut TensorFile, name: &str) -> &'a mut Vec<f64> {
    match &mut file.arrays.get_mut(name).unwrap().numbers {
        Numbers::Float(data) => data,
        _ => panic!("{name} has no floats"),
    }
}

#[test]
fn the_report_of_a_pass() {
    let (outcome, [text, json, junit]) = reports(&dense(), "f32", |_| ());
    assert_eq!(outcome, Outcome::Pass);
    insta::assert_snapshot!("pass_text", text);
    insta::assert_snapshot!("pass_json", json);
    insta::assert_snapshot!("pass_junit", junit);
}

/// One element far above its worst case, one NaN, and a tensor that was not computed.
#[test]
fn the_report_of_a_failure() {
    let (outcome, [text, json, junit]) = reports(&dense(), "f32", |file| {
        floats(file, "dk")[9] += 0.25;
        floats(file, "dq")[20] = f64::NAN;
        floats(file, "dv").fill(0.0);
    });
    assert_eq!(outcome, Outcome::Fail);
    insta::assert_snapshot!("fail_text", text);
    insta::assert_snapshot!("fail_json", json);
    insta::assert_snapshot!("fail_junit", junit);
}

/// Values that hardly differ: the bounds of a 16-bit kernel are above half of `dq` and `dk`.
#[test]
fn the_report_of_a_refusal() {
    let case = dense();
    let mut inputs = case.problem.inputs().clone();
    for x in inputs.v.as_mut_slice() {
        *x = if *x < 0.0 { 1.0 } else { 1.0 + 1.0 / 128.0 };
    }
    let problem = Problem::new(inputs, case.problem.options().clone()).unwrap();
    let case = Case::new(problem, case.settings);
    let (outcome, [text, json, junit]) = reports(&case, "flash-bf16", |_| ());
    assert_eq!(outcome, Outcome::Refused);
    insta::assert_snapshot!("refused_text", text);
    insta::assert_snapshot!("refused_json", json);
    insta::assert_snapshot!("refused_junit", junit);
}

/// One run of a case without a seed.
#[test]
fn the_report_of_too_little_data() {
    let settings = Settings::default().with_pass(Pass::Sus).with_c(Budget::new(2.0).unwrap());
    let case = Case::new(dense().problem, settings);
    let (outcome, [text, json, junit]) =
        reports(&case, "f32", |file| file.arrays.retain(|name, _| !name.starts_with("mask")));
    assert_eq!(outcome, Outcome::Inconclusive);
    insta::assert_snapshot!("inconclusive_text", text);
    insta::assert_snapshot!("inconclusive_json", json);
    insta::assert_snapshot!("inconclusive_junit", junit);
}

#[test]
fn masks_hide_numbers_with_a_fraction_and_nothing_else() {
    assert_eq!(
        masked("f32 [0, 1] 6 of 12, +1.5e-3 (limit 2.0e-4), 3 times 1e0. v1.5 \"x\":0.25,\"n\":3}"),
        "f32 [0, 1] 6 of 12, +# (limit #), 3 times #. v1.5 \"x\":#,\"n\":3}"
    );
}
