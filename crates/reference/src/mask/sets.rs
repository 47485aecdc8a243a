//! Sets of keys that differ from query to query: a mask by elements, a mask by blocks, a list of keys.
//!
//! Each is asked the same question: from a key on, the next run of keys that a row may see.

use crate::error::Error;
use crate::problem::{Row, Sizes};
use std::ops::Range;
use std::sync::Arc;

/// The keys that rows may see, in one of three forms.
///
/// # Examples
/// ```
/// use sus_reference::mask::{Indices, KeySet};
/// use sus_reference::problem::{Options, Problem};
/// let example = sus_reference::problem::example(); // Nq = 7, Nk = 11
/// // Every query sees keys 2, 3 and 9; -1 stands for no key.
/// let list: Vec<i64> = (0..7).flat_map(|_| [9, -1, 2, 3]).collect();
/// let set = KeySet::Indices(Indices::new([1, 1, 7, 4], list));
/// let options = Options::default().with_key_sets(vec![set]);
/// let problem = Problem::new(example.inputs().clone(), options)?;
/// assert!(problem.ranges(problem.row(0)).eq([2..4, 9..10]));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySet {
    /// By elements.
    AttnMask(AttnMask),
    /// By blocks of queries and keys.
    BlockMask(BlockMask),
    /// By lists of keys.
    Indices(Indices),
}

/// A mask by elements, `[B or 1, Hq or 1, Nq or 1, Nk]`, one byte each: non-zero may be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttnMask {
    /// The shape.
    pub shape: [usize; 4],
    /// The elements, row-major.
    pub seen: Arc<[u8]>,
}

/// A mask by blocks of `m` queries and `n` keys, `[B or 1, Hq or 1, ceil(Nq/m), ceil(Nk/n)]`: non-zero may be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMask {
    /// The shape.
    pub shape: [usize; 4],
    /// `[m, n]`.
    pub block: [usize; 2],
    /// The blocks, row-major.
    pub seen: Arc<[u8]>,
}

/// Lists of the keys that a row may see, `[B or 1, Hq or Hk or 1, Nq, T]`, in any order; a negative number is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indices {
    shape: [usize; 4],
    /// The keys of all lists, each list ascending.
    keys: Arc<[i64]>,
}

impl Indices {
    /// The lists, row-major.
    ///
    /// # Panics
    /// If there are not as many numbers as the shape says.
    #[must_use]
    pub fn new(shape: [usize; 4], mut keys: Vec<i64>) -> Self {
        assert_eq!(keys.len(), shape.iter().product::<usize>(), "one number per element");
        keys.chunks_mut(shape[3].max(1)).for_each(<[i64]>::sort_unstable);
        Indices { shape, keys: keys.into() }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// All lists, row-major, each ascending; negative numbers come first and mean nothing.
    #[must_use]
    pub fn as_slice(&self) -> &[i64] {
        &self.keys
    }

    /// The list of a row, where `Hq` query heads and `Hk` key heads are.
    fn list(&self, row: Row, sizes: &Sizes) -> &[i64] {
        let [batch, heads, queries, length] = self.shape;
        let h = if heads == sizes.query_heads { row.h } else { row.h * heads / sizes.query_heads };
        let at = ((if batch == 1 { 0 } else { row.b }) * heads + h) * queries + row.i;
        &self.keys[at * length..][..length]
    }
}

/// The index of an axis, where a length of 1 is broadcast.
fn along(shape: [usize; 4], axis: usize, index: usize) -> usize {
    if shape[axis] == 1 { 0 } else { index }
}

/// The first run of elements that are not zero, from `range.start` on.
fn run_of(seen: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let start = range.start + seen[range.clone()].iter().position(|&x| x != 0)?;
    let length = seen[start..range.end].iter().position(|&x| x == 0);
    Some(start..length.map_or(range.end, |length| start + length))
}

impl KeySet {
    /// The name in files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            KeySet::AttnMask(_) => "attn_mask",
            KeySet::BlockMask(_) => "block_mask",
            KeySet::Indices(_) => "indices",
        }
    }

    /// The first run of keys in `range` that `row` may see.
    #[must_use]
    pub fn next_run(&self, row: Row, range: Range<usize>, sizes: &Sizes) -> Option<Range<usize>> {
        if range.is_empty() {
            return None;
        }
        match self {
            KeySet::AttnMask(AttnMask { shape, seen }) => {
                let [b, h, i] = [row.b, row.h, row.i];
                let at = (along(*shape, 0, b) * shape[1] + along(*shape, 1, h)) * shape[2];
                let at = (at + along(*shape, 2, i)) * shape[3];
                run_of(&seen[at..][..shape[3]], range)
            }
            KeySet::BlockMask(BlockMask { shape, block: [m, n], seen }) => {
                let at = (along(*shape, 0, row.b) * shape[1] + along(*shape, 1, row.h)) * shape[2];
                let blocks = &seen[(at + row.i / m) * shape[3]..][..shape[3]];
                let run = run_of(blocks, range.start / n..range.end.div_ceil(*n))?;
                // The run of blocks overlaps the range, as its first and last block do.
                Some((run.start * n).max(range.start)..run.end.saturating_mul(*n).min(range.end))
            }
            KeySet::Indices(indices) => {
                let list = indices.list(row, sizes);
                let first = list.partition_point(|&j| j < range.start as i64);
                let start = *list.get(first)? as usize;
                if start >= range.end {
                    return None;
                }
                let run = list[first..].iter().zip(start..range.end);
                let length = run.take_while(|&(&j, expected)| j as usize == expected).count();
                Some(start..start + length)
            }
        }
    }

    /// Checks the shape against the sizes, and the keys of lists. Rows of `padding` are not read.
    pub(crate) fn check(&self, sizes: &Sizes, padding: impl Fn(Row) -> bool) -> Result<(), Error> {
        let Sizes { batch, query_heads, key_heads, queries, keys, .. } = *sizes;
        let one_or = |found: usize, full: usize| found == 1 || found == full;
        let (shape, legal, expected) = match self {
            KeySet::AttnMask(AttnMask { shape, .. }) => {
                let [b, h, i, j] = *shape;
                let legal =
                    one_or(b, batch) && one_or(h, query_heads) && one_or(i, queries) && j == keys;
                (
                    shape,
                    legal,
                    format!("[{batch} or 1, {query_heads} or 1, {queries} or 1, {keys}]"),
                )
            }
            KeySet::BlockMask(BlockMask { shape, block: [m, n], .. }) => {
                if *m == 0 || *n == 0 {
                    return Err(Error::option(
                        "block",
                        "two numbers above 0",
                        format!("[{m}, {n}]"),
                    ));
                }
                let [b, h, i, j] = *shape;
                let (rows, columns) = (queries.div_ceil(*m), keys.div_ceil(*n));
                let legal = one_or(b, batch) && one_or(h, query_heads) && (i, j) == (rows, columns);
                (shape, legal, format!("[{batch} or 1, {query_heads} or 1, {rows}, {columns}]"))
            }
            KeySet::Indices(Indices { shape, .. }) => {
                let [b, h, i, _] = *shape;
                let legal =
                    one_or(b, batch) && (one_or(h, query_heads) || h == key_heads) && i == queries;
                let heads = if key_heads == query_heads {
                    String::new()
                } else {
                    format!(" or {key_heads}")
                };
                (shape, legal, format!("[{batch} or 1, {query_heads}{heads} or 1, {queries}, T]"))
            }
        };
        if !legal {
            return Err(Error::Shape { tensor: self.name(), expected, found: shape.to_vec() });
        }
        match self {
            KeySet::Indices(indices) => indices.check_keys(sizes, padding),
            _ => Ok(()),
        }
    }
}

impl Indices {
    /// Every list names keys below `Nk`, each at most once.
    fn check_keys(&self, sizes: &Sizes, padding: impl Fn(Row) -> bool) -> Result<(), Error> {
        let [batch, heads, queries, length] = self.shape;
        if length == 0 {
            return Ok(());
        }
        let wrong = |at: usize, expected: String, key: i64| {
            let (head, i) = (at / queries, at % queries);
            let found = format!("{key} in list [{}, {}, {i}]", head / heads, head % heads);
            Err(Error::option("indices", expected, found))
        };
        for (at, list) in self.keys.chunks(length).enumerate() {
            let (head, i) = (at / queries, at % queries);
            let row = Row { b: head / heads, h: (head % heads) * sizes.query_heads / heads, i };
            let unread = if batch == 1 {
                (0..sizes.batch).all(|b| padding(Row { b, ..row }))
            } else {
                padding(row)
            };
            if unread {
                continue;
            }
            if let Some(&last) = list.last().filter(|&&j| j >= sizes.keys as i64) {
                let expected = format!("keys below {}, or a negative number for none", sizes.keys);
                return wrong(at, expected, last);
            }
            if let Some(pair) = list.windows(2).find(|pair| pair[0] == pair[1] && pair[0] >= 0) {
                return wrong(at, "each key at most once in a list".into(), pair[0]);
            }
        }
        Ok(())
    }
}
