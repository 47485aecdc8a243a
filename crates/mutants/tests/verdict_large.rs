//! The verdict with the reference in `f64` by blocks, as for large problems, on small ones: it is the verdict with the reference in
//! double-double.

use crate::common::{Shape, eighths};
use std::sync::Mutex;
use sus_bounds::{LARGEST_HEAD, Mode, Recipe};
use sus_corpus as corpus;
use sus_fast::evaluate;
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::tensor_file::Numbers;
use sus_files::{Pass, Settings, TensorFile};
use sus_mutants::arithmetic::Arithmetic;
use sus_mutants::{self as mutants, RunConfig};
use sus_verdict::{Case, Criterion, Judge, Outcome, Progress, Reference, Verdict};

fn judge(case: &corpus::NamedProblem, recipe: &Recipe, mode: Mode, reference: Reference) -> Judge {
    let case = Case::new(case.problem.clone(), case.settings.clone());
    sus_mutants::judge(&case, recipe).mode(mode).reference(reference).build().unwrap()
}

/// The outcome, the findings and the ambiguous entries of a verdict.
fn said(verdict: &Verdict) -> (Outcome, Vec<(String, Criterion)>, usize) {
    let findings = verdict.findings.iter().map(|f| (f.tensor.clone(), f.rule)).collect();
    (verdict.outcome, findings, verdict.ambiguous)
}

/// Takes the findings of the rule `rounded` away, which needs an exact reference.
fn without_ranges(verdict: &mut Verdict) {
    let before = verdict.findings.len();
    verdict.findings.retain(|finding| finding.rule != Criterion::Rounded);
    if verdict.findings.is_empty() && before > 0 {
        verdict.outcome = Outcome::Pass;
    }
}

fn names_its_error(verdict: &Verdict) -> bool {
    verdict.notes.iter().any(|note| note.contains("computed in f64 by blocks"))
}

#[test]
fn every_kernel_of_the_gallery_gets_the_verdict_that_double_double_gives() {
    let (mut pass, mut fail) = (0, 0);
    let kernels = mutants::kernels().into_iter().filter(|kernel| kernel.is_mutant);
    let kernels: Vec<_> = kernels.collect();
    for (n, case) in corpus::all().into_iter().enumerate() {
        let name = ["f32", "flash-bf16"][n % 2];
        let recipe = Recipe::built_in(name).unwrap();
        let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), case.draw.as_ref());
        let right = mutants::control_kernel(&config);
        for mode in [Mode::Exact, Mode::Given] {
            let blocks = judge(&case, &recipe, mode, Reference::BlockedF64);
            let exact = judge(&case, &recipe, mode, Reference::DoubleDouble);
            let blocked = Reference::BlockedF64.blocks(blocks.problem(), &recipe);
            let compare = |candidate: &TensorFile| {
                let (found, mut expected) = (blocks.check(candidate), exact.check(candidate));
                if blocked {
                    without_ranges(&mut expected);
                }
                let at = format!("{} at {name}", case.name);
                assert_eq!(said(&found), said(&expected), "{at}");
                assert_eq!(names_its_error(&found), blocked, "{at}: {:?}", found.notes);
                assert!(!names_its_error(&expected), "{at}");
                found.outcome
            };
            pass += usize::from(compare(&right) == Outcome::Pass);
            // A forward pass that is given is judged anew for each candidate, which takes long.
            let step = if mode == Mode::Exact { 7 } else { 50 };
            for kernel in kernels.iter().skip(n % 7).step_by(step) {
                if let Some(wrong) = (kernel.run)(&config) {
                    fail += usize::from(compare(&wrong) == Outcome::Fail);
                }
            }
        }
    }
    assert!(pass > 20 && fail > 100, "{pass} right ones passed, {fail} wrong ones failed");
}

#[test]
fn a_bias_and_the_recipe_f64_keep_the_truth_in_double_double() {
    let bias = Shape { bias: Some([true, true, false]), ..Shape::plain(9, 9) }.problem();
    let plain = Shape::plain(9, 9).problem();
    let [f32, f64] = ["f32", "f64"].map(|name| Recipe::built_in(name).unwrap());
    assert!(Reference::BlockedF64.blocks(&plain, &f32));
    assert!(
        !Reference::BlockedF64.blocks(&bias, &f32) && !Reference::BlockedF64.blocks(&plain, &f64)
    );
    let case = Case::new(bias, Settings::default().with_pass(Pass::Dense));
    let of = |reference| sus_mutants::judge(&case, &f32).reference(reference).build().unwrap();
    assert_eq!(of(Reference::BlockedF64).bounds(), of(Reference::DoubleDouble).bounds());
}

#[test]
fn the_truth_is_computed_by_blocks_above_a_size() {
    let [f32, f64] = ["f32", "f64"].map(|name| Recipe::built_in(name).unwrap());
    let of =
        |queries| Shape { features: 1, value_features: 1, ..Shape::plain(queries, 8192) }.problem();
    let (small, large) = (of(8192), of(8193));
    assert!(!Reference::Auto.blocks(&small, &f32) && Reference::Auto.blocks(&large, &f32));
    assert!(!Reference::Auto.blocks(&large, &f64) && !Reference::DoubleDouble.blocks(&large, &f32));
}

/// One head of more entries than the statistics follow, with few features.
#[test]
fn a_problem_too_large_for_the_statistics_says_that_it_goes_without_them() {
    let shape = Shape { features: 2, value_features: 2, ..Shape::plain(2900, 2900) };
    let problem = shape.fill(|rng| eighths(rng) / 3.0);
    const { assert!(2900 * 2900 > LARGEST_HEAD) };
    let recipe = Recipe::built_in("f32").unwrap();
    let case = Case::new(problem, Settings::default().with_pass(Pass::Dense));
    let judge =
        sus_mutants::judge(&case, &recipe).reference(Reference::BlockedF64).build().unwrap();
    let right = evaluate::<f32>(&case.problem, None, None).unwrap().evaluation;
    let mut file = to_tensors(&right, &case.settings, Stored::F32).unwrap();
    let verdict = judge.check(&file);
    assert_eq!(verdict.outcome, Outcome::Pass, "{:?}", verdict.findings);
    let says = |note: &String| note.contains("no mean, slope or root mean square is judged");
    assert!(verdict.notes.iter().any(says), "{:?}", verdict.notes);
    let Numbers::Float(dq) = &mut file.arrays.get_mut("dq").unwrap().numbers else {
        panic!("dq holds floats")
    };
    let worst = judge.bounds().dq.threshold[777];
    dq[777] = judge.gradients().dq.as_slice()[777] + 1.5 * worst;
    assert_eq!(judge.check(&file).outcome, Outcome::Fail);
}

/// The stages, their announced work and their reported work.
#[derive(Default)]
struct StageRecord(Mutex<Vec<(&'static str, u64, u64)>>);

impl Progress for StageRecord {
    fn stage(&self, name: &'static str, work: u64) {
        self.0.lock().unwrap().push((name, work, 0));
    }

    fn done(&self, work: u64) {
        self.0.lock().unwrap().last_mut().unwrap().2 += work;
    }
}

#[test]
fn the_work_that_a_stage_announces_is_the_work_that_it_reports() {
    for name in ["primes", "one_key"] {
        let case = corpus::named(name).unwrap();
        let recipe = Recipe::built_in("f32").unwrap();
        let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), case.draw.as_ref());
        let case = Case::new(case.problem.clone(), case.settings.clone());
        for mode in [Mode::Exact, Mode::Given] {
            let record = StageRecord::default();
            let judge = sus_mutants::judge(&case, &recipe)
                .mode(mode)
                .reference(Reference::BlockedF64)
                .progress(&record)
                .build()
                .unwrap();
            let verdict = judge.check_with_progress(&mutants::control_kernel(&config), &record);
            assert_ne!(verdict.outcome, Outcome::Fail, "{name}: {:?}", verdict.findings);
            let stages = record.0.into_inner().unwrap();
            assert!(stages.iter().all(|&(_, work, done)| work == done), "{name}: {stages:?}");
            let known = stages.iter().filter(|stage| stage.1 > 0).count();
            assert!(known >= if mode == Mode::Given { 4 } else { 2 }, "{name}: {stages:?}");
        }
    }
}
