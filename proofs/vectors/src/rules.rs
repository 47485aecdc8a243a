//! Samplers, rules, decisions and words: single rows and entries.

use crate::numbers::{Exact, Numbers};
use std::fmt::Display;
use sus_reference::sus::rule::{expected_count, keep_probability, kept_weight, water_level};
use sus_reference::sus::sampler::systematic;
use sus_reference::sus::uniform::{Grid, keep32, keep64};
use sus_reference::sus::{Layout, Uniforms};

const ZERO: Exact = Exact::new_raw(0, 1);
const ONE: Exact = Exact::new_raw(1, 1);

/// A list with its length in front.
pub fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let mut text = items.len().to_string();
    for item in items {
        text.push(' ');
        text.push_str(&item);
    }
    text
}

/// `systematic(q, u, most)`: now and then with `u = 0`, running sums that meet `u + k`, and a cut of the sums.
pub fn systematic_vector(numbers: &mut Numbers) -> String {
    let denominator = numbers.choose(&[1, 2, 3, 4, 6, 8, 10, 12, 60]);
    let q: Vec<Exact> = (0..numbers.below(13))
        .map(|_| match numbers.below(8) {
            0 => ONE,
            1 => ZERO,
            2 => numbers.part_of(7),
            _ => numbers.part_of(denominator),
        })
        .collect();
    let grid = numbers.choose(&[denominator, denominator, 5, 64, 1 << 32]);
    let u = match numbers.below(6) {
        0 => ZERO,
        _ => Exact::new(i128::from(numbers.word()) % grid, grid),
    };
    let sum: Exact = q.iter().sum();
    let most = match numbers.below(4) {
        0 => sum,
        1 => sum.ceil(),
        2 => sum + numbers.part_of(12),
        // Below the sum: the running sum is cut, as rounding could have it.
        _ => sum - numbers.part_of(12),
    };
    let kept = systematic(&q, u, most);
    format!("systematic {} {u} {most} {}", list(&q), list(kept))
}

/// `keep_probability`, `kept_weight`, and `expected_count` of a row.
pub fn keep_vector(numbers: &mut Numbers) -> String {
    let lambda = numbers.signed(9).max(Exact::new(1, 7)) + numbers.part_of(3);
    let w = match numbers.below(8) {
        0 => ZERO,
        1 => ONE / lambda,
        2 => -numbers.part_of(5),
        _ => numbers.part_of(24) / Exact::from_integer(numbers.between(1, 8) as i128),
    };
    let row: Vec<Exact> = (0..numbers.below(6)).map(|_| numbers.part_of(20)).collect();
    format!(
        "keep {lambda} {w} {} {} {} {}",
        keep_probability(lambda, w),
        kept_weight(lambda, w),
        list(&row),
        expected_count(lambda, &row)
    )
}

/// `water_level(c, weights)`, with ties, weights of 0 and budgets on both sides of the number of keys.
pub fn level_vector(numbers: &mut Numbers) -> String {
    let denominator = numbers.choose(&[4, 10, 16, 60, 1000]);
    let weights: Vec<Exact> = (0..numbers.below(10))
        .map(|_| match numbers.below(6) {
            0 => ZERO,
            1 => Exact::new(1, 4),
            _ => numbers.part_of(denominator),
        })
        .collect();
    let c = match numbers.below(3) {
        0 => Exact::from_integer(numbers.between(1, weights.len() + 1) as i128),
        _ => numbers.part_of(12) * Exact::from_integer(weights.len() as i128) + Exact::new(1, 9),
    };
    let level = match water_level(c, &weights) {
        None => "none".to_string(),
        Some(level) => format!("{} {}", level.lambda, level.rest),
    };
    format!("level {c} {} {level}", list(&weights))
}

/// A non-negative `f64` as its significand and its exponent.
fn parts(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
}

/// `keep32` and `keep64`, most of them with a word next to the threshold.
pub fn decision_vector(numbers: &mut Numbers) -> String {
    let fraction = f64::from(numbers.word()) / 4_294_967_296.0;
    let q = match numbers.below(8) {
        0 => 0.0,
        1 => 1.0,
        2 => 1.5,
        3 => fraction * 2f64.powi(-(numbers.below(60) as i32)),
        4 => fraction * 1e-300,
        _ => fraction + f64::from(numbers.word()) * 2f64.powi(-64),
    };
    let (x, second) = if numbers.one_in(3) {
        (numbers.word(), numbers.word())
    } else {
        let threshold = q * 4_294_967_296.0;
        let near = (threshold as u32).saturating_add(numbers.below(3) as u32).saturating_sub(1);
        let fraction = ((threshold - threshold.floor()) * 4_294_967_296.0) as u32;
        (near, fraction.saturating_add(numbers.below(3) as u32).saturating_sub(1))
    };
    let (significand, exponent) = parts(q);
    let kept = [keep32(q, x), keep64(q, x, || second)].map(u8::from);
    format!("decision {significand} {exponent} {x} {second} {} {}", kept[0], kept[1])
}

/// `Uniforms::word` and `second_word` in `coord4`, at coordinates of every size.
pub fn word_vector(numbers: &mut Numbers) -> String {
    let seed = u64::from(numbers.word()) << 32 | u64::from(numbers.word());
    let stream = numbers.word() >> numbers.between(1, 31);
    let heads = numbers.between(1, 1 << 15);
    let grid = Grid { batch: 1 << 16, heads, queries: 1 << 32, keys: 1 << 34 };
    let uniforms = Uniforms::new(seed, stream, Layout::Coord4, grid).expect("a legal grid");
    let (b, h) = (numbers.below(1 << 16), numbers.below(heads));
    let i = numbers.word() as usize >> numbers.below(32);
    let j = (numbers.word() as usize * 4 + numbers.below(4)) >> numbers.below(34);
    let words = [uniforms.word(b, h, i, j), uniforms.second_word(b, h, i, j)];
    format!("word {seed} {stream} {b} {heads} {h} {i} {j} {} {}", words[0], words[1])
}
