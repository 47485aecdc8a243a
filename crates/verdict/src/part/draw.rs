//! A random part: rows and keys drawn by `ChaCha`, by the numbers of the problem or by a seed.

use super::ranges::{numbers, of_numbers};
use super::selection::Selection;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;
use sus_files::hash::sha256;
use sus_reference::problem::Sizes;

/// A selection with `count` rows and `count` keys, in the selected heads or, if none are selected, in a drawn one. All are drawn
/// where there are fewer. Rows or keys that are selected already stay as they are.
///
/// `digest` is that of the problem, which is the seed unless there is one.
///
/// # Examples
/// ```
/// use sus_verdict::part::{Selection, draw, ranges::numbers};
/// let sizes = sus_reference::problem::example().sizes();
/// let drawn = draw(Selection::default(), &sizes, 3, "digest", None);
/// assert_eq!(numbers(&drawn.rows.clone().unwrap()).len(), 3);
/// assert_eq!(drawn, draw(Selection::default(), &sizes, 3, "digest", None)); // it repeats
/// ```
#[must_use]
pub fn draw(
    selection: Selection,
    sizes: &Sizes,
    count: usize,
    digest: &str,
    seed: Option<u64>,
) -> Selection {
    let key = match seed {
        Some(seed) => format!("sus-oracle/part/1 seed {seed}"),
        None => format!("sus-oracle/part/1 problem {digest}"),
    };
    let rng = |stream: u64| {
        let mut rng = ChaCha8Rng::from_seed(sha256(key.as_bytes()));
        rng.set_stream(stream);
        rng
    };
    let some = |stream: u64, count: usize, of: usize| {
        let mut rng = rng(stream);
        let mut drawn = BTreeSet::new();
        while drawn.len() < count.min(of) {
            // Floyd's algorithm: each set of that size is equally likely.
            let next = of - count.min(of) + drawn.len();
            let at = below(&mut rng, next + 1);
            if !drawn.insert(at) {
                drawn.insert(next);
            }
        }
        of_numbers(&drawn.into_iter().collect::<Vec<_>>())
    };
    let heads = selection.heads.or_else(|| {
        let group = sizes.query_heads / sizes.key_heads;
        let head = numbers(&some(0, 1, sizes.key_heads));
        head.first().map(|&head| std::iter::once(head * group..(head + 1) * group).collect())
    });
    let rows = selection.rows.or_else(|| Some(some(1, count, sizes.queries)));
    let keys = selection.keys.or_else(|| Some(some(2, count, sizes.keys)));
    Selection { heads, rows, keys }
}

/// A number below `count`: 64 random bits as a fraction, so that no two numbers differ in probability by more than `2^-64`.
fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    ((u128::from(rng.next_u64()) * count as u128) >> 64) as usize
}
