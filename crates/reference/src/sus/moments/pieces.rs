//! The mask of one systematic row as a step function of its uniform `u`.
//!
//! The points `u, u + 1, u + 2, ...` fall into the intervals `(C_{j-1}, C_j]` of the stochastic entries and select them.
//! As `u` rises from 0 to 1, a point moves from an entry to the next where `u` is the fractional part of `C_j`: one step
//! for each stochastic entry, at most `Nk`, hence at most `Nk + 1` pieces.

use crate::scalar::Ring;

/// One step: at `u = cut` a point leaves an entry and enters the next, if there is one.
///
/// # Examples
/// ```
/// use sus_reference::sus::moments::pieces::{Pieces, Step};
/// // Running sums 0.5 and 1.25: the two points u and u + 1 leave entry 1 at u = 0.25, and entry 0 at u = 0.5.
/// let last_left = Step { cut: 0.25, leaves: 1, enters: None };
/// let passed_on = Step { cut: 0.5, leaves: 0, enters: Some(1) };
/// assert_eq!(Pieces::new(&[0.5, 0.75]).steps, [last_left, passed_on]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<T> {
    /// The value of `u` at the step, in `(0, 1)`.
    pub cut: T,
    /// The stochastic entry that is kept below `cut` only.
    pub leaves: usize,
    /// The entry that is kept from `cut` on.
    pub enters: Option<usize>,
}

/// The mask of the stochastic entries of a row, for every `u` in `(0, 1)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pieces<T> {
    /// Stochastic entries kept just above `u = 0`, ascending.
    pub start: Vec<usize>,
    /// The steps, `u` ascending.
    pub steps: Vec<Step<T>>,
    /// The fractional part of `sum q`: the probability that one more than `floor(sum q)` is kept.
    pub fraction: T,
}

impl<T: Ring + PartialOrd> Pieces<T> {
    /// The pieces of a row of probabilities. Entries with `q = 0` or `q = 1` are not stochastic and are left out.
    ///
    /// # Panics
    /// If a probability is not a number.
    #[must_use]
    pub fn new(q: &[T]) -> Self {
        let (zero, one) = (T::zero(), T::one());
        let (mut start, mut steps) = (Vec::new(), Vec::<Step<T>>::new());
        let mut fraction = zero;
        let mut last: Option<usize> = None;
        for (n, &q) in q.iter().enumerate().filter(|&(_, &q)| zero < q && q < one) {
            if let Some(last) = last.filter(|_| fraction > zero) {
                steps.push(Step { cut: fraction, leaves: last, enters: Some(n) });
            }
            last = Some(n);
            let end = fraction + q;
            // Just above u = 0 the points are just above the integers.
            if fraction == zero || end > one {
                start.push(n);
            }
            fraction = if end < one { end } else { end - one };
        }
        if let Some(last) = last.filter(|_| fraction > zero) {
            steps.push(Step { cut: fraction, leaves: last, enters: None });
        }
        steps.sort_by(|a, b| a.cut.partial_cmp(&b.cut).expect("cuts are numbers"));
        Pieces { start, steps, fraction }
    }

    /// Calls `visit` with the length of each piece, in order, and before it with the step that leads to it.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::moments::pieces::Pieces;
    /// let pieces = Pieces::new(&[0.5, 0.75]);
    /// let (mut kept, mut masks) = (pieces.start.clone(), Vec::new());
    /// pieces.for_each(|step, length| {
    ///     if let Some(step) = step {
    ///         kept.retain(|&n| n != step.leaves);
    ///         kept.extend(step.enters);
    ///     }
    ///     masks.push((kept.clone(), length));
    /// });
    /// assert_eq!(masks, [(vec![0, 1], 0.25), (vec![0], 0.25), (vec![1], 0.5)]);
    /// ```
    pub fn for_each(&self, mut visit: impl FnMut(Option<&Step<T>>, T)) {
        let end = |n: usize| self.steps.get(n).map_or(T::one(), |step| step.cut);
        visit(None, end(0));
        for (n, step) in self.steps.iter().enumerate() {
            visit(Some(step), end(n + 1) - step.cut);
        }
    }

    /// `E[X Y]` for `X = x0 + sum_n x_n m_n` and `Y` likewise: the covariance, if `x0` and `y0` are minus the means.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::moments::pieces::Pieces;
    /// let pieces = Pieces::new(&[0.5, 0.75]);
    /// let (first, second) = (&[1.0, 0.0], &[0.0, 1.0]);
    /// assert_eq!(pieces.product((0.0, first), (0.0, second)), 0.25); // P(both are kept)
    /// assert_eq!(pieces.product((-0.5, first), (-0.75, second)), -0.125); // 1/4 - 1/2 * 3/4
    /// ```
    #[must_use]
    pub fn product(&self, (x0, x): (T, &[T]), (y0, y): (T, &[T])) -> T {
        let (mut at_x, mut at_y) = (x0, y0);
        for &n in &self.start {
            at_x += x[n];
            at_y += y[n];
        }
        let mut sum = T::zero();
        self.for_each(|step, length| {
            if let Some(step) = step {
                at_x -= x[step.leaves];
                at_y -= y[step.leaves];
                if let Some(n) = step.enters {
                    at_x += x[n];
                    at_y += y[n];
                }
            }
            sum += length * at_x * at_y;
        });
        sum
    }
}
