//! A supposed kernel: the attention passes with other settings, operands or weights, at some rows and keys.
//!
//! The sums are those of the reference in `f64`, over the rows and the keys that are asked for. A supposition that changes the
//! backward pass alone costs as many products as these rows and keys have entries; one that changes the forward pass needs every
//! row before a key's gradient is known.

use crate::evidence::{Evidence, shape_of};
use rayon::prelude::*;
use std::fmt;
use std::sync::Arc;
use sus_reference::TensorName;
use sus_reference::forward::{Saved, log_sum_exp};
use sus_reference::problem::{Problem, Row, bias_row};
use sus_reference::sus::rule::kept_weight;
use sus_reference::sus::{Draw, Sample, sample};
use sus_reference::tensor::Tensor;

/// Which entries a kernel sees.
pub(crate) type Sees = Arc<dyn Fn(Row, usize) -> bool + Send + Sync>;

/// What a kernel makes of an entry.
pub(crate) type Rule = Arc<dyn Fn(&Entry) -> Parts + Send + Sync>;

/// An entry of the matrix, as the backward pass of a kernel has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) row: Row,
    pub(crate) j: usize,
    /// The score, and the derivative of the softcap.
    pub(crate) s: f64,
    pub(crate) cap: f64,
    pub(crate) scale: f64,
    /// The dense weight, and the one of the pass: dense or sampled.
    pub(crate) dense: f64,
    pub(crate) w: f64,
    pub(crate) dp: f64,
    pub(crate) delta: f64,
    pub(crate) dlse: f64,
}

/// The factors of `k`, `q` and `G` in the sums of `dq`, `dk` and `dv`, and the term of `dbias`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) zq: f64,
    pub(crate) zk: f64,
    pub(crate) wv: f64,
    pub(crate) ds: f64,
}

impl Entry {
    /// The right parts.
    pub(crate) fn parts(&self) -> Parts {
        self.parts_of(self.w * (self.dp - self.delta + self.dlse))
    }

    /// The parts that follow from another weight.
    pub(crate) fn parts_with(&self, w: f64) -> Parts {
        Entry { w, ..*self }.parts()
    }

    /// The parts that follow from a `dS`.
    pub(crate) fn parts_of(&self, ds: f64) -> Parts {
        let z = ds * self.cap * self.scale;
        Parts { zq: z, zk: z, wv: self.w, ds }
    }
}

/// Which passes have the changed settings and operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Scope {
    /// The backward pass reads the `o` and `lse` of a right forward pass.
    #[default]
    Backward,
    /// Both passes.
    Both,
    /// The forward pass; the backward pass is right but for the `o` and `lse` that it reads.
    Forward,
}

/// A supposed kernel; by default the right one.
#[derive(Clone, Default)]
pub(crate) struct Kernel {
    pub(crate) problem: Option<Arc<Problem<f64>>>,
    pub(crate) scope: Scope,
    pub(crate) sees: Option<Sees>,
    /// The key head of each query head.
    pub(crate) key_head: Option<Vec<usize>>,
    /// Numbers of the rows that the backward pass reads in place of the right ones.
    pub(crate) lse: Option<Arc<Vec<f64>>>,
    pub(crate) delta: Option<Arc<Vec<f64>>>,
    pub(crate) rule: Option<Rule>,
    /// Whether a sampled pass uses all weights.
    pub(crate) dense: bool,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The rows and the keys at which kernels are compared.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// Numbers of rows, in `(b, h, i)` order.
    pub(crate) rows: Vec<usize>,
    /// Numbers of keys, in `(b, key head, j)` order.
    pub(crate) keys: Vec<usize>,
    /// Whether these are all.
    pub(crate) is_whole: bool,
    /// For each result the flat indices of the elements that belong to the rows and keys.
    pub(crate) elements: Vec<Vec<usize>>,
}

impl Probe {
    /// All rows and keys.
    pub(crate) fn everything(evidence: &Evidence<'_>) -> Self {
        let sizes = evidence.problem.sizes();
        let rows = (0..evidence.problem.row_count()).collect();
        let keys = (0..sizes.batch * sizes.key_heads * sizes.keys).collect();
        Self::of(evidence, rows, keys, true)
    }

    /// Some rows and keys.
    pub(crate) fn of(
        evidence: &Evidence<'_>,
        rows: Vec<usize>,
        keys: Vec<usize>,
        is_whole: bool,
    ) -> Self {
        let elements = evidence.outputs.iter().map(|output| {
            let width = output.shape[3];
            let of = |places: &[usize]| {
                places.iter().flat_map(|&at| at * width..(at + 1) * width).collect::<Vec<usize>>()
            };
            match output.name {
                TensorName::Dk | TensorName::Dv => of(&keys),
                TensorName::Dbias if !is_whole => Vec::new(),
                TensorName::Dbias | TensorName::Dsink => (0..output.truth.len()).collect(),
                _ => of(&rows),
            }
        });
        Probe { elements: elements.collect(), rows, keys, is_whole }
    }
}

/// The sum of the products in eight running sums, which a compiler vectorises.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn add(sum: &mut [f64], factor: f64, x: &[f64]) {
    for (s, x) in sum.iter_mut().zip(x) {
        *s += factor * x;
    }
}

/// One pass's view of the operands and the mask.
struct View<'a> {
    p: &'a Problem<f64>,
    sees: Option<&'a Sees>,
    key_head: Option<&'a [usize]>,
}

impl View<'_> {
    fn head(&self, h: usize) -> usize {
        self.key_head.map_or_else(|| self.p.key_head(h), |heads| heads[h])
    }

    fn is_seen(&self, row: Row, j: usize) -> bool {
        let seen = match self.sees {
            Some(sees) => sees(row, j),
            None => self.p.span(row).contains(&j),
        };
        seen && !self.p.hides(row, j)
    }

    fn seen(&self, row: Row) -> Vec<usize> {
        match self.sees {
            Some(_) => (0..self.p.sizes().keys).filter(|&j| self.is_seen(row, j)).collect(),
            None => self.p.visible(row).collect(),
        }
    }

    /// The score and the derivative of the softcap.
    fn score(&self, row: Row, j: usize) -> (f64, f64) {
        let k = self.p.inputs().k.row(row.b, self.head(row.h), j);
        let mut z = self.p.scale() * dot(self.p.q(row), k);
        let mut bias = self.p.bias(row).map_or(0.0, |bias| bias[j]);
        if self.p.options().bias_first {
            z += std::mem::take(&mut bias);
        }
        if let Some(slope) = self.p.alibi_slope(row) {
            bias += slope * self.p.alibi_distance(row, j);
        }
        match self.p.options().softcap {
            None => (z + bias, 1.0),
            Some(cap) => {
                let tanh = libm::tanh(z / cap);
                (cap * tanh + bias, 1.0 - tanh * tanh)
            }
        }
    }

    /// The factor of dropout.
    fn dropout(&self, row: Row, j: usize) -> f64 {
        self.p.dropout(row, j).unwrap_or(1.0)
    }

    fn v(&self, row: Row, j: usize) -> &[f64] {
        self.p.inputs().v.row(row.b, self.head(row.h), j)
    }

    /// `lse` and `o` of a row.
    fn forward(&self, row: Row) -> (f64, Vec<f64>) {
        let seen = self.seen(row);
        let scores: Vec<f64> = seen.iter().map(|&j| self.score(row, j).0).collect();
        let lse = log_sum_exp(&scores, self.p.sink(row));
        let mut o = vec![0.0; self.p.sizes().value_features];
        for (&j, s) in seen.iter().zip(scores) {
            add(&mut o, libm::exp(s - lse) * self.dropout(row, j), self.v(row, j));
        }
        (lse, o)
    }
}

/// The right passes of a problem, from which kernels depart.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) problem: &'a Problem<f64>,
    pub(crate) saved: &'a Saved<f64>,
    pub(crate) sample: Option<&'a Sample>,
    draw: Option<&'a Draw>,
    pub(crate) delta: Vec<f64>,
    names: Vec<TensorName>,
}

/// What the backward pass reads of the rows.
struct Rows {
    lse: Vec<f64>,
    delta: Vec<f64>,
    /// The `o` of each row, if the kernel's forward pass was computed.
    o: Option<Vec<f64>>,
    sample: Option<Sample>,
    /// Which rows are known; all if empty.
    some: bool,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(evidence: &'a Evidence<'_>) -> Self {
        let (problem, saved) = (evidence.problem, &evidence.saved);
        let delta = |at: usize| {
            let row = problem.row(at);
            dot(problem.g(row), saved.o.row(row.b, row.h, row.i))
        };
        Machine {
            problem,
            saved,
            sample: evidence.sample.as_ref(),
            draw: evidence.draw,
            delta: (0..problem.row_count()).map(delta).collect(),
            names: evidence.outputs.iter().map(|output| output.name).collect(),
        }
    }

    /// The kernel's results at the probe, in the order of the evidence; `None` where they are not known there.
    pub(crate) fn run(&self, kernel: &Kernel, probe: &Probe) -> Vec<Option<Vec<f64>>> {
        let changed = kernel.problem.as_deref().unwrap_or(self.problem);
        let changed =
            View { p: changed, sees: kernel.sees.as_ref(), key_head: kernel.key_head.as_deref() };
        let right = View { p: self.problem, sees: None, key_head: None };
        let (of_forward, of_backward) = match kernel.scope {
            Scope::Backward => (None, &changed),
            Scope::Both => (Some(&changed), &changed),
            Scope::Forward => (Some(&changed), &right),
        };
        let Some(rows) = self.rows(kernel, of_forward, of_backward, probe) else {
            return vec![None; self.names.len()];
        };
        let keys_known = !rows.some;
        let pass = Pass {
            view: of_backward,
            rows: &rows,
            rule: kernel.rule.as_ref(),
            sample: if kernel.dense { None } else { rows.sample.as_ref().or(self.sample) },
        };
        let row_width = of_backward.p.sizes().features;
        let has = |name: TensorName| self.names.contains(&name);
        let dq = has(TensorName::Dq).then(|| {
            let of_row = |&at: &usize| pass.dq(at);
            probe.rows.par_iter().flat_map_iter(of_row).collect::<Vec<f64>>()
        });
        debug_assert!(dq.as_ref().is_none_or(|dq| dq.len() == probe.rows.len() * row_width));
        let (mut dk, mut dv) = (None, None);
        let of_keys = [TensorName::Dk, TensorName::Dv, TensorName::Dkv];
        if keys_known && of_keys.into_iter().any(has) {
            let of_keys: Vec<_> = probe.keys.par_iter().map(|&at| pass.dk_dv(at)).collect();
            dk = Some(of_keys.iter().flat_map(|of| of.0.iter().copied()).collect::<Vec<f64>>());
            dv = Some(of_keys.iter().flat_map(|of| of.1.iter().copied()).collect::<Vec<f64>>());
        }
        let dbias = (keys_known && probe.is_whole && has(TensorName::Dbias)).then(|| pass.dbias());
        let dsink = (keys_known && has(TensorName::Dsink)).then(|| pass.dsink()).flatten();
        let width = of_backward.p.sizes().value_features;
        let o = |at: &usize| match &rows.o {
            Some(o) => &o[at * width..(at + 1) * width],
            None => &self.saved.o.as_slice()[at * width..(at + 1) * width],
        };
        let (mut dq, mut dbias, mut dsink) = (dq, dbias.flatten(), dsink);
        let result = |name: &TensorName| match name {
            TensorName::O => {
                let o = probe.rows.iter().flat_map(|at| o(at).iter().copied());
                kernel.touches_forward().then(|| o.collect())
            }
            TensorName::Lse => {
                let lse = probe.rows.iter().map(|&at| rows.lse[at]);
                kernel.touches_forward().then(|| lse.collect())
            }
            TensorName::Dq => dq.take(),
            TensorName::Dk => dk.take(),
            TensorName::Dv => dv.take(),
            TensorName::Dkv => {
                let (mut dkv, dv) = (dk.take()?, dv.take()?);
                let features = of_backward.p.sizes().features;
                for (at, x) in dv.into_iter().enumerate() {
                    dkv[at / width * features + at % width] += x;
                }
                Some(dkv)
            }
            TensorName::Dbias => dbias.take(),
            TensorName::Dsink => dsink.take(),
            _ => None,
        };
        self.names.iter().map(result).collect()
    }

    /// The numbers of the rows that the backward pass of a kernel reads.
    fn rows(
        &self,
        kernel: &Kernel,
        of_forward: Option<&View<'_>>,
        of_backward: &View<'_>,
        probe: &Probe,
    ) -> Option<Rows> {
        let problem = self.problem;
        let mut rows = Rows {
            lse: self.saved.lse.as_slice().to_vec(),
            delta: self.delta.clone(),
            o: None,
            sample: None,
            some: false,
        };
        if let Some(view) = of_forward {
            let width = view.p.sizes().value_features;
            let wanted: Vec<usize> = if probe.is_whole {
                (0..problem.row_count()).collect()
            } else {
                probe.rows.clone()
            };
            rows.some = !probe.is_whole;
            let found: Vec<_> =
                wanted.par_iter().map(|&at| view.forward(problem.row(at))).collect();
            let mut o = vec![0.0; problem.row_count() * width];
            for (&at, (lse, of_row)) in wanted.iter().zip(found) {
                rows.lse[at] = lse;
                rows.delta[at] = dot(of_backward.p.g(problem.row(at)), &of_row);
                o[at * width..(at + 1) * width].copy_from_slice(&of_row);
            }
            if self.sample.is_some() && !kernel.dense {
                // Another forward pass draws another mask.
                if !probe.is_whole || view.sees.is_some() || view.key_head.is_some() {
                    return None;
                }
                let shape = problem.inputs().g.shape();
                let lse = [shape[0], shape[1], shape[2], 1];
                let saved = Saved {
                    o: Tensor::new("o", shape, &o).ok()?,
                    lse: Tensor::new("lse", lse, &rows.lse).ok()?,
                };
                rows.sample = sample(view.p, &saved, self.draw?).ok();
            }
            rows.o = Some(o);
        } else if kernel.problem.is_some() && kernel.delta.is_none() {
            // The cotangent may be another one.
            for at in 0..problem.row_count() {
                let row = problem.row(at);
                let o = self.saved.o.row(row.b, row.h, row.i);
                rows.delta[at] = dot(of_backward.p.g(row), o);
            }
        }
        if let Some(lse) = &kernel.lse {
            rows.lse.clone_from(lse);
        }
        if let Some(delta) = &kernel.delta {
            rows.delta.clone_from(delta);
        }
        Some(rows)
    }
}

impl Kernel {
    /// Whether the forward pass is another one.
    pub(crate) fn touches_forward(&self) -> bool {
        self.scope != Scope::Backward
    }
}

/// The terms of the sums of the right passes.
impl Machine<'_> {
    fn right<T>(&self, of: impl FnOnce(&Pass<'_>) -> T) -> T {
        let view = View { p: self.problem, sees: None, key_head: None };
        let rows = Rows {
            lse: self.saved.lse.as_slice().to_vec(),
            delta: self.delta.clone(),
            o: None,
            sample: None,
            some: false,
        };
        of(&Pass { view: &view, rows: &rows, rule: None, sample: self.sample })
    }

    /// The keys of each row and their factors in `dq`.
    pub(crate) fn terms_of_rows(&self, rows: &[usize]) -> Vec<Vec<(usize, f64)>> {
        self.right(|pass| {
            let of_row = |&at: &usize| {
                let row = self.problem.row(at);
                let term = |j| (j, pass.parts(at, row, j).zq);
                pass.keys_of(at, row).into_iter().map(term).collect()
            };
            rows.par_iter().map(of_row).collect()
        })
    }

    /// The rows that see each key, with their factors in `dk` and `dv`.
    pub(crate) fn terms_of_keys(&self, keys: &[usize]) -> Vec<Vec<(usize, f64, f64)>> {
        let term = |(number, parts): (usize, Parts)| (number, parts.zk, parts.wv);
        self.right(|pass| {
            keys.par_iter().map(|&at| pass.rows_of(at).into_iter().map(term).collect()).collect()
        })
    }
}

/// The backward pass of a kernel.
struct Pass<'a> {
    view: &'a View<'a>,
    rows: &'a Rows,
    rule: Option<&'a Rule>,
    sample: Option<&'a Sample>,
}

impl Pass<'_> {
    /// The parts of an entry that is seen and kept.
    fn parts(&self, at: usize, row: Row, j: usize) -> Parts {
        let p = self.view.p;
        let (s, cap) = self.view.score(row, j);
        let dense = libm::exp(s - self.rows.lse[at]);
        let w = self.sample.map_or(dense, |sample| kept_weight(sample.lambda[at], dense));
        let entry = Entry {
            row,
            j,
            s,
            cap,
            scale: p.scale(),
            dense,
            w,
            dp: self.view.dropout(row, j) * dot(p.g(row), self.view.v(row, j)),
            delta: self.rows.delta[at],
            dlse: p.dlse(row),
        };
        let mut parts = self.rule.map_or_else(|| entry.parts(), |rule| rule(&entry));
        parts.wv *= self.view.dropout(row, j);
        if p.options().bias_first {
            parts.ds *= cap;
        }
        parts
    }

    fn keys_of(&self, at: usize, row: Row) -> Vec<usize> {
        match self.sample {
            None => self.view.seen(row),
            Some(sample) => {
                let kept = sample.pattern.row(at).iter().map(|&j| j as usize);
                kept.filter(|&j| self.view.is_seen(row, j)).collect()
            }
        }
    }

    fn dq(&self, at: usize) -> Vec<f64> {
        let p = self.view.p;
        let row = p.row(at);
        let mut dq = vec![0.0; p.sizes().features];
        for j in self.keys_of(at, row) {
            let k = p.inputs().k.row(row.b, self.view.head(row.h), j);
            add(&mut dq, self.parts(at, row, j).zq, k);
        }
        dq
    }

    /// The rows that see a key, and the parts of their entries.
    fn rows_of(&self, at: usize) -> Vec<(usize, Parts)> {
        let p = self.view.p;
        let sizes = p.sizes();
        let (head, j) = (at / sizes.keys, at % sizes.keys);
        let (b, key_head) = (head / sizes.key_heads, head % sizes.key_heads);
        let mut found = Vec::new();
        for h in (0..sizes.query_heads).filter(|&h| self.view.head(h) == key_head) {
            for i in 0..sizes.queries {
                let row = Row { b, h, i };
                let number = p.row_number(row);
                let kept = self.sample.is_none_or(|sample| {
                    sample.pattern.row(number).binary_search(&(j as u32)).is_ok()
                });
                if kept && self.view.is_seen(row, j) {
                    found.push((number, self.parts(number, row, j)));
                }
            }
        }
        found
    }

    fn dk_dv(&self, at: usize) -> (Vec<f64>, Vec<f64>) {
        let p = self.view.p;
        let mut dk = vec![0.0; p.sizes().features];
        let mut dv = vec![0.0; p.sizes().value_features];
        for (number, parts) in self.rows_of(at) {
            let row = p.row(number);
            add(&mut dk, parts.zk, p.q(row));
            add(&mut dv, parts.wv, p.g(row));
        }
        (dk, dv)
    }

    fn dbias(&self) -> Option<Vec<f64>> {
        let p = self.view.p;
        let shape = shape_of(p, TensorName::Dbias)?;
        let mut dbias = vec![0.0; shape.iter().product()];
        for at in 0..p.row_count() {
            let row = p.row(at);
            let Row { b, h, i } = bias_row(shape, row);
            let first = ((b * shape[1] + h) * shape[2] + i) * shape[3];
            for j in self.keys_of(at, row) {
                dbias[first + j] += self.parts(at, row, j).ds;
            }
        }
        Some(dbias)
    }

    fn dsink(&self) -> Option<Vec<f64>> {
        let p = self.view.p;
        let mut dsink = vec![0.0; p.inputs().sink.as_ref()?.len()];
        for at in 0..p.row_count() {
            let row = p.row(at);
            let Some(sink) = p.sink(row) else { continue };
            let w = libm::exp(sink - self.rows.lse[at]);
            dsink[row.h] -= w * (self.rows.delta[at] - p.dlse(row));
        }
        Some(dsink)
    }
}
