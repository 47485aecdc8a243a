//! The moments in exact rationals: by enumerating every mask, variance, covariance and counts `==` the closed forms.

use crate::common::{Shape, numbers, shapes, small_integer};
use crate::exact::{
    Exact, Rational, RowMasks, Table, add_gradients, bernoulli_masks, calibrated, exact,
    exact_with, flat, for_each_mask, mask_count, ratio, systematic_masks,
};
use num_traits::{One, Zero};
use proptest::prelude::*;
use sus_reference::backward::Gradients;
use sus_reference::sus::Sampler;
use sus_reference::sus::moments::count::poisson_binomial;
use sus_reference::sus::moments::enumerate::{MAX_STOCHASTIC, for_each_gradient, row_masks};
use sus_reference::sus::moments::pieces::Pieces;
use sus_reference::sus::moments::{
    Functional, MaskDistribution, RowDistribution, covariance, functional_distribution, variances,
};
use sus_reference::tensor::Tensor;

/// The most masks that one case enumerates.
const MASKS: u128 = 700;

fn budgets() -> impl Strategy<Value = Rational> {
    prop_oneof![
        Just(ratio(1, 2)),
        Just(ratio(1, 1)),
        Just(ratio(3, 2)),
        Just(ratio(2, 1)),
        Just(ratio(4, 1))
    ]
}

fn samplers() -> impl Strategy<Value = Sampler> {
    prop_oneof![Just(Sampler::Bernoulli), Just(Sampler::Systematic)]
}

/// A case: the problem, the distribution of its mask, and every mask of every row, from the definitions of the tests.
struct Case {
    exact: Exact,
    lambda: Vec<Rational>,
    sampler: Sampler,
    masks: Vec<RowMasks>,
}

impl Case {
    fn new(shape: &Shape, c: Rational, is_calibrated: bool, sampler: Sampler, zeros: bool) -> Self {
        // Half of the cases have dropout, slopes, and a bias before the softcap.
        let exact = exact_with(shape, zeros, shape.seed % 2 == 1);
        let lambda: Vec<Rational> = exact
            .weights
            .rows
            .iter()
            .map(|row| {
                let w: Vec<Rational> = row.iter().map(|weight| weight.w).collect();
                if is_calibrated { calibrated(c, &w) } else { c }
            })
            .collect();
        let masks = (0..lambda.len())
            .map(|at| match sampler {
                Sampler::Bernoulli => bernoulli_masks(&exact.q(lambda[at], at)),
                Sampler::Systematic => systematic_masks(&exact.q(lambda[at], at), c),
            })
            .collect();
        Case { exact, lambda, sampler, masks }
    }

    fn distribution(&self) -> MaskDistribution<'_, Rational, Table> {
        MaskDistribution {
            problem: &self.exact.problem,
            weights: self.exact.weights.clone(),
            delta: self.exact.delta.clone(),
            lambda: self.lambda.clone(),
            sampler: self.sampler,
        }
    }

    /// Probability and gradients of every mask.
    fn all(&self) -> Vec<(Rational, Gradients<Rational>)> {
        let mut all = Vec::new();
        for_each_mask(&self.masks, |p, mask| {
            all.push((p, self.exact.gradients(&self.exact.kept(&self.lambda, mask))));
        });
        all
    }
}

/// Coefficients drawn from small integers.
fn functional(exact: &Exact, seed: u64) -> Functional<Rational> {
    let mut rng = numbers(seed);
    let inputs = exact.problem.inputs();
    let mut draw = |x: &Tensor<Rational>| {
        Tensor::from_fn(x.shape(), |_| ratio(small_integer(&mut rng).into(), 1))
    };
    let [q, k, v] = [&inputs.q, &inputs.k, &inputs.v].map(&mut draw);
    Gradients { dbias: inputs.bias.as_ref().map(&mut draw), ..Gradients::new(q, k, v) }
}

fn apply(r: &Functional<Rational>, g: &Gradients<Rational>) -> Rational {
    flat(r).iter().zip(flat(g)).map(|(&r, g)| r * g).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn every_variance_is_that_of_all_masks(
        shape in shapes(2, 4), c in budgets(), is_calibrated: bool, sampler in samplers(), zeros: bool,
    ) {
        let case = Case::new(&shape, c, is_calibrated, sampler, zeros);
        prop_assume!(mask_count(&case.masks) <= MASKS);
        let dense = flat(&case.exact.gradients(&case.exact.weights));
        let mut expected = vec![Rational::zero(); dense.len()];
        for (p, g) in case.all() {
            for ((sum, g), &mean) in expected.iter_mut().zip(flat(&g)).zip(&dense) {
                *sum += p * (g - mean) * (g - mean);
            }
        }
        let masks = case.distribution();
        let found = variances(&masks);
        prop_assert_eq!(flat(&found), expected);

        let traces = masks.traces();
        let total = |x: &Tensor<Rational>| x.as_slice().iter().copied().sum::<Rational>();
        prop_assert_eq!(traces.dq, total(&found.dq));
        prop_assert_eq!(traces.dk, total(&found.dk));
        prop_assert_eq!(traces.dv, total(&found.dv));
        if let Some(dbias) = &found.dbias {
            prop_assert_eq!(traces.dbias, total(dbias));
        }
    }

    #[test]
    fn the_covariance_of_two_functionals_is_that_of_all_masks(
        shape in shapes(2, 4), c in budgets(), is_calibrated: bool, sampler in samplers(), seed: u64,
    ) {
        let case = Case::new(&shape, c, is_calibrated, sampler, false);
        prop_assume!(mask_count(&case.masks) <= MASKS);
        let (a, b) = (functional(&case.exact, seed), functional(&case.exact, seed ^ 1));
        let dense = case.exact.gradients(&case.exact.weights);
        let (mean_a, mean_b) = (apply(&a, &dense), apply(&b, &dense));
        let (mut product, mut square, mut farthest) = (Rational::zero(), Rational::zero(), Rational::zero());
        for (p, g) in case.all() {
            let (x, y) = (apply(&a, &g) - mean_a, apply(&b, &g) - mean_b);
            product += p * x * y;
            square += p * x * x;
            farthest = farthest.max(x).max(-x);
        }
        let masks = case.distribution();
        prop_assert_eq!(covariance(&masks, &a, &b), product);
        let of_a = functional_distribution(&masks, &a);
        prop_assert_eq!(of_a.mean, mean_a);
        prop_assert_eq!(of_a.variance, square);
        // No term is farther from its mean than all terms together can be, and all no farther than each on its own.
        let terms = ratio(case.exact.weights.rows.iter().map(Vec::len).sum::<usize>() as i128, 1);
        prop_assert!(farthest <= terms * of_a.deviation);
        prop_assert!(of_a.deviation.is_zero() == square.is_zero());
        if sampler == Sampler::Bernoulli {
            prop_assert!(of_a.deviation <= of_a.range);
        }
    }

    #[test]
    fn the_law_of_a_count_is_that_of_all_masks(
        parts in proptest::collection::vec(0..6_i128, 0..9), c in budgets(), sampler in samplers(),
        is_calibrated: bool,
    ) {
        let whole = parts.iter().sum::<i128>().max(1);
        let w: Vec<Rational> = parts.iter().map(|&part| ratio(part, whole)).collect();
        let lambda = if is_calibrated { calibrated(c, &w) } else { c };
        let row = RowDistribution::new(sampler, lambda, w.iter().copied());
        let masks = match sampler {
            Sampler::Bernoulli => bernoulli_masks(&row.q),
            Sampler::Systematic => systematic_masks(&row.q, c),
        };
        let of = |f: &dyn Fn(usize) -> Rational| -> Rational {
            masks.iter().map(|(p, mask)| *p * f(mask.len())).sum()
        };
        let counts = row.count_distribution();
        for count in 0..=w.len() + 1 {
            prop_assert_eq!(counts.at(count), of(&|n| ratio((n == count).into(), 1)), "{}", count);
            prop_assert_eq!(counts.at_least(count), of(&|n| ratio((n >= count).into(), 1)));
            prop_assert_eq!(counts.at_most(count), of(&|n| ratio((n <= count).into(), 1)));
        }
        let mean = of(&|n| ratio(n as i128, 1));
        prop_assert_eq!(row.expected(), mean);
        let variance = of(&|n| (ratio(n as i128, 1) - mean) * (ratio(n as i128, 1) - mean));
        prop_assert_eq!(row.count_variance(), variance);
        if sampler == Sampler::Systematic {
            prop_assert!(counts.probability.len() <= 2, "floor and ceiling");
        }
    }

    #[test]
    fn the_enumeration_visits_every_mask_with_its_probability(
        shape in shapes(2, 4), c in budgets(), sampler in samplers(), zeros: bool,
    ) {
        let case = Case::new(&shape, c, false, sampler, zeros);
        prop_assume!(mask_count(&case.masks) <= MASKS);
        let distribution = case.distribution();
        for (at, masks) in case.masks.iter().enumerate() {
            let row = distribution.row(case.exact.problem.row(at));
            let mut found: Vec<_> =
                row_masks(&row).into_iter().map(|mask| (mask.probability, mask.kept)).collect();
            let mut expected: Vec<_> = masks.iter().map(|(p, mask)| {
                let mut mask = mask.clone();
                mask.sort_unstable();
                (*p, mask)
            }).collect();
            // A mask may stand for several pieces: add them up.
            for list in [&mut found, &mut expected] {
                list.sort_by(|a, b| a.1.cmp(&b.1));
                list.dedup_by(|next, kept| {
                    let same = next.1 == kept.1;
                    if same { kept.0 += next.0; }
                    same
                });
            }
            prop_assert_eq!(found, expected);
        }
        let (mut mean, mut total) = (Vec::new(), Rational::zero());
        for_each_gradient(&distribution, |p, g| { total += p; add_gradients(&mut mean, p, g); }).unwrap();
        prop_assert_eq!(total, Rational::one());
        prop_assert_eq!(mean, flat(&case.exact.gradients(&case.exact.weights)));
    }

    #[test]
    fn variance_is_zero_exactly_where_nothing_is_undecided(
        parts in proptest::collection::vec(0..6_i128, 1..9), c in budgets(), sampler in samplers(),
    ) {
        let whole = parts.iter().sum::<i128>().max(1);
        let row = RowDistribution::new(sampler, c, parts.iter().map(|&part| ratio(part, whole)));
        for n in 0..parts.len() {
            let one_hot: Vec<Rational> =
                (0..parts.len()).map(|m| ratio((m == n).into(), 1)).collect();
            let stochastic = Rational::zero() < row.q[n] && row.q[n] < Rational::one();
            let variance = row.covariance(&one_hot, &one_hot);
            prop_assert_eq!(variance > Rational::zero(), stochastic);
            prop_assert_eq!(variance, row.variance(n), "both samplers have the same marginals");
        }
    }

    #[test]
    fn a_row_has_at_most_one_piece_more_than_undecided_entries(
        parts in proptest::collection::vec(0..6_i128, 1..12), c in budgets(),
    ) {
        let whole = parts.iter().sum::<i128>().max(1);
        let q: Vec<Rational> = parts.iter().map(|&p| (c * ratio(p, whole)).min(Rational::one())).collect();
        let pieces = Pieces::new(&q);
        let (mut count, mut length) = (0, Rational::zero());
        pieces.for_each(|_, l| { count += 1; length += l; });
        prop_assert_eq!(length, Rational::one());
        prop_assert!(count <= q.iter().filter(|&&q| q > Rational::zero() && q < Rational::one()).count() + 1);
    }
}

/// By hand. `n` equal weights `1/n`, `c < n`: `q = c/n`, `r = (1/n)(1/c - 1/n)`, so with `m` queries
/// `Var dv_je = m (1/n)(1/c - 1/n) G_e^2`, `E nnz = c` and `Var nnz = c (1 - c/n)`.
#[test]
fn equal_weights_have_the_variance_worked_by_hand() {
    let (n, m, c) = (6_i128, 2_i128, ratio(4, 1));
    let shape = Shape { value_features: 1, seed: 2, ..Shape::plain(m as usize, n as usize) };
    let mut case = Case::new(&shape, c, false, Sampler::Bernoulli, false);
    case.exact.weights.rows.iter_mut().flatten().for_each(|weight| weight.w = ratio(1, n));
    let g: Vec<Rational> = case.exact.problem.inputs().g.as_slice().to_vec();
    let r = ratio(1, n) * (c.recip() - ratio(1, n));
    let expected: Rational = g.iter().map(|&g| r * g * g).sum();
    let masks = case.distribution();
    assert!(variances(&masks).dv.as_slice().iter().all(|&variance| variance == expected));
    let traces = masks.traces();
    assert_eq!(traces.dv, ratio(n, 1) * expected);
    assert_eq!(traces.expected, ratio(m, 1) * c);
    assert_eq!(traces.count_variance, ratio(m, 1) * c * (Rational::one() - c / ratio(n, 1)));
    // Systematic with a whole budget: the count does not vary at all, the marginals are the same.
    case.sampler = Sampler::Systematic;
    let masks = case.distribution();
    assert_eq!(masks.traces().dv, traces.dv);
    assert_eq!(masks.traces().count_variance, Rational::zero());
    // The sum of all weights is then exactly 1 in every draw, so a functional that sums them has no variance.
    let row = masks.row(case.exact.problem.row(0));
    let ones = vec![Rational::one(); n as usize];
    assert_eq!(row.covariance(&ones, &ones), Rational::zero());
}

#[test]
fn the_counts_of_two_fair_coins_are_binomial() {
    let half = ratio(1, 2);
    let counts = poisson_binomial(&[half, Rational::one(), half, Rational::zero()]);
    assert_eq!(counts.least, 1);
    assert_eq!(counts.probability, [ratio(1, 4), half, ratio(1, 4)]);
}

#[test]
fn more_than_twenty_undecided_entries_are_refused() {
    let shape = Shape::plain(1, MAX_STOCHASTIC + 1);
    let exact = exact(&shape, false);
    let masks = MaskDistribution {
        problem: &exact.problem,
        weights: exact.weights.clone(),
        delta: exact.delta.clone(),
        lambda: vec![ratio(1, 100)],
        sampler: Sampler::Bernoulli,
    };
    let refused = for_each_gradient(&masks, |_, _| panic!("nothing is visited")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "stochastic entries of an enumeration: expected fewer than 21, found 21"
    );
}
