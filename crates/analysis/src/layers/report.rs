//! The budgets as text, as JSON, and as the file that a training program reads.

use super::layer::HeadTotals;
use super::{Estimator, LayerBudgets, LayersTarget, RowBudgets, Spend, Spending};
use crate::choose::{RelativeTo, TargetGradients};
use crate::report::gradients;
use serde_json::{Value, json};
use std::fmt::Write as _;

impl LayerBudgets {
    /// The budgets alone: `{"c": [[c of a head, ...] of a layer, ...]}`, and `"rows": "cotangent"` where these are scaled.
    #[must_use]
    pub fn to_file(&self) -> Value {
        let of_layer =
            |layer: &super::LayerResult| layer.heads.iter().map(|head| head.c).collect::<Vec<_>>();
        let c: Vec<Vec<f64>> = self.layers.iter().map(of_layer).collect();
        match self.target.estimator.rows {
            RowBudgets::Uniform => json!({ "c": c }),
            RowBudgets::Cotangent => json!({ "c": c, "rows": "cotangent" }),
        }
    }

    /// What `choose-c --layers --json` prints.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let LayersTarget { of, relative_to, estimator, .. } = self.target;
        let spending = |spending: &Spending| json!({ "c": spending.c, "expected_nnz": spending.count, "increase": spending.increase });
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let n = layer.rows as f64;
                let totals = |totals: &HeadTotals, increase: f64| {
                    json!({
                        "expected_nnz": { "mean": totals.expected / n, "max": totals.most_expected },
                        "mask_variance": gradients(totals.variance),
                        "increase": increase,
                    })
                };
                let heads: Vec<Value> = layer
                    .heads
                    .iter()
                    .map(|head| {
                        let mut value = totals(&head.chosen, head.increase);
                        value["c"] = json!(head.c);
                        value["paper"] = totals(&head.paper, head.paper_increase);
                        value
                    })
                    .collect();
                let path = layer.paths.to_string();
                json!({ "name": layer.name, "weight": layer.weight, "heads": heads, "path": path })
            })
            .collect();
        json!({
            "spec": "sus-oracle-layer-budgets/1",
            "of": of.to_string(),
            "relative_to": relative_to.to_string(),
            "rows": estimator.rows.to_string(),
            "centred_keys": estimator.centred_keys,
            "remainder": estimator.remainder,
            "c": self.to_file()["c"],
            "chosen": spending(&self.chosen),
            "one_c": spending(&self.one_c),
            "paper": spending(&self.paper),
            "marginal": self.marginal,
            "bound": self.bound,
            "layers": layers,
        })
    }

    /// The lines that `choose-c --layers` prints without `--json`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let LayersTarget { spend, of, relative_to, estimator, .. } = self.target;
        let of = match of {
            TargetGradients::Sum | TargetGradients::Max => "dq + dk + dv".into(),
            one => one.to_string(),
        };
        let over = match relative_to {
            RelativeTo::Sequences => ", over the between-sequence variance of the layer",
            RelativeTo::Norm => ", over the squared norm of the layer",
            RelativeTo::Nothing => "",
        };
        let mut text = format!(
            "minimised  mask variance of {of}{over}, summed over layers and heads\n\
             estimator  {}\n\n\
             {:<5} {:<4} {:>11} {:>11} {:>11} {:>11}   {:>11} {:>11}\n",
            estimator.describe(),
            "layer",
            "head",
            "c",
            "kept/row",
            "fullest",
            "increase",
            "paper kept",
            "increase"
        );
        for (l, layer) in self.layers.iter().enumerate() {
            let rows = layer.rows as f64;
            for (h, head) in layer.heads.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "{l:<5} {h:<4} {:>11.4} {:>11.4} {:>11.4} {:>11.4e}   {:>11.4} {:>11.4e}",
                    head.c,
                    head.chosen.expected / rows,
                    head.chosen.most_expected,
                    head.increase,
                    head.paper.expected / rows,
                    head.paper_increase,
                );
            }
        }
        text.push('\n');
        for (l, layer) in self.layers.iter().enumerate() {
            let weight = if layer.weight == 1.0 {
                String::new()
            } else {
                format!(", weight {}", layer.weight)
            };
            let _ = writeln!(text, "layer {l}    {}{weight}", layer.name);
        }
        let line = |name: &str, spending: &Spending| {
            let c = spending.c.map_or(String::new(), |c| format!(", c = {c:.6}"));
            format!(
                "{name:<10} increase {:.6e} at {:.6} kept per row{c}\n",
                spending.increase, spending.count
            )
        };
        text.push_str(&line("chosen", &self.chosen));
        if estimator != Estimator::default() {
            text.push_str(&line("one c", &self.one_c));
        }
        text.push_str(&line("paper", &self.paper));
        let (ratio, what, best) = match spend {
            Spend::Increase(_) => {
                (self.chosen.count / self.paper.count, "count", self.chosen.count)
            }
            _ => (self.chosen.increase / self.paper.increase, "increase", self.chosen.increase),
        };
        let _ = writeln!(text, "ratio      {ratio:.4} of the paper's {what}");
        let gap = if best > 0.0 { 100.0 * (1.0 - self.bound / best) } else { 0.0 };
        let _ = writeln!(
            text,
            "bound      no budgets of the heads have a smaller {what} than {:.6e} ({gap:.3} % less)",
            self.bound
        );
        let _ = writeln!(
            text,
            "marginal   {:.4e} of increase for one more kept entry per row",
            self.marginal
        );
        text
    }
}
