//! Identities of the book that no other test covers.

use crate::common::{Shape, largest_share, shapes};
use crate::exact::ratio;
use num_traits::Zero;
use proptest::prelude::*;
use sus_reference::backward::{DenseWeights, backward, delta};
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::scalar::{DdWithError, Scalar};
use sus_reference::sus::rule::{keep_probability, kept_weight};
use sus_reference::sus::sampler::systematic;
use sus_reference::sus::uniform::keep32;
use sus_reference::sus::{Budget, Rule};

const GRID: f64 = 4_294_967_296.0;

proptest! {
    /// `sum_j dS_ij = w delta + (1 - w) dlse`, with `w` the sink's weight. A bias that broadcasts nothing has the
    /// gradient `dS`.
    #[test]
    fn the_scores_gradients_of_a_row_add_up_to_the_share_of_the_sink_and_of_dlse(shape in shapes(4, 5)) {
        let shape = Shape { bias: Some([false; 3]), ..shape };
        let problem: Problem<DdWithError> = shape.problem().cast().unwrap();
        let saved = forward(&problem);
        let ds = backward(&problem, &saved).dbias.expect("the problem has a bias");
        let delta = delta(&problem, &saved.o);
        let weights = DenseWeights { problem: &problem, saved: &saved };
        for (at, &delta) in delta.iter().enumerate() {
            let row = problem.row(at);
            let visible = problem.span(row);
            let of_keys = visible.fold(DdWithError::zero(), |sum, j| sum + weights.at(row, j).w);
            let of_sink = problem.inputs().sink.as_ref().map_or(DdWithError::zero(), |sink| {
                (sink[row.h] - saved.lse.row(row.b, row.h, row.i)[0]).exp()
            });
            let sum = ds.row(row.b, row.h, row.i).iter().fold(DdWithError::zero(), |sum, &x| sum + x);
            let share = of_sink * delta + of_keys * problem.dlse(row);
            largest_share([sum - share]);
        }
    }

    #[test]
    fn the_calibrated_rule_keeps_each_entry_at_least_as_often_as_the_papers(
        parts in proptest::collection::vec(0..50_u32, 1..12), c in 0.25..8.0_f64,
    ) {
        let total = f64::from(parts.iter().sum::<u32>().max(1));
        let w: Vec<f64> = parts.iter().map(|&part| f64::from(part) / total).collect();
        let lambda = Rule::Calibrated.lambda(Budget::new(c).unwrap(), &w);
        // With u = 2^-53, n weights and m of them saturated, the exact lambda is at least c / sum w >= c (1 - u). The
        // rounded one is found from a sum with n + 1 roundings, and lowered by at most the excess of another such sum, of
        // n roundings on both sides of c: (3 n + 3) u c / rest, where lambda rest = c - m. Each product adds u.
        let (n, m) = (w.len() as f64, w.iter().filter(|&&w| lambda * w >= 1.0).count() as f64);
        let slack = 1.0 + (3.0 * n + 6.0) * f64::EPSILON / 2.0 * c / (c - m).max(0.0);
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
