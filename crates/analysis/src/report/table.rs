//! The table that `analyze` prints.

use super::increase;
use crate::Analysis;
use crate::totals::{PerGradient, Setting};
use std::fmt::Write as _;

impl Analysis {
    /// The table that `analyze` prints without `--json`.
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
