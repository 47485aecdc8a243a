//! Several runs of one kernel: each judged by itself, and their spread.

use crate::common::Shape;
use sus_bounds::Recipe;
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::tensor_file::Numbers;
use sus_files::{Array, Pass, Settings, TensorFile};
use sus_reference::evaluation::evaluate;
use sus_reference::sus::Budget;
use sus_verdict::report::{Report, json, text};
use sus_verdict::{Case, Criterion, Judge, JudgeBuilder, Mode, Outcome, Verdict};

/// A dense case with as many sequences as there are runs: an axis of runs is told from the batch by the number of axes.
fn dense() -> Case {
    let shape = Shape { batch: RUNS, features: 4, value_features: 4, ..Shape::plain(6, 5) };
    Case::new(shape.problem(), Settings::default().with_pass(Pass::Dense))
}

const RUNS: usize = 4;

/// The results of a right kernel in `f32`.
fn right(case: &Case) -> TensorFile {
    let draw = case.draw().unwrap();
    let gradients = evaluate::<f32>(&case.problem, None, draw.as_ref()).unwrap();
    let mut file = to_tensors(&gradients, &case.settings, Stored::F32).unwrap();
    file.arrays.retain(|name, _| !name.starts_with("mask"));
    file.metadata = None;
    file
}

/// Runs with a leading axis.
fn stacked(runs: &[TensorFile]) -> TensorFile {
    let mut out = runs[0].clone();
    for (name, array) in &mut out.arrays {
        array.shape.insert(0, runs.len());
        let Numbers::Float(all) = &mut array.numbers else { panic!("{name} has no floats") };
        for run in &runs[1..] {
            let Numbers::Float(more) = &run.arrays[name].numbers else { panic!() };
            all.extend(more);
        }
    }
    out
}

fn floats<'a>(file: &'a mut TensorFile, name: &str) -> &'a mut Vec<f64> {
    match &mut file.arrays.get_mut(name).unwrap().numbers {
        Numbers::Float(data) => data,
        _ => panic!("{name} has no floats"),
    }
}

fn f32_recipe() -> Recipe {
    Recipe::built_in("f32").unwrap()
}

fn judge(case: &Case, option: impl Fn(JudgeBuilder<'_>) -> JudgeBuilder<'_>) -> Judge {
    option(Judge::builder(case, &f32_recipe())).build().unwrap()
}

fn rules(verdict: &Verdict) -> Vec<(&str, Criterion)> {
    verdict.findings.iter().map(|of| (of.tensor.as_str(), of.rule)).collect()
}

#[test]
fn equal_right_runs_of_a_dense_kernel_pass_in_both_modes_and_bit_by_bit() {
    let case = dense();
    let file = stacked(&vec![right(&case); RUNS]);
    for mode in [Mode::Exact, Mode::Given] {
        let verdict = judge(&case, |of| of.mode(mode).bitwise_repeat(true)).check(&file);
        assert_eq!(verdict.outcome, Outcome::Pass, "{:?}", verdict.findings);
        let runs = verdict.runs.unwrap();
        assert_eq!((runs.count, runs.outcomes), (RUNS, vec![Outcome::Pass; RUNS]));
        assert_eq!(runs.spread.len(), 5);
        assert!(runs.spread.iter().all(|of| of.same_bits && of.difference == 0.0));
    }
}

#[test]
fn one_wrong_run_fails_all_and_is_named_and_shown() {
    let case = dense();
    let mut runs = vec![right(&case); RUNS];
    floats(&mut runs[2], "dq")[7..12].fill(0.0);
    for mode in [Mode::Exact, Mode::Given] {
        let judge = judge(&case, |of| of.mode(mode));
        let file = stacked(&runs);
        let verdict = judge.check(&file);
        assert_eq!(verdict.outcome, Outcome::Fail);
        for finding in &verdict.findings {
            assert_eq!(finding.tensor, "dq");
            assert!(finding.message.starts_with("run 2: "), "{finding:?}");
        }
        // The findings and the figures are those of the run alone.
        let alone = judge.check(&runs[2]);
        assert_eq!(rules(&verdict), rules(&alone));
        assert_eq!(verdict.tensors, alone.tensors);
        let shown = verdict.runs.as_ref().unwrap();
        assert_eq!((shown.shown, shown.outcomes[2]), (2, Outcome::Fail));
        assert_eq!(shown.outcomes.iter().filter(|&&of| of == Outcome::Pass).count(), RUNS - 1);
        assert_eq!(judge.shown_run(&file, &verdict).arrays, runs[2].arrays);
    }
}

/// The run with the largest error over its bound is shown, also where several fail.
#[test]
fn of_several_wrong_runs_the_worst_is_shown() {
    let case = dense();
    let mut runs = vec![right(&case); RUNS];
    for (run, error) in [(1, 0.5), (3, 2.0)] {
        floats(&mut runs[run], "dv")[0] += error;
    }
    let verdict = judge(&case, |of| of).check(&stacked(&runs));
    let of = verdict.runs.unwrap();
    assert_eq!(of.shown, 3);
    assert_eq!(verdict.tensors, judge(&case, |of| of).check(&runs[3]).tensors);
    for run in [1, 3] {
        let named = format!("run {run}: ");
        assert!(verdict.findings.iter().any(|finding| finding.message.starts_with(&named)));
    }
}

/// A difference of one unit in the last place is within the bounds: it fails only where equal bits are asked for.
#[test]
fn runs_that_differ_in_a_bit_pass_and_fail_where_bits_are_compared() {
    let case = dense();
    let mut runs = vec![right(&case); RUNS];
    let dk = &mut floats(&mut runs[3], "dk")[9];
    let (before, after) = (*dk, f64::from(f32::from_bits((*dk as f32).to_bits() + 1)));
    *dk = after;
    let file = stacked(&runs);
    let loose = judge(&case, |of| of).check(&file);
    assert_eq!(loose.outcome, Outcome::Pass, "{:?}", loose.findings);
    let bitwise = judge(&case, |of| of.bitwise_repeat(true));
    let strict = bitwise.check(&file);
    assert_eq!(rules(&strict), [("dk", Criterion::Repeat)]);
    assert!(strict.findings[0].message.starts_with("run 3 has other bits than run 0"));
    for verdict in [&loose, &strict] {
        let spread = &verdict.runs.as_ref().unwrap().spread;
        let dk = spread.iter().find(|of| of.name == "dk").unwrap();
        assert_eq!((dk.same_bits, dk.elements), (false, 1));
        assert_eq!(dk.difference, (after - before).abs());
        assert_eq!(dk.difference_over_bound, dk.difference / bitwise.bounds().dk.threshold[9]);
        assert_eq!(dk.index, Some(vec![0, 0, 2, 1]));
        assert!(spread.iter().filter(|of| of.name != "dk").all(|of| of.same_bits));
    }
    let result = |name| strict.tensors.iter().find(|of| of.name == name).unwrap().outcome;
    assert_eq!((result("dk"), result("dv")), (Outcome::Fail, Outcome::Pass));
}

/// A result without the axis of runs belongs to all of them: `o` here, whose first axis, the batch, is as long.
#[test]
fn a_result_that_is_given_once_belongs_to_every_run() {
    let case = dense();
    let one = right(&case);
    let mut file = stacked(&vec![one.clone(); RUNS]);
    file.arrays.insert("o".into(), one.arrays["o"].clone());
    let judge = judge(&case, |of| of.bitwise_repeat(true));
    let verdict = judge.check(&file);
    assert_eq!(verdict.outcome, Outcome::Pass, "{:?}", verdict.findings);
    assert!(verdict.tensors.iter().any(|of| of.name == "o"));
    floats(&mut file, "o")[0] += 1.0;
    let verdict = judge.check(&file);
    let named: Vec<&str> = verdict.findings.iter().map(|of| of.tensor.as_str()).collect();
    assert!(named.len() >= RUNS && named.iter().all(|&name| name == "o"), "{named:?}");
}

#[test]
fn a_single_run_has_no_bits_to_compare_and_no_run_is_no_candidate() {
    let case = dense();
    let one = right(&case);
    let judge = judge(&case, |of| of.bitwise_repeat(true));
    assert_eq!(judge.check(&one).outcome, Outcome::Inconclusive);
    assert_eq!(judge.check(&stacked(std::slice::from_ref(&one))).outcome, Outcome::Inconclusive);
    let mut none = TensorFile::default();
    for (name, array) in &one.arrays {
        let shape = [&[0], &array.shape[..]].concat();
        none.arrays.insert(name.clone(), Array::f32(&shape, Vec::new()));
    }
    assert_eq!(judge.check(&none).outcome, Outcome::Fail);
}

#[test]
fn runs_of_a_sampled_pass_are_compared_where_their_seeds_are_equal() {
    let settings = Settings::default().with_pass(Pass::Sus).with_c(Budget::new(2.0).unwrap());
    let case = |seed| Case::new(dense().problem, settings.clone().with_seed(seed));
    let (seven, eight) = (right(&case(7)), right(&case(8)));
    let mut other = seven.clone();
    let dv = &mut floats(&mut other, "dv")[0];
    *dv = f64::from(f32::from_bits((*dv as f32).to_bits() + 1));
    let judge = judge(&case(7), |of| of.bitwise_repeat(true));
    let verdict = |runs: &[TensorFile], seeds: &[i64]| {
        let mut file = stacked(runs);
        file.arrays.insert("seeds".into(), Array::i64(&[runs.len()], seeds.to_vec()));
        judge.check(&file)
    };
    let same = verdict(&[seven.clone(), eight.clone(), seven.clone()], &[7, 8, 7]);
    assert_eq!(same.outcome, Outcome::Pass, "{:?}", same.findings);
    let differs = verdict(&[seven.clone(), eight.clone(), other], &[7, 8, 7]);
    assert_eq!(rules(&differs), [("dv", Criterion::Repeat)]);
    assert!(differs.findings[0].message.starts_with("run 2 has other bits than run 0"));
    assert_eq!(verdict(&[seven, eight], &[7, 8]).outcome, Outcome::Inconclusive);
}

#[test]
fn the_reports_say_how_many_runs_pass_and_how_much_they_differ() {
    let case = dense();
    let mut runs = vec![right(&case); RUNS];
    floats(&mut runs[2], "dq")[3] = f64::NAN;
    let verdict = judge(&case, |of| of).check(&stacked(&runs));
    let report = Report {
        verdict: &verdict,
        case: "case.safetensors".into(),
        candidate: "runs.safetensors".into(),
        recipe: "f32 (as asked)".into(),
        mode: Mode::Exact.name(),
        pass: case.describe_pass(),
        command: String::new(),
        passes_as: None,
        diagnosis: None,
        place: None,
        explanation: None,
    };
    let said = text(&report);
    for part in [
        "runs       3 PASS, 1 FAIL; the tensors above are those of run 2\n",
        "spread     o: the same bits in all runs\n",
        "dq: runs differ in 1 elements, by inf at most, and by inf of the bound at most at [0, 0, 0, 3]\n",
        "FAIL       dq not-a-number: run 2: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let document: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
    let runs = &document["runs"];
    assert_eq!(runs["outcomes"], serde_json::json!(["PASS", "PASS", "FAIL", "PASS"]));
    assert_eq!((&runs["count"], &runs["shown"]), (&4.into(), &2.into()));
    let dq = &runs["spread"][2];
    assert_eq!((&dq["name"], &dq["same_bits"]), (&"dq".into(), &false.into()));
    assert_eq!(dq["difference"], serde_json::Value::Null);
    assert_eq!(dq["first"]["run"], 2);
}
