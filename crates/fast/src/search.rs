//! The candidates of a mask, found while the forward pass runs: the entries whose word is below the threshold that the lower bound
//! of `l` so far gives.

use super::decide::{Candidate, GRID};
use super::draw::{Drawing, TileDraw, decide_rows};
use super::lse_lower_bound::ScoreMean;
use super::philox_simd::{RowBits, SPARE, fill};
use super::running_softmax::Running;
use super::scores::{LANES, largest};
use super::simd::{MARKS, MAX_LANES, Real};
use super::tiles::{MAX_TILE, ROWS};
use super::visible::{Visible, within};
use aligned_vec::{AVec, avec};
use pulp::Simd;
use std::array::from_fn;
use std::ops::Range;
use sus_reference::problem::Row;
use sus_reference::sus::Layout;

/// About how many times per row the lower bound of the remaining keys' sum is computed.
const LOOK_AHEADS: usize = 4;

/// Rows that are searched before the candidates of the first of them are read, so that the data-dependent branches come after
/// the vector work of the whole group.
pub(super) const GROUP: usize = 8;

/// Blocks of [`MARKS`] vectors in a row of a tile, at most.
const BLOCKS: usize = MAX_TILE / MARKS;

/// The candidates of a row of a tile.
struct Search {
    words: AVec<u32>,
    /// The place of the word of the tile's first key.
    skip: usize,
    /// In each block of vectors and each lane, one bit for each vector with a candidate there.
    marks: [[u32; MAX_LANES]; BLOCKS],
}

impl Default for Search {
    fn default() -> Self {
        let words = avec![0; MAX_TILE + SPARE];
        Search { words, skip: 0, marks: [[0; MAX_LANES]; BLOCKS] }
    }
}

/// The memory of a search.
pub(super) struct Memory {
    searches: [Search; GROUP],
    /// Of each row.
    candidates: Vec<Vec<Candidate>>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { searches: from_fn(|_| Search::default()), candidates: vec![Vec::new(); ROWS] }
    }
}

/// The search of the rows of one tile.
pub(super) struct TileSearch<'a> {
    drawing: Drawing<'a>,
    rows: (usize, usize, Range<usize>),
    words: [RowBits; ROWS],
    /// Count and mean score of the keys still to come.
    lse_lower_bounds: [ScoreMean; ROWS],
    /// A lower bound of their part of `l`.
    rest: [f64; ROWS],
    memory: &'a mut Memory,
}

impl<'a> TileSearch<'a> {
    /// Of the rows `(b, h, rows)`.
    pub(super) fn new(
        drawing: Drawing<'a>,
        (b, h, rows): (usize, usize, Range<usize>),
        memory: &'a mut Memory,
    ) -> Self {
        memory.candidates.iter_mut().for_each(Vec::clear);
        let mask = drawing.decider.exact.mask();
        let words = from_fn(|r| {
            let place = mask.place((rows.start + r).min(rows.end - 1));
            let b = b * mask.segment_count() + place.segment;
            // From the first key on, none of them yet.
            RowBits {
                row: [b, h, place.query],
                first: -(place.first_key as i64),
                count: 0,
                limit: u32::MAX,
            }
        });
        let (lse_lower_bounds, rest) = ([ScoreMean::default(); ROWS], [0.0; ROWS]);
        TileSearch { drawing, rows: (b, h, rows), words, lse_lower_bounds, rest, memory }
    }

    /// Called before each of `count` tiles: every few tiles it updates the lower bound of the keys that follow the next tiles.
    pub(super) fn look_ahead<T: Real>(
        &mut self,
        (at, count): (usize, usize),
        (first, width): (usize, usize),
        visible: &Visible<'_, T>,
        running: &[Running],
    ) {
        let step = count.div_ceil(LOOK_AHEADS).max(2);
        let (Some(lse_lower_bounds), 0) = (self.drawing.lse_lower_bounds, at % step) else {
            return;
        };
        let exact = self.drawing.decider.exact;
        let (b, h, ref rows) = self.rows;
        let number = b * exact.sizes().key_heads + exact.key_head(h);
        for (r, i) in rows.clone().enumerate() {
            let Range { start, end } = visible.row(b, i);
            let to_come = (first + step * width).clamp(start, end)..end;
            self.lse_lower_bounds[r] =
                lse_lower_bounds.of(number, exact.q(Row { b, h, i }), &to_come);
            self.shift(r, running[r].m);
        }
    }

    /// The maximum of row `r` of the tile is now `m`.
    pub(super) fn shift(&mut self, r: usize, m: f64) {
        self.rest[r] = self.lse_lower_bounds[r].sum(m);
    }

    /// Searches some rows of a tile of exponentials, `tile`, that belongs to these `keys`; the rows of a [`GROUP`] at most. Each
    /// step runs over all rows, so that its operands stay in registers.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of its caller")]
    pub(super) fn search<S: Simd, T: Real>(
        &mut self,
        simd: S,
        group: Range<usize>,
        (tile, keys): (&[T::TileRow], &Range<usize>),
        visible: &Visible<'_, T>,
        running: &[Running],
    ) {
        let TileSearch { drawing, rows, words, rest, memory, .. } = self;
        let Memory { searches, candidates } = &mut **memory;
        let width = keys.len().next_multiple_of(T::PANEL);
        if drawing.decider.draw.layout == Layout::Arrival {
            for r in group.clone() {
                let l = running[r].l + rest[r];
                words[r].limit = limit::<S, T>(simd, drawing, &tile[r].as_ref()[..width], l);
            }
        }
        draw_words(drawing, (keys.start, width), &words[group.clone()], searches);
        for (r, search) in group.clone().zip(&mut *searches) {
            search.mark(simd, drawing, &tile[r].as_ref()[..width], running[r].l + rest[r]);
        }
        for (r, search) in group.zip(&*searches) {
            let seen = within(&visible.row(rows.0, rows.2.start + r), keys);
            let tile = (&tile[r].as_ref()[..width], keys.start, &seen);
            search.take::<S, T>(tile, running[r].m, &mut candidates[r]);
        }
    }

    /// The mask of the rows, which have run to their end.
    pub(super) fn decide<T: Real>(self, running: &[Running]) -> TileDraw {
        decide_rows::<T>(&self.drawing, self.rows, running, &self.memory.candidates)
    }
}

/// The largest word that [`Search::mark`] may mark: `2^32 c p / l` of the largest `p` of the row, with a step and a millionth more for
/// the rounding of the words and of the comparison to `T`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the instruction set of its caller")]
fn limit<S: Simd, T: Real>(simd: S, drawing: &Drawing<'_>, p: &[T], l: f64) -> u32 {
    let largest = largest(simd, p).to_f64();
    let word = drawing.decider.draw.c.get() / l * GRID * drawing.slack * largest;
    // A row that sees nothing has no sum, and no weight.
    if largest > 0.0 { (word * (1.0 + 1e-6) + 1.0) as u32 } else { 0 }
}

/// Draws the words of some rows of a tile of `width` keys that begins at key `first`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the instruction set of its caller")]
fn draw_words(
    drawing: &Drawing<'_>,
    (first, width): (usize, usize),
    rows: &[RowBits],
    searches: &mut [Search],
) {
    let here = |row: RowBits| RowBits { first: row.first + first as i64, count: width, ..row };
    let uniforms = drawing.decider.uniforms;
    for (rows, searches) in rows.chunks(2).zip(searches.chunks_mut(2)) {
        match (rows, searches) {
            (&[one, two], [a, b]) => {
                let out = [&mut a.words[..], &mut b.words];
                [a.skip, b.skip] = fill(uniforms, [here(one), here(two)], out);
            }
            (&[one, ..], [a, ..]) => [a.skip] = fill(uniforms, [here(one)], [&mut a.words]),
            _ => {}
        }
    }
}

impl Search {
    /// Marks the entries of the row whose word is at most `2^32 c p / l`, where `l` is not above that of the whole row; `p` is 0
    /// where it does not see the key.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of its caller")]
    fn mark<S: Simd, T: Real>(&mut self, simd: S, drawing: &Drawing<'_>, p: &[T], l: f64) {
        let words = &self.words[self.skip..][..p.len()];
        let limit = drawing.decider.draw.c.get() / l * GRID * drawing.slack;
        let limit = T::splat(simd, T::from_f64(-limit));
        let size = MARKS * size_of::<T::Vector<S>>() / size_of::<T>();
        let blocks = p.chunks(size).zip(words.chunks(size));
        for (to, (p, words)) in self.marks.iter_mut().zip(blocks) {
            let (mut marks, mut bit) = (T::no_marks(simd), 0);
            for (p, words) in p.as_chunks::<LANES>().0.iter().zip(words.as_chunks::<LANES>().0) {
                let words = words.map(T::from_word);
                let vectors = T::vectors::<S>(p).0.iter().zip(T::vectors::<S>(&words).0);
                for (&p, &word) in vectors {
                    marks = T::mark(simd, marks, T::multiply_add(simd, p, limit, word), bit);
                    bit += 1;
                }
            }
            *to = T::marks_of_lanes::<S>(marks);
        }
    }

    /// Appends the entries that are marked and among those `seen`, in any order; each is `p exp(shift)`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of its caller")]
    fn take<S: Simd, T: Real>(
        &self,
        (p, first, seen): (&[T], usize, &Range<usize>),
        shift: f64,
        candidates: &mut Vec<Candidate>,
    ) {
        let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
        for (block, marks) in self.marks[..p.len().div_ceil(MARKS * lanes)].iter().enumerate() {
            let (mut marked, mut count) = ([0; MAX_LANES], 0);
            for (lane, &bits) in marks[..lanes].iter().enumerate() {
                marked[count % MAX_LANES] = lane;
                count += usize::from(bits != 0);
            }
            for &lane in &marked[..count] {
                let mut bits = marks[lane];
                while bits != 0 {
                    let at = (block * MARKS + bits.trailing_zeros() as usize) * lanes + lane;
                    bits &= bits - 1;
                    // Words outside of the row's keys are undefined.
                    if seen.contains(&at) {
                        let (word, p) = (self.words[self.skip + at], p[at].to_f64());
                        candidates.push(Candidate { j: (first + at) as u32, word, p, shift });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dispatch;
    use crate::decide::Decider;
    use pulp::WithSimd;
    use sus_reference::problem::{Inputs, Options, Problem};
    use sus_reference::sus::sample::uniforms;
    use sus_reference::sus::{Budget, Draw};
    use sus_reference::tensor::Tensor;

    /// The candidates of the rows of a tile of 96 keys, of which each sees some; `p` is `base` there.
    struct Found<'a, T> {
        drawing: Drawing<'a>,
        seen: &'a [Range<usize>],
        base: T,
        l: f64,
    }

    const TILE: usize = 96;
    const FIRST: usize = 192;

    impl<T: Real> WithSimd for Found<'_, T> {
        type Output = Vec<Vec<Candidate>>;

        #[inline(always)]
        #[expect(clippy::inline_always, reason = "compiled for the instruction set of its caller")]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Found { drawing, seen, base, l } = self;
            let mut searches: Vec<Search> = seen.iter().map(|_| Search::default()).collect();
            let rows = (0..seen.len()).map(|i| RowBits {
                row: [0, 0, i],
                first: 0,
                count: 0,
                limit: u32::MAX,
            });
            let rows: Vec<RowBits> = rows.collect();
            draw_words(&drawing, (FIRST, TILE), &rows, &mut searches);
            let rows = searches.iter_mut().zip(seen).map(|(search, seen)| {
                let mut p = [T::zero(); TILE];
                p[seen.clone()].fill(base);
                search.mark(simd, &drawing, &p, l);
                // A word of 0 outside of what the row sees is no candidate.
                search.words[search.skip..][..seen.start].fill(0);
                search.words[search.skip + seen.end..].fill(0);
                search.mark(simd, &drawing, &p, l);
                let mut found = Vec::new();
                search.take::<S, T>((&p, FIRST, seen), 1.5, &mut found);
                found
            });
            rows.collect()
        }
    }

    fn found_is_what_the_words_say<T: Real>(exact: &Problem<f64>, base: T, l: f64) {
        let draw = Draw::paper(Budget::new(3.0).unwrap(), 5);
        let uniforms = uniforms(exact, &draw).unwrap();
        let seen = [0..96, 3..96, 0..50, 17..18, 40..40];
        for dispatch in Dispatch::ALL {
            let decider = Decider { exact, draw: &draw, uniforms: &uniforms, dispatch, widen: 1.0 };
            let drawing = Drawing {
                decider,
                key_norms: &[0.0],
                bias: 0.0,
                lse_lower_bounds: None,
                slack: 1.0,
            };
            let found = dispatch.run(Found { drawing, seen: &seen, base, l });
            for ((i, seen), mut found) in seen.iter().enumerate().zip(found) {
                found.sort_by_key(|candidate| candidate.j);
                let mut words = [0; TILE];
                uniforms.row_words(0, 0, i, FIRST, &mut words);
                let limit = 3.0 * GRID * base.to_f64() / l;
                let expected: Vec<(u32, u32)> = (0..TILE)
                    .filter(|at| seen.contains(at) && f64::from(words[*at]) <= limit)
                    .map(|at| ((FIRST + at) as u32, words[at]))
                    .collect();
                let pairs: Vec<(u32, u32)> = found.iter().map(|it| (it.j, it.word)).collect();
                assert_eq!(pairs, expected, "row {i}, {dispatch:?}");
                let same = |it: &Candidate| (it.p, it.shift) == (base.to_f64(), 1.5);
                assert!(found.iter().all(same), "row {i}, {dispatch:?}");
            }
        }
    }

    #[test]
    fn the_candidates_of_a_row_are_the_keys_that_it_sees_whose_words_are_small() {
        let tensor = |n| Tensor::zeros([1, 1, n, 2]);
        let (k, v) = (tensor(500), tensor(500));
        let inputs = Inputs::new(tensor(5), k, v, tensor(5));
        let exact = Problem::new(inputs, Options::default()).unwrap();
        // None, some in most lanes, several in each, all.
        for l in [1e12, 30.0, 6.0, 1.0] {
            found_is_what_the_words_say(&exact, 0.75_f64, l);
            found_is_what_the_words_say(&exact, 0.75_f32, l);
        }
    }
}
