//! The forward pass, and the scores and weights as the backward pass recomputes them.

use super::{Fold, Softmax, State};
use sus_reference::problem::Row;

impl State<'_> {
    /// Fills `o` and `lse`.
    pub(super) fn forward(&mut self) {
        let rows: Vec<(Vec<f64>, f64)> =
            self.rows().map(|(n, row)| self.forward_row(n, row)).collect();
        let features = self.sizes.value_features;
        for (n, (o, lse)) in rows.into_iter().enumerate() {
            for (to, x) in self.o.as_mut_slice()[n * features..][..features].iter_mut().zip(o) {
                *to = self.arithmetic.output.round(x);
            }
            self.lse.push(lse);
        }
        self.stored_o = self.o.clone();
        self.stored_lse = self.lse.clone();
    }

    fn forward_row(&self, n: usize, row: Row) -> (Vec<f64>, f64) {
        let keys = self.sizes.keys;
        let visible: Vec<usize> = (0..keys).filter(|j| self.seen[n * keys + j]).collect();
        let scores: Vec<f64> = visible.iter().map(|&j| self.score(row, j).0).collect();
        let sink = self.config.problem.sink(row);
        let mut o = vec![0.0; self.sizes.value_features];
        if visible.is_empty() {
            return (o, sink.unwrap_or(f64::NEG_INFINITY));
        }
        let tile = match self.schedule.softmax {
            Softmax::Online => self.schedule.key_tile,
            Softmax::TwoPass => keys,
        };
        let (mut largest, mut total) = (f64::NEG_INFINITY, 0.0);
        for (keys, scores) in visible.chunks(tile).zip(scores.chunks(tile)) {
            let next = scores.iter().copied().fold(largest, f64::max);
            let shrink = self.exp(largest - next);
            largest = next;
            total = self.fl(total * shrink);
            let weights: Vec<f64> = scores.iter().map(|s| self.exp(self.fl(s - largest))).collect();
            total = weights.iter().fold(total, |sum, &w| self.fl(sum + w));
            if !self.arithmetic.normalised {
                self.add_values(&mut o, shrink, row, keys, &weights);
            }
        }
        if let Some(sink) = sink {
            let next = largest.max(sink);
            let shrink = self.exp(self.fl(largest - next));
            total = self.fl(self.fl(total * shrink) + self.exp(self.fl(sink - next)));
            for o in &mut o {
                *o = self.fl(*o * shrink);
            }
            largest = next;
        }
        let lse = self.fl(largest + self.fl(libm::log(total)));
        if self.arithmetic.normalised {
            let weight = |s: &f64| self.fl(self.exp(self.fl(s - largest)) / total);
            let weights: Vec<f64> =
                scores.iter().map(|s| self.arithmetic.elementwise.round(weight(s))).collect();
            self.add_values(&mut o, 1.0, row, &visible, &weights);
        } else {
            for o in &mut o {
                *o = self.fl(*o / total);
            }
        }
        (o, lse)
    }

    /// `o = o * shrink + sum_j w_j v_j`.
    fn add_values(&self, o: &mut [f64], shrink: f64, row: Row, keys: &[usize], weights: &[f64]) {
        for (e, o) in o.iter_mut().enumerate() {
            let terms: Vec<(f64, f64)> = keys
                .iter()
                .zip(weights)
                .map(|(&j, &w)| {
                    let v = self.v.row(row.b, self.key_head[row.h], j)[e];
                    let w = self.fl(w * self.dropout(row, j));
                    (self.arithmetic.weight_operand.round(w), self.arithmetic.operand.round(v))
                })
                .collect();
            *o = self.fl(self.fl(*o * shrink) + self.dot(&terms, self.sum_q));
        }
    }

    /// The score of an entry and the softcap's derivative.
    pub(in super::super) fn score(&self, row: Row, j: usize) -> (f64, f64) {
        let problem = self.config.problem;
        let bias_first = self.softcap.is_some() && problem.options().bias_first;
        let mut z = self.scaled_product(row, j);
        if bias_first {
            z = self.arithmetic.elementwise.round(self.fl(z + self.bias(row, j)));
        }
        let (capped, cap) = match self.softcap {
            None => (z, 1.0),
            Some(cap) => {
                let y = self.fl(z / self.fl(cap));
                let tanh = self.fl(libm::tanh(y));
                let derivative = if self.schedule.sech {
                    let e = self.exp(-2.0 * y.abs());
                    let root = self.fl(1.0 + e);
                    self.fl(self.fl(4.0 * e) / self.fl(root * root))
                } else {
                    self.fl(1.0 - self.fl(tanh * tanh))
                };
                (self.arithmetic.elementwise.round(self.fl(self.fl(cap) * tanh)), derivative)
            }
        };
        let bias = if bias_first { 0.0 } else { self.bias(row, j) };
        let mut s = self.arithmetic.elementwise.round(self.fl(capped + bias));
        if self.has_slopes
            && let Some(slope) = problem.alibi_slope(row)
        {
            let distance: f64 = problem.alibi_distance(row, j);
            s = self.arithmetic.elementwise.round(self.fl(s + self.fl(slope * distance)));
        }
        (s, cap)
    }

    /// `Z_ij`, 1 without dropout.
    pub(in super::super) fn dropout(&self, row: Row, j: usize) -> f64 {
        if !self.has_dropout {
            return 1.0;
        }
        self.config.problem.dropout(row, j).map_or(1.0, |z| self.fl(z))
    }

    /// `scale q . k`.
    pub(in super::super) fn scaled_product(&self, row: Row, j: usize) -> f64 {
        let folded = self.schedule.fold == Fold::Query;
        let operand = self.arithmetic.operand;
        let q = self.q.row(row.b, row.h, row.i).iter();
        let k = self.k.row(row.b, self.key_head[row.h], j);
        let terms: Vec<(f64, f64)> = q
            .zip(k)
            .map(|(&q, &k)| {
                let q = if folded { self.fl(self.scale * q) } else { q };
                (operand.round(q), operand.round(k))
            })
            .collect();
        let product = self.dot(&terms, self.sum_q);
        let score = if folded { product } else { self.fl(self.scale * product) };
        self.arithmetic.elementwise.round(score)
    }

    /// The bias of an entry, 0 if there is none.
    pub(in super::super) fn bias(&self, row: Row, j: usize) -> f64 {
        if !self.has_bias {
            return 0.0;
        }
        self.config.problem.bias(row).map_or(0.0, |bias| bias[j])
    }

    /// The backward's scores.
    pub(super) fn scores(&mut self) {
        for (at, _, row, j) in self.computed_entries() {
            (self.s[at], self.cap[at]) = self.score(row, j);
        }
        if self.schedule.recompute_lse {
            self.lse = self.rows().map(|(n, row)| self.forward_row(n, row).1).collect();
        }
    }

    /// `W = exp(s - lse)`; 0 where a row does not see a key.
    pub(super) fn weights(&mut self) {
        let log2_e = self.fl(std::f64::consts::LOG2_E);
        for (at, n, _, _) in self.computed_entries() {
            let (s, lse) = (self.s[at], self.lse[n]);
            let w = if !self.seen[at] {
                0.0
            } else if self.schedule.base_two {
                let exponent = self.fl(s * log2_e - self.fl(lse * log2_e));
                self.fl(libm::exp2(exponent))
            } else {
                self.exp(self.fl(s - lse))
            };
            self.p[at] = self.arithmetic.elementwise.round(w);
        }
    }
}
