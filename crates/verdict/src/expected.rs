//! The reference of one tensor and the errors that a right kernel may make.

use sus_bounds::{Bound, RoundingRange, TensorLimits};
use sus_reference::problem::{Part, Problem};

/// The reference of one tensor and the errors that a right kernel may make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub name: &'static str,
    pub shape: &'a [usize],
    pub reference: &'a [f64],
    pub bound: &'a Bound,
    /// Limits of the error statistics, for `dq`, `dk` and `dv` of problems that have them.
    pub limits: Option<&'a TensorLimits>,
    /// Sets of ranges; the elements of a right kernel all lie in the ranges of one set. Empty if no ranges are known.
    pub ranges: &'a [&'a [RoundingRange]],
    /// Rows that share a limit of the heads: those of the query heads of one key head, or the keys.
    pub head_rows: usize,
    /// Where its elements are in the whole problem.
    pub places: Places<'a>,
}

/// Where the elements of a result of a part are in the whole problem. Without a part, where they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Places<'a> {
    part: Option<&'a Part>,
    name: &'static str,
}

impl<'a> Places<'a> {
    pub(crate) fn of(problem: &'a Problem<f64>, name: &'static str) -> Self {
        Places { part: problem.options().part.as_deref(), name }
    }

    /// The index of a flat position, one number for each axis.
    pub(crate) fn index(&self, shape: &[usize], at: usize) -> Vec<usize> {
        let mut rest = at;
        let mut index = vec![0; shape.len()];
        for (index, &axis) in index.iter_mut().zip(shape).rev() {
            (*index, rest) = (rest % axis, rest / axis);
        }
        let Some(part) = self.part else { return index };
        let group = part.whole.query_heads / part.whole.key_heads;
        let (head, positions) = match self.name {
            "o" | "lse" | "dq" => (part.first_head, part.queries.as_deref()),
            "dk" | "dv" | "dkv" => (part.first_head / group, part.keys.as_deref()),
            _ => (part.first_head, None),
        };
        // `[Hq]`, `[B, Hq]` or `[B, H, N, ..]`.
        let axis = usize::from(shape.len() > 1);
        index[axis] += head;
        if let (Some(positions), Some(position)) = (positions, index.get_mut(2)) {
            *position = positions[*position];
        }
        index
    }

    /// The number, in the whole, of row `at` of a tensor whose rows have the last axis.
    pub(crate) fn row(&self, shape: &[usize], at: usize) -> usize {
        let Some(part) = self.part else { return at };
        let index = self.index(&shape[..shape.len() - 1], at);
        let s = part.whole;
        let (heads, length) = if matches!(self.name, "dk" | "dv" | "dkv") {
            (s.key_heads, s.keys)
        } else {
            (s.query_heads, s.queries)
        };
        match index[..] {
            [b, h, n] => (b * heads + h) * length + n,
            _ => at,
        }
    }

    /// The number, in the whole, of key head `at`, counted over the batch.
    pub(crate) fn key_head(&self, shape: &[usize], at: usize) -> usize {
        let Some(part) = self.part else { return at };
        let s = part.whole;
        let group = s.query_heads / s.key_heads;
        let by_keys = matches!(self.name, "dk" | "dv" | "dkv");
        let heads = if by_keys { shape[1] } else { shape[1] / group };
        at / heads * s.key_heads + part.first_head / group + at % heads
    }
}
