//! A verdict and its explanation as one page of HTML: for a colleague, or an artifact of continuous integration.
//!
//! The page needs no network, no other file and no script. It follows the reader's light or dark scheme, every level of a map has a mark of
//! its own beside its colour, and a click on a map opens its numbers by the fragment of the address alone (`:target`). All text from
//! files is escaped by `maud`, the template library, and control characters are written out. The same verdict gives the same bytes.
//!
//! Its size is bounded: a map has at most [`MAX_BINS`](sus_verdict::map::MAX_BINS) bins along each axis and the worst element of each,
//! a tensor at most [`MAX_GRIDS`](sus_verdict::map::MAX_GRIDS) maps, the page numbers for at most [`MAX_CELLS`] cells.

mod axes;
mod facts;
mod levels;
mod numbers;
mod page;
mod picture;
mod runs;
mod tensor;
mod tile;

pub use page::page;

/// Cells with numbers on one page, at most: ten heads of `64^2`. A cell takes about 70 bytes, so all of them 3 MB.
pub const MAX_CELLS: usize = 10 * 64 * 64;
