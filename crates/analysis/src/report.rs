//! An analysis as JSON and as a table.

mod json;
mod table;

pub(crate) use json::{budget, gradients};

use crate::Analysis;
use crate::spread::Spread;
use crate::totals::{PerGradient, Totals};

impl Analysis {
    /// The sums of one setting over all heads.
    #[must_use]
    pub fn total(&self, setting: usize) -> Totals {
        let mut total = Totals::default();
        self.totals[setting].iter().for_each(|head| total.add(head));
        total
    }

    /// The relative increase of each gradient, of one key head or of all; `None` with fewer than two sequences.
    #[must_use]
    pub fn relative_increase(
        &self,
        variance: PerGradient<f64>,
        head: Option<usize>,
    ) -> Option<PerGradient<Option<f64>>> {
        increase(&self.gradients, variance, head)
    }
}

/// The relative increase of each gradient; `None` with fewer than two sequences.
fn increase(
    spread: &PerGradient<Spread>,
    variance: PerGradient<f64>,
    head: Option<usize>,
) -> Option<PerGradient<Option<f64>>> {
    (spread.dq.sequences() > 1).then(|| PerGradient {
        dq: spread.dq.relative_increase(variance.dq, head),
        dk: spread.dk.relative_increase(variance.dk, head),
        dv: spread.dv.relative_increase(variance.dv, head),
    })
}
