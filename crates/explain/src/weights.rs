//! Kernels whose weights, `delta`, `dlse` or `dS` are computed otherwise.

use crate::cause::Kind;
use crate::kernel::{Entry, Kernel, Machine, Parts, Rule};
use crate::maps::TILES;
use crate::supposition::{Supposition, with_inputs};
use std::sync::Arc;
use sus_reference::sus::Sample;
use sus_reference::tensor::Tensor;

/// Every change of the weights and of what is made of them, the simplest first.
pub(crate) fn weights(machine: &Machine<'_>) -> Vec<Supposition<'static>> {
    let mut all = deltas(machine);
    all.extend(cotangents(machine));
    all.extend(rules(machine));
    all.extend(groups(machine));
    if let Some(sample) = machine.sample {
        all.extend(sampled(machine, sample));
    }
    all
}

fn supposition(text: impl Into<String>, kernel: Kernel) -> Supposition<'static> {
    Supposition::ready(Kind::Weights, text, kernel)
}

fn by_rule(
    text: impl Into<String>,
    rule: impl Fn(&Entry) -> Parts + Send + Sync + 'static,
) -> Supposition<'static> {
    let rule: Rule = Arc::new(rule);
    supposition(text, Kernel { rule: Some(rule), ..Kernel::default() })
}

fn deltas(machine: &Machine<'_>) -> Vec<Supposition<'static>> {
    let mut all = Vec::new();
    for (text, factor) in [
        ("no delta", 0.0),
        ("half of delta", 0.5),
        ("twice delta, as if two tiles of the features each took it off", 2.0),
        ("three times delta", 3.0),
        ("four times delta", 4.0),
        ("delta added, not taken off", -1.0),
        ("delta times the scale", machine.problem.scale()),
        ("delta over the scale", 1.0 / machine.problem.scale()),
        ("0.9 times delta", 0.9),
        ("1.1 times delta", 1.1),
        ("0.99 times delta", 0.99),
        ("1.01 times delta", 1.01),
    ] {
        let delta = Some(Arc::new(machine.delta.iter().map(|x| factor * x).collect()));
        all.push(supposition(text, Kernel { delta, ..Kernel::default() }));
    }
    // `delta` of an `o` before it is divided by the sum of the exponentials, and of parts of the features.
    let p = machine.problem;
    let lse = machine.saved.lse.as_slice();
    let largest: Vec<f64> = (0..p.row_count())
        .map(|at| {
            let row = p.row(at);
            let score = |j| sus_reference::forward::score(p, row, j).s;
            p.visible(row).map(score).fold(f64::NEG_INFINITY, f64::max)
        })
        .collect();
    let undivided: Vec<f64> = (0..lse.len())
        .map(|at| {
            let sum = lse[at] - largest[at];
            if sum.is_finite() { machine.delta[at] * libm::exp(sum) } else { 0.0 }
        })
        .collect();
    let delta = Some(Arc::new(undivided));
    all.push(supposition(
        "delta of an o that is not divided by the sum of the exponentials",
        Kernel { delta, ..Kernel::default() },
    ));
    all.push(supposition(
        "weights that are not divided by their sum: exp(s - max)",
        Kernel { lse: Some(Arc::new(largest)), ..Kernel::default() },
    ));
    // The sum of the exponentials lacks a key: its logarithm is `lse + ln(1 - W)`.
    for (text, is_last) in [("last", true), ("first", false)] {
        let short = (0..lse.len()).map(|at| {
            let row = p.row(at);
            let mut seen = p.visible(row);
            let key = if is_last { seen.last() } else { seen.next() };
            let weight = |j| libm::exp(sus_reference::forward::score(p, row, j).s - lse[at]);
            let rest = 1.0 - key.map_or(0.0, weight);
            if rest > 0.0 { lse[at] + libm::log(rest) } else { lse[at] }
        });
        let lse = Some(Arc::new(short.collect()));
        let text = format!("weights over a sum of exponentials without the {text} key");
        all.push(supposition(text, Kernel { lse, ..Kernel::default() }));
    }
    all
}

fn cotangents(machine: &Machine<'_>) -> Vec<Supposition<'static>> {
    let p = machine.problem;
    let Some(dlse) = &p.inputs().dlse else { return Vec::new() };
    let scale = p.scale();
    let mut all = Vec::new();
    for (text, factor) in [
        ("no dlse", 0.0),
        ("dlse with the other sign", -1.0),
        ("dlse times the scale", scale),
        ("dlse over the scale", 1.0 / scale),
        ("dlse times ln 2", std::f64::consts::LN_2),
        ("dlse times log2 e", std::f64::consts::LOG2_E),
        ("twice dlse", 2.0),
        ("half of dlse", 0.5),
    ] {
        let other: Tensor<f64> = dlse.map(|x| factor * x);
        if let Some(kernel) = with_inputs(p, |inputs| inputs.with_dlse(other)) {
            all.push(supposition(text, kernel));
        }
    }
    all
}

fn rules(machine: &Machine<'_>) -> Vec<Supposition<'static>> {
    let p = machine.problem;
    let mut all = vec![
        by_rule("dS = dP - delta, without the weight", |e| e.parts_of(e.dp - e.delta + e.dlse)),
        by_rule("dS = W dP - delta: delta without the weight", |e| {
            e.parts_of(e.w * e.dp - e.delta + e.dlse)
        }),
        by_rule("dS = W (1 - W) dP: the diagonal of the softmax's derivative alone", |e| {
            e.parts_of(e.w * (1.0 - e.w) * e.dp)
        }),
        by_rule("dS = W^2 (dP - delta)", |e| e.parts_of(e.w * e.w * (e.dp - e.delta + e.dlse))),
        by_rule("dv with dS in place of W", |e| Parts { wv: e.parts().ds, ..e.parts() }),
        by_rule("dv with W^2 in place of W", |e| Parts { wv: e.w * e.w, ..e.parts() }),
        by_rule("the scale is left out of dq and dk", |e| {
            let of = e.parts();
            Parts { zq: of.zq / e.scale, zk: of.zk / e.scale, ..of }
        }),
        by_rule("dS is negative parts alone", |e| e.parts_of(e.parts().ds.min(0.0))),
        by_rule("dS is positive parts alone", |e| e.parts_of(e.parts().ds.max(0.0))),
        by_rule("dbias times the scale", |e| Parts { ds: e.parts().zq, ..e.parts() }),
    ];
    for threshold in [1e-1, 1e-2, 1e-3, 1e-4] {
        all.push(by_rule(format!("weights below {threshold:e} are left out"), move |e| {
            if e.dense < threshold {
                Parts { zq: 0.0, zk: 0.0, wv: 0.0, ds: 0.0 }
            } else {
                e.parts()
            }
        }));
    }
    if let Some(cap) = p.options().softcap {
        let with_slope = |text: &str, slope: fn(&Entry, f64) -> f64| {
            by_rule(text, move |e: &Entry| {
                let of = e.parts();
                let z = of.ds * slope(e, cap) * e.scale;
                Parts { zq: z, zk: z, ..of }
            })
        };
        all.push(with_slope("the derivative of the softcap is left out", |_, _| 1.0));
        all.push(with_slope("the derivative of the softcap is applied twice", |e, _| {
            e.cap * e.cap
        }));
        all.push(with_slope(
            "the derivative of the softcap of a score that is capped already",
            |e, cap| {
                let tanh =
                    libm::tanh(libm::sqrt((1.0 - e.cap).max(0.0)) * f64::signum(e.s) / cap * cap);
                1.0 - tanh * tanh
            },
        ));
        all.push(with_slope("the derivative of the softcap as 1 - tanh", |e, cap| 1.0 - e.s / cap));
        all.push(with_slope(
            "the derivative of the softcap as 1 - (s / cap)^2 of the score with bias",
            |e, cap| 1.0 - (e.s / cap) * (e.s / cap),
        ));
        all.push(by_rule("dbias with the derivative of the softcap", |e| Parts {
            ds: e.parts().ds * e.cap,
            ..e.parts()
        }));
    }
    all
}

/// `dk` and `dv` of one query head of each group, or of each tile of queries.
fn groups(machine: &Machine<'_>) -> Vec<Supposition<'static>> {
    let p = machine.problem;
    let (group, sizes) = (p.group(), p.sizes());
    let without_keys = |e: &Entry| Parts { zk: 0.0, wv: 0.0, ..e.parts() };
    let without_query = |e: &Entry| Parts { zq: 0.0, ..e.parts() };
    let mut all = Vec::new();
    if group > 1 {
        for (text, member) in [("last", group - 1), ("first", 0)] {
            all.push(by_rule(
                format!("dk and dv hold the {text} query head of the group alone"),
                move |e| if e.row.h % group == member { e.parts() } else { without_keys(e) },
            ));
        }
        for member in 0..group {
            all.push(by_rule(
                format!("dk and dv lose query head {member} of each group"),
                move |e| if e.row.h % group == member { without_keys(e) } else { e.parts() },
            ));
        }
    }
    let last = sizes.queries.saturating_sub(1);
    for (text, lost) in [("last", last), ("first", 0)] {
        all.push(by_rule(format!("dk and dv lose the {text} query of each head"), move |e| {
            if e.row.i == lost { without_keys(e) } else { e.parts() }
        }));
    }
    for tile in TILES {
        if tile < sizes.queries {
            let whole = sizes.queries / tile * tile;
            if whole < sizes.queries {
                all.push(by_rule(
                    format!("dk and dv sum the whole tiles of {tile} queries alone"),
                    move |e| if e.row.i < whole { e.parts() } else { without_keys(e) },
                ));
            }
            let last = (sizes.queries - 1) / tile * tile;
            all.push(by_rule(
                format!("dk and dv hold the last tile of {tile} queries alone"),
                move |e| if e.row.i < last { without_keys(e) } else { e.parts() },
            ));
        }
        if tile < sizes.keys {
            let last = (sizes.keys - 1) / tile * tile;
            all.push(by_rule(format!("dq holds the last tile of {tile} keys alone"), move |e| {
                if e.j < last { without_query(e) } else { e.parts() }
            }));
        }
    }
    all
}

fn sampled(machine: &Machine<'_>, sample: &Sample) -> Vec<Supposition<'static>> {
    let p = machine.problem;
    let (heads, queries) = (p.sizes().query_heads, p.sizes().queries);
    let lambda = Arc::new(sample.lambda.clone());
    let of = move |e: &Entry| lambda[(e.row.b * heads + e.row.h) * queries + e.row.i];
    let with_w = |e: &Entry, w: f64| Entry { w, ..*e }.parts();
    let mut all = vec![
        supposition("all weights, no sample", Kernel { dense: true, ..Kernel::default() }),
        by_rule("kept weights that are not divided by q", move |e| with_w(e, e.dense)),
    ];
    let lambda = of.clone();
    all.push(by_rule("every kept weight counts as 1 / c", move |e| with_w(e, 1.0 / lambda(e))));
    let lambda = of.clone();
    all.push(by_rule("q = c W without a limit of 1", move |e| {
        with_w(e, e.dense / (lambda(e) * e.dense))
    }));
    all.push(by_rule("weights divided by q twice", move |e| {
        let q = (of(e) * e.dense).min(1.0);
        with_w(e, e.dense / (q * q))
    }));
    all.push(by_rule("kept weights that are not divided by q in dq and dk", move |e| Parts {
        wv: e.parts().wv,
        ..with_w(e, e.dense)
    }));
    all.push(by_rule("kept weights that are not divided by q in dv", move |e| Parts {
        wv: e.dense,
        ..e.parts()
    }));
    // `delta` from the sampled weights: of the o that they give.
    let deltas = delta_of_sample(machine, sample);
    all.push(supposition(
        "delta from the sampled weights",
        Kernel { delta: Some(Arc::new(deltas)), ..Kernel::default() },
    ));
    all
}

/// `sum_j W~_ij dP_ij` of each row.
fn delta_of_sample(machine: &Machine<'_>, sample: &Sample) -> Vec<f64> {
    let p = machine.problem;
    let weights = sus_reference::backward::DenseWeights { problem: p, saved: machine.saved };
    (0..p.row_count())
        .map(|at| {
            let row = p.row(at);
            let kept = sample.pattern.row(at).iter().map(|&j| j as usize);
            kept.map(|j| {
                let dense = weights.at(row, j).w;
                let w = sus_reference::sus::rule::kept_weight(sample.lambda[at], dense);
                w * crate::kernel::dot(p.g(row), p.v(row, j))
            })
            .sum()
        })
        .collect()
}
