//! The simulated kernel: `f32` throughout, operands as codes times scales, `P` and `dS` quantised.

use super::head::{Head, Results};
use super::problem::Fp8Problem;
use sus_bounds::Format;
use sus_files::{Array, TensorFile};

/// A use of an operand in a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `q` in `q k^T`.
    Sq,
    /// `k` in `q k^T`.
    Sk,
    /// `v` in `P v`.
    Ov,
    /// `G` in `G v^T`.
    DpG,
    /// `v` in `G v^T`.
    DpV,
    /// `k` in `dS k`.
    DqK,
    /// `q` in `dS^T q`.
    DkQ,
    /// `G` in `P^T G`.
    DvG,
    /// `G` in `G . o`.
    DeltaG,
}

/// How an operand is scaled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descale {
    /// As it is right.
    Once,
    /// Not at all.
    Never,
    /// Twice.
    Twice,
    /// By the scale of another operand: that of the use.
    Of(Use),
    /// By the scale of the first row.
    OfFirstRow,
    /// By the scale of the block before.
    OfBlockBefore,
}

/// What becomes of a number above the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The largest number.
    Saturates,
    /// The exponent loses its upper bits.
    Wraps,
    /// NaN.
    IsNan,
}

/// What `P` of the forward pass is relative to when it is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// `exp(s - lse)`.
    Normalised,
    /// `exp(s - m)`, with the running maximum of an online softmax.
    Online,
}

/// A kernel: the right one by default. Each field is one thing that a kernel may choose, or do wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice or a bug of its own")]
pub struct Fp8Kernel {
    /// Keys of a tile, and queries of one.
    pub tile: usize,
    /// Tiles are added from the last to the first.
    pub reversed: bool,
    /// The forward pass.
    pub forward: Forward,
    /// The uses that are not scaled back once.
    pub descale: &'static [(Use, Descale)],
    /// The formats of `P` and `dS`.
    pub formats: [Format; 2],
    /// The factors of the scales in use over those that the file has: of `P` and of `dS`.
    pub stale: [f32; 2],
    /// Whether the codes of `P` and `dS` are divided by their scales.
    pub undone: [bool; 2],
    /// Whether they are rounded at all.
    pub rounded: [bool; 2],
    /// `dS` is rounded before it is multiplied by its scale.
    pub ds_rounded_first: bool,
    /// What becomes of numbers above the largest.
    pub overflow: Overflow,
    /// Subnormal codes become zero.
    pub flushed: [bool; 2],
    /// Codes are truncated.
    pub truncated: [bool; 2],
    /// The format of `dP`.
    pub dp: Format,
    /// The format of `P` in `dS`: its code if it is none.
    pub code_in_ds: bool,
    /// `delta` is made of `o` before it is stored.
    pub delta_unrounded: bool,
    /// `delta` is left out.
    pub delta_missing: bool,
    /// The powers of the scale in `dq` and `dk`.
    pub powers: [i32; 2],
    /// `P` is rounded after dropout.
    pub dropout_first: bool,
    /// The codes of `P` in `dv` are those of the forward pass.
    pub format_of_dv: Option<Format>,
    /// The format of the stored `o`.
    pub o: Format,
    /// `dS` is multiplied by the scale before it is rounded.
    pub scaled_ds: bool,
    /// `o` is not a result.
    pub without_o: bool,
}

impl Default for Fp8Kernel {
    fn default() -> Self {
        Fp8Kernel {
            tile: 16,
            reversed: false,
            forward: Forward::Normalised,
            descale: &[],
            formats: [Format::E4m3, Format::E5m2],
            stale: [1.0; 2],
            undone: [true; 2],
            rounded: [true; 2],
            ds_rounded_first: false,
            overflow: Overflow::Saturates,
            flushed: [false; 2],
            truncated: [false; 2],
            dp: Format::F32,
            code_in_ds: false,
            delta_unrounded: false,
            delta_missing: false,
            powers: [1; 2],
            dropout_first: false,
            format_of_dv: None,
            o: Format::Bf16,
            scaled_ds: false,
            without_o: false,
        }
    }
}

impl Fp8Kernel {
    /// The results of this kernel: `o`, `lse`, `dq`, `dk`, `dv`.
    #[must_use]
    pub fn run(&self, problem: &Fp8Problem) -> TensorFile {
        let [batch, heads, nq, d] = problem.q.shape;
        let [_, key_heads, nk, _] = problem.k.shape;
        let width = problem.v.shape[3];
        let mut results = Results {
            o: vec![0.0; batch * heads * nq * width],
            lse: vec![0.0; batch * heads * nq],
            dq: vec![0.0; batch * heads * nq * d],
            dk: vec![0.0; batch * key_heads * nk * d],
            dv: vec![0.0; batch * key_heads * nk * width],
        };
        for head in 0..batch * heads {
            let key_head = head / heads * key_heads + head % heads * key_heads / heads;
            Head::new(self, problem, head, key_head).run(&mut results);
        }
        let bf16 = |shape: &[usize], x: &[f32]| {
            Array::bf16(shape, x.iter().map(|&x| Format::Bf16.round(f64::from(x))).collect())
        };
        let mut file = TensorFile::default();
        let o = [batch, heads, nq, width];
        if !self.without_o {
            file.arrays.insert("o".into(), bf16(&o, &results.o));
        }
        let lse = results.lse.iter().map(|&x| f64::from(x)).collect();
        file.arrays.insert("lse".into(), Array::f32(&[batch, heads, nq], lse));
        file.arrays.insert("dq".into(), bf16(&problem.q.shape, &results.dq));
        file.arrays.insert("dk".into(), bf16(&problem.k.shape, &results.dk));
        file.arrays.insert("dv".into(), bf16(&problem.v.shape, &results.dv));
        file
    }

    pub(super) fn descale_of(&self, of: Use) -> Descale {
        self.descale.iter().find(|(it, _)| *it == of).map_or(Descale::Once, |(_, how)| *how)
    }

    /// The code of a number over its scale: of `P` (0) or of `dS` (1).
    pub(super) fn code(&self, which: usize, format: Format, x: f32, scale: f32) -> f32 {
        if !self.rounded[which] {
            return x;
        }
        let scale = scale * self.stale[which];
        if which == 1 && self.ds_rounded_first {
            return format.round(f64::from(x)) as f32;
        }
        let y = f64::from(x * scale);
        let mut code = if self.truncated[which] { truncated(format, y) } else { format.round(y) };
        if y.abs() >= format.overflow() && format.has_8_bits() {
            code = match self.overflow {
                Overflow::Saturates => code,
                // The exponent field has 4 or 5 bits.
                Overflow::Wraps if format == Format::E4m3 => y / 65536.0,
                Overflow::Wraps => y / 4_294_967_296.0,
                Overflow::IsNan => f64::NAN,
            };
        }
        if self.flushed[which] && code.abs() < format.smallest_normal() {
            code = 0.0;
        }
        if self.undone[which] { code as f32 / scale } else { code as f32 }
    }
}

/// Towards zero.
fn truncated(format: Format, x: f64) -> f64 {
    let nearest = format.round(x);
    if nearest.abs() <= x.abs() {
        return nearest;
    }
    // The neighbour below is half a step lower if the number is a power of two, else a step.
    let step = format.unit_roundoff() * 2.0 * libm::exp2(libm::floor(libm::log2(nearest.abs())));
    let step = step.max(format.smallest_subnormal());
    let below = |by: f64| format.round(nearest - x.signum() * by * step);
    if below(0.3) == nearest { below(0.7) } else { below(0.3) }
}
