//! The sums over the rows of one problem, for many budgets, rules and samplers in one pass.
//!
//! The weights of a row are computed once and then serve every setting. Memory: a few rows per thread, and the partial
//! sums of blocks of rows.

use crate::entries::{EntrySource, ReferenceEntries, for_each_row};
use crate::limits::HEAD_OPTIMUM_ENTRIES;
use crate::totals::{PerGradient, Setting, Totals};
use rayon::prelude::*;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::scalar::Scalar;
use sus_reference::sus::moments::{ROWS_PER_TASK, RowDistribution, RowEntry, squared_norms};
use sus_reference::sus::optimum::least_variance;
use sus_reference::sus::{Rule, Sampler};
use sus_reference::tensor::{Tensor, dot};

/// The operands of a scan.
struct Scan<'a, T> {
    problem: &'a Problem<T>,
    source: &'a dyn EntrySource<T>,
    /// `|k_j|^2`, and the layer's input with its `|x_i|^2`.
    k_squared: Vec<T>,
    x: Option<(&'a Tensor<T>, Vec<T>)>,
    settings: &'a [Setting],
    optima: bool,
}

/// The sums over the rows that read a key head, for each setting and key head, over all sequences.
///
/// `x` is the layer's input, for the projection gradients. `optima` requests the optima, which take longer than all the rest.
///
/// # Errors
/// [`Error::Overflow`] if a variance leaves the range of the arithmetic.
///
/// # Examples
/// ```
/// use sus_analysis::{scan::scan, settings};
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::MaskDistribution};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// let c = Budget::new(4.0)?;
/// let settings = settings(&[c], Some(Rule::Paper), Some(Sampler::Systematic));
/// let found = scan(&problem, &saved, &settings, None, false)?;
/// assert_eq!((found.len(), found[0].len()), (1, problem.sizes().key_heads));
/// // Summed over the key heads, these are the traces of the distribution.
/// let sum: f64 = found[0].iter().map(|head| head.variance.dq).sum();
/// let distribution = MaskDistribution::new(&problem, &saved, c, Rule::Paper, Sampler::Systematic);
/// assert!((sum / distribution.traces().dq - 1.0).abs() < 1e-12);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn scan<T: Scalar>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    settings: &[Setting],
    x: Option<&Tensor<T>>,
    optima: bool,
) -> Result<Vec<Vec<Totals>>, Error> {
    scan_entries(problem, &ReferenceEntries::new(problem, saved), settings, x, optima)
}

/// The same of entries that come from `source`.
pub(super) fn scan_entries<T: Scalar>(
    problem: &Problem<T>,
    source: &dyn EntrySource<T>,
    settings: &[Setting],
    x: Option<&Tensor<T>>,
    optima: bool,
) -> Result<Vec<Vec<Totals>>, Error> {
    let scan = Scan {
        problem,
        source,
        k_squared: squared_norms(&problem.inputs().k),
        x: x.map(|x| (x, squared_norms(x))),
        settings,
        optima,
    };
    let sizes = problem.sizes();
    let mut totals = vec![vec![Totals::default(); sizes.key_heads]; settings.len()];
    for b in 0..sizes.batch {
        for h in 0..sizes.query_heads {
            let head = scan.query_head(b, h);
            for (totals, head) in totals.iter_mut().zip(&head) {
                totals[problem.key_head(h)].add(head);
            }
        }
    }
    for totals in totals.iter().flatten() {
        let named = [("dq", totals.variance.dq), ("dk", totals.variance.dk)];
        for (tensor, x) in named.into_iter().chain([("dv", totals.variance.dv)]) {
            if !x.is_finite() {
                let found = format!("a mask variance of {x}");
                return Err(Error::Overflow { tensor, index: 0, found });
            }
        }
    }
    Ok(totals)
}

impl<T: Scalar> Scan<'_, T> {
    /// The totals of one query head, for each setting.
    fn query_head(&self, b: usize, h: usize) -> Vec<Totals> {
        let queries = self.problem.sizes().queries;
        let blocks: Vec<Vec<Totals>> = (0..queries.div_ceil(ROWS_PER_TASK))
            .into_par_iter()
            .map(|block| {
                let mut totals = vec![Totals::default(); self.settings.len()];
                let rows = block * ROWS_PER_TASK..queries.min((block + 1) * ROWS_PER_TASK);
                for_each_row(self.source, (b, h), rows, |row, entries| {
                    for (totals, setting) in totals.iter_mut().zip(self.settings) {
                        totals.add(&self.row(row, entries, setting));
                    }
                });
                totals
            })
            .collect();
        let mut sum = vec![Totals::default(); self.settings.len()];
        for block in &blocks {
            sum.iter_mut().zip(block).for_each(|(sum, block)| sum.add(block));
        }
        self.add_head_optimum(b, h, &mut sum);
        sum
    }

    /// What one row adds under one setting.
    fn row(&self, row: Row, entries: &[RowEntry<T>], setting: &Setting) -> Totals {
        let p = self.problem;
        let sizes = p.sizes();
        let w: Vec<f64> = match setting.rule {
            Rule::Paper => Vec::new(),
            Rule::Calibrated => entries.iter().map(|entry| entry.w.to_f64()).collect(),
        };
        let lambda = T::from_f64(setting.rule.lambda(setting.c, &w));
        let distribution =
            RowDistribution::new(setting.sampler, lambda, entries.iter().map(|entry| entry.w));
        let first = (row.b * sizes.key_heads + p.key_head(row.h)) * sizes.keys;
        let traces = distribution.traces(p, row, entries, |j| self.k_squared[first + j]);
        let expected = traces.expected.to_f64();
        let independent = setting.sampler == Sampler::Bernoulli;
        Totals {
            rows: 1,
            visible: entries.len() as u64,
            expected,
            most_expected: expected,
            count_variance: traces.count_variance.to_f64(),
            variance: PerGradient {
                dq: traces.dq.to_f64(),
                dk: traces.dk.to_f64(),
                dv: traces.dv.to_f64(),
            },
            dbias: traces.dbias.to_f64(),
            projected: self.projected(row, entries, &distribution, traces.dq),
            row_optimum: (independent && self.optima)
                .then(|| self.row_optimum(row, entries, expected)),
            head_optimum: None,
        }
    }

    /// Variances of the row's share of `x^T dq`, `x^T dk` and `x^T dv`.
    ///
    /// `x^T dq = sum_i x_i dq_i^T`, and with `dk_j = sum_i W~_ij f_ij q_i`,
    /// `x^T dk = sum_i (sum_j W~_ij f_ij x_j) q_i^T`; `x^T dv` likewise with `G_i` and without `f`.
    fn projected(
        &self,
        row: Row,
        entries: &[RowEntry<T>],
        distribution: &RowDistribution<T>,
        dq: T,
    ) -> PerGradient<f64> {
        let Some((x, x_squared)) = &self.x else {
            return PerGradient::default();
        };
        let p = self.problem;
        let first = row.b * p.sizes().queries;
        let of_q = (x_squared[first + row.i] * dq).to_f64();
        if p.sizes().queries != p.sizes().keys {
            return PerGradient { dq: of_q, dk: 0.0, dv: 0.0 };
        }
        let vector = |n: usize| x.row(row.b, 0, entries[n].j);
        let squared = |n: usize| x_squared[first + entries[n].j];
        let m = x.shape()[3];
        let of_k =
            distribution.trace(|n| entries[n].f, vector, squared, m) * dot(p.q(row), p.q(row));
        let of_v = distribution.trace(|_| T::one(), vector, squared, m) * dot(p.g(row), p.g(row));
        PerGradient { dq: of_q, dk: of_k.to_f64(), dv: of_v.to_f64() }
    }

    /// The least variance of the row's share of each gradient.
    fn row_optimum(&self, row: Row, entries: &[RowEntry<T>], budget: f64) -> PerGradient<f64> {
        let y = self.leverage(row, entries);
        y.map(|y| least_variance(&y, budget))
    }

    /// `y = W sqrt(A)` of a row's entries: `W |f| |k_j|`, `W |f| |q_i|` and `W |G_i|`.
    fn leverage(&self, row: Row, entries: &[RowEntry<T>]) -> PerGradient<Vec<f64>> {
        let p = self.problem;
        let first = (row.b * p.sizes().key_heads + p.key_head(row.h)) * p.sizes().keys;
        let of = |f: &dyn Fn(&RowEntry<T>) -> T| -> Vec<f64> {
            entries.iter().map(|entry| f(entry).to_f64().abs()).collect()
        };
        let (q, g) = (norm(p.q(row)), norm(p.g(row)));
        PerGradient {
            dq: of(&|e| e.w * e.f * self.k_squared[first + e.j].sqrt()),
            dk: of(&|e| e.w * e.f * q),
            dv: of(&|e| e.w * g),
        }
    }

    /// Adds, for independent entries, the optimum over all rows of the head.
    fn add_head_optimum(&self, b: usize, h: usize, totals: &mut [Totals]) {
        let p = self.problem;
        let visible: usize = (0..p.sizes().queries).map(|i| p.visible_keys(Row { b, h, i })).sum();
        let independent = |setting: &Setting| setting.sampler == Sampler::Bernoulli;
        if !self.optima || visible > HEAD_OPTIMUM_ENTRIES || !self.settings.iter().any(independent)
        {
            return;
        }
        let queries = p.sizes().queries;
        let rows: Vec<PerGradient<Vec<f64>>> = (0..queries.div_ceil(ROWS_PER_TASK))
            .into_par_iter()
            .flat_map_iter(|block| {
                let mut found = Vec::with_capacity(ROWS_PER_TASK);
                let rows = block * ROWS_PER_TASK..queries.min((block + 1) * ROWS_PER_TASK);
                for_each_row(self.source, (b, h), rows, |row, entries| {
                    found.push(self.leverage(row, entries));
                });
                found
            })
            .collect();
        let all = |of: fn(&PerGradient<Vec<f64>>) -> &Vec<f64>| -> Vec<f64> {
            rows.iter().flat_map(|row| of(row).iter().copied()).collect()
        };
        let y = [all(|row| &row.dq), all(|row| &row.dk), all(|row| &row.dv)];
        drop(rows);
        totals.par_iter_mut().zip(self.settings).for_each(|(totals, setting)| {
            if independent(setting) && totals.rows > 0 {
                let [dq, dk, dv] = y.each_ref().map(|y| least_variance(y, totals.expected));
                totals.head_optimum = Some(PerGradient { dq, dk, dv });
            }
        });
    }
}

fn norm<T: Scalar>(x: &[T]) -> T {
    dot(x, x).sqrt()
}
