//! Samples: what is kept, how much, and what a kept weight counts as.

use crate::common::{Shape, differences, largest_share, shapes};
use proptest::prelude::*;
use sus_reference::Error;
use sus_reference::backward::{DenseWeights, backward};
use sus_reference::evaluation::evaluate;
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Options, Problem};
use sus_reference::scalar::{Dd, DdWithError, Scalar};
use sus_reference::sus::rule::{expected_count, keep_probability, water_level};
use sus_reference::sus::sample::uniforms;
use sus_reference::sus::sampler::{bernoulli, systematic};
use sus_reference::sus::uniform::{Grid, Uniforms};
use sus_reference::sus::{
    Budget, Draw, Layout, Pattern, Rule, Sampler, UniformBits, sample, sampled_values, sus_backward,
};

fn budgets() -> impl Strategy<Value = f64> {
    prop_oneof![0.1..8.0_f64, Just(1.0), Just(2.0), Just(3.0), Just(1e-3), Just(1e6)]
}

fn draws() -> impl Strategy<Value = Draw> {
    let layouts = prop_oneof![
        Just(Layout::Coord4),
        Just(Layout::Linear4),
        Just(Layout::Linear1),
        Just(Layout::JaxThreefry),
        Just(Layout::Arrival)
    ];
    let rules = prop_oneof![Just(Rule::Paper), Just(Rule::Calibrated)];
    let samplers = prop_oneof![
        Just((Sampler::Bernoulli, UniformBits::Bits32)),
        Just((Sampler::Bernoulli, UniformBits::Bits64)),
        Just((Sampler::Systematic, UniformBits::Bits32)),
    ];
    (budgets(), rules, samplers, any::<u64>(), 0..1_u32 << 31, layouts).prop_map(
        |(c, rule, (sampler, bits), seed, stream, layout)| {
            let bits = if layout == Layout::Arrival { UniformBits::Bits32 } else { bits };
            Draw::paper(Budget::new(c).unwrap(), seed)
                .with_rule(rule)
                .with_sampler(sampler)
                .with_stream(stream)
                .with_layout(layout)
                .with_bits(bits)
        },
    )
}

/// The weights of a row, visible keys only.
fn weights(problem: &Problem<f64>, saved: &Saved<f64>, at: usize) -> Vec<f64> {
    let row = problem.row(at);
    let dense = DenseWeights { problem, saved };
    problem.span(row).map(|j| dense.at(row, j).w).collect()
}

proptest! {
    #[test]
    fn a_sample_keeps_what_its_law_says(shape in shapes(6, 12), draw in draws()) {
        let problem = shape.problem();
        let saved = forward(&problem);
        let drawn = sample(&problem, &saved, &draw).unwrap();
        let values = sampled_values(&problem, &saved, &drawn);
        let c = draw.c.get();
        for at in 0..problem.row_count() {
            let visible = problem.span(problem.row(at));
            let w = weights(&problem, &saved, at);
            let lambda = drawn.lambda[at];
            let kept = drawn.pattern.row(at);
            prop_assert!(kept.iter().all(|&j| visible.contains(&(j as usize))), "masked, yet kept");
            let first = drawn.pattern.offsets()[at];
            for (n, j) in visible.clone().enumerate() {
                let place = kept.iter().position(|&kept| kept as usize == j);
                if lambda * w[n] >= 1.0 {
                    prop_assert!(place.is_some(), "q = 1, yet dropped");
                }
                if let Some(place) = place {
                    prop_assert_eq!(values[first + place], w[n].max(1.0 / lambda));
                }
            }
            // The sum of n weights exceeds 1 only by rounding. With u = 2^-53: lse (at most 14) errs by 14 u in its last
            // addition, by 2 u ln 13 in its logarithm, and by (n + 2) u in its sum; the exponents by u (s - lse), which
            // weighted by exp(s - lse) is below 0.4 u for each of the n weights, twice; the exponentials by 2 u. The sum
            // of q has n products and n additions. Together (24 + 4 n) u.
            let slack = 1.0 + (24.0 + 4.0 * w.len() as f64) * f64::EPSILON / 2.0;
            prop_assert!(drawn.expected[at] <= c, "{} expected of c = {c}", drawn.expected[at]);
            prop_assert!(expected_count(lambda, &w) <= c * slack);
            if draw.sampler == Sampler::Systematic {
                prop_assert!(kept.len() as f64 <= c.ceil());
                let sum = drawn.expected[at];
                prop_assert!((kept.len() as f64) >= (sum / slack).floor());
                prop_assert!((kept.len() as f64) <= (sum * slack).ceil());
            }
            if draw.rule == Rule::Calibrated {
                let positive = w.iter().filter(|&&w| w > 0.0).count() as f64;
                prop_assert!(drawn.expected[at] <= c.min(positive));
                prop_assert!(drawn.expected[at] >= c.min(positive) / slack);
            }
        }
    }

    #[test]
    fn an_infinite_budget_is_bitwise_the_dense_backward(shape in shapes(5, 7), rule in 0..2, sampler in 0..2) {
        let problem = shape.problem();
        let saved = forward(&problem);
        let draw = Draw::paper(Budget::new(f64::INFINITY).unwrap(), 7).with_rule([Rule::Paper, Rule::Calibrated][rule as usize]).with_sampler([Sampler::Bernoulli, Sampler::Systematic][sampler as usize]);
        let drawn = sample(&problem, &saved, &draw).unwrap();
        prop_assert_eq!(sus_backward(&problem, &saved, &drawn), backward(&problem, &saved));
    }

    /// `t` is exact in SUS too, so for a fixed mask `dq` and `dk` do not see a constant added to every value.
    #[test]
    fn a_constant_added_to_every_value_leaves_dq_and_dk_for_every_mask(shape in shapes(4, 6), draw in draws()) {
        let shape = Shape { sink: false, ..shape };
        let problem = shape.problem();
        let drawn = sample(&problem, &forward(&problem), &draw).unwrap();
        let problem: Problem<DdWithError> = problem.cast().unwrap();
        let mut inputs = problem.inputs().clone();
        inputs.v.as_mut_slice().iter_mut().for_each(|v| *v += DdWithError::from_f64(5.0));
        let shifted = Problem::new(inputs, shape.options.clone()).unwrap();
        let [a, b] = [problem, shifted].map(|p| sus_backward(&p, &forward(&p), &drawn));
        for (a, b) in [(&a.dq, &b.dq), (&a.dk, &b.dk)] {
            largest_share(differences(a.as_slice(), b.as_slice()));
        }
    }

    #[test]
    fn a_mask_is_the_same_in_every_arithmetic_and_on_every_number_of_threads(
        shape in shapes(5, 9), draw in draws(),
    ) {
        let problem = shape.problem();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| evaluate::<f64>(&problem, None, Some(&draw)).unwrap())
        };
        let one = with(1);
        prop_assert_eq!(&one, &with(3));
        let sample = one.mask.unwrap().sample;
        let wide = evaluate::<Dd>(&problem, None, Some(&draw)).unwrap();
        prop_assert_eq!(&sample, &wide.mask.unwrap().sample);
        let narrow = evaluate::<f32>(&problem, None, Some(&draw)).unwrap();
        prop_assert_eq!(&sample, &narrow.mask.unwrap().sample);
    }

    #[test]
    fn each_sequence_of_a_batch_draws_its_own_mask(shape in shapes(3, 40), seed: u64) {
        // Two equal sequences; with 40 keys at c = 5 the masks of a row differ but with probability below 1e-3 a
        // row, and this test asks only that some row of some case differs.
        let shape = Shape { batch: 1, bias: None, keys: 40, ..shape };
        let shape = Shape { options: Options::default(), queries: 3, ..shape };
        let one = shape.problem();
        let twice = |tensor: &sus_reference::tensor::Tensor<f64>| {
            let [_, heads, positions, features] = tensor.shape();
            sus_reference::tensor::Tensor::from_fn([2, heads, positions, features], |[_, h, n, d]| {
                tensor.row(0, h, n)[d]
            })
        };
        let mut inputs = one.inputs().clone();
        for tensor in [&mut inputs.q, &mut inputs.k, &mut inputs.v, &mut inputs.g] {
            *tensor = twice(tensor);
        }
        inputs.dlse = inputs.dlse.as_ref().map(twice);
        let two = Problem::new(inputs, shape.options.clone()).unwrap();
        let draw = Draw::paper(Budget::new(5.0).unwrap(), seed);
        let drawn = sample(&two, &forward(&two), &draw).unwrap();
        let rows = one.row_count();
        let differs = (0..rows).any(|at| drawn.pattern.row(at) != drawn.pattern.row(at + rows));
        prop_assert!(differs, "both sequences have the same masks");
        let alone = sample(&one, &forward(&one), &draw).unwrap();
        for at in 0..rows {
            prop_assert_eq!(alone.pattern.row(at), drawn.pattern.row(at));
        }
    }

    #[test]
    fn the_calibrated_lambda_solves_its_equation_in_exact_arithmetic(
        parts in proptest::collection::vec(0..50_u32, 1..12), c in prop_oneof![0.25..8.0_f64, (1..8_u8).prop_map(f64::from)],
    ) {
        let total: u32 = parts.iter().sum::<u32>().max(1);
        let w: Vec<f64> = parts.iter().map(|&part| f64::from(part) / f64::from(total)).collect();
        let positive = w.iter().filter(|&&w| w > 0.0).count() as f64;
        let lambda = Rule::Calibrated.lambda(Budget::new(c).unwrap(), &w);
        if c >= positive {
            prop_assert_eq!(lambda, f64::INFINITY);
        } else {
            // The sum in double-double arithmetic is exact to 2^-100. With u = 2^-53, the sum that has to be below c has n
            // products and n - 1 additions; lambda is found from a sum with n + 1 roundings, and lowered by at most the
            // excess of the rounded sum, 2 n u c, and two roundings.
            let wide: Vec<Dd> = w.iter().map(|&w| Dd::from(w)).collect();
            let sum = expected_count(Dd::from(lambda), &wide);
            let error = (sum - Dd::from(c)).to_f64();
            let n = w.len() as f64;
            prop_assert!(error <= n * f64::EPSILON / 2.0 * c, "{error:e} above {c}");
            prop_assert!(error >= -(3.0 * n + 3.0) * f64::EPSILON / 2.0 * c, "{error:e} below {c}");
            prop_assert!(expected_count(lambda, &w) <= c);
            prop_assert!(lambda > 0.0);
        }
    }
}

#[test]
fn a_calibrated_budget_of_one_keeps_a_weight_that_rounds_to_one() {
    let one = Budget::new(1.0).unwrap();
    for weights in
        [&[1.0, 1e-18, 3e-20][..], &[1e-18, 1.0], &[1.0 - f64::EPSILON, 1e-18], &[1.0, 1e-300]]
    {
        let lambda = Rule::Calibrated.lambda(one, weights);
        // 1 / (1 - eps) is 1 + eps + eps^2: eps, and one rounding more.
        assert!((lambda - 1.0).abs() <= 2.0 * f64::EPSILON, "{lambda:e} for {weights:?}");
        assert!(expected_count(lambda, weights) <= 1.0);
    }
    // Two saturated weights of a budget of two: the third is all that could be kept beside them, and is not.
    let lambda = Rule::Calibrated.lambda(Budget::new(2.0).unwrap(), &[0.5, 0.5, 1e-20]);
    // Lambda is lowered until the rounded sum is at most 2: by one or two units in the last place of 2.
    assert!((lambda - 2.0).abs() <= 2.0 * (2.0 * f64::EPSILON), "{lambda:e}");
}

#[test]
fn a_weight_that_underflowed_is_never_kept() {
    assert_eq!(keep_probability(f64::INFINITY, 0.0), 0.0);
    assert_eq!(keep_probability(30.0, 0.0), 0.0);
    assert_eq!(keep_probability(30.0, f64::from_bits(1)), 30.0 * f64::from_bits(1));
}

#[test]
fn with_64_bits_the_second_word_of_the_entry_decides_a_tie() {
    let grid = Grid { batch: 1, heads: 1, queries: 9, keys: 9 };
    let uniforms = Uniforms::new(3, 1, Layout::Coord4, grid).unwrap();
    let mut decisions = Vec::new();
    for (i, j) in (0..9).flat_map(|i| (0..9).map(move |j| (i, j))) {
        // Half a step above the word: the first word ties, and the second decides with probability 1/2.
        let q = (f64::from(uniforms.word(0, 0, i, j)) + 0.5) / 4_294_967_296.0;
        let kept = bernoulli(&[q], &uniforms, UniformBits::Bits64, [0, 0, i], j) == [0];
        assert_eq!(kept, uniforms.second_word(0, 0, i, j) < 1 << 31);
        decisions.push(kept);
    }
    assert!(decisions.contains(&true) && decisions.contains(&false));
    // All entries of a row at once, from its third key on.
    for i in 0..9 {
        let q: Vec<f64> = (2..9)
            .map(|j| (f64::from(uniforms.word(0, 0, i, j)) + 0.5) / 4_294_967_296.0)
            .collect();
        let kept = bernoulli(&q, &uniforms, UniformBits::Bits64, [0, 0, i], 2);
        let expected: Vec<usize> =
            (0..7).filter(|&n| uniforms.second_word(0, 0, i, n + 2) < 1 << 31).collect();
        assert_eq!(kept, expected);
    }
}

#[test]
fn a_given_forward_pass_gives_the_weights_that_are_sampled() {
    let problem = Shape::plain(4, 30).problem();
    let exact = forward(&problem);
    // An lse that is larger by ln 8 makes every weight an eighth, so fewer are kept.
    let given = Saved { lse: exact.lse.map(|lse| lse + 8.0_f64.ln()), ..exact.clone() };
    let draw = Draw::paper(Budget::new(12.0).unwrap(), 5);
    let evaluated = evaluate::<f64>(&problem, Some(&given), Some(&draw)).unwrap();
    let drawn = evaluated.mask.unwrap().sample;
    assert_eq!(drawn, sample(&problem, &given, &draw).unwrap());
    assert!(drawn.pattern.count() < sample(&problem, &exact, &draw).unwrap().pattern.count());
}

#[test]
fn rounding_cannot_make_systematic_sampling_keep_more_than_its_limit() {
    // As if rounding had carried the sum of two entries from 1 to 1.2.
    assert_eq!(systematic(&[0.6, 0.6], 0.1, 1.2), [0, 1]);
    assert_eq!(systematic(&[0.6, 0.6], 0.1, 1.0), [0]);
    assert_eq!(systematic(&[1.0, 0.6, 0.6], 0.1, 2.0), [0, 1]);
}

#[test]
fn a_draw_that_means_nothing_is_refused() {
    let found = |result: Result<Budget, Error>| result.unwrap_err().to_string();
    for c in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
        assert_eq!(
            found(Budget::new(c)),
            format!("option 'c': expected a number above 0, or inf, found {c}")
        );
    }
    let problem = Shape::plain(2, 3).problem();
    let draw = Draw::paper(Budget::new(1.0).unwrap(), 0)
        .with_sampler(Sampler::Systematic)
        .with_bits(UniformBits::Bits64);
    assert_eq!(
        sample(&problem, &forward(&problem), &draw).unwrap_err().to_string(),
        "option 'uniform_bits': expected 32 with the systematic sampler, found 64"
    );
    let draw = Draw::paper(Budget::new(1.0).unwrap(), 0).with_stream(1 << 31);
    assert!(matches!(sample(&problem, &forward(&problem), &draw).unwrap_err(), Error::Uniform(_)));
    assert!("gaussian".parse::<Rule>().is_err());
    assert!("gaussian".parse::<Sampler>().is_err());
}

#[test]
fn a_pattern_is_validated() {
    assert!(Pattern::new(2, 4, vec![0, 2, 3], vec![0, 3, 1]).is_ok());
    let wrong = [
        (vec![0, 2], vec![0, 3]),       // too few offsets
        (vec![1, 2, 3], vec![0, 3, 1]), // not from 0
        (vec![0, 3, 2], vec![0, 3]),    // decreasing
        (vec![0, 2, 4], vec![0, 3, 1]), // beyond the columns
        (vec![0, 2, 3], vec![3, 0, 1]), // not ascending
        (vec![0, 2, 3], vec![0, 0, 1]), // twice
        (vec![0, 2, 3], vec![0, 4, 1]), // no such key
    ];
    for (offsets, columns) in wrong {
        let text = format!("{offsets:?} {columns:?}");
        assert!(Pattern::new(2, 4, offsets, columns).is_err(), "{text}");
    }
}

/// Value stability: a mask depends on every bit of `lambda`. The budgets of the first three rows are exceeded by rounding
/// at first, so that `lambda` is lowered once, by several units in the last place.
#[test]
fn the_bits_of_the_calibrated_lambda_are_stable() {
    let lambda = |parts: &[u32], c: f64| {
        let total = f64::from(parts.iter().sum::<u32>());
        let w: Vec<f64> = parts.iter().map(|&part| f64::from(part) / total).collect();
        Rule::Calibrated.lambda(Budget::new(c).unwrap(), &w)
    };
    assert_eq!(lambda(&[42, 41, 16, 16, 4], 3.0), 3.305_555_555_555_554_5);
    assert_eq!(lambda(&[48, 26, 25], 2.25), 2.426_470_588_235_293_5);
    assert_eq!(lambda(&[17, 33, 50, 7, 21, 10], 3.0), 3.136_363_636_363_635_4);
    assert_eq!(lambda(&[6, 1, 1], 2.0), 4.0);
}

#[test]
fn zeros_need_no_budget() {
    assert_eq!(water_level(2.0, &[0.5, 0.0, 0.5]), None);
    assert_eq!(water_level(1.0, &[0.5, 0.0, 0.5]).map(|level| level.lambda), Some(1.0));
}

#[test]
fn a_systematic_row_is_drawn_with_the_uniform_of_its_row_word() {
    let problem = Shape::plain(12, 30).problem();
    let saved = forward(&problem);
    let draw = Draw::paper(Budget::new(5.0).unwrap(), 8).with_sampler(Sampler::Systematic);
    let found = sample(&problem, &saved, &draw).unwrap();
    let uniforms = uniforms(&problem, &draw).unwrap();
    for at in 0..problem.row_count() {
        let q: Vec<f64> =
            weights(&problem, &saved, at).iter().map(|&w| keep_probability(5.0, w)).collect();
        let u = f64::from(uniforms.row_word(0, 0, at)) / 4_294_967_296.0;
        let kept: Vec<usize> = found.pattern.row(at).iter().map(|&j| j as usize).collect();
        assert_eq!(kept, systematic(&q, u, 5.0), "row {at}");
    }
}
