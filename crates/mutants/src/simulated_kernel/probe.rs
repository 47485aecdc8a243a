//! Some rows and keys of a run: enough of its gradients to see that it is not the candidate.

use super::State;
use sus_reference::problem::Row;

/// The rows of `dq`, and the keys of `dk` and `dv`, that a run computes; the rest stays 0.
///
/// A stage that follows a mutation reads, of a matrix, the entry that it writes, and of a row its own `lse` and `delta`; the sum of a
/// row of `dq` reads that row, and the sum of a key that column. So the rows and the columns of a probe have the bits of the whole run.
#[derive(Debug, Clone)]
pub(in super::super) struct Probe {
    /// By row, numbered over heads and batch.
    pub(in super::super) rows: Vec<bool>,
    /// By key, in all heads.
    pub(in super::super) keys: Vec<bool>,
}

impl<'a> State<'a> {
    /// Whether this row of `dq` is computed.
    pub(super) fn computes_row(&self, n: usize) -> bool {
        self.probe.is_none_or(|probe| probe.rows[n])
    }

    /// Whether this row of `dk` and of `dv` is computed.
    pub(super) fn computes_key(&self, j: usize) -> bool {
        self.probe.is_none_or(|probe| probe.keys[j])
    }

    /// The entries that the computed gradients depend on.
    pub(super) fn computed_entries(
        &self,
    ) -> impl Iterator<Item = (usize, usize, Row, usize)> + use<'a> {
        let probe = self.probe;
        let is_computed = move |n: usize, j: usize| probe.is_none_or(|of| of.rows[n] || of.keys[j]);
        self.entries().filter(move |&(_, n, _, j)| is_computed(n, j))
    }
}
