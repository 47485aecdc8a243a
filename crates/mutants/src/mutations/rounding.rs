//! Accumulation and rounding: coarser than the recipe says.

use super::{BugType, define_kernels, only_if};
use crate::arithmetic::Format;
use crate::simulated_kernel::Point;

/// 8 bits with 4 of exponent: three bits after the leading one, at most 448, steps of `2^-9` near zero.
fn fp8(x: f64) -> f64 {
    let step = libm::exp2(libm::floor(libm::log2(x.abs())).max(-6.0) - 3.0);
    if x == 0.0 { x } else { (libm::rint(x / step) * step).clamp(-448.0, 448.0) }
}

/// Towards zero, at `bits` bits.
fn truncated(x: f64, bits: i32) -> f64 {
    let step = libm::exp2(libm::floor(libm::log2(x.abs())) - f64::from(bits - 1));
    if x == 0.0 { x } else { libm::trunc(x / step) * step }
}

define_kernels! { Some(BugType::Rounding);
    /// `dq` is carried from tile to tile of keys in bf16.
    [] [Dq]
    fn dq_carried_in_bf16(config) {
        Some(config.mutate(Point::Slopes, |w| w.sum_q.carry = Format::Bf16))
    }
    /// `dk` and `dv` are carried from tile to tile of queries in bf16.
    [] [Dk, Dv]
    fn key_gradients_carried_in_bf16(config) {
        Some(config.mutate(Point::Slopes, |w| (w.sum_k.carry, w.sum_v.carry) = (Format::Bf16, Format::Bf16)))
    }
    /// Weights are rounded before they are normalised, and normalised by a sum that leaves out the last key.
    [] [Dq, Dk, Dv, Dbias]
    fn weights_normalised_by_short_sum(config) {
        only_if(config.sizes().keys > 1)?;
        Some(config.mutate(Point::Weights, |w| {
            let keys = w.sizes.keys;
            for (n, _) in w.rows() {
                let row = &mut w.p[n * keys..][..keys];
                let rest = 1.0 - row.iter().rposition(|&p| p > 0.0).map_or(0.0, |j| row[j]);
                if rest > 0.0 {
                    for p in row {
                        *p = Format::Bf16.round(*p) / rest;
                    }
                }
            }
        }))
    }
    /// Scores are rounded to bf16 before the exponential.
    [] [Dq, Dk, Dv, Dbias]
    fn scores_in_bf16(config) {
        only_if(config.arithmetic.elementwise != Format::Bf16)?;
        Some(config.mutate(Point::Scores, |w| w.s.iter_mut().for_each(|s| *s = Format::Bf16.round(*s))))
    }
    /// `lse` is saved in bf16.
    [] [Dq, Dk, Dv, Dbias, Dsink]
    fn lse_in_bf16(config) {
        Some(config.mutate(Point::Saved, |w| w.lse.iter_mut().for_each(|lse| *lse = Format::Bf16.round(*lse))))
    }
    /// `delta` is saved in bf16.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_in_bf16(config) {
        Some(config.mutate(Point::Delta, |w| w.delta.iter_mut().for_each(|delta| *delta = Format::Bf16.round(*delta))))
    }
    /// `k` is rounded to fp8 when the scores are recomputed.
    ["30"] [Dq, Dk, Dv, Dbias]
    fn keys_in_fp8(config) {
        Some(config.mutate(Point::Saved, |w| w.k = w.k.map(fp8)))
    }
    /// `log2 e` is a bf16 constant.
    [] [Dq, Dk, Dv, Dbias]
    fn log2_e_in_bf16(config) {
        Some(config.mutate(Point::Weights, |w| {
            let log2_e = Format::Bf16.round(std::f64::consts::LOG2_E);
            for (at, n, _, _) in w.entries() {
                if w.seen[at] {
                    w.p[at] = w.fl(libm::exp2(w.fl(w.fl(w.s[at] - w.lse[n]) * log2_e)));
                }
            }
        }))
    }
    /// The exponential is a polynomial that is good to three digits.
    [] [Dq, Dk, Dv, Dbias]
    fn exponential_of_three_digits(config) {
        Some(config.mutate(Point::Weights, |w| {
            for (at, n, _, _) in w.entries() {
                let x = (w.s[at] - w.lse[n]) * std::f64::consts::LOG2_E;
                if w.seen[at] {
                    let f = x - libm::floor(x);
                    let mantissa = 1.0 + f * (0.657 + 0.343 * f);
                    w.p[at] = w.fl(mantissa * libm::exp2(libm::floor(x)));
                }
            }
        }))
    }
    /// Weights go through fp8.
    [] [Dq, Dk, Dv, Dbias]
    fn weights_in_fp8(config) {
        Some(config.mutate(Point::Weights, |w| w.p.iter_mut().for_each(|p| *p = fp8(*p))))
    }
    /// `dS` goes through fp8.
    [] [Dq, Dk]
    fn ds_in_fp8(config) {
        Some(config.mutate(Point::Slopes, |w| w.zq.iter_mut().chain(&mut w.zk).for_each(|z| *z = fp8(*z))))
    }
    /// Weights below `10^-2` are skipped.
    [] [Dq, Dk, Dv, Dbias]
    fn small_weights_skipped(config) {
        Some(config.mutate(Point::Weights, |w| w.p.iter_mut().filter(|p| **p < 1e-2).for_each(|p| *p = 0.0)))
    }
    /// Gradients are cut to 8 bits, towards zero, where they should be rounded to the recipe's format.
    [] [Dq, Dk, Dv]
    fn gradients_truncated(config) {
        Some(config.mutate(Point::Sums, |w| {
            w.dq = w.dq.map(|x| truncated(x, 8));
            w.dk = w.dk.map(|x| truncated(x, 8));
            w.dv = w.dv.map(|x| truncated(x, 8));
        }))
    }
    /// `dk` is 1 % too large.
    [] [Dk]
    fn dk_one_percent_large(config) {
        Some(config.mutate(Point::Sums, |w| w.dk = w.dk.map(|x| x * 1.01)))
    }
    /// `dv` is 1 % too small.
    [] [Dv]
    fn dv_one_percent_small(config) {
        Some(config.mutate(Point::Sums, |w| w.dv = w.dv.map(|x| x * 0.99)))
    }
    /// Products of an `f32` kernel go through bf16.
    [] [Dq, Dk, Dv, Dbias]
    fn products_in_bf16(config) {
        only_if(config.arithmetic.weight_operand != Format::Bf16)?;
        Some(config.mutate(Point::Drawn, |w| {
            (w.arithmetic.ds, w.arithmetic.weight_operand) = (Format::Bf16, Format::Bf16);
            w.arithmetic.operand = Format::Bf16;
        }))
    }
}
