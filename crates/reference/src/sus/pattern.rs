//! The kept entries of a mask, as compressed sparse rows without the values.

use crate::error::Error;

/// Which entries are kept, by rows in `(b, h, i)` order: compressed sparse rows without the values.
///
/// # Examples
/// ```
/// use sus_reference::sus::Pattern;
/// // The mask of a kernel, one bit per entry, as rows of keys.
/// let kept = [[true, false, true], [false, false, false], [false, true, false]];
/// let (mut offsets, mut columns) = (vec![0], Vec::new());
/// for row in kept {
///     columns.extend((0..3_u32).filter(|&j| row[j as usize]));
///     offsets.push(columns.len());
/// }
/// let pattern = Pattern::new(3, 3, offsets, columns)?;
/// assert_eq!([0, 1, 2].map(|row| pattern.row(row).to_vec()), [vec![0, 2], vec![], vec![1]]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    offsets: Vec<usize>,
    columns: Vec<u32>,
}

impl Pattern {
    /// A pattern over `rows` rows and `keys` columns.
    ///
    /// # Errors
    /// [`Error::Option`] named `mask` unless `offsets` has `rows + 1` numbers from 0 to the number of columns, never
    /// decreasing, and each row's columns ascend strictly and stay below `keys`.
    pub fn new(
        rows: usize,
        keys: usize,
        offsets: Vec<usize>,
        columns: Vec<u32>,
    ) -> Result<Self, Error> {
        let legal = offsets.len() == rows + 1
            && offsets[0] == 0
            && offsets.is_sorted()
            && offsets[rows] == columns.len();
        if !legal {
            let expected = format!(
                "{} row offsets from 0 to the {} columns, never decreasing",
                rows + 1,
                columns.len()
            );
            return Err(Error::option("mask", expected, format!("{} offsets", offsets.len())));
        }
        for (at, range) in offsets.windows(2).enumerate() {
            let row = &columns[range[0]..range[1]];
            let ascending = row.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || row.last().is_some_and(|&j| j as usize >= keys) {
                let expected = format!("columns ascending and below {keys}");
                return Err(Error::option(
                    "mask",
                    expected,
                    format!("row {at} with {}", crate::quote::list(row)),
                ));
            }
        }
        Ok(Pattern { offsets, columns })
    }

    /// A pattern from parts that satisfy the conditions of [`Pattern::new`].
    pub(super) fn from_parts(offsets: Vec<usize>, columns: Vec<u32>) -> Self {
        Pattern { offsets, columns }
    }

    /// The kept keys of the row with this number, ascending.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, number: usize) -> &[u32] {
        &self.columns[self.offsets[number]..self.offsets[number + 1]]
    }

    /// Row `n` holds the columns `offsets[n]..offsets[n + 1]`.
    #[must_use]
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// All columns, row after row.
    #[must_use]
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The number of kept entries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.columns.len()
    }
}
