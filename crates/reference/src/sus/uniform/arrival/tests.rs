//! The law of a cell by enumeration, at word sizes where that is possible, and the constants of the strips.

use super::{CELL_DEPTH, HIGH, LOW, MIDDLE, Strip, high_start, product};
use crate::scalar::{Dd, Scalar};

/// The probability that none of the keys `0, 1, ...` of a cell has a point with a product of at least its threshold, over all words
/// of `bits` bits: from the smallest product up, as every word lowers the product.
fn none_kept(bits: u32, cell_bits: u32, thresholds: &[u64]) -> f64 {
    let words = 1_u64 << bits;
    let least = *thresholds.iter().min().unwrap();
    assert!(least >= 1 << (bits - CELL_DEPTH), "the cell ends before");
    let mut from = vec![1.0; words as usize + 1];
    for before in least..=words {
        let rest = |word: u64| {
            let after = product(before, word as u32, cell_bits, bits);
            let key = (word & ((1 << cell_bits) - 1)) as usize;
            assert!(after < before);
            if thresholds.get(key).is_some_and(|&threshold| after >= threshold) {
                0.0
            } else {
                from[after as usize]
            }
        };
        from[before as usize] = (0..words).map(rest).sum::<f64>() / words as f64;
    }
    from[words as usize]
}

/// That probability is `prod (1 - q)`, up to the bound that docs/arrival.md derives, in steps of the words. The enumeration of all
/// sequences of words is exact but for the rounding of its sums, 1e-12. A bound that nothing comes near would prove little: the
/// largest share of it is asked for as well.
#[test]
fn the_flags_of_a_cell_are_independent_with_their_probabilities_up_to_the_derived_bound() {
    let bits = 11;
    let mut nearest = 0.0_f64;
    for cell_bits in [1, 2, 4] {
        let keys = f64::from(1 << cell_bits);
        for sets in [&[33_u64][..], &[40, 900], &[1000], &[2047, 2000], &[512], &[32, 32]] {
            let real = |threshold: u64| threshold as f64 / f64::from(1 << bits);
            let expected: f64 =
                sets.iter().map(|&threshold| libm::pow(real(threshold), 1.0 / keys)).product();
            let least = real(*sets.iter().min().unwrap());
            let depth = 1.0 - libm::log(least);
            let steps = depth * (depth / 2.0 + 1.0 + 1.0 / (keys * least));
            let bound = sets.len() as f64 * steps / f64::from(1 << bits);
            let error = (none_kept(bits, cell_bits, sets) - expected).abs();
            assert!(error <= bound + 1e-12, "{cell_bits} {sets:?}: {error:e} above {bound:e}");
            nearest = nearest.max(error / bound);
        }
    }
    assert!(nearest > 0.05, "{nearest}");
}

/// Each strip begins where the one below ends, at `2^-6` of its cells' products.
#[test]
fn the_strips_follow_each_other() {
    let end = |strip: Strip| {
        let keys = f64::from(1 << strip.cell_bits);
        let root = (Dd::from_f64(-f64::from(CELL_DEPTH) / keys) * Dd::from_f64(2.0).ln()).exp();
        Dd::from_f64(strip.start) * root
    };
    let near = |a: f64, b: Dd| (Dd::from_f64(a) - b).to_f64().abs() <= f64::EPSILON / 4.0;
    assert!(LOW.start == 1.0 && near(MIDDLE.start, end(LOW)) && near(HIGH.start, end(MIDDLE)));
    // So are the words, and none is left out.
    let last = libm::exp2(-f64::from(CELL_DEPTH));
    assert!(LOW.word(last) <= MIDDLE.word(1.0) && MIDDLE.word(last) <= high_start());
    assert!(MIDDLE.word(1.0) - LOW.word(last) <= 1 && high_start() - MIDDLE.word(last) <= 1);
}

/// The smallest and the largest word.
#[test]
fn the_words_reach_from_0_to_the_largest() {
    for strip in [LOW, MIDDLE] {
        let first = product(1 << 32, u32::MAX, strip.cell_bits, 32);
        assert_eq!(strip.word(first as f64 / 4_294_967_296.0), strip.word(1.0), "{strip:?}");
    }
    assert_eq!(LOW.word(1.0), 0);
    assert_eq!(HIGH.word(0.5 / 4_294_967_296.0), u32::MAX);
}

/// `U` as docs/arrival.md says that a kernel computes it in `f32`, from the product in 32-bit integers.
fn in_f32(strip: Strip, product: u32) -> f32 {
    let (step, keys) = (2.0_f32.powi(-32), (1_u32 << strip.cell_bits) as f32);
    let log = if product >= 1 << 31 {
        libm::log1pf(-(product.wrapping_neg() as f32 * step))
    } else {
        libm::logf(product as f32 * step)
    };
    let start = -libm::log(strip.start) as f32;
    -libm::expm1f(-(start - log / keys))
}

/// The functions here are good to an ulp, so the errors are below the bound, which allows two; and they are not absent. (`1 - exp(-y)`
/// errs by a thousand roundoffs.)
#[test]
fn a_kernel_in_f32_finds_the_threshold_of_a_point_to_twelve_roundoffs() {
    let mut largest = 0.0_f64;
    for strip in [LOW, MIDDLE] {
        let spread = (0..20_000_u32).map(|n| n.wrapping_mul(0x9e37_79b9));
        let near_one =
            (0..64).map(|n| u32::MAX - ((n << strip.cell_bits) | (1 << strip.cell_bits >> 1)) + 1);
        for product in spread.chain(near_one).filter(|&product| product >= 1 << 26) {
            let r = Dd::from_f64(f64::from(product) / 4_294_967_296.0);
            let root = (0..strip.cell_bits).fold(r, |r, _| r.sqrt());
            let exact = (Dd::from_f64(1.0) - root * Dd::from_f64(strip.start)).to_f64();
            let error = (f64::from(in_f32(strip, product)) - exact).abs() / exact;
            largest = largest.max(error * 16_777_216.0);
        }
    }
    assert!(largest <= 12.0 && largest > 1.0, "{largest}");
}
