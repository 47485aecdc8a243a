//! The full distribution, by enumeration: every mask with its probability, for at most 20 stochastic entries.

use super::mask::MaskDistribution;
use super::row::RowDistribution;
use crate::backward::{Gradients, Weight, Weights, backward_from_weights};
use crate::error::Error;
use crate::problem::Row;
use crate::scalar::Field;
use std::ops::Range;

/// The largest number of stochastic entries that are enumerated: `2^20` masks.
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
/// With `n` stochastic entries, a systematic row has at most `n + 1` masks, an independent one `2^n`.
#[must_use]
pub fn row_masks<T: Field>(row: &RowDistribution<T>) -> Vec<RowMask<T>> {
    let always: Vec<usize> = (0..row.q.len()).filter(|&n| row.q[n] >= T::one()).collect();
    let mut masks = Vec::new();
    let mut push = |probability: T, stochastic: &[usize]| {
        let mut kept = always.clone();
        kept.extend_from_slice(stochastic);
        kept.sort_unstable();
        masks.push(RowMask { probability, kept });
    };
    if let Some(pieces) = &row.pieces {
        // A systematic mask: one per piece of positive length.
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
    let stochastic: Vec<usize> = (0..row.q.len()).filter(|&n| row.is_stochastic(n)).collect();
    // Independent entries: bit `at` tells whether stochastic entry `at` is kept.
    for bits in 0..1_u32 << stochastic.len() {
        let (mut probability, mut kept) = (T::one(), Vec::new());
        for (at, &n) in stochastic.iter().enumerate() {
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
struct MaskedWeights<'a, T, W> {
    distribution: &'a MaskDistribution<'a, T, W>,
    rows: &'a [RowDistribution<T>],
    kept: Vec<&'a [usize]>,
}

impl<T: Field, W: Weights<T>> Weights<T> for MaskedWeights<'_, T, W> {
    fn for_each(&self, row: Row, keys: Range<usize>, mut visit: impl FnMut(Weight<T>)) {
        let number = self.distribution.problem.row_number(row);
        let mut n = 0;
        self.distribution.weights.for_each(
            row,
            0..self.distribution.problem.sizes().keys,
            |weight| {
                if keys.contains(&weight.j) && self.kept[number].binary_search(&n).is_ok() {
                    visit(Weight { w: self.rows[number].kept[n], ..weight });
                }
                n += 1;
            },
        );
    }
}

/// Calls `visit` with the probability and the gradients of every mask.
///
/// # Errors
/// [`Error::TooLarge`] if more than [`MAX_STOCHASTIC`] entries are stochastic.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::{MaskDistribution, enumerate::for_each_gradient};
/// use sus_reference::sus::{Budget, Rule, Sampler};
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// let ramp = || Tensor::from_fn([1, 1, 2, 3], |[_, _, n, d]| (n as f64 - d as f64) / 2.0);
/// let inputs = Inputs::new(ramp(), ramp(), ramp(), ramp());
/// let problem = Problem::new(inputs, Options::default())?;
/// let saved = sus_reference::forward::forward(&problem);
/// let distribution = MaskDistribution::new(&problem, &saved, Budget::new(1.0)?, Rule::Paper, Sampler::Bernoulli);
/// let (mut masks, mut probability) = (0, 0.0);
/// for_each_gradient(&distribution, |p, _| (masks, probability) = (masks + 1, probability + p))?;
/// assert!(masks == 16 && (probability - 1.0_f64).abs() < 1e-15); // four stochastic entries
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn for_each_gradient<T: Field, W: Weights<T>>(
    distribution: &MaskDistribution<'_, T, W>,
    mut visit: impl FnMut(T, &Gradients<T>),
) -> Result<(), Error> {
    let rows: Vec<RowDistribution<T>> = (0..distribution.problem.row_count())
        .map(|at| distribution.row(distribution.problem.row(at)))
        .collect();
    let stochastic: usize =
        rows.iter().map(|row| (0..row.q.len()).filter(|&n| row.is_stochastic(n)).count()).sum();
    if stochastic > MAX_STOCHASTIC {
        return Err(Error::TooLarge {
            what: "stochastic entries of an enumeration",
            limit: (MAX_STOCHASTIC + 1).to_string(),
            found: stochastic.to_string(),
        });
    }
    let masks: Vec<Vec<RowMask<T>>> = rows.iter().map(row_masks).collect();
    let mut at = vec![0; masks.len()];
    loop {
        let picked = || masks.iter().zip(&at).map(|(masks, &n)| &masks[n]);
        let probability = picked().fold(T::one(), |p, mask| p * mask.probability);
        let kept = picked().map(|mask| mask.kept.as_slice()).collect();
        let weights = MaskedWeights { distribution, rows: &rows, kept };
        visit(
            probability,
            &backward_from_weights(distribution.problem, &weights, &distribution.delta),
        );
        // The next combination of row masks, as an odometer counts.
        let Some(turn) = (0..at.len()).find(|&row| at[row] + 1 < masks[row].len()) else {
            return Ok(());
        };
        at[turn] += 1;
        at[..turn].fill(0);
    }
}
