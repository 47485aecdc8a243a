//! The heads, rows and keys of a problem that are to be judged.

use super::ranges::{numbers, words};
use std::ops::Range;
use sus_reference::error::Error;
use sus_reference::problem::Sizes;

/// The heads, rows and keys that are to be judged, as ascending ranges.
///
/// # Examples
/// ```
/// use sus_verdict::part::Selection;
/// let problem = sus_reference::problem::example(); // 6 query heads, 2 key heads, 7 queries
/// let selection = Selection { heads: Some(vec![4..5]), rows: Some(vec![0..3]), keys: None };
/// assert_eq!(selection.key_heads(&problem.sizes())?, [1]); // of the query heads 3 to 5
/// let outside = Selection { rows: Some(vec![5..8]), ..Selection::default() };
/// assert!(outside.key_heads(&problem.sizes()).is_err());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Query heads, in every sequence; `None` is all.
    pub heads: Option<Vec<Range<usize>>>,
    /// Rows, whose `o`, `lse` and `dq` are judged.
    pub rows: Option<Vec<Range<usize>>>,
    /// Keys, whose `dk` and `dv` are judged.
    pub keys: Option<Vec<Range<usize>>>,
}

impl Selection {
    /// The key heads that the selected query heads read, ascending.
    ///
    /// # Errors
    /// [`Error::Option`] if a head, a row or a key is not one of the problem, or if nothing is selected.
    pub fn key_heads(&self, sizes: &Sizes) -> Result<Vec<usize>, Error> {
        expect_within("heads", self.heads.as_deref(), sizes.query_heads)?;
        expect_within("rows", self.rows.as_deref(), sizes.queries)?;
        expect_within("keys", self.keys.as_deref(), sizes.keys)?;
        if sizes.batch == 0 {
            return Err(Error::option("part", "a problem with at least one sequence", "none"));
        }
        let group = sizes.query_heads / sizes.key_heads;
        let mut heads: Vec<usize> = match &self.heads {
            None => (0..sizes.key_heads).collect(),
            Some(heads) => numbers(heads).into_iter().map(|head| head / group).collect(),
        };
        heads.dedup();
        Ok(heads)
    }

    /// Whether whole heads are judged.
    #[must_use]
    pub fn is_of_heads(&self) -> bool {
        self.rows.is_none() && self.keys.is_none()
    }
}

/// An error unless there is a range, and all are below `count`.
fn expect_within(
    name: &'static str,
    ranges: Option<&[Range<usize>]>,
    count: usize,
) -> Result<(), Error> {
    let Some(ranges) = ranges else { return Ok(()) };
    let last = ranges.last().filter(|last| !last.is_empty());
    if last.is_none_or(|last| last.end > count) {
        let expected = format!("{name} from 0 to below {count}, at least one");
        let found = if ranges.is_empty() { "none".to_owned() } else { words(ranges) };
        return Err(Error::option(name, expected, found));
    }
    Ok(())
}
