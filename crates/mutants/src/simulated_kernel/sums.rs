//! The backward pass after the weights: `delta`, `dP`, `dS`, and the sums.

use super::super::arithmetic::Format;
use super::{Fold, Order, State, Summation};
use sus_reference::problem::{Row, bias_row};

impl State<'_> {
    /// The sum of the products, in the order that `sum` says.
    pub(in super::super) fn dot(&self, terms: &[(f64, f64)], sum: Summation) -> f64 {
        let format = self.arithmetic.accumulator;
        if sum.order == Order::Pairwise {
            return self.pairwise(terms);
        }
        let tile = |terms: &[(f64, f64)]| {
            terms.iter().fold(0.0, |total, &(a, b)| {
                if !self.schedule.fused {
                    format.round(total + format.round(a * b))
                } else if format == Format::F64 {
                    a.mul_add(b, total)
                } else {
                    format.round(total + a * b)
                }
            })
        };
        let mut tiles: Vec<f64> = terms.chunks(sum.tile.max(1)).map(tile).collect();
        match sum.order {
            Order::Descending => tiles.reverse(),
            Order::Scattered => {
                // An odd stride visits every tile of a power of two; the rest is left in place.
                let n = tiles.len();
                tiles = (0..n)
                    .map(|t| tiles[if n.is_multiple_of(5) { t } else { t * 5 % n }])
                    .collect();
            }
            _ => {}
        }
        let rounded = tiles.len().saturating_sub(usize::from(!sum.finish));
        tiles.into_iter().enumerate().fold(0.0, |total, (at, x)| {
            let total = format.round(total + x);
            if at < rounded { sum.carry.round(total) } else { total }
        })
    }

    fn pairwise(&self, terms: &[(f64, f64)]) -> f64 {
        match terms {
            [] => 0.0,
            [(a, b)] => self.fl(a * b),
            _ => {
                let (left, right) = terms.split_at(terms.len() / 2);
                self.fl(self.pairwise(left) + self.pairwise(right))
            }
        }
    }

    /// `delta_i = G_i . o_i`, or `sum_j W_ij dP_ij`.
    pub(super) fn deltas(&mut self) {
        let keys = self.sizes.keys;
        for (n, row) in self.rows() {
            let terms: Vec<(f64, f64)> =
                if self.schedule.delta_from_weights || self.arithmetic.delta_from_weights {
                    {
                        let dp = |j| self.fl(self.product(row, j) * self.dropout(row, j));
                        (0..keys).map(|j| (self.p[n * keys + j], dp(j))).collect()
                    }
                } else {
                    let g = self.g.row(row.b, row.h, row.i).iter().copied();
                    g.zip(self.o.row(row.b, row.h, row.i).iter().copied()).collect()
                };
            self.delta[n] = self.dot(&terms, self.sum_q);
        }
    }

    /// `dP_ij = G_i . v_j`.
    pub(in super::super) fn product(&self, row: Row, j: usize) -> f64 {
        let operand = self.arithmetic.operand;
        let g = self.g.row(row.b, row.h, row.i).iter();
        let v = self.v.row(row.b, self.key_head[row.h], j);
        let terms: Vec<(f64, f64)> =
            g.zip(v).map(|(&g, &v)| (operand.round(g), operand.round(v))).collect();
        self.arithmetic.elementwise.round(self.dot(&terms, self.sum_q))
    }

    pub(super) fn products(&mut self) {
        for (at, _, row, j) in self.computed_entries() {
            self.dp[at] = self.fl(self.product(row, j) * self.dropout(row, j));
        }
        for (at, _, row, j) in self.computed_entries() {
            let z = self.dropout(row, j);
            self.wv[at] = self.fl(self.wv[at] * z);
        }
    }

    /// `t_ij = dP_ij - delta_i + dlse_i`.
    pub(in super::super) fn t(&self, at: usize, n: usize) -> f64 {
        self.fl(self.fl(self.dp[at] - self.delta[n]) + self.dlse[n])
    }

    /// `dS` for the bias, and `dZ` for `dq` and `dk`.
    pub(super) fn slopes(&mut self) {
        self.zq = vec![0.0; self.p.len()];
        self.zk = vec![0.0; self.p.len()];
        for (at, n, _, _) in self.computed_entries() {
            let t = self.t(at, n);
            let slope =
                |w: f64| if w == 0.0 { 0.0 } else { self.fl(self.fl(w * t) * self.cap[at]) };
            let factor = if self.schedule.fold == Fold::Slopes { self.scale } else { 1.0 };
            let stored = |x: f64| self.arithmetic.ds.round(self.fl(x * factor));
            let (zq, zk) = (stored(slope(self.wq[at])), stored(slope(self.wk[at])));
            let mut ds = if self.wq[at] == 0.0 { 0.0 } else { self.fl(self.wq[at] * t) };
            self.dt[at] = ds;
            if self.config.problem.options().bias_first {
                ds = self.fl(ds * self.cap[at]);
            }
            self.ds[at] =
                if self.arithmetic.normalised { self.arithmetic.ds.round(ds) } else { ds };
            (self.zq[at], self.zk[at]) = (zq, zk);
        }
        if self.schedule.fold == Fold::Slopes {
            (self.scale_q, self.scale_k) = (1.0, 1.0);
        }
    }

    /// All gradients.
    pub(in super::super) fn sums(&mut self) {
        if !self.dq_is_summed {
            self.sum_dq();
        }
        let (dk, dv) = (self.key_sum(true), self.key_sum(false));
        self.dk.as_mut_slice().copy_from_slice(&dk);
        self.dv.as_mut_slice().copy_from_slice(&dv);
        if self.probe.is_some() {
            return;
        }
        self.sum_dbias();
        self.sum_dsink();
        self.sum_dslopes();
    }

    /// `dslopes_h = - sum_ij dS_ij |i + Nk - Nq - j|`.
    fn sum_dslopes(&mut self) {
        let Some(dslopes) = &self.dslopes else { return };
        let mut dslopes = dslopes.clone();
        for (at, _, row, j) in self.entries() {
            if self.dt[at] == 0.0 || self.config.problem.is_padding(row) {
                continue;
            }
            let distance: f64 = self.config.problem.alibi_distance(row, j);
            let to = self.config.problem.slope_index(row);
            let sum = &mut dslopes.as_mut_slice()[to];
            *sum = self.fl(*sum + self.fl(self.dt[at] * distance));
        }
        self.dslopes = Some(dslopes);
    }

    /// `dq_i = scale sum_j dZ_ij k_j`.
    pub(in super::super) fn sum_dq(&mut self) {
        let (keys, features) = (self.sizes.keys, self.sizes.features);
        for (n, row) in self.rows() {
            if !self.computes_row(n) {
                continue;
            }
            for d in 0..features {
                let terms: Vec<(f64, f64)> = (0..keys)
                    .filter(|j| self.zq[n * keys + j] != 0.0)
                    .map(|j| {
                        let k = self.k.row(row.b, self.key_head[row.h], j)[d];
                        (self.zq[n * keys + j], self.arithmetic.operand.round(k))
                    })
                    .collect();
                self.dq.as_mut_slice()[n * features + d] =
                    self.fl(self.scale_q * self.dot(&terms, self.sum_q));
            }
        }
    }

    /// `dk_j = scale sum_i dZ_ij q_i`, or `dv_j = sum_i W_ij G_i`, over the rows of the group.
    fn key_sum(&self, is_dk: bool) -> Vec<f64> {
        let sizes = self.sizes;
        let features = if is_dk { sizes.features } else { sizes.value_features };
        let sum = if is_dk { self.sum_k } else { self.sum_v };
        let weight = self.arithmetic.weight_operand;
        let coefficient = |at: usize| if is_dk { self.zk[at] } else { weight.round(self.wv[at]) };
        let finish = |x: f64| if is_dk { self.fl(self.scale_k * x) } else { x };
        let mut out = Vec::new();
        for b in 0..sizes.batch {
            for head in 0..sizes.key_heads {
                let heads: Vec<usize> =
                    (0..sizes.query_heads).filter(|&h| self.key_head[h] == head).collect();
                for j in 0..sizes.keys {
                    if !self.computes_key(j) {
                        out.resize(out.len() + features, 0.0);
                        continue;
                    }
                    for d in 0..features {
                        let of_head = |&h: &usize| -> Vec<(f64, f64)> {
                            (0..sizes.queries)
                                .filter_map(|i| {
                                    let n = (b * sizes.query_heads + h) * sizes.queries + i;
                                    let x = if is_dk { &self.q } else { &self.g }.row(b, h, i)[d];
                                    let c = coefficient(n * sizes.keys + j);
                                    (c != 0.0).then(|| (c, self.arithmetic.operand.round(x)))
                                })
                                .collect()
                        };
                        out.push(if let Some(format) = self.arithmetic.repeated_heads {
                            self.repeated(heads.iter().map(of_head), format, |terms| {
                                finish(self.dot(terms, sum))
                            })
                        } else {
                            let terms: Vec<_> = heads.iter().flat_map(of_head).collect();
                            finish(self.dot(&terms, sum))
                        });
                    }
                }
            }
        }
        out
    }

    /// The sum of each head's own sum, all in this format; what has no terms is 0.
    fn repeated(
        &self,
        heads: impl Iterator<Item = Vec<(f64, f64)>>,
        format: Format,
        sum: impl Fn(&[(f64, f64)]) -> f64,
    ) -> f64 {
        let parts: Vec<f64> =
            heads.filter(|terms| !terms.is_empty()).map(|terms| sum(&terms)).collect();
        if self.config.unfinished && parts.len() < 2 {
            return parts.iter().sum();
        }
        parts.iter().enumerate().fold(0.0, |total, (at, &part)| {
            let sum = total + format.round(part);
            if self.config.unfinished && at + 1 == parts.len() { sum } else { format.round(sum) }
        })
    }

    /// `dbias`, summed over the axes that the bias broadcasts.
    fn sum_dbias(&mut self) {
        let Some(dbias) = &mut self.dbias else { return };
        let (shape, format) = (dbias.shape(), self.sum_bias);
        let (keys, queries, heads) = (self.sizes.keys, self.sizes.queries, self.sizes.query_heads);
        let mut unfinished = dbias.clone();
        for (at, &ds) in self.ds.iter().enumerate() {
            let (n, j) = (at / keys, at % keys);
            let row = Row { b: n / queries / heads, h: n / queries % heads, i: n % queries };
            let Row { b, h, i } = bias_row(shape, row);
            let to = ((b * shape[1] + h) * shape[2] + i) * keys + j;
            let sum = dbias.as_slice()[to] + ds;
            (unfinished.as_mut_slice()[to], dbias.as_mut_slice()[to]) = (sum, format.round(sum));
        }
        if self.config.unfinished {
            *dbias = unfinished;
        }
    }

    /// `dsink_h = - sum_i exp(sink_h - lse_i) (delta_i - dlse_i)`.
    fn sum_dsink(&mut self) {
        let Some(sink) = &self.config.problem.inputs().sink else { return };
        let mut dsink = vec![0.0; sink.len()];
        for (n, row) in self.rows() {
            let Some(sink) = self.config.problem.sink(row) else { continue };
            let weight = self.exp(self.fl(sink - self.lse[n]));
            let term = self.fl(weight * self.fl(self.delta[n] - self.dlse[n]));
            dsink[row.h] = self.fl(dsink[row.h] - term);
        }
        self.dsink = Some(dsink);
    }
}
