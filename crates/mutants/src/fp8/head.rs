//! One query head of a simulated kernel of 8 bits, forward and backward.

use super::kernel::{Descale, Forward, Fp8Kernel, Use};
use super::problem::{Fp8Problem, Operand};

/// The results of all heads.
pub(super) struct Results {
    pub(super) o: Vec<f32>,
    pub(super) lse: Vec<f32>,
    pub(super) dq: Vec<f32>,
    pub(super) dk: Vec<f32>,
    pub(super) dv: Vec<f32>,
}

/// One query head and its key head.
pub(super) struct Head<'a> {
    kernel: &'a Fp8Kernel,
    problem: &'a Fp8Problem,
    of_queries: usize,
    of_keys: usize,
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
    pub(super) fn new(
        kernel: &'a Fp8Kernel,
        problem: &'a Fp8Problem,
        head: usize,
        key_head: usize,
    ) -> Self {
        Head { kernel, problem, of_queries: head, of_keys: key_head }
    }

    fn operand(&self, of: Use) -> (&Operand, usize) {
        let p = self.problem;
        match of {
            Use::Sq | Use::DkQ => (&p.q, self.of_queries),
            Use::Sk | Use::DqK => (&p.k, self.of_keys),
            Use::Ov | Use::DpV => (&p.v, self.of_keys),
            Use::DpG | Use::DvG | Use::DeltaG => (&p.g, self.of_queries),
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
        if kept[(self.of_queries * nq + i) * nk + j] { 1.0 / (1.0 - p) } else { 0.0 }
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

    pub(super) fn run(&self, out: &mut Results) {
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
                let at = self.of_queries * nq + i;
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
            axpy(1.0, &dk, &mut out.dk[self.of_keys * nk * d..(self.of_keys + 1) * nk * d]);
            axpy(1.0, &dv, &mut out.dv[self.of_keys * nk * width..(self.of_keys + 1) * nk * width]);
        }
        let undo = if kernel.scaled_ds { 1.0 / scale } else { 1.0 };
        let [of_q, of_k] = kernel.powers.map(|power| (0..power).fold(undo, |x, _| x * scale));
        let rows = self.of_queries * nq * d..(self.of_queries + 1) * nq * d;
        out.dq[rows].iter_mut().for_each(|x| *x *= of_q);
        // A group's heads are fused: the scale comes after the last of them.
        let [group_of, heads] = [problem.q.shape[1] / problem.k.shape[1], problem.q.shape[1]];
        if (self.of_queries % heads + 1).is_multiple_of(group_of) {
            let keys = self.of_keys * nk * d..(self.of_keys + 1) * nk * d;
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
            for x in &mut o {
                *x *= factor;
            }
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
            for x in &mut o {
                *x /= sum;
            }
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
