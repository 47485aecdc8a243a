//! The random words of a row, eight Philox blocks at a time: the words of [`Uniforms::row_words`], computed in vectors.
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the vectors"
)]

use crate::sus::uniform::{Layout, Uniforms};

/// Blocks computed together; each holds four words.
const BLOCKS: usize = 8;

/// Words that [`fill`] may write beyond those asked for.
pub(super) const SPARE: usize = 4 * BLOCKS + 4;

const LOW: u64 = 0xffff_ffff;

/// Writes the words of the `count` keys from `first` on of row `(b, h, i)` to `out[skip..skip + count]`, and returns `skip`.
///
/// `out` has room for `count + SPARE` words.
#[inline(always)]
pub(super) fn fill(
    uniforms: &Uniforms,
    [b, h, i]: [usize; 3],
    first: usize,
    count: usize,
    out: &mut [u32],
) -> usize {
    let grid = uniforms.grid();
    let bh = (b * grid.heads + h) as u64;
    let counter = match uniforms.layout() {
        Layout::Coord4 => [0, i as u64, bh, u64::from(uniforms.stream())],
        Layout::Linear4 => {
            let offset = (bh * grid.queries as u64 + i as u64) * grid.keys.div_ceil(4) as u64;
            [offset, 0, 0, u64::from(uniforms.stream())]
        }
        Layout::Linear1 | Layout::JaxThreefry => {
            uniforms.row_words(b, h, i, first, &mut out[..count]);
            return 0;
        }
    };
    let carries = uniforms.layout() == Layout::Linear4;
    let skip = first % 4;
    let chunks = (skip + count).div_ceil(4 * BLOCKS);
    let (chunked, _) = out.as_chunks_mut::<{ 4 * BLOCKS }>();
    for (chunk, out) in chunked[..chunks].iter_mut().enumerate() {
        let block = (first / 4 + chunk * BLOCKS) as u64;
        let mut state = counter.map(|word| [word; BLOCKS]);
        for (lane, (low, high)) in (0..).zip(state_words(&mut state)) {
            let number = counter[0] + block + lane;
            *low = number;
            if carries {
                *high = number >> 32;
            }
        }
        philox(&mut state, uniforms.seed());
        let (quads, _) = out.as_chunks_mut::<4>();
        for (lane, quad) in quads.iter_mut().enumerate() {
            *quad =
                [state[0][lane], state[1][lane], state[2][lane], state[3][lane]].map(|x| x as u32);
        }
    }
    skip
}

/// Counter words 0 and 1 of each block.
#[inline(always)]
fn state_words(
    [low, high, ..]: &mut [[u64; BLOCKS]; 4],
) -> impl Iterator<Item = (&mut u64, &mut u64)> {
    low.iter_mut().zip(high)
}

/// Philox4x32-10 on counters whose words sit in the low halves; the high halves of the result are arbitrary.
#[inline(always)]
fn philox(state: &mut [[u64; BLOCKS]; 4], seed: u64) {
    let mut key = [seed & LOW, seed >> 32];
    for _ in 0..10 {
        let [c0, c1, c2, c3] = *state;
        for lane in 0..BLOCKS {
            let product0 = 0xd251_1f53 * (c0[lane] & LOW);
            let product1 = 0xcd9e_8d57 * (c2[lane] & LOW);
            state[0][lane] = (product1 >> 32) ^ c1[lane] ^ key[0];
            state[1][lane] = product1;
            state[2][lane] = (product0 >> 32) ^ c3[lane] ^ key[1];
            state[3][lane] = product0;
        }
        key = [(key[0] + 0x9e37_79b9) & LOW, (key[1] + 0xbb67_ae85) & LOW];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sus::uniform::Grid;

    #[test]
    fn every_word_is_the_one_that_sus_u_1_defines() {
        let grid = Grid { batch: 3, heads: 2, queries: 70_000, keys: 90_001 };
        let mut out = [0; 200 + SPARE];
        for layout in Layout::ALL {
            for (seed, stream) in [(42, 0), (0xfedc_ba98_7654_3210, 7), (1, (1 << 31) - 1)] {
                let uniforms = Uniforms::new(seed, stream, layout, grid).unwrap();
                // The last rows have linear offsets beyond 2^32.
                for at in [[0, 0, 0], [1, 1, 3], [2, 1, 69_999]] {
                    for (first, count) in [(0, 0), (0, 1), (3, 1), (5, 96), (89_900, 101), (2, 200)]
                    {
                        let skip = fill(&uniforms, at, first, count, &mut out);
                        let mut expected = vec![0; count];
                        uniforms.row_words(at[0], at[1], at[2], first, &mut expected);
                        assert_eq!(out[skip..skip + count], expected, "{layout} {at:?} {first}");
                    }
                }
            }
        }
    }
}
