//! The keys that a query sees.
//!
//! Sequences, causality and a window leave one contiguous range of keys to a query: [`Mask::span`]. A [`KeySet`] (a mask by
//! elements, a mask by blocks, a list of keys) and a `-inf` in the bias hide some keys of that range. What is left is an
//! iterator over ranges, [`Problem::ranges`](crate::problem::Problem::ranges). A hidden key takes no part: no score is set to
//! `-inf`.

mod sets;

pub use sets::{AttnMask, BlockMask, Indices, KeySet};

use crate::error::Error;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// The diagonal of a causal mask or a window when the numbers of queries and keys differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alignment {
    /// The last query is aligned with the last key: `j = i + Nk - Nq`. The convention of FlashAttention 2.1 and later.
    #[default]
    BottomRight,
    /// The first query is aligned with the first key: `j = i`. The convention of PyTorch's `is_causal`.
    TopLeft,
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Alignment::BottomRight => "bottom-right",
            Alignment::TopLeft => "top-left",
        })
    }
}

impl FromStr for Alignment {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "bottom-right" => Ok(Alignment::BottomRight),
            "top-left" => Ok(Alignment::TopLeft),
            _ => {
                Err(Error::option("alignment", "'bottom-right' or 'top-left'", format!("'{name}'")))
            }
        }
    }
}

/// The keys on both sides of the diagonal that a query sees, ends included; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Keys before the diagonal.
    pub left: Option<u64>,
    /// Keys after the diagonal.
    pub right: Option<u64>,
}

/// Packed sequences: segment `s` holds queries `queries[s]..queries[s+1]` and keys `keys[s]..keys[s+1]`.
///
/// Positions after the last segment are padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Cumulative query lengths, from 0 to at most `Nq`.
    pub queries: Vec<usize>,
    /// Cumulative key lengths, from 0 to at most `Nk`, as many as `queries`.
    pub keys: Vec<usize>,
}

/// The used lengths of sequences; what lies behind them is padding, which takes no part and is never read.
///
/// One length for each packed segment, or, without packing, for each sequence of the batch. Each is at most the room that the
/// sequence has. The diagonal of causality, a window and the slopes is that of the used lengths.
///
/// # Examples
/// ```
/// use sus_reference::mask::Lengths;
/// use sus_reference::problem::{Options, Problem};
/// let example = sus_reference::problem::example(); // B = 2, Nq = 7, Nk = 11
/// let lengths = Lengths { queries: Some(vec![7, 2]), keys: Some(vec![11, 4]) };
/// let options = Options::default().with_lengths(lengths).with_causal(true);
/// let problem = Problem::new(example.inputs().clone(), options)?;
/// let row = |b, i| sus_reference::problem::Row { b, h: 0, i };
/// assert_eq!(problem.span(row(0, 1)), 0..6); // 1 + 11 - 7 is the diagonal
/// assert_eq!(problem.span(row(1, 1)), 0..4); // 1 + 4 - 2
/// assert!(problem.is_padding(row(1, 2)) && problem.span(row(1, 2)).is_empty());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lengths {
    /// Used queries; `None` is all.
    pub queries: Option<Vec<usize>>,
    /// Used keys; `None` is all.
    pub keys: Option<Vec<usize>>,
}

/// The position of a query within its packed sequence; without packing, the whole problem is one sequence.
///
/// # Examples
/// ```
/// use sus_reference::mask::{Alignment, Mask, Place, Segments};
/// // The second sequence has three queries and two keys.
/// let segments = Segments { queries: vec![0, 2, 5], keys: vec![0, 4, 6] };
/// let mask = Mask::new(5, 6, true, Alignment::BottomRight, None, Some(segments))?;
/// assert_eq!(mask.place(2), Place { segment: 1, query: 0, first_key: 4 });
/// assert!(mask.span(0, 2).is_empty()); // its diagonal lies before the first key
/// assert_eq!((mask.span(0, 3), mask.span(0, 4)), (4..5, 4..6));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The index of the sequence.
    pub segment: usize,
    /// The query's position in the sequence.
    pub query: usize,
    /// The first key of the sequence.
    pub first_key: usize,
}

/// The mask of a problem with `Nq` queries and `Nk` keys, but for its [`KeySet`]s.
///
/// # Examples
/// ```
/// use sus_reference::mask::{Alignment, Mask, Window};
/// // Causal, and one key back.
/// let window = Some(Window { left: Some(1), right: None });
/// let mask = Mask::new(4, 4, true, Alignment::BottomRight, window, None)?;
/// assert_eq!([0, 1, 2, 3].map(|i| mask.span(0, i)), [0..1, 0..2, 1..3, 2..4]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// A query sees no key after the diagonal.
    causal: bool,
    alignment: Alignment,
    window: Option<Window>,
    segments: Segments,
    /// Whether the segments were given: then lengths are those of segments, else of the batch.
    packed: bool,
    lengths: Option<Lengths>,
    /// Of a part of a problem: the positions of its queries and of its keys in the whole, ascending.
    positions: [Option<Arc<[usize]>>; 2],
}

impl Mask {
    /// A mask over `queries` and `keys` positions.
    ///
    /// # Errors
    /// [`Error::Option`] if the segments do not run from 0 to at most `queries` and `keys` without decreasing, or if their
    /// numbers differ.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::mask::{Alignment, Mask, Window};
    /// let mask = Mask::new(2, 5, true, Alignment::BottomRight, None, None)?;
    /// assert_eq!((mask.span(0, 0), mask.span(0, 1)), (0..4, 0..5));
    /// let mask = Mask::new(2, 5, true, Alignment::TopLeft, None, None)?;
    /// assert_eq!((mask.span(0, 0), mask.span(0, 1)), (0..1, 0..2));
    /// let window = Some(Window { left: Some(1), right: Some(0) });
    /// let mask = Mask::new(5, 5, false, Alignment::TopLeft, window, None)?;
    /// assert_eq!(mask.span(0, 3), 2..4);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn new(
        queries: usize,
        keys: usize,
        causal: bool,
        alignment: Alignment,
        window: Option<Window>,
        segments: Option<Segments>,
    ) -> Result<Self, Error> {
        let packed = segments.is_some();
        let segments = match segments {
            None => Segments { queries: vec![0, queries], keys: vec![0, keys] },
            Some(segments) => {
                check_cumulative("segments_q", &segments.queries, queries)?;
                check_cumulative("segments_k", &segments.keys, keys)?;
                if segments.queries.len() != segments.keys.len() {
                    return Err(Error::option(
                        "segments_k",
                        format!("{} numbers, as segments_q has", segments.queries.len()),
                        segments.keys.len(),
                    ));
                }
                segments
            }
        };
        let positions = [None, None];
        Ok(Mask { causal, alignment, window, segments, packed, lengths: None, positions })
    }

    /// The same mask over some of the queries and some of the keys, given by their ascending positions.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::mask::{Alignment, Mask};
    /// let mask = Mask::new(6, 6, true, Alignment::BottomRight, None, None)?;
    /// let part = mask.at_positions(Some([1, 4].into()), Some([0, 3, 5].into()));
    /// assert_eq!((part.span(0, 0), part.span(0, 1)), (0..1, 0..2)); // query 4 sees keys 0 and 3
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn at_positions(self, queries: Option<Arc<[usize]>>, keys: Option<Arc<[usize]>>) -> Self {
        Mask { positions: [queries, keys], ..self }
    }

    fn query(&self, i: usize) -> usize {
        self.positions[0].as_ref().map_or(i, |queries| queries[i])
    }

    fn key(&self, j: usize) -> usize {
        self.positions[1].as_ref().map_or(j, |keys| keys[j])
    }

    /// The same mask where the sequences use a part of their room; `batch` is the number of sequences without packing.
    ///
    /// # Errors
    /// [`Error::Option`] if the number of lengths is not that of the sequences, or a length is above the room.
    pub fn with_lengths(self, lengths: Option<Lengths>, batch: usize) -> Result<Self, Error> {
        let Some(lengths) = lengths else { return Ok(self) };
        let count = if self.packed { self.segment_count() } else { batch };
        for (name, used, cumulative) in [
            ("lengths_q", &lengths.queries, &self.segments.queries),
            ("lengths_k", &lengths.keys, &self.segments.keys),
        ] {
            let Some(used) = used else { continue };
            if used.len() != count {
                let expected = format!("{count} lengths, one for each sequence");
                return Err(Error::option(name, expected, used.len()));
            }
            for (at, &length) in used.iter().enumerate() {
                let segment = if self.packed { at } else { 0 };
                let room = cumulative[segment + 1] - cumulative[segment];
                if length > room {
                    let expected = format!("at most {room} for sequence {at}");
                    return Err(Error::option(name, expected, length));
                }
            }
        }
        Ok(Mask { lengths: Some(lengths), ..self })
    }

    /// The number of packed sequences; 1 without packing.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.queries.len() - 1
    }

    /// The position of query `i` within its packed sequence. Padding after the last sequence counts to the last one.
    ///
    /// # Panics
    /// If there is no sequence.
    #[must_use]
    pub fn place(&self, i: usize) -> Place {
        let (cumulative, i) = (&self.segments.queries, self.query(i));
        let after = cumulative.partition_point(|&start| start <= i) - 1;
        let segment = after.min(self.segment_count() - 1);
        Place { segment, query: i - cumulative[segment], first_key: self.segments.keys[segment] }
    }

    /// The queries and keys that segment `segment` of sequence `b` uses.
    fn used(&self, b: usize, segment: usize) -> [usize; 2] {
        let room = |cumulative: &[usize]| cumulative[segment + 1] - cumulative[segment];
        let room = [room(&self.segments.queries), room(&self.segments.keys)];
        let Some(Lengths { queries, keys }) = &self.lengths else { return room };
        let at = |used: &[usize]| used[if self.packed { segment } else { b }];
        let [q, k] = [queries, keys].map(|used| used.as_deref().map(at));
        [q.unwrap_or(room[0]), k.unwrap_or(room[1])]
    }

    /// Whether query `i` of sequence `b` is padding: behind the used length of its sequence, or in none.
    #[must_use]
    pub fn is_padding(&self, b: usize, i: usize) -> bool {
        let Place { segment, query, .. } = self.place(i);
        query >= self.used(b, segment)[0]
    }

    /// Whether key `j` of sequence `b` is padding.
    #[must_use]
    pub fn is_padding_key(&self, b: usize, j: usize) -> bool {
        let (cumulative, j) = (&self.segments.keys, self.key(j));
        let after = cumulative.partition_point(|&start| start <= j) - 1;
        let segment = after.min(self.segment_count() - 1);
        j - cumulative[segment] >= self.used(b, segment)[1]
    }

    /// Whether any position may be padding.
    #[must_use]
    pub fn has_padding(&self, queries: usize, keys: usize) -> bool {
        let ends = [self.segments.queries.last(), self.segments.keys.last()];
        self.lengths.is_some() || ends != [Some(&queries), Some(&keys)]
    }

    /// `i + Nk - Nq - j` in the sequence of query `i`, with the lengths that it uses: how far key `j` lies before the diagonal of
    /// [`Alignment::BottomRight`].
    #[must_use]
    pub fn distance(&self, b: usize, i: usize, j: usize) -> i64 {
        let Place { segment, query, first_key } = self.place(i);
        let [queries, keys] = self.used(b, segment);
        (query + keys) as i64 - queries as i64 - (self.key(j) as i64 - first_key as i64)
    }

    /// The keys of sequence `b` that sequences, causality and the window leave to query `i`; `start == end` if they leave none.
    ///
    /// # Panics
    /// If `b` and `i` are not a query of the problem.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::mask::{Alignment, Mask};
    /// let mask = Mask::new(3, 1, true, Alignment::BottomRight, None, None)?;
    /// assert!(mask.span(0, 0).is_empty() && mask.span(0, 1).is_empty());
    /// assert_eq!(mask.span(0, 2), 0..1);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn span(&self, b: usize, i: usize) -> Range<usize> {
        let span = self.span_of_whole(b, i);
        let Some(keys) = &self.positions[1] else { return span };
        let before = |end: usize| keys.partition_point(|&key| key < end);
        before(span.start)..before(span.end)
    }

    /// The span among the keys of the whole problem.
    fn span_of_whole(&self, b: usize, i: usize) -> Range<usize> {
        let Place { segment, query, first_key } = self.place(i);
        let [queries, keys] = self.used(b, segment);
        if query >= queries {
            return first_key..first_key;
        }
        let keys = keys as i64;
        // Positions within the segment; the diagonal may lie outside of the keys, on either side.
        let diagonal = match self.alignment {
            Alignment::BottomRight => query as i64 + keys - queries as i64,
            Alignment::TopLeft => query as i64,
        };
        let (mut first, mut end) = (0, keys);
        if self.causal {
            end = end.min(diagonal + 1);
        }
        if let Some(Window { left, right }) = self.window {
            // Windows up to 2^64 - 1 are legal, so the ends saturate.
            if let Some(left) = left {
                first = first.max(diagonal.saturating_sub_unsigned(left));
            }
            if let Some(right) = right {
                end = end.min(diagonal.saturating_add_unsigned(right).saturating_add(1));
            }
        }
        if first >= end {
            return first_key..first_key;
        }
        first_key + first as usize..first_key + end as usize
    }
}

/// Cumulative lengths run from 0 to at most `total` and never decrease.
fn check_cumulative(name: &'static str, lengths: &[usize], total: usize) -> Result<(), Error> {
    let legal = lengths.len() >= 2
        && lengths[0] == 0
        && lengths.last() <= Some(&total)
        && lengths.is_sorted();
    if legal {
        return Ok(());
    }
    let expected = format!("cumulative lengths from 0 to at most {total}, never decreasing");
    Err(Error::option(name, expected, crate::quote::list(lengths)))
}
