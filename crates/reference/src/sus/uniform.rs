//! `sus-u/1`: a 32-bit word for every attention weight.
//!
//! Whether a weight is kept must not depend on who asks, so its word is a function of the seed, the stream
//! and the weight's coordinates `(b, h, i, j)` alone: batch, query head, query, key. [`Uniforms`] is that
//! function, [`Layout`] says how coordinates become a counter, [`keep32`] and [`keep64`] turn a word into a
//! decision, and [`forced`] says which decisions a kernel of limited precision may take the other way.
//!
//! ```
//! use sus_reference::sus::uniform::{Grid, Layout, Uniforms, keep32};
//! let grid = Grid { batch: 1, heads: 4, queries: 32, keys: 32 };
//! let uniforms = Uniforms::new(42, 0, Layout::Coord4, grid)?;
//! let mut words = [0; 4];
//! uniforms.row_words(0, 0, 0, 0, &mut words);
//! assert_eq!(words, [0x9cea_f053, 0x77f5_493b, 0x12bf_50ad, 0x5742_b3d7]);
//! assert_eq!(uniforms.word(0, 3, 17, 6), 0x5bd2_4d90);
//! assert!(keep32(0.36, uniforms.word(0, 3, 17, 6)) && !keep32(0.35, uniforms.word(0, 3, 17, 6)));
//! # Ok::<(), sus_reference::sus::uniform::UniformError>(())
//! ```
//!
//! A `stream` below `2^31` numbers what shares a seed: the layer, the step. The other half of the 32-bit
//! range, `stream | 2^31`, is where a weight's second word comes from.

mod decision;
mod layout;
mod philox;
mod row;
mod threefry;

pub use decision::{ForcedDecision, forced_decision, keep32, keep64, margin};
pub use layout::{Grid, Layout};
pub use philox::{philox4x32, philox4x32_10};
pub use threefry::threefry2x32;

use row::Row;

/// The bit of the stream number that marks second words.
const SECOND: u32 = 1 << 31;

/// What is wrong with the description of a set of words.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
/// let grid = Grid { batch: 1, heads: 1, queries: 1, keys: 1 };
/// let error = Uniforms::new(0, 1 << 31, Layout::Coord4, grid).unwrap_err();
/// assert_eq!(error.to_string(), "stream: expected below 2^31, found 2147483648");
/// let wide = Grid { keys: (1 << 34) + 1, ..grid };
/// assert!(Uniforms::new(0, 0, Layout::Coord4, wide).is_err());
/// assert!(Uniforms::new(0, 0, Layout::Linear4, wide).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UniformError {
    /// No layout has this name.
    #[error("layout: expected coord4, linear4, linear1 or jax-threefry, found {found:?}")]
    Layout {
        /// The name.
        found: String,
    },
    /// The stream's upper bit is not ours to give.
    #[error("stream: expected below 2^31, found {found}")]
    Stream {
        /// The stream.
        found: u32,
    },
    /// `coord4` has 32 bits for `b Hq + h`.
    #[error("batch * heads: expected at most 2^32 in layout coord4, found {found}")]
    Heads {
        /// `B Hq`.
        found: u128,
    },
    /// `coord4` has 32 bits for `i`.
    #[error("queries: expected at most 2^32 in layout coord4, found {found}")]
    Queries {
        /// `Nq`.
        found: u128,
    },
    /// `coord4` has 32 bits for `j >> 2`.
    #[error("keys: expected at most 2^34 in layout coord4, found {found}")]
    Keys {
        /// `Nk`.
        found: u128,
    },
    /// The linear layouts have 64 bits for the offset.
    #[error(
        "batch * heads * queries * blocks of keys: expected at most 2^64 in layout {layout}, found {} * {} * {} * {}",
        factors[0], factors[1], factors[2], factors[3]
    )]
    Offsets {
        /// The layout.
        layout: Layout,
        /// `B`, `Hq`, `Nq` and the number of blocks in a row.
        factors: [u128; 4],
    },
}

/// The words of all weights of one problem in one stream.
///
/// Positions are absolute and unpadded. `h` is always a query head.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
/// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
/// let uniforms = Uniforms::new(42, 3, Layout::Linear4, grid)?;
/// let word = uniforms.word(0, 3, 17, 6);
/// assert_ne!(word, Uniforms::new(43, 3, Layout::Linear4, grid)?.word(0, 3, 17, 6));
/// assert_ne!(word, Uniforms::new(42, 4, Layout::Linear4, grid)?.word(0, 3, 17, 6));
/// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uniforms {
    seed: u64,
    stream: u32,
    layout: Layout,
    grid: Grid,
}

impl Uniforms {
    /// The words of `seed` and `stream` over `grid`.
    ///
    /// # Errors
    ///
    /// If `stream >= 2^31`, or if the layout's counter is too small to tell all weights of the grid apart.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 0, Layout::Coord4, grid)?;
    /// assert_eq!(uniforms.word(0, 0, 0, 0), 0x9ceaf053);
    /// assert_eq!(uniforms.word(0, 3, 17, 6), 0x5bd24d90);
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    pub fn new(seed: u64, stream: u32, layout: Layout, grid: Grid) -> Result<Self, UniformError> {
        if stream & SECOND != 0 {
            return Err(UniformError::Stream { found: stream });
        }
        grid.check(layout)?;
        Ok(Self { seed, stream, layout, grid })
    }

    /// The seed.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 3, Layout::Linear4, grid)?;
    /// assert_eq!(uniforms.seed(), 42);
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream, below `2^31`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 3, Layout::Linear4, grid)?;
    /// assert_eq!(uniforms.stream(), 3);
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    #[must_use]
    pub const fn stream(&self) -> u32 {
        self.stream
    }

    /// The layout.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 3, Layout::Linear4, grid)?;
    /// assert_eq!(uniforms.layout().name(), "linear4");
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The sizes.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 3, Layout::Linear4, grid)?;
    /// assert_eq!(uniforms.grid(), grid);
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    #[must_use]
    pub const fn grid(&self) -> Grid {
        self.grid
    }

    /// The word of the weight with which query `i` of head `h` of batch `b` looks at key `j`.
    ///
    /// # Panics
    ///
    /// If a coordinate is outside the grid.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// // `coord4` gives the same word whatever the sizes, a linear layout another one.
    /// let word = |layout, keys| {
    ///     let grid = Grid { batch: 1, heads: 4, queries: 18, keys };
    ///     Uniforms::new(42, 0, layout, grid).map(|uniforms| uniforms.word(0, 3, 17, 6))
    /// };
    /// assert_eq!(word(Layout::Coord4, 7)?, word(Layout::Coord4, 700)?);
    /// assert_ne!(word(Layout::Linear4, 7)?, word(Layout::Linear4, 700)?);
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    #[must_use]
    pub fn word(&self, b: usize, h: usize, i: usize, j: usize) -> u32 {
        self.expect_keys(j, 1);
        self.row(self.stream, b, h, i).word(j)
    }

    /// The weight's word in `stream | 2^31`, by which [`keep64`] breaks ties.
    ///
    /// # Panics
    ///
    /// If a coordinate is outside the grid.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 3, Layout::Linear4, grid)?;
    /// assert_ne!(uniforms.second_word(0, 3, 17, 6), uniforms.word(0, 3, 17, 6));
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    #[must_use]
    pub fn second_word(&self, b: usize, h: usize, i: usize, j: usize) -> u32 {
        self.expect_keys(j, 1);
        self.row(self.stream | SECOND, b, h, i).word(j)
    }

    /// The one word of a row that the systematic sampler uses, `u = x / 2^32`: the second word at `j = 0`.
    ///
    /// # Panics
    ///
    /// If the row is outside the grid. A row without keys has a word all the same.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 0, Layout::Coord4, grid)?;
    /// assert_eq!(uniforms.row_word(0, 3, 17), uniforms.second_word(0, 3, 17, 0));
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    #[must_use]
    pub fn row_word(&self, b: usize, h: usize, i: usize) -> u32 {
        self.row(self.stream | SECOND, b, h, i).word(0)
    }

    /// Writes the [words](Self::word) of the keys `first, first + 1, ...` of one row to `out`.
    ///
    /// The same words as one by one, about ten times faster: a block of four is computed once, and the
    /// processor works on several blocks at a time.
    ///
    /// # Panics
    ///
    /// If the row is outside the grid, or `first + out.len()` is above the number of keys.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 4, queries: 18, keys: 7 };
    /// let uniforms = Uniforms::new(42, 0, Layout::Linear4, grid)?;
    /// let mut row = [0; 5];
    /// uniforms.row_words(0, 3, 17, 2, &mut row);
    /// assert_eq!(row[4], uniforms.word(0, 3, 17, 6));
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    pub fn row_words(&self, b: usize, h: usize, i: usize, first: usize, out: &mut [u32]) {
        self.expect_keys(first, out.len());
        self.row(self.stream, b, h, i).fill(first, out);
    }

    /// Panics unless the keys `first .. first + count` exist: in a linear layout others alias the next row.
    fn expect_keys(&self, first: usize, count: usize) {
        let keys = self.grid.keys;
        assert!(
            keys.checked_sub(first).is_some_and(|left| count <= left),
            "keys: expected at most {keys}, found {count} from {first} on"
        );
    }

    fn row(&self, stream: u32, b: usize, h: usize, i: usize) -> Row {
        let (bh, i) = self.grid.row(b, h, i);
        let (low, high) = (self.seed as u32, (self.seed >> 32) as u32);
        let key = match (self.layout, stream) {
            (Layout::JaxThreefry, 0) => [high, low],
            (Layout::JaxThreefry, _) => threefry2x32([0, stream], [high, low], 20),
            _ => [low, high],
        };
        let blocks = self.grid.keys.div_ceil(self.layout.words_per_block()) as u64;
        let offset = match self.layout {
            Layout::Coord4 => 0,
            _ => (bh * self.grid.queries as u64 + i) * blocks,
        };
        Row { layout: self.layout, key, stream, coordinates: [i as u32, bh as u32], offset }
    }
}
