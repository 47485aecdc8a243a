//! The laws, one function each.

use super::Property;
use super::enumeration::{flat, moments, problem};
use num_traits::{One, Zero};
use sus_reference::backward::{DenseWeights, backward, delta};
use sus_reference::forward::{Saved, forward};
use sus_reference::mask::Alignment;
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::scalar::{Dd, Dual, Scalar};
use sus_reference::sus::rule::{Budget, Rule, keep_probability, kept_weight};
use sus_reference::sus::sampler::Sampler;
use sus_reference::sus::uniform::{
    Grid, Layout, Uniforms, keep32, keep64, philox4x32_10, threefry2x32,
};
use sus_reference::sus::{Draw, sample, sampled_values};
use sus_reference::tensor::{Tensor, dot};

/// The laws, in the order of the specification.
///
/// # Examples
/// ```
/// use sus_properties::PROPERTIES;
/// let law = PROPERTIES.iter().find(|law| law.name.starts_with("dq does not change")).unwrap();
/// println!("{}: {}", law.name, (law.prove)().expect("a law that holds"));
/// let names: std::collections::BTreeSet<&str> = PROPERTIES.iter().map(|law| law.name).collect();
/// assert_eq!(names.len(), PROPERTIES.len());
/// ```
pub const PROPERTIES: &[Property] = &[
    Property {
        name: "the dense gradients are the derivatives of the loss",
        prove: dense_gradients,
    },
    Property {
        name: "a query that sees no key has o = 0, lse = -inf and no gradient",
        prove: empty_rows,
    },
    Property {
        name: "dq does not change when all keys move alike, dq and dk when all values do",
        prove: invariances,
    },
    Property {
        name: "E[sampled gradient] = gradient: paper, bernoulli",
        prove: || unbiased(Rule::Paper, Sampler::Bernoulli),
    },
    Property {
        name: "E[sampled gradient] = gradient: calibrated, bernoulli",
        prove: || unbiased(Rule::Calibrated, Sampler::Bernoulli),
    },
    Property {
        name: "E[sampled gradient] = gradient: paper, systematic",
        prove: || unbiased(Rule::Paper, Sampler::Systematic),
    },
    Property {
        name: "E[sampled gradient] = gradient: calibrated, systematic",
        prove: || unbiased(Rule::Calibrated, Sampler::Systematic),
    },
    Property { name: "Var[sampled gradient] is the closed form", prove: variance },
    Property {
        name: "E[kept entries] <= c; = min(c, visible) if calibrated",
        prove: expected_counts,
    },
    Property {
        name: "systematic rows keep the floor or the ceiling of their mean",
        prove: systematic_counts,
    },
    Property { name: "a kept weight counts as max(W, 1 / lambda)", prove: kept_weights },
    Property { name: "words: the anchors of sus-u/1, Philox and Threefry", prove: anchors },
    Property { name: "words do not depend on who asks", prove: words_of_rows },
    Property { name: "0 <= P(keep) - q < 2^-32, or 2^-64 with a second word", prove: decisions },
];

/// `Err` unless the largest deviation is below the limit.
fn within(largest: f64, limit: f64, what: &str) -> Result<String, String> {
    let found = format!("{what} to {largest:.1e}");
    if largest < limit { Ok(found) } else { Err(format!("{found}, expected below {limit:.0e}")) }
}

/// The largest `|a - b|`.
fn largest_difference(a: &[Dd], b: &[Dd]) -> f64 {
    assert_eq!(a.len(), b.len(), "as many numbers on both sides");
    a.iter().zip(b).fold(0.0, |m, (&a, &b)| f64::max(m, (a - b).abs().to_f64()))
}

/// `sum o . G + sum lse dlse`.
fn loss<T: Scalar>(problem: &Problem<T>) -> T {
    let Saved { o, lse } = forward(problem);
    let dlse = problem
        .inputs()
        .dlse
        .as_ref()
        .map_or(T::zero(), |dlse| dot(lse.as_slice(), dlse.as_slice()));
    dot(o.as_slice(), problem.inputs().g.as_slice()) + dlse
}

fn dense_gradients() -> Result<String, String> {
    let exact: Problem<Dd> = problem([1, 1, 2, 2, 3, 2, 2], 0).cast().expect("finite numbers");
    let gradients = flat(&backward(&exact, &forward(&exact)));
    let mut derivatives = Vec::new();
    for at in 0..gradients.len() {
        let dual = exact.map(Dual::constant).expect("finite numbers");
        let Inputs { mut q, mut k, mut v, g, dlse, mut bias, mut sink, .. } = dual.inputs().clone();
        let tensors = [&mut q, &mut k, &mut v].into_iter().chain(&mut bias);
        let numbers =
            tensors.flat_map(|t| t.as_mut_slice().iter_mut()).chain(sink.iter_mut().flatten());
        numbers.skip(at).take(1).for_each(|x| x.eps = Dd::one());
        let inputs = Inputs::new(q, k, v, g).with_dlse(dlse).with_bias(bias).with_sink(sink);
        let moved = Problem::new(inputs, exact.options().clone()).expect("the same problem");
        derivatives.push(loss(&moved).eps);
    }
    let found = largest_difference(&gradients, &derivatives);
    within(found, 1e-27, &format!("{} derivatives by dual numbers agree", gradients.len()))
}

fn empty_rows() -> Result<String, String> {
    let shape = |n, d| Tensor::from_fn([1, 1, n, d], |[_, _, n, d]| (n as f64 - d as f64) / 4.0);
    let (q, k, v, g) = (shape(5, 2), shape(2, 2), shape(2, 2), shape(5, 2));
    let inputs = Inputs::new(q, k, v, g);
    let options = Options::default().with_causal(true).with_alignment(Alignment::BottomRight);
    let problem = Problem::new(inputs, options).map_err(|e| e.to_string())?;
    let saved = forward(&problem);
    let gradients = backward(&problem, &saved);
    let empty = (0..5).filter(|&i| problem.mask().visible(i).is_empty());
    let right = empty.clone().all(|i| {
        saved.lse.row(0, 0, i)[0] == f64::NEG_INFINITY
            && saved.o.row(0, 0, i).iter().all(|&x| x == 0.0)
            && gradients.dq.row(0, 0, i).iter().all(|&x| x == 0.0)
    });
    let finite =
        gradients.dk.as_slice().iter().chain(gradients.dv.as_slice()).all(|x| x.is_finite());
    match empty.count() {
        3 if right && finite => Ok("3 such rows of 5".into()),
        n => Err(format!("{n} such rows, zeros: {right}, finite: {finite}")),
    }
}

/// `sum_j dS_ij = 0` without sink, softcap and `dlse`; `delta` moves with `dP`.
fn invariances() -> Result<String, String> {
    let Inputs { q, k, v, g, .. } = problem([1, 1, 2, 3, 4, 2, 3], 1).inputs().clone();
    let gradients = |k: &Tensor<f64>, v: &Tensor<f64>| {
        let inputs = Inputs::new(q.clone(), k.clone(), v.clone(), g.clone());
        let exact: Problem<Dd> = Problem::new(inputs, Options::default())
            .and_then(|p| p.cast())
            .expect("a legal problem");
        backward(&exact, &forward(&exact))
    };
    let (plain, keys, values) =
        (gradients(&k, &v), gradients(&k.map(|x| x + 1.5), &v), gradients(&k, &v.map(|x| x - 2.5)));
    let moved = [(&plain.dq, &keys.dq), (&plain.dq, &values.dq), (&plain.dk, &values.dk)];
    let largest = moved
        .iter()
        .map(|(a, b)| largest_difference(a.as_slice(), b.as_slice()))
        .fold(0.0, f64::max);
    within(largest, 1e-27, "unchanged")
}

/// A problem whose masks can be listed.
fn small() -> Problem<f64> {
    problem([1, 1, 2, 2, 4, 2, 2], 2)
}

fn unbiased(rule: Rule, sampler: Sampler) -> Result<String, String> {
    let found = moments(&small(), 1.5, rule, sampler);
    let largest = largest_difference(&found.mean, &found.dense);
    within(largest, 1e-27, &format!("the mean over {} masks agrees", found.masks))
}

/// `sum r a^2` for each element, `r = W^2 (1 - q) / q` and `a` the derivative of the element by `W~`.
fn variance() -> Result<String, String> {
    let c = 1.5;
    let found = moments(&small(), c, Rule::Paper, Sampler::Bernoulli);
    let exact: Problem<Dd> = small().cast().expect("finite numbers");
    let saved = forward(&exact);
    let (weights, delta) =
        (DenseWeights { problem: &exact, saved: &saved }, delta(&exact, &saved.o));
    let sizes = exact.sizes();
    let mut dq = vec![Dd::zero(); exact.inputs().q.as_slice().len()];
    let mut dk = vec![Dd::zero(); exact.inputs().k.as_slice().len()];
    let mut dv = vec![Dd::zero(); exact.inputs().v.as_slice().len()];
    let mut dbias = vec![Dd::zero(); sizes.query_heads * sizes.keys];
    for (n, delta) in delta.iter().enumerate() {
        let row = exact.row(n);
        for j in exact.mask().visible(row.i) {
            let weight = weights.at(row, j);
            let q = keep_probability(Dd::from_f64(c), weight.w);
            let r = weight.w * weight.w * (Dd::one() - q) / q;
            let t = dot(exact.g(row), exact.v(row, j)) - *delta + exact.dlse(row);
            let f = t * weight.slope;
            let at = exact.key_head(row.h) * sizes.keys + j;
            let add = |to: &mut [Dd], factor: Dd, x: &[Dd]| {
                to.iter_mut().zip(x).for_each(|(to, &x)| *to += r * factor * factor * x * x);
            };
            add(&mut dq[n * sizes.features..], f, exact.k(row, j));
            add(&mut dk[at * sizes.features..], f, exact.q(row));
            add(&mut dv[at * sizes.value_features..], Dd::one(), exact.g(row));
            add(&mut dbias[row.h * sizes.keys + j..], t, &[Dd::one()]);
        }
    }
    let dsink = vec![Dd::zero(); sizes.query_heads];
    let closed: Vec<Dd> = [dq, dk, dv, dbias, dsink].concat();
    let largest = largest_difference(&found.variance, &closed);
    within(largest, 1e-27, &format!("{} variances over {} masks agree", closed.len(), found.masks))
}

fn expected_counts() -> Result<String, String> {
    let problem = small();
    let c = 1.5;
    let mut most = 0.0_f64;
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        for (at, &kept) in moments(&problem, c, Rule::Paper, sampler).expected.iter().enumerate() {
            if kept.to_f64() > c {
                return Err(format!(
                    "paper, {sampler}: row {at} keeps {} of c = {c}",
                    kept.to_f64()
                ));
            }
        }
        for (at, &kept) in
            moments(&problem, c, Rule::Calibrated, sampler).expected.iter().enumerate()
        {
            let visible = problem.mask().visible(problem.row(at).i).len() as f64;
            most = most.max((kept.to_f64() - c.min(visible)).abs());
        }
    }
    within(most, 1e-14, "the calibrated means agree")
}

fn systematic_counts() -> Result<String, String> {
    let problem = problem([1, 2, 2, 17, 23, 3, 2], 3);
    let saved = forward(&problem);
    let mut rows = 0;
    for (seed, c) in [1.0, 1.5, 4.0, 7.25].into_iter().enumerate() {
        for rule in [Rule::Paper, Rule::Calibrated] {
            let c = Budget::new(c).map_err(|e| e.to_string())?;
            let draw =
                Draw::paper(c, seed as u64).with_rule(rule).with_sampler(Sampler::Systematic);
            let drawn = sample(&problem, &saved, &draw).map_err(|e| e.to_string())?;
            for (at, &expected) in drawn.expected.iter().enumerate() {
                let kept = drawn.pattern.row(at).len() as f64;
                rows += 1;
                let near = (kept - expected).abs() < 1.0 + 1e-12;
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

fn kept_weights() -> Result<String, String> {
    let problem = problem([2, 1, 3, 13, 17, 3, 2], 4);
    let saved = forward(&problem);
    let c = Budget::new(3.0).map_err(|e| e.to_string())?;
    let drawn = sample(&problem, &saved, &Draw::paper(c, 9)).map_err(|e| e.to_string())?;
    let values = sampled_values(&problem, &saved, &drawn);
    let weights = DenseWeights { problem: &problem, saved: &saved };
    let mut at = 0;
    for (n, &lambda) in drawn.lambda.iter().enumerate() {
        for &j in drawn.pattern.row(n) {
            let w = weights.at(problem.row(n), j as usize).w;
            let over_q = w / keep_probability(lambda, w);
            if values[at] != kept_weight(lambda, w) || (values[at] / over_q - 1.0).abs() > 1e-15 {
                return Err(format!("row {n}, key {j}: {} for W / q = {over_q}", values[at]));
            }
            at += 1;
        }
    }
    Ok(format!("{at} entries"))
}

/// The anchors of the specification, and known answers of Random123.
fn anchors() -> Result<String, String> {
    let grid = Grid { batch: 1, heads: 4, queries: 32, keys: 32 };
    let uniforms = Uniforms::new(42, 0, Layout::Coord4, grid).map_err(|e| e.to_string())?;
    let mut words = [0; 4];
    uniforms.row_words(0, 0, 0, 0, &mut words);
    let zeros = philox4x32_10([0; 4], [0; 2]);
    let ones = philox4x32_10([u32::MAX; 4], [u32::MAX; 2]);
    let right = words == [0x9cea_f053, 0x77f5_493b, 0x12bf_50ad, 0x5742_b3d7]
        && uniforms.word(0, 3, 17, 6) == 0x5bd2_4d90
        && zeros == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        && ones == [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        && threefry2x32([0, 0], [0, 0], 20) == [0x6b20_0159, 0x99ba_4efe];
    if right { Ok("5 known answers".into()) } else { Err(format!("found {words:08x?}")) }
}

/// One word at a time, a row at once, in every layout.
fn words_of_rows() -> Result<String, String> {
    let grid = Grid { batch: 2, heads: 3, queries: 5, keys: 13 };
    for layout in Layout::ALL {
        let uniforms = Uniforms::new(7, 3, layout, grid).map_err(|e| e.to_string())?;
        for first in 0..13 {
            let mut words = vec![0; 13 - first];
            uniforms.row_words(1, 2, 4, first, &mut words);
            if (first..13).any(|j| words[j - first] != uniforms.word(1, 2, 4, j)) {
                return Err(format!("{layout}: from key {first} on"));
            }
        }
    }
    Ok("4 layouts, from every key on".into())
}

/// The number of words that keep is `ceil(q 2^32)`: the last word that keeps and the first that does not are tried.
fn decisions() -> Result<String, String> {
    let probabilities =
        [0.5, 0.3, 1.0 / 3.0, 2.0_f64.powi(-32), 1e-12, 0.999_999_999_9, 0.25 + 2.0_f64.powi(-40)];
    for q in probabilities {
        let threshold = q * 4_294_967_296.0;
        let words = libm::ceil(threshold);
        let last = (words - 1.0) as u32;
        let first_dropped = if words < 4_294_967_296.0 { !keep32(q, words as u32) } else { true };
        let excess = words - threshold;
        if !keep32(q, last) || !first_dropped || !(0.0..1.0).contains(&excess) {
            return Err(format!("q = {q:e}: last word {last}"));
        }
        let floor = threshold as u32;
        let fraction = (threshold - f64::from(floor)) * 4_294_967_296.0;
        let seconds = libm::ceil(fraction);
        let kept = seconds == 0.0 || keep64(q, floor, || (seconds - 1.0) as u32);
        let dropped = seconds >= 4_294_967_296.0 || !keep64(q, floor, || seconds as u32);
        if !kept || !dropped {
            return Err(format!("q = {q:e} with a second word"));
        }
    }
    Ok(format!("{} thresholds, both sides of each", probabilities.len()))
}
