//! Axes with ticks of our own.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// A linear or a logarithmic axis.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    logarithmic: bool,
}

impl Axis {
    /// A logarithmic axis over positive values, with room at both ends; ticks at powers of ten, and at their
    /// multiples by 2 and 5 if there are few of them.
    pub(crate) fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values.filter(|&x| x > 0.0 && x.is_finite()), (0.1, 10.0));
        let (low, high) = (low / 1.3, high * 1.3);
        let decades = libm::floor(libm::log10(low)) as i32..=libm::ceil(libm::log10(high)) as i32;
        let factors: &[f64] = if high / low > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let ticks = decades
            .flat_map(|n| factors.iter().map(move |factor| power_of_ten(n) * factor))
            .filter(|&x| low <= x && x <= high)
            .collect();
        Axis { low, high, ticks, logarithmic: true }
    }

    /// The same axis with other ticks.
    pub(crate) fn with_ticks(self, ticks: &[f64]) -> Self {
        Axis { ticks: ticks.to_vec(), ..self }
    }

    /// A linear axis over counts from `low` to `high` with round ticks.
    pub(crate) fn whole(low: f64, high: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let rough = (high - low) / 6.0;
        let decade = power_of_ten(libm::floor(libm::log10(rough)) as i32);
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|x| x * decade >= rough);
        let step = (factor.unwrap_or(10.0) * decade).max(1.0);
        let first = libm::ceil(low / step) as i64;
        let last = libm::floor(high / step) as i64;
        let ticks = (first..=last).map(|n| n as f64 * step).collect();
        Axis { low, high, ticks, logarithmic: false }
    }
}

fn power_of_ten(n: i32) -> f64 {
    if n >= 0 { libm::pow(10.0, n.into()) } else { 1.0 / libm::pow(10.0, (-n).into()) }
}

fn range(values: impl Iterator<Item = f64>, default: (f64, f64)) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low <= high { (low, high) } else { default }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let scale = |x: f64| if self.logarithmic { libm::log10(x) } else { x };
        let (low, high) = (scale(self.low), scale(self.high));
        let at = (scale(*value) - low) / (high - low);
        limit.0 + libm::round(at * f64::from(limit.1 - limit.0)) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    /// A plain decimal without trailing zeros, or a power of ten.
    fn format_ext(&self, value: &f64) -> String {
        let exponent = libm::floor(libm::log10(value.abs()) + 1e-9);
        if *value != 0.0 && !(-3.5..5.5).contains(&exponent) {
            let factor = libm::round(value / power_of_ten(exponent as i32));
            return format!("{factor}e{exponent}");
        }
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}
