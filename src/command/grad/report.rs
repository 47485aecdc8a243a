//! What `grad` prints: the problem, the entries kept, the error of the draw, the time.

use super::{Arithmetic, Run};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;
use sus_oracle::files::ProblemFile;
use sus_oracle::sus::Draw;

/// A run as text or JSON.
pub(super) struct Report<'a> {
    pub(super) path: &'a Path,
    pub(super) out: &'a Path,
    pub(super) input: &'a ProblemFile,
    pub(super) draw: Option<Draw>,
    pub(super) arithmetic: Arithmetic,
    pub(super) run: Run,
}

impl Report<'_> {
    fn arithmetic(&self) -> &'static str {
        match self.arithmetic {
            Arithmetic::F64 => "f64",
            Arithmetic::F32 => "f32",
            Arithmetic::Dd => "double-double",
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, said: String| {
            let _ = writeln!(text, "{label:<10} {said}");
        };
        let inputs = self.input.problem.inputs();
        let run = &self.run;
        line("problem", format!("{} ({})", self.path.display(), self.input.dtype));
        line(
            "shapes",
            format!("q {:?}  k {:?}  v {:?}", inputs.q.shape(), inputs.k.shape(), inputs.v.shape()),
        );
        line("settings", self.run.file.metadata.clone().unwrap_or_default());
        if let (Some(draw), Some(kept)) = (self.draw, run.kept) {
            let per_row = |n: f64| n / (kept.rows.max(1)) as f64;
            line(
                "kept",
                format!(
                    "{:.2} of {:.1} visible keys per row ({:.2} %), expected {:.2}; c = {}",
                    per_row(kept.kept as f64),
                    per_row(kept.visible as f64),
                    100.0 * kept.kept as f64 / (kept.visible.max(1)) as f64,
                    per_row(kept.expected),
                    draw.c.get()
                ),
            );
            line(
                "",
                format!(
                    "fullest row {}, largest expected count {:.2}",
                    kept.most, kept.most_expected
                ),
            );
        }
        if let Some(errors) = &run.errors {
            let errors: Vec<String> =
                errors.iter().map(|(name, error)| format!("{name} {error:.3e}")).collect();
            line("one draw", format!("|SUS - dense| / |dense|:  {}", errors.join("  ")));
        }
        let dense = run.dense_seconds.map_or(String::new(), |seconds| {
            format!("; dense backward, for comparison, {seconds:.3} s")
        });
        let pass = if self.draw.is_some() {
            "forward, mask, SUS backward"
        } else {
            "forward, dense backward"
        };
        line("time", format!("{pass} in {}: {:.3} s{dense}", self.arithmetic(), run.seconds));
        line("path", run.paths.to_string());
        let names: Vec<&str> = run.file.arrays.keys().map(String::as_str).collect();
        line("wrote", format!("{}: {}", self.out.display(), names.join(" ")));
        text
    }

    pub(super) fn json(&self) -> String {
        let sizes = self.input.problem.sizes();
        let run = &self.run;
        let settings: Value = run
            .file
            .metadata
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Value::Null);
        let kept = run.kept.map(|kept| {
            json!({
                "rows": kept.rows, "visible": kept.visible, "kept": kept.kept, "max": kept.most,
                "expected": kept.expected, "max_expected": kept.most_expected,
            })
        });
        let errors = run.errors.as_ref().map(|errors| {
            errors.iter().map(|&(name, x)| (name.to_string(), json!(x))).collect::<Map<_, _>>()
        });
        let report = json!({
            "spec": "sus-oracle-grad/1",
            "problem": self.path.display().to_string(),
            "sizes": {
                "B": sizes.batch, "Hq": sizes.query_heads, "Hk": sizes.key_heads,
                "Nq": sizes.queries, "Nk": sizes.keys,
                "D": sizes.features, "E": sizes.value_features,
            },
            "settings": settings,
            "arithmetic": self.arithmetic(),
            "paths": {
                "forward": run.paths.forward.map(|path| path.to_string()),
                "mask": run.paths.mask.map(|path| path.to_string()),
                "backward": run.paths.backward.to_string(),
            },
            "kept": kept,
            "relative_error_of_one_draw": errors,
            "seconds": { "evaluation": run.seconds, "dense_backward": run.dense_seconds },
            "out": self.out.display().to_string(),
            "tensors": run.file.arrays.keys().collect::<Vec<_>>(),
        });
        format!("{report}\n")
    }
}
