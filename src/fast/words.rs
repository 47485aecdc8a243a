//! The random words of a row, a vector of Philox blocks at a time: the words of [`Uniforms::row_words`], computed in vectors.
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the vectors"
)]

use crate::sus::uniform::{Layout, Uniforms};
use pulp::Simd;

/// Lanes of the widest vector: so many blocks, of four words each, are computed together at most.
const MAX_LANES: usize = 16;

/// Words that [`fill`] may write beyond those asked for.
pub(super) const SPARE: usize = 4 * MAX_LANES + 4;

/// The numbers of the lanes.
const LANES: [u32; MAX_LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Writes the words of the `count` keys from `first` on of row `(b, h, i)` to `out[skip..skip + count]`, and returns `skip`.
///
/// `out` has room for `count + SPARE` words.
#[inline(always)]
pub(super) fn fill<S: Simd>(
    simd: S,
    uniforms: &Uniforms,
    [b, h, i]: [usize; 3],
    first: usize,
    count: usize,
    out: &mut [u32],
) -> usize {
    let grid = uniforms.grid();
    let bh = (b * grid.heads + h) as u64;
    // The row's first block, and words 1 and 2 of the counter where the number of a block is word 0 alone.
    let (start, rest) = match uniforms.layout() {
        Layout::Coord4 => (0, Some([i as u32, bh as u32])),
        Layout::Linear4 => {
            ((bh * grid.queries as u64 + i as u64) * grid.keys.div_ceil(4) as u64, None)
        }
        Layout::Linear1 | Layout::JaxThreefry => {
            uniforms.row_words(b, h, i, first, &mut out[..count]);
            return 0;
        }
    };
    let skip = first % 4;
    let chunks = (skip + count).div_ceil(4 * S::U32_LANES);
    let lanes = S::as_simd_u32s(&LANES).0[0];
    for (chunk, out) in out.chunks_exact_mut(4 * S::U32_LANES).take(chunks).enumerate() {
        let block = start + (first / 4 + chunk * S::U32_LANES) as u64;
        let low = simd.add_u32s(simd.splat_u32s(block as u32), lanes);
        let (one, two) = if let Some([one, two]) = rest {
            (simd.splat_u32s(one), simd.splat_u32s(two))
        } else {
            let carries = simd.less_than_u32s(low, simd.splat_u32s(block as u32));
            let high = (block >> 32) as u32;
            let next = simd.splat_u32s(high.wrapping_add(1));
            let one = simd.select_u32s(carries, next, simd.splat_u32s(high));
            (one, simd.splat_u32s(0))
        };
        let stream = simd.splat_u32s(uniforms.stream());
        let words = philox(simd, [low, one, two, stream], uniforms.seed());
        let mut by_word = [[0; MAX_LANES]; 4];
        for (by_word, words) in by_word.iter_mut().zip(words) {
            S::as_mut_simd_u32s(by_word).0[0] = words;
        }
        let (quads, _) = out.as_chunks_mut::<4>();
        for (lane, quad) in quads.iter_mut().enumerate() {
            *quad = [by_word[0][lane], by_word[1][lane], by_word[2][lane], by_word[3][lane]];
        }
    }
    skip
}

/// Philox4x32-10, in each lane.
#[inline(always)]
fn philox<S: Simd>(simd: S, counter: [S::u32s; 4], seed: u64) -> [S::u32s; 4] {
    let factors = [simd.splat_u32s(0xd251_1f53), simd.splat_u32s(0xcd9e_8d57)];
    let mut key = [seed as u32, (seed >> 32) as u32];
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    for _ in 0..10 {
        let (low0, high0) = simd.widening_mul_u32s(c0, factors[0]);
        let (low1, high1) = simd.widening_mul_u32s(c2, factors[1]);
        c0 = simd.xor_u32s(simd.xor_u32s(high1, c1), simd.splat_u32s(key[0]));
        c2 = simd.xor_u32s(simd.xor_u32s(high0, c3), simd.splat_u32s(key[1]));
        (c1, c3) = (low1, low0);
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    [c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::Dispatch;
    use crate::sus::uniform::Grid;
    use pulp::WithSimd;

    struct Fill<'a> {
        uniforms: &'a Uniforms,
        row: [usize; 3],
        first: usize,
        count: usize,
    }

    impl WithSimd for Fill<'_> {
        type Output = Vec<u32>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<u32> {
            let Fill { uniforms, row, first, count } = self;
            let mut out = vec![0; count + SPARE];
            let skip = fill(simd, uniforms, row, first, count, &mut out);
            out[skip..skip + count].to_vec()
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
                    for dispatch in [Dispatch::Native, Dispatch::Portable] {
                        let words = dispatch.run(Fill { uniforms: &uniforms, row, first, count });
                        assert_eq!(words, expected, "{layout} {row:?} {first} {dispatch:?}");
                    }
                }
            }
        }
    }
}
