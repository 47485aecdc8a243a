//! The exact variance that a budget adds to the gradients of a set of sequences, and the entries that it keeps.
//!
//! ```text
//! relative increase = mean over sequences of tr Var_mask[g~ | x]  /  between-sequence variance of g
//! between-sequence variance = sum over coordinates of sum_x (g(x) - mean)^2 / (sequences - 1)
//! ```
//!
//! [`scan`] sums over the rows of one problem, [`spread`] over sequences, [`Analysis`] holds the sums of a whole set with
//! its JSON and its table, [`choose`](fn@choose) finds the smallest budget for a target, and [`layers`] spreads a budget over
//! the heads of several layers.

pub mod choose;
mod entries;
pub mod layers;
mod limits;
mod passes;
mod report;
pub mod scan;
pub mod spread;
mod totals;

pub use choose::{Choice, IncreaseTarget, TargetGradients, choose};
pub use limits::HEAD_OPTIMUM_ENTRIES;
pub use spread::Spread;
pub use totals::{PerGradient, Setting, Totals};

use entries::{EntrySource, ReferenceEntries, entries};
use limits::DOUBLE_DOUBLE_WORK;
use passes::DensePass;
use sus_fast::{Backends, Fallback};
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::evaluation::visible_count;
use sus_reference::problem::{Problem, Sizes};
use sus_reference::scalar::{Dd, Scalar};
use sus_reference::sus::{Budget, Rule, Sampler};
use sus_reference::tensor::Tensor;

/// The budgets of an analysis where nobody says otherwise.
pub const DEFAULT_BUDGETS: [f64; 4] = [5.0, 10.0, 20.0, 30.0];

/// Every rule with every sampler, the paper's first; for each, the budgets in the given order.
#[must_use]
pub fn settings(c: &[Budget], rule: Option<Rule>, sampler: Option<Sampler>) -> Vec<Setting> {
    let pairs = [
        (Rule::Paper, Sampler::Bernoulli),
        (Rule::Calibrated, Sampler::Bernoulli),
        (Rule::Paper, Sampler::Systematic),
        (Rule::Calibrated, Sampler::Systematic),
    ];
    let wanted = pairs.into_iter().filter(|pair| {
        rule.is_none_or(|rule| rule == pair.0) && sampler.is_none_or(|sampler| sampler == pair.1)
    });
    wanted
        .flat_map(|(rule, sampler)| c.iter().map(move |&c| Setting { c, rule, sampler }))
        .collect()
}

/// Exact sums over a set of sequences.
///
/// # Examples
/// ```
/// use sus_analysis::{Analysis, Setting};
/// use sus_reference::sus::{Budget, Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let setting = |sampler| Ok::<_, sus_reference::Error>(Setting { c: Budget::new(4.0)?, rule: Rule::Paper, sampler });
/// let mut analysis = Analysis::new(vec![setting(Sampler::Bernoulli)?, setting(Sampler::Systematic)?]);
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
    /// The backends of the forward and dense backward passes: of the first problem, or of the first that the fast kernels
    /// do not serve.
    pub paths: Option<Backends>,
    reference_requested: bool,
    features_of_x: Option<usize>,
}

impl Analysis {
    /// An analysis of no sequences yet.
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
            reference_requested: false,
            features_of_x: None,
        }
    }

    /// The same by the reference alone, without the kernels of [`sus_fast`], whose results differ by rounding.
    #[must_use]
    pub fn by_reference(self) -> Self {
        Analysis { reference_requested: true, ..self }
    }

    /// The number of sequences.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.gradients.dq.sequences()
    }

    /// Adds the sequences of one problem; `x` is the layer's input `[B,1,Nq,M]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a sequence has another shape than those before; [`Error::Overflow`] if a gradient or a
    /// variance leaves the range of `f64`.
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
        if work <= DOUBLE_DOUBLE_WORK {
            let problem = problem.cast::<Dd>()?;
            let passed = passes::by_reference(&problem, Fallback::Arithmetic);
            let source = ReferenceEntries::new(&problem, &passed.saved);
            self.add_in(&problem, &passed, &source, x.map(|x| x.map(Dd::from)).as_ref())?;
        } else {
            let passed = passes::in_f64(problem, self.reference_requested);
            let source = entries(problem, &passed.saved, self.reference_requested);
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
        passed: &DensePass<T>,
        source: &dyn EntrySource<T>,
        x: Option<&Tensor<T>>,
    ) -> Result<(), Error> {
        let DensePass { gradients: dense, paths, .. } = passed;
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
