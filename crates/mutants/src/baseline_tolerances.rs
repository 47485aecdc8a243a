//! How attention's backward pass is tested elsewhere today, rule by rule, as their own files have it.
//!
//! Each rule compares the gradients of one run: the candidate's `x`, the reference `ref`, and `pt`, the result of an
//! unfused kernel of the same type, which rounds every matrix that it stores. For SUS `ref` and `pt` use the oracle's
//! mask, which helps every rule. A rule judges only the types and the tensors that its source names.

use super::arithmetic::Format;
use sus_reference::TensorName;

/// One gradient of one run.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The gradient.
    pub tensor: TensorName,
    /// The candidate.
    pub x: &'a [f64],
    /// The truth.
    pub reference: &'a [f64],
    /// What an unfused kernel of the same type gives.
    pub unfused: &'a [f64],
    /// The type that gradients are stored in.
    pub format: Format,
    /// The problem has a softcap.
    pub softcap: bool,
}

/// A rule that a project uses.
///
/// # Examples
/// ```
/// use sus_mutants::{arithmetic::Format, baseline_tolerances::{Compared, BASELINE_TOLERANCES}};
/// use sus_reference::TensorName;
/// let compared = |tensor| Compared {
///     tensor,
///     x: &[1.5],
///     reference: &[1.0],
///     unfused: &[1.25],
///     format: Format::Bf16,
///     softcap: false,
/// };
/// let rule = |name| BASELINE_TOLERANCES.iter().find(|tolerance| tolerance.name == name).unwrap().passes;
/// assert_eq!(rule("triton")(&compared(TensorName::Dq)), Some(false));
/// assert_eq!(rule("triton")(&compared(TensorName::Dsink)), None); // of this it says nothing
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BaselineTolerance {
    /// A short name.
    pub name: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// Where it stands.
    pub source: &'static str,
    /// Whether a gradient passes; `None` where the rule says nothing.
    pub passes: fn(&Compared<'_>) -> Option<bool>,
}

impl Compared<'_> {
    /// `|x - ref| <= absolute + relative |ref|` for every element.
    fn all_close(&self, absolute: f64, relative: f64) -> bool {
        let pairs = self.x.iter().zip(self.reference);
        pairs.into_iter().all(|(x, r)| (x - r).abs() <= absolute + relative * r.abs())
    }

    /// The largest `|a - ref|`; NaN if there is one.
    fn largest(&self, a: &[f64]) -> f64 {
        let differences = a.iter().zip(self.reference).map(|(a, r)| (a - r).abs());
        differences.fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
    }

    /// `max |x - ref| <= factor max |pt - ref| + absolute`.
    fn within_unfused(&self, factor: f64, absolute: f64) -> bool {
        self.largest(self.x) <= factor * self.largest(self.unfused) + absolute
    }

    /// `sum |a - ref|^power`.
    fn total(&self, a: &[f64], power: i32) -> f64 {
        a.iter().zip(self.reference).map(|(a, r)| (a - r).abs().powi(power)).sum()
    }

    /// PyTorch's tolerances: the unfused kernel's deviation times `factor`.
    fn fudged(&self, factor: f64) -> bool {
        let default = match self.format {
            Format::Bf16 => 1.6e-2,
            Format::F16 => 1e-3,
            _ => 1.3e-6,
        };
        let relative = self.unfused.iter().zip(self.reference).map(|(p, r)| ((p - r) / r).abs());
        let relative = relative.fold(default, f64::max);
        let relative = if relative > 1e30 { default } else { relative };
        self.all_close(factor * self.largest(self.unfused).max(1e-3), factor * relative)
    }

    /// The tolerance of a rule that has one for bf16, f16 and f32, for the gradients of q, k and v.
    fn by_format(&self, [bf16, f16, f32]: [f64; 3]) -> Option<f64> {
        let tolerance = match self.format {
            Format::Bf16 => bf16,
            Format::F16 => f16,
            Format::F32 => f32,
            _ => return None,
        };
        self.is_gradient_of_input().then_some(tolerance)
    }

    fn is_gradient_of_input(&self) -> bool {
        matches!(self.tensor, TensorName::Dq | TensorName::Dk | TensorName::Dv)
    }
}

/// The rules.
pub const BASELINE_TOLERANCES: &[BaselineTolerance] = &[
    BaselineTolerance {
        name: "allclose",
        rule: "|x - ref| <= 1e-2 + 1e-2 |ref|",
        source: "tilelang; JAX nn.dot_product_attention",
        passes: |c| Some(c.all_close(1e-2, 1e-2)),
    },
    BaselineTolerance {
        name: "triton",
        rule: "|x - ref| <= 1e-2",
        source: "triton tutorial 06",
        passes: |c| c.is_gradient_of_input().then(|| c.all_close(1e-2, 0.0)),
    },
    BaselineTolerance {
        name: "FA2 k=3",
        rule: "max |x - ref| <= 3 max |pt - ref|",
        source: "flash-attention tests/test_flash_attn.py, l. 1130-32",
        passes: |c| c.is_gradient_of_input().then(|| c.within_unfused(3.0, 0.0)),
    },
    BaselineTolerance {
        name: "FA2 k=2",
        rule: "max |x - ref| <= 2 max |pt - ref| + 1e-5",
        source: "flash-attention tests/test_flash_attn.py, l. 1558",
        passes: |c| c.is_gradient_of_input().then(|| c.within_unfused(2.0, 1e-5)),
    },
    BaselineTolerance {
        name: "FA4",
        rule: "max |x - ref| <= r max |pt - ref| + 2 max |(ref + 0.3 - 0.3) - ref|, r = 2; with a softcap r = 3 and + 3e-4",
        source: "flash-attention tests/cute/test_flash_attn.py, l. 601-616",
        passes: |c| {
            let round = |x: f64| c.format.round(x);
            let shaken = c.reference.iter().map(|&r| (round(round(r + 0.3) - 0.3) - r).abs());
            let shaken = 2.0 * shaken.fold(0.0, f64::max);
            let (factor, more) = if c.softcap { (3.0, 3e-4) } else { (2.0, 0.0) };
            c.is_gradient_of_input().then(|| c.within_unfused(factor, shaken + more))
        },
    },
    BaselineTolerance {
        name: "PyTorch flash",
        rule: "atol = f max(max |pt - ref|, 1e-3), rtol = f max(max |pt - ref| / |ref|, default); f: dq 4, dk 2, dv 2",
        source: "pytorch test/test_transformers.py, flash",
        passes: |c| match c.tensor {
            TensorName::Dq => Some(c.fudged(4.0)),
            TensorName::Dk | TensorName::Dv => Some(c.fudged(2.0)),
            _ => None,
        },
    },
    BaselineTolerance {
        name: "PyTorch mem-eff",
        rule: "as above; f: dq 1.5, dk 8, dv 1, dbias 12",
        source: "pytorch test/test_transformers.py, memory-efficient",
        passes: |c| match c.tensor {
            TensorName::Dq => Some(c.fudged(1.5)),
            TensorName::Dk => Some(c.fudged(8.0)),
            TensorName::Dv => Some(c.fudged(1.0)),
            TensorName::Dbias => Some(c.fudged(12.0)),
            _ => None,
        },
    },
    BaselineTolerance {
        name: "Flex",
        rule: "mean |x - ref| <= 1.1 mean |pt - ref|; f32: 10",
        source: "pytorch test/inductor/test_flex_attention.py",
        passes: |c| {
            let factor = if c.format == Format::F32 { 10.0 } else { 1.1 };
            c.is_gradient_of_input().then(|| c.total(c.x, 1) <= factor * c.total(c.unfused, 1))
        },
    },
    BaselineTolerance {
        name: "xformers",
        rule: "atol/rtol: bf16 0.9/0.1, f16 0.2/2e-2, f32 9e-4/1e-4",
        source: "xformers tests/test_mem_eff_attention.py",
        passes: |c| match c.format {
            Format::Bf16 => Some(c.all_close(0.9, 0.1)),
            Format::F16 => Some(c.all_close(0.2, 2e-2)),
            Format::F32 => Some(c.all_close(9e-4, 1e-4)),
            _ => None,
        },
    },
    BaselineTolerance {
        name: "TE",
        rule: "atol = rtol: bf16 1.5e-2, f16 1e-3",
        source: "TransformerEngine tests/pytorch/attention",
        passes: |c| match c.format {
            Format::Bf16 => Some(c.all_close(1.5e-2, 1.5e-2)),
            Format::F16 => Some(c.all_close(1e-3, 1e-3)),
            _ => None,
        },
    },
    BaselineTolerance {
        name: "cuDNN",
        rule: "atol = rtol: 2e-2; dk, dv in bf16 7e-2; dsink 4e-2",
        source: "cudnn-frontend test/python/sdpa",
        passes: |c| {
            let tolerance = match (c.tensor, c.format) {
                (TensorName::Dk | TensorName::Dv, Format::Bf16) => 7e-2,
                (TensorName::Dsink, _) => 4e-2,
                _ => 2e-2,
            };
            Some(c.all_close(tolerance, tolerance))
        },
    },
    BaselineTolerance {
        name: "JAX",
        rule: "atol = rtol = 0.2",
        source: "jax tests/fused_attention_stablehlo_test.py",
        passes: |c| c.is_gradient_of_input().then(|| c.all_close(0.2, 0.2)),
    },
    BaselineTolerance {
        name: "aiter",
        rule: "max |x - ref| <= max(10 max |pt - ref|, 1e-2)",
        source: "ROCm/aiter",
        passes: |c| {
            c.is_gradient_of_input().then(|| c.within_unfused(10.0, 0.0) || c.largest(c.x) <= 1e-2)
        },
    },
    BaselineTolerance {
        name: "Magi",
        rule: "norm(x - ref) <= 2 norm(pt - ref)",
        source: "MagiAttention",
        passes: |c| {
            c.is_gradient_of_input().then(|| c.total(c.x, 2) <= 4.0 * c.total(c.unfused, 2))
        },
    },
    BaselineTolerance {
        name: "fla",
        rule: "rms(x - ref) <= 5e-3 rms(ref)",
        source: "fla-org",
        passes: |c| {
            let size: f64 = c.reference.iter().map(|r| r * r).sum();
            c.is_gradient_of_input().then(|| c.total(c.x, 2) <= 2.5e-5 * size)
        },
    },
    BaselineTolerance {
        name: "cubek",
        rule: "|x - ref| < max(1e-3, 1e-3 |x|), f32",
        source: "tracel-ai/cubek",
        passes: |c| {
            let close = || {
                c.x.iter()
                    .zip(c.reference)
                    .all(|(x, r)| (x - r).abs() < 1e-3_f64.max(1e-3 * x.abs()))
            };
            (c.format == Format::F32 && c.is_gradient_of_input()).then(close)
        },
    },
    BaselineTolerance {
        name: "cubek backward",
        rule: "|x - ref| <= t (1 + |ref|); t: bf16 3e-2, f16 1e-3, f32 1e-4",
        source: "cubek-attention-backward 0.4.0-pre.1",
        passes: |c| c.by_format([3e-2, 1e-3, 1e-4]).map(|t| c.all_close(t, t)),
    },
    BaselineTolerance {
        name: "gpuemu",
        rule: "|x - ref| <= 2.5 (a + 10 a |ref|); a: bf16 1e-2, f16 1e-3, f32 1e-5",
        source: "gpuemu 0.1.0, tolerances.py, the operator attention",
        passes: |c| c.by_format([1e-2, 1e-3, 1e-5]).map(|a| c.all_close(2.5 * a, 25.0 * a)),
    },
];

#[cfg(test)]
mod tests {
    use super::{BASELINE_TOLERANCES, Compared};
    use crate::arithmetic::Format;
    use sus_reference::TensorName;

    /// Both sides of the limits of rules that depend on the type: the reference is 2, so the relative part counts as well.
    #[test]
    fn the_rules_by_type_have_the_limits_of_their_sources() {
        for (name, format, limit) in [
            ("cubek backward", Format::Bf16, 9e-2),
            ("cubek backward", Format::F16, 3e-3),
            ("cubek backward", Format::F32, 3e-4),
            ("gpuemu", Format::Bf16, 0.525),
            ("gpuemu", Format::F16, 5.25e-2),
            ("gpuemu", Format::F32, 5.25e-4),
        ] {
            let rule = BASELINE_TOLERANCES.iter().find(|rule| rule.name == name).unwrap();
            let judged = |format, tensor, error| {
                let (x, reference, unfused, softcap) = (&[2.0 + error], &[2.0], &[2.0], false);
                (rule.passes)(&Compared { tensor, x, reference, unfused, format, softcap })
            };
            for sign in [1.0, -1.0] {
                assert_eq!(
                    judged(format, TensorName::Dk, sign * 0.99 * limit),
                    Some(true),
                    "{name}"
                );
                assert_eq!(
                    judged(format, TensorName::Dk, sign * 1.01 * limit),
                    Some(false),
                    "{name}"
                );
            }
            assert_eq!(judged(format, TensorName::Dsink, 0.0), None);
            assert_eq!(judged(Format::F64, TensorName::Dk, 0.0), None);
        }
    }
}
