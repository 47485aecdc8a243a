//! How far a pass in arithmetic of unit roundoff `u` may be from the exact one, element by element.
//!
//! The error of a sum of `n` terms, in any order, is at most `gamma_n` times the sum of their absolute values; each function
//! below composes that along the formulas. Values are taken from the plain path in `f64`, terms of second order are covered by
//! the factor [`SECOND_ORDER`].

use sus_reference::backward::{DenseWeights, Weight, Weights, delta};
use sus_reference::forward::{Saved, score};
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::Sample;
use sus_reference::sus::rule::kept_weight;

const SECOND_ORDER: f64 = 1.2;

/// The bounds of one entry of the matrix of weights.
struct Entry {
    j: usize,
    /// `W` or `W~`, and the bound of its error.
    w: f64,
    w_error: f64,
    /// `dS slope`, and the bound of its error.
    ds: f64,
    ds_error: f64,
    /// `dS`, and the bound of its error.
    t: f64,
    t_error: f64,
    /// The factor of dropout.
    z: f64,
}

/// Bounds for one problem; `u` is the unit roundoff and `least` the smallest normal number.
pub(crate) struct Bounds<'a> {
    pub problem: &'a Problem<f64>,
    pub saved: &'a Saved<f64>,
    pub sample: Option<&'a Sample>,
    pub u: f64,
    pub least: f64,
}

/// Bounds of every element of every result.
pub(crate) struct Errors {
    pub o: Vec<f64>,
    pub lse: Vec<f64>,
    pub dq: Vec<f64>,
    pub dk: Vec<f64>,
    pub dv: Vec<f64>,
    pub dsink: Vec<f64>,
    pub dslopes: Vec<f64>,
}

fn magnitude(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

impl Bounds<'_> {
    /// Of a score: a product of `D` terms, the scale (itself rounded twice), the softcap's `tanh` to `8 u`, the bias, and the slope's
    /// product.
    fn score(&self, row: Row, j: usize) -> f64 {
        let p = self.problem;
        let terms = p.scale().abs() * magnitude(p.q(row), p.k(row, j));
        let cap = p.options().softcap.unwrap_or(0.0);
        let bias = p.bias(row).map_or(0.0, |bias| bias[j].abs())
            + p.alibi_slope(row).map_or(0.0, |slope| (slope * p.alibi_distance(row, j)).abs());
        self.u * ((p.sizes().features + 8) as f64 * terms + 16.0 * cap + 3.0 * bias)
    }

    /// Of `lse`: the worst score, the exponentials' arguments and their own error, a sum of `n` terms, the result's rounding.
    fn lse(&self, row: Row) -> f64 {
        let p = self.problem;
        let visible = p.visible(row);
        let lse = self.saved.lse.row(row.b, row.h, row.i)[0];
        if lse == f64::NEG_INFINITY {
            return 0.0;
        }
        let sink = p.inputs().sink.as_ref().map_or(0.0, |sink| sink[row.h].abs());
        let scores = visible.clone().map(|j| score(p, row, j).s.abs()).fold(sink, f64::max);
        let worst = visible.clone().map(|j| self.score(row, j)).fold(0.0, f64::max);
        let sums = 2.0 * p.visible_keys(row) as f64 + 50.0;
        SECOND_ORDER * (worst + self.u * (4.0 * scores + 2.0 * lse.abs() + sums))
    }

    /// Of a weight, relative: the score, `lse` (whose own is given), the argument and the exponential.
    fn weight(&self, row: Row, j: usize, lse_error: f64) -> f64 {
        let lse = self.saved.lse.row(row.b, row.h, row.i)[0];
        let argument = score(self.problem, row, j).s.abs() + lse.abs();
        SECOND_ORDER * (self.score(row, j) + lse_error + self.u * (2.0 * argument + 16.0))
    }

    /// Of a row of `o`: each weight, a sum of `n` terms, rescaled at most `n` times.
    fn o(&self, row: Row) -> Vec<f64> {
        let p = self.problem;
        let mut errors = vec![0.0; p.sizes().value_features];
        let sums = self.u * (2.0 * p.visible_keys(row) as f64 + 50.0);
        let lse = self.lse(row);
        for j in p.visible(row) {
            let w = DenseWeights { problem: p, saved: self.saved }.at(row, j).w;
            let error = SECOND_ORDER * (w * (self.weight(row, j, lse) + sums)) + self.least;
            // Three more roundings of `1 / (1 - p)` and its product.
            let error = p.dropout(row, j).map_or(error, |z| z * (error + 3.0 * self.u * w));
            for (e, v) in errors.iter_mut().zip(p.v(row, j)) {
                *e += error * v.abs();
            }
        }
        errors
    }

    /// Of `delta`: a product of `E` terms, and the error of `o`.
    fn delta(&self, row: Row, o_error: &[f64]) -> f64 {
        let p = self.problem;
        let o = self.saved.o.row(row.b, row.h, row.i);
        let sums = self.u * (p.sizes().value_features + 3) as f64;
        sums * magnitude(p.g(row), o) + magnitude(p.g(row), o_error)
    }

    /// Every entry of a row that has a weight.
    fn entries(&self, row: Row, delta: f64, delta_error: f64) -> Vec<Entry> {
        let p = self.problem;
        let number = p.row_number(row);
        let lse_error = self.lse(row);
        let mut entries = Vec::new();
        let mut visit = |Weight { j, w, slope, dropout, .. }: Weight<f64>| {
            let mut w_error = w * self.weight(row, j, lse_error) + self.least;
            let mut kept = w;
            if let Some(sample) = self.sample {
                kept = kept_weight(sample.lambda[number], w);
                w_error += 2.0 * self.u * kept;
            }
            let z = dropout.unwrap_or(1.0);
            let (dp, dlse) = (z * sus_reference::tensor::dot(p.g(row), p.v(row, j)), p.dlse(row));
            let t = dp - delta + dlse;
            let terms = z * magnitude(p.g(row), p.v(row, j));
            // Four more roundings of `1 / (1 - p)`, whose `p` is rounded as well, and its product.
            let t_error = self.u * (p.sizes().value_features + 8) as f64 * terms
                + delta_error
                + 3.0 * self.u * (delta.abs() + dlse.abs() + terms);
            // sech^2 moves by at most twice the relative error of its argument's absolute error.
            let slope_error = match p.options().softcap {
                None => 4.0 * self.u,
                Some(cap) => 24.0 * self.u + 2.0 * self.score(row, j) / cap,
            };
            let error = w_error * t.abs()
                + kept * t_error
                + kept * t.abs() * (slope_error + 4.0 * self.u)
                + self.least;
            entries.push(Entry {
                j,
                w: kept,
                w_error: SECOND_ORDER * w_error,
                ds: kept * t * slope,
                ds_error: SECOND_ORDER * error * slope.abs() + self.least,
                t: kept * t,
                t_error: SECOND_ORDER * error,
                z,
            });
        };
        let dense = DenseWeights { problem: p, saved: self.saved };
        match self.sample {
            None => dense.for_each(row, 0..p.sizes().keys, &mut visit),
            Some(sample) => {
                sample.pattern.row(number).iter().for_each(|&j| visit(dense.at(row, j as usize)));
            }
        }
        entries
    }

    /// The bounds of all results.
    pub(crate) fn errors(&self) -> Errors {
        let p = self.problem;
        let sizes = p.sizes();
        let (d, e) = (sizes.features, sizes.value_features);
        let inputs = p.inputs();
        let deltas = delta(p, &self.saved.o);
        let mut errors = Errors {
            o: Vec::new(),
            lse: Vec::new(),
            dq: vec![0.0; inputs.q.as_slice().len()],
            dk: vec![0.0; inputs.k.as_slice().len()],
            dv: vec![0.0; inputs.v.as_slice().len()],
            dsink: vec![0.0; sizes.query_heads],
            dslopes: vec![0.0; inputs.alibi_slopes.as_ref().map_or(0, |x| x.as_slice().len())],
        };
        let over_keys = self.u * (sizes.keys + 10) as f64;
        let over_rows = self.u * (sizes.queries * p.group() + 10) as f64;
        for (at, &delta) in deltas.iter().enumerate() {
            let row = p.row(at);
            let o_error = self.o(row);
            let (lse_error, delta_error) = (self.lse(row), self.delta(row, &o_error));
            errors.o.extend(o_error);
            errors.lse.push(lse_error);
            for entry in self.entries(row, delta, delta_error) {
                let key = (row.b * sizes.key_heads + p.key_head(row.h)) * sizes.keys + entry.j;
                let add = |to: &mut [f64], x: &[f64], error: f64| {
                    to.iter_mut().zip(x).for_each(|(to, x)| *to += error * x.abs());
                };
                let ds = |sums: f64| entry.ds_error + sums * entry.ds.abs();
                add(&mut errors.dq[at * d..][..d], p.k(row, entry.j), ds(over_keys));
                add(&mut errors.dk[key * d..][..d], p.q(row), ds(over_rows));
                let w = entry.w_error + (over_rows + 4.0 * self.u) * entry.w;
                add(&mut errors.dv[key * e..][..e], p.g(row), w * entry.z);
                if !errors.dslopes.is_empty() {
                    let distance: f64 = p.alibi_distance(row, entry.j);
                    let sums = self.u * (sizes.keys + p.row_count() + 10) as f64;
                    let error = entry.t_error + sums * entry.t.abs();
                    errors.dslopes[p.slope_index(row)] += error * distance.abs();
                }
            }
            if let Some(sink) = p.sink(row) {
                let lse = self.saved.lse.as_slice()[at];
                let (w, t) = ((sink - lse).exp(), delta - p.dlse(row));
                let argument = lse_error + self.u * (2.0 * (sink.abs() + lse.abs()) + 8.0);
                let rows = self.u * (p.row_count() + 10) as f64;
                let terms = delta.abs() + p.dlse(row).abs();
                // A sink's weight below the normal range is flushed to zero, as that of a key is.
                errors.dsink[row.h] += self.least * (1.0 + t.abs() + delta_error)
                    + SECOND_ORDER
                        * w
                        * ((argument + rows) * t.abs() + delta_error + 2.0 * self.u * terms);
            }
        }
        errors
    }
}
