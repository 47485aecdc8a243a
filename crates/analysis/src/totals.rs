//! What an analysis asks for, and the sums over rows that it finds.

use sus_reference::sus::{Budget, Rule, Sampler};

/// One law of the mask.
///
/// # Examples
/// ```
/// use sus_analysis::{Setting, settings};
/// use sus_reference::sus::{Budget, Rule, Sampler};
/// let c = Budget::new(30.0)?;
/// let paper = Setting { c, rule: Rule::Paper, sampler: Sampler::Bernoulli };
/// assert_eq!(settings(&[c], None, None)[0], paper); // the paper's comes first
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
///
/// # Examples
/// ```
/// use sus_analysis::PerGradient;
/// let norms = PerGradient { dq: 3.0, dk: 4.0, dv: 12.0 };
/// let squared: f64 = norms.map(|x| x * x).into_array().iter().sum();
/// assert_eq!(squared.sqrt(), 13.0); // of all three together
/// ```
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
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::PerGradient;
    /// let names = PerGradient { dq: "dq", dk: "dk", dv: "dv" };
    /// assert_eq!(names.map(|name| format!("x^T {name}")).dv, "x^T dv");
    /// ```
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerGradient<U> {
        PerGradient { dq: f(self.dq), dk: f(self.dk), dv: f(self.dv) }
    }

    /// The three values, `dq` first.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::PerGradient;
    /// assert_eq!(PerGradient { dv: 3, dk: 2, dq: 1 }.into_array(), [1, 2, 3]);
    /// ```
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
///
/// # Examples
/// ```
/// use sus_analysis::{Totals, scan::scan, settings};
/// use sus_reference::sus::{Budget, Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// let settings = settings(&[Budget::new(4.0)?], Some(Rule::Calibrated), Some(Sampler::Systematic));
/// let heads: Vec<Totals> = scan(&problem, &saved, &settings, None, true)?.remove(0);
/// let rows: u64 = heads.iter().map(|head| head.rows).sum();
/// assert_eq!(rows as usize, problem.row_count());
/// assert!(heads[0].row_optimum.is_none()); // known for independent entries alone
/// assert!(heads[0].most_expected <= 4.0 + 1e-12);
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
    /// Adds the sums over other rows. An optimum that is not known for all rows is not known.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::Totals;
    /// let mut sum = Totals { rows: 2, expected: 5.0, most_expected: 3.0, ..Totals::default() };
    /// sum.add(&Totals { rows: 1, expected: 4.0, most_expected: 4.0, ..Totals::default() });
    /// assert_eq!((sum.rows, sum.expected, sum.most_expected), (3, 9.0, 4.0)); // sums, and a maximum
    /// ```
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
