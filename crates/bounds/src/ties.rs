//! Ties: numbers of a set that are equal up to rounding, whose roundings so are correlated.
//!
//! Section 3.3 of `docs/bounds.md`, and "Ties" in `docs/verdict.md`.

use super::format::Format;
use super::limits::SMALLEST_TABLE;

/// Bits of the table for each number: one of 16 cells in which another number lies by chance is checked in vain.
const BITS: usize = 64;

/// The largest number of finite numbers within a few roundings of the largest of them; 1 where there is none.
pub(super) fn most_equal(mut numbers: Vec<f64>, u: f64) -> f64 {
    if numbers.len() >= SMALLEST_TABLE {
        numbers = may_be_equal(numbers, u);
    }
    numbers.sort_unstable_by(f64::total_cmp);
    let (mut most, mut first) = (1, 0);
    for (at, &x) in numbers.iter().enumerate() {
        while x - numbers[first] > spacing(x, u) {
            first += 1;
        }
        most = most.max(at + 1 - first);
    }
    most as f64
}

/// Two numbers within this distance below `x` may be one number in a kernel.
///
/// 4 = 2 + 2: a number that is rounded twice, at the scale and after it, moves by `2 u |x|` at most, and so does the other.
/// Scores below 1 count as 1: the relative error of `exp` is the absolute error of its argument.
fn spacing(x: f64, u: f64) -> f64 {
    4.0 * u * x.abs().max(1.0)
}

/// The numbers that may have a tie, in linear time. They are few, and sorted quickly.
///
/// Cells are four times as wide as tied numbers may be apart (the cell round zero is twice as wide again), so that the
/// cells of two tied numbers are the same or neighbours, whatever the quotient's rounding: it is below `1 / 16 u`.
/// The table has a bit for each cell, modulo its size: whether a number lies in the cell.
fn may_be_equal(numbers: Vec<f64>, u: f64) -> Vec<f64> {
    let width = 4.0 * numbers.iter().fold(0.0, |most: f64, &x| most.max(spacing(x, u)));
    if !width.is_finite() || numbers.iter().any(|x| !x.is_finite()) {
        return numbers;
    }
    let bits = (BITS * numbers.len()).next_power_of_two();
    let inverse = 1.0 / width;
    let cell = |x: f64| (x * inverse) as i64 as usize;
    let place = |cell: usize| (cell % bits / 64, 1_u64 << (cell % 64));
    let (mut once, mut twice) = (vec![0_u64; bits / 64], vec![0_u64; bits / 64]);
    for &x in &numbers {
        let (word, bit) = place(cell(x));
        twice[word] |= once[word] & bit;
        once[word] |= bit;
    }
    let is_in = |table: &[u64], cell: usize| {
        let (word, bit) = place(cell);
        table[word] & bit != 0
    };
    let mut numbers = numbers;
    numbers.retain(|&x| {
        let cell = cell(x);
        is_in(&twice, cell)
            || is_in(&once, cell.wrapping_sub(1))
            || is_in(&once, cell.wrapping_add(1))
    });
    numbers
}

/// How many of the numbers with these logarithms are tied to each of them, itself included, so that their roundings may be equal:
/// logarithms within a 16th of a roundoff (`docs/verdict.md`, "Ties").
///
/// In `f32` two logarithms and the border have three roundings, `3 2^-24 |log|` or `1.8e-7 |log|` together; with the rounding of the
/// argument that is at most `4e-7 |log|`.
pub(super) fn tied(logs: &[f32], format: Format) -> Vec<u32> {
    let within = (format.unit_roundoff() / 16.0) as f32;
    // In one word each, in the order of the numbers: all borders are found in one pass.
    let mut sorted: Vec<u64> =
        logs.iter().enumerate().map(|(at, &x)| u64::from(in_order(x)) << 32 | at as u64).collect();
    sorted.sort_unstable();
    let log = |at: usize| logs[sorted[at] as u32 as usize];
    let (mut first, mut after) = (0, 0);
    let mut tied = vec![0; logs.len()];
    for at in 0..sorted.len() {
        let x = log(at);
        let within = within.max(4.0e-7 * x.abs());
        // A border may lie before the last one: the roundings of the differences are not monotone near a power of two.
        while first > 0 && log(first - 1) >= x - within {
            first -= 1;
        }
        while first < at && log(first) < x - within {
            first += 1;
        }
        while after > at && log(after - 1) > x + within {
            after -= 1;
        }
        while after < sorted.len() && log(after) <= x + within {
            after += 1;
        }
        tied[sorted[at] as u32 as usize] = (after.max(at + 1) - first) as u32;
    }
    tied
}

/// The bits of a number, so that they have the order of [`f32::total_cmp`].
fn in_order(x: f32) -> u32 {
    let bits = x.to_bits();
    // All bits of a negative number are inverted, the sign of another one.
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By comparing all pairs.
    fn by_pairs(numbers: &[f64], u: f64) -> f64 {
        let near = |x: f64| numbers.iter().filter(|&&y| y <= x && x - y <= spacing(x, u)).count();
        numbers.iter().map(|&x| near(x)).max().unwrap_or(1).max(1) as f64
    }

    /// Clusters of numbers a few roundings apart, of either sign, among others that are alone.
    fn clusters(count: usize, step: f64, u: f64, scale: f64) -> Vec<f64> {
        let cluster = |n: usize| {
            let centre = scale * libm::sin((n * n) as f64);
            (0..=n % 4).map(move |m| centre + m as f64 * step * spacing(centre, u))
        };
        (0..count).flat_map(cluster).collect()
    }

    #[test]
    fn as_many_are_equal_as_all_pairs_say() {
        for bits in [24, 53] {
            let u = libm::ldexp(1.0, -bits);
            for (n, step) in [0.0, 0.4, 0.5, 0.99, 1.01].into_iter().enumerate() {
                let scale = libm::ldexp(3.0, 4 * n as i32 - 8);
                for count in [0, 1, 3, 300] {
                    let numbers = clusters(count, step, u, scale);
                    assert_eq!(most_equal(numbers.clone(), u), by_pairs(&numbers, u));
                }
            }
        }
    }

    #[test]
    fn a_number_with_a_tie_is_kept_also_across_the_border_of_two_cells() {
        for bits in [24, 53] {
            let u = libm::ldexp(1.0, -bits);
            for scale in [0.1, 1.0, 30.0] {
                let numbers = clusters(2000, 0.9, u, scale);
                let kept = may_be_equal(numbers.clone(), u);
                // Three of four clusters have more than one number.
                assert!(kept.len() < numbers.len(), "all are kept");
                for pair in numbers.windows(2).filter(|x| (x[1] - x[0]).abs() <= spacing(x[1], u)) {
                    assert!(pair.iter().all(|x| kept.contains(x)), "{pair:?}");
                }
            }
        }
    }

    #[test]
    fn none_one_and_the_same_number() {
        let u = libm::ldexp(1.0, -24);
        assert_eq!([most_equal(vec![], u), most_equal(vec![3.0], u)], [1.0; 2]);
        assert_eq!(most_equal(vec![-0.5; 1000], u), 1000.0);
        assert!(may_be_equal((0..1000).map(f64::from).collect(), u).len() < 300);
    }

    #[test]
    fn as_many_are_tied_as_a_comparison_with_all_of_them_says() {
        // The logarithms of a sine's values lie densely at one end; one in eight comes twice.
        let spread = (0..5000).map(|n: u32| libm::logf(libm::sinf((n - n / 8 % 2) as f32).abs()));
        let some: Vec<f32> = spread.map(|x| x.max(-700.0)).collect();
        // Both signs, each number some roundings from the next, across powers of two.
        let near = |n: u32| 8.0 * (1.0 + 1.5e-7 * (n as f32 - 500.0));
        let runs = (0..1000).flat_map(|n| [near(n), -near(n), near(n) - 8.0]).collect();
        for logs in [vec![], vec![-3.0], vec![0.0; 100], some, runs] {
            for format in [Format::F32, Format::Bf16] {
                let least = (format.unit_roundoff() / 16.0) as f32;
                let found = tied(&logs, format);
                for (&log, found) in logs.iter().zip(found) {
                    let within = least.max(4.0e-7 * log.abs());
                    let near = |x: &&f32| (log - within..=log + within).contains(*x);
                    assert_eq!(found as usize, logs.iter().filter(near).count(), "{log}");
                }
            }
        }
    }

    #[test]
    fn bits_in_order_are_those_of_the_numbers() {
        let numbers = [f32::NEG_INFINITY, -1e30, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1e30];
        assert!(numbers.windows(2).all(|pair| in_order(pair[0]) < in_order(pair[1])));
        assert!(in_order(1e30) < in_order(f32::INFINITY));
    }
}
