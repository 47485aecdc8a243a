//! The roundings of one key head that the statistics follow, and what they add to sums and norms of errors.
//!
//! `docs/verdict.md` derives each line, in its section "The statistics".

use super::bound::Core;
use super::error_statistics::{FUNCTIONALS, Weights};
use super::format::Format;
use super::norm::{Norm, outer};
use super::row::RowErrors;
use super::score::EntryError;
use sus_reference::problem::Row;
use sus_reference::tensor::dot;

/// Work of the Gram matrices of one head up to which they are made; above, traces stand for their norms.
const LARGEST_GRAM: usize = 1 << 30;
/// Numbers that the Gram matrices of one head may hold.
const LARGEST_HELD: usize = 1 << 23;

/// A uniform variable in `[-a, a]` is sub-Gaussian with the squared parameter `a^2 / 3`.
const UNIFORM: f64 = 1.0 / 3.0;

/// One kept entry: its roundings, as sub-Gaussian parameters.
pub(super) struct Entry {
    /// The row, numbered in the key head.
    pub at: u32,
    /// The key.
    pub j: u32,
    /// The rounding of `dZ` where the scale comes before it, and where it comes after.
    pub ds: [f32; 2],
    /// The rounding of `P`.
    pub p: f32,
    /// What that of the `P` in `dS` adds to `dZ`, with its sign.
    pub p_in_ds: f32,
    /// The roundings of `dZ` together.
    all_ds: f32,
    /// What `delta` adds to `dZ`, for each unit of its error.
    pub by_weight: f32,
    /// The error of a `P` of which all kernels know the same, and what it adds to `dZ` if `dS` is made of it.
    pub known: f32,
    pub known_ds: f32,
    /// `dP`.
    pub dp: f32,
    /// For the bias: the rounding of `dS`, what that of `P` adds to it, and what `delta` does.
    pub bias: [f32; 3],
    /// The logarithms of the numbers that are rounded.
    log_ds: f32,
    log_p: f32,
}

/// The roundings of one key head.
pub(super) struct Drawn {
    b: usize,
    pub key_head: usize,
    entries: Vec<Entry>,
    /// By row: the parameters of `delta`, from `P` in the forward pass and from the stored `o`.
    pub delta: Vec<[f64; 2]>,
    /// By row: both, where the first may depend on the roundings of `P` in `dS`.
    dependent_delta: Vec<f64>,
}

/// Squared parameters of one tensor in one key head.
#[derive(Default, Clone)]
pub(super) struct Scales {
    /// By row or key, of each functional.
    pub rows: Vec<[f64; FUNCTIONALS]>,
    /// What `delta` adds to the sums of `rows` in the head, since it reaches more than one key.
    pub across: [f64; FUNCTIONALS],
    /// By row or key, of the normalised errors.
    pub norms: Vec<Norm>,
    /// Of the normalised errors of the head that come from `delta`, if it reaches more than one row.
    pub shared: Norm,
}

impl Drawn {
    pub(super) fn new(core: &Core<'_>, b: usize, key_head: usize) -> Self {
        let p = core.q.problem;
        let (s, group) = (p.sizes(), p.group());
        let (mut entries, mut delta, mut lses) = (Vec::new(), Vec::new(), Vec::new());
        for h in key_head * group..(key_head + 1) * group {
            for i in 0..s.queries {
                let row = Row { b, h, i };
                let errors = core.row_errors(row, core.q.mode);
                // Of a row without keys nothing is rounded.
                lses.push(if errors.lse.is_finite() { errors.lse as f32 } else { 0.0 });
                let at = delta.len() as u32;
                entries
                    .extend(errors.entries.iter().filter_map(|e| entry(core, row, at, &errors, e)));
                delta.push(errors.delta_stored_norms);
            }
        }
        let mut drawn = Drawn { b, key_head, entries, delta, dependent_delta: Vec::new() };
        drawn.spread(core, &lses);
        drawn
    }

    /// From bounds of single roundings to parameters: those that may be alike add up.
    fn spread(&mut self, core: &Core<'_>, lses: &[f32]) {
        let recipe = core.q.recipe;
        let of_ds = Alike::new(self.entries.iter().map(|e| e.log_ds), recipe.ds);
        let of_p = Alike::new(self.entries.iter().map(|e| e.log_p), recipe.p);
        let of_rows = Alike::new(lses.iter().copied(), recipe.o);
        // The P in dS may be the P of the forward pass, whose rounding is in delta too:
        // (a + b)^2 <= 4/3 a^2 + 4 b^2.
        let dependent = core.a.is_narrow(recipe.p_in_ds);
        let (for_p, for_delta) = if dependent { (4.0 / 3.0, 4.0) } else { (1.0, 1.0) };
        let root = |x: f64| libm::sqrt(x * UNIFORM) as f32;
        for e in &mut self.entries {
            let (of_ds, of_p) = (root(of_ds.count(e.log_ds)), root(of_p.count(e.log_p)));
            e.ds = e.ds.map(|ds| ds * of_ds);
            (e.p, e.p_in_ds) = (e.p * of_p, e.p_in_ds * of_p);
            e.bias = [e.bias[0] * of_ds, e.bias[1] * of_p, e.bias[2]];
            e.all_ds = f32::hypot(e.ds[0].max(e.ds[1]), e.p_in_ds * libm::sqrt(for_p) as f32);
        }
        for (delta, &lse) in self.delta.iter_mut().zip(lses) {
            *delta = delta.map(|delta| delta * libm::sqrt(UNIFORM * of_rows.count(lse)));
        }
        let both = |[p, o]: &[f64; 2]| libm::hypot(*p * libm::sqrt(for_delta), *o);
        self.dependent_delta = self.delta.iter().map(both).collect();
    }

    /// What the errors that all kernels share add to the elements of `dq`, `dk`, `dv`.
    pub(super) fn known(&self, core: &Core<'_>) -> [Vec<f64>; 3] {
        let p = core.q.problem;
        let s = p.sizes();
        let mut dq = vec![0.0; self.delta.len() * s.features];
        let mut dk = vec![0.0; s.keys * s.features];
        let mut dv = vec![0.0; s.keys * s.value_features];
        for entries in self.by_row() {
            let (at, row) = self.row(core, entries);
            for e in entries.iter().filter(|e| e.known != 0.0) {
                let j = e.j as usize;
                add(&mut dq, at, e.known_ds.into(), p.k(row, j));
                add(&mut dk, j, e.known_ds.into(), p.q(row));
                add(&mut dv, j, e.known.into(), p.g(row));
            }
        }
        [dq, dk, dv]
    }

    /// Squared parameters of the elements of `dq`, `dk`, `dv`.
    pub(super) fn elements(&self, core: &Core<'_>) -> [Vec<f64>; 3] {
        let p = core.q.problem;
        let s = p.sizes();
        let mut dq = vec![0.0; self.delta.len() * s.features];
        let mut dk = vec![0.0; s.keys * s.features];
        let mut dv = vec![0.0; s.keys * s.value_features];
        let add = |sums: &mut [f64], row: usize, square: f64, x: &[f64]| {
            let sums = &mut sums[row * x.len()..][..x.len()];
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += square * x * x);
        };
        for entries in self.by_row() {
            let (at, row) = self.row(core, entries);
            let mut shared = vec![0.0; s.features];
            for e in entries {
                let (j, k, q) = (e.j as usize, p.k(row, e.j as usize), p.q(row));
                let delta = f64::from(e.by_weight) * self.dependent_delta[at];
                shared.iter_mut().zip(k).for_each(|(sum, k)| *sum += delta * k);
                add(&mut dq, at, square(e.all_ds), k);
                add(&mut dk, j, square(e.all_ds) + delta * delta, q);
                add(&mut dv, j, square(e.p), p.g(row));
            }
            add(&mut dq, at, 1.0, &shared);
        }
        [dq, dk, dv]
    }

    /// Squared parameters of functionals and norms.
    pub(super) fn scales(&self, core: &Core<'_>, weights: [&Weights; 3]) -> [Scales; 3] {
        let p = core.q.problem;
        let (s, rows) = (p.sizes(), self.delta.len());
        let held = s
            .keys
            .saturating_mul(s.features.max(s.value_features))
            .saturating_mul(rows.max(s.features));
        let work = held.saturating_mul(s.features.max(s.value_features).max(rows));
        let grams = held <= LARGEST_HELD && work <= LARGEST_GRAM;
        let scales = |rows: usize| Scales {
            rows: vec![[0.0; FUNCTIONALS]; rows],
            norms: Vec::with_capacity(rows),
            ..Scales::default()
        };
        let [mut dq, mut dk, mut dv] = [scales(rows), scales(s.keys), scales(s.keys)];
        let blocks = |width: usize| vec![vec![0.0; if grams { width * width } else { 0 }]; s.keys];
        let (mut of_dk, mut of_dv) = (blocks(s.features), blocks(s.value_features));
        let (mut traces_dk, mut traces_dv) = (vec![0.0; s.keys], vec![0.0; s.keys]);
        let mut across: Vec<Vec<f64>> = Vec::new();
        let mut trace_across = 0.0;
        dq.norms = vec![Norm::default(); rows];
        for entries in self.by_row() {
            let (at, row) = self.row(core, entries);
            let of = |which: usize, h: usize, n: usize| weights[which].row(self.b, h, n);
            let w_dq = of(0, row.h, row.i);
            let mut block = vec![0.0; if grams { s.features * s.features } else { 0 }];
            let (mut trace, mut shared) = (0.0, vec![0.0; s.features]);
            let (mut shared_dq, mut shared_dk) = ([0.0; FUNCTIONALS], [0.0; FUNCTIONALS]);
            let mut reach = vec![0.0; if grams { s.keys * s.features } else { 0 }];
            for e in entries {
                let j = e.j as usize;
                let (q, k, g) = (p.q(row), p.k(row, j), p.g(row));
                let delta = f64::from(e.by_weight) * self.dependent_delta[at];
                let (w_dk, w_dv) = (of(1, self.key_head, j), of(2, self.key_head, j));
                for f in 0..FUNCTIONALS {
                    let of_dq = dot(w_dq[f], k);
                    dq.rows[at][f] += of_dq * of_dq * square(e.all_ds);
                    shared_dq[f] += delta * of_dq;
                    let of_dk = dot(w_dk[f], q);
                    dk.rows[j][f] += of_dk * of_dk * (square(e.all_ds) + delta * delta);
                    // In the head, the keys' shares of one row's error add up before they are squared.
                    dk.across[f] -= of_dk * of_dk * delta * delta;
                    shared_dk[f] += delta * of_dk;
                    let of_dv = dot(w_dv[f], g);
                    dv.rows[j][f] += of_dv * of_dv * square(e.p);
                }
                let normal = |x: &[f64], by: &[f64]| -> Vec<f64> {
                    x.iter().zip(by).map(|(x, by)| x * by).collect()
                };
                trace += outer(&mut block, square(e.all_ds), &normal(k, w_dq[0]));
                let by_key = normal(q, w_dk[0]);
                traces_dk[j] += outer(&mut of_dk[j], square(e.all_ds), &by_key);
                traces_dv[j] += outer(&mut of_dv[j], square(e.p), &normal(g, w_dv[0]));
                trace_across += delta * delta * dot(&by_key, &by_key);
                if let Some(reach) = reach.get_mut(j * s.features..(j + 1) * s.features) {
                    reach.iter_mut().zip(&by_key).for_each(|(sum, x)| *sum = delta * x);
                }
                shared.iter_mut().zip(normal(k, w_dq[0])).for_each(|(sum, k)| *sum += delta * k);
            }
            trace += outer(&mut block, 1.0, &shared);
            dq.norms[at] = Norm::of_block(trace, block);
            across.push(reach);
            for f in 0..FUNCTIONALS {
                dq.rows[at][f] += shared_dq[f] * shared_dq[f];
                dk.across[f] += shared_dk[f] * shared_dk[f];
            }
        }
        let norms = |traces: Vec<f64>, blocks: Vec<Vec<f64>>| {
            traces
                .into_iter()
                .zip(blocks)
                .map(|(trace, block)| Norm::of_block(trace, block))
                .collect()
        };
        dk.norms = norms(traces_dk, of_dk);
        dv.norms = norms(traces_dv, of_dv);
        dk.shared = Norm::of_gram(trace_across, if grams { &across } else { &[] });
        [dq, dk, dv]
    }

    /// The entries of one row after the other.
    pub(super) fn by_row(&self) -> impl Iterator<Item = &[Entry]> {
        self.entries.chunk_by(|a, b| a.at == b.at)
    }

    pub(super) fn row(&self, core: &Core<'_>, entries: &[Entry]) -> (usize, Row) {
        let (at, queries) = (entries[0].at as usize, core.q.problem.sizes().queries);
        let h = self.key_head * core.q.problem.group() + at / queries;
        (at, Row { b: self.b, h, i: at % queries })
    }
}

/// Adds `value x` to one row.
pub(super) fn add(sums: &mut [f64], row: usize, value: f64, x: &[f64]) {
    let sums = &mut sums[row * x.len()..][..x.len()];
    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += value * x);
}

fn square(x: f32) -> f64 {
    f64::from(x) * f64::from(x)
}

/// The rounding errors of `dZ`, its own and that of the `P` in it, and of `P`, at the sizes that they may have.
fn entry(core: &Core<'_>, row: Row, at: u32, errors: &RowErrors, e: &EntryError) -> Option<Entry> {
    let (a, p, recipe) = (&core.a, core.q.problem, core.q.recipe);
    let kept = core.kept(errors, e, p.row_number(row))?;
    let t = e.dp - errors.delta + p.dlse(row);
    let dz = kept.w * t * e.slope;
    let relative = libm::expm1(e.log.worst_case + e.log_stored + errors.lse_error.worst_case);
    let of_t =
        errors.delta_error.worst_case + errors.delta_stored + e.dp_sum.worst_case + e.dp_stored;
    let (w, most) = (kept.w * (1.0 + relative), t.abs() + of_t);
    let slope = e.slope.abs() + e.slope_error;
    let of_elementwise = a.elementwise(w * most) * slope;
    let rounded = |unit: f64| unit * a.narrow(recipe.ds, w * most * slope / unit);
    let ds = if a.is_narrow(recipe.elementwise) {
        [libm::hypot(core.dz_rounding(w * most * slope), of_elementwise) as f32; 2]
    } else {
        [rounded(1.0) as f32, rounded(p.scale().abs().max(f64::MIN_POSITIVE)) as f32]
    };
    // Kernels normalise a weight before they round it here.
    let relative = if kept.varies == 0.0 { kept.constant + 2.0 * a.u } else { relative };
    let known = |format: Format| {
        let known = a.is_narrow(format).then(|| known_error(format, kept.w, relative))??;
        (kept.varies == 0.0).then_some(known)
    };
    let of_p = |format: Format| match known(format) {
        Some(_) => 0.0,
        None => a.narrow(format, w),
    };
    Some(Entry {
        at,
        j: e.j as u32,
        ds,
        p: of_p(recipe.p) as f32,
        p_in_ds: (of_p(recipe.p_in_ds) * libm::copysign(most * slope, t * e.slope)) as f32,
        all_ds: 0.0,
        by_weight: (kept.w * e.slope) as f32,
        known: known(recipe.p).unwrap_or(0.0) as f32,
        known_ds: (known(recipe.p_in_ds).unwrap_or(0.0) * t * e.slope) as f32,
        dp: e.dp as f32,
        bias: [a.narrow(recipe.ds, w * most), of_p(recipe.p_in_ds) * most, kept.w]
            .map(|x| x as f32),
        log_ds: libm::log(dz.abs().max(f64::MIN_POSITIVE)) as f32,
        log_p: libm::log(kept.w.max(f64::MIN_POSITIVE)) as f32,
    })
}

/// The error of rounding a number that is known to this relative error, if that decides it.
fn known_error(format: Format, x: f64, relative: f64) -> Option<f64> {
    let (least, most) = (format.round(x * (1.0 - relative)), format.round(x * (1.0 + relative)));
    // What hardware truncates, or may flush to zero, is left to the bounds.
    let plain = format != Format::Tf32 && x >= format.smallest_normal();
    (plain && least == most).then_some(least - x)
}

/// How many of some numbers are near enough to one of them that their roundings may be alike.
pub(super) struct Alike {
    logs: Vec<f32>,
    within: f32,
    /// Where the numbers of each cell begin, and where the last cell's end. Cells are equally wide, and cover all numbers.
    cells: Vec<usize>,
    /// Cells for each unit of a logarithm.
    per_unit: f32,
}

/// Numbers of a cell, about: as many as a few lines of the cache hold.
const IN_CELL: usize = 16;

impl Alike {
    /// Of numbers given by their logarithms.
    pub(super) fn new(logs: impl Iterator<Item = f32>, format: Format) -> Self {
        let mut logs: Vec<f32> = logs.collect();
        logs.sort_unstable_by(f32::total_cmp);
        let count = logs.len() / IN_CELL + 1;
        let width = match logs[..] {
            [first, .., last] => last - first,
            _ => 0.0,
        };
        let per_unit = count as f32 / width;
        let within = (format.unit_roundoff() / 16.0) as f32;
        let mut alike = Alike { logs, within, cells: vec![0; count + 1], per_unit };
        for at in 0..alike.logs.len() {
            let cell = alike.cell(alike.logs[at]);
            alike.cells[cell + 1] = at + 1;
        }
        // A cell without numbers ends where the one before does.
        for cell in 0..count {
            alike.cells[cell + 1] = alike.cells[cell + 1].max(alike.cells[cell]);
        }
        alike
    }

    /// How many are near one of them, itself included.
    pub(super) fn count(&self, log: f32) -> f64 {
        let within = self.within.max(4.0e-7 * log.abs());
        let first = self.before(log - within, |x| x < log - within);
        let after = self.before(log + within, |x| x <= log + within);
        (after - first) as f64
    }

    /// How many come before a border, which are those of earlier cells and some of its own.
    fn before(&self, border: f32, is_before: impl Fn(f32) -> bool) -> usize {
        let cell = self.cell(border);
        let (start, end) = (self.cells[cell], self.cells[cell + 1]);
        start + self.logs[start..end].partition_point(|&x| is_before(x))
    }

    /// The cell of a number; of a larger number never an earlier one, however the product is rounded.
    fn cell(&self, x: f32) -> usize {
        let first = self.logs.first().copied().unwrap_or(0.0);
        (((x - first) * self.per_unit) as usize).min(self.cells.len() - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_alike_as_a_look_at_all_of_them_says() {
        // The logarithms of a sine's values lie densely at one end; one in eight comes twice.
        let spread = (0..5000).map(|n: u32| libm::logf(libm::sinf((n - n / 8 % 2) as f32).abs()));
        let some: Vec<f32> = spread.map(|x| x.max(-700.0)).collect();
        for logs in [vec![], vec![-3.0], vec![0.0; 100], some] {
            for format in [Format::F32, Format::Bf16] {
                let alike = Alike::new(logs.iter().copied(), format);
                for &log in &logs {
                    let within = alike.within.max(4.0e-7 * log.abs());
                    let near = |x: &&f32| (log - within..=log + within).contains(*x);
                    assert_eq!(alike.count(log), logs.iter().filter(near).count() as f64, "{log}");
                }
            }
        }
    }
}
