//! Kernels with other settings: mask, scale, softcap, bias, sink, packed sequences, pairing of heads.

use crate::cause::Kind;
use crate::kernel::{Kernel, Sees};
use crate::maps::TILES;
use crate::supposition::{Build, Supposition, in_scopes, with_inputs, with_options};
use std::sync::Arc;
use sus_reference::mask::{Alignment, Mask, Window};
use sus_reference::problem::{Options, Problem, Row};
use sus_reference::tensor::Tensor;

/// Every setting that is tried, the simplest first.
pub(crate) fn settings(problem: &Problem<f64>, forward_failed: bool) -> Vec<Supposition<'_>> {
    let mut all = Vec::new();
    for (text, build) in masks(problem)
        .into_iter()
        .chain(scales(problem))
        .chain(softcaps(problem))
        .chain(biases(problem))
        .chain(sinks(problem))
        .chain(heads(problem))
        .chain(entry_masks(problem))
        .chain(pairs(problem))
    {
        all.extend(in_scopes(Kind::Setting, &text, &build, forward_failed));
    }
    all
}

type Named<'a> = (String, Build<'a>);

fn changed<'a>(
    problem: &'a Problem<f64>,
    found: &mut Vec<Named<'a>>,
    text: impl Into<String>,
    options: Options,
) {
    if options != *problem.options() {
        let build = Arc::new(move || with_options(problem, options.clone()));
        found.push((text.into(), build));
    }
}

/// The end of a window in words.
fn end(end: Option<u64>) -> String {
    end.map_or_else(|| "none".into(), |end| end.to_string())
}

/// Other windows than the problem's, each with its words.
fn windows(window: Window) -> Vec<(String, Option<Window>)> {
    let Window { left, right } = window;
    let mut all = vec![("no window".to_owned(), None)];
    let mut put = |text: &str, window: Window| {
        let ends = format!("{text}: window [{}, {}]", end(window.left), end(window.right));
        all.push((ends, Some(window)));
    };
    put("the left end of the window is ignored", Window { left: None, right });
    put("the right end of the window is ignored", Window { left, right: None });
    put("the ends of the window are exchanged", Window { left: right, right: left });
    let less = |end: Option<u64>| end.and_then(|end| end.checked_sub(1));
    let more = |end: Option<u64>| end.and_then(|end| end.checked_add(1));
    if left.is_some_and(|left| left > 0) {
        put("the window is one key shorter on the left", Window { left: less(left), right });
    }
    if right.is_some_and(|right| right > 0) {
        put("the window is one key shorter on the right", Window { left, right: less(right) });
        if left.is_some_and(|left| left > 0) {
            put(
                "the window is one key shorter on both sides",
                Window { left: less(left), right: less(right) },
            );
        }
    }
    put("the window is one key longer on the left", Window { left: more(left), right });
    put("the window is one key longer on the right", Window { left, right: more(right) });
    put(
        "the window is one key longer on both sides",
        Window { left: more(left), right: more(right) },
    );
    put(
        "the window is half as long",
        Window { left: left.map(|end| end / 2), right: right.map(|end| end / 2) },
    );
    put(
        "the window is twice as long",
        Window {
            left: left.map(|end| end.saturating_mul(2)),
            right: right.map(|end| end.saturating_mul(2)),
        },
    );
    put("the window has no keys after the diagonal", Window { left, right: Some(0) });
    all.retain(|(_, other)| *other != Some(window));
    all
}

fn other_alignment(alignment: Alignment) -> Alignment {
    match alignment {
        Alignment::BottomRight => Alignment::TopLeft,
        Alignment::TopLeft => Alignment::BottomRight,
    }
}

fn masks(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let options = problem.options();
    let mut found: Vec<Named<'_>> = Vec::new();
    let causal = options.causal;
    changed(
        problem,
        &mut found,
        format!("causal: {}", !causal),
        options.clone().with_causal(!causal),
    );
    let other = other_alignment(options.alignment);
    if causal || options.window.is_some() {
        let text = format!("alignment: {other}");
        changed(problem, &mut found, text, options.clone().with_alignment(other));
    }
    if !causal {
        let text = format!("causal: true, alignment: {other}");
        let both = options.clone().with_causal(true).with_alignment(other);
        changed(problem, &mut found, text, both);
    }
    if let Some(window) = options.window {
        for (text, window) in windows(window) {
            changed(problem, &mut found, text, options.clone().with_window(window));
        }
        let neither = options.clone().with_causal(false).with_window(None);
        changed(problem, &mut found, "no window, causal: false", neither);
        let instead = options.clone().with_causal(true).with_window(None);
        changed(problem, &mut found, "no window, causal: true", instead);
    }
    if options.segments.is_some() {
        changed(
            problem,
            &mut found,
            "packed sequences see each other (no segments)",
            options.clone().with_segments(None),
        );
    }
    found
}

fn scales(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let sizes = problem.sizes();
    let (d, e, scale) = (sizes.features as f64, sizes.value_features as f64, problem.scale());
    let ln2 = std::f64::consts::LN_2;
    let mut found: Vec<Named<'_>> = Vec::new();
    for (text, other) in [
        ("no scale", 1.0),
        ("the scale 1 / sqrt(D)", 1.0 / libm::sqrt(d)),
        ("the scale 1 / sqrt(E)", 1.0 / libm::sqrt(e)),
        ("the scale 1 / D", 1.0 / d),
        ("the scale sqrt(D)", libm::sqrt(d)),
        ("the scale twice, squared", scale * scale),
        ("the square root of the scale", libm::sqrt(scale.abs())),
        ("the scale times log2 e", scale / ln2),
        ("the scale times ln 2", scale * ln2),
        ("twice the scale", 2.0 * scale),
        ("half of the scale", scale / 2.0),
        ("the scale with the other sign", -scale),
        ("the scale 1 / sqrt(2 D)", 1.0 / libm::sqrt(2.0 * d)),
        ("the scale 1 / sqrt(D / 2)", 1.0 / libm::sqrt(d / 2.0)),
        ("the scale 1 / sqrt(Hq D)", 1.0 / libm::sqrt(d * sizes.query_heads as f64)),
    ] {
        if (other - scale).abs() > 1e-9 * scale.abs() {
            let options = problem.options().clone().with_scale(other);
            changed(problem, &mut found, text, options);
        }
    }
    found
}

fn softcaps(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let options = problem.options();
    let mut found: Vec<Named<'_>> = Vec::new();
    let Some(cap) = options.softcap else {
        for cap in [15.0, 20.0, 30.0, 50.0, 100.0] {
            let text = format!("a softcap of {cap}, where none is set");
            changed(problem, &mut found, text, options.clone().with_softcap(cap));
        }
        return found;
    };
    changed(problem, &mut found, "no softcap", options.clone().with_softcap(None));
    let scale = problem.scale();
    for (text, other) in [
        ("twice the softcap", 2.0 * cap),
        ("half of the softcap", cap / 2.0),
        ("the softcap times the scale", cap * scale),
        ("the softcap over the scale", cap / scale),
        ("a softcap of 1", 1.0),
        ("a softcap of 15", 15.0),
        ("a softcap of 20", 20.0),
        ("a softcap of 30", 30.0),
        ("a softcap of 50", 50.0),
    ] {
        changed(problem, &mut found, text, options.clone().with_softcap(other));
    }
    found
}

fn biases(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let Some(bias) = &problem.inputs().bias else { return Vec::new() };
    let scale = problem.scale();
    let ln2 = std::f64::consts::LN_2;
    let mut found: Vec<Named<'_>> = Vec::new();
    let mut put = |text: &str, other: Option<Tensor<f64>>| {
        let build = move || with_inputs(problem, |inputs| inputs.with_bias(other.clone()));
        found.push((text.to_owned(), Arc::new(build)));
    };
    // A zero bias keeps the gradient's place, and the keys that the bias hides.
    let by = |factor: f64| bias.map(|x| if x.is_finite() { factor * x } else { x });
    put("no bias", Some(by(0.0)));
    if problem.hides_keys() {
        put("no key hidden by the bias", Some(bias.map(|x| if x.is_finite() { x } else { 0.0 })));
    }
    for (text, factor) in [
        ("the bias times the scale", scale),
        ("the bias over the scale", 1.0 / scale),
        ("the bias with the other sign", -1.0),
        ("twice the bias", 2.0),
        ("half of the bias", 0.5),
        ("the bias times log2 e", 1.0 / ln2),
        ("the bias times ln 2", ln2),
    ] {
        put(text, Some(by(factor)));
    }
    let shape @ [batch, heads, queries, keys] = bias.shape();
    let read = |from: &dyn Fn([usize; 4]) -> [usize; 4]| {
        Some(Tensor::from_fn(shape, |at| {
            let [b, h, i, j] = from(at);
            bias.row(b, h, i)[j]
        }))
    };
    if queries == keys && queries > 1 {
        put("the bias transposed", read(&|[b, h, i, j]| [b, h, j, i]));
    }
    if heads > 1 {
        put("the bias of head 0 for all heads", read(&|[b, _, i, j]| [b, 0, i, j]));
        put("the bias of the next head", read(&|[b, h, i, j]| [b, (h + 1) % heads, i, j]));
    }
    if batch > 1 {
        put("the bias of sequence 0 for all sequences", read(&|[_, h, i, j]| [0, h, i, j]));
    }
    if queries > 1 {
        put("the bias of query 0 for all queries", read(&|[b, h, _, j]| [b, h, 0, j]));
        put("the bias of the previous query", read(&|[b, h, i, j]| [b, h, i.max(1) - 1, j]));
    }
    put("the bias of the previous key", read(&|[b, h, i, j]| [b, h, i, j.max(1) - 1]));
    found
}

fn sinks(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let Some(sink) = &problem.inputs().sink else { return Vec::new() };
    let (scale, heads) = (problem.scale(), sink.len());
    let ln2 = std::f64::consts::LN_2;
    let mut found: Vec<Named<'_>> = Vec::new();
    let mut put = |text: &str, other: Vec<f64>| {
        let build = move || with_inputs(problem, |inputs| inputs.with_sink(other.clone()));
        found.push((text.to_owned(), Arc::new(build)));
    };
    // A sink whose exponential is zero in f64 keeps the gradient's place.
    put("no sink", vec![-1e4; heads]);
    put("a sink of zero", vec![0.0; heads]);
    for (text, factor) in [
        ("the sink times the scale", scale),
        ("the sink over the scale", 1.0 / scale),
        ("the sink with the other sign", -1.0),
        ("the sink times log2 e", 1.0 / ln2),
        ("the sink times ln 2", ln2),
    ] {
        put(text, sink.iter().map(|x| factor * x).collect());
    }
    if heads > 1 {
        put("the sink of head 0 for all heads", vec![sink[0]; heads]);
        let of = |shift: usize| (0..heads).map(|h| sink[(h + shift) % heads]).collect();
        put("the sink of the next head", of(1));
        put("the sink of the previous head", of(heads - 1));
        put("the sinks in the opposite order", sink.iter().rev().copied().collect());
    }
    found
}

fn heads(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let sizes = problem.sizes();
    let (hq, hk) = (sizes.query_heads, sizes.key_heads);
    let mut found: Vec<Named<'_>> = Vec::new();
    let mut put = |text: &str, heads: Vec<usize>| {
        let right: Vec<usize> = (0..hq).map(|h| problem.key_head(h)).collect();
        if heads != right {
            let build = move || Some(Kernel { key_head: Some(heads.clone()), ..Kernel::default() });
            found.push((text.to_owned(), Arc::new(build)));
        }
    };
    put("query head h reads key head h mod Hk", (0..hq).map(|h| h % hk).collect());
    put("every query head reads key head 0", vec![0; hq]);
    put(
        "query head h reads the next key head",
        (0..hq).map(|h| (problem.key_head(h) + 1) % hk).collect(),
    );
    put("query head h reads key head h / Hk", (0..hq).map(|h| (h / hk).min(hk - 1)).collect());
    put("query head h reads key head min(h, Hk - 1)", (0..hq).map(|h| h.min(hk - 1)).collect());
    found
}

/// The mask of these options as a test of entries.
fn mask_of(problem: &Problem<f64>, options: &Options) -> Option<Mask> {
    let sizes = problem.sizes();
    let Options { causal, alignment, window, segments, .. } = options.clone();
    Mask::new(sizes.queries, sizes.keys, causal, alignment, window, segments).ok()
}

/// Masks that no options describe.
fn entry_masks(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let options = problem.options();
    let sizes = problem.sizes();
    let right = problem.mask().clone();
    let mut found: Vec<(String, Sees)> = Vec::new();
    if options.causal {
        let mask = right.clone();
        let top_left = options.alignment == Alignment::TopLeft;
        let shift = if top_left { 0 } else { sizes.keys as i64 - sizes.queries as i64 };
        if options.segments.is_none() {
            let inner = mask.clone();
            found.push((
                "the mask without its diagonal".into(),
                Arc::new(move |row: Row, j| {
                    inner.span(row.b, row.i).contains(&j) && j as i64 != row.i as i64 + shift
                }),
            ));
            let inner = mask.clone();
            found.push((
                "the mask one key too far to the right".into(),
                Arc::new(move |row: Row, j| {
                    let seen = inner.span(row.b, row.i);
                    seen.contains(&j) || (j == seen.end && j as i64 == row.i as i64 + shift + 1)
                }),
            ));
        } else if let Some(whole) = mask_of(problem, &options.clone().with_segments(None)) {
            let inner = mask_of(problem, &options.clone().with_causal(false).with_window(None));
            if let Some(inner) = inner {
                found.push((
                    "one diagonal for the whole pack, not one for each packed sequence".into(),
                    Arc::new(move |row: Row, j| {
                        inner.span(row.b, row.i).contains(&j)
                            && whole.span(row.b, row.i).contains(&j)
                    }),
                ));
            }
        }
    }
    if sizes.queries == sizes.keys && (options.causal || options.window.is_some()) {
        let mask = right.clone();
        found.push((
            "the mask transposed, of query j and key i".into(),
            Arc::new(move |row: Row, j| mask.span(row.b, j).contains(&row.i)),
        ));
    }
    for tile in TILES.into_iter().filter(|&tile| tile < sizes.keys.max(sizes.queries)) {
        let mask = right.clone();
        let whole = sizes.keys / tile * tile;
        if whole < sizes.keys && whole > 0 {
            found.push((
                format!("keys from whole tiles of {tile} alone"),
                Arc::new(move |row: Row, j| mask.span(row.b, row.i).contains(&j) && j < whole),
            ));
        }
        if options.causal || options.window.is_some() {
            let (mask, keys, queries) = (right.clone(), sizes.keys, sizes.queries);
            found.push((
                format!("no mask inside of a tile of {tile} by {tile} that it cuts"),
                Arc::new(move |row: Row, j| {
                    let rows = row.i / tile * tile..((row.i / tile + 1) * tile).min(queries);
                    let tile = j / tile * tile..((j / tile + 1) * tile).min(keys);
                    rows.clone().any(|i| {
                        let seen = mask.span(row.b, i);
                        seen.start < tile.end && tile.start < seen.end
                    })
                }),
            ));
        }
    }
    let mask = right.clone();
    let keys = sizes.keys;
    found.push((
        "the last key is left out".into(),
        Arc::new(move |row: Row, j| mask.span(row.b, row.i).contains(&j) && j + 1 < keys),
    ));
    found.push((
        "the first key is left out".into(),
        Arc::new(move |row: Row, j| right.span(row.b, row.i).contains(&j) && j > 0),
    ));
    let named = |(text, sees): (String, Sees)| -> Named<'_> {
        let build = move || Some(Kernel { sees: Some(Arc::clone(&sees)), ..Kernel::default() });
        (text, Arc::new(build))
    };
    found.into_iter().map(named).collect()
}

/// Two settings at once.
fn pairs(problem: &Problem<f64>) -> Vec<Named<'_>> {
    let options = problem.options();
    let mut found: Vec<Named<'_>> = Vec::new();
    if options.segments.is_some() {
        let none = options.clone().with_segments(None);
        let text = "packed sequences see each other (no segments), causal: ";
        let causal = !options.causal;
        changed(problem, &mut found, format!("{text}{causal}"), none.with_causal(causal));
        if options.window.is_some() {
            let plain = options.clone().with_segments(None).with_window(None);
            changed(problem, &mut found, "no segments, no window", plain);
        }
    }
    if options.softcap.is_some() {
        let plain = options.clone().with_softcap(None);
        let causal = !options.causal;
        let text = format!("no softcap, causal: {causal}");
        changed(problem, &mut found, text, plain.with_causal(causal));
    }
    found
}
