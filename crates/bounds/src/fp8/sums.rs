//! Sums of intervals times exact numbers, the error of a kernel's sum, and what it can be stored as. Section 9.3.

use super::super::context::BoundContext;
use super::super::format::Format;
use super::super::interval::Interval;
use super::super::known_o::U64;
use super::super::range::RoundingRange;
use super::super::roundoff::partial_bound;
use super::super::stage::Stage;
use super::super::sums::ElementError;
use super::StoredRows;

/// Running sums of intervals times vectors.
#[derive(Clone)]
pub(super) struct IntervalSums {
    width: usize,
    terms: usize,
    blocks: Vec<Block>,
}

/// Elements that are added at once.
const LANES: usize = 8;

/// The sums of some elements: of the least and the largest terms and of the largest sizes, and for the partial sums (section 3.2) the
/// running sum of the middles, its range and their squares.
#[derive(Clone, Copy, Default)]
struct Block {
    least: [f64; LANES],
    most: [f64; LANES],
    abs: [f64; LANES],
    sum: [f64; LANES],
    lowest: [f64; LANES],
    highest: [f64; LANES],
    squares: [f64; LANES],
}

impl Block {
    fn add(&mut self, low: f64, high: f64, x: &[f64; LANES]) {
        let (middle, size) = (f64::midpoint(low, high), low.abs().max(high.abs()));
        for (d, &x) in x.iter().enumerate() {
            let (a, b) = (low * x, high * x);
            self.least[d] += if a < b { a } else { b };
            self.most[d] += if a < b { b } else { a };
            self.abs[d] += size * x.abs();
            let term = middle * x;
            let sum = self.sum[d] + term;
            self.sum[d] = sum;
            self.squares[d] += term * term;
            self.lowest[d] = if sum < self.lowest[d] { sum } else { self.lowest[d] };
            self.highest[d] = if sum > self.highest[d] { sum } else { self.highest[d] };
        }
    }
}

/// How a sum becomes a stored result.
pub(super) struct Stored {
    /// The stage that the intervals belong to.
    pub(super) stage: Stage,
    /// Roundings of a term beyond the products and the additions.
    pub(super) more: usize,
    /// The relative error of the whole: of a factor that all terms share.
    pub(super) shared: f64,
    /// What it is multiplied by.
    pub(super) scale: f64,
    /// The format that it is stored in.
    pub(super) format: Format,
}

impl IntervalSums {
    pub(super) fn new(width: usize) -> Self {
        let blocks = vec![Block::default(); width.div_ceil(LANES)];
        IntervalSums { width, terms: 0, blocks }
    }

    /// Adds `value x`.
    pub(super) fn add(&mut self, value: Interval, x: &[f64]) {
        self.terms += 1;
        let (whole, rest) = x.as_chunks::<LANES>();
        for (block, x) in self.blocks.iter_mut().zip(whole) {
            block.add(value.least, value.most, x);
        }
        if !rest.is_empty() {
            let mut padded = [0.0; LANES];
            padded[..rest.len()].copy_from_slice(rest);
            self.blocks[whole.len()].add(value.least, value.most, &padded);
        }
    }

    /// The elements as a kernel may store them.
    pub(super) fn stored(&self, context: &BoundContext<'_>, by: &Stored, rows: &mut StoredRows) {
        for d in 0..self.width {
            let (middle, element, before) = self.element(context, by, d);
            let range = RoundingRange::stored(middle, before, by.format, false);
            rows.push(middle, element, range);
        }
    }

    /// The middle of an element, its errors, and how far it may be from the middle before it is stored.
    fn element(
        &self,
        context: &BoundContext<'_>,
        by: &Stored,
        d: usize,
    ) -> (f64, ElementError, f64) {
        let a = &context.roundoff;
        let (sums, d) = (&self.blocks[d / LANES], d % LANES);
        let scale = by.scale.abs();
        let middle = f64::midpoint(sums.least[d], sums.most[d]);
        let half = (sums.most[d] - sums.least[d]) / 2.0;
        // Section 6.3, from the sizes that the terms may have: their intervals are counted in them.
        let n = self.terms + by.more;
        let eta = self.terms as f64 * a.eta;
        let worst_case = a.gamma(n) * sums.abs[d] + eta;
        let random = a.partial_sums(
            n,
            partial_bound(sums.abs[d], sums.highest[d] - sums.lowest[d], sums.squares[d]),
        );
        let threshold =
            context.lambda * random.sub_gaussian + random.deterministic + a.gamma(n) * half + eta;
        // The sums here are of f64: a product and an addition for each term, and a few operations after them.
        let own = (self.terms + 8) as f64 * U64 * sums.abs[d];
        let shared = (by.shared + 2.0 * a.u) * (middle.abs() + half);
        let sum = |error: f64| scale * (error + own + shared);
        let (middle, half) = (by.scale * middle, scale * half);
        let mut element = ElementError::default();
        element.add(by.stage as usize, half, half);
        element.add(Stage::Sum as usize, sum(worst_case), sum(worst_case.min(threshold)));
        let before = element.threshold;
        let store = |x: f64| by.format.rounding_error(middle.abs() + x, false);
        element.add(Stage::Store as usize, store(element.worst_case), store(before));
        if middle.abs() + element.worst_case >= by.format.overflow() {
            (element.worst_case, element.threshold) = (f64::INFINITY, f64::INFINITY);
        }
        (middle, element, before)
    }
}
