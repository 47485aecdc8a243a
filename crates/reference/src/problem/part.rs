//! A part of a problem: some heads, some queries, or some keys of it.
//!
//! A part is a problem of its own, whose rows see what they see in the whole, and whose random words are those that they have in the
//! whole. The results of a head do not depend on other heads, and those of a row (`o`, `lse`, `dq`) not on other rows. The gradients
//! of a key are those of the whole if every row that sees it is there, and if `o` and `lse` are those of the whole, taken as given.

use super::inputs::{Dropout, Inputs, Options};
use super::validate::Sizes;
use super::{Problem, Row};
use crate::error::Error;
use crate::mask::{AttnMask, BlockMask, Indices, KeySet};
use crate::scalar::Ring;
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// The larger problem that a problem is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The sizes of the whole.
    pub whole: Sizes,
    /// The number of elements of its bias.
    pub bias: usize,
    /// The number of its slopes.
    pub slopes: usize,
    /// The query head of the whole that is head 0 here.
    pub first_head: usize,
    /// The positions of the queries in the whole, ascending; `None` is all.
    pub queries: Option<Arc<[usize]>>,
    /// The positions of the keys in the whole, ascending; `None` is all.
    pub keys: Option<Arc<[usize]>>,
}

/// Which indices of each axis of `[batch, head, position, feature]` are taken; `None` is all.
type Taken<'a> = [Option<&'a [usize]>; 4];

/// The taken elements of a row-major array. An axis of length 1 is one that is broadcast: it stays.
fn take<T: Copy>(shape: [usize; 4], data: &[T], taken: Taken<'_>) -> ([usize; 4], Vec<T>) {
    let at: [Vec<usize>; 4] = std::array::from_fn(|axis| match taken[axis] {
        Some(indices) if shape[axis] != 1 => indices.to_vec(),
        _ => (0..shape[axis]).collect(),
    });
    let mut out = Vec::with_capacity(at.iter().map(Vec::len).product());
    for &b in &at[0] {
        for &h in &at[1] {
            for &n in &at[2] {
                let row = &data[((b * shape[1] + h) * shape[2] + n) * shape[3]..][..shape[3]];
                match taken[3] {
                    Some(_) if shape[3] != 1 => out.extend(at[3].iter().map(|&d| row[d])),
                    _ => out.extend_from_slice(row),
                }
            }
        }
    }
    (at.map(|indices| indices.len()), out)
}

fn tensor<T: Ring>(x: &Tensor<T>, taken: Taken<'_>) -> Tensor<T> {
    let (shape, data) = take(x.shape(), x.as_slice(), taken);
    Tensor::new("part", shape, &data).expect("as many numbers as the shape says")
}

impl<T: Ring> Problem<T> {
    /// What is known of the whole problem; of one that is no part, of itself.
    #[must_use]
    pub fn whole(&self) -> Part {
        let of = |x: &Option<Tensor<T>>| x.as_ref().map_or(0, |x| x.as_slice().len());
        self.options.part.as_deref().cloned().unwrap_or(Part {
            whole: self.sizes,
            bias: of(&self.inputs.bias),
            slopes: of(&self.inputs.alibi_slopes),
            first_head: 0,
            queries: None,
            keys: None,
        })
    }

    /// The sizes of the whole problem, if this one is a part; else its own.
    #[must_use]
    pub fn whole_sizes(&self) -> Sizes {
        self.options.part.as_deref().map_or(self.sizes, |part| part.whole)
    }

    /// The share of the whole problem's heads that are here. A chance of false alarms that a whole problem has is divided among
    /// its parts by it, so that all parts together have no more, however they are spread.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.sizes.key_heads as f64 / self.whole_sizes().key_heads as f64
    }

    /// Some key heads and the query heads that read them, in all sequences.
    ///
    /// # Errors
    /// [`Error::Option`] if there are no such heads.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::forward::forward;
    /// let problem = sus_reference::problem::example(); // 6 query heads, 2 key heads
    /// let part = problem.key_heads(1..2)?;
    /// assert_eq!(forward(&part).o.row(1, 0, 4), forward(&problem).o.row(1, 3, 4));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn key_heads(&self, heads: Range<usize>) -> Result<Self, Error> {
        let sizes = self.sizes;
        if heads.is_empty() || heads.end > sizes.key_heads {
            let expected = format!("key heads below {}", sizes.key_heads);
            return Err(Error::option("heads", expected, format!("{heads:?}")));
        }
        let group = self.group();
        let of_queries: Vec<usize> = (heads.start * group..heads.end * group).collect();
        let of_keys: Vec<usize> = heads.collect();
        let (q, k) = (Some(&of_queries[..]), Some(&of_keys[..]));
        let by_head: Taken<'_> = [None, q, None, None];
        let options = &self.options;
        let key_sets = options.key_sets.iter().map(|set| match set {
            KeySet::AttnMask(AttnMask { shape, seen }) => {
                let (shape, seen) = take(*shape, seen, by_head);
                KeySet::AttnMask(AttnMask { shape, seen: seen.into() })
            }
            KeySet::BlockMask(BlockMask { shape, block, seen }) => {
                let (shape, seen) = take(*shape, seen, by_head);
                KeySet::BlockMask(BlockMask { shape, block: *block, seen: seen.into() })
            }
            KeySet::Indices(lists) => {
                let of_lists = if lists.shape()[1] == sizes.query_heads { q } else { k };
                let taken = [None, of_lists, None, None];
                let (shape, keys) = take(lists.shape(), lists.as_slice(), taken);
                KeySet::Indices(Indices::new(shape, keys))
            }
        });
        let Inputs { q: of_q, k: of_k, v, g, dlse, bias, sink, alibi_slopes } = &self.inputs;
        let keys: Taken<'_> = [None, k, None, None];
        let inputs = Inputs {
            q: tensor(of_q, by_head),
            k: tensor(of_k, keys),
            v: tensor(v, keys),
            g: tensor(g, by_head),
            dlse: dlse.as_ref().map(|x| tensor(x, by_head)),
            bias: bias.as_ref().map(|x| tensor(x, by_head)),
            sink: sink.as_ref().map(|x| of_queries.iter().map(|&h| x[h]).collect()),
            alibi_slopes: alibi_slopes.as_ref().map(|x| {
                // `[1, Hq, 1, 1]`, or `[B, 1, 1, Hq]`.
                let by_batch = x.shape()[1] == 1 && sizes.query_heads > 1;
                tensor(x, if by_batch { [None, None, None, q] } else { by_head })
            }),
        };
        let dropout = options.dropout.as_ref().map(|Dropout { shape, kept, p }| {
            let (shape, kept) = take(*shape, kept, by_head);
            Dropout { shape, kept: kept.into(), p: *p }
        });
        let mut part = self.whole();
        part.first_head += of_queries[0];
        let key_sets = key_sets.collect();
        let options =
            Options { key_sets, dropout, part: Some(Arc::new(part)), ..self.options.clone() };
        Problem::new(inputs, options)
    }

    /// Some queries, by their ascending positions, with all keys.
    ///
    /// # Errors
    /// [`Error::Option`] if there are no such queries, or if the problem is a part of queries already.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::forward::forward;
    /// let problem = sus_reference::problem::example();
    /// let part = problem.queries(&[1, 5])?;
    /// assert_eq!(forward(&part).o.row(1, 4, 1), forward(&problem).o.row(1, 4, 5));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn queries(&self, positions: &[usize]) -> Result<Self, Error> {
        let mut part = self.whole();
        expect_positions("rows", positions, self.sizes.queries, part.queries.is_some())?;
        let taken: Taken<'_> = [None, None, Some(positions), None];
        let key_sets = self.options.key_sets.iter().map(|set| match set {
            KeySet::AttnMask(AttnMask { shape, seen }) => {
                // One row of queries is one that is broadcast, unless there is one query.
                let (shape, seen) = take(*shape, seen, taken);
                KeySet::AttnMask(AttnMask { shape, seen: seen.into() })
            }
            KeySet::BlockMask(BlockMask { shape, block: [m, n], seen }) => {
                let blocks: Vec<usize> = positions.iter().map(|i| i / m).collect();
                // One row of blocks serves all queries, and has to be there for each of them.
                let [b, h, _, columns] = *shape;
                let mut rows = Vec::with_capacity(b * h * blocks.len() * columns);
                for head in seen.chunks((shape[2] * columns).max(1)) {
                    for &block in &blocks {
                        rows.extend_from_slice(&head[block * columns..][..columns]);
                    }
                }
                let shape = [b, h, blocks.len(), columns];
                KeySet::BlockMask(BlockMask { shape, block: [1, *n], seen: rows.into() })
            }
            KeySet::Indices(lists) => {
                let (shape, keys) = take(lists.shape(), lists.as_slice(), taken);
                KeySet::Indices(Indices::new(shape, keys))
            }
        });
        let key_sets = key_sets.collect();
        let Inputs { q, k, v, g, dlse, bias, sink, alibi_slopes } = &self.inputs;
        let inputs = Inputs {
            q: tensor(q, taken),
            k: k.clone(),
            v: v.clone(),
            g: tensor(g, taken),
            dlse: dlse.as_ref().map(|x| tensor(x, taken)),
            bias: bias.as_ref().map(|x| tensor(x, taken)),
            sink: sink.clone(),
            alibi_slopes: alibi_slopes.clone(),
        };
        let dropout = self.options.dropout.as_ref().map(|Dropout { shape, kept, p }| {
            let (shape, kept) = take(*shape, kept, taken);
            Dropout { shape, kept: kept.into(), p: *p }
        });
        part.queries = Some(positions.into());
        let options =
            Options { key_sets, dropout, part: Some(Arc::new(part)), ..self.options.clone() };
        Problem::new(inputs, options)
    }

    /// Some keys, by their ascending positions, with all queries. Its own forward pass is not that of the whole.
    ///
    /// # Errors
    /// [`Error::Option`] if there are no such keys, or if the problem is a part of keys already.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::{backward::backward, forward::forward};
    /// let problem = sus_reference::problem::example();
    /// let saved = forward(&problem);
    /// let part = problem.keys(&[3, 8])?;
    /// let (found, all) = (backward(&part, &saved), backward(&problem, &saved));
    /// assert_eq!(found.dk.row(1, 0, 1), all.dk.row(1, 0, 8));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn keys(&self, positions: &[usize]) -> Result<Self, Error> {
        let mut part = self.whole();
        expect_positions("keys", positions, self.sizes.keys, part.keys.is_some())?;
        let taken: Taken<'_> = [None, None, Some(positions), None];
        let columns: Taken<'_> = [None, None, None, Some(positions)];
        let Inputs { q, k, v, g, dlse, bias, sink, alibi_slopes } = &self.inputs;
        let inputs = Inputs {
            q: q.clone(),
            k: tensor(k, taken),
            v: tensor(v, taken),
            g: g.clone(),
            dlse: dlse.clone(),
            bias: bias.as_ref().map(|x| tensor(x, columns)),
            sink: sink.clone(),
            alibi_slopes: alibi_slopes.clone(),
        };
        let dropout = self.options.dropout.as_ref().map(|Dropout { shape, kept, p }| {
            let (shape, kept) = take(*shape, kept, columns);
            Dropout { shape, kept: kept.into(), p: *p }
        });
        part.keys = Some(positions.into());
        let key_sets = if self.options.key_sets.is_empty() {
            Vec::new()
        } else {
            vec![self.seen_at(positions)]
        };
        let options =
            Options { key_sets, dropout, part: Some(Arc::new(part)), ..self.options.clone() };
        Problem::new(inputs, options)
    }

    /// What all key sets together show of some keys.
    fn seen_at(&self, positions: &[usize]) -> KeySet {
        let Sizes { batch, query_heads, queries, .. } = self.sizes;
        let shows = |row: Row, j: usize| {
            let mut sets = self.options.key_sets.iter();
            sets.all(|set| set.next_run(row, j..j + 1, &self.sizes).is_some())
        };
        let rows = (0..batch * query_heads * queries).map(|at| self.row(at));
        let seen = rows.flat_map(|row| positions.iter().map(move |&j| u8::from(shows(row, j))));
        let shape = [batch, query_heads, queries, positions.len()];
        KeySet::AttnMask(AttnMask { shape, seen: seen.collect() })
    }
}

/// An error unless there is a position, all are below `count` and ascend.
fn expect_positions(
    name: &'static str,
    positions: &[usize],
    count: usize,
    again: bool,
) -> Result<(), Error> {
    let ascend = positions.windows(2).all(|pair| pair[0] < pair[1]);
    let last = positions.last();
    if again || !ascend || last.is_none_or(|&last| last >= count) {
        let expected = format!("ascending positions below {count} of a whole problem");
        return Err(Error::option(name, expected, crate::quote::list(positions)));
    }
    Ok(())
}
