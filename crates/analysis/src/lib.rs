//! What a budget costs and what it leaves of the gradients, over a set of sequences, exactly.
//!
//! ```text
//! relative increase = mean over sequences of tr Var_mask[g~ | x]  /  between-sequence variance of g
//! between-sequence variance = sum over coordinates of sum_x (g(x) - mean)^2 / (sequences - 1)
//! ```
//!
//! [`scan`] makes the sums over the rows of one problem, [`spread`] the between-sequence variance, [`Analysis`] holds
//! them for a whole set, [`choose`](fn@choose) inverts them, [`report`] and [`plot`] show them.

pub mod choose;
mod passes;
pub mod report;
pub mod scan;
pub mod spread;
mod totals;

pub use choose::{Choice, IncreaseTarget, Tensors, choose};
pub use spread::Spread;
pub use totals::{PerGradient, Setting, Totals};

use passes::Passed;
use sus_fast::{Backends, Fallback};
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::evaluation::visible_count;
use sus_reference::problem::{Problem, Sizes};
use sus_reference::scalar::{Dd, Scalar};
use sus_reference::sus::{Budget, Rule, Sampler};
use sus_reference::tensor::Tensor;

/// Multiply-adds of one pass up to which an analysis runs in double-double arithmetic.
const QUICK_IN_DD: u64 = 1 << 18;

/// The budgets of an analysis where nobody says otherwise.
///
/// # Examples
/// ```
/// use sus_analysis::{DEFAULT_BUDGETS, settings};
/// use sus_reference::sus::Budget;
/// assert!(DEFAULT_BUDGETS.is_sorted());
/// let c = DEFAULT_BUDGETS.map(Budget::new).into_iter().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(settings(&c, None, None)[3].c.get(), 30.0); // the paper's budget, under its rule
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub const DEFAULT_BUDGETS: [f64; 4] = [5.0, 10.0, 20.0, 30.0];

/// Every rule with every sampler, the paper's first; for each, the budgets in the given order.
///
/// # Examples
/// ```
/// use sus_analysis::settings;
/// use sus_reference::sus::{Budget, Rule};
/// let c = [Budget::new(10.0)?, Budget::new(30.0)?];
/// assert_eq!(settings(&c, None, None).len(), 2 * 4); // two rules, two samplers
/// assert_eq!(settings(&c, Some(Rule::Paper), None).len(), 2 * 2);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn settings(c: &[Budget], rule: Option<Rule>, sampler: Option<Sampler>) -> Vec<Setting> {
    let laws = [
        (Rule::Paper, Sampler::Bernoulli),
        (Rule::Calibrated, Sampler::Bernoulli),
        (Rule::Paper, Sampler::Systematic),
        (Rule::Calibrated, Sampler::Systematic),
    ];
    let asked = laws.into_iter().filter(|law| {
        rule.is_none_or(|rule| rule == law.0) && sampler.is_none_or(|sampler| sampler == law.1)
    });
    asked.flat_map(|(rule, sampler)| c.iter().map(move |&c| Setting { c, rule, sampler })).collect()
}

/// Exact sums over a set of sequences.
///
/// # Examples
/// ```
/// use sus_analysis::{Analysis, Setting};
/// use sus_reference::sus::{Budget, Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let law = |sampler| Ok::<_, sus_reference::Error>(Setting { c: Budget::new(4.0)?, rule: Rule::Paper, sampler });
/// let mut analysis = Analysis::new(vec![law(Sampler::Bernoulli)?, law(Sampler::Systematic)?]);
/// analysis.add(&problem, None)?;
/// // The sampler does not change dv's variance: no two entries of a row meet in one element.
/// let [independent, systematic] = [0, 1].map(|setting| analysis.total(setting).variance);
/// assert!((systematic.dv / independent.dv - 1.0).abs() < 1e-12);
/// assert_ne!(systematic.dq, independent.dq);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Analysis {
    /// What is analysed, in the order of the results.
    pub settings: Vec<Setting>,
    /// For each setting and key head (with the query heads that read it), the sums over all sequences.
    pub totals: Vec<Vec<Totals>>,
    /// The gradients of all sequences.
    pub gradients: PerGradient<Spread>,
    /// The projection gradients `x^T dq`, `x^T dk`, `x^T dv`, if every sequence so far has an `x`.
    pub projections: Option<PerGradient<Spread>>,
    /// `|dbias|^2`, of each problem by itself, if there is a bias.
    pub dbias_squared_norm: Option<f64>,
    /// The sizes of one problem; `batch` is the number of sequences.
    pub sizes: Option<Sizes>,
    /// The paths that the forward and dense backward passes took: of the first problem, or of the first that the kernels
    /// do not serve.
    pub paths: Option<Backends>,
    plain: bool,
    features_of_x: Option<usize>,
}

impl Analysis {
    /// An analysis of no sequences yet.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::{Analysis, settings};
    /// use sus_reference::sus::Budget;
    /// let analysis = Analysis::new(settings(&[Budget::new(4.0)?], None, None));
    /// assert_eq!((analysis.sequences(), analysis.total(0).rows), (0, 0));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn new(settings: Vec<Setting>) -> Self {
        Analysis {
            totals: vec![Vec::new(); settings.len()],
            settings,
            gradients: PerGradient::default(),
            projections: None,
            dbias_squared_norm: None,
            sizes: None,
            paths: None,
            plain: false,
            features_of_x: None,
        }
    }

    /// The same by the definition alone: no pass by the kernels of [`fast`](sus_fast), whose results differ by rounding.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::{Analysis, settings};
    /// use sus_bench::Pattern;
    /// use sus_reference::sus::Budget;
    /// let problem = Pattern::Random.problem(64, 16, true)?; // too large for double-double arithmetic
    /// let mut analysis = Analysis::new(settings(&[Budget::new(4.0)?], None, None)).plain();
    /// analysis.add(&problem, None)?;
    /// let paths = analysis.paths.unwrap().to_string();
    /// assert_eq!(paths, "forward plain (asked for), backward plain (asked for)");
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn plain(self) -> Self {
        Analysis { plain: true, ..self }
    }

    /// The number of sequences.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::Analysis;
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let mut analysis = Analysis::new(Vec::new());
    /// analysis.add(&problem, None)?;
    /// analysis.add(&problem, None)?;
    /// assert_eq!(analysis.sequences(), 2 * problem.sizes().batch);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.gradients.dq.sequences()
    }

    /// Adds the sequences of one problem; `x` is the layer's input `[B,1,Nq,M]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a sequence has another shape than those before; [`Error::Overflow`] if a gradient or a
    /// variance leaves the range of `f64`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_analysis::{Analysis, settings};
    /// use sus_reference::sus::{Budget, Rule, Sampler};
    /// let c = [Budget::new(2.0)?, Budget::new(4.0)?];
    /// let mut analysis = Analysis::new(settings(&c, Some(Rule::Paper), Some(Sampler::Bernoulli)));
    /// analysis.add(&problem, None)?;
    /// assert!(analysis.total(1).variance.dq < analysis.total(0).variance.dq); // c = 4 has less
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn add(&mut self, problem: &Problem<f64>, x: Option<&Tensor<f64>>) -> Result<(), Error> {
        let m = x.map(|x| x.shape()[3]);
        same_shape(problem, self.sizes)?;
        if self.sizes.is_some() && m != self.features_of_x {
            let name = |m: Option<usize>| m.map_or("none".into(), |m| format!("M = {m}"));
            let expected = format!("{}, as in the first file", name(self.features_of_x));
            return Err(Error::option("x", expected, name(m)));
        }
        let sizes = problem.sizes();
        let work = visible_count(problem)
            .saturating_mul((sizes.features + sizes.value_features + m.unwrap_or(0)) as u64)
            .saturating_mul(self.settings.len() as u64);
        if work <= QUICK_IN_DD {
            let problem = problem.cast::<Dd>()?;
            let passed = passes::plain(&problem, Fallback::Arithmetic);
            let source = scan::Definition::new(&problem, &passed.saved);
            self.add_in(&problem, &passed, &source, x.map(|x| x.map(Dd::from)).as_ref())?;
        } else {
            let passed = passes::in_f64(problem, self.plain);
            let source = passes::entries(problem, &passed.saved, self.plain);
            self.add_in(problem, &passed, source.as_ref(), x)?;
        }
        self.features_of_x = m;
        let batch = self.sequences();
        self.sizes = Some(Sizes { batch, ..sizes });
        Ok(())
    }

    fn add_in<T: Scalar>(
        &mut self,
        problem: &Problem<T>,
        passed: &Passed<T>,
        source: &dyn scan::Source<T>,
        x: Option<&Tensor<T>>,
    ) -> Result<(), Error> {
        let Passed { gradients: dense, paths, .. } = passed;
        passes::note(&mut self.paths, *paths);
        let found = scan::scan_entries(problem, source, &self.settings, x, true)?;
        for (totals, added) in self.totals.iter_mut().zip(found) {
            if totals.is_empty() {
                totals.resize(added.len(), Totals::default());
            }
            totals.iter_mut().zip(&added).for_each(|(total, added)| total.add(added));
        }
        if let Some(dbias) = &dense.dbias {
            let squared = dbias.as_slice().iter().map(|x| x.to_f64() * x.to_f64()).sum::<f64>();
            *self.dbias_squared_norm.get_or_insert(0.0) += squared;
        }
        let heads = problem.sizes().key_heads;
        let Gradients { dq, dk, dv, .. } = dense;
        let names = PerGradient { dq: "dq", dk: "dk", dv: "dv" };
        for b in 0..problem.sizes().batch {
            let sequence = PerGradient { dq, dk, dv }.map(|g| spread::sequence(g, b));
            self.gradients.add(&sequence, heads, &names)?;
            if let Some(x) = x {
                let projected = PerGradient { dq, dk, dv }.map(|g| spread::project(x, g, b));
                self.projections.get_or_insert_default().add(&projected, heads, &names)?;
            }
        }
        Ok(())
    }
}

/// All sequences have the shape of the first.
fn same_shape(problem: &Problem<f64>, first: Option<Sizes>) -> Result<(), Error> {
    let Some(first) = first else { return Ok(()) };
    let of = |s: Sizes| {
        [
            ("q", [s.query_heads, s.queries, s.features]),
            ("k", [s.key_heads, s.keys, s.features]),
            ("v", [s.key_heads, s.keys, s.value_features]),
        ]
    };
    for ((tensor, expected), (_, found)) in of(first).into_iter().zip(of(problem.sizes())) {
        if expected != found {
            let [h, n, d] = expected;
            let expected = format!("[B, {h}, {n}, {d}], as in the first file");
            let found = [[problem.sizes().batch].as_slice(), &found].concat();
            return Err(Error::Shape { tensor, expected, found });
        }
    }
    Ok(())
}
