//! How much of a deviation a supposition explains.
//!
//! Let `x` be the candidate's numbers, `t` the truth with bounds `b`, and `h` the numbers of a supposed kernel. Everything is
//! measured in bounds: the deviation `d = (x - t) / b`, the supposed error `w = (h - t) / b`, and what is left, `d - w`.
//!
//! **The allowance of an element** is `b + r max(|h - t|, m)`, with `r` the root mean square of the bounds over that of the truth
//! and `m` the root mean square of `h - t` over the row: the part that a wrong kernel adds is made of the same sums and stored in
//! the same format as the truth, and is rounded in the same proportion. It is no proof, as a bound is, and needs none: the verdict
//! has fallen, and only its explanation depends on it.
//!
//! Where a supposed kernel leaves the range of 32 bits, the candidate's infinities and NaN are left out: its own intermediate
//! results overflow earlier or later.

use crate::evidence::Output;

/// A number that no kernel of 32 bits stores.
const BEYOND_F32: f64 = f32::MAX as f64;

/// A supposition explains a deviation if at most this part of it is left (`sus_mutants::diagnosis` says why a tenth).
pub(crate) const EXPLAINED: f64 = 0.1;

/// Standard deviations of what is left, by which the deviation has to lie along the supposed error, if roundings hide most of it. Of
/// ten thousand suppositions, independent of the roundings, one does so with probability below `1e-10`: `2 * 10^4 * 6.2e-16`.
const SIGMAS: f64 = 8.0;

/// The deviation of some elements, and what a supposition leaves of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    /// The largest part that is left of an element, over its allowance.
    pub(crate) most: f64,
    /// The norm of what is left over that of the deviation.
    pub(crate) left: f64,
    /// Whether the deviation lies along the supposed error, once and as far as roundings show.
    pub(crate) is_along: bool,
    /// Whether the supposition changes anything beyond the bounds.
    pub(crate) shows: bool,
}

impl Fit {
    /// Whether the supposition is the cause on these elements: nothing but roundings is left.
    pub(crate) fn is_cause(&self) -> bool {
        self.most <= 1.0 && (self.left <= 0.5 || self.is_along)
    }

    /// Whether it explains nearly all, though more than roundings is left.
    pub(crate) fn explains_most(&self) -> bool {
        self.left <= EXPLAINED
    }

    /// Whether the numbers agree with the supposition, moved by it or not.
    pub(crate) fn agrees(&self) -> bool {
        self.most <= 1.0
    }
}

/// The difference of two numbers, zero if both are the same, NaN included.
fn difference(found: f64, supposed: f64) -> f64 {
    if found == supposed || (found.is_nan() && supposed.is_nan()) {
        return 0.0;
    }
    let difference = found - supposed;
    if difference.is_finite() { difference } else { f64::INFINITY }
}

fn is_number(x: f64) -> bool {
    x.is_finite() && x.abs() <= BEYOND_F32
}

/// The fewest finite numbers of an output that overflowed by which a kernel is recognised, as in `sus_mutants::diagnosis`.
const FEWEST_FINITE: usize = 6;

/// Compares a supposition with the candidate at some elements: `supposed[n]` belongs to `elements[n]`.
pub(crate) fn fit(output: &Output, elements: &[usize], supposed: &[f64]) -> Fit {
    fit_within(output, elements, supposed, |_| 0.0)
}

/// [`fit`] where the supposed numbers have bounds of their own, from elsewhere.
pub(crate) fn fit_within(
    output: &Output,
    elements: &[usize],
    supposed: &[f64],
    bound_of: impl Fn(usize) -> f64,
) -> Fit {
    let overflows = supposed.iter().any(|&h| !is_number(h) && !h.is_nan());
    let mut most: f64 = 0.0;
    let (mut all, mut rest, mut along, mut effect) = (0.0, 0.0, 0.0, 0.0);
    let mut largest_effect: f64 = 0.0;
    let mut compared = 0_usize;
    let width = output.shape[3].max(1);
    let widest = widest_bound(output, elements);
    let ratio = output.width.min(0.1);
    for (elements, supposed) in elements.chunks(width).zip(supposed.chunks(width)) {
        let effects =
            elements.iter().zip(supposed).map(|(&at, &h)| difference(h, output.truth[at]));
        let squares: f64 = effects.filter(|w| w.is_finite()).map(|w| w * w).sum();
        let of_row = libm::sqrt(squares / elements.len().max(1) as f64);
        for (&at, &h) in elements.iter().zip(supposed) {
            let (x, t) = (output.found[at], output.truth[at]);
            if overflows && !x.is_finite() {
                continue;
            }
            compared += 1;
            // The `lse` of a row that sees no key is infinite and has no rounding: what a kernel has there that sees some is
            // rounded like the rest.
            let own = if t.is_infinite() { widest } else { output.bound[at] };
            let b = own.max(bound_of(at)).max(f64::MIN_POSITIVE);
            let w = difference(h, t);
            let left = difference(x, h);
            let allowed = if w.is_finite() { b + ratio * w.abs().max(of_row) } else { b };
            most = most.max(left.abs() / allowed);
            let d = cut(difference(x, t) / b);
            let w = cut(w / b);
            let left = cut(left / b);
            all += d * d;
            rest += left * left;
            along += d * w;
            effect += w * w;
            largest_effect = largest_effect.max(w.abs());
        }
    }
    if overflows && compared < FEWEST_FINITE {
        most = f64::INFINITY;
        rest = f64::INFINITY;
    }
    let n = elements.len().max(1) as f64;
    let gain = if effect > 0.0 { along / effect } else { 0.0 };
    // What is left after the best multiple of the effect, for each element.
    let noise = libm::sqrt((all - gain * along).max(0.0) / n);
    let sigma = noise / libm::sqrt(effect.max(f64::MIN_POSITIVE));
    Fit {
        most,
        left: if all > 0.0 { libm::sqrt(rest / all) } else { f64::INFINITY },
        is_along: effect > 0.0
            && gain > SIGMAS * sigma
            && (gain - 1.0).abs() <= (4.0 * sigma).max(0.02),
        shows: largest_effect > 1.0,
    }
}

/// The largest bound of the elements whose truth is a number; needed, and computed, only where some truth is none.
fn widest_bound(output: &Output, elements: &[usize]) -> f64 {
    if elements.iter().all(|&at| output.truth[at].is_finite()) {
        return 0.0;
    }
    let numbers = (0..output.truth.len()).filter(|&at| output.truth[at].is_finite());
    numbers.map(|at| output.bound[at]).filter(|bound| bound.is_finite()).fold(0.0, f64::max)
}

/// A ratio that squares can be summed of.
fn cut(x: f64) -> f64 {
    if x.is_nan() { 1e100 } else { x.clamp(-1e100, 1e100) }
}

/// The multiple of `h` that is nearest to the candidate, and its standard error; `None` without numbers.
pub(crate) fn factor(output: &Output, elements: &[usize], supposed: &[f64]) -> Option<(f64, f64)> {
    let (mut xh, mut hh, mut xx, mut n) = (0.0, 0.0, 0.0, 0.0);
    for (&at, &h) in elements.iter().zip(supposed) {
        let (x, b) = (output.found[at], output.bound[at].max(f64::MIN_POSITIVE));
        if !is_number(x) || !is_number(h) {
            return None;
        }
        // In bounds that have the same size for all elements of a row where they are flat.
        let (x, h) = (cut(x / b), cut(h / b));
        xh += x * h;
        hh += h * h;
        xx += x * x;
        n += 1.0;
    }
    let factor = if hh > 0.0 { xh / hh } else { return None };
    let rest = (xx - factor * xh).max(0.0);
    Some((factor, libm::sqrt(rest / f64::max(n - 1.0, 1.0) / hh)))
}
