//! Sums of intervals times exact numbers, the error of a kernel's sum, and what it can be stored as. Section 9.3.

use super::super::context::BoundContext;
use super::super::format::Format;
use super::super::interval::Interval;
use super::super::known_o::U64;
use super::super::range::RoundingRange;
use super::super::simd::RunningSums;
use super::super::stage::Stage;
use super::super::sums::ElementError;
use super::StoredRows;

/// Running sums of intervals times vectors.
#[derive(Clone)]
pub(super) struct IntervalSums {
    terms: usize,
    least: Vec<f64>,
    most: Vec<f64>,
    abs: Vec<f64>,
    middle: RunningSums,
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
        let zeros = || vec![0.0; width];
        let middle = RunningSums::new(width);
        IntervalSums { terms: 0, least: zeros(), most: zeros(), abs: zeros(), middle }
    }

    /// Adds `value x`.
    pub(super) fn add(&mut self, value: Interval, x: &[f64]) {
        self.terms += 1;
        let Interval { least: low, most: high } = value;
        self.middle.add(&[f64::midpoint(low, high)], &[x]);
        let size = value.size();
        let sums = self.least.iter_mut().zip(&mut self.most).zip(&mut self.abs);
        for (((least, most), abs), x) in sums.zip(x) {
            let (a, b) = (low * x, high * x);
            *least += a.min(b);
            *most += a.max(b);
            *abs += size * x.abs();
        }
    }

    /// The elements as a kernel may store them.
    pub(super) fn stored(&self, context: &BoundContext<'_>, by: &Stored, rows: &mut StoredRows) {
        for d in 0..self.least.len() {
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
        let scale = by.scale.abs();
        let middle = f64::midpoint(self.least[d], self.most[d]);
        let half = (self.most[d] - self.least[d]) / 2.0;
        // Section 6.3, from the sizes that the terms may have: their intervals are counted in them.
        let n = self.terms + by.more;
        let eta = self.terms as f64 * a.eta;
        let worst_case = a.gamma(n) * self.abs[d] + eta;
        let random = a.partial_sums(n, self.middle.partial(d));
        let threshold =
            context.lambda * random.sub_gaussian + random.deterministic + a.gamma(n) * half + eta;
        // The sums here are of f64: a product and an addition for each term, and a few operations after them.
        let own = (self.terms + 8) as f64 * U64 * self.abs[d];
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
