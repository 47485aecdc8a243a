//! The random bits of a row, equal to [`Uniforms::row_words`]: neighbouring Philox blocks are computed in the lanes of SIMD vectors.
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the vectors"
)]

use sus_reference::sus::uniform::{Layout, Uniforms};

/// Blocks of four words are computed in multiples of this many: the 64-bit lanes of the widest vector.
const BLOCKS: usize = 8;

/// Words that [`fill`] may write beyond those asked for.
pub(super) const SPARE: usize = 4 * BLOCKS + 4;

/// The lower half of a 64-bit number.
const LOW: u64 = 0xffff_ffff;

/// Words of a row: `count` of them, from key `first` on, which may lie before the first key that there is.
#[derive(Clone, Copy)]
pub(super) struct RowBits {
    /// `b`, `h` and `i`.
    pub(super) row: [usize; 3],
    pub(super) first: i64,
    pub(super) count: usize,
    /// Words above this one need not be right, only above it.
    pub(super) limit: u32,
}

/// Writes the words of key `first + n` to place `skip + n` of each row's `out`, and returns each row's `skip`; where there is no key,
/// any value. `out` has room for `count + SPARE` words. Two rows at a time fill more of the pipeline than one.
#[inline(always)]
pub(super) fn fill<const ROWS: usize>(
    uniforms: &Uniforms,
    words: [RowBits; ROWS],
    mut out: [&mut [u32]; ROWS],
) -> [usize; ROWS] {
    let grid = uniforms.grid();
    let stream = u64::from(uniforms.stream());
    let first_head = uniforms.first_head();
    let bh = |RowBits { row: [b, h, _], .. }: RowBits| (b * grid.heads + first_head + h) as u64;
    let block = |words: RowBits| words.first.div_euclid(4) as u64;
    match uniforms.layout() {
        Layout::Coord4 => {
            let counters = words.map(|words| {
                let [i, bh] = [words.row[2] as u64, bh(words)];
                (block(words), move |block| [block, i, bh, stream])
            });
            write(uniforms.seed(), words, &counters, out)
        }
        Layout::Linear4 => {
            let counters = words.map(|words| {
                let row = bh(words) * grid.queries as u64 + words.row[2] as u64;
                let start = (row * grid.keys.div_ceil(4) as u64).wrapping_add(block(words));
                (start, |block| [block, block >> 32, 0, stream])
            });
            write(uniforms.seed(), words, &counters, out)
        }
        Layout::Linear1 | Layout::JaxThreefry | Layout::Arrival => {
            for (words, out) in words.into_iter().zip(&mut out) {
                let RowBits { row: [b, h, i], first, count, limit } = words;
                // The keys that there are.
                let keys = first.max(0)..(first + count as i64).min(grid.keys as i64);
                if !keys.is_empty() {
                    let [start, end] = [keys.start, keys.end].map(|key| (key - first) as usize);
                    let out = &mut out[start..end];
                    uniforms.row_words_up_to(b, h, i, keys.start as usize, limit, out);
                }
            }
            [0; ROWS]
        }
    }
}

/// The words of neighbouring blocks: for each row the first one, and the counter of a block, of whose words the lower halves count.
#[expect(
    clippy::needless_range_loop,
    reason = "iterators of both rows are not turned into vectors"
)]
#[inline(always)]
fn write<const ROWS: usize>(
    seed: u64,
    words: [RowBits; ROWS],
    counters: &[(u64, impl Fn(u64) -> [u64; 4]); ROWS],
    out: [&mut [u32]; ROWS],
) -> [usize; ROWS] {
    let skips = words.map(|words| words.first.rem_euclid(4) as usize);
    let end = words.iter().zip(skips).map(|(words, skip)| skip + words.count).max().unwrap_or(0);
    let blocks = end.div_ceil(4).next_multiple_of(BLOCKS);
    let out = out.map(|out| &mut out.as_chunks_mut::<4>().0[..blocks]);
    for n in 0..blocks {
        for row in 0..ROWS {
            let (first, counter) = &counters[row];
            out[row][n] = philox(counter(first.wrapping_add(n as u64)), seed);
        }
    }
    skips
}

/// Philox4x32-10. Each word is kept in 64 bits with an undefined upper half, so that one 64-bit product gives both new words.
#[inline(always)]
fn philox(counter: [u64; 4], seed: u64) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    for _ in 0..10 {
        let products = [(c0 & LOW) * 0xd251_1f53, (c2 & LOW) * 0xcd9e_8d57];
        c0 = (products[1] >> 32) ^ c1 ^ u64::from(key[0]);
        c2 = (products[0] >> 32) ^ c3 ^ u64::from(key[1]);
        [c3, c1] = products;
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    [c0, c1, c2, c3].map(|word| word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dispatch;
    use pulp::{Simd, WithSimd};
    use sus_reference::sus::uniform::Grid;

    struct Fill<'a> {
        uniforms: &'a Uniforms,
        words: RowBits,
    }

    impl WithSimd for Fill<'_> {
        type Output = [Vec<u32>; 3];

        /// The words alone, and as the first and the second of two rows.
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> [Vec<u32>; 3] {
            let Fill { uniforms, words } = self;
            let other = RowBits { first: words.first + 1, row: [0, 1, 5], ..words };
            let mut out = [(); 5].map(|()| vec![0; words.count + SPARE]);
            let [alone, first, right, left, second] = out.each_mut().map(|out| &mut out[..]);
            let [skip] = fill(uniforms, [words], [alone]);
            let skips = fill(uniforms, [words, other], [first, right]);
            let more = fill(uniforms, [other, words], [left, second]);
            let [alone, first, _, _, second] = out;
            let found = [(alone, skip), (first, skips[0]), (second, more[1])];
            found.map(|(out, skip)| out[skip..skip + words.count].to_vec())
        }
    }

    #[test]
    fn every_word_is_the_one_that_sus_u_1_defines() {
        let grid = Grid { batch: 3, heads: 2, queries: 70_000, keys: 90_001 };
        // In this row of the linear layout the number of a block outgrows 32 bits.
        let blocks = 90_001_usize.div_ceil(4);
        let outgrows = (1 << 32) / blocks;
        let crossing = [1, outgrows / 70_000 - 2, outgrows % 70_000];
        let near = 4 * ((1 << 32) - outgrows * blocks - 9);
        for layout in Layout::ALL {
            for (seed, stream) in [(42, 0), (0xfedc_ba98_7654_3210, 7), (1, (1 << 31) - 1)] {
                let uniforms = Uniforms::new(seed, stream, layout, grid).unwrap();
                // The last rows have linear offsets beyond 2^32.
                let mut cases = vec![(crossing, near, 96), (crossing, near + 29, 8)];
                for row in [[0, 0, 0], [1, 1, 3], [2, 1, 69_999]] {
                    cases.extend(
                        [(0, 0), (0, 1), (3, 1), (5, 96), (89_900, 101), (2, 200)]
                            .map(|(first, count)| (row, first, count)),
                    );
                }
                for (row @ [b, h, i], first, count) in cases {
                    let mut expected = vec![0; count];
                    uniforms.row_words(b, h, i, first, &mut expected);
                    for dispatch in Dispatch::ALL {
                        let words = RowBits { row, first: first as i64, count, limit: u32::MAX };
                        for found in dispatch.run(Fill { uniforms: &uniforms, words }) {
                            assert_eq!(found, expected, "{layout} {row:?} {first} {dispatch:?}");
                        }
                        // The same words, where the first ones belong to no key.
                        let words =
                            RowBits { first: first as i64 - 70, count: count + 70, ..words };
                        for found in dispatch.run(Fill { uniforms: &uniforms, words }) {
                            assert_eq!(
                                found[70..],
                                expected,
                                "{layout} {row:?} {first} {dispatch:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
