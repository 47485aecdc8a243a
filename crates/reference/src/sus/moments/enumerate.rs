//! The full law, by enumeration: every mask with its probability, where at most 20 entries are undecided.

use super::{Field, Law, RowDistribution};
use crate::backward::{Gradients, Weight, Weights, backward_from_weights};
use crate::error::Error;
use crate::problem::Row;
use std::ops::Range;

/// The most undecided entries that are enumerated: `2^20` masks.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::{Law, enumerate::for_each_gradient};
/// use sus_reference::sus::{Budget, Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// let law = Law::new(&problem, &saved, Budget::new(1.0)?, Rule::Paper, Sampler::Bernoulli);
/// // Hundreds of entries: refused before the first mask.
/// let error = for_each_gradient(&law, |_, _| unreachable!()).unwrap_err();
/// assert!(error.to_string().contains("expected fewer than 21"));
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub const MAX_STOCHASTIC: usize = 20;

/// A mask of one row: its probability and the indices of the entries that it keeps, ascending.
///
/// # Examples
/// ```
/// use sus_reference::sus::Sampler;
/// use sus_reference::sus::moments::{RowDistribution, enumerate::{RowMask, row_masks}};
/// let row = RowDistribution::new(Sampler::Systematic, 1.0, [0.25, 0.75].into_iter());
/// let first = RowMask { probability: 0.25, kept: vec![0] };
/// let second = RowMask { probability: 0.75, kept: vec![1] };
/// assert_eq!(row_masks(&row), [first, second]); // never both, never none
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RowMask<T> {
    /// The probability.
    pub probability: T,
    /// The kept entries.
    pub kept: Vec<usize>,
}

/// Every mask of a row that has a positive probability.
///
/// A systematic row has at most one mask more than undecided entries, an independent one `2^undecided`.
///
/// # Examples
/// ```
/// use sus_reference::sus::Sampler;
/// use sus_reference::sus::moments::{RowDistribution, enumerate::row_masks};
/// let law = |sampler| RowDistribution::new(sampler, 1.0, [0.5, 0.5].into_iter());
/// assert_eq!(row_masks(&law(Sampler::Bernoulli)).len(), 4);
/// assert_eq!(row_masks(&law(Sampler::Systematic)).len(), 2);
/// ```
#[must_use]
pub fn row_masks<T: Field>(row: &RowDistribution<T>) -> Vec<RowMask<T>> {
    let always: Vec<usize> = (0..row.q.len()).filter(|&n| row.q[n] >= T::one()).collect();
    let mut masks = Vec::new();
    let mut push = |probability: T, undecided: &[usize]| {
        let mut kept = always.clone();
        kept.extend_from_slice(undecided);
        kept.sort_unstable();
        masks.push(RowMask { probability, kept });
    };
    if let Some(pieces) = &row.pieces {
        let mut now = pieces.start.clone();
        pieces.for_each(|step, length| {
            if let Some(step) = step {
                now.retain(|&n| n != step.leaves);
                now.extend(step.enters);
            }
            if length > T::zero() {
                push(length, &now);
            }
        });
        return masks;
    }
    let undecided: Vec<usize> = (0..row.q.len()).filter(|&n| row.is_stochastic(n)).collect();
    for bits in 0..1_u32 << undecided.len() {
        let (mut probability, mut kept) = (T::one(), Vec::new());
        for (at, &n) in undecided.iter().enumerate() {
            if bits >> at & 1 == 1 {
                probability *= row.q[n];
                kept.push(n);
            } else {
                probability *= T::one() - row.q[n];
            }
        }
        push(probability, &kept);
    }
    masks
}

/// The weights of one mask.
struct Masked<'a, T, W> {
    law: &'a Law<'a, T, W>,
    rows: &'a [RowDistribution<T>],
    kept: Vec<&'a [usize]>,
}

impl<T: Field, W: Weights<T>> Weights<T> for Masked<'_, T, W> {
    fn for_each(&self, row: Row, keys: Range<usize>, mut visit: impl FnMut(Weight<T>)) {
        let number = self.law.problem.row_number(row);
        let mut n = 0;
        self.law.weights.for_each(row, 0..self.law.problem.sizes().keys, |weight| {
            if keys.contains(&weight.j) && self.kept[number].binary_search(&n).is_ok() {
                visit(Weight { w: self.rows[number].kept[n], ..weight });
            }
            n += 1;
        });
    }
}

/// Calls `visit` with the probability and the gradients of every mask.
///
/// # Errors
/// [`Error::TooLarge`] if more than [`MAX_STOCHASTIC`] entries are undecided.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::{Law, enumerate::for_each_gradient};
/// use sus_reference::sus::{Budget, Rule, Sampler};
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// let ramp = || Tensor::from_fn([1, 1, 2, 3], |[_, _, n, d]| (n as f64 - d as f64) / 2.0);
/// let inputs = Inputs::new(ramp(), ramp(), ramp(), ramp());
/// let problem = Problem::new(inputs, Options::default())?;
/// let saved = sus_reference::forward::forward(&problem);
/// let law = Law::new(&problem, &saved, Budget::new(1.0)?, Rule::Paper, Sampler::Bernoulli);
/// let (mut masks, mut probability) = (0, 0.0);
/// for_each_gradient(&law, |p, _| (masks, probability) = (masks + 1, probability + p))?;
/// assert!(masks == 16 && (probability - 1.0_f64).abs() < 1e-15); // four undecided entries
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn for_each_gradient<T: Field, W: Weights<T>>(
    law: &Law<'_, T, W>,
    mut visit: impl FnMut(T, &Gradients<T>),
) -> Result<(), Error> {
    let rows: Vec<RowDistribution<T>> =
        (0..law.problem.row_count()).map(|at| law.row(law.problem.row(at))).collect();
    let undecided: usize =
        rows.iter().map(|row| (0..row.q.len()).filter(|&n| row.is_stochastic(n)).count()).sum();
    if undecided > MAX_STOCHASTIC {
        return Err(Error::TooLarge {
            what: "undecided entries of an enumeration",
            limit: (MAX_STOCHASTIC + 1).to_string(),
            found: undecided.to_string(),
        });
    }
    let masks: Vec<Vec<RowMask<T>>> = rows.iter().map(row_masks).collect();
    let mut at = vec![0; masks.len()];
    loop {
        let picked = || masks.iter().zip(&at).map(|(masks, &n)| &masks[n]);
        let probability = picked().fold(T::one(), |p, mask| p * mask.probability);
        let kept = picked().map(|mask| mask.kept.as_slice()).collect();
        let weights = Masked { law, rows: &rows, kept };
        visit(probability, &backward_from_weights(law.problem, &weights, &law.delta));
        let Some(turn) = (0..at.len()).find(|&row| at[row] + 1 < masks[row].len()) else {
            return Ok(());
        };
        at[turn] += 1;
        at[..turn].fill(0);
    }
}
