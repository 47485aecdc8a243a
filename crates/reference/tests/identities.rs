//! Laws that the book states beside those of the other tests.

use crate::common::{Shape, shapes};
use crate::exact::ratio;
use num_traits::Zero;
use proptest::prelude::*;
use sus_reference::backward::{DenseWeights, backward, delta};
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::scalar::{Dd, Scalar};
use sus_reference::sus::rule::{keep_probability, kept_weight};
use sus_reference::sus::sampler::systematic;
use sus_reference::sus::uniform::keep32;
use sus_reference::sus::{Budget, Rule};

const GRID: f64 = 4_294_967_296.0;

proptest! {
    /// `sum_j dS_ij = w delta + (1 - w) dlse`, with `w` the sink's weight. A bias that broadcasts nothing has the
    /// gradient `dS`. Sums have at most five terms below 100, and `Dd` errs by less than 2^-102 an operation.
    #[test]
    fn the_scores_gradients_of_a_row_add_up_to_the_share_of_the_sink_and_of_dlse(shape in shapes(4, 5)) {
        let shape = Shape { bias: Some([false; 3]), ..shape };
        let problem: Problem<Dd> = shape.problem().cast().unwrap();
        let saved = forward(&problem);
        let ds = backward(&problem, &saved).dbias.expect("the problem has a bias");
        let delta = delta(&problem, &saved.o);
        let weights = DenseWeights { problem: &problem, saved: &saved };
        for (at, &delta) in delta.iter().enumerate() {
            let row = problem.row(at);
            let visible = problem.mask().visible(row.i);
            let of_keys = visible.fold(Dd::zero(), |sum, j| sum + weights.at(row, j).w);
            let of_sink = problem.inputs().sink.as_ref().map_or(Dd::zero(), |sink| {
                (sink[row.h] - saved.lse.row(row.b, row.h, row.i)[0]).exp()
            });
            let sum = ds.row(row.b, row.h, row.i).iter().fold(Dd::zero(), |sum, &x| sum + x);
            let share = of_sink * delta + of_keys * problem.dlse(row);
            prop_assert!((sum - share).to_f64().abs() < 1e-28, "{sum:?} for {share:?}");
        }
    }

    #[test]
    fn the_calibrated_rule_keeps_each_entry_at_least_as_often_as_the_papers(
        parts in proptest::collection::vec(0..50_u32, 1..12), c in 0.25..8.0_f64,
    ) {
        let total = f64::from(parts.iter().sum::<u32>().max(1));
        let w: Vec<f64> = parts.iter().map(|&part| f64::from(part) / total).collect();
        let lambda = Rule::Calibrated.lambda(Budget::new(c).unwrap(), &w);
        // The calibrated lambda is rounded so that its sum is not above c: 16 n ulp at most.
        let slack = 1.0 + 16.0 * w.len() as f64 * f64::EPSILON;
        for &w in &w {
            prop_assert!(keep_probability(lambda, w) * slack >= keep_probability(c, w));
        }
    }

    /// `q` is a multiple of 2^-44 and `c` a power of two, so that nothing here is rounded.
    #[test]
    fn the_bias_of_a_sampled_weight_is_below_one_step_of_the_grid_over_c(
        steps in 1..1_u64 << 44, exponent in -3..7,
    ) {
        let (q, c) = (steps as f64 / (GRID * 4096.0), libm::ldexp(1.0, exponent));
        let w = q / c;
        prop_assert_eq!(keep_probability(c, w), q);
        let words = steps.div_ceil(4096);
        prop_assert!(keep32(q, (words - 1) as u32));
        prop_assert!(words == 1 << 32 || !keep32(q, words as u32));
        let bias = words as f64 / GRID * kept_weight(c, w) - w;
        prop_assert!((0.0..1.0 / (GRID * c)).contains(&bias), "{bias:e}");
        prop_assert_eq!(bias == 0.0, steps % 4096 == 0);
    }

    /// In rationals, with every `u` of a grid of `steps` points.
    #[test]
    fn a_systematic_entry_is_kept_within_one_step_of_the_grid_of_its_probability(
        parts in proptest::collection::vec(0..40_i128, 1..8), steps in 1..30_i128,
    ) {
        let q: Vec<_> = parts.iter().map(|&part| ratio(part, 37).min(ratio(1, 1))).collect();
        let most: num_rational::Ratio<i128> = q.iter().copied().sum();
        let masks: Vec<_> = (0..steps).map(|x| systematic(&q, ratio(x, steps), most)).collect();
        for (n, &q) in q.iter().enumerate() {
            let kept = masks.iter().filter(|mask| mask.contains(&n)).count() as i128;
            let error = ratio(kept, steps) - q;
            prop_assert!(error < ratio(1, steps) && -error < ratio(1, steps), "{error}");
        }
    }
}
