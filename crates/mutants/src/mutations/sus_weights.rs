//! The weights of SUS: `W~ = W m / q = m max(W, 1 / lambda)`, the same in every gradient; `delta` from the exact `o`.

use super::{BugType, define_kernels, only_if};
use crate::arithmetic::Format;
use crate::simulated_kernel::{Point, State};

/// Replaces the weights of all gradients by `value` of `W` and `lambda`.
fn weigh(w: &mut State<'_>, value: impl Fn(f64, f64) -> f64) {
    w.wq = w.sampled_by(value);
    (w.wk, w.wv) = (w.wq.clone(), w.wq.clone());
}

/// The mask drawn with other probabilities; `law` gives `lambda` and `q` of a row from its weights.
fn drawn(w: &mut State<'_>, law: impl Fn(&State<'_>, &[f64]) -> (f64, Vec<f64>)) {
    let uniforms = w.uniforms();
    w.draw_full(|words| words.of(&uniforms), None, |w, _, weights| law(w, weights));
}

define_kernels! { Some(BugType::SusWeights);
    /// `delta` from the sampled weights: the mean of `W~^2` is not `W^2`.
    ["s1"] [Dq, Dk, Dbias, Dsink]
    fn delta_from_sampled_weights(config) {
        config.draw?;
        Some(config.mutate(Point::Product, |w| {
            let keys = w.sizes.keys;
            for (n, _) in w.rows() {
                w.delta[n] = (n * keys..(n + 1) * keys).map(|at| w.wq[at] * w.dp[at]).sum();
            }
        }))
    }
    /// The kept weights are not divided by `q`.
    ["s2"] [Dq, Dk, Dv, Dbias]
    fn upweighting_missing(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| weigh(w, |weight, _| weight)))
    }
    /// `1 / q` is in `dq` and `dk`, not in `dv`.
    ["s3"] [Dv]
    fn dv_not_upweighted(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| w.wv = w.sampled_by(|weight, _| weight)))
    }
    /// `1 / q` is in `dv`, not in `dq` and `dk`.
    ["s3"] [Dq, Dk, Dbias]
    fn ds_not_upweighted(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            w.wq = w.sampled_by(|weight, _| weight);
            w.wk = w.wq.clone();
        }))
    }
    /// `q = c W` without the minimum with 1: a kept weight always counts as `1 / c`.
    ["s4"] [Dq, Dk, Dv, Dbias]
    fn minimum_with_one_missing(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| weigh(w, |_, lambda| 1.0 / lambda)))
    }
    /// `q` from the exponentials before they are normalised.
    ["s5"] [Dq, Dk, Dv, Dbias]
    fn q_before_normalisation(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let largest = |weights: &[f64]| weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            let c = w.config.draw.expect("a SUS config").c.get();
            let q = |w: &State<'_>, weights: &[f64]| -> Vec<f64> {
                weights.iter().map(|weight| w.keep(c, weight / largest(weights))).collect()
            };
            drawn(w, |w, weights| (c, q(w, weights)));
            let (keys, kept) = (w.sizes.keys, w.sampled_by(|weight, _| weight));
            let mut upweighted = Vec::with_capacity(kept.len());
            for (n, _) in w.rows() {
                let row = n * keys..(n + 1) * keys;
                let q = q(w, &w.p[row.clone()]);
                upweighted.extend(kept[row].iter().zip(q).map(|(kept, q)| if q > 0.0 { kept / q } else { 0.0 }));
            }
            (w.wq, w.wk, w.wv) = (upweighted.clone(), upweighted.clone(), upweighted);
        }))
    }
    /// `q` from weights rounded to bf16, which then also decide what a kept weight counts as.
    ["s5"] [Dq, Dk, Dv, Dbias]
    fn q_of_weights_in_bf16(config) {
        config.draw?;
        only_if(config.arithmetic.elementwise != Format::Bf16)?;
        Some(config.mutate(Point::Weights, |w| w.p.iter_mut().for_each(|p| *p = Format::Bf16.round(*p))))
    }
    /// Each row's `W~` is normalised to the sum of its weights.
    ["s11"] [Dq, Dk, Dv, Dbias]
    fn weights_renormalised(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let keys = w.sizes.keys;
            for (n, _) in w.rows() {
                let sum = |x: &[f64]| x[n * keys..][..keys].iter().sum::<f64>();
                let (all, kept) = (sum(&w.p), sum(&w.wq));
                for matrix in [&mut w.wq, &mut w.wk, &mut w.wv] {
                    matrix[n * keys..][..keys].iter_mut().for_each(|x| *x *= if kept > 0.0 { all / kept } else { 0.0 });
                }
            }
        }))
    }
    /// `m / q` is applied to the weights and again to `dS`.
    ["s12"] [Dq, Dk, Dbias]
    fn upweighted_twice(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            w.wq = w.sampled_by(|weight, lambda| {
                let kept = weight.max(1.0 / lambda);
                if weight > 0.0 { kept * kept / weight } else { 0.0 }
            });
            w.wk = w.wq.clone();
        }))
    }
    /// `1 / c` is applied twice to a weight below it.
    [] [Dq, Dk, Dv, Dbias]
    fn one_over_c_twice(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| weigh(w, |weight, lambda| if weight * lambda < 1.0 { 1.0 / (lambda * lambda) } else { weight })))
    }
    /// Kept weights are divided by the row's mean `q`.
    [] [Dq, Dk, Dv, Dbias]
    fn mean_q(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let sample = w.sample.clone().expect("a drawn mask");
            for (at, n, row, _) in w.entries() {
                let visible = w.config.problem.visible_keys(row).max(1) as f64;
                let mean = sample.expected[n] / visible;
                let kept = if w.wq[at] == 0.0 { 0.0 } else { w.p[at] / mean };
                (w.wq[at], w.wk[at], w.wv[at]) = (kept, kept, kept);
            }
        }))
    }
    /// The rule of the other name: `lambda = c` for the calibrated one, and the other way about.
    [] [Dq, Dk, Dv, Dbias]
    fn other_rule(config) {
        let draw = config.draw?;
        let rule = if draw.rule == sus_reference::sus::Rule::Paper { sus_reference::sus::Rule::Calibrated } else { sus_reference::sus::Rule::Paper };
        Some(config.mutate(Point::Weights, |w| w.draw_rule = Some((rule, draw.c))))
    }
    /// `c` is one too large.
    [] [Dq, Dk, Dv, Dbias]
    fn c_off_by_one(config) {
        let draw = config.draw?;
        let c = sus_reference::sus::Budget::new(draw.c.get() + 1.0).ok()?;
        Some(config.mutate(Point::Weights, |w| w.draw_rule = Some((draw.rule, c))))
    }
    /// `c` is shared by the keys of a row: `q = c / n`, whatever the weight.
    [] [Dq, Dk, Dv, Dbias]
    fn uniform_q(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let c = w.config.draw.expect("a SUS config").c.get();
            let q = |visible: usize| (c / visible.max(1) as f64).min(1.0);
            drawn(w, |_, weights| (c, vec![q(weights.len()); weights.len()]));
            let mut kept = w.sampled_by(|weight, _| weight);
            for (at, _, row, _) in w.entries() {
                kept[at] /= q(w.config.problem.visible_keys(row));
            }
            (w.wq, w.wk, w.wv) = (kept.clone(), kept.clone(), kept);
        }))
    }
    /// The kept weights are read one place off in the compacted list.
    ["s14"] [Dq, Dk, Dv, Dbias]
    fn compacted_values_shifted(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let sample = w.sample.clone().expect("a drawn mask");
            let right = w.wq.clone();
            for (n, _) in w.rows() {
                let kept: Vec<usize> = sample.pattern.row(n).iter().map(|&j| n * w.sizes.keys + j as usize).collect();
                for (slot, &at) in kept.iter().enumerate() {
                    let from = right[kept[(slot + 1).min(kept.len() - 1)]];
                    (w.wq[at], w.wk[at], w.wv[at]) = (from, from, from);
                }
            }
        }))
    }
    /// `dq` and `dk` use the sampled weights, `dv` the dense ones.
    ["s3"] [Dv]
    fn dv_dense(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| w.wv = w.p.clone()))
    }
    /// The mask is ignored: the dense gradients.
    [] [Dq, Dk, Dv, Dbias]
    fn mask_ignored(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| (w.wq, w.wk, w.wv) = (w.p.clone(), w.p.clone(), w.p.clone())))
    }
    /// The sampled weights replace the exact ones in `delta` by way of `o`.
    ["s1"] [Dq, Dk, Dbias, Dsink]
    fn delta_from_sampled_output(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let (keys, features) = (w.sizes.keys, w.sizes.value_features);
            for (n, row) in w.rows() {
                for e in 0..features {
                    let sum = (0..keys).map(|j| w.wv[n * keys + j] * w.v.row(row.b, w.key_head[row.h], j)[e]).sum();
                    w.o.as_mut_slice()[n * features + e] = sum;
                }
            }
        }))
    }
}
