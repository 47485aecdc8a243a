//! Layouts: which counter, and which word of its block, belongs to a weight.

use super::arrival::KEYS_LOG2;
use crate::error::UniformError;
use std::fmt;
use std::str::FromStr;

/// How a weight's coordinates become a counter (`bh = b Hq + h`; `lo`, `hi` are the halves of a 64-bit number).
///
/// | layout | counter | key | word | equals |
/// |---|---|---|---|---|
/// | `coord4` | `(j >> 2, i, bh, stream)` | `(seed lo, seed hi)` | `j & 3` | `curand_init(seed, stream << 32 \| bh, 4 (i << 32 \| j >> 2) + (j & 3))` |
/// | `linear4` | `(off lo, off hi, 0, stream)`, `off = (bh Nq + i) ceil(Nk/4) + (j >> 2)` | the same | `j & 3` | Triton >= 3.4 `tl.randint4x(seed, off)` |
/// | `linear1` | `(off lo, off hi, 0, stream)`, `off = (bh Nq + i) Nk + j` | the same | 0 | Triton >= 3.4 `tl.randint(seed, off)` |
/// | `jax-threefry` | `(off hi, off lo)`, `off` as in `linear1` | `(seed hi, seed lo)` | xor of both | `jax.random.bits(key, (B, Hq, Nq, Nk), uint32)`, partitionable |
///
/// In the fifth layout, `arrival`, a word is no word of a block: it is made of the arrivals of a process that neighbouring keys share,
/// so that a kernel that needs only small words draws few (docs/arrival.md). Its counters are `(tag << 30 | cell << 4 | n, i, bh, stream)`.
///
/// The last column holds for stream 0, of `coord4` for every stream and for `i < 2^30`, where cuRAND's 64-bit
/// offset ends.
///
/// # Streams and large seeds
///
/// The libraries of the last column define no streams. `sus-u/1` defines:
///
/// - `linear4`, `linear1`: the stream is counter word 3, which Triton leaves at zero. A kernel then calls
///   `tl.philox(seed, off lo, off hi, 0, stream)`.
/// - `jax-threefry`: a stream other than 0 replaces the key by `jax.random.fold_in(key, stream)`, the Threefry2x32-20
///   block of counter `(0, stream)` under that key. Threefry is injective for one key, so no two streams share a key.
/// - `jax-threefry`: the key of a seed of `2^32` or more is that of JAX with `jax_enable_x64`. Without this option, JAX
///   drops the high half of the seed and reports nothing; seeds below `2^32` give the same key in both modes.
///
/// # For kernel authors
///
/// In Triton, linear offsets of `2^32` and more need `int64` tensors (`int32` wraps). Before Triton 3.4, an `int64`
/// offset selects `Philox4x64`, another generator, without an error.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
/// let grid = Grid { batch: 1, heads: 1, queries: 1, keys: 4 };
/// let first = |layout| Uniforms::new(42, 0, layout, grid).map(|uniforms| uniforms.word(0, 0, 0, 0));
/// // The first weight's counter is zero in all Philox layouts.
/// assert_eq!(first(Layout::Coord4)?, first(Layout::Linear4)?);
/// assert_eq!(first(Layout::Linear4)?, first(Layout::Linear1)?);
/// assert_eq!(first(Layout::JaxThreefry)?, 0x7d1c_13a2);
/// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Coordinates in the counter: the same words whatever the sizes, and four per block.
    #[default]
    Coord4,
    /// A linear index over blocks of four keys.
    Linear4,
    /// A linear index over weights, one block each: four times the work of `linear4`.
    Linear1,
    /// A linear index over weights, by Threefry2x32-20.
    JaxThreefry,
    /// Arrivals of a process of rate 1, drawn for many keys together: few words for a kernel that keeps few weights.
    Arrival,
}

impl Layout {
    /// Every layout: those of the table in its order, and `arrival`.
    pub const ALL: [Self; 5] =
        [Self::Coord4, Self::Linear4, Self::Linear1, Self::JaxThreefry, Self::Arrival];

    /// The name used in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coord4 => "coord4",
            Self::Linear4 => "linear4",
            Self::Linear1 => "linear1",
            Self::JaxThreefry => "jax-threefry",
            Self::Arrival => "arrival",
        }
    }

    /// The largest `|P(keep) - q|` of an entry whose 32-bit word decides: `2^-32`, and `2^-26` in `arrival`, where a word is made of
    /// several roundings (docs/arrival.md, "The law").
    #[must_use]
    pub const fn keep_error(self) -> f64 {
        match self {
            Self::Arrival => 1.0 / 67_108_864.0,
            _ => 1.0 / 4_294_967_296.0,
        }
    }

    /// The relative error of a kernel's own threshold for `q`, in units of its roundoff: 12 in `arrival`, where a kernel computes it
    /// by a logarithm and an exponential (docs/arrival.md, "What a kernel draws"); 0 where it is a word as it is.
    #[must_use]
    pub const fn threshold_roundoffs(self) -> f64 {
        match self {
            Self::Arrival => 12.0,
            _ => 0.0,
        }
    }

    /// The number of consecutive keys whose words are in one block; of `arrival`, in the high strip.
    pub(super) const fn words_per_block(self) -> usize {
        match self {
            Self::Coord4 | Self::Linear4 | Self::Arrival => 4,
            Self::Linear1 | Self::JaxThreefry => 1,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Layout {
    type Err = UniformError;

    fn from_str(name: &str) -> Result<Self, UniformError> {
        Self::ALL
            .into_iter()
            .find(|layout| layout.name() == name)
            .ok_or_else(|| UniformError::Layout { found: name.to_owned() })
    }
}

/// How many batches, query heads, queries and keys there are; zero is legal everywhere.
///
/// For packed sequences positions count within the segment, and segment `s` of sequence `b` counts as batch
/// `b S + s`; `queries` and `keys` stay the tensor's own, so that the linear layouts stay injective.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
/// let grid = Grid { batch: 2, heads: 4, queries: 18, keys: 7 };
/// // The same words in one long batch of heads.
/// let flat = Grid { batch: 1, heads: 8, ..grid };
/// let word = |grid, b, h| Uniforms::new(42, 0, Layout::Coord4, grid).map(|u| u.word(b, h, 5, 6));
/// assert_eq!(word(grid, 1, 3)?, word(flat, 0, 7)?);
/// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// `B`, the batch size, or the number of packed segments.
    pub batch: usize,
    /// `Hq`, the number of query heads.
    pub heads: usize,
    /// `Nq`, the number of queries.
    pub queries: usize,
    /// `Nk`, the number of keys.
    pub keys: usize,
}

impl Grid {
    /// Checks that `layout` gives no two weights of this grid the same word.
    pub(super) fn check(self, layout: Layout) -> Result<(), UniformError> {
        let Self { batch, heads, queries, keys } = self;
        let [batch, heads, queries, keys] = [batch, heads, queries, keys].map(|n| n as u128);
        if let Layout::Coord4 | Layout::Arrival = layout {
            let name = layout.name();
            let rows = batch * heads; // below 2^128
            if rows > 1 << 32 {
                return Err(UniformError::Heads { layout: name, found: rows });
            }
            if queries > 1 << 32 {
                return Err(UniformError::Queries { layout: name, found: queries });
            }
            let log2 = if layout == Layout::Coord4 { 34 } else { KEYS_LOG2 };
            if keys > 1 << log2 {
                return Err(UniformError::Keys { layout: name, log2, found: keys });
            }
            return Ok(());
        }
        // At least one block, so that the number of rows is limited, too.
        let blocks = keys.div_ceil(layout.words_per_block() as u128).max(1);
        let factors = [batch, heads, queries, blocks];
        // The product of two factors below 2^64 fits into 128 bits; the third one may overflow.
        let offsets = factors.iter().try_fold(1u128, |n, &factor| n.checked_mul(factor));
        if offsets.is_some_and(|offsets| offsets <= 1 << 64) {
            return Ok(());
        }
        Err(UniformError::Offsets { layout: layout.name(), factors })
    }

    /// `(b Hq + h, i)` of a row.
    ///
    /// # Panics
    ///
    /// If the row is outside the grid.
    pub(super) fn row(self, b: usize, h: usize, i: usize) -> (u64, u64) {
        let Self { batch, heads, queries, .. } = self;
        assert!(
            b < batch && h < heads && i < queries,
            "row (b, h, i): expected below ({batch}, {heads}, {queries}), found ({b}, {h}, {i})"
        );
        let bh = (b * heads + h) as u64;
        (bh, i as u64)
    }
}
