//! The settings of an analysis, and the sums over rows.

use sus_reference::sus::{Budget, Rule, Sampler};

/// One distribution of the mask: a budget, a rule and a sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// The budget.
    pub c: Budget,
    /// Weights to probabilities.
    pub rule: Rule,
    /// Probabilities to a mask.
    pub sampler: Sampler,
}

/// One value for each of the three gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerGradient<T> {
    /// Of `dq`.
    pub dq: T,
    /// Of `dk`.
    pub dk: T,
    /// Of `dv`.
    pub dv: T,
}

impl<T> PerGradient<T> {
    /// `f` of each.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerGradient<U> {
        PerGradient { dq: f(self.dq), dk: f(self.dk), dv: f(self.dv) }
    }

    /// The three values, `dq` first.
    pub fn into_array(self) -> [T; 3] {
        [self.dq, self.dk, self.dv]
    }

    /// References to the three.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::PerGradient;
    /// let parts = PerGradient { dq: vec![1.0], dk: vec![], dv: vec![2.0, 3.0] };
    /// assert_eq!(parts.as_ref().map(Vec::len).into_array(), [1, 0, 2]);
    /// assert_eq!(parts.dv[1], 3.0); // still there
    /// ```
    pub fn as_ref(&self) -> PerGradient<&T> {
        PerGradient { dq: &self.dq, dk: &self.dk, dv: &self.dv }
    }
}

impl PerGradient<f64> {
    pub(super) fn add(&mut self, other: Self) {
        self.dq += other.dq;
        self.dk += other.dk;
        self.dv += other.dv;
    }
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Visible entries.
    pub visible: u64,
    /// `E nnz`.
    pub expected: f64,
    /// The largest `E nnz` of a row.
    pub most_expected: f64,
    /// `Var nnz`.
    pub count_variance: f64,
    /// Mask variance of each gradient, summed over its elements.
    pub variance: PerGradient<f64>,
    /// Mask variance of `dbias`, summed over its elements.
    pub dbias: f64,
    /// Mask variance of `x^T dq`, `x^T dk`, `x^T dv`. The latter two need `Nq = Nk`.
    pub projected: PerGradient<f64>,
    /// The least that any probabilities give each gradient at the same `E nnz` in every row (independent entries).
    pub row_optimum: Option<PerGradient<f64>>,
    /// The same at the same `E nnz` summed over the rows of a query head.
    pub head_optimum: Option<PerGradient<f64>>,
}

impl Totals {
    /// Expected kept entries over visible ones.
    #[must_use]
    pub fn kept_fraction(&self) -> f64 {
        ratio(self.expected, self.visible as f64)
    }

    /// Expected kept entries per row.
    #[must_use]
    pub fn mean_expected(&self) -> f64 {
        ratio(self.expected, self.rows as f64)
    }

    /// Adds the sums over other rows. An optimum that is not known for all rows is not known.
    pub fn add(&mut self, other: &Self) {
        let fresh = self.rows == 0;
        self.rows += other.rows;
        self.visible += other.visible;
        self.expected += other.expected;
        self.most_expected = self.most_expected.max(other.most_expected);
        self.count_variance += other.count_variance;
        self.variance.add(other.variance);
        self.dbias += other.dbias;
        self.projected.add(other.projected);
        let merge = |mine: &mut Option<PerGradient<f64>>, other: Option<PerGradient<f64>>| {
            if fresh {
                *mine = Some(PerGradient::default());
            }
            match (mine.as_mut(), other) {
                (Some(mine), Some(other)) => mine.add(other),
                _ => *mine = None,
            }
        };
        if other.rows > 0 {
            merge(&mut self.row_optimum, other.row_optimum);
            merge(&mut self.head_optimum, other.head_optimum);
        }
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
