//! Budgets spread over heads: against the distributions of `sus_reference`, against other budgets, and on trained heads.

use crate::common::{Shape, shapes};
use proptest::prelude::*;
use std::path::Path;
use sus_analysis::choose::{RelativeTo, TargetGradients};
use sus_analysis::layers::{
    Estimator, LayerBudgets, LayerProblem, LayersTarget, RowBudgets, Spend, allocate,
};
use sus_files::{ProblemFile, Settings};
use sus_reference::backward::{DenseWeights, backward, delta};
use sus_reference::forward::forward;
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::sus::moments::{MaskDistribution, Traces};
use sus_reference::sus::{Budget, Sampler};
use sus_reference::tensor::Tensor;

fn target(spend: Spend) -> LayersTarget {
    LayersTarget {
        spend,
        of: TargetGradients::Sum,
        relative_to: RelativeTo::Nothing,
        estimator: Estimator::default(),
        by_reference: true,
    }
}

fn layer(problem: &Problem<f64>) -> LayerProblem {
    LayerProblem { name: "layer".into(), problem: problem.clone(), weight: 1.0 }
}

fn problem(seed: u64, queries: usize) -> Problem<f64> {
    let options = Options::default().with_causal(true);
    Shape { key_heads: 2, group: 2, seed, options, ..Shape::plain(queries, queries) }.problem()
}

/// The traces of one head at a budget, by the distribution of the whole mask: all other rows keep everything.
fn of_head(problem: &Problem<f64>, h: usize, c: f64, scale: impl Fn(usize) -> f64) -> Traces<f64> {
    let saved = forward(problem);
    let lambda = |at: usize| {
        let row = problem.row(at);
        if row.h == h { c * scale(at) } else { f64::INFINITY }
    };
    let masks = MaskDistribution {
        problem,
        weights: DenseWeights { problem, saved: &saved },
        delta: delta(problem, &saved.o),
        lambda: (0..problem.row_count()).map(lambda).collect(),
        sampler: Sampler::Bernoulli,
    };
    let mut traces = masks.traces();
    let others = (0..problem.row_count()).map(|at| problem.row(at)).filter(|row| row.h != h);
    traces.expected -= others.map(|row| problem.visible_keys(row) as f64).sum::<f64>();
    traces
}

fn sum(traces: &Traces<f64>) -> f64 {
    traces.dq + traces.dk + traces.dv
}

fn budgets(found: &LayerBudgets) -> Vec<(usize, usize, f64)> {
    let of_layer = |(l, layer): (usize, &sus_analysis::layers::LayerResult)| {
        layer.heads.iter().enumerate().map(|(h, head)| (l, h, head.c)).collect::<Vec<_>>()
    };
    found.layers.iter().enumerate().flat_map(of_layer).collect()
}

#[test]
fn no_other_budget_of_a_head_is_better_at_the_common_multiplier() {
    // Everett: with budgets that minimise V + mu N head by head, no others have less V at the same N.
    let problems = [problem(3, 24), problem(4, 17)];
    let found = allocate(problems.iter().map(layer).collect(), &target(Spend::Count(3.0))).unwrap();
    let rows: usize = problems.iter().map(Problem::row_count).sum();
    let mu = found.marginal / rows as f64;
    // All heads together are no further from their least Lagrangians than the result from its bound.
    let slack = found.chosen.increase - found.bound;
    assert!((0.0..1e-3 * found.chosen.increase).contains(&slack), "{slack}");
    let mut inside = 0;
    for (l, h, c) in budgets(&found) {
        let lagrangian = |c: f64| {
            let traces = of_head(&problems[l], h, c, |_| 1.0);
            sum(&traces) + mu * traces.expected
        };
        let here = lagrangian(c);
        for n in -40..=40 {
            let other = lagrangian(c * 1.1_f64.powi(n));
            assert!(other >= here - slack, "head {l} {h}: {other} at {n}, {here} at {c}");
            inside += usize::from(other > here * 1.01);
        }
    }
    assert!(inside > 100, "the Lagrangian hardly depends on the budgets");
}

#[test]
fn the_expectations_are_those_of_the_masks_distribution() {
    let problems = [problem(5, 20), problem(6, 12)];
    let found = allocate(problems.iter().map(layer).collect(), &target(Spend::Count(2.5))).unwrap();
    let mut all = Traces::zero();
    for (l, h, c) in budgets(&found) {
        let (traces, head) = (of_head(&problems[l], h, c, |_| 1.0), found.layers[l].heads[h]);
        let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-11, "{a} {b}");
        close(head.chosen.variance.dq, traces.dq);
        close(head.chosen.variance.dk, traces.dk);
        close(head.chosen.variance.dv, traces.dv);
        close(head.chosen.expected, traces.expected);
        all.add(&traces);
    }
    let rows: usize = problems.iter().map(Problem::row_count).sum();
    assert!((all.expected / rows as f64 - 2.5).abs() < 1e-9);
    assert!((sum(&all) / found.chosen.increase - 1.0).abs() < 1e-11);
}

#[test]
fn rows_are_scaled_by_their_cotangents_and_a_row_without_one_keeps_nothing() {
    let whole = problem(7, 16);
    let mut inputs = whole.inputs().clone();
    inputs.g.as_mut_slice()[..2].fill(0.0); // the first row of head 0
    let problem = Problem::new(inputs, whole.options().clone()).unwrap();
    let estimator = Estimator { rows: RowBudgets::Cotangent, ..Estimator::default() };
    let asked = LayersTarget { estimator, ..target(Spend::Count(2.0)) };
    let found = allocate(vec![layer(&problem)], &asked).unwrap();
    for (_, h, c) in budgets(&found) {
        let norm = |at: usize| problem.g(problem.row(at)).iter().map(|x| x * x).sum::<f64>().sqrt();
        let rows: Vec<usize> =
            (0..problem.row_count()).filter(|&at| problem.row(at).h == h).collect();
        let mean = rows.iter().map(|&at| norm(at)).sum::<f64>() / rows.len() as f64;
        // The distribution needs a lambda above 0; that of a row without a cotangent makes no difference to a variance.
        let traces = of_head(&problem, h, c, |at| (norm(at) / mean).max(1e-30));
        let head = found.layers[0].heads[h];
        assert!((head.chosen.expected / traces.expected - 1.0).abs() < 1e-11);
        assert!((head.increase / sum(&traces) - 1.0).abs() < 1e-11);
    }
    // Without a cotangent the row adds nothing to any gradient.
    let dense = backward(&problem, &forward(&problem));
    assert_eq!(dense.dq.row(0, 0, 0), [0.0; 3]);
}

#[test]
fn centred_keys_and_a_remainder_have_the_variance_of_their_formula() {
    let problem = problem(8, 14);
    let saved = forward(&problem);
    for (centred_keys, remainder) in [(true, false), (false, true), (true, true)] {
        let estimator = Estimator { rows: RowBudgets::Uniform, centred_keys, remainder };
        let asked = LayersTarget { estimator, ..target(Spend::Count(2.0)) };
        let found = allocate(vec![layer(&problem)], &asked).unwrap();
        for (_, h, c) in budgets(&found) {
            let keys = problem.sizes().keys;
            let first = problem.row(h * keys);
            let mean: Vec<f64> = (0..3)
                .map(|d| (0..keys).map(|j| problem.k(first, j)[d]).sum::<f64>() / keys as f64)
                .collect();
            let kappa = if centred_keys { mean } else { vec![0.0; 3] };
            let (mut dq, mut dv, mut expected) = (0.0, 0.0, 0.0);
            let masks = MaskDistribution::new(
                &problem,
                &saved,
                Budget::new(c).unwrap(),
                sus_reference::sus::Rule::Paper,
                Sampler::Bernoulli,
            );
            for at in (0..problem.row_count()).filter(|&at| problem.row(at).h == h) {
                let (row, entries) = (problem.row(at), masks.entries(problem.row(at)));
                let mut sorted: Vec<f64> = entries.iter().map(|entry| entry.w).collect();
                sorted.sort_by(f64::total_cmp);
                let u = if remainder { sorted[(sorted.len() - 1) / 2] } else { 0.0 };
                for entry in &entries {
                    let y = (entry.w - u).abs();
                    let q = (c * y).min(1.0);
                    expected += q;
                    let r = if q > 0.0 { y * y * (1.0 - q) / q } else { 0.0 };
                    let k = problem.k(row, entry.j).iter().zip(&kappa);
                    dq +=
                        r * entry.f.powi(2) * k.map(|(k, kappa)| (k - kappa).powi(2)).sum::<f64>();
                    dv += r * problem.g(row).iter().map(|x| x * x).sum::<f64>();
                }
            }
            let head = found.layers[0].heads[h].chosen;
            assert!((head.expected / expected - 1.0).abs() < 1e-11);
            assert!((head.variance.dq / dq - 1.0).abs() < 1e-10);
            assert!((head.variance.dv / dv - 1.0).abs() < 1e-10);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_budget_is_met_and_never_does_worse_than_one_c(
        shape in shapes(5, 9), other in shapes(5, 9), share in 0.02..0.98_f64, weight in 0.1..10.0_f64,
    ) {
        let batch = shape.batch;
        let problems = [shape.problem(), Shape { batch, ..other }.problem()];
        let visible: usize = problems.iter().map(|problem| {
            (0..problem.row_count()).map(|at| problem.visible_keys(problem.row(at))).sum::<usize>()
        }).sum();
        let rows: usize = problems.iter().map(Problem::row_count).sum();
        prop_assume!(visible > 0);
        let count = share * visible as f64 / rows as f64;
        let [first, second] = &problems;
        let layers = || vec![layer(first), LayerProblem { weight, ..layer(second) }];
        // A weight that underflowed is not kept: then the count may be out of reach, and is refused.
        let Ok(found) = allocate(layers(), &target(Spend::Count(count))) else { return Ok(()) };
        prop_assert!((found.chosen.count / count - 1.0).abs() < 1e-9, "{} {count}", found.chosen.count);
        prop_assert!((found.one_c.count / count - 1.0).abs() < 1e-9);
        prop_assert!(found.chosen.increase <= found.one_c.increase);
        prop_assert!(found.bound <= found.chosen.increase * (1.0 + 1e-9) + 1e-20);
        // The way back: the least count with this variance is this count, up to what the grid leaves open.
        if found.chosen.increase > 1e-12 {
            let back = allocate(layers(), &target(Spend::Increase(found.chosen.increase))).unwrap();
            prop_assert!(back.chosen.increase <= found.chosen.increase * (1.0 + 1e-9));
            prop_assert!(back.bound <= count * (1.0 + 1e-9));
        }
    }
}

fn real(name: &str) -> LayerProblem {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/real").join(name);
    let problem = ProblemFile::read(&path, Settings::default()).unwrap().problem;
    LayerProblem { name: name.into(), problem, weight: 1.0 }
}

#[test]
fn a_third_of_the_papers_increase_is_reached_on_the_trained_layers_at_the_same_count() {
    let layers = ["layer0.safetensors", "layer2.safetensors", "layer4.safetensors"];
    let asked = |estimator| LayersTarget {
        estimator,
        relative_to: RelativeTo::Norm,
        by_reference: false,
        ..target(Spend::CountOf(Budget::new(30.0).unwrap()))
    };
    let found = |estimator| allocate(layers.map(real).into(), &asked(estimator)).unwrap();
    let sus = found(Estimator::default());
    let cotangent = RowBudgets::Cotangent;
    let rows = found(Estimator { rows: cotangent, ..Estimator::default() });
    let all = found(Estimator { rows: cotangent, centred_keys: true, remainder: true });
    for found in [&sus, &rows, &all] {
        assert!((found.chosen.count / found.paper.count - 1.0).abs() < 1e-9);
        assert!(found.bound <= found.chosen.increase);
        // The grid costs little: the bound holds for all budgets of the heads, on the grid or not.
        assert!(
            found.bound > 0.999 * found.chosen.increase,
            "{}",
            found.bound / found.chosen.increase
        );
    }
    let ratio = |found: &LayerBudgets| found.chosen.increase / found.paper.increase;
    assert!(ratio(&sus) < 1.0 && ratio(&rows) < ratio(&sus) && ratio(&all) < 1.0 / 3.0);
}

#[test]
fn equal_layers_are_no_worse_than_with_one_c() {
    // The grid would give one of the two a little more, which is a little worse than one c for both.
    let zeros = || Tensor::zeros([1, 1, 16, 1]);
    let g = Tensor::from_fn([1, 1, 16, 1], |_| 1.0);
    let alike =
        Problem::new(Inputs::new(zeros(), zeros(), zeros(), g), Options::default()).unwrap();
    for count in [1.01, 2.2, 5.003] {
        let asked = LayersTarget { of: TargetGradients::Dv, ..target(Spend::Count(count)) };
        let found = allocate(vec![layer(&alike); 2], &asked).unwrap();
        // By hand, with n = 16 equal weights: 1/c - 1/n for each of the 16 rows of both layers, and c is the count.
        let by_hand = 32.0 * (1.0 / count - 1.0 / 16.0);
        assert!((found.one_c.increase / by_hand - 1.0).abs() < 1e-12);
        assert!((found.paper.c.unwrap() / count - 1.0).abs() < 1e-12);
        assert!(found.chosen.increase <= found.one_c.increase);
    }
}

/// Two heads of 12 queries and 16 keys. In head 0 eleven rows have two weights of a half and no cotangent: from `c = 1` to 2 it
/// spends on them for nothing, and gains only later. In head 1 all rows are alike, and have weights of 1/16.
fn not_convex() -> Problem<f64> {
    let tensor = |shape, at: fn([usize; 4]) -> f64| Tensor::from_fn(shape, at);
    let inputs = Inputs::new(
        tensor([1, 2, 12, 1], |[_, h, i, _]| if h == 0 && i > 0 { 32.0 } else { 0.0 }),
        tensor([1, 1, 16, 1], |[_, _, j, _]| if j < 2 { 1.0 } else { 0.0 }),
        tensor([1, 1, 16, 1], |[_, _, j, _]| j as f64),
        tensor([1, 2, 12, 1], |[_, h, i, _]| if h == 0 && i > 0 { 0.0 } else { 1.0 }),
    );
    Problem::new(inputs, Options::default()).unwrap()
}

#[test]
fn a_curve_that_is_not_convex_is_passed_over_by_its_hull() {
    let problem = not_convex();
    let grid: Vec<f64> = (-200..300).map(|n| 1.02_f64.powi(n)).collect();
    let of = |h: usize| -> Vec<(f64, f64)> {
        let at = |c: &f64| of_head(&problem, h, *c, |_| 1.0);
        grid.iter().map(at).map(|traces| (traces.expected, traces.dv)).collect()
    };
    let (first, second) = (of(0), of(1));
    let mut reached = 0;
    for n in 1..60 {
        let count = 0.5 + f64::from(n) * 0.05;
        let asked = LayersTarget { of: TargetGradients::Dv, ..target(Spend::Count(count)) };
        let found = allocate(vec![layer(&problem)], &asked).unwrap();
        assert!((found.chosen.count / count - 1.0).abs() < 1e-9);
        let all = first.iter().flat_map(|a| second.iter().map(move |b| (a.0 + b.0, a.1 + b.1)));
        let least = all.filter(|pair| pair.0 <= 24.0 * count).map(|pair| pair.1);
        let least = least.fold(f64::INFINITY, f64::min);
        assert!(found.bound <= least * (1.0 + 1e-9), "{} {least} at {count}", found.bound);
        reached += usize::from(found.chosen.increase <= least * (1.0 + 1e-9));
    }
    // In the gap that the hull passes over, a pair of budgets inside of it can be better; elsewhere none is.
    assert!(reached >= 50, "{reached} of 59");
}
