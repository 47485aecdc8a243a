//! The expectation of a kernel whose `P` or `dS` has 8 bits: which codes it may have, given the `o` that it stored.
//! `docs/verdict.md`, "8 bits".

use super::Judge;
use super::expectation::{Expectation, ExpectedGradients, OfEightBits};
use super::run::CandidateResult;
use crate::Mode;
use sus_bounds::{BoundsInput, Format, ForwardWay, Fp8, RoundingRange, RoundingRanges, StoredRows};

/// The results that are judged.
pub(super) const FOLLOWED: [&str; 5] = ["o", "lse", "dq", "dk", "dv"];

/// Rows that tell how `P` of the forward pass is rounded; all rows are compared with that.
const FIRST_ROWS: usize = 32;

/// Why an `o` is refused.
pub(super) const UNEXPLAINED: &str = "it is within half a step of E4M3 for each P, but no maximum that is tried explains how P is rounded in the forward pass; the recipe key any_forward judges it by that bound";

const WHAT: &str =
    "the truth is that of the rounded P and dS; no mean, slope or root mean square is judged";
const OWN_O: &str = "delta is that of the candidate's own o";
const NO_O: &str =
    "the candidate brings no o: delta is that of an o that explains its dq, if there is one";

impl Judge {
    /// What these results may be; without any, what those of a kernel may be whose forward pass rounds as its backward pass does.
    pub(super) fn of_8_bits(
        &self,
        (expectation, mode): (&Expectation, Mode),
        results: &[CandidateResult<'_>],
    ) -> ExpectedGradients {
        let finite = |name: &str| {
            let found = results.iter().find(|of| of.0 == name).map(|of| of.1);
            found.filter(|found| found.iter().all(|x| x.is_finite()))
        };
        let exact = self.input_of_8_bits(&self.exact, Mode::Exact);
        let forward = Fp8::new(&exact, error_of_lse(&self.exact));
        let input = self.input_of_8_bits(expectation, mode);
        let backward = Fp8::new(&input, error_of_lse(expectation));
        let way = self.forward_way((&forward, &backward), finite("o"), finite("dq"));
        let o = forward.whole_o(way);
        let stored = match mode {
            Mode::Given => Some(expectation.saved.o.as_slice()),
            Mode::Exact => finite("o"),
        };
        let of_delta = match stored {
            Some(o) => o.iter().map(|&x| RoundingRange { least: x, most: x }).collect(),
            None => o.ranges.clone(),
        };
        let delta = if stored.is_some() { OWN_O } else { NO_O };
        let notes = vec![WHAT.to_owned(), way.describe(), delta.to_owned()];
        let [dq, dk, dv] = backward.gradients(&of_delta);
        let mut gradients = expectation.gradients.clone();
        let values = &mut gradients.values;
        values.dq.as_mut_slice().copy_from_slice(&dq.reference);
        values.dk.as_mut_slice().copy_from_slice(&dk.reference);
        values.dv.as_mut_slice().copy_from_slice(&dv.reference);
        let bounds = &mut gradients.bounds;
        (bounds.dq, bounds.dk, bounds.dv) = (dq.bound, dk.bound, dv.bound);
        let (dq, dk, dv) = (dq.ranges, dk.ranges, dv.ranges);
        gradients.ranges =
            Some(RoundingRanges { o: o.ranges, dq, dk, dv, ..RoundingRanges::default() });
        (gradients.limits, gradients.known_o) = (None, None);
        let unexplained = way == ForwardWay::Any && !self.recipe.any_forward;
        gradients.of_8_bits = Some(OfEightBits { o: (o.reference, o.bound), unexplained, notes });
        gradients
    }

    fn input_of_8_bits<'a>(&'a self, of: &'a Expectation, mode: Mode) -> BoundsInput<'a> {
        BoundsInput::dense(&self.problem, &self.recipe, mode, &of.saved, &of.gradients.values)
    }

    /// How the forward pass rounds `P`: the first way that explains the whole `o`, and any if none does; without an `o`, the first that
    /// explains the whole `dq`.
    fn forward_way(
        &self,
        (forward, backward): (&Fp8<'_>, &Fp8<'_>),
        o: Option<&[f64]>,
        dq: Option<&[f64]>,
    ) -> ForwardWay {
        let (sizes, count) = (self.problem.sizes(), self.problem.row_count());
        let few: Vec<usize> = (0..count).step_by(count.div_ceil(FIRST_ROWS).max(1)).collect();
        let (of_o, of_dq) = (forward.prepare(&few), backward.prepare(&few));
        let may = |way: ForwardWay| match (o, dq) {
            (Some(o), _) => {
                let o = of_rows(o, sizes.value_features, &few);
                is_within(&o, &forward.o(way, &of_o), self.recipe.o)
            }
            (None, Some(dq)) => {
                let by_way = backward.dq(&forward.o(way, &of_o).ranges, &of_dq);
                is_within(&of_rows(dq, sizes.features, &few), &by_way, self.recipe.output)
            }
            (None, None) => true,
        };
        let explains = |way: ForwardWay| match (o, dq) {
            (Some(o), _) => is_within(o, &forward.whole_o(way), self.recipe.o),
            (None, Some(dq)) => {
                let [by_way, ..] = backward.gradients(&forward.whole_o(way).ranges);
                is_within(dq, &by_way, self.recipe.output)
            }
            (None, None) => true,
        };
        let mut ways = ForwardWay::known(sizes.keys).into_iter();
        let first = ways.find(|&way| may(way) && explains(way));
        let is_any = o.is_some() || self.recipe.any_forward;
        let none = if is_any { ForwardWay::Any } else { ForwardWay::Normalised };
        first.unwrap_or(none)
    }
}

/// The largest error of `lse` in a reference.
fn error_of_lse(of: &Expectation) -> f64 {
    let own = of.lse_errors.iter().flatten();
    own.copied().filter(|own| own.is_finite()).fold(0.0, f64::max)
}

/// Some rows of a tensor.
fn of_rows(x: &[f64], width: usize, rows: &[usize]) -> Vec<f64> {
    rows.iter().flat_map(|&row| &x[row * width..(row + 1) * width]).copied().collect()
}

/// Whether all numbers are what a right kernel may have: stored in the format, or better.
fn is_within(found: &[f64], expected: &StoredRows, format: Format) -> bool {
    if found.iter().all(|&x| format.round(x) == x) {
        return found.iter().zip(&expected.ranges).all(|(&x, range)| range.holds(x));
    }
    let bounds = expected.reference.iter().zip(&expected.bound.threshold);
    found.iter().zip(bounds).all(|(x, (reference, bound))| (x - reference).abs() <= *bound)
}
