//! What `analyze --json` prints.

use super::increase;
use crate::Analysis;
use crate::totals::{PerGradient, Setting, Totals};
use serde_json::{Map, Value, json};

/// A value for each gradient, as JSON.
pub(crate) fn gradients<T: Into<Value>>(values: PerGradient<T>) -> Value {
    let PerGradient { dq, dk, dv } = values.map(Into::into);
    json!({ "dq": dq, "dk": dk, "dv": dv })
}

/// A budget as it stands in the metadata of a file.
pub(crate) fn budget(c: f64) -> Value {
    if c.is_finite() { json!(c) } else { json!("inf") }
}

impl Analysis {
    /// What `analyze --json` prints.
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
}
