//! Both sides of the verdict's margins.

use crate::common::{Shape, numbers};
use rand_core::Rng;
use sus_bounds::{Recipe, Truth};
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::{Pass, Settings, TensorFile};
use sus_reference::evaluation::evaluate;
use sus_reference::problem::{Options, Problem};
use sus_reference::sus::sample::uniforms;
use sus_reference::sus::sampler::row_uniform;
use sus_reference::sus::{Budget, Pattern, Sample, Sampler, sampled_values};
use sus_verdict::{Case, Criterion, Judge, Outcome, Verdict};

/// Values of 1 or `1 + step / 1024`: `dP - delta` cancels to that step, and the bounds of a 16-bit kernel stay.
fn nearly_equal_values(step: u32) -> Case {
    let shape = Shape { features: 8, value_features: 8, ..Shape::plain(16, 16) };
    let mut inputs = shape.problem().inputs().clone();
    for x in inputs.v.as_mut_slice() {
        *x = 1.0 + if *x < 0.0 { 0.0 } else { f64::from(step) / 1024.0 };
    }
    let problem = Problem::new(inputs, Options::default()).unwrap();
    Case::new(problem, Settings::default().with_pass(Pass::Dense))
}

#[test]
fn a_tensor_is_refused_if_its_bounds_are_above_half_of_its_size_and_judged_below() {
    let recipe = Recipe::built_in("flash-f16").unwrap();
    let (mut judged, mut refused) = (0.0_f64, f64::INFINITY);
    for step in 1..100 {
        let case = nearly_equal_values(step);
        let judge = Judge::builder(&case, &recipe).build().unwrap();
        let exact = evaluate::<f64>(&case.problem, None, None).unwrap();
        let verdict = judge.check(&to_tensors(&exact, &case.settings, Stored::F64).unwrap());
        for tensor in &verdict.tensors {
            let is_refused = verdict
                .findings
                .iter()
                .any(|f| f.tensor == tensor.name && f.rule == Criterion::Vacuous);
            assert_eq!(is_refused, tensor.width > 0.5, "{step} {} {}", tensor.name, tensor.width);
            assert_eq!(is_refused, tensor.outcome == Outcome::Refused, "{step} {}", tensor.name);
            if is_refused {
                refused = refused.min(tensor.width);
            } else {
                judged = judged.max(tensor.width);
            }
        }
    }
    assert!((0.45..=0.5).contains(&judged) && (0.5..0.55).contains(&refused), "{judged} {refused}");
}

/// Equal scores of 8192 keys. Every keep probability is `(2022 + 0.47) 2^-21`: an F32 sum between 4 and 8 has steps of `2^-21`, so each
/// of its additions there rounds 0.47 of a step away.
struct EqualScores {
    case: Case,
    judge: Judge,
    truth: Truth,
    exact: Sample,
}

const KEYS: usize = 8192;

impl EqualScores {
    fn new(seed: u64) -> Self {
        let shape = Shape { features: 1, value_features: 1, ..Shape::plain(8, KEYS) };
        let mut inputs = shape.problem().inputs().clone();
        inputs.q.as_mut_slice().fill(0.0);
        // Values between 1/2 and 3/2: no gradient is near zero.
        let mut rng = numbers(seed);
        for x in inputs.v.as_mut_slice().iter_mut().chain(inputs.g.as_mut_slice()) {
            *x = 0.5 + f64::from(rng.next_u32() >> 24) / 256.0;
        }
        let settings = Settings::default()
            .with_pass(Pass::Sus)
            .with_c(Budget::new((2022.0 + 0.47) / 256.0).unwrap())
            .with_sampler(Sampler::Systematic)
            .with_seed(seed);
        let case = Case::new(Problem::new(inputs, Options::default()).unwrap(), settings);
        let judge = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build().unwrap();
        let draw = case.draw().unwrap();
        let exact = evaluate::<f64>(&case.problem, None, draw.as_ref()).unwrap();
        let exact = exact.mask.unwrap().sample;
        let truth = Truth::exact(&case.problem).unwrap();
        EqualScores { case, judge, truth, exact }
    }

    /// The columns of each row that a kernel keeps whose running sums are `sum(number of terms, q)`.
    fn kept(&self, mut sum: impl FnMut(usize, f32) -> f64) -> Vec<Vec<u32>> {
        let problem = &self.case.problem;
        let draw = self.case.draw().unwrap().unwrap();
        let uniforms = uniforms(problem, &draw).unwrap();
        let rows = (0..problem.row_count()).map(|at| {
            let row = problem.row(at);
            let u = row_uniform(uniforms.row_word(row.b, row.h, row.i));
            let q = (self.exact.lambda[at] / KEYS as f64) as f32;
            let mut before = sum(0, q);
            let keeps = |&j: &u32| {
                let after = sum(j as usize + 1, q);
                let keeps = (after - u).floor() > (before - u).floor();
                before = after;
                keeps
            };
            (0..KEYS as u32).filter(keeps).collect()
        });
        rows.collect()
    }

    /// The verdict on a kernel that keeps these columns and computes everything else exactly.
    fn judge(&self, kept: &[Vec<u32>]) -> Verdict {
        let mut offsets = vec![0];
        offsets.extend(kept.iter().scan(0, |count, row| {
            *count += row.len();
            Some(*count)
        }));
        let pattern = Pattern::new(kept.len(), KEYS, offsets, kept.concat()).unwrap();
        let problem = &self.case.problem;
        let draw = self.case.draw().unwrap();
        let mut evaluation = evaluate::<f64>(problem, None, draw.as_ref()).unwrap();
        let sample = Sample { pattern, ..self.exact.clone() };
        evaluation.gradients = self.truth.gradients(Some(&sample));
        let mask = evaluation.mask.as_mut().unwrap();
        mask.values = sampled_values(problem, &evaluation.saved, &sample);
        mask.sample = sample;
        self.judge.check(&to_tensors(&evaluation, &self.case.settings, Stored::F64).unwrap())
    }
}

fn rules(verdict: &Verdict) -> Vec<Criterion> {
    verdict.findings.iter().map(|finding| finding.rule).collect()
}

/// The additions of an F32 running sum move a boundary by about one key of 8192: either key is right there. Twenty keys are wrong.
#[test]
fn a_systematic_sum_may_be_rounded_and_an_entry_that_no_rounding_moves_fails() {
    let mut moved = 0;
    for seed in 0..4 {
        let scores = EqualScores::new(seed);
        let exact: Vec<Vec<u32>> = (0..scores.exact.lambda.len())
            .map(|row| scores.exact.pattern.row(row).to_vec())
            .collect();
        assert_eq!(scores.judge(&exact).outcome, Outcome::Pass);
        // One addition after the other, in F32.
        let mut running = 0.0_f32;
        let sequential = scores.kept(|terms, q| {
            running = if terms == 0 { 0.0 } else { running + q };
            f64::from(running)
        });
        let verdict = scores.judge(&sequential);
        assert_eq!(verdict.outcome, Outcome::Pass, "{seed} {:?}", verdict.findings);
        assert!(verdict.ambiguous > 0);
        moved += exact.iter().zip(&sequential).filter(|(exact, kept)| exact != kept).count();
        // The same sum, 20 keys late in one row.
        let mut late = sequential.clone();
        let last = late[3].last_mut().unwrap();
        *last = if *last + 20 < KEYS as u32 { *last + 20 } else { *last - 20 };
        let verdict = scores.judge(&late);
        assert!(rules(&verdict).contains(&Criterion::Mask), "{seed} {:?}", verdict.findings);
    }
    // Most rows of the F32 kernel keep other entries than the exact sum does.
    assert!(moved > 16, "{moved} of 32 rows");
}

/// A candidate whose tensors hold `edit` of the exact results.
fn edited(case: &Case, edit: impl Fn(&mut TensorFile)) -> TensorFile {
    let draw = case.draw().unwrap();
    let exact = evaluate::<f64>(&case.problem, None, draw.as_ref()).unwrap();
    let mut file = to_tensors(&exact, &case.settings, Stored::F64).unwrap();
    edit(&mut file);
    file
}

/// The false-alarm rates of the rules add up to the stated 1e-9, with the share of the mask that this crate has (docs/verdict.md).
#[test]
fn a_judge_without_known_bugs_follows_no_direction() {
    let shape = Shape { features: 8, value_features: 8, ..Shape::plain(16, 16) };
    let case = Case::new(shape.problem(), Settings::default().with_pass(Pass::Dense));
    let recipe = Recipe::built_in("flash-bf16").unwrap();
    let verdict = Judge::builder(&case, &recipe).build().unwrap().check(&edited(&case, |_| ()));
    assert_eq!((verdict.outcome, verdict.directions.len()), (Outcome::Pass, 0));
}
