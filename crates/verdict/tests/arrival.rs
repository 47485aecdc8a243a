//! Masks of the layout `arrival`: what a right kernel in `f32` may keep, and what wrong ones keep.

use crate::common::Shape;
use sus_bounds::{Recipe, Truth};
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::{Pass, Settings};
use sus_reference::backward::{DenseWeights, Weights};
use sus_reference::evaluation::{Evaluation, evaluate};
use sus_reference::sus::sample::uniforms;
use sus_reference::sus::{Budget, Layout, Pattern, Sample, sampled_values};
use sus_verdict::{Case, Criterion, Judge, Outcome, Verdict};

const KEYS: usize = 1300;

/// A case, its judge, and its exact results.
struct Arrival {
    case: Case,
    judge: Judge,
    truth: Truth,
    exact: Evaluation<f64>,
}

impl Arrival {
    fn new(seed: u64) -> Self {
        let shape = Shape { features: 4, value_features: 4, ..Shape::plain(12, KEYS) };
        let settings = Settings::default()
            .with_pass(Pass::Sus)
            .with_c(Budget::new(40.0).unwrap())
            .with_layout(Layout::Arrival)
            .with_seed(seed);
        let case = Case::new(shape.problem(), settings);
        let judge = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build().unwrap();
        let draw = case.draw().unwrap();
        let exact = evaluate::<f64>(&case.problem, None, draw.as_ref()).unwrap();
        let truth = Truth::exact(&case.problem).unwrap();
        Arrival { case, judge, truth, exact }
    }

    /// The verdict on a kernel that keeps what `keeps(cW, word of a key, key)` says, and computes everything else exactly.
    fn judge(&self, keeps: impl Fn(&[f64], &dyn Fn(usize) -> u32, usize) -> bool) -> Verdict {
        let problem = &self.case.problem;
        let draw = self.case.draw().unwrap().unwrap();
        let uniforms = uniforms(problem, &draw).unwrap();
        let weights = DenseWeights { problem, saved: &self.exact.saved };
        let (mut offsets, mut columns) = (vec![0], Vec::new());
        for at in 0..problem.row_count() {
            let row = problem.row(at);
            let mut s = Vec::new();
            weights.for_each(row, 0..KEYS, |weight| s.push(draw.c.get() * weight.w));
            let word = |j: usize| uniforms.word(row.b, row.h, row.i, j);
            columns.extend((0..KEYS).filter(|&j| keeps(&s, &word, j)).map(|j| j as u32));
            offsets.push(columns.len());
        }
        let mut evaluation = self.exact.clone();
        let mask = evaluation.mask.as_mut().unwrap();
        let pattern = Pattern::new(offsets.len() - 1, KEYS, offsets, columns).unwrap();
        mask.sample = Sample { pattern, ..mask.sample.clone() };
        evaluation.gradients = self.truth.gradients(Some(&mask.sample));
        mask.values = sampled_values(problem, &evaluation.saved, &mask.sample);
        self.judge.check(&to_tensors(&evaluation, &self.case.settings, Stored::F64).unwrap())
    }
}

/// `2^-32` of a word.
fn uniform(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

#[test]
fn thresholds_and_weights_in_f32_pass() {
    for seed in 0..3 {
        let arrival = Arrival::new(seed);
        let exact = arrival.judge(|s, word, j| s[j] >= 1.0 || uniform(word(j)) < s[j]);
        assert_eq!(exact.outcome, Outcome::Pass, "{:?}", exact.findings);
        // Twelve roundoffs at the threshold, to either side.
        for error in [1.0 - 7e-7, 1.0 + 7e-7] {
            let rounded =
                arrival.judge(|s, word, j| s[j] >= 1.0 || uniform(word(j)) * error < s[j]);
            assert_eq!(rounded.outcome, Outcome::Pass, "{error} {:?}", rounded.findings);
        }
    }
}

/// A hundredth off, the height for the probability, points that all cells of 64 keys share, and the sum of the tiles so far for that of
/// the row.
#[test]
fn masks_of_wrong_kernels_fail() {
    let arrival = Arrival::new(1);
    let running = |s: &[f64], j: usize| {
        let sum: f64 = s[..(j / 64 * 64 + 64).min(KEYS)].iter().sum();
        let all: f64 = s.iter().sum();
        s[j] * all / sum
    };
    let keep = |s: f64, u: f64| s >= 1.0 || u < s;
    let wrong: [(&str, Verdict); 4] = [
        ("hundredth", arrival.judge(|s, word, j| keep(s[j], uniform(word(j)) * 1.01))),
        ("height", arrival.judge(|s, word, j| keep(s[j], -libm::log1p(-uniform(word(j)))))),
        ("cells", arrival.judge(|s, word, j| keep(s[j], uniform(word(j % 64))))),
        ("running", arrival.judge(|s, word, j| keep(running(s, j), uniform(word(j))))),
    ];
    for (name, verdict) in wrong {
        let rules: Vec<Criterion> = verdict.findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(verdict.outcome, Outcome::Fail, "{name}");
        assert!(rules.contains(&Criterion::Mask), "{name}: {rules:?}");
    }
}
