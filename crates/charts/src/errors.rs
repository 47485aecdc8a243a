//! The largest error over its bound of each query and each key, as SVG.

use crate::axis::Axis;
use crate::chart::{COLOURS, Chart, Series, Stroke};
use plotters::style::BLACK;
use sus_verdict::{TensorResult, Verdict};

/// Smaller ratios are drawn at this one.
const LEAST: f64 = 1e-3;

/// The largest `|err| / bound` of each query (`o`, `dq`) and each key (`dk`, `dv`), over all heads, as SVG.
///
/// Ratios below 1e-3 stand at 1e-3, infinite ones above all others. A verdict that compared no such tensor (many runs,
/// a candidate of another shape) has the line of the bound alone.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_mutants::{RunConfig, arithmetic::Arithmetic};
/// use sus_verdict::Case;
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("f32").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let wrong = (sus_mutants::named("delta_missing").unwrap().run)(&config).unwrap();
/// let case = Case::new(case.problem.clone(), case.settings.clone());
/// let verdict = sus_mutants::judge(&case, &recipe).build()?.check(&wrong);
/// assert!(sus_charts::errors(&verdict).starts_with("<svg"));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn errors(verdict: &Verdict) -> String {
    let mut series = Vec::new();
    let tensors = [("dq", "query"), ("dk", "key"), ("dv", "key"), ("dkv", "key"), ("o", "query")];
    for (name, kind) in tensors {
        let tensor = verdict.tensors.iter().find(|tensor| tensor.name == name);
        let ratios = tensor.map(by_position).unwrap_or_default();
        if !ratios.is_empty() {
            let points = ratios.into_iter().enumerate().map(|(n, r)| (n as f64, r)).collect();
            let colour = COLOURS[series.len()];
            series.push(Series {
                name: format!("{name}, by {kind}"),
                colour,
                stroke: Stroke::Solid,
                points,
            });
        }
    }
    let ratios = || series.iter().flat_map(|series| &series.points).map(|point| point.1);
    let most = ratios().filter(|r| r.is_finite()).fold(1.0, f64::max);
    let y = Axis::log(ratios().chain([1.0, most * 3.0]).map(|r| r.clamp(LEAST, most * 3.0)));
    for point in series.iter_mut().flat_map(|series| &mut series.points) {
        point.1 = point.1.clamp(LEAST, most * 3.0);
    }
    let last = series.iter().flat_map(|series| &series.points).fold(0.0, |m: f64, p| m.max(p.0));
    series.push(Series {
        name: "the bound".into(),
        colour: BLACK,
        stroke: Stroke::Limit,
        points: vec![(0.0, 1.0), (last.max(1.0), 1.0)],
    });
    let chart = Chart {
        title: "error over bound, the largest of each position".into(),
        x: ("query or key".into(), Axis::whole(0.0, last)),
        y: ("max |err| / bound".into(), y),
        series,
    };
    chart.to_svg()
}

/// The largest ratio of each position of a tensor `[batch, head, position, feature]`.
fn by_position(tensor: &TensorResult) -> Vec<f64> {
    let [_, _, positions, features] = tensor.shape.as_slice() else { return Vec::new() };
    let mut most = vec![0.0; *positions];
    for (at, ratios) in tensor.ratios.chunks((*features).max(1)).enumerate() {
        let most: &mut f64 = &mut most[at % positions];
        *most = ratios.iter().fold(*most, |most, &r| if r > most { r } else { most });
    }
    most
}
