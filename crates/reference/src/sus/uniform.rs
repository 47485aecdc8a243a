//! `sus-u/1`: a 32-bit word for every attention weight.
//!
//! The decision to keep a weight must not depend on the thread or the tile that takes it, so a weight's word is a
//! function of the seed, the stream and the weight's coordinates `(b, h, i, j)` alone: batch, query head, query, key.
//! [`Uniforms`] is that function. [`Layout`] maps the coordinates to a counter, [`keep32`] and [`keep64`] turn a word
//! into a decision, and [`forced_decision`] tells which decisions a kernel of limited precision may take the other way.
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
//! A `stream` below `2^31` numbers the draws that share a seed, such as layers or steps. The other half of the 32-bit
//! range, `stream | 2^31`, is that of the second words.

mod arrival;
mod decision;
mod layout;
mod philox;
mod row;
mod threefry;

pub use decision::{ForcedDecision, forced_decision, keep32, keep64, margin};
pub use layout::{Grid, Layout};
pub use philox::{philox4x32, philox4x32_10};
pub use threefry::threefry2x32;

pub use crate::error::UniformError;

use row::RowCounters;

/// The bit of the stream number that marks second words.
const SECOND: u32 = 1 << 31;

/// The words of all weights of one problem in one stream.
///
/// Positions are absolute and do not count padding. `h` is always a query head.
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
    first_head: usize,
}

impl Uniforms {
    /// The words of `seed` and `stream` over `grid`.
    ///
    /// # Errors
    ///
    /// If `stream >= 2^31`, or if the layout's counter is too small to tell all weights of the grid apart.
    pub fn new(seed: u64, stream: u32, layout: Layout, grid: Grid) -> Result<Self, UniformError> {
        if stream & SECOND != 0 {
            return Err(UniformError::Stream { found: stream });
        }
        grid.check(layout)?;
        Ok(Self { seed, stream, layout, grid, first_head: 0 })
    }

    /// The words of some heads of the grid, which are counted from this one.
    #[must_use]
    pub const fn from_head(self, first_head: usize) -> Self {
        Self { first_head, ..self }
    }

    /// The head of the grid from which heads are counted.
    #[must_use]
    pub const fn first_head(&self) -> usize {
        self.first_head
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream, below `2^31`.
    #[must_use]
    pub const fn stream(&self) -> u32 {
        self.stream
    }

    /// The layout.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The sizes.
    #[must_use]
    pub const fn grid(&self) -> Grid {
        self.grid
    }

    /// The word of the weight of key `j` for query `i` of head `h` of batch `b`.
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
        self.assert_keys(j, 1);
        self.row(self.stream, b, h, i).word(j)
    }

    /// The weight's word in `stream | 2^31`, by which [`keep64`] breaks ties.
    ///
    /// # Panics
    ///
    /// If a coordinate is outside the grid.
    #[must_use]
    pub fn second_word(&self, b: usize, h: usize, i: usize, j: usize) -> u32 {
        self.assert_keys(j, 1);
        self.row(self.stream | SECOND, b, h, i).word(j)
    }

    /// The word `x` of a row for the systematic sampler, `u = x / 2^32`: the second word at `j = 0`.
    ///
    /// # Panics
    ///
    /// If the row is outside the grid. A row without keys has a word, too.
    #[must_use]
    pub fn row_word(&self, b: usize, h: usize, i: usize) -> u32 {
        self.row(self.stream | SECOND, b, h, i).word(0)
    }

    /// Writes the [words](Self::word) of the keys `first, first + 1, ...` of one row to `out`.
    ///
    /// Equal to [`word`](Self::word) for each key, and about ten times faster: a block of four words is computed once,
    /// and several blocks at a time.
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
        self.assert_keys(first, out.len());
        self.row(self.stream, b, h, i).fill(first, out);
    }

    /// As [`row_words`](Self::row_words), but only the words up to `limit` are right: another one may be any number above `limit`.
    /// In the layout `arrival` this draws few words of the generator where the limit is small.
    ///
    /// # Panics
    ///
    /// As [`row_words`](Self::row_words).
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
    /// let grid = Grid { batch: 1, heads: 1, queries: 1, keys: 4096 };
    /// let uniforms = Uniforms::new(42, 0, Layout::Arrival, grid)?;
    /// let (mut all, mut small) = (vec![0; 4096], vec![0; 4096]);
    /// uniforms.row_words(0, 0, 0, 0, &mut all);
    /// uniforms.row_words_up_to(0, 0, 0, 0, 1 << 24, &mut small); // keep probabilities up to 1/256
    /// let agree = |(all, small): (&u32, &u32)| all == small || *all.min(small) > 1 << 24;
    /// assert!(all.iter().zip(&small).all(agree));
    /// # Ok::<(), sus_reference::sus::uniform::UniformError>(())
    /// ```
    pub fn row_words_up_to(
        &self,
        b: usize,
        h: usize,
        i: usize,
        first: usize,
        limit: u32,
        out: &mut [u32],
    ) {
        self.assert_keys(first, out.len());
        self.row(self.stream, b, h, i).fill_up_to(first, out, limit);
    }

    /// Panics unless the keys `first .. first + count` exist. In a linear layout, further keys would have the words of
    /// the next row.
    fn assert_keys(&self, first: usize, count: usize) {
        let keys = self.grid.keys;
        assert!(
            keys.checked_sub(first).is_some_and(|left| count <= left),
            "keys: expected at most {keys}, found {count} from {first} on"
        );
    }

    /// The counters of one row in a stream.
    fn row(&self, stream: u32, b: usize, h: usize, i: usize) -> RowCounters {
        let (bh, i) = self.grid.row(b, self.first_head + h, i);
        let (low, high) = (self.seed as u32, (self.seed >> 32) as u32);
        // JAX has the high half first, and folds a stream into the key (`Layout` has the table).
        let key = match (self.layout, stream) {
            (Layout::JaxThreefry, 0) => [high, low],
            (Layout::JaxThreefry, _) => threefry2x32([0, stream], [high, low], 20),
            _ => [low, high],
        };
        let blocks = self.grid.keys.div_ceil(self.layout.words_per_block()) as u64;
        let offset = match self.layout {
            Layout::Coord4 | Layout::Arrival => 0,
            _ => (bh * self.grid.queries as u64 + i) * blocks,
        };
        let layout = match self.layout {
            // Its second words, of which only a row's own is used, are those of `coord4`.
            Layout::Arrival if stream & SECOND != 0 => Layout::Coord4,
            layout => layout,
        };
        RowCounters { layout, key, stream, coordinates: [i as u32, bh as u32], offset }
    }
}
