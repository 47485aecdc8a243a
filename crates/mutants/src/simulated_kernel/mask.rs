//! The mask of a SUS kernel, and the weights that it leaves.

use super::State;
use sus_reference::problem::Row;
use sus_reference::sus::rule::keep_probability;
use sus_reference::sus::sampler::{row_uniform, systematic};
use sus_reference::sus::uniform::{Grid, Uniforms, keep32, keep64};
use sus_reference::sus::{Pattern, Sample, Sampler, UniformBits};

/// The place of a word: batch (or segment), head, query, and key, or `None` for the row's own word.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct WordPlace {
    pub(in super::super) b: usize,
    pub(in super::super) h: usize,
    pub(in super::super) i: usize,
    pub(in super::super) j: Option<usize>,
}

impl WordPlace {
    /// The word at this place; 0 outside of the grid.
    pub(in super::super) fn of(self, uniforms: &Uniforms) -> u32 {
        let Grid { batch, heads, queries, keys } = uniforms.grid();
        let inside = self.b < batch && self.h < heads && self.i < queries;
        match self.j {
            None if inside => uniforms.row_word(self.b, self.h, self.i),
            Some(j) if inside && j < keys => uniforms.word(self.b, self.h, self.i, j),
            _ => 0,
        }
    }
}

impl State<'_> {
    /// The words of the draw.
    pub(in super::super) fn uniforms(&self) -> Uniforms {
        let draw = self.config.draw.expect("a SUS config");
        self.uniforms_of(draw.seed, draw.stream)
    }

    /// Words of another seed or stream.
    pub(in super::super) fn uniforms_of(&self, seed: u64, stream: u32) -> Uniforms {
        let draw = self.config.draw.expect("a SUS config");
        let grid = Grid {
            batch: self.sizes.batch * self.config.problem.mask().segment_count(),
            heads: self.sizes.query_heads,
            queries: self.sizes.queries,
            keys: self.sizes.keys,
        };
        Uniforms::new(seed, stream, draw.layout, grid).expect("a grid that was drawn from before")
    }

    /// Draws the mask, if the run is SUS, and fills `wq`, `wk`, `wv`.
    pub(super) fn draw(&mut self) {
        if self.config.draw.is_some() {
            let uniforms = self.uniforms();
            self.draw_with(|words| words.of(&uniforms), None);
        }
        self.spread();
    }

    /// Copies the weights, sampled or not, to `wq`, `wk`, `wv`.
    pub(in super::super) fn spread(&mut self) {
        self.wq = match &self.sample {
            None => self.p.clone(),
            Some(_) => self.sampled(),
        };
        self.wk = self.wq.clone();
        self.wv = self.wq.clone();
    }

    /// The keep probability of an entry, from the weight the kernel has.
    pub(in super::super) fn keep(&self, lambda: f64, w: f64) -> f64 {
        let q = keep_probability(lambda, w);
        if lambda.is_infinite() { q } else { self.fl(q) }
    }

    /// Draws a mask with other words, and another decision if one is given.
    pub(in super::super) fn draw_with(
        &mut self,
        word: impl Fn(WordPlace) -> u32,
        decide: Option<fn(f64, u32) -> bool>,
    ) {
        let draw = self.config.draw.expect("a SUS config");
        let (rule, c) = self.draw_rule.unwrap_or((draw.rule, draw.c));
        self.draw_full(word, decide, |state, _, w| {
            let lambda = rule.lambda(c, w);
            (lambda, w.iter().map(|&w| state.keep(lambda, w)).collect())
        });
    }

    /// Draws a mask with other words, decisions and probabilities: `probabilities` gives `lambda` and the `q` of a row.
    pub(in super::super) fn draw_full(
        &mut self,
        word: impl Fn(WordPlace) -> u32,
        decide: Option<fn(f64, u32) -> bool>,
        probabilities: impl Fn(&Self, Row, &[f64]) -> (f64, Vec<f64>),
    ) {
        let draw = *self.config.draw.expect("a SUS config");
        let keys = self.sizes.keys;
        let mask = self.config.problem.mask();
        let (mut offsets, mut columns) = (vec![0], Vec::new());
        let (mut lambdas, mut expected) = (Vec::new(), Vec::new());
        for (n, row) in self.rows() {
            let seen = &self.seen[n * keys..][..keys];
            let start = seen.iter().position(|&seen| seen).unwrap_or(0);
            let visible = start..seen.iter().rposition(|&seen| seen).map_or(start, |last| last + 1);
            let place = mask.place(row.i);
            let b = row.b * mask.segment_count() + place.segment;
            let at = |j| WordPlace { b, h: row.h, i: place.query, j };
            let (lambda, q) = probabilities(self, row, &self.p[n * keys..][visible.clone()]);
            let first = visible.start.saturating_sub(place.first_key);
            let kept: Vec<usize> = match draw.sampler {
                Sampler::Systematic => systematic(&q, row_uniform(word(at(None))), draw.c.get()),
                Sampler::Bernoulli => (0..q.len())
                    .filter(|&m| {
                        let x = word(at(Some(first + m)));
                        match (decide, draw.bits) {
                            (Some(decide), _) => decide(q[m], x),
                            (None, UniformBits::Bits32) => keep32(q[m], x),
                            (None, UniformBits::Bits64) => keep64(q[m], x, || {
                                self.uniforms().second_word(b, row.h, place.query, first + m)
                            }),
                        }
                    })
                    .collect(),
            };
            columns.extend(kept.into_iter().map(|m| (visible.start + m) as u32));
            offsets.push(columns.len());
            lambdas.push(lambda);
            expected.push(q.iter().sum());
        }
        let rows = lambdas.len();
        let pattern = Pattern::new(rows, keys, offsets, columns).expect("keys in order");
        self.sample = Some(Sample { pattern, lambda: lambdas, expected });
    }

    /// The kept weights `max(W, 1 / lambda)`, or `W / q`; 0 elsewhere.
    pub(in super::super) fn sampled(&self) -> Vec<f64> {
        self.sampled_by(|w, lambda| {
            if self.schedule.divide_by_q && lambda.is_finite() {
                self.fl(w / self.keep(lambda, w))
            } else {
                w.max(self.fl(1.0 / lambda))
            }
        })
    }

    /// The kept weights as `value` of `W` and `lambda`; 0 elsewhere.
    pub(in super::super) fn sampled_by(&self, value: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let sample = self.sample.as_ref().expect("a drawn mask");
        let mut weights = vec![0.0; self.p.len()];
        for (n, _) in self.rows() {
            for &j in sample.pattern.row(n) {
                let at = n * self.sizes.keys + j as usize;
                weights[at] = value(self.p[at], sample.lambda[n]);
            }
        }
        weights
    }

    /// Replaces the kept keys of each row.
    pub(in super::super) fn keep_instead(&mut self, kept: impl Fn(usize, &[u32]) -> Vec<u32>) {
        let keys = self.sizes.keys;
        let sample = self.sample.as_mut().expect("a drawn mask");
        let (mut offsets, mut columns) = (vec![0], Vec::new());
        for n in 0..sample.lambda.len() {
            columns.extend(kept(n, sample.pattern.row(n)));
            offsets.push(columns.len());
        }
        let rows = sample.lambda.len();
        sample.pattern = Pattern::new(rows, keys, offsets, columns).expect("keys in order");
    }
}
