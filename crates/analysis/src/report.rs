//! An analysis as JSON and as a table.

use super::choose::{Choice, IncreaseTarget, RelativeTo};
use super::spread::Spread;
use super::totals::{PerGradient, Setting, Totals};
use super::{Analysis, choose};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A value for each gradient, as JSON.
fn gradients<T: Into<Value>>(values: PerGradient<T>) -> Value {
    let PerGradient { dq, dk, dv } = values.map(Into::into);
    json!({ "dq": dq, "dk": dk, "dv": dv })
}

/// A budget as it stands in the metadata of a file.
fn budget(c: f64) -> Value {
    if c.is_finite() { json!(c) } else { json!("inf") }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Totals {
    /// Expected kept entries over visible ones.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::Totals;
    /// let totals = Totals { rows: 2, visible: 40, expected: 10.0, ..Totals::default() };
    /// assert_eq!(totals.kept_fraction(), 0.25);
    /// assert_eq!(Totals::default().kept_fraction(), 0.0); // nothing visible
    /// ```
    #[must_use]
    pub fn kept_fraction(&self) -> f64 {
        ratio(self.expected, self.visible as f64)
    }

    /// Expected kept entries per row.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::Totals;
    /// let totals = Totals { rows: 4, visible: 40, expected: 10.0, ..Totals::default() };
    /// assert_eq!(totals.mean_expected(), 2.5);
    /// ```
    #[must_use]
    pub fn mean_expected(&self) -> f64 {
        ratio(self.expected, self.rows as f64)
    }
}

impl Analysis {
    /// The sums of one setting over all heads.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_analysis::{Analysis, settings};
    /// let c = [sus_reference::sus::Budget::new(4.0)?];
    /// let mut analysis = Analysis::new(settings(&c, None, None));
    /// analysis.add(&problem, None)?;
    /// let total = analysis.total(0);
    /// assert!(total.mean_expected() <= 4.0 && total.kept_fraction() <= 1.0);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn total(&self, setting: usize) -> Totals {
        let mut total = Totals::default();
        self.totals[setting].iter().for_each(|head| total.add(head));
        total
    }

    /// The relative increase of each gradient, of one key head or of all; `None` with fewer than two sequences.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::{Analysis, settings};
    /// use sus_reference::sus::{Budget, Rule, Sampler};
    /// let problem = sus_corpus::named("primes").unwrap().problem; // two sequences
    /// let c = [Budget::new(4.0)?];
    /// let mut analysis = Analysis::new(settings(&c, Some(Rule::Paper), Some(Sampler::Bernoulli)));
    /// analysis.add(&problem, None)?;
    /// let variance = analysis.total(0).variance;
    /// let increase = analysis.relative_increase(variance, None).unwrap();
    /// let between = analysis.gradients.dv.variance(None).unwrap();
    /// assert_eq!(increase.dv, Some(variance.dv / 2.0 / between)); // mean mask variance of a sequence
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn relative_increase(
        &self,
        variance: PerGradient<f64>,
        head: Option<usize>,
    ) -> Option<PerGradient<Option<f64>>> {
        increase(&self.gradients, variance, head)
    }

    /// What `analyze --json` prints.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::{Analysis, settings};
    /// use sus_reference::sus::Budget;
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let mut analysis = Analysis::new(settings(&[Budget::new(4.0)?], None, None));
    /// analysis.add(&problem, None)?;
    /// let json = analysis.to_json();
    /// assert_eq!((&json["sequences"], &json["rows"][1]["rule"]), (&2.into(), &"calibrated".into()));
    /// assert_eq!(json["rows"][0]["heads"].as_array().unwrap().len(), problem.sizes().key_heads);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = (0..self.settings.len())
            .map(|at| {
                let Setting { c, rule, sampler } = self.settings[at];
                let mut row = self.values(&self.total(at), None);
                row.insert("c".into(), budget(c.get()));
                row.insert("rule".into(), json!(rule.to_string()));
                row.insert("sampler".into(), json!(sampler.to_string()));
                let heads = self.totals[at].iter().enumerate().map(|(head, totals)| {
                    let mut values = self.values(totals, Some(head));
                    values.insert("key_head".into(), json!(head));
                    Value::Object(values)
                });
                row.insert("heads".into(), Value::Array(heads.collect()));
                Value::Object(row)
            })
            .collect();
        json!({
            "spec": "sus-oracle-analysis/1", "sequences": self.sequences(), "rows": rows,
            "path": self.paths.map(|paths| paths.to_string()),
        })
    }

    fn values(&self, totals: &Totals, head: Option<usize>) -> Map<String, Value> {
        let norm = self.gradients.as_ref().map(|spread| spread.squared_norm(head));
        let mut mask_variance = gradients(totals.variance);
        let mut squared_norm = gradients(norm);
        if let Some(dbias) = self.dbias_squared_norm {
            mask_variance["dbias"] = json!(totals.dbias);
            if head.is_none() {
                squared_norm["dbias"] = json!(dbias);
            }
        }
        let relative = self.relative_increase(totals.variance, head);
        let optimum = |optimum: Option<PerGradient<f64>>| optimum.map_or(Value::Null, gradients);
        let value = json!({
            "kept_fraction": totals.kept_fraction(),
            "expected_nnz": { "mean": totals.mean_expected(), "max": totals.most_expected },
            "nnz_variance": totals.count_variance,
            "mask_variance": mask_variance,
            "squared_norm": squared_norm,
            "relative_increase": relative.map_or(Value::Null, gradients),
            "least_variance": {
                "same_nnz_per_row": optimum(totals.row_optimum),
                "same_nnz_per_head": optimum(totals.head_optimum),
            },
            "projections": self.projection_values(totals, head),
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// The projection gradients' share of a row; `null` without the layer's input.
    fn projection_values(&self, totals: &Totals, head: Option<usize>) -> Value {
        let Some(projections) = &self.projections else { return Value::Null };
        let square = self.sizes.is_some_and(|sizes| sizes.queries == sizes.keys);
        let known = |values: PerGradient<f64>| {
            let known = |x| square.then_some(x);
            gradients(PerGradient {
                dq: Some(values.dq),
                dk: known(values.dk),
                dv: known(values.dv),
            })
        };
        let norm = projections.as_ref().map(|spread| spread.squared_norm(head));
        let relative = increase(projections, totals.projected, head);
        json!({
            "mask_variance": known(totals.projected),
            "squared_norm": known(norm),
            "relative_increase": relative.map_or(Value::Null, gradients),
        })
    }

    /// The table for people.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_analysis::{Analysis, settings};
    /// let c = [sus_reference::sus::Budget::new(4.0)?];
    /// let mut analysis = Analysis::new(settings(&c, None, None));
    /// analysis.add(&problem, None)?;
    /// assert!(analysis.to_table().contains("systematic"));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        if let Some(sizes) = self.sizes {
            let _ = writeln!(
                text,
                "{} sequence{}, {} query and {} key heads, {} queries, {} keys\n",
                sizes.batch,
                if sizes.batch == 1 { "" } else { "s" },
                sizes.query_heads,
                sizes.key_heads,
                sizes.queries,
                sizes.keys
            );
        }
        let table = |text: &mut String, title: &str, cells: &dyn Fn(usize) -> [String; 3]| {
            let _ = writeln!(text, "{title}");
            let _ = writeln!(
                text,
                "{:>6}  {:<10} {:<10} {:>8} {:>9} {:>9}  {:>10} {:>10} {:>10}",
                "c", "rule", "sampler", "kept %", "nnz mean", "nnz max", "dq", "dk", "dv"
            );
            for (at, Setting { c, rule, sampler }) in self.settings.iter().enumerate() {
                let total = self.total(at);
                let [dq, dk, dv] = cells(at);
                let _ = writeln!(
                    text,
                    "{:>6}  {rule:<10} {sampler:<10} {:>8.3} {:>9.3} {:>9.3}  {dq:>10} {dk:>10} {dv:>10}",
                    c.get(),
                    100.0 * total.kept_fraction(),
                    total.mean_expected(),
                    total.most_expected,
                );
            }
            text.push('\n');
        };
        let shown = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4e}"));
        let norms = self.gradients.as_ref().map(|spread| spread.squared_norm(None));
        table(&mut text, "mask variance / squared norm of the gradient", &|at| {
            over(self.total(at).variance, norms).map(shown).into_array()
        });
        if self.sequences() > 1 {
            table(&mut text, "relative variance increase: mask / between sequences", &|at| {
                let relative = self.relative_increase(self.total(at).variance, None);
                relative.unwrap_or_default().map(shown).into_array()
            });
        }
        if let Some(projections) = self.projections.as_ref().filter(|_| self.sequences() > 1) {
            table(&mut text, "the same of x^T dq, x^T dk, x^T dv", &|at| {
                let relative = increase(projections, self.total(at).projected, None);
                relative.unwrap_or_default().map(shown).into_array()
            });
        }
        let title =
            "mask variance / the least that any rule has at the same kept entries in each head";
        let independent = |at: usize| self.total(at).head_optimum;
        if (0..self.settings.len()).any(|at| independent(at).is_some()) {
            table(&mut text, title, &|at| match independent(at) {
                Some(least) => over(self.total(at).variance, least)
                    .map(|x| x.map_or("-".into(), |x| format!("{x:.4}")))
                    .into_array(),
                None => ["-"; 3].map(String::from),
            });
        }
        if let Some(paths) = self.paths {
            let _ = writeln!(text, "path: {paths}");
        }
        text
    }
}

/// One over the other, where that is a number.
fn over(a: PerGradient<f64>, b: PerGradient<f64>) -> PerGradient<Option<f64>> {
    let over = |a: f64, b: f64| (b > 0.0).then(|| a / b);
    PerGradient { dq: over(a.dq, b.dq), dk: over(a.dk, b.dk), dv: over(a.dv, b.dv) }
}

fn increase(
    spread: &PerGradient<Spread>,
    variance: PerGradient<f64>,
    head: Option<usize>,
) -> Option<PerGradient<Option<f64>>> {
    (spread.dq.sequences() > 1).then(|| PerGradient {
        dq: spread.dq.relative_increase(variance.dq, head),
        dk: spread.dk.relative_increase(variance.dk, head),
        dv: spread.dv.relative_increase(variance.dv, head),
    })
}

impl Choice {
    /// What `choose-c --json` prints.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::choose::{IncreaseTarget, RelativeTo, Tensors, choose};
    /// use sus_reference::sus::{Rule, Sampler};
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let question = IncreaseTarget {
    ///     target: 0.05, of: Tensors::Max, relative_to: RelativeTo::Norm,
    ///     rule: Rule::Paper, sampler: Sampler::Bernoulli, plain: true,
    /// };
    /// let choice = choose(vec![problem], &question)?;
    /// let json = choice.to_json(&question);
    /// assert_eq!((json["c"].as_f64(), json["target"].as_f64()), (Some(choice.c.get()), Some(0.05)));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self, question: &IncreaseTarget) -> Value {
        let IncreaseTarget { target, of, relative_to, rule, sampler, .. } = question;
        json!({
            "spec": "sus-oracle-choice/1",
            "target": target,
            "of": of.to_string(),
            "relative_to": relative_to.to_string(),
            "rule": rule.to_string(),
            "sampler": sampler.to_string(),
            "c": budget(self.c.get()),
            "precision": choose::PRECISION,
            "path": self.paths.map(|paths| paths.to_string()),
            "relative_increase": gradients(self.relative_increase),
            "kept_fraction": self.totals.kept_fraction(),
            "expected_nnz": {
                "mean": self.totals.mean_expected(), "max": self.totals.most_expected,
            },
        })
    }

    /// The lines for people.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::choose::{IncreaseTarget, RelativeTo, Tensors, choose};
    /// use sus_reference::sus::{Rule, Sampler};
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let question = IncreaseTarget {
    ///     target: 0.05, of: Tensors::Dv, relative_to: RelativeTo::Norm,
    ///     rule: Rule::Paper, sampler: Sampler::Bernoulli, plain: true,
    /// };
    /// let text = choose(vec![problem], &question)?.to_text(&question);
    /// assert!(text.contains("whose mask variance of dv is at most 0.05 of the squared norm"));
    /// assert!(text.contains("paper, bernoulli"));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn to_text(&self, question: &IncreaseTarget) -> String {
        let IncreaseTarget { target, of, relative_to, rule, sampler, .. } = question;
        let of = if of.to_string() == "max" { "dq, dk and dv".into() } else { of.to_string() };
        let against = match relative_to {
            RelativeTo::Sequences => "the between-sequence variance",
            RelativeTo::Norm => "the squared norm",
        };
        let shown = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.6e}"));
        let [dq, dk, dv] = self.relative_increase.map(shown).into_array();
        format!(
            "c          {}   the smallest whose mask variance of {of} is at most {target} of {against}\n\
             law        {rule}, {sampler}\n\
             increase   dq {dq}  dk {dk}  dv {dv}\n\
             cost       {:.4} kept per row in expectation, {:.4} in the fullest row, {:.4} % of the visible keys\n\
             path       {}\n",
            self.c.get(),
            self.totals.mean_expected(),
            self.totals.most_expected,
            100.0 * self.totals.kept_fraction(),
            self.paths.map_or("-".into(), |paths| paths.to_string()),
        )
    }
}

impl std::fmt::Display for RelativeTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            RelativeTo::Sequences => "sequences",
            RelativeTo::Norm => "norm",
        })
    }
}

impl std::str::FromStr for RelativeTo {
    type Err = sus_reference::Error;
    fn from_str(name: &str) -> Result<Self, sus_reference::Error> {
        match name {
            "sequences" => Ok(RelativeTo::Sequences),
            "norm" => Ok(RelativeTo::Norm),
            _ => {
                let expected = "'sequences' or 'norm'";
                Err(sus_reference::Error::option("relative-to", expected, format!("'{name}'")))
            }
        }
    }
}
