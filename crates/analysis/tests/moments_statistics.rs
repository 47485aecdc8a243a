//! The laws where nothing can be enumerated: draws against exact moments, trained heads against an independent
//! computation, and what holds on any problem.

use crate::common::{Shape, numbers, shapes};
use proptest::prelude::*;
use rand_core::Rng;
use std::path::Path;
use sus_analysis::scan::scan;
use sus_analysis::{Analysis, Setting, settings};
use sus_files::{ProblemFile, Settings};
use sus_reference::backward::{DenseWeights, Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Options, Problem};
use sus_reference::sus::moments::count::{chernoff_tail, poisson_binomial, sum_distribution};
use sus_reference::sus::moments::functional::{bernstein_limit, bernstein_tail};
use sus_reference::sus::moments::{
    MaskDistribution, RowDistribution, Traces, functional_distribution,
};
use sus_reference::sus::optimum::{least_variance, multiplier};
use sus_reference::sus::{Budget, Draw, Rule, Sampler, sample, sus_backward};

fn budget(c: f64) -> Budget {
    Budget::new(c).unwrap()
}

fn traces(problem: &Problem<f64>, c: f64, rule: Rule, sampler: Sampler) -> Traces<f64> {
    MaskDistribution::new(problem, &forward(problem), budget(c), rule, sampler).traces()
}

/// Sums of `n` terms with a relative error of a few roundings each.
fn at_most(a: f64, b: f64) -> bool {
    a <= b * (1.0 + 1e-10) + 1e-25
}

const LAWS: [(Rule, Sampler); 4] = [
    (Rule::Paper, Sampler::Bernoulli),
    (Rule::Calibrated, Sampler::Bernoulli),
    (Rule::Paper, Sampler::Systematic),
    (Rule::Calibrated, Sampler::Systematic),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn variance_falls_as_the_budget_grows(shape in shapes(6, 12), c in 0.05..8.0_f64, more in 1.0..3.0_f64) {
        let problem = shape.problem();
        for (rule, sampler) in LAWS {
            let [low, high] = [c, c * more].map(|c| traces(&problem, c, rule, sampler));
            prop_assert!(at_most(high.dk, low.dk));
            prop_assert!(at_most(high.dv, low.dv));
            prop_assert!(at_most(high.dbias, low.dbias));
            if sampler == Sampler::Bernoulli {
                prop_assert!(at_most(high.dq, low.dq));
            }
        }
    }

    #[test]
    fn the_calibrated_rule_never_has_more_variance_than_the_papers(shape in shapes(6, 12), c in 0.05..8.0_f64) {
        // With a sink or a zero weight the paper's rule spends less than c; calibrated spends all of it.
        let problem = shape.problem();
        let [paper, calibrated] =
            [Rule::Paper, Rule::Calibrated].map(|rule| traces(&problem, c, rule, Sampler::Bernoulli));
        prop_assert!(at_most(calibrated.dq, paper.dq));
        prop_assert!(at_most(calibrated.dk, paper.dk));
        prop_assert!(at_most(calibrated.dv, paper.dv));
        prop_assert!(at_most(paper.expected, calibrated.expected));
    }

    #[test]
    fn expected_counts_never_exceed_the_budget_and_systematic_counts_never_its_ceiling(
        shape in shapes(6, 12), c in 0.05..8.0_f64, calibrated: bool,
    ) {
        let problem = shape.problem();
        let saved = forward(&problem);
        let rule = if calibrated { Rule::Calibrated } else { Rule::Paper };
        for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
            let law = MaskDistribution::new(&problem, &saved, budget(c), rule, sampler);
            for at in 0..problem.row_count() {
                let row = law.row(problem.row(at));
                prop_assert!(at_most(row.expected(), c));
                let counts = row.count_distribution();
                let total: f64 = counts.probability.iter().sum();
                prop_assert!((total - 1.0).abs() < 1e-13);
                if sampler == Sampler::Systematic {
                    let likely = (0..=problem.sizes().keys + 1).filter(|&n| counts.at(n) > 1e-12);
                    prop_assert!(likely.max().unwrap_or(0) as f64 <= c.ceil());
                }
            }
        }
    }

    #[test]
    fn the_scan_adds_up_to_the_traces_of_every_law(shape in shapes(5, 9), c in 0.05..8.0_f64) {
        let problem = shape.problem();
        let saved = forward(&problem);
        let all = settings(&[budget(c), budget(f64::INFINITY)], None, None);
        let totals = scan(&problem, &saved, &all, None, true).unwrap();
        for (Setting { c, rule, sampler }, heads) in all.into_iter().zip(totals) {
            let law = MaskDistribution::new(&problem, &saved, c, rule, sampler).traces();
            let sum = |f: &dyn Fn(&sus_analysis::Totals) -> f64| heads.iter().map(f).sum::<f64>();
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-11 * b + 1e-28;
            prop_assert!(close(sum(&|t| t.variance.dq), law.dq));
            prop_assert!(close(sum(&|t| t.variance.dk), law.dk));
            prop_assert!(close(sum(&|t| t.variance.dv), law.dv));
            prop_assert!(close(sum(&|t| t.dbias), law.dbias));
            prop_assert!(close(sum(&|t| t.expected), law.expected));
            prop_assert!(close(sum(&|t| t.count_variance), law.count_variance));
            if c.get() == f64::INFINITY {
                prop_assert_eq!((law.dq, law.dk, law.dv, law.dbias), (0.0, 0.0, 0.0, 0.0));
            }
            // No rule is better than the optimum, and freedom between rows does not hurt.
            for total in heads.iter().filter(|_| sampler == Sampler::Bernoulli) {
                if let (Some(row), Some(head)) = (total.row_optimum, total.head_optimum) {
                    prop_assert!(at_most(row.dq, total.variance.dq) && at_most(head.dq, row.dq));
                    prop_assert!(at_most(row.dk, total.variance.dk) && at_most(head.dk, row.dk));
                    prop_assert!(at_most(row.dv, total.variance.dv) && at_most(head.dv, row.dv));
                    if rule == Rule::Calibrated {
                        // In one row |G_i| is one number: the rule is the optimum for dv.
                        prop_assert!((row.dv - total.variance.dv).abs() <= 1e-9 * row.dv + 1e-20);
                    }
                }
            }
        }
    }

    #[test]
    fn no_probabilities_of_the_same_sum_beat_the_optimum(
        y in proptest::collection::vec(prop_oneof![Just(0.0), 0.001..5.0_f64], 1..12),
        share in 0.05..0.99_f64, pairs in proptest::collection::vec((0..12_usize, 0..12_usize, 0.0..1.0_f64), 8),
    ) {
        let positive = y.iter().filter(|&&y| y > 0.0).count();
        prop_assume!(positive > 0);
        let budget = share * positive as f64;
        let least = least_variance(&y, budget);
        let mu = multiplier(&y, budget);
        let mut q: Vec<f64> = y.iter().map(|&y| (mu * y).min(1.0)).collect();
        prop_assert!((q.iter().sum::<f64>() - budget).abs() < 1e-12 * positive as f64);
        let variance = |q: &[f64]| -> f64 {
            y.iter().zip(q).filter(|&(&y, _)| y > 0.0).map(|(y, q)| y * y * (1.0 - q) / q).sum()
        };
        prop_assert!((variance(&q) - least).abs() <= 1e-9 * least + 1e-12);
        // Move probability from one entry to another, again and again: never better.
        for (from, to, part) in pairs {
            let (from, to) = (from % y.len(), to % y.len());
            if from == to || y[from] == 0.0 || y[to] == 0.0 { continue; }
            let moved = part * (q[from] * 0.9).min(1.0 - q[to]);
            q[from] -= moved;
            q[to] += moved;
            prop_assert!(least <= variance(&q) * (1.0 + 1e-10) + 1e-12);
        }
    }

    #[test]
    fn the_tails_bound_the_exact_law(q in proptest::collection::vec(0.0..1.0_f64, 1..40), count in 0..45_usize) {
        let law = poisson_binomial(&q);
        let mean: f64 = q.iter().sum();
        let variance: f64 = q.iter().map(|q| q * (1.0 - q)).sum();
        let tail = chernoff_tail(mean, count as f64) * (1.0 + 1e-12);
        if count as f64 >= mean {
            prop_assert!(law.at_least(count) <= tail);
        } else {
            prop_assert!(law.at_most(count) <= tail);
        }
        let distance = (count as f64 - mean).abs();
        let beyond = law.at_most((mean - distance).floor().max(-1.0) as usize) * f64::from(mean >= distance)
            + law.at_least((mean + distance).ceil() as usize);
        prop_assert!(beyond <= bernstein_tail(variance, 1.0, distance) * (1.0 + 1e-12));
        let twice = sum_distribution(&[law.clone(), law.clone()]);
        let both: Vec<f64> = q.iter().chain(&q).copied().collect();
        let direct = poisson_binomial(&both);
        for n in 0..=both.len() {
            prop_assert!((twice.at(n) - direct.at(n)).abs() <= 1e-12 * direct.at(n) + 1e-300);
        }
    }
}

/// `mu y` may round to 1 on one side and stay below it on the other: the search once went round in circles there.
#[test]
fn the_optimum_is_found_where_an_entry_is_just_saturated() {
    for n in 1..40_usize {
        for value in [0.1, 0.3, 1.0, 7.0] {
            let y: Vec<f64> = (0..n).map(|at| value / (1 + at % 3) as f64).collect();
            for budget in [(n as f64).next_down(), n as f64 - 1e-9, n as f64 / 2.0, 1e-300] {
                assert!(least_variance(&y, budget) >= 0.0);
            }
        }
    }
    assert_eq!(least_variance(&[1.0], 0.0), f64::INFINITY);
    assert_eq!(least_variance(&[0.0], 0.0), 0.0);
}

#[test]
fn the_bernstein_limit_is_where_the_tail_is_alpha() {
    for (variance, deviation) in [(1.0, 0.0), (1.0, 1.0), (1e-3, 5.0), (40.0, 0.1)] {
        for alpha in [1e-3, 1e-9, 1e-15] {
            let x = bernstein_limit(variance, deviation, alpha);
            let tail = bernstein_tail(variance, deviation, x);
            assert!((tail / alpha - 1.0).abs() < 1e-10, "{tail} of {alpha}");
        }
    }
}

// ---------------------------------------------------------------- draws

/// Draws of each law.
const SEEDS: u64 = 400;

/// False alarms of this file: every comparison with draws is a two-sided Bernstein limit at `ALARM / COMPARISONS`, and
/// there are fewer than `COMPARISONS`. By the union bound, a right sampler with ideal words fails any of them with
/// probability at most `ALARM`. The seeds are fixed, so in fact it fails never or always.
const ALARM: f64 = 1e-9;
const COMPARISONS: f64 = 128.0;

/// Too large to enumerate: some 20 000 undecided entries, grouped heads, a bias, a softcap, a sink and a window.
fn large() -> Problem<f64> {
    let options = Options::default().with_softcap(2.0).with_causal(true);
    let shape = Shape {
        batch: 2,
        key_heads: 1,
        group: 2,
        features: 8,
        value_features: 6,
        dlse: true,
        bias: Some([true, false, true]),
        sink: true,
        options,
        seed: 77,
        ..Shape::plain(48, 160)
    };
    shape.problem()
}

/// What a multiple of the gradient and a random direction see: the first is far from zero, the second is blind to signs.
fn directions(problem: &Problem<f64>, dense: &Gradients<f64>) -> Vec<Gradients<f64>> {
    let mut rng = numbers(5);
    let mut random = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
    let inputs = problem.inputs();
    let [dq, dk, dv] = [&dense.dq, &dense.dk, &dense.dv].map(|x| x.map(|_| 0.0));
    let zero = Gradients::new(dq, dk, dv);
    let mut noise = zero.clone();
    for tensor in [&mut noise.dq, &mut noise.dk, &mut noise.dv] {
        tensor.as_mut_slice().iter_mut().for_each(|x| *x = random());
    }
    noise.dbias = inputs.bias.as_ref().map(|bias| {
        let mut bias = bias.clone();
        bias.as_mut_slice().iter_mut().for_each(|x| *x = random());
        bias
    });
    vec![
        Gradients { dq: dense.dq.clone(), ..zero.clone() },
        Gradients { dk: dense.dk.clone(), ..zero.clone() },
        Gradients { dv: dense.dv.clone(), ..zero.clone() },
        Gradients { dbias: dense.dbias.clone(), ..zero },
        noise,
    ]
}

fn apply(r: &Gradients<f64>, g: &Gradients<f64>) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let of_bias = match (&r.dbias, &g.dbias) {
        (Some(r), Some(g)) => dot(r.as_slice(), g.as_slice()),
        _ => 0.0,
    };
    dot(r.dq.as_slice(), g.dq.as_slice())
        + dot(r.dk.as_slice(), g.dk.as_slice())
        + dot(r.dv.as_slice(), g.dv.as_slice())
        + of_bias
}

struct Drawn {
    problem: Problem<f64>,
    saved: Saved<f64>,
    dense: Gradients<f64>,
    directions: Vec<Gradients<f64>>,
}

impl Drawn {
    fn new() -> Self {
        let problem = large();
        let saved = forward(&problem);
        let dense = backward(&problem, &saved);
        let directions = directions(&problem, &dense);
        Drawn { problem, saved, dense, directions }
    }

    /// The sums of each direction over the draws of all seeds.
    fn sums(&self, c: f64, rule: Rule, sampler: Sampler) -> Vec<f64> {
        let mut sums = vec![0.0; self.directions.len()];
        for seed in 0..SEEDS {
            let draw = Draw::paper(budget(c), seed).with_rule(rule).with_sampler(sampler);
            let mask = sample(&self.problem, &self.saved, &draw).unwrap();
            let g = sus_backward(&self.problem, &self.saved, &mask);
            for (sum, r) in sums.iter_mut().zip(&self.directions) {
                *sum += apply(r, &g);
            }
        }
        sums
    }
}

#[test]
fn the_mean_of_many_draws_is_the_dense_gradient_within_bernsteins_limit() {
    let drawn = Drawn::new();
    let n = SEEDS as f64;
    let mut caught = 0;
    for (rule, sampler) in LAWS {
        let c = 60.0;
        let law = MaskDistribution::new(&drawn.problem, &drawn.saved, budget(c), rule, sampler);
        for (sum, r) in drawn.sums(c, rule, sampler).into_iter().zip(&drawn.directions) {
            let exact = functional_distribution(&law, r);
            assert!(
                (exact.mean - apply(r, &drawn.dense)).abs()
                    <= 1e-10 * exact.range.max(exact.mean.abs())
            );
            // A 32-bit word keeps with a probability that is up to 2^-32 too large: 2^-32 kept weights an entry.
            let grid = n * exact.range * 2.0_f64.powi(-32) * f64::from(2 * 2 * 48 * 160);
            let limit =
                bernstein_limit(n * exact.variance, exact.deviation, ALARM / COMPARISONS) + grid;
            let error = sum - n * exact.mean;
            assert!(error.abs() <= limit, "{rule} {sampler}: {error} beyond {limit}");
            assert!(error != 0.0, "a draw is not the mean");
            // A kernel whose weights are 2 % too large would be caught where the limit is below 1 % of the mean.
            if limit < 0.01 * n * exact.mean.abs() {
                assert!((error + 0.02 * sum).abs() > limit);
                caught += 1;
            }
        }
    }
    assert!(caught >= 4, "the limits are tight enough to see 2 % in {caught} places");
}

/// `sum (W~ - W)^2 |G|^2` over all entries and seeds is a sum of independent terms whose mean is what the traces say.
#[test]
fn the_squared_deviations_of_many_draws_are_the_variance_within_bernsteins_limit() {
    let drawn = Drawn::new();
    let p = &drawn.problem;
    for rule in [Rule::Paper, Rule::Calibrated] {
        let law = MaskDistribution::new(p, &drawn.saved, budget(12.0), rule, Sampler::Bernoulli);
        let rows: Vec<RowDistribution<f64>> =
            (0..p.row_count()).map(|at| law.row(p.row(at))).collect();
        let g_squared: Vec<f64> =
            (0..p.row_count()).map(|at| p.g(p.row(at)).iter().map(|g| g * g).sum()).collect();
        let (mut mean, mut variance, mut deviation) = (0.0, 0.0, 0.0_f64);
        for (row, g) in rows.iter().zip(&g_squared) {
            for n in (0..row.q.len()).filter(|&n| row.is_stochastic(n)) {
                let (q, w) = (row.q[n], row.w[n]);
                let (kept, dropped) = (g * (row.kept[n] - w).powi(2), g * w * w);
                mean += q * kept + (1.0 - q) * dropped;
                variance += q * (1.0 - q) * (kept - dropped).powi(2);
                deviation = deviation.max((kept - dropped).abs());
            }
        }
        assert!((law.traces().dv / mean - 1.0).abs() < 1e-11);
        let mut sum = 0.0;
        for seed in 1000..1000 + SEEDS {
            let draw = Draw::paper(budget(12.0), seed).with_rule(rule);
            let mask = sample(p, &drawn.saved, &draw).unwrap();
            for (at, row) in rows.iter().enumerate() {
                let first = p.span(p.row(at)).start;
                let kept: Vec<usize> =
                    mask.pattern.row(at).iter().map(|&j| j as usize - first).collect();
                for n in (0..row.q.len()).filter(|&n| row.is_stochastic(n)) {
                    let w = if kept.binary_search(&n).is_ok() { row.kept[n] } else { 0.0 };
                    sum += g_squared[at] * (w - row.w[n]).powi(2);
                }
            }
        }
        let n = SEEDS as f64;
        let limit = bernstein_limit(n * variance, deviation, ALARM / COMPARISONS);
        assert!((sum - n * mean).abs() <= limit, "{rule}: {} beyond {limit}", sum - n * mean);
        assert!(limit < 0.01 * n * mean, "a variance that is 2 % wrong would be seen");
        assert!((1.02 * sum - n * mean).abs() > limit);
    }
}

// ---------------------------------------------------------------- trained heads

fn real(name: &str) -> Problem<f64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/real").join(name);
    ProblemFile::read(&path, Settings::default()).unwrap().problem
}

fn reference() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/real/reference.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn expect_close(found: f64, expected: &serde_json::Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    // Both are float64 computations of sums of half a million positive terms.
    assert!((found / expected - 1.0).abs() < 1e-10, "{what}: {found} for {expected}");
}

#[test]
fn the_heads_of_a_trained_transformer_have_the_moments_of_the_independent_computation() {
    let reference = reference();
    let heads = reference["heads"].as_array().unwrap();
    let budgets = [5.0, 10.0, 30.0, 100.0];
    let paper: Vec<Setting> =
        settings(&budgets.map(budget), Some(Rule::Paper), Some(Sampler::Bernoulli));
    for (file, heads) in ["layer0", "layer2", "layer4"].into_iter().zip(heads.chunks(2)) {
        let problem = real(&format!("{file}.safetensors"));
        let mut analysis = Analysis::new(paper.clone());
        analysis.add(&problem, None).unwrap();
        for (at, head) in heads.iter().enumerate() {
            let norms = analysis.gradients.as_ref().map(|spread| spread.squared_norm(Some(at)));
            expect_close(norms.dq, &head["norm2"]["dq"], "|dq|^2");
            expect_close(norms.dk, &head["norm2"]["dk"], "|dk|^2");
            expect_close(norms.dv, &head["norm2"]["dv"], "|dv|^2");
            for (n, c) in ["5", "10", "30", "100"].into_iter().enumerate() {
                let (totals, expected) = (&analysis.totals[n][at], &head["c"][c]);
                expect_close(totals.expected, &expected["expected_nnz"], "E nnz");
                expect_close(totals.count_variance, &expected["nnz_variance"], "Var nnz");
                expect_close(totals.variance.dq, &expected["var_trace"]["dq"], "Var dq");
                expect_close(totals.variance.dk, &expected["var_trace"]["dk"], "Var dk");
                expect_close(totals.variance.dv, &expected["var_trace"]["dv"], "Var dv");
            }
        }
    }
}

/// Six digits of an independent float64 computation.
#[test]
fn the_sequences_have_the_relative_increase_of_the_independent_computation() {
    let expected = [
        [6.70544, 3.86186, 1.91946],
        [2.93759, 1.69563, 0.83815],
        [0.669_639, 0.385_820, 0.189_798],
        [0.093_911_1, 0.052_879_8, 0.024_814_2],
    ];
    let budgets = [5.0, 10.0, 30.0, 100.0].map(budget);
    let mut analysis =
        Analysis::new(settings(&budgets, Some(Rule::Paper), Some(Sampler::Bernoulli)));
    analysis.add(&real("sequences.safetensors"), None).unwrap();
    for (at, expected) in expected.into_iter().enumerate() {
        let found = analysis.relative_increase(analysis.total(at).variance, None).unwrap();
        for (found, expected) in found.into_array().into_iter().zip(expected) {
            assert!((found.unwrap() / expected - 1.0).abs() < 1e-5, "{found:?} for {expected}");
        }
    }
}

#[test]
fn uniform_weights_in_floating_point_have_the_variance_worked_by_hand() {
    // Queries are zero, so every weight is 1/n.
    let (n, c) = (50, 5.0);
    let shape = Shape::plain(3, n);
    let mut inputs = shape.problem().inputs().clone();
    inputs.q.as_mut_slice().fill(0.0);
    let problem = Problem::new(inputs, Options::default()).unwrap();
    let found = traces(&problem, c, Rule::Paper, Sampler::Bernoulli);
    let g: f64 = problem.inputs().g.as_slice().iter().map(|g| g * g).sum();
    assert!((found.expected / (3.0 * c) - 1.0).abs() < 1e-14);
    assert!((found.dv / (g * (1.0 / c - 1.0 / n as f64)) - 1.0).abs() < 1e-13);
    // The dense weights of the problem are what the law says they are.
    let saved = forward(&problem);
    let w = DenseWeights { problem: &problem, saved: &saved }.at(problem.row(0), 0).w;
    assert!((w * n as f64 - 1.0).abs() < 1e-14);
}
