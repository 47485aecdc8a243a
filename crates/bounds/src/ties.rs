//! How many numbers of a set are equal up to rounding, and so may round alike.

/// Numbers from which it is worth to find out first which may be equal to another.
const MANY: usize = 256;

/// Bits of the table for each number.
const BITS: usize = 64;

/// The largest number of finite numbers within a few roundings of the largest of them; 1 where there is none.
pub(super) fn most_equal(mut numbers: Vec<f64>, u: f64) -> f64 {
    if numbers.len() >= MANY {
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

fn spacing(x: f64, u: f64) -> f64 {
    4.0 * u * x.abs().max(1.0)
}

/// Without those that are far from all others, in linear time: the rest is few numbers, and sorted quickly.
///
/// Cells are four times as wide as numbers may be apart (that round zero twice as wide), so that those of two equal numbers are the
/// same or neighbours, whatever the quotient's rounding: it is below `1 / 16 u`. A bit for
/// each cell, modulo the size of the table, says whether a number is there.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// By looking at all pairs.
    fn plainly(numbers: &[f64], u: f64) -> f64 {
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
                    assert_eq!(most_equal(numbers.clone(), u), plainly(&numbers, u));
                }
            }
        }
    }

    #[test]
    fn whoever_has_an_equal_is_kept_also_across_the_border_of_two_cells() {
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
}
