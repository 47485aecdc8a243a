//! Kernels whose `P` and `dS` have 8 bits: the truth is that of the rounded ones. Section 9 of `docs/bounds.md`.
//!
//! A step of E4M3 is up to an eighth of its number, one of E5M2 a quarter: half of it on either side of every `P` would allow
//! nearly anything. But before it is rounded a number is known to a few units of `f32`, so that its code is one in all right
//! kernels, unless the number is that close to the midpoint of two. So each code is an interval, nearly always of one number,
//! and a result is a sum of intervals.

mod forward;
mod gradients;
mod quantise;
mod sums;

pub use forward::ForwardWay;

use super::bound::Bound;
use super::context::BoundContext;
use super::input::BoundsInput;
use super::range::RoundingRange;
use super::row::RowErrors;
use super::sums::ElementError;
use rayon::prelude::*;
use sus_reference::problem::Row;

/// A problem and a recipe with a `P` or a `dS` of 8 bits, ready to compute what right kernels may have.
///
/// # Examples
/// ```
/// use sus_bounds::{BoundsInput, ForwardWay, Fp8, Mode, Recipe, Truth};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let truth = Truth::exact(&problem)?;
/// let (saved, gradients) = (truth.saved(), truth.gradients(None));
/// let recipe = Recipe::built_in("flash-fp8").unwrap().with_p_scale(256.0).with_ds_scale(1024.0);
/// let (mode, sample, ambiguous) = (Mode::Exact, None, None);
/// let input = BoundsInput { problem: &problem, recipe: &recipe, mode, saved: &saved, sample, ambiguous, gradients: &gradients };
/// let fp8 = Fp8::new(&input, 0.0);
/// let o = fp8.whole_o(ForwardWay::Normalised);
/// let [dq, ..] = fp8.gradients(&o.ranges);
/// // Most elements are one number of bf16.
/// let known = dq.ranges.iter().filter(|range| range.least == range.most).count();
/// assert!(known > dq.ranges.len() / 2);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub struct Fp8<'a> {
    context: BoundContext<'a>,
    /// The largest relative error of a weight that comes from the truth's own error of `lse`.
    of_lse: f64,
}

/// Some rows and their errors, computed once.
pub struct PreparedRows {
    rows: Vec<(Row, RowErrors)>,
}

/// The elements of a result: the truth of the rounded `P` and `dS`, the bounds about it, and the numbers it can be stored as.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredRows {
    /// The middles of the intervals.
    pub reference: Vec<f64>,
    /// The bounds about these.
    pub bound: Bound,
    /// The least and the largest number that each can be stored as.
    pub ranges: Vec<RoundingRange>,
}

impl<'a> Fp8<'a> {
    /// `of_lse` is the error of `lse` in the truth, 0 if it is exact.
    #[must_use]
    pub fn new(input: &'a BoundsInput<'a>, of_lse: f64) -> Self {
        let context = BoundContext { follows_known: true, ..BoundContext::new(input) };
        Fp8 { context, of_lse: libm::expm1(of_lse) }
    }

    /// Some rows, by their numbers.
    #[must_use]
    pub fn prepare(&self, rows: &[usize]) -> PreparedRows {
        let of_row = |&number: &usize| {
            let row = self.context.input.problem.row(number);
            (row, self.context.row_errors(row, self.context.input.mode))
        };
        PreparedRows { rows: rows.par_iter().map(of_row).collect() }
    }
}

impl StoredRows {
    fn push(&mut self, middle: f64, error: ElementError, range: RoundingRange) {
        self.reference.push(middle);
        self.bound.extend(Bound::from_elements([error]));
        self.ranges.push(range);
    }

    fn concat(all: Vec<Self>) -> Self {
        let mut rows = StoredRows::default();
        for more in all {
            rows.reference.extend(more.reference);
            rows.bound.extend(more.bound);
            rows.ranges.extend(more.ranges);
        }
        rows
    }
}
