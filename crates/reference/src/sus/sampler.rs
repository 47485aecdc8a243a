//! From keep probabilities to a mask: two joint distributions with the same marginals.
//!
//! - `bernoulli` (arXiv 2505.15080): independent, one word of `sus-u/1` per entry.
//! - `systematic`: one uniform `u` per row. Entries with `q = 1` are kept always; of the others, `j` is kept
//!   iff an integer lies in `(C_{j-1} - u, C_j - u]`, `C` the running sum of `q`. The row then keeps the floor or
//!   the ceiling of `sum_j q_ij`.

use super::uniform::{Uniforms, keep32, keep64};
use crate::error::Error;
use crate::scalar::Ring;
use std::fmt;
use std::str::FromStr;

/// The joint distribution of a row's mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampler {
    /// Independent entries.
    #[default]
    Bernoulli,
    /// One uniform per row. The count is the floor or the ceiling of its mean.
    Systematic,
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Sampler::Bernoulli => "bernoulli",
            Sampler::Systematic => "systematic",
        })
    }
}

impl FromStr for Sampler {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "bernoulli" => Ok(Sampler::Bernoulli),
            "systematic" => Ok(Sampler::Systematic),
            _ => Err(Error::option("sampler", "'bernoulli' or 'systematic'", format!("'{name}'"))),
        }
    }
}

/// How many bits decide an entry of the `bernoulli` sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UniformBits {
    /// One word: keep iff `x < q 2^32`.
    #[default]
    Bits32,
    /// A second word decides the fraction when `x = floor(q 2^32)`.
    Bits64,
}

/// Indices of the entries kept by independent draws; entry `n` of `q` is key `first_key + n` of row `(b, h, i)`.
///
/// # Panics
/// If the row, or one of the keys, is outside the grid of `uniforms`.
///
/// # Examples
/// ```
/// use sus_reference::sus::sampler::bernoulli;
/// use sus_reference::sus::{Layout, UniformBits, Uniforms, uniform::Grid};
/// let grid = Grid { batch: 1, heads: 1, queries: 1, keys: 3 };
/// let uniforms = Uniforms::new(42, 0, Layout::Coord4, grid)?;
/// let kept = bernoulli(&[1.0, 0.0, 1.0], &uniforms, UniformBits::Bits32, [0, 0, 0], 0);
/// assert_eq!(kept, [0, 2]);
/// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
/// ```
#[must_use]
pub fn bernoulli(
    q: &[f64],
    uniforms: &Uniforms,
    bits: UniformBits,
    [b, h, i]: [usize; 3],
    first_key: usize,
) -> Vec<usize> {
    let mut words = vec![0; q.len()];
    uniforms.row_words(b, h, i, first_key, &mut words);
    let keep = |&n: &usize| match bits {
        UniformBits::Bits32 => keep32(q[n], words[n]),
        UniformBits::Bits64 => {
            keep64(q[n], words[n], || uniforms.second_word(b, h, i, first_key + n))
        }
    };
    (0..q.len()).filter(keep).collect()
}

/// The row's uniform `word / 2^32`, exact in `f64`.
#[must_use]
pub fn row_uniform(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

/// Indices of the entries kept by systematic sampling with the uniform `u` in `[0, 1)`.
///
/// `most` is at least the sum of `q` in exact arithmetic. Running sums are limited to it, so that rounding cannot keep
/// more than `ceil(most)` entries.
///
/// If `k` entries were kept so far, `j` is kept iff `C_{j-1} < u + k <= C_j`. The comparison is exact in `f64`: `u + k`
/// is a multiple of `2^-32` below `2^21`.
///
/// # Examples
/// ```
/// use sus_reference::sus::sampler::systematic;
/// // Running sums 0.5, 1, 2, 2.5: kept where a number 0.25 + k lies between two of them.
/// let q = [0.5, 0.5, 1.0, 0.5];
/// assert_eq!(systematic(&q, 0.25, 2.5), [0, 2, 3]);
/// assert_eq!(systematic(&q, 0.75, 2.5), [1, 2]);
/// ```
#[must_use]
pub fn systematic<T: Ring + PartialOrd>(q: &[T], u: T, most: T) -> Vec<usize> {
    let always = q.iter().filter(|&&q| q >= T::one()).fold(T::zero(), |n, _| n + T::one());
    let mut kept = Vec::new();
    let mut sum = T::zero();
    // The first interval is open at C_0 = 0: with u = 0 the first integer is 1.
    let mut next = if u == T::zero() { T::one() } else { u };
    for (n, &q) in q.iter().enumerate() {
        if q >= T::one() {
            kept.push(n);
            continue;
        }
        // The budget of the entries that are not kept always limits their running sum.
        sum += q;
        if sum > most - always {
            sum = most - always;
        }
        // The next integer plus u lies in (C_{j-1}, C_j].
        if q > T::zero() && sum >= next {
            kept.push(n);
            next += T::one();
        }
    }
    kept
}
