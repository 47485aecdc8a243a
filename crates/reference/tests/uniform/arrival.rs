//! The layout `arrival`: known answers, words up to a limit, and the law of its words.

use proptest::prelude::*;
use sus_reference::Error;
use sus_reference::forward::forward;
use sus_reference::sus::uniform::{Grid, Layout, Uniforms, keep32};
use sus_reference::sus::{Budget, Draw, Sampler, UniformBits, sample};

fn arrival(seed: u64, stream: u32, grid: Grid) -> Uniforms {
    Uniforms::new(seed, stream, Layout::Arrival, grid).expect("a small grid")
}

fn row(words: &Uniforms, bh: usize, i: usize) -> Vec<u32> {
    let mut out = vec![0; words.grid().keys];
    words.row_words(0, bh, i, 0, &mut out);
    out
}

/// From a program in Python that shares no code with this one, written from docs/arrival.md alone, where these numbers stand too.
#[test]
fn the_words_of_arrival_are_those_of_another_program() {
    let words = arrival(42, 0, Grid { batch: 1, heads: 4, queries: 18, keys: 128 });
    let first = row(&words, 3, 17);
    let expected = [
        0xa8bf_a70c,
        0x2198_c162,
        0x4406_c6c2,
        0x515a_1e5f,
        0xd645_ecba,
        0x6c2b_a728,
        0xaa4d_e796,
        0x994a_d00b,
        0xed4a_dd37,
        0xd18d_17df,
        0x6d2c_3ee9,
        0x152f_41df,
        0x432d_0ba4,
        0x32f9_d090,
        0x5a50_0800,
        0x0675_9714,
    ];
    assert_eq!(first[..16], expected);
    let kept = |q| (0..128).filter(|&j| keep32(q, first[j])).collect::<Vec<_>>();
    assert_eq!(kept(1.0 / 32.0), [15, 23, 88]);
    assert_eq!(kept(1.0 / 8.0), [11, 15, 23, 54, 61, 68, 73, 86, 88, 93, 127]);
    let some = [
        (0, 0x6d8d_0a03),
        (1, 0x900b_76bf),
        (8, 0x0a0f_3d49),
        (62, 0x03e4_e81a),
        (113, 0x0310_f2d9),
    ];
    assert!(some.iter().all(|&(j, x)| words.word(0, 0, 0, j) == x));
    let words = arrival((1 << 40) + 7, 5, Grid { batch: 1, heads: 12, queries: 301, keys: 3000 });
    let some = [
        (0, 0x58c3_4d16),
        (1023, 0x1bda_b1c9),
        (1024, 0xf0c1_be9c),
        (1181, 0x0011_b532),
        (2032, 0x001c_883c),
        (2999, 0xf8a6_5801),
    ];
    let last = row(&words, 11, 300);
    assert!(some.iter().all(|&(j, x)| last[j] == x), "{last:x?}");
    assert_eq!(last.iter().fold(0, |all, x| all ^ x), 0xcf55_fc28);
}

proptest! {
    #[test]
    fn words_up_to_a_limit_are_right_and_the_others_above_it(
        seed: u64, layout in prop::sample::select(&Layout::ALL),
        first in 0..2000usize, count in 0..1500usize, bits in 0..33_u32, low: u32,
    ) {
        let grid = Grid { batch: 1, heads: 1, queries: 1, keys: 3500 };
        let words = Uniforms::new(seed, 3, layout, grid).expect("a small grid");
        let limit = ((1_u64 << bits) - 1) as u32 & (low | (1_u64 << bits >> 1) as u32);
        let (mut all, mut small) = (vec![0; count], vec![0; count]);
        words.row_words(0, 0, 0, first, &mut all);
        words.row_words_up_to(0, 0, 0, first, limit, &mut small);
        for (all, small) in all.iter().zip(&small) {
            prop_assert!(all == small || *all.min(small) > limit, "{limit:x}: {all:x} {small:x}");
        }
    }
}

/// Counts of the words of `2^22` weights in classes that are fine where the strips are, and of pairs of neighbours: each within six
/// standard deviations, with 147 counts a false alarm has a probability of 3e-7 over the choice of the seed.
#[test]
fn the_words_are_uniform_and_those_of_neighbours_independent() {
    let (rows, keys) = (2048, 2048);
    let words = arrival(11, 0, Grid { batch: 1, heads: 1, queries: rows, keys });
    let bounds = [0.001, 0.002, 0.004, 0.0041, 0.006, 0.02, 0.06, 0.0667, 0.067, 0.1, 0.5, 0.9];
    let class = |x: u32| bounds.iter().filter(|&&q| !keep32(q, x)).count();
    let mut counts = [0_u32; 13];
    let mut pairs = [[0_u32; 13]; 13];
    for i in 0..rows {
        let row = row(&words, 0, i);
        let classes: Vec<usize> = row.iter().map(|&x| class(x)).collect();
        for &[a, b] in classes.as_chunks::<2>().0 {
            counts[a] += 1;
            counts[b] += 1;
            pairs[a][b] += 1;
        }
    }
    let share = |c: usize| {
        let at = |n: usize| if n == 12 { 1.0 } else { bounds[n] };
        at(c) - if c == 0 { 0.0 } else { at(c - 1) }
    };
    let near = |count: u32, p: f64, n: usize| {
        let mean = p * n as f64;
        // A count with a small mean has a longer tail than a normal one.
        (f64::from(count) - mean).abs() <= 6.0 * mean.max(9.0).sqrt()
    };
    for (a, (&count, pairs)) in counts.iter().zip(&pairs).enumerate() {
        assert!(near(count, share(a), rows * keys), "{a}: {count}");
        for (b, &count) in pairs.iter().enumerate() {
            let p = share(a) * share(b);
            assert!(near(count, p, rows * keys / 2), "{a} {b}: {count}");
        }
    }
}

#[test]
fn arrival_has_no_second_words_and_the_systematic_sampler_has_those_of_coord4() {
    let problem = sus_reference::problem::example();
    let saved = forward(&problem);
    let draw = Draw::paper(Budget::new(2.0).unwrap(), 7).with_layout(Layout::Arrival);
    let error = sample(&problem, &saved, &draw.with_bits(UniformBits::Bits64)).unwrap_err();
    assert_eq!(error, Error::option("uniform_bits", "32 in the layout arrival", 64));
    let systematic = draw.with_sampler(Sampler::Systematic);
    let other = systematic.with_layout(Layout::Coord4);
    assert_eq!(sample(&problem, &saved, &systematic), sample(&problem, &saved, &other));
}
