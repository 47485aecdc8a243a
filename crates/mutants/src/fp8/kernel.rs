//! The simulated kernel: `f32` throughout, operands as codes times scales, `P` and `dS` quantised.

use super::problem::{Fp8Problem, Operand};
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

    fn descale_of(&self, of: Use) -> Descale {
        self.descale.iter().find(|(it, _)| *it == of).map_or(Descale::Once, |(_, how)| *how)
    }

    /// The code of a number over its scale: of `P` (0) or of `dS` (1).
    fn code(&self, which: usize, format: Format, x: f32, scale: f32) -> f32 {
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

struct Results {
    o: Vec<f32>,
    lse: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

/// One query head and its key head.
struct Head<'a> {
    kernel: &'a Fp8Kernel,
    problem: &'a Fp8Problem,
    head: usize,
    key_head: usize,
}

/// The rows of one operand in one use, scaled back.
struct Rows {
    width: usize,
    numbers: Vec<f32>,
}

impl Rows {
    fn row(&self, i: usize) -> &[f32] {
        &self.numbers[i * self.width..(i + 1) * self.width]
    }
}

impl<'a> Head<'a> {
    fn new(kernel: &'a Fp8Kernel, problem: &'a Fp8Problem, head: usize, key_head: usize) -> Self {
        Head { kernel, problem, head, key_head }
    }

    fn operand(&self, of: Use) -> (&Operand, usize) {
        let p = self.problem;
        match of {
            Use::Sq | Use::DkQ => (&p.q, self.head),
            Use::Sk | Use::DqK => (&p.k, self.key_head),
            Use::Ov | Use::DpV => (&p.v, self.key_head),
            Use::DpG | Use::DvG | Use::DeltaG => (&p.g, self.head),
        }
    }

    fn rows(&self, of: Use) -> Rows {
        let (operand, head) = self.operand(of);
        let [_, _, n, width] = operand.shape;
        let how = self.kernel.descale_of(of);
        let block = operand.scales.iter().position(|&x| x != operand.scales[0]).unwrap_or(n);
        let scale = |i: usize| {
            let own = operand.scales[head * n + i];
            match how {
                Descale::Once => own,
                Descale::Never => 1.0,
                Descale::Twice => own * own,
                Descale::Of(other) => {
                    let (other, head) = self.operand(other);
                    let n = other.shape[2];
                    other.scales[head * n + i.min(n - 1)]
                }
                Descale::OfFirstRow => operand.scales[0],
                Descale::OfBlockBefore => {
                    operand.scales[(head * n + i).saturating_sub(block.max(1))]
                }
            }
        };
        let numbers = (0..n * width)
            .map(|at| operand.stored[head * n * width + at] * scale(at / width))
            .collect();
        Rows { width, numbers }
    }

    fn sees(&self, i: usize, j: usize) -> bool {
        let (nq, nk) = (self.problem.q.shape[2], self.problem.k.shape[2]);
        self.problem.settings.causal != Some(true) || j + nq <= i + nk
    }

    fn dropout(&self, i: usize, j: usize) -> f32 {
        let (nq, nk) = (self.problem.q.shape[2], self.problem.k.shape[2]);
        let Some(kept) = &self.problem.kept else { return 1.0 };
        let p = self.problem.settings.dropout_p.unwrap_or_default() as f32;
        if kept[(self.head * nq + i) * nk + j] { 1.0 / (1.0 - p) } else { 0.0 }
    }

    /// Tiles of `0..n`, in their order.
    fn tiles(&self, n: usize) -> Vec<std::ops::Range<usize>> {
        let tile = self.kernel.tile;
        let mut all: Vec<_> = (0..n).step_by(tile).map(|at| at..(at + tile).min(n)).collect();
        if self.kernel.reversed {
            all.reverse();
        }
        all
    }

    #[expect(clippy::too_many_lines, reason = "one kernel, read from top to bottom")]
    fn run(&self, out: &mut Results) {
        let (kernel, problem) = (self.kernel, self.problem);
        let [p_scale, ds_scale] = [problem.settings.p_scale, problem.settings.ds_scale]
            .map(|scale| scale.unwrap_or(1.0) as f32);
        let [nq, d] = [problem.q.shape[2], problem.q.shape[3]];
        let [nk, width] = [problem.v.shape[2], problem.v.shape[3]];
        let scale = problem.settings.scale.map_or(1.0 / libm::sqrtf(d as f32), |x| x as f32);
        let (q, k, v_o, v_dp) =
            (self.rows(Use::Sq), self.rows(Use::Sk), self.rows(Use::Ov), self.rows(Use::DpV));
        let (g_dp, g_dv, g_delta) =
            (self.rows(Use::DpG), self.rows(Use::DvG), self.rows(Use::DeltaG));
        let (k_dq, q_dk) = (self.rows(Use::DqK), self.rows(Use::DkQ));
        let [p_format, ds_format] = kernel.formats;
        let dv_format = kernel.format_of_dv.unwrap_or(p_format);
        let scores = |i: usize| -> Vec<f32> {
            let score = |j: usize| {
                if self.sees(i, j) { dot(q.row(i), k.row(j)) * scale } else { f32::NEG_INFINITY }
            };
            (0..nk).map(score).collect()
        };
        // dk and dv of a query tile are summed first, then added.
        let key_tiles = self.tiles(nk);
        for rows in self.tiles(nq) {
            let [mut dk, mut dv] = [vec![0.0_f32; nk * d], vec![0.0_f32; nk * width]];
            for i in rows {
                let s = scores(i);
                let (o, lse) = self.forward(i, &s, &v_o, p_scale, &key_tiles);
                let stored: Vec<f32> =
                    o.iter().map(|&x| kernel.o.round(f64::from(x)) as f32).collect();
                let of_delta = if kernel.delta_unrounded { &o } else { &stored };
                let delta = if kernel.delta_missing { 0.0 } else { dot(g_delta.row(i), of_delta) };
                let at = self.head * nq + i;
                out.lse[at] = lse;
                out.o[at * width..(at + 1) * width].copy_from_slice(&stored);
                let dq = &mut out.dq[at * d..(at + 1) * d];
                for tile in &key_tiles {
                    let mut of_tile = vec![0.0_f32; d];
                    for j in tile.clone().filter(|&j| self.sees(i, j)) {
                        let w = libm::expf(s[j] - lse);
                        let z = self.dropout(i, j);
                        let p = if kernel.dropout_first {
                            kernel.code(0, dv_format, w * z, p_scale)
                        } else {
                            kernel.code(0, dv_format, w, p_scale) * z
                        };
                        let dp = dot(g_dp.row(i), v_dp.row(j)) * z;
                        let dp = kernel.dp.round(f64::from(dp)) as f32;
                        let in_ds = if kernel.code_in_ds {
                            kernel.code(0, p_format, w, p_scale)
                        } else {
                            w
                        };
                        let mut ds = in_ds * (dp - delta);
                        if kernel.scaled_ds {
                            ds *= scale;
                        }
                        let ds = kernel.code(1, ds_format, ds, ds_scale);
                        axpy(ds, k_dq.row(j), &mut of_tile);
                        axpy(ds, q_dk.row(i), &mut dk[j * d..(j + 1) * d]);
                        axpy(p, g_dv.row(i), &mut dv[j * width..(j + 1) * width]);
                    }
                    axpy(1.0, &of_tile, dq);
                }
            }
            axpy(1.0, &dk, &mut out.dk[self.key_head * nk * d..(self.key_head + 1) * nk * d]);
            axpy(
                1.0,
                &dv,
                &mut out.dv[self.key_head * nk * width..(self.key_head + 1) * nk * width],
            );
        }
        let undo = if kernel.scaled_ds { 1.0 / scale } else { 1.0 };
        let [of_q, of_k] = kernel.powers.map(|power| (0..power).fold(undo, |x, _| x * scale));
        let rows = self.head * nq * d..(self.head + 1) * nq * d;
        out.dq[rows].iter_mut().for_each(|x| *x *= of_q);
        // A group's heads are fused: the scale comes after the last of them.
        let [group_of, heads] = [problem.q.shape[1] / problem.k.shape[1], problem.q.shape[1]];
        if (self.head % heads + 1).is_multiple_of(group_of) {
            let keys = self.key_head * nk * d..(self.key_head + 1) * nk * d;
            out.dk[keys].iter_mut().for_each(|x| *x *= of_k);
        }
    }

    /// `o` and `lse` of one row.
    fn forward(
        &self,
        i: usize,
        s: &[f32],
        v: &Rows,
        p_scale: f32,
        tiles: &[std::ops::Range<usize>],
    ) -> (Vec<f32>, f32) {
        let kernel = self.kernel;
        let (mut most, mut sum) = (f32::NEG_INFINITY, 0.0_f32);
        let mut o = vec![0.0_f32; v.width];
        for tile in tiles {
            let of_tile = tile.clone().map(|j| s[j]).fold(most, f32::max);
            if of_tile == f32::NEG_INFINITY {
                continue;
            }
            let factor = libm::expf(most - of_tile);
            most = of_tile;
            sum *= factor;
            o.iter_mut().for_each(|x| *x *= factor);
            for j in tile.clone().filter(|&j| self.sees(i, j)) {
                let w = libm::expf(s[j] - most);
                sum += w;
                if kernel.forward == Forward::Online {
                    axpy(self.p_of_o(i, j, w, p_scale), v.row(j), &mut o);
                }
            }
        }
        let lse = most + libm::logf(sum);
        if kernel.forward == Forward::Online {
            o.iter_mut().for_each(|x| *x /= sum);
            return (o, lse);
        }
        for tile in tiles {
            for j in tile.clone().filter(|&j| self.sees(i, j)) {
                let w = libm::expf(s[j] - most) / sum;
                axpy(self.p_of_o(i, j, w, p_scale), v.row(j), &mut o);
            }
        }
        (o, lse)
    }

    fn p_of_o(&self, i: usize, j: usize, w: f32, p_scale: f32) -> f32 {
        let (kernel, z) = (self.kernel, self.dropout(i, j));
        if kernel.dropout_first {
            kernel.code(0, kernel.formats[0], w * z, p_scale)
        } else {
            kernel.code(0, kernel.formats[0], w, p_scale) * z
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn axpy(value: f32, x: &[f32], sum: &mut [f32]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += value * x);
}
