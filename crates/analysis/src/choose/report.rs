//! The choice as JSON and as text.

use super::{Choice, IncreaseTarget, PRECISION, RelativeTo, TargetGradients};
use crate::report::{budget, gradients};
use serde_json::{Value, json};

impl Choice {
    /// What `choose-c --json` prints.
    #[must_use]
    pub fn to_json(&self, target: &IncreaseTarget) -> Value {
        let IncreaseTarget { at_most, of, relative_to, rule, sampler, .. } = target;
        json!({
            "spec": "sus-oracle-choice/1",
            "target": at_most,
            "of": of.to_string(),
            "relative_to": relative_to.to_string(),
            "rule": rule.to_string(),
            "sampler": sampler.to_string(),
            "c": budget(self.c.get()),
            "precision": PRECISION,
            "path": self.paths.map(|paths| paths.to_string()),
            "relative_increase": gradients(self.relative_increase),
            "kept_fraction": self.totals.kept_fraction(),
            "expected_nnz": {
                "mean": self.totals.mean_expected(), "max": self.totals.most_expected,
            },
        })
    }

    /// The lines that `choose-c` prints without `--json`.
    #[must_use]
    pub fn to_text(&self, target: &IncreaseTarget) -> String {
        let IncreaseTarget { at_most, of, relative_to, rule, sampler, .. } = target;
        let of = match of {
            TargetGradients::Max => "dq, dk and dv".into(),
            TargetGradients::Sum => "dq + dk + dv".into(),
            one => one.to_string(),
        };
        let against = match relative_to {
            RelativeTo::Sequences => "the between-sequence variance",
            RelativeTo::Norm => "the squared norm",
            RelativeTo::Nothing => "1",
        };
        let shown = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.6e}"));
        let [dq, dk, dv] = self.relative_increase.map(shown).into_array();
        format!(
            "c          {}   the smallest whose mask variance of {of} is at most {at_most} of {against}\n\
             mask       {rule}, {sampler}\n\
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
