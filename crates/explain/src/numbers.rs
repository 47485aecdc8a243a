//! Factors and their names.

use sus_reference::problem::Problem;

/// A factor of this problem that has a name.
struct Named {
    value: f64,
    name: String,
}

/// The factors that kernels forget or apply twice, the simplest first.
fn known(problem: &Problem<f64>) -> Vec<Named> {
    let sizes = problem.sizes();
    let (d, e, scale) = (sizes.features as f64, sizes.value_features as f64, problem.scale());
    let group = problem.group() as f64;
    let heads = sizes.query_heads as f64;
    let ln2 = std::f64::consts::LN_2;
    let mut known: Vec<(f64, String)> = vec![
        (-1.0, "the other sign".into()),
        (2.0, "2".into()),
        (0.5, "1/2".into()),
        (-2.0, "-2".into()),
        (-0.5, "-1/2".into()),
        (ln2, "ln 2".into()),
        (1.0 / ln2, "log2 e, 1 / ln 2".into()),
        (scale, "the scale".into()),
        (1.0 / scale, "1 / scale".into()),
        (scale * scale, "scale^2".into()),
        (scale / ln2, "scale log2 e".into()),
        (1.0 / scale / ln2, "log2 e / scale".into()),
        (scale * ln2, "scale ln 2".into()),
        (ln2 / scale, "ln 2 / scale".into()),
        (libm::sqrt(d), "sqrt(D)".into()),
        (1.0 / libm::sqrt(d), "1 / sqrt(D)".into()),
        (scale * libm::sqrt(d), "scale sqrt(D)".into()),
        (scale * d, "scale D".into()),
        (libm::sqrt(e), "sqrt(E)".into()),
        (libm::sqrt(d / e), "sqrt(D / E)".into()),
        (libm::sqrt(e / d), "sqrt(E / D)".into()),
        (d, "D".into()),
        (1.0 / d, "1 / D".into()),
    ];
    if group > 1.0 {
        known.push((group, "the size of the group, Hq / Hk".into()));
        known.push((1.0 / group, "one over the size of the group, Hk / Hq".into()));
    }
    if heads > 1.0 {
        known.push((heads, "Hq".into()));
        known.push((1.0 / heads, "1 / Hq".into()));
    }
    for (n, name) in [(sizes.batch, "B"), (sizes.queries, "Nq"), (sizes.keys, "Nk")] {
        if n > 1 {
            known.push((n as f64, name.into()));
            known.push((1.0 / n as f64, format!("1 / {name}")));
        }
    }
    known.into_iter().map(|(value, name)| Named { value, name }).collect()
}

/// A factor in words: its value, and its name if it has one within its standard error.
pub(crate) fn describe(problem: &Problem<f64>, factor: f64, sigma: f64) -> String {
    let near = |value: f64| (factor - value).abs() <= 4.0 * sigma + 1e-9 * value.abs();
    let named = known(problem).into_iter().find(|of| near(of.value));
    // As many digits as the standard error leaves.
    let relative = (sigma / factor).abs().max(1e-9);
    let digits = (-libm::log10(relative)).floor().clamp(1.0, 6.0) as usize;
    let decimals = digits.saturating_sub(libm::log10(factor.abs()).floor().max(-6.0) as usize);
    let number = if factor.abs() < 1e-3 || factor.abs() >= 1e6 {
        format!("{factor:.3e}")
    } else {
        format!("{factor:.decimals$}")
    };
    let integer = (1..=64).find(|&n| near(f64::from(n)) && n > 2);
    let part = (3..=64).find(|&n| near(1.0 / f64::from(n)));
    match (named, integer, part) {
        (Some(named), ..) if named.value == -1.0 => named.name,
        (Some(named), ..) => format!("{number} ({})", named.name),
        (None, Some(n), _) => format!("{number} ({n})"),
        (None, None, Some(n)) => format!("{number} (1/{n})"),
        _ => number,
    }
}
