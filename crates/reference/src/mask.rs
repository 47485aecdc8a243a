//! The keys that a query sees.
//!
//! Under causality, a window and packed segments, in any combination, a query sees one contiguous range of keys. A mask
//! is therefore a function from a query to a range, and no score is set to `-inf`. A `-inf` in the bias may hide some keys of the
//! range: [`Problem::visible`](crate::problem::Problem::visible).

use crate::error::Error;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Cumulative query lengths, from 0 to `Nq`.
    pub queries: Vec<usize>,
    /// Cumulative key lengths, from 0 to `Nk`, as many as `queries`.
    pub keys: Vec<usize>,
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
/// assert!(mask.visible(2).is_empty()); // its diagonal lies before the first key
/// assert_eq!((mask.visible(3), mask.visible(4)), (4..5, 4..6));
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

/// The mask of a problem with `Nq` queries and `Nk` keys.
///
/// # Examples
/// ```
/// use sus_reference::mask::{Alignment, Mask, Window};
/// // Causal, and one key back.
/// let window = Some(Window { left: Some(1), right: None });
/// let mask = Mask::new(4, 4, true, Alignment::BottomRight, window, None)?;
/// assert_eq!([0, 1, 2, 3].map(|i| mask.visible(i)), [0..1, 0..2, 1..3, 2..4]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// A query sees no key after the diagonal.
    causal: bool,
    alignment: Alignment,
    window: Option<Window>,
    segments: Segments,
}

impl Mask {
    /// A mask over `queries` and `keys` positions.
    ///
    /// # Errors
    /// [`Error::Option`] if the segments do not run from 0 to `queries` and to `keys` without decreasing, or if their
    /// numbers differ.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::mask::{Alignment, Mask, Window};
    /// let mask = Mask::new(2, 5, true, Alignment::BottomRight, None, None)?;
    /// assert_eq!((mask.visible(0), mask.visible(1)), (0..4, 0..5));
    /// let mask = Mask::new(2, 5, true, Alignment::TopLeft, None, None)?;
    /// assert_eq!((mask.visible(0), mask.visible(1)), (0..1, 0..2));
    /// let window = Some(Window { left: Some(1), right: Some(0) });
    /// let mask = Mask::new(5, 5, false, Alignment::TopLeft, window, None)?;
    /// assert_eq!(mask.visible(3), 2..4);
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
        Ok(Mask { causal, alignment, window, segments })
    }

    /// The number of packed sequences; 1 without packing.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.queries.len() - 1
    }

    /// The position of query `i` within its packed sequence.
    ///
    /// # Panics
    /// If `i` is not a query of the problem.
    #[must_use]
    pub fn place(&self, i: usize) -> Place {
        let cumulative = &self.segments.queries;
        let segment = cumulative.partition_point(|&start| start <= i) - 1;
        assert!(segment < self.segment_count(), "query {i} is outside the problem");
        Place { segment, query: i - cumulative[segment], first_key: self.segments.keys[segment] }
    }

    /// The keys that query `i` sees; `start == end` if it sees none.
    ///
    /// # Panics
    /// If `i` is not a query of the problem.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::mask::{Alignment, Mask};
    /// let mask = Mask::new(3, 1, true, Alignment::BottomRight, None, None)?;
    /// assert!(mask.visible(0).is_empty() && mask.visible(1).is_empty());
    /// assert_eq!(mask.visible(2), 0..1);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn visible(&self, i: usize) -> Range<usize> {
        let Place { segment, query, first_key } = self.place(i);
        let queries = self.segments.queries[segment + 1] - self.segments.queries[segment];
        let keys = (self.segments.keys[segment + 1] - first_key) as i64;
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

/// Cumulative lengths run from 0 to `total` and never decrease.
fn check_cumulative(name: &'static str, lengths: &[usize], total: usize) -> Result<(), Error> {
    let legal = lengths.len() >= 2
        && lengths[0] == 0
        && lengths.last() == Some(&total)
        && lengths.is_sorted();
    if legal {
        return Ok(());
    }
    let expected = format!("cumulative lengths from 0 to {total}, never decreasing");
    Err(Error::option(name, expected, crate::quote::list(lengths)))
}
