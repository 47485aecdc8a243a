//! Kernels that keep intermediate results with fewer bits than their recipe says.

use crate::cause::Kind;
use crate::kernel::{Entry, Kernel, Machine, Parts, Rule};
use crate::supposition::{Build, Supposition, with_inputs};
use std::sync::Arc;
use sus_reference::tensor::Tensor;

/// Formats by their significant bits: bf16; f16 and tf32; the two of 8 bits.
const BITS: [(&str, i32); 4] =
    [("bf16", 8), ("11 bits, f16 or tf32", 11), ("e4m3", 4), ("e5m2", 3)];

/// The nearest number of so many significant bits, ties to even; the range of the exponent is left out of account.
fn round(x: f64, bits: i32) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let (_, exponent) = libm::frexp(x);
    libm::ldexp(libm::rint(libm::ldexp(x, bits - exponent)), exponent - bits)
}

/// The parts of an entry with another dense weight. Of a sampled pass a kept weight counts as `max(W, 1 / lambda)`: one that differs from
/// the dense weight is `1 / lambda`.
fn with_dense(e: &Entry, dense: f64) -> Parts {
    e.parts_with(if e.w == e.dense { dense } else { dense.max(e.w) })
}

/// Every intermediate result in every format.
pub(crate) fn roundings<'a>(machine: &'a Machine<'_>) -> Vec<Supposition<'a>> {
    let mut all = Vec::new();
    for (format, bits) in BITS {
        let mut put = |text: &str, build: Build<'a>| {
            all.push(Supposition::new(
                Kind::Rounding,
                format!("{text} rounded to {format}"),
                build,
            ));
        };
        put("lse", Arc::new(move || Some(rows(machine, bits, true))));
        put("delta", Arc::new(move || Some(rows(machine, bits, false))));
        put("the o of delta", Arc::new(move || Some(stored_o(machine, bits))));
        put("the weights", by_rule(move |e| e.parts_with(round(e.w, bits))));
        put(
            "the weights of dv",
            by_rule(move |e| {
                let mut of = e.parts();
                of.wv = round(of.wv, bits);
                of
            }),
        );
        put(
            "dS",
            by_rule(move |e| {
                let ds = e.w * (e.dp - e.delta + e.dlse);
                e.parts_of(round(ds, bits))
            }),
        );
        put("dP", by_rule(move |e| Entry { dp: round(e.dp, bits), ..*e }.parts()));
        put(
            "the scores",
            by_rule(move |e| {
                let factor = libm::exp(round(e.s, bits) - e.s);
                with_dense(e, e.dense * factor)
            }),
        );
        let operands: [(&str, [bool; 4]); 6] = [
            ("q, k, v and do, in the backward pass,", [true; 4]),
            ("q and k, in the backward pass,", [true, true, false, false]),
            ("q, in the backward pass,", [true, false, false, false]),
            ("k, in the backward pass,", [false, true, false, false]),
            ("v, in the backward pass,", [false, false, true, false]),
            ("do, in the backward pass,", [false, false, false, true]),
        ];
        for (text, which) in operands {
            put(
                text,
                Arc::new(move || {
                    with_inputs(machine.problem, |inputs| {
                        let of = |tensor: &Tensor<f64>, rounded| {
                            tensor.map(|x| if rounded { round(x, bits) } else { x })
                        };
                        let [q, k, v, g] = which;
                        let read = (
                            of(&inputs.q, q),
                            of(&inputs.k, k),
                            of(&inputs.v, v),
                            of(&inputs.g, g),
                        );
                        inputs.with_q(read.0).with_k(read.1).with_v(read.2).with_g(read.3)
                    })
                }),
            );
        }
    }
    let log2_e = round(std::f64::consts::LOG2_E, 8) / std::f64::consts::LOG2_E;
    all.push(Supposition::new(
        Kind::Rounding,
        "log2 e rounded to bf16",
        by_rule(move |e| {
            // exp(log2 e (s - lse) ln 2), with an inexact log2 e.
            with_dense(e, if e.dense > 0.0 { libm::pow(e.dense, log2_e) } else { 0.0 })
        }),
    ));
    all.push(Supposition::new(
        Kind::Rounding,
        "exp2 by a polynomial of three digits, 2^n (1 + f (0.657 + 0.343 f))",
        by_rule(|e| {
            let x = libm::log2(e.dense);
            if !x.is_finite() {
                return e.parts();
            }
            let f = x - libm::floor(x);
            with_dense(e, (1.0 + f * (0.657 + 0.343 * f)) * libm::exp2(libm::floor(x)))
        }),
    ));
    all
}

fn by_rule<'a>(rule: impl Fn(&Entry) -> Parts + Send + Sync + 'static) -> Build<'a> {
    let rule: Rule = Arc::new(rule);
    Arc::new(move || Some(Kernel { rule: Some(Arc::clone(&rule)), ..Kernel::default() }))
}

/// `lse` or `delta` in fewer bits.
fn rows(machine: &Machine<'_>, bits: i32, of_lse: bool) -> Kernel {
    let rounded = |x: &[f64]| Some(Arc::new(x.iter().map(|&x| round(x, bits)).collect()));
    if of_lse {
        Kernel { lse: rounded(machine.saved.lse.as_slice()), ..Kernel::default() }
    } else {
        Kernel { delta: rounded(&machine.delta), ..Kernel::default() }
    }
}

/// `delta` of an `o` in fewer bits.
fn stored_o(machine: &Machine<'_>, bits: i32) -> Kernel {
    let p = machine.problem;
    let delta = (0..p.row_count()).map(|at| {
        let row = p.row(at);
        let o = machine.saved.o.row(row.b, row.h, row.i);
        o.iter().zip(p.g(row)).map(|(&o, g)| round(o, bits) * g).sum()
    });
    Kernel { delta: Some(Arc::new(delta.collect())), ..Kernel::default() }
}
