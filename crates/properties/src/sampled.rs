//! Properties of the sampled backward pass.

use super::enumeration::{moments, problem};
use super::{differences, largest_of_zeros};
use num_traits::{One, Zero};
use sus_reference::backward::{DenseWeights, delta};
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::scalar::{DdWithError, Scalar};
use sus_reference::sus::rule::{Budget, Rule, keep_probability, kept_weight};
use sus_reference::sus::sampler::Sampler;
use sus_reference::sus::{Draw, sample, sampled_values};
use sus_reference::tensor::dot;

/// A problem with few enough masks to enumerate.
fn small() -> Problem<f64> {
    problem([1, 1, 2, 2, 4, 2, 2], 2)
}

/// The mean of the sampled gradients over all masks is the dense gradient.
pub(super) fn unbiased(rule: Rule, sampler: Sampler) -> Result<String, String> {
    let found = moments(&small(), 1.5, rule, sampler);
    let subject = format!("the mean over {} masks agrees", found.masks);
    largest_of_zeros(differences(&found.mean, &found.dense), &subject)
}

/// `sum r a^2` for each element, `r = W^2 (1 - q) / q` and `a` the derivative of the element by `W~`.
pub(super) fn variance() -> Result<String, String> {
    let c = 1.5;
    let found = moments(&small(), c, Rule::Paper, Sampler::Bernoulli);
    let exact: Problem<DdWithError> = small().cast().expect("finite numbers");
    let saved = forward(&exact);
    let (weights, delta) =
        (DenseWeights { problem: &exact, saved: &saved }, delta(&exact, &saved.o));
    let sizes = exact.sizes();
    let mut dq = vec![DdWithError::zero(); exact.inputs().q.as_slice().len()];
    let mut dk = vec![DdWithError::zero(); exact.inputs().k.as_slice().len()];
    let mut dv = vec![DdWithError::zero(); exact.inputs().v.as_slice().len()];
    let mut dbias = vec![DdWithError::zero(); sizes.query_heads * sizes.keys];
    for (n, delta) in delta.iter().enumerate() {
        let row = exact.row(n);
        for j in exact.visible(row) {
            let weight = weights.at(row, j);
            let q = keep_probability(DdWithError::from_f64(c), weight.w);
            let r = weight.w * weight.w * (DdWithError::one() - q) / q;
            let t = dot(exact.g(row), exact.v(row, j)) - *delta + exact.dlse(row);
            let f = t * weight.slope;
            let at = exact.key_head(row.h) * sizes.keys + j;
            let add = |to: &mut [DdWithError], factor: DdWithError, x: &[DdWithError]| {
                to.iter_mut().zip(x).for_each(|(to, &x)| *to += r * factor * factor * x * x);
            };
            add(&mut dq[n * sizes.features..], f, exact.k(row, j));
            add(&mut dk[at * sizes.features..], f, exact.q(row));
            add(&mut dv[at * sizes.value_features..], DdWithError::one(), exact.g(row));
            add(&mut dbias[row.h * sizes.keys + j..], t, &[DdWithError::one()]);
        }
    }
    let dsink = vec![DdWithError::zero(); sizes.query_heads];
    let closed: Vec<DdWithError> = [dq, dk, dv, dbias, dsink].concat();
    let subject = format!("{} variances over {} masks agree", closed.len(), found.masks);
    largest_of_zeros(differences(&found.variance, &closed), &subject)
}

/// The expected number of kept entries is at most `c`, and the whole budget under the calibrated rule.
pub(super) fn expected_counts() -> Result<String, String> {
    let problem = small();
    let c = 1.5;
    let mut largest = 0.0_f64;
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        for (at, &kept) in moments(&problem, c, Rule::Paper, sampler).expected.iter().enumerate() {
            if kept.to_f64() > c {
                return Err(format!(
                    "paper, {sampler}: row {at} keeps {} of c = {c}",
                    kept.to_f64()
                ));
            }
        }
        let calibrated = moments(&problem, c, Rule::Calibrated, sampler);
        for (at, &kept) in calibrated.expected.iter().enumerate() {
            let visible = problem.visible_keys(problem.row(at)) as f64;
            // With u = 2^-53 and n visible keys: lambda is found from a sum of n + 1 roundings and lowered by the excess of
            // another one, at most 2 n u c; the weights are rounded to f64; three more roundings.
            let allowed = (3.0 * visible + 5.0) * f64::EPSILON / 2.0 * c;
            let error = (kept.to_f64() - c.min(visible)).abs();
            if error > allowed {
                return Err(format!(
                    "calibrated, {sampler}: row {at} is off by {error:.1e}, expected at most {allowed:.1e}"
                ));
            }
            largest = largest.max(error);
        }
    }
    Ok(format!("the calibrated means agree to {largest:.1e}"))
}

/// The count of a systematic row differs from its mean by less than 1 and is at most `ceil(c)`.
pub(super) fn systematic_counts() -> Result<String, String> {
    let problem = problem([1, 2, 2, 17, 23, 3, 2], 3);
    let saved = forward(&problem);
    let mut rows = 0;
    for (seed, c) in [1.0, 1.5, 4.0, 7.25].into_iter().enumerate() {
        for rule in [Rule::Paper, Rule::Calibrated] {
            let c = Budget::new(c).map_err(|e| e.to_string())?;
            let draw =
                Draw::paper(c, seed as u64).with_rule(rule).with_sampler(Sampler::Systematic);
            let sampled = sample(&problem, &saved, &draw).map_err(|e| e.to_string())?;
            for (at, &expected) in sampled.expected.iter().enumerate() {
                let kept = sampled.pattern.row(at).len() as f64;
                rows += 1;
                // The expected count is a rounded sum of at most 23 products, below 7.25.
                let rounding = 2.0 * 23.0 * f64::EPSILON / 2.0 * c.get();
                let near = (kept - expected).abs() < 1.0 + rounding;
                if !near || kept > c.get().ceil() {
                    return Err(format!(
                        "row {at} keeps {kept} where {expected} are expected, c = {}",
                        c.get()
                    ));
                }
            }
        }
    }
    Ok(format!("{rows} rows"))
}

/// The value of a kept weight is `max(W, 1 / lambda)`, and `W / q`.
pub(super) fn kept_weights() -> Result<String, String> {
    let problem = problem([2, 1, 3, 13, 17, 3, 2], 4);
    let saved = forward(&problem);
    let c = Budget::new(3.0).map_err(|e| e.to_string())?;
    let sampled = sample(&problem, &saved, &Draw::paper(c, 9)).map_err(|e| e.to_string())?;
    let values = sampled_values(&problem, &saved, &sampled);
    let weights = DenseWeights { problem: &problem, saved: &saved };
    let mut at = 0;
    for (n, &lambda) in sampled.lambda.iter().enumerate() {
        for &j in sampled.pattern.row(n) {
            let w = weights.at(problem.row(n), j as usize).w;
            let over_q = w / keep_probability(lambda, w);
            // W / q has two roundings, 1 / lambda and the quotient of the comparison one each.
            let agree = (values[at] / over_q - 1.0).abs() <= 4.0 * f64::EPSILON / 2.0;
            if values[at] != kept_weight(lambda, w) || !agree {
                return Err(format!("row {n}, key {j}: {} for W / q = {over_q}", values[at]));
            }
            at += 1;
        }
    }
    Ok(format!("{at} entries"))
}
