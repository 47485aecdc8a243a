//! The visible entries of rows for the [laws](sus_reference::sus::moments) of a mask: `W`, `t` and `f`, a few rows at a time.

use super::panels::{Panels, pack_heads};
use super::product::{BLOCK, Left, Store, multiply, pack_left};
use super::scores::{Addends, Scoring, weights_and_derivatives};
use super::simd::Dispatch;
use super::simd::private::Vectors;
use super::tiles::{head, tile};
use super::visible::{Visible, within};
use aligned_vec::{AVec, avec};
use pulp::{Simd, WithSimd};
use std::ops::Range;
use sus_reference::backward::delta;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::moments::RowEntry;

/// The packed operands from which the entries of all rows are computed.
pub struct RowEntries<'a> {
    dispatch: Dispatch,
    problem: &'a Problem<f64>,
    saved: &'a Saved<f64>,
    /// `delta_i = G_i . o_i` of each row.
    delta: Vec<f64>,
    visible: Visible<'a, f64>,
    scoring: Scoring<f64>,
    keys: Vec<Panels<f64>>,
    values: Vec<Panels<f64>>,
}

impl<'a> RowEntries<'a> {
    /// Packs the keys and values; `saved` is the problem's forward pass.
    #[must_use]
    pub fn new(dispatch: Dispatch, problem: &'a Problem<f64>, saved: &'a Saved<f64>) -> Self {
        let (inputs, sizes) = (problem.inputs(), problem.sizes());
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        pack_heads(&mut keys, inputs.k.as_slice(), sizes.keys, sizes.features);
        pack_heads(&mut values, inputs.v.as_slice(), sizes.keys, sizes.value_features);
        RowEntries {
            dispatch,
            problem,
            saved,
            delta: delta(problem, &saved.o),
            visible: Visible::new(problem),
            scoring: Scoring::new(problem.scale(), problem.options().softcap),
            keys,
            values,
        }
    }

    /// Replaces each list by the visible entries of one of `rows`, by keys, of head `(b, h)`.
    ///
    /// # Panics
    /// If there are not as many lists as rows.
    pub fn rows_into(
        &self,
        (b, h): (usize, usize),
        rows: Range<usize>,
        lists: &mut [Vec<RowEntry<f64>>],
    ) {
        assert_eq!(lists.len(), rows.len(), "one list per row");
        lists.iter_mut().for_each(Vec::clear);
        for (rows, lists) in rows.clone().step_by(BLOCK).zip(lists.chunks_mut(BLOCK)) {
            let rows = rows..rows + lists.len();
            self.dispatch.run(RowTask { source: self, b, h, rows, lists });
        }
    }
}

/// Rows that a product holds in registers, at most.
struct RowTask<'a, 'b> {
    source: &'a RowEntries<'b>,
    b: usize,
    h: usize,
    rows: Range<usize>,
    lists: &'a mut [Vec<RowEntry<f64>>],
}

impl WithSimd for RowTask<'_, '_> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let RowTask { source, b, h, rows, lists } = self;
        let RowEntries { problem, saved, .. } = *source;
        let sizes = problem.sizes();
        let (d, e) = (sizes.features, sizes.value_features);
        let query_head = b * sizes.query_heads + h;
        let key_head = b * sizes.key_heads + problem.key_head(h);
        let part = |x, features| {
            &head(x, query_head, sizes.queries * features)
                [rows.start * features..rows.end * features]
        };
        let (mut q, mut g) = (Vec::new(), Vec::new());
        pack_left(part(problem.inputs().q.as_slice(), d), d, &mut q);
        pack_left(part(problem.inputs().g.as_slice(), e), e, &mut g);
        let width = tile::<f64>();
        let mut products: AVec<_> = avec![f64::BLANK; BLOCK];
        let mut values: AVec<_> = avec![f64::BLANK; BLOCK];
        let mut derivatives = f64::BLANK;
        let bias_first = problem.options().bias_first;
        let hull = source.visible.hull(b, &rows);
        for first in (hull.start / width * width..hull.end).step_by(width) {
            let keys = first..(first + width).min(sizes.keys);
            for (at, key) in keys.clone().step_by(f64::PANEL).enumerate() {
                let panel = key / f64::PANEL;
                for (left, depth, panels, c) in
                    [(&q, d, &source.keys, &mut products), (&g, e, &source.values, &mut values)]
                {
                    let right = (panels[key_head].panel(panel), f64::PANEL);
                    let c = (&mut c.as_flattened_mut()[at * f64::PANEL..], width);
                    let left = (Left::Packed(left), lists.len());
                    multiply(simd, Store::Replace, left, right, depth, c);
                }
            }
            for (r, list) in lists.iter_mut().enumerate() {
                let row = Row { b, h, i: rows.start + r };
                let seen = within(&source.visible.row(b, row.i), &keys);
                if seen.is_empty() {
                    continue;
                }
                let number = problem.row_number(row);
                let lse = saved.lse.as_slice()[number];
                let shift = problem.dlse(row) - source.delta[number];
                let addends = Addends::of(problem, row, keys.clone());
                let (w, scoring) = (&mut products[r], &source.scoring);
                weights_and_derivatives(simd, scoring, lse, &addends, w, &mut derivatives);
                for n in seen.filter(|n| !problem.hides(row, keys.start + n)) {
                    let j = keys.start + n;
                    let of_v = problem.dropout(row, j).unwrap_or(1.0);
                    let t = of_v * values[r][n] + shift;
                    let of_bias = if bias_first { t * derivatives[n] } else { t };
                    let f = t * (derivatives[n] * scoring.scale);
                    list.push(RowEntry { j, w: w[n], t, f, of_bias, of_v });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score_error::{Magnitude, largest_magnitude};
    use sus_corpus as cases;
    use sus_reference::forward::forward;
    use sus_reference::sus::moments::MaskDistribution;
    use sus_reference::sus::{Budget, Rule, Sampler};

    const U: f64 = f64::EPSILON / 2.0;

    /// How far an entry may be from the reference's: a factor of `W`, and distances of `t` and of `f`.
    ///
    /// `t` is a sum of `E + 2` terms on both sides. The softcap's derivative `1 - tanh^2 y` changes by a factor of at most
    /// `exp(2 |dy|)`, and its two computations round by at most `32 u`.
    fn apart(
        problem: &Problem<f64>,
        magnitude: &Magnitude,
        row: Row,
        entry: &RowEntry<f64>,
    ) -> [f64; 3] {
        let (g, v) = (problem.g(row), problem.v(row, entry.j));
        let terms: f64 = g.iter().zip(v).map(|(g, v)| (g * v).abs()).sum();
        let sum = terms + (entry.t - g.iter().zip(v).map(|(g, v)| g * v).sum::<f64>()).abs();
        let of_t = 2.0 * (g.len() + 5) as f64 * U * sum;
        let ratio =
            magnitude.softcap.map_or(0.0, |cap| 4.0 * magnitude.score_error(U) / cap + 32.0 * U);
        let slope = if entry.t == 0.0 { problem.scale() } else { entry.f / entry.t };
        let of_f = slope.abs() * (1.0 + ratio) * of_t + entry.f.abs() * (ratio + 4.0 * U);
        [magnitude.log_error(U).exp_m1(), of_t, of_f]
    }

    #[test]
    fn entries_are_those_of_the_definition_within_the_bounds_of_both() {
        let mut seen = 0;
        for case in cases::all() {
            let problem = &case.problem;
            let magnitude = largest_magnitude(problem);
            if magnitude.log_error(U) >= 0.001 {
                continue; // scores so large that rounding decides
            }
            let saved = forward(problem);
            let c = Budget::new(4.0).unwrap();
            let law = MaskDistribution::new(problem, &saved, c, Rule::Paper, Sampler::Bernoulli);
            for dispatch in Dispatch::ALL {
                let source = RowEntries::new(dispatch, problem, &saved);
                let sizes = problem.sizes();
                for (b, h) in
                    (0..sizes.batch).flat_map(|b| (0..sizes.query_heads).map(move |h| (b, h)))
                {
                    // Lists that hold something before are replaced.
                    let mut lists = vec![law.entries(problem.row(0)); sizes.queries];
                    source.rows_into((b, h), 0..sizes.queries, &mut lists);
                    for (i, list) in lists.iter().enumerate() {
                        let row = Row { b, h, i };
                        let expected = law.entries(row);
                        assert_eq!(list.len(), expected.len(), "{} {row:?}", case.name);
                        for (found, expected) in list.iter().zip(&expected) {
                            let [of_w, of_t, of_f] = apart(problem, &magnitude, row, expected);
                            let text = format!("{} {row:?} {found:?} {expected:?}", case.name);
                            assert_eq!(found.j, expected.j, "{text}");
                            assert!(
                                (found.w - expected.w).abs() <= expected.w * of_w + 1e-307,
                                "{text}"
                            );
                            assert!((found.t - expected.t).abs() <= of_t, "{text}");
                            assert!((found.f - expected.f).abs() <= of_f, "{text}");
                            seen += 1;
                        }
                    }
                }
            }
        }
        assert!(seen > 10_000, "{seen} entries");
    }
}
