//! `sus-u/1`: the words, the sizes they exist for, and the decisions made from them.

mod arrival;
mod decisions;
mod sizes;
mod vectors;

use proptest::prelude::*;
use std::collections::HashSet;
use sus_reference::sus::uniform::{Grid, Layout, Uniforms, philox4x32_10};

const GRID: Grid = Grid { batch: 3, heads: 2, queries: 5, keys: 23 };

fn uniforms(seed: u64, stream: u32, layout: Layout) -> Uniforms {
    Uniforms::new(seed, stream, layout, GRID).expect("a small grid")
}

/// Every `(b, h, i)` of [`GRID`].
fn rows() -> impl Iterator<Item = (usize, usize, usize)> {
    let Grid { batch, heads, queries, .. } = GRID;
    (0..batch * heads * queries)
        .map(move |n| (n / queries / heads, n / queries % heads, n % queries))
}

proptest! {
    #[test]
    fn philox_agrees_with_another_implementation(counter: [u32; 4], key: [u32; 2]) {
        prop_assert_eq!(philox4x32_10(counter, key), rand_philox::philox4x32_10(counter, key));
    }

    #[test]
    fn a_row_at_once_is_the_row_word_by_word(
        seed: u64, stream in 0u32..1 << 31, layout in prop::sample::select(&Layout::ALL),
        h in 0..3usize, first in 0..90usize, count in 0..90usize,
    ) {
        let grid = Grid { batch: 1, heads: 3, queries: 2, keys: 180 };
        let uniforms = Uniforms::new(seed, stream, layout, grid).expect("a small grid");
        let mut row = vec![!uniforms.word(0, h, 1, first); count];
        uniforms.row_words(0, h, 1, first, &mut row);
        let one_by_one: Vec<u32> =
            (first..first + count).map(|j| uniforms.word(0, h, 1, j)).collect();
        prop_assert_eq!(row, one_by_one);
    }
}

#[test]
fn no_two_weights_share_a_word_in_layouts_of_four() {
    // Philox is a bijection for one key, so equal blocks would be equal counters.
    for layout in [Layout::Coord4, Layout::Linear4] {
        let mut seen = HashSet::new();
        for stream in 0..3 {
            let words = uniforms(7, stream, layout);
            for (b, h, i) in rows() {
                for j in (0..20).step_by(4) {
                    let first = [0, 1, 2, 3].map(|word| words.word(b, h, i, j + word));
                    let second = [0, 1, 2, 3].map(|word| words.second_word(b, h, i, j + word));
                    assert!(seen.insert(first) && seen.insert(second), "{layout} {b} {h} {i} {j}");
                }
            }
        }
        assert_eq!(seen.len(), 3 * 30 * 5 * 2);
    }
}

#[test]
fn no_two_weights_share_a_word_in_layouts_of_one() {
    // Words of 32 bits may be equal by chance; for this seed the 4140 of them are not.
    for layout in [Layout::Linear1, Layout::JaxThreefry] {
        let mut seen = HashSet::new();
        for stream in 0..3 {
            let words = uniforms(7, stream, layout);
            for (b, h, i) in rows() {
                for j in 0..GRID.keys {
                    assert!(seen.insert(words.word(b, h, i, j)), "{layout} {b} {h} {i} {j}");
                    assert!(seen.insert(words.second_word(b, h, i, j)), "{layout} {b} {h} {i} {j}");
                }
            }
        }
        assert_eq!(seen.len(), 3 * 30 * 23 * 2);
    }
}

#[test]
fn a_row_has_the_second_word_of_its_first_key() {
    for layout in Layout::ALL {
        let words = uniforms(42, 5, layout);
        for (b, h, i) in rows() {
            assert_eq!(words.row_word(b, h, i), words.second_word(b, h, i, 0));
        }
    }
}

#[test]
fn the_linear_layouts_hold_the_stream_in_the_last_counter_word() {
    let (seed, stream) = (0x1234_5678_9abc_def0, 9);
    for (layout, blocks, per_block) in [(Layout::Linear4, 6, 4), (Layout::Linear1, 23, 1)] {
        let words = uniforms(seed, stream, layout);
        let (b, h, i, j) = (2, 1, 4, 22);
        let offset = ((b * 2 + h) * 5 + i) * blocks + j / per_block;
        let block = |stream| {
            philox4x32_10([offset as u32, 0, 0, stream], [0x9abc_def0, 0x1234_5678])[j % per_block]
        };
        assert_eq!(words.word(b, h, i, j), block(stream));
        assert_eq!(words.second_word(b, h, i, j), block(stream | 1 << 31));
    }
}

/// Seed, stream, and the first two words of `jax.random.bits(key, (2, 1, 1, 2), uint32)` in the stream and in
/// `stream | 2^31`. `key` is `jax.random.key(seed)` in stream 0, else `jax.random.fold_in` of that and the
/// stream. From JAX 0.10.2 with `jax_enable_x64`.
type Jax = (u64, u32, [u32; 2], [u32; 2]);
const JAX: [Jax; 6] = [
    (42, 0, [0x7d1c_13a2, 0xae07_30d9], [0x78ef_02f4, 0xa3d6_20a9]),
    (42, 1, [0xba48_34c4, 0xc9b1_b012], [0x3fc4_a639, 0x7344_e639]),
    (42, 7, [0x9d13_046e, 0x7f04_26e3], [0x96d6_e7d9, 0x8785_d3bc]),
    (0x1_0000_0005, 0, [0x92ca_cecd, 0x76d1_9a90], [0x4df7_4c5e, 0x1881_64e9]),
    (0x1234_5678_9abc_def0, 7, [0xaf51_2ee6, 0x2427_a291], [0x03c5_dca5, 0xa819_936c]),
    (0x7fff_ffff_ffff_ffff, 0, [0x5c29_e8df, 0x54ab_a89e], [0x225c_b6a1, 0x8c84_b460]),
];

#[test]
fn jax_keys_have_64_bits_and_fold_in_the_stream() {
    let grid = Grid { batch: 2, heads: 1, queries: 1, keys: 2 };
    for (seed, stream, first, second) in JAX {
        let words = Uniforms::new(seed, stream, Layout::JaxThreefry, grid).expect("a small grid");
        assert_eq!([0, 1].map(|j| words.word(0, 0, 0, j)), first, "{seed:x} {stream}");
        assert_eq!([0, 1].map(|j| words.second_word(0, 0, 0, j)), second, "{seed:x} {stream}");
    }
}

#[test]
fn the_words_of_coord4_do_not_depend_on_the_sizes() {
    let large = Grid { batch: 9, heads: 2, queries: 1 << 20, keys: 1 << 33 };
    let large = Uniforms::new(3, 1, Layout::Coord4, large).expect("in range");
    let small = uniforms(3, 1, Layout::Coord4);
    for (b, h, i) in rows() {
        assert_eq!(large.word(b, h, i, 22), small.word(b, h, i, 22));
    }
}
