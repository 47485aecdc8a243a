//! The expected count and the mask variance of a head against its budget, exact on a grid.
//!
//! With independent entries and `q = min(1, y / x)`, `y = W s_i`, `x = 1 / c`,
//!
//! ```text
//! count(x)    = #{y >= x} + sum_{y < x} y / x
//! variance(x) = sum_{y < x} A W^2 (1 - q) / q = x sum_{y < x} A W / s_i - sum_{y < x} A W^2
//! ```
//!
//! Both need sums over the entries below `x` alone. So the entries are added up by the interval of a fixed grid of `x` that
//! `y` falls into, and the running sums are exact at every point of the grid, for any number of entries.

use crate::totals::PerGradient;

/// Points of the grid per factor of 2: neighbours differ by 0.8 to 1.6 %.
const PER_OCTAVE: u64 = 1 << MANTISSA_BITS;
const MANTISSA_BITS: u32 = 6;
/// The grid runs from `2^LEAST` to `2^(LEAST + OCTAVES)`: `c` from 2^-24 to 2^48. A smaller `y` is below every point: such a
/// weight is never kept in practice.
const LEAST: i32 = -48;
const OCTAVES: u64 = 72;
/// Points of the grid.
const POINTS: usize = (OCTAVES * PER_OCTAVE) as usize;

/// The first bits of a positive `f64`, exponent and some of the mantissa: they grow with the number, so the grid is the
/// numbers that have no other bits.
const SHIFT: u32 = 52 - MANTISSA_BITS;
const FIRST: u64 = ((1023 + LEAST) as u64) << MANTISSA_BITS;

/// Point `n` of the grid.
pub(super) fn grid(n: usize) -> f64 {
    f64::from_bits((FIRST + n as u64) << SHIFT)
}

/// The number of the interval that `y > 0` is in: 0 below the grid, else one more than its lower end.
pub(super) fn interval(y: f64) -> usize {
    ((y.to_bits() >> SHIFT) + 1).saturating_sub(FIRST).min(POINTS as u64) as usize
}

/// Sums over some entries.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sums {
    /// Entries.
    pub(super) entries: f64,
    /// `sum y`.
    pub(super) y: f64,
    /// `sum A W / s`.
    pub(super) linear: f64,
    /// `sum A W^2`.
    pub(super) square: f64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.y += other.y;
        self.linear += other.linear;
        self.square += other.square;
    }
}

/// Sums over the entries of a head by intervals of the grid.
///
/// # Examples
/// ```
/// use sus_analysis::PerGradient;
/// use sus_analysis::layers::Curve;
/// // Two weights of one row, |d(dv)/dW~|^2 = 4: at c = 1 both are kept half of the time, as 1 for 1/2.
/// let mut curve = Curve::new(PerGradient { dq: 0.0, dk: 0.0, dv: 1.0 });
/// (0..2).for_each(|_| curve.add(0.5, 1.0, PerGradient { dq: 9.0, dk: 9.0, dv: 4.0 }));
/// let points = curve.points();
/// let at_one = points.iter().find(|point| point.c == 1.0).unwrap();
/// assert_eq!((at_one.count, at_one.variance), (1.0, 2.0 * 0.25 * 4.0));
/// ```
#[derive(Debug, Clone)]
pub struct Curve {
    factors: PerGradient<f64>,
    sums: Vec<Sums>,
}

/// One point of a curve, with what bounds the curve up to the next point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The budget, `1 / x`.
    pub c: f64,
    /// The expected number of kept entries.
    pub count: f64,
    /// The mask variance, of each gradient by its factor.
    pub variance: f64,
    /// The number of the grid point.
    pub(super) n: usize,
    pub(super) x: f64,
    /// Entries with `q = 1`.
    pub(super) kept: f64,
    /// Of the others.
    pub(super) below: Sums,
}

impl Curve {
    /// The curve of no entries. Its variance is that of `dq`, `dk` and `dv`, times these factors.
    #[must_use]
    pub fn new(factors: PerGradient<f64>) -> Self {
        Curve { factors, sums: vec![Sums::default(); POINTS + 1] }
    }

    /// Adds an entry of weight `w` in a row of scale `s`, with the `A = |d(gradient)/dW~|^2` of each gradient. An entry that is
    /// zero, or in a row of scale 0, is never kept and not added.
    pub fn add(&mut self, w: f64, s: f64, a: PerGradient<f64>) {
        if let Some((y, sums)) = entry(&self.factors, w, s, a) {
            self.sums[interval(y)].add(&sums);
        }
    }

    /// Adds the entries of another curve of the same factors.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.sums.iter_mut().zip(&other.sums).for_each(|(sums, other)| sums.add(other));
    }

    /// The points of the grid from the last at which everything is kept on, budgets falling; none without an entry.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let Some(first) = self.sums.iter().position(|sums| sums.entries > 0.0) else {
            return Vec::new();
        };
        let mut kept: f64 = self.sums.iter().map(|sums| sums.entries).sum();
        let mut below = Sums::default();
        let mut points = Vec::new();
        for n in 0..POINTS {
            let sums = &self.sums[n];
            below.add(sums);
            kept -= sums.entries;
            if n + 1 < first {
                continue;
            }
            let x = grid(n);
            points.push(Point {
                c: 1.0 / x,
                count: kept + below.y / x,
                variance: (x * below.linear - below.square).max(0.0),
                n,
                x,
                kept,
                below,
            });
        }
        points
    }
}

/// `y` of an entry and its sums, unless it is never kept.
pub(super) fn entry(
    factors: &PerGradient<f64>,
    w: f64,
    s: f64,
    a: PerGradient<f64>,
) -> Option<(f64, Sums)> {
    let y = w * s;
    let a = factors.dq * a.dq + factors.dk * a.dk + factors.dv * a.dv;
    (y > 0.0).then(|| (y, Sums { entries: 1.0, y, linear: a * w / s, square: a * w * w }))
}
