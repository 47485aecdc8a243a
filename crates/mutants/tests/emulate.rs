//! A right kernel of a recipe, on the host: every operation rounded to the accumulator, and what is stored to its format.

use sus_bounds::{Delta, Format, Gqa, Recipe};
use sus_files::gradient_file::slopes_shape;
use sus_files::{Array, TensorFile};
use sus_reference::problem::{Problem, Row, bias_row};
use sus_reference::sus::Sample;
use sus_reference::tensor::Tensor;

/// The order in which a kernel adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Forward,
    Backward,
    /// Halves, recursively.
    Pairwise,
    /// Blocks of this many, then the blocks.
    Blocks(usize),
    /// Every n-th term in one lane, then the lanes.
    Lanes(usize),
}

pub(crate) const ORDERS: [Order; 5] =
    [Order::Forward, Order::Backward, Order::Pairwise, Order::Blocks(4), Order::Lanes(3)];

/// How an operand becomes tf32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tf32 {
    Truncated,
    ToEven,
    AwayFromZero,
}

impl Tf32 {
    /// Drops 13 bits of an `f32`.
    fn convert(self, x: f64) -> f64 {
        let bits = (x as f32).to_bits();
        let more = match self {
            Tf32::Truncated => 0,
            Tf32::ToEven => 0xfff + (bits >> 13 & 1),
            Tf32::AwayFromZero => 0x1000,
        };
        f64::from(f32::from_bits((bits + more) & !0x1fff))
    }
}

/// What is scaled before it is converted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scaled {
    /// The scores.
    Scores,
    Q,
    /// `q` and `k` by the square root.
    Both,
    /// `k` by the scale and `log2 e`, as for `exp2`.
    KeysInBaseTwo,
}

/// The conversions of a tf32 kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversions {
    /// Of `q`, `G` and `dS`, and of `k`, `v` and `P`.
    pub(crate) rules: [Tf32; 2],
    pub(crate) scaled: Scaled,
    pub(crate) delta_from_weights: bool,
}

/// A kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel<'a> {
    pub(crate) problem: &'a Problem<f64>,
    pub(crate) recipe: &'a Recipe,
    pub(crate) order: Order,
    /// exp2 with log2(e) folded into the scale instead of exp.
    pub(crate) base_two: bool,
    /// The scale is applied to q.
    pub(crate) scale_first: bool,
    /// One pass over tiles of this many keys, with rescaling; 0: two passes.
    pub(crate) online: usize,
    pub(crate) sample: Option<&'a Sample>,
    /// Sums of products drop the bits that do not fit, as tensor cores may, at recipes that say so.
    pub(crate) truncates: bool,
    /// Of a recipe of tf32 products.
    pub(crate) conversions: Option<Conversions>,
}

/// What a backward pass keeps of a row's softmax: what is subtracted from a score, and the sum of the weights after that.
type RowSoftmax = [f64; 2];

struct Forward {
    softmax: Vec<RowSoftmax>,
    o: Tensor<f64>,
    lse: Tensor<f64>,
    unstored: Tensor<f64>,
}

impl Kernel<'_> {
    /// Rounded to the accumulator.
    fn r(&self, x: f64) -> f64 {
        self.recipe.accumulator.round(x)
    }

    /// An operand of a matrix product: one of `q`, `G`, `dS`, or of `k`, `v`, `P`.
    fn operand(&self, which: usize, x: f64) -> f64 {
        self.conversions.map_or(x, |conversions| conversions.rules[which].convert(x))
    }

    fn operands(&self, which: usize, x: &[f64]) -> Vec<f64> {
        x.iter().map(|&x| self.operand(which, x)).collect()
    }

    /// `q . k` times the scale, from operands that are converted as they are or scaled.
    fn converted_score(&self, q: &[f64], k: &[f64], scaled: Scaled) -> f64 {
        let scale = self.r(self.problem.scale());
        let by =
            |x: &[f64], factor: f64| -> Vec<f64> { x.iter().map(|x| self.r(x * factor)).collect() };
        let dot = |q: &[f64], k: &[f64]| self.dot(&self.operands(0, q), &self.operands(1, k));
        match scaled {
            Scaled::Scores => self.r(dot(q, k) * scale),
            Scaled::Q => dot(&by(q, scale), k),
            Scaled::Both => {
                let root = self.r(libm::sqrt(scale.abs()));
                dot(&by(q, root), &by(k, libm::copysign(root, scale)))
            }
            Scaled::KeysInBaseTwo => {
                let factor = self.r(scale * self.r(std::f64::consts::LOG2_E));
                self.r(dot(q, &by(k, factor)) * self.r(std::f64::consts::LN_2))
            }
        }
    }

    /// Stored in a format, if it is narrower than the accumulator.
    fn narrow(&self, format: Format, x: f64) -> f64 {
        if format.precision() < self.recipe.accumulator.precision() { format.round(x) } else { x }
    }

    /// Stored between elementwise steps.
    fn el(&self, x: f64) -> f64 {
        self.narrow(self.recipe.elementwise, x)
    }

    /// A sum that is no matrix product: of the weights of a row, of `P dP`.
    pub(crate) fn sum(&self, x: &[f64]) -> f64 {
        self.sum_by(x, &|s, x| self.r(s + x))
    }

    /// A sum of products, whose additions may drop the bits that do not fit.
    fn sum_of_products(&self, x: &[f64]) -> f64 {
        self.sum_by(x, &|s, x| {
            let sum = self.r(s + x);
            if self.truncates && self.recipe.tensor_cores && sum.abs() > (s + x).abs() {
                // The accumulator is f32: one unit in the last place towards zero.
                return f64::from(f32::from_bits((sum as f32).to_bits() - 1));
            }
            sum
        })
    }

    fn sum_by(&self, x: &[f64], add: &dyn Fn(f64, f64) -> f64) -> f64 {
        let all = |x: &mut dyn Iterator<Item = f64>| x.fold(0.0, add);
        match self.order {
            Order::Forward => all(&mut x.iter().copied()),
            Order::Backward => all(&mut x.iter().rev().copied()),
            Order::Pairwise if x.len() <= 2 => all(&mut x.iter().copied()),
            Order::Pairwise => {
                let (a, b) = x.split_at(x.len() / 2);
                add(self.sum_by(a, add), self.sum_by(b, add))
            }
            Order::Blocks(n) => all(&mut x.chunks(n).map(|x| all(&mut x.iter().copied()))),
            Order::Lanes(n) => {
                all(&mut (0..n).map(|lane| all(&mut x.iter().skip(lane).step_by(n).copied())))
            }
        }
    }

    fn dot(&self, a: &[f64], b: &[f64]) -> f64 {
        let products: Vec<f64> = a.iter().zip(b).map(|(a, b)| self.r(a * b)).collect();
        self.sum_of_products(&products)
    }

    fn exp(&self, x: f64) -> f64 {
        if self.base_two {
            let log2e = self.r(std::f64::consts::LOG2_E);
            self.r(libm::exp2(self.r(x * log2e)))
        } else {
            self.r(libm::exp(x))
        }
    }

    /// The score and the slope.
    fn score(&self, row: Row, j: usize) -> (f64, f64) {
        let p = self.problem;
        let scale = self.r(p.scale());
        let z = if let Some(conversions) = self.conversions {
            self.converted_score(p.q(row), p.k(row, j), conversions.scaled)
        } else if self.scale_first {
            let format = self.recipe.operands;
            let converted = |x: f64| {
                if self.recipe.scaled_operands { self.narrow(format, x) } else { x }
            };
            let q: Vec<f64> = p.q(row).iter().map(|q| converted(self.r(q * scale))).collect();
            self.el(self.dot(&q, p.k(row, j)))
        } else {
            self.el(self.r(self.el(self.dot(p.q(row), p.k(row, j))) * scale))
        };
        let bias = p.bias(row).map(|bias| bias[j]);
        let first = p.options().bias_first;
        let z = bias.filter(|_| first).map_or(z, |bias| self.el(self.r(z + bias)));
        let (mut s, mut slope) = (z, scale);
        if let Some(cap) = p.options().softcap {
            let cap = self.r(cap);
            let t = self.el(self.r(libm::tanh(self.el(self.r(z / cap)))));
            s = self.el(self.r(cap * t));
            slope = self.r(scale * self.r(1.0 - self.r(t * t)));
        }
        if let Some(bias) = bias.filter(|_| !first) {
            s = self.el(self.r(s + bias));
        }
        if let Some(slope) = p.alibi_slope(row) {
            s = self.el(self.r(s + self.r(slope * p.alibi_distance(row, j))));
        }
        (s, slope)
    }

    /// The keys that a row sees.
    fn keys(&self, row: Row) -> Vec<usize> {
        self.problem.span(row).filter(|&j| !self.problem.hides(row, j)).collect()
    }

    /// The derivative of a score by a bias before the softcap; 1 by another.
    fn bias_slope(&self, slope: f64) -> f64 {
        let options = self.problem.options();
        if options.bias_first && options.softcap.is_some() {
            self.r(slope / self.r(self.problem.scale()))
        } else {
            1.0
        }
    }

    /// `P Z` as an operand: the rounding of the product, or the product of the rounding; this kernel's base of exp chooses.
    fn dropped_p(&self, row: Row, j: usize, w: f64) -> f64 {
        let Some(z) = self.problem.dropout(row, j) else { return self.stored_p(w) };
        let z = self.r(z);
        if self.base_two { self.stored_p(self.r(w * z)) } else { self.r(self.stored_p(w) * z) }
    }

    fn forward(&self) -> Forward {
        let (p, s) = (self.problem, self.problem.sizes());
        let mut o = Tensor::zeros([s.batch, s.query_heads, s.queries, s.value_features]);
        let mut lse = Tensor::zeros([s.batch, s.query_heads, s.queries, 1]);
        let (mut unstored, mut softmax) = (o.clone(), Vec::new());
        for at in 0..p.row_count() {
            let row = p.row(at);
            let (mut o_row, lse_row, of_row) = self.forward_row(row);
            softmax.push(of_row);
            let e = s.value_features;
            unstored.as_mut_slice()[at * e..(at + 1) * e].copy_from_slice(&o_row);
            for x in &mut o_row {
                *x = self.recipe.o.round(*x);
            }
            o.as_mut_slice()[at * e..(at + 1) * e].copy_from_slice(&o_row);
            lse.as_mut_slice()[at] = self.recipe.lse.round(lse_row);
        }
        Forward { softmax, o, lse, unstored }
    }

    /// `exp(s - m)`.
    fn shifted_exp(&self, s: f64, m: f64) -> f64 {
        self.exp(self.narrow(self.recipe.shifted, self.r(s - m)))
    }

    /// `P` as an operand.
    fn stored_p(&self, w: f64) -> f64 {
        if self.conversions.is_some() { self.operand(1, w) } else { self.narrow(self.recipe.p, w) }
    }

    fn forward_row(&self, row: Row) -> (Vec<f64>, f64, RowSoftmax) {
        let p = self.problem;
        let width = p.sizes().value_features;
        let keys = self.keys(row);
        let sink = p.sink(row);
        if keys.is_empty() {
            return (vec![0.0; width], sink.unwrap_or(f64::NEG_INFINITY), [0.0, 1.0]);
        }
        let tile = if self.online == 0 { keys.len() } else { self.online };
        let mut m = sink.unwrap_or(f64::NEG_INFINITY);
        let mut l = if sink.is_some() { 1.0 } else { 0.0 };
        if !self.recipe.row_maximum {
            (m, l) = (0.0, sink.map_or(0.0, |sink| self.exp(sink)));
        }
        let mut acc = vec![0.0; width];
        for keys in keys.chunks(tile) {
            let scores: Vec<f64> = keys.iter().map(|&j| self.score(row, j).0).collect();
            let most = scores.iter().copied().fold(m, f64::max);
            let new = if self.recipe.row_maximum { most } else { m };
            let factor = if m == f64::NEG_INFINITY { 0.0 } else { self.exp(self.r(m - new)) };
            m = new;
            let weights: Vec<f64> = scores.iter().map(|&s| self.shifted_exp(s, m)).collect();
            l = self.r(self.r(l * factor) + self.sum(&weights));
            let eager = self.recipe.elementwise.precision() < self.recipe.accumulator.precision();
            for (d, acc) in acc.iter_mut().enumerate() {
                let terms: Vec<f64> = weights
                    .iter()
                    .zip(keys)
                    .map(|(&w, &j)| {
                        let w = match p.dropout(row, j) {
                            _ if !eager => self.dropped_p(row, j, w),
                            None => self.el(self.r(w / l)),
                            Some(z) => self.el(self.r(self.el(self.r(w / l)) * self.r(z))),
                        };
                        self.r(w * self.operand(1, p.v(row, j)[d]))
                    })
                    .collect();
                let sum = self.sum_of_products(&terms);
                *acc = if eager { sum } else { self.r(self.r(*acc * factor) + sum) };
            }
            if eager {
                return (acc, self.r(m + self.r(libm::log(l))), [m, l]);
            }
        }
        let o = acc.iter().map(|x| self.r(x / l)).collect();
        (o, self.r(m + self.r(libm::log(l))), [m, l])
    }

    /// A sum that is carried in the output format from tile to tile, or stored once.
    fn stored_total(&self, x: &[f64], tile: usize) -> f64 {
        let output = self.recipe.output;
        if tile == 0 {
            return output.round(self.sum_of_products(x));
        }
        // Atomics add the sums of tiles that are rounded already; this kernel's base of exp chooses.
        let of_tile = |x: &[f64]| match self.sum_of_products(x) {
            sum if self.base_two => output.round(sum),
            sum => sum,
        };
        x.chunks(tile).fold(0.0, |total, x| output.round(total + of_tile(x)))
    }

    /// The sums of all elements, each with the heads of its terms.
    fn whole(&self, terms: Vec<Vec<(usize, f64)>>, tile: usize) -> Vec<f64> {
        let sum = |terms: Vec<(usize, f64)>| {
            self.stored_total(&terms.iter().map(|t| t.1).collect::<Vec<_>>(), tile)
        };
        terms.into_iter().map(sum).collect()
    }

    /// The same of a gradient of the keys, whose heads may be repeated.
    fn by_head(&self, terms: Vec<Vec<(usize, f64)>>, tile: usize) -> Vec<f64> {
        if self.recipe.gqa == Gqa::Fused || self.problem.group() == 1 {
            return self.whole(terms, tile);
        }
        let heads = |terms: Vec<(usize, f64)>| {
            terms.chunk_by(|a, b| a.0 == b.0).fold(0.0, |sum: f64, head| {
                let head: Vec<f64> = head.iter().map(|t| t.1).collect();
                self.recipe.output.round(sum + self.stored_total(&head, tile))
            })
        };
        terms.into_iter().map(heads).collect()
    }

    /// `G`, as the derivative of a division after the product has it; exact but for the rounding of its result.
    fn divided_g(&self, row: Row, [_, l]: RowSoftmax) -> Vec<f64> {
        let g = self.problem.g(row);
        if self.recipe.normalised_p {
            return g.to_vec();
        }
        g.iter().map(|g| self.narrow(self.recipe.p, g / l) * l).collect()
    }

    /// The key, `P`, the slope and `dP` of each visible entry of a row.
    fn entries(
        &self,
        row: Row,
        g: &[f64],
        lse: f64,
        [m, l]: RowSoftmax,
    ) -> Vec<(usize, f64, f64, f64)> {
        let entry = |j: usize| {
            let (s, slope) = self.score(row, j);
            let is_shifted = self.recipe.shifted.precision() < self.recipe.accumulator.precision();
            let w = if is_shifted {
                self.el(self.r(self.shifted_exp(s, m) / l))
            } else {
                self.el(self.exp(self.r(s - lse)))
            };
            let dp = self.dot(&self.operands(0, g), &self.operands(1, self.problem.v(row, j)));
            let dp = self.el(dp);
            let dropped = self.problem.dropout(row, j).map(|z| self.el(self.r(dp * self.r(z))));
            (j, w, slope, dropped.unwrap_or(dp))
        };
        self.keys(row).into_iter().map(entry).collect()
    }

    /// The gradient of keys whose first features are the values, from stored parts.
    fn joined(&self, dk: &[f64], dv: &[f64]) -> Vec<f64> {
        let sizes = self.problem.sizes();
        let of_key = |(at, &dk): (usize, &f64)| {
            let (key, d) = (at / sizes.features, at % sizes.features);
            let width = sizes.value_features;
            let dv = if d < width { dv[key * width + d] } else { 0.0 };
            self.recipe.output.round(dk + dv)
        };
        dk.iter().enumerate().map(of_key).collect()
    }

    /// The results as a candidate.
    pub(crate) fn run(&self) -> TensorFile {
        let (p, recipe) = (self.problem, self.recipe);
        let (s, inputs) = (p.sizes(), p.inputs());
        let Forward { softmax, o, lse, unstored } = self.forward();
        let (mut dk, mut dv) = (terms(&inputs.k), terms(&inputs.v));
        let mut dbias = inputs.bias.as_ref().map(|bias| vec![Vec::new(); bias.as_slice().len()]);
        let mut dsink = vec![Vec::new(); s.query_heads];
        let mut dslopes = inputs.alibi_slopes.as_ref().map(terms);
        let mut dq = terms(&inputs.q);
        for at in 0..p.row_count() {
            let row = p.row(at);
            let lse_row = lse.as_slice()[at];
            let g = &self.divided_g(row, softmax[at])[..];
            let entries = self.entries(row, g, lse_row, softmax[at]);
            let from_weights = self.conversions.is_some_and(|of| of.delta_from_weights);
            let delta = match recipe.delta {
                Delta::Any | Delta::Weights if from_weights || recipe.delta == Delta::Weights => {
                    let terms: Vec<f64> = entries.iter().map(|e| self.r(e.1 * e.3)).collect();
                    self.sum(&terms)
                }
                Delta::Unstored => self.dot(p.g(row), unstored.row(row.b, row.h, row.i)),
                _ => self.dot(p.g(row), o.row(row.b, row.h, row.i)),
            };
            let dlse = p.dlse(row);
            if let Some(sink) = p.sink(row) {
                let w = self.exp(self.r(sink - lse_row));
                dsink[row.h].push(-self.r(w * self.r(delta - dlse)));
            }
            let head = row.b * s.key_heads + p.key_head(row.h);
            for &(j, w, slope, dp) in &entries {
                let mut w = w;
                if let Some(sample) = self.sample {
                    if sample.pattern.row(at).binary_search(&(j as u32)).is_err() {
                        continue;
                    }
                    w = w.max(self.r(1.0 / sample.lambda[at]));
                }
                let t = self.r(self.r(dp - delta) + dlse);
                let ds = self.el(self.r(self.narrow(recipe.p_in_ds, w) * t));
                if let (Some(dbias), Some(bias)) = (&mut dbias, &inputs.bias) {
                    let Row { b, h, i } = bias_row(bias.shape(), row);
                    let [_, heads, queries, keys] = bias.shape();
                    let by = self.r(ds * self.bias_slope(slope));
                    dbias[((b * heads + h) * queries + i) * keys + j].push((row.h, by));
                }
                if let Some(dslopes) = &mut dslopes {
                    let by = self.r(ds * p.alibi_distance(row, j));
                    dslopes[p.slope_index(row)].push((row.h, by));
                }
                let dz = self.el(self.r(ds * slope));
                let dz = match self.conversions {
                    Some(_) => self.operand(0, dz),
                    None => self.narrow(recipe.ds, dz),
                };
                for (d, k) in self.operands(1, p.k(row, j)).into_iter().enumerate() {
                    dq[at * s.features + d].push((row.h, self.r(dz * k)));
                }
                for (d, q) in self.operands(0, p.q(row)).into_iter().enumerate() {
                    dk[(head * s.keys + j) * s.features + d].push((row.h, self.r(dz * q)));
                }
                let [m, l] = softmax[at];
                let unnormalised = || self.shifted_exp(self.score(row, j).0, m);
                let stored = if recipe.normalised_p {
                    self.dropped_p(row, j, w)
                } else {
                    self.dropped_p(row, j, unnormalised()) / l
                };
                for (d, g) in self.operands(0, g).into_iter().enumerate() {
                    dv[(head * s.keys + j) * s.value_features + d]
                        .push((row.h, self.r(stored * g)));
                }
            }
        }
        let mut file = TensorFile::default();
        let mut put = |name: &str, shape: &[usize], data: Vec<f64>| {
            file.arrays.insert(name.into(), Array::f64(shape, data));
        };
        put("o", &o.shape(), o.as_slice().to_vec());
        put("lse", &lse.shape()[..3], lse.as_slice().to_vec());
        put("dq", &inputs.q.shape(), self.whole(dq, recipe.running_dq));
        let (dk, dv) = (self.by_head(dk, recipe.running_dk), self.by_head(dv, recipe.running_dv));
        if p.options().v_of_k {
            put("dkv", &inputs.k.shape(), self.joined(&dk, &dv));
        } else {
            put("dk", &inputs.k.shape(), dk);
            put("dv", &inputs.v.shape(), dv);
        }
        if let (Some(dslopes), Some(shape)) = (dslopes, slopes_shape(p)) {
            put("dslopes", &shape, self.whole(dslopes, 0));
        }
        if let (Some(dbias), Some(bias)) = (dbias, &inputs.bias) {
            put("dbias", &bias.shape(), self.whole(dbias, 0));
        }
        if inputs.sink.is_some() {
            let dsink = dsink.into_iter().map(|t| recipe.output.round(self.sum(&t))).collect();
            put("dsink", &[s.query_heads], dsink);
        }
        file
    }
}

fn terms(like: &Tensor<f64>) -> Vec<Vec<(usize, f64)>> {
    vec![Vec::new(); like.as_slice().len()]
}
