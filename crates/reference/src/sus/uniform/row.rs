//! The words of one row, one at a time or many at once.

use super::arrival;
use super::layout::Layout;
use super::philox::philox4x32_10;
use super::threefry::threefry2x32;

/// The counters of one row `(b, h, i)` in one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowCounters {
    pub(super) layout: Layout,
    pub(super) key: [u32; 2],
    pub(super) stream: u32,
    /// `i` and `b Hq + h`: counter words 1 and 2 of `coord4` and `arrival`.
    pub(super) coordinates: [u32; 2],
    /// The first offset of the row in the linear layouts.
    pub(super) offset: u64,
}

impl RowCounters {
    /// The word of key `j`.
    pub(super) fn word(&self, j: usize) -> u32 {
        let mut word = [0];
        self.fill(j, &mut word);
        word[0]
    }

    /// Writes the words of the keys `first, first + 1, ...` to `out`.
    pub(super) fn fill(&self, first: usize, out: &mut [u32]) {
        self.fill_up_to(first, out, u32::MAX);
    }

    /// As [`fill`](Self::fill); a word above `limit` may be any other one above `limit`.
    pub(super) fn fill_up_to(&self, first: usize, out: &mut [u32], limit: u32) {
        match self.layout {
            Layout::Arrival => arrival::fill(first, out, self, limit),
            Layout::Coord4 => self.fill_coord4(first, out),
            Layout::Linear4 => fill(first, out, |n| self.linear(n)),
            Layout::Linear1 => fill(first, out, |n| [self.linear(n)[0]]),
            Layout::JaxThreefry => fill(first, out, |n| [self.jax(n)]),
        }
    }

    /// The words of `coord4`.
    pub(super) fn fill_coord4(&self, first: usize, out: &mut [u32]) {
        fill(first, out, |n| self.coord4(n));
    }

    fn coord4(&self, block: usize) -> [u32; 4] {
        let [i, bh] = self.coordinates;
        philox4x32_10([block as u32, i, bh, self.stream], self.key)
    }

    fn linear(&self, block: usize) -> [u32; 4] {
        let offset = self.offset + block as u64;
        philox4x32_10([offset as u32, (offset >> 32) as u32, 0, self.stream], self.key)
    }

    /// The stream of this layout is in the key.
    fn jax(&self, j: usize) -> u32 {
        let offset = self.offset + j as u64;
        let [x0, x1] = threefry2x32([(offset >> 32) as u32, offset as u32], self.key, 20);
        x0 ^ x1
    }
}

/// Writes the words from number `first` on, given those of any block of `N`.
///
/// Of the first and the last block, some words may be left out.
fn fill<const N: usize>(first: usize, out: &mut [u32], block: impl Fn(usize) -> [u32; N]) {
    let (mut number, skip) = (first / N, first % N);
    let mut rest = out;
    if skip > 0 {
        let (head, tail) = rest.split_at_mut(rest.len().min(N - skip));
        head.copy_from_slice(&block(number)[skip..skip + head.len()]);
        number += 1;
        rest = tail;
    }
    let (blocks, tail) = rest.as_chunks_mut();
    for (words, number) in blocks.iter_mut().zip(number..) {
        *words = block(number);
    }
    if !tail.is_empty() {
        tail.copy_from_slice(&block(number + blocks.len())[..tail.len()]);
    }
}
