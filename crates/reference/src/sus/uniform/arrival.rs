//! Layout `arrival`: the words of a row from the arrivals of a process of rate 1 on the line of every key (docs/arrival.md).
//!
//! A key is kept if a point of its line lies below `-ln(1 - q)`, so with probability `q`, independently of the others. In terms of
//! `U = 1 - exp(-height)` its lowest point is a uniform number, and the word of a weight is `floor(2^32 U)`. The points of many lines
//! are drawn together, in the order of their heights: whoever needs only the words below a limit draws no others.

use super::philox::philox4x32_10;
use super::row::RowCounters;

/// Bits of a word.
const WORD_BITS: u32 = 32;

/// A cell ends where the product of its uniforms falls below `2^-CELL_DEPTH`: 4.2 points are expected in it.
const CELL_DEPTH: u32 = 6;

/// Blocks of four words that a cell has at most. It ends before, but with a probability below 1e-50.
const CELL_BLOCKS: u32 = 16;

/// A range of heights, and how many keys are drawn together there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strip {
    /// The upper bits of the first counter word.
    tag: u32,
    /// A cell has `2^cell_bits` keys.
    cell_bits: u32,
    /// `1 - U` at the lower end.
    start: f64,
}

/// Cells of 1024 keys, from the height 0 on.
const LOW: Strip = Strip { tag: 2, cell_bits: 10, start: 1.0 };

/// Cells of 64 keys; the low strip ends at `1 - U = 2^(-6/1024)`.
const MIDDLE: Strip = Strip { tag: 1, cell_bits: 6, start: f64::from_bits(0x3fef_decb_e15f_6314) };

/// Each key alone; the middle strip ends at `1 - U = 2^(-6/1024 - 6/64)`.
const HIGH: Strip = Strip { tag: 0, cell_bits: 0, start: f64::from_bits(0x3fed_dd79_e065_807d) };

/// The keys that a layout `arrival` has at most: the number of a key in the high strip, over four, has 30 bits.
pub(super) const KEYS_LOG2: u32 = 32;

/// The product of the uniforms of a cell, in units of `2^-word_bits`, after one more word.
///
/// The uniform is the middle of the numbers whose upper bits are those of the word; the lowest `cell_bits` bits choose the key. The
/// product is rounded down.
const fn product(before: u64, word: u32, cell_bits: u32, word_bits: u32) -> u64 {
    let keys = 1_u64 << cell_bits;
    let uniform = (word as u64 & !(keys - 1)) | (keys >> 1);
    (before * uniform) >> word_bits
}

impl Strip {
    /// The word of a point: `floor(2^32 U)` with `1 - U = start r^(1/T)`, `T = 2^cell_bits`, where `r` is the product of its uniforms.
    fn word(self, r: f64) -> u32 {
        let root = (0..self.cell_bits).fold(r, |r, _| libm::sqrt(r));
        ((1.0 - root * self.start) * 4_294_967_296.0) as u32
    }

    /// The words of a block of this strip.
    fn block(self, number: u32, row: &RowCounters) -> [u32; 4] {
        let [i, bh] = row.coordinates;
        philox4x32_10([self.tag << 30 | number, i, bh, row.stream], row.key)
    }

    /// Gives the points of a cell, a key of the cell and a word, to `visit`, in the order of their heights, those with a word above
    /// `limit` left out.
    fn points(self, cell: u32, row: &RowCounters, limit: u32, mut visit: impl FnMut(usize, u32)) {
        let mut r = 1 << WORD_BITS;
        for number in 0..CELL_BLOCKS {
            for word in self.block(cell << 4 | number, row) {
                r = product(r, word, self.cell_bits, WORD_BITS);
                if r < 1 << (WORD_BITS - CELL_DEPTH) {
                    return;
                }
                let x = self.word(r as f64 / 4_294_967_296.0);
                if x > limit {
                    return;
                }
                visit((word & ((1 << self.cell_bits) - 1)) as usize, x);
            }
        }
    }

    /// Lowers the words of the keys `first, first + 1, ...` to those of this strip's points.
    fn lower(self, first: usize, out: &mut [u32], row: &RowCounters, limit: u32) {
        let keys = first..first + out.len();
        for cell in first >> self.cell_bits..keys.end.div_ceil(1 << self.cell_bits) {
            self.points(cell as u32, row, limit, |key, x| {
                let j = (cell << self.cell_bits) + key;
                if keys.contains(&j) {
                    let word = &mut out[j - first];
                    *word = x.min(*word);
                }
            });
        }
    }
}

/// The word of the high strip at the lower end.
fn high_start() -> u32 {
    HIGH.word(1.0)
}

/// Writes the words of the keys `first, first + 1, ...` to `out`: those of at most `limit`, and `u32::MAX` or the word itself where
/// it is above.
pub(super) fn fill(first: usize, out: &mut [u32], row: &RowCounters, limit: u32) {
    out.fill(u32::MAX);
    if limit >= high_start() {
        row.fill_coord4(first, out);
        for word in &mut *out {
            *word = HIGH.word((f64::from(*word) + 0.5) / 4_294_967_296.0);
        }
    }
    if limit >= MIDDLE.word(1.0) {
        MIDDLE.lower(first, out, row, limit);
    }
    LOW.lower(first, out, row, limit);
}

#[cfg(test)]
mod tests;
