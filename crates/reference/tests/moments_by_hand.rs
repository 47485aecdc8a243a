//! Moments, tails and sums worked out by hand, and problems of more rows and keys than one task has.

use crate::common::Shape;
use crate::exact::{Exact, Rational, exact, ratio, systematic_masks};
use approx::assert_relative_eq;
use num_traits::{One, Zero};
use sus_reference::backward::{DenseWeights, Gradients, backward};
use sus_reference::forward::forward;
use sus_reference::sus::moments::count::{
    CountDistribution, chernoff_tail, poisson_binomial, sum_distribution,
};
use sus_reference::sus::moments::enumerate::{RowMask, for_each_gradient, row_masks};
use sus_reference::sus::moments::functional::{bernstein_limit, bernstein_tail};
use sus_reference::sus::moments::pieces::Pieces;
use sus_reference::sus::moments::{
    Functional, MaskDistribution, RowDistribution, Traces, functional_distribution, variances,
};
use sus_reference::sus::{Budget, Draw, Sampler, sample, sus_backward};
use sus_reference::tensor::Tensor;

/// The roundoff of `f64`.
const U: f64 = f64::EPSILON / 2.0;

#[test]
fn chernoffs_bound_is_the_formula_and_above_the_exact_tail() {
    // e^{x - mean} (mean / x)^x: e^4 / 2^8 at twice the mean 4, and (2e)^{-1} 2 at half of the mean 2. The exponent, at
    // most 8 in size, rounds three times, so its error is 24 roundings; exp adds 2.
    assert_relative_eq!(
        chernoff_tail(4.0, 8.0),
        4.0_f64.exp() / 256.0,
        epsilon = 0.0,
        max_relative = 30.0 * U
    );
    assert_relative_eq!(
        chernoff_tail(2.0, 1.0),
        2.0 * (-1.0_f64).exp(),
        epsilon = 0.0,
        max_relative = 30.0 * U
    );
    assert_relative_eq!(
        chernoff_tail(2.5, 0.0),
        (-2.5_f64).exp(),
        epsilon = 0.0,
        max_relative = 4.0 * U
    );
    assert_eq!(chernoff_tail(4.0, 4.0), 1.0);
    assert_eq!(chernoff_tail(0.0, 1.0), 0.0);
    let counts = poisson_binomial(&[0.5, 0.25, 0.125, 0.75, 0.5, 0.375]);
    for count in 3..=6 {
        assert!(counts.at_least(count) <= chernoff_tail(2.5, count as f64), "{count} or more");
    }
    for count in 0..=2 {
        assert!(counts.at_most(count) <= chernoff_tail(2.5, count as f64), "{count} or fewer");
    }
}

#[test]
fn counts_of_several_rows_add_up() {
    let first = CountDistribution { least: 1, probability: vec![0.25, 0.75] };
    let second = CountDistribution { least: 2, probability: vec![0.5, 0.25, 0.25] };
    assert_eq!(sum_distribution(std::slice::from_ref(&first)), first);
    let sum = sum_distribution(&[first, second]);
    // 1 + 2 with 1/8; 1 + 3 or 2 + 2 with 1/16 + 3/8; 1 + 4 or 2 + 3 with 1/16 + 3/16; 2 + 4 with 3/16.
    let expected = vec![0.125, 0.4375, 0.25, 0.1875];
    assert_eq!(sum, CountDistribution { least: 3, probability: expected });
    assert_eq!(sum_distribution(&[]), CountDistribution { least: 0, probability: vec![1.0] });
}

#[test]
fn bernsteins_bound_is_the_formula_and_its_limit_the_inverse() {
    // x^2 / (2 V + 2 b x / 3): 9 / (2 + 4) at V = 1, b = 2, x = 3. Five roundings of the exponent 1.5, two of exp.
    assert_relative_eq!(
        bernstein_tail(1.0, 2.0, 3.0),
        2.0 * (-1.5_f64).exp(),
        epsilon = 0.0,
        max_relative = 12.0 * U
    );
    assert_eq!(bernstein_tail(1.0, 2.0, 0.0), 1.0);
    assert_eq!(bernstein_tail(0.0, 0.0, 0.0), 1.0);
    assert_eq!(bernstein_tail(0.0, 0.0, 1.0), 0.0);
    assert_eq!(bernstein_tail(1.0, 0.0, 0.1), 1.0); // 2 exp(-0.005), cut
    // At alpha = 2 / e^2, l = 2: b l / 3 = 2 and 2 V l = 32 give 2 + sqrt(4 + 32) = 8.
    let alpha = 2.0 * (-2.0_f64).exp();
    assert_relative_eq!(
        bernstein_limit(8.0, 3.0, alpha),
        8.0,
        epsilon = 0.0,
        max_relative = 16.0 * U
    );
    for (variance, deviation) in [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5), (1e-3, 7.0)] {
        let x = bernstein_limit(variance, deviation, 1e-9);
        // The exponent is ln(2e9) = 21: a relative error of 2 * 8 roundings in x^2 and the like counts 21 times.
        assert_relative_eq!(
            bernstein_tail(variance, deviation, x),
            1e-9,
            epsilon = 0.0,
            max_relative = 21.0 * 24.0 * U
        );
    }
}

#[test]
fn traces_add_in_every_field() {
    let one = Traces { dq: 1.0, dk: 2.0, dv: 3.0, dbias: 4.0, expected: 5.0, count_variance: 6.0 };
    let mut sum = Traces::zero();
    sum.add(&one);
    assert_eq!(sum, one);
    sum.add(&one);
    let twice =
        Traces { dq: 2.0, dk: 4.0, dv: 6.0, dbias: 8.0, expected: 10.0, count_variance: 12.0 };
    assert_eq!(sum, twice);
}

#[test]
fn a_sum_that_reaches_an_integer_has_no_step_there() {
    let half = ratio(1, 2);
    let pieces = Pieces::new(&[half, half, half, half]);
    assert_eq!(pieces.start, [0, 2]);
    assert_eq!(pieces.fraction, Rational::zero());
    assert_eq!(pieces.steps.iter().map(|step| step.cut).collect::<Vec<_>>(), [half, half]);
}

#[test]
fn the_mean_of_a_product_is_that_of_all_pieces() {
    let pieces = Pieces::new(&[ratio(1, 2), ratio(3, 4)]);
    // Kept are {0, 1} below 1/4, {0} below 1/2 and {1} above.
    let (x, y) = ([ratio(3, 1), ratio(5, 1)], [ratio(7, 1), ratio(-2, 1)]);
    let (x0, y0) = (ratio(1, 1), ratio(10, 1));
    let expected = ratio(1, 4) * ratio(9, 1) * ratio(15, 1)
        + ratio(1, 4) * ratio(4, 1) * ratio(17, 1)
        + ratio(1, 2) * ratio(6, 1) * ratio(8, 1);
    assert_eq!(pieces.product((x0, &x), (y0, &y)), expected);
}

#[test]
fn two_steps_at_one_cut_leave_no_mask_between_them() {
    let row = RowDistribution::new(Sampler::Systematic, ratio(3, 2), [ratio(1, 3); 3].into_iter());
    let half = ratio(1, 2);
    let expected = [
        RowMask { probability: half, kept: vec![0, 2] },
        RowMask { probability: half, kept: vec![1] },
    ];
    assert_eq!(row_masks(&row), expected);
}

#[test]
fn coefficients_of_another_shape_are_refused() {
    let exact = exact(&Shape { bias: Some([false; 3]), ..Shape::plain(2, 3) }, false);
    let masks = distribution(&exact, ratio(3, 2), Sampler::Bernoulli);
    let dense = exact.gradients(&exact.weights);
    // Larger in every axis, so that no index is out of range.
    let other = Tensor::zeros([1, 1, 9, 9]);
    let wrong: [Functional<Rational>; 4] = [
        Gradients { dq: other.clone(), ..dense.clone() },
        Gradients { dk: other.clone(), ..dense.clone() },
        Gradients { dv: other.clone(), ..dense.clone() },
        Gradients { dbias: Some(other), ..dense },
    ];
    for functional in wrong {
        std::panic::catch_unwind(|| functional_distribution(&masks, &functional))
            .expect_err("a shape that is not the gradient's");
    }
}

#[test]
fn twenty_stochastic_entries_are_enumerated_and_one_more_is_not() {
    // A systematic row of n stochastic entries has at most n + 1 masks.
    let masks_of = |keys: usize| {
        let exact = exact(&Shape::plain(1, keys), false);
        let masks = distribution(&exact, ratio(1, 100), Sampler::Systematic);
        let mut count = 0;
        for_each_gradient(&masks, |_, _| count += 1).map(|()| count)
    };
    assert!(masks_of(20).is_ok_and(|count| (2..=21).contains(&count)));
    assert!(masks_of(21).is_err());
}

/// More rows than one task, in two sequences and grouped heads, with rational weights.
fn many_rows() -> Exact {
    let shape = Shape {
        batch: 2,
        key_heads: 2,
        group: 2,
        bias: Some([true, false, true]),
        dlse: true,
        ..Shape::plain(19, 3)
    };
    exact(&shape, false)
}

fn distribution(
    exact: &Exact,
    lambda: Rational,
    sampler: Sampler,
) -> MaskDistribution<'_, Rational, crate::exact::Table> {
    MaskDistribution {
        problem: &exact.problem,
        weights: exact.weights.clone(),
        delta: exact.delta.clone(),
        lambda: vec![lambda; exact.problem.row_count()],
        sampler,
    }
}

#[test]
fn traces_of_several_tasks_are_the_sums_of_the_variances() {
    let exact = many_rows();
    assert!(exact.problem.row_count() > 2 * sus_reference::sus::moments::ROWS_PER_TASK);
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        let masks = distribution(&exact, ratio(3, 2), sampler);
        let (traces, all) = (masks.traces(), variances(&masks));
        let total = |x: &Tensor<Rational>| x.as_slice().iter().copied().sum::<Rational>();
        assert_eq!(traces.dq, total(&all.dq));
        assert_eq!(traces.dk, total(&all.dk));
        assert_eq!(traces.dv, total(&all.dv));
        assert_eq!(traces.dbias, total(all.dbias.as_ref().expect("the problem has a bias")));
        let rows = || (0..exact.problem.row_count()).map(|at| masks.row(exact.problem.row(at)));
        assert_eq!(traces.expected, rows().map(|row| row.expected()).sum());
        assert_eq!(traces.count_variance, rows().map(|row| row.count_variance()).sum());
    }
}

#[test]
fn the_trace_of_a_row_is_the_sum_of_its_variances() {
    let weights = [ratio(1, 2), ratio(1, 3), ratio(1, 6)];
    let vectors =
        [[ratio(3, 1), ratio(-1, 1)], [ratio(2, 1), ratio(5, 1)], [ratio(-4, 1), ratio(1, 2)]];
    let a = [ratio(2, 1), ratio(-3, 1), ratio(1, 5)];
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        let row = RowDistribution::new(sampler, ratio(3, 2), weights.into_iter());
        let mut elements = [Rational::zero(); 2];
        row.add_variances(|n| a[n], |n| &vectors[n], &mut elements);
        let squared = |n: usize| vectors[n].iter().map(|x| x * x).sum();
        let trace = row.trace(|n| a[n], |n| &vectors[n], squared, 2);
        assert_eq!(trace, elements[0] + elements[1]);
        // Each element is a functional of the row.
        for (d, &element) in elements.iter().enumerate() {
            let coefficients: Vec<Rational> = (0..3).map(|n| a[n] * vectors[n][d]).collect();
            assert_eq!(row.covariance(&coefficients, &coefficients), element);
        }
    }
}

/// `deviation` and `range` of a functional, from every mask of every row.
#[test]
fn deviation_and_range_are_the_largest_of_all_masks() {
    let shape = Shape { dlse: true, bias: Some([false; 3]), ..Shape::plain(3, 4) };
    for seed in 1..20 {
        let exact = exact(&Shape { seed, ..shape.clone() }, true);
        let dense = exact.gradients(&exact.weights);
        let functional: Functional<Rational> = Gradients { dsink: None, ..dense };
        for lambda in [ratio(1, 2), ratio(1, 1), ratio(5, 2)] {
            let of = |sampler| {
                let masks = distribution(&exact, lambda, sampler);
                let (mut range, mut deviation) = (Rational::zero(), Rational::zero());
                for at in 0..exact.problem.row_count() {
                    let row = masks.row(exact.problem.row(at));
                    let a: Vec<Rational> =
                        (0..row.w.len()).map(|n| exact.coefficient(&functional, at, n)).collect();
                    let value = |n: usize| a[n] * row.kept[n];
                    let magnitude = |x: Rational| if x < Rational::zero() { -x } else { x };
                    for n in (0..row.w.len()).filter(|&n| row.is_stochastic(n)) {
                        range = range.max(magnitude(value(n)));
                        if sampler == Sampler::Bernoulli {
                            let mean = a[n] * row.w[n];
                            deviation =
                                deviation.max(magnitude(mean)).max(magnitude(value(n) - mean));
                        }
                    }
                    if sampler == Sampler::Systematic {
                        let mean: Rational = (0..a.len()).map(|n| a[n] * row.w[n]).sum();
                        for (_, mask) in systematic_masks(&row.q, lambda) {
                            let sum: Rational = mask.into_iter().map(value).sum();
                            deviation = deviation.max(magnitude(sum - mean));
                        }
                    }
                }
                (functional_distribution(&masks, &functional), range, deviation)
            };
            for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
                let (found, range, deviation) = of(sampler);
                assert_eq!(found.range, range, "{sampler} {lambda} {seed}");
                assert_eq!(found.deviation, deviation, "{sampler} {lambda} {seed}");
            }
        }
    }
}

/// More keys than one task: the sampled weights of a block of keys are those of its keys alone.
#[test]
fn a_sample_of_more_keys_than_a_task_has_is_summed_once() {
    let problem = Shape { group: 2, ..Shape::plain(5, 150) }.problem();
    let saved = forward(&problem);
    let all = Draw::paper(Budget::new(f64::INFINITY).unwrap(), 3);
    let all = sample(&problem, &saved, &all).unwrap();
    assert_eq!(sus_backward(&problem, &saved, &all), backward(&problem, &saved));

    // dv_j = sum_i W~_ij G_i and the like, entry by entry.
    let draw = Draw::paper(Budget::new(20.0).unwrap(), 3);
    let some = sample(&problem, &saved, &draw).unwrap();
    let weights = DenseWeights { problem: &problem, saved: &saved };
    let mut dv = Tensor::<f64>::zeros(problem.inputs().v.shape());
    for (number, &lambda) in some.lambda.iter().enumerate() {
        let row = problem.row(number);
        for &j in some.pattern.row(number) {
            let w = weights.at(row, j as usize).w.max(1.0 / lambda);
            let dv = &mut dv.as_mut_slice()[j as usize * 2..][..2];
            for (dv, &g) in dv.iter_mut().zip(problem.g(row)) {
                *dv += w * g;
            }
        }
    }
    assert_eq!(sus_backward(&problem, &saved, &some).dv, dv);
}

/// The elementwise variances of more keys than one task.
#[test]
fn variances_of_more_keys_than_a_task_has_are_those_of_each_entry() {
    let exact = exact(&Shape { group: 2, bias: Some([true; 3]), ..Shape::plain(2, 140) }, false);
    let masks = distribution(&exact, ratio(20, 1), Sampler::Bernoulli);
    let found = variances(&masks);
    let p = &exact.problem;
    let mut dv = vec![Rational::zero(); 140 * 2];
    let mut dk = vec![Rational::zero(); 140 * 3];
    let mut dbias = vec![Rational::zero(); 140];
    for at in 0..p.row_count() {
        let row = p.row(at);
        let distribution = masks.row(row);
        for (n, entry) in masks.entries(row).iter().enumerate() {
            let r = distribution.variance(n);
            for (e, &g) in p.g(row).iter().enumerate() {
                dv[entry.j * 2 + e] += r * g * g;
            }
            for (d, &q) in p.q(row).iter().enumerate() {
                dk[entry.j * 3 + d] += r * entry.f * entry.f * q * q;
            }
            dbias[entry.j] += r * entry.t * entry.t;
        }
    }
    assert_eq!(found.dv.as_slice(), dv);
    assert_eq!(found.dk.as_slice(), dk);
    assert_eq!(found.dbias.expect("the problem has a bias").as_slice(), dbias);
}

#[test]
fn a_row_of_certain_entries_has_one_mask() {
    let row = RowDistribution::new(
        Sampler::Systematic,
        ratio(4, 1),
        [ratio(1, 2), ratio(1, 2)].into_iter(),
    );
    assert_eq!(row.count_distribution().least, 2);
    assert_eq!(row.count_distribution().probability, [Rational::one()]);
}
