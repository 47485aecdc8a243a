//! The commands `analyze` and `choose-c`: what they print, what they refuse, what they write.

use crate::common::{Shape, shapes};
use assert_cmd::Command;
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use sus_oracle::analysis::choose::{PRECISION, RelativeTo};
use sus_oracle::analysis::{Analysis, IncreaseTarget, TargetGradients, choose, settings};
use sus_oracle::backward::{DenseWeights, backward, delta};
use sus_oracle::bounds::{self, Mode, Recipe, bounds};
use sus_oracle::files::{Array, TensorFile};
use sus_oracle::fixtures::{Tier, draw_inputs};
use sus_oracle::forward::forward;
use sus_oracle::mask::{Segments, Window};
use sus_oracle::problem::{Options, Problem};
use sus_oracle::sus::{Budget, Rule, Sampler};

fn command() -> Command {
    Command::cargo_bin("sus-oracle").unwrap()
}

/// Writes a problem as a file; `x` adds a layer's input of that many features.
fn write(folder: &Path, name: &str, problem: &Problem<f64>, x: Option<usize>) -> PathBuf {
    let inputs = problem.inputs();
    let mut file = TensorFile::default();
    let mut put = |name: &str, shape: &[usize], data: &[f64]| {
        file.arrays.insert(name.into(), Array::f64(shape, data.to_vec()));
    };
    for (name, tensor) in [("q", &inputs.q), ("k", &inputs.k), ("v", &inputs.v), ("do", &inputs.g)]
    {
        put(name, &tensor.shape(), tensor.as_slice());
    }
    if let Some(bias) = &inputs.bias {
        put("bias", &bias.shape(), bias.as_slice());
    }
    if let Some(sink) = &inputs.sink {
        put("sink", &[sink.len()], sink);
    }
    if let Some(dlse) = &inputs.dlse {
        put("dlse", &dlse.shape()[..3], dlse.as_slice());
    }
    if let Some(m) = x {
        let sizes = problem.sizes();
        let count = sizes.batch * sizes.queries * m;
        let data: Vec<f64> = (0..count).map(|n| (n * 7 % 11) as f64 / 4.0 - 1.0).collect();
        put("x", &[sizes.batch, sizes.queries, m], &data);
    }
    file.metadata = Some(metadata(problem.options()));
    let path = folder.join(name);
    file.write(&path).unwrap();
    path
}

/// The metadata of a problem, with a draw that an analysis does not use.
fn metadata(options: &Options) -> String {
    let mut map = serde_json::Map::new();
    map.insert("causal".into(), options.causal.into());
    map.insert("c".into(), 3.into());
    map.insert("rule".into(), "calibrated".into());
    map.insert("alignment".into(), options.alignment.to_string().into());
    if let Some(scale) = options.scale {
        map.insert("scale".into(), scale.into());
    }
    if let Some(softcap) = options.softcap {
        map.insert("softcap".into(), softcap.into());
    }
    if let Some(Window { left, right }) = options.window {
        map.insert("window".into(), serde_json::json!([left, right]));
    }
    if let Some(Segments { queries, keys }) = &options.segments {
        map.insert("segments_q".into(), queries.clone().into());
        map.insert("segments_k".into(), keys.clone().into());
    }
    Value::Object(map).to_string()
}

fn batch(batch: usize, seed: u64) -> Problem<f64> {
    let options = Options::default().with_causal(true);
    Shape { batch, group: 2, seed, options, ..Shape::plain(12, 12) }.problem()
}

fn json(arguments: &[&std::ffi::OsStr]) -> Value {
    let output = command().args(arguments).assert().success().get_output().clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_json_has_the_published_shape_and_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "p.safetensors", &batch(3, 1), None);
    let report = json(&[
        "analyze".as_ref(),
        path.as_os_str(),
        "--c".as_ref(),
        "2,4".as_ref(),
        "--json".as_ref(),
    ]);
    assert_eq!(report["spec"], "sus-oracle-analysis/1");
    assert_eq!(report["sequences"], 3);
    let rows = report["rows"].as_array().unwrap();
    let law = |row: &Value| format!("{} {} {}", row["c"], row["rule"], row["sampler"]);
    assert_eq!(
        rows.iter().map(law).collect::<Vec<_>>(),
        [
            "2.0 \"paper\" \"bernoulli\"",
            "4.0 \"paper\" \"bernoulli\"",
            "2.0 \"calibrated\" \"bernoulli\"",
            "4.0 \"calibrated\" \"bernoulli\"",
            "2.0 \"paper\" \"systematic\"",
            "4.0 \"paper\" \"systematic\"",
            "2.0 \"calibrated\" \"systematic\"",
            "4.0 \"calibrated\" \"systematic\"",
        ]
    );
    for row in rows {
        assert!(row["kept_fraction"].is_f64());
        assert!(row["expected_nnz"]["mean"].is_f64() && row["expected_nnz"]["max"].is_f64());
        for gradient in ["dq", "dk", "dv"] {
            for key in ["mask_variance", "squared_norm", "relative_increase"] {
                assert!(row[key][gradient].is_f64(), "{key} of {gradient}");
            }
        }
        assert_eq!(row["heads"].as_array().unwrap().len(), 1);
        assert!(row["projections"].is_null());
    }
}

#[test]
fn one_sequence_has_no_relative_increase() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "p.safetensors", &batch(1, 1), None);
    let report = json(&["analyze".as_ref(), path.as_os_str(), "--json".as_ref()]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 16, "four budgets by default, two rules, two samplers");
    assert!(rows.iter().all(|row| row["relative_increase"].is_null()));
    let table = command().arg("analyze").arg(&path).assert().success().get_output().clone();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("mask variance / squared norm") && !table.contains("between sequences"));
}

#[test]
fn files_and_a_batch_of_the_same_sequences_have_the_same_analysis() {
    let folder = tempfile::tempdir().unwrap();
    let whole = batch(3, 1);
    let one = |b: usize| {
        let inputs = whole.inputs();
        let cut = |x: &sus_oracle::tensor::Tensor<f64>| {
            let [_, h, n, d] = x.shape();
            sus_oracle::tensor::Tensor::from_fn([1, h, n, d], |[_, h, n, d]| x.row(b, h, n)[d])
        };
        let inputs = inputs
            .clone()
            .with_q(cut(&inputs.q))
            .with_k(cut(&inputs.k))
            .with_v(cut(&inputs.v))
            .with_g(cut(&inputs.g));
        Problem::new(inputs, whole.options().clone()).unwrap()
    };
    let all = write(folder.path(), "all.safetensors", &whole, None);
    let parts: Vec<PathBuf> =
        (0..3).map(|b| write(folder.path(), &format!("{b}.safetensors"), &one(b), None)).collect();
    let budgets = ["--c", "2,4", "--json"].map(std::ffi::OsStr::new);
    let of_all = json(&[&["analyze".as_ref(), all.as_os_str()], &budgets[..]].concat());
    let mut arguments: Vec<&std::ffi::OsStr> = [&["analyze".as_ref()], &budgets[..]].concat();
    arguments.extend(parts.iter().map(|path| path.as_os_str()));
    let of_parts = json(&arguments);
    for (a, b) in
        of_all["rows"].as_array().unwrap().iter().zip(of_parts["rows"].as_array().unwrap())
    {
        for key in ["mask_variance", "squared_norm", "relative_increase"] {
            for gradient in ["dq", "dk", "dv"] {
                let [a, b] = [a, b].map(|row| row[key][gradient].as_f64().unwrap());
                assert!((a / b - 1.0).abs() < 1e-12, "{key} {gradient}: {a} {b}");
            }
        }
    }
}

#[test]
fn the_layers_input_adds_the_projection_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "p.safetensors", &batch(3, 1), Some(4));
    let budgets = ["--c", "2,4", "--json"].map(std::ffi::OsStr::new);
    let report = json(&[&["analyze".as_ref(), path.as_os_str()], &budgets[..]].concat());
    for row in report["rows"].as_array().unwrap() {
        for gradient in ["dq", "dk", "dv"] {
            assert!(row["projections"]["mask_variance"][gradient].as_f64().unwrap() > 0.0);
            assert!(row["projections"]["relative_increase"][gradient].as_f64().unwrap() > 0.0);
        }
    }
    let wide = Shape { batch: 2, ..Shape::plain(5, 7) }.problem();
    let path = write(folder.path(), "wide.safetensors", &wide, Some(4));
    let report = json(&["analyze".as_ref(), path.as_os_str(), "--json".as_ref()]);
    let projections = &report["rows"][0]["projections"]["mask_variance"];
    assert!(projections["dq"].is_f64() && projections["dk"].is_null());
}

#[test]
fn a_folder_gets_the_report_and_the_plots_with_the_same_bytes_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "p.safetensors", &batch(3, 1), None);
    let mut seen: Vec<Vec<(String, Vec<u8>)>> = Vec::new();
    for threads in ["1", "3"] {
        let out = folder.path().join(threads);
        command()
            .args(["analyze", "--threads", threads, "--out"])
            .arg(&out)
            .arg(&path)
            .assert()
            .success();
        let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().into(), fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        seen.push(files);
    }
    assert_eq!(seen[0], seen[1]);
    let names: Vec<&str> = seen[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["analysis.json", "counts.svg", "increase.svg", "kept.svg", "variance.svg", "weights.svg"]
    );
    for (name, content) in &seen[0][1..] {
        let text = String::from_utf8(content.clone()).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{name}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
    }
}

/// One line on standard error, nothing on standard output, exit code 2.
fn refused(arguments: &[&std::ffi::OsStr], said: &str) {
    let output = command().args(arguments).assert().code(2).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty());
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(error.contains(said), "{error:?} says {said:?}");
}

#[test]
fn bad_input_is_one_line_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.safetensors", &batch(2, 1), None);
    let other = write(folder.path(), "other.safetensors", &Shape::plain(12, 12).problem(), None);
    let single = write(folder.path(), "single.safetensors", &batch(1, 1), None);
    let out = folder.path().join("out");
    let analyze = |more: &[&std::ffi::OsStr], said: &str| {
        let mut arguments: Vec<&std::ffi::OsStr> =
            vec!["analyze".as_ref(), good.as_os_str(), "--out".as_ref(), out.as_os_str()];
        arguments.extend_from_slice(more);
        refused(&arguments, said);
        assert!(!out.exists(), "no partial output");
    };
    analyze(
        &[other.as_os_str()],
        "other.safetensors: tensor 'q': expected shape [B, 2, 12, 3], as in the first file",
    );
    analyze(&["missing.safetensors".as_ref()], "missing.safetensors");
    analyze(&["--c".as_ref(), "5,0".as_ref()], "expected a number above 0, or inf, found 0");
    analyze(&["--c".as_ref(), "-1".as_ref()], "above 0");
    analyze(&["--c".as_ref(), "x".as_ref()], "above 0");
    analyze(&["--rule".as_ref(), "x".as_ref()], "'paper' or 'calibrated'");
    analyze(&["--softcap".as_ref(), "0".as_ref()], "softcap");
    refused(
        &["analyze".as_ref(), good.as_os_str(), "--out".as_ref(), other.as_os_str()],
        "a folder",
    );
    refused(&["analyze".as_ref()], "PROBLEM");

    let target = |target: &str, said: &str| {
        let of: [&std::ffi::OsStr; 4] =
            ["choose-c".as_ref(), good.as_os_str(), "--target".as_ref(), target.as_ref()];
        refused(&of, said);
    };
    target("0", "option 'target': expected a finite number above 0, found 0");
    target("-1", "above 0");
    target("nan", "finite");
    let alone: [&std::ffi::OsStr; 4] =
        ["choose-c".as_ref(), single.as_os_str(), "--target".as_ref(), "0.1".as_ref()];
    refused(&alone, "at least 2 sequences");
    let twins: [&std::ffi::OsStr; 5] = [
        "choose-c".as_ref(),
        single.as_os_str(),
        single.as_os_str(),
        "--target".as_ref(),
        "0.1".as_ref(),
    ];
    refused(&twins, "sequences whose gradients differ");
    refused(&["choose-c".as_ref(), good.as_os_str()], "--target");
}

#[test]
fn choose_c_prints_what_analyze_finds_at_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "p.safetensors", &batch(4, 9), None);
    for (rule, sampler) in [("paper", "bernoulli"), ("calibrated", "systematic")] {
        let law = ["--rule", rule, "--sampler", sampler, "--json"].map(std::ffi::OsStr::new);
        let mut arguments: Vec<&std::ffi::OsStr> =
            vec!["choose-c".as_ref(), path.as_os_str(), "--target".as_ref(), "0.05".as_ref()];
        arguments.extend(law);
        let choice = json(&arguments);
        assert_eq!(choice["spec"], "sus-oracle-choice/1");
        let c = choice["c"].as_f64().unwrap().to_string();
        let mut arguments: Vec<&std::ffi::OsStr> =
            vec!["analyze".as_ref(), path.as_os_str(), "--c".as_ref(), c.as_ref()];
        arguments.extend(law);
        let report = json(&arguments);
        let row = &report["rows"][0];
        let mut largest = 0.0_f64;
        for gradient in ["dq", "dk", "dv"] {
            let [a, b] = [&choice, row].map(|x| x["relative_increase"][gradient].as_f64().unwrap());
            assert!((a / b - 1.0).abs() < 1e-9);
            largest = largest.max(a);
        }
        assert!(largest <= 0.05 && largest > 0.05 * (1.0 - 1e-6));
        let close =
            |a: &Value, b: &Value| (a.as_f64().unwrap() / b.as_f64().unwrap() - 1.0).abs() < 1e-9;
        assert!(close(&choice["expected_nnz"]["mean"], &row["expected_nnz"]["mean"]));
        assert!(close(&choice["kept_fraction"], &row["kept_fraction"]));
    }
}

/// The smallest `c` with `sum A W (1/c - W)` over `W < 1/c` at most `limit`, by trying every number of undecided entries.
fn brute_force(mut entries: Vec<(f64, f64)>, limit: f64) -> f64 {
    entries.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut linear, mut constant) = (0.0, 0.0);
    // With the first n entries undecided the variance is linear / c - constant, for 1/c from w_{n-1} to w_n.
    for (n, &(w, a)) in entries.iter().enumerate() {
        linear += a * w;
        constant += a * w * w;
        let c = linear / (limit + constant);
        let next = entries.get(n + 1).map_or(f64::INFINITY, |next| next.0);
        if w <= 1.0 / c && 1.0 / c <= next {
            return c;
        }
    }
    f64::NAN
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn choose_c_agrees_with_a_brute_force_search(shape in shapes(6, 9), target in 0.001..3.0_f64, of in 0..3_usize) {
        let problem = shape.problem();
        let sizes = problem.sizes();
        prop_assume!(sizes.batch == 2 && problem.row_count() > 0 && sizes.keys > 1);
        let law = settings(&[Budget::new(1.0).unwrap()], Some(Rule::Paper), Some(Sampler::Bernoulli));
        let mut analysis = Analysis::new(law);
        analysis.add(&problem, None).unwrap();
        let spread = [&analysis.gradients.dq, &analysis.gradients.dk, &analysis.gradients.dv][of];
        let between = spread.variance(None).unwrap();
        prop_assume!(between > 1e-6);
        let saved = forward(&problem);
        let delta = delta(&problem, &saved.o);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut entries = Vec::new();
        for (at, &delta) in delta.iter().enumerate() {
            let row = problem.row(at);
            for j in problem.span(row) {
                let weight = DenseWeights { problem: &problem, saved: &saved }.at(row, j);
                let (k, q, g) = (problem.k(row, j), problem.q(row), problem.g(row));
                let f = (dot(g, problem.v(row, j)) - delta + problem.dlse(row)) * weight.slope;
                entries.push((weight.w, [f * f * dot(k, k), f * f * dot(q, q), dot(g, g)][of]));
            }
        }
        let expected = brute_force(entries, target * between * 2.0);
        prop_assume!(expected.is_finite());
        let goal = IncreaseTarget {
            at_most: target,
            of: [TargetGradients::Dq, TargetGradients::Dk, TargetGradients::Dv][of],
            relative_to: RelativeTo::Sequences,
            rule: Rule::Paper,
            sampler: Sampler::Bernoulli,
            by_reference: false,
        };
        let found = choose(vec![problem], &goal).unwrap();
        // The variance itself has a relative error of some 1e-13, and a flat place magnifies it.
        prop_assert!((found.c.get() / expected - 1.0).abs() < 1e-7 + PRECISION, "{} for {expected}", found.c.get());
        prop_assert!(found.of(goal.of).unwrap() <= target);
    }
}

/// A layer of 257 positions, and one law of its mask.
fn layer() -> (Problem<f64>, Budget) {
    let case = Tier::Full.cases().find(|case| case.name == "full_statistics").unwrap();
    let options = case.settings(None).options().unwrap();
    (Problem::new(draw_inputs(case).unwrap(), options).unwrap(), Budget::new(20.0).unwrap())
}

/// The mask variances and the squared norms, `dq`, `dk`, `dv` each.
fn sums(analysis: &Analysis) -> [f64; 6] {
    let [mut dq, mut dk, mut dv] = [0.0; 3];
    for totals in &analysis.totals[0] {
        let [of_dq, of_dk, of_dv] = totals.variance.into_array();
        (dq, dk, dv) = (dq + of_dq, dk + of_dk, dv + of_dv);
    }
    let norms = analysis.gradients.as_ref().map(|spread| spread.squared_norm(None)).into_array();
    [dq, dk, dv, norms[0], norms[1], norms[2]]
}

/// How far the sums may be apart if two forward and backward passes each err within their bounds, and the sums round.
///
/// `lse` off by `e` moves a weight by a factor `exp(+-e)` and its variance, `W / c - W^2` below `1/c`, by at most `W / c`
/// times that; `o` off by `e` moves `delta` and with it `f = t slope` by `|G| e |slope|`. Scores and `t` are sums of `D` and
/// `E + 2` terms on both sides, and an exponential errs by at most 4 roundings, and by one for each unit of its argument.
fn apart(problem: &Problem<f64>, c: f64) -> [f64; 6] {
    const U: f64 = f64::EPSILON / 2.0;
    let saved = forward(problem);
    let gradients = backward(problem, &saved);
    let bound = bounds(&bounds::BoundsInput::dense(
        problem,
        &Recipe::built_in("f64").unwrap(),
        Mode::Exact,
        &saved,
        &gradients,
    ));
    let delta = delta(problem, &saved.o);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut apart, mut visible) = ([0.0; 6], 0.0);
    let mut totals = [0.0; 3];
    for (at, &delta) in delta.iter().enumerate() {
        let row = problem.row(at);
        let g = problem.g(row);
        let o_bound = &bound.o.worst_case[at * g.len()..][..g.len()];
        let o = &saved.o.as_slice()[at * g.len()..][..g.len()];
        let terms = g.iter().zip(o).zip(o_bound);
        let rounding = (g.len() + 1) as f64 * U;
        let delta_error: f64 =
            terms.map(|((g, o), e)| 2.0 * g.abs() * (e + rounding * o.abs())).sum();
        for j in problem.span(row) {
            let weight = DenseWeights { problem, saved: &saved }.at(row, j);
            let absolute =
                |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum::<f64>();
            let products = problem.scale().abs() * absolute(problem.q(row), problem.k(row, j));
            let score_error = (problem.q(row).len() + 10) as f64 * U * products;
            let exponential = (4.0 + 3.0 * (products + saved.lse.as_slice()[at].abs())) * U;
            let factor = (2.0 * (bound.lse.worst_case[at] + score_error + exponential)).exp_m1();
            let r = weight.w * (weight.w.max(1.0 / c) - weight.w);
            let r_error = factor * weight.w / c;
            let f = (dot(g, problem.v(row, j)) - delta + problem.dlse(row)) * weight.slope;
            let terms = absolute(g, problem.v(row, j)) + delta.abs() + problem.dlse(row).abs();
            let t_error = 2.0 * (g.len() + 5) as f64 * U * terms;
            let f_error = (delta_error + t_error) * weight.slope.abs() + 4.0 * U * f.abs();
            let most = (r + r_error) * (f.abs() + f_error) * (f.abs() + f_error) - r * f * f;
            let (k, q) = (problem.k(row, j), problem.q(row));
            let squares = [dot(k, k), dot(q, q)];
            for (n, square) in squares.into_iter().enumerate() {
                apart[n] += most * square;
                totals[n] += r * f * f * square;
            }
            apart[2] += r_error * dot(g, g);
            totals[2] += r * dot(g, g);
            visible += 1.0;
        }
    }
    // Every sum has a term per entry, each of some hundred roundings.
    for n in 0..3 {
        apart[n] += 2.0 * (visible + 128.0) * U * totals[n];
    }
    let of = [(&gradients.dq, &bound.dq), (&gradients.dk, &bound.dk), (&gradients.dv, &bound.dv)];
    for (n, (gradient, bound)) in of.into_iter().enumerate() {
        let data = gradient.as_slice();
        let terms = data.iter().zip(&bound.worst_case);
        apart[3 + n] = terms.map(|(g, e)| 2.0 * e * (2.0 * g.abs() + 2.0 * e)).sum::<f64>()
            + 2.0 * (data.len() + 1) as f64 * U * dot(data, data);
    }
    apart
}

#[test]
fn the_fast_kernels_give_the_sums_of_the_reference_within_the_bounds_of_both() {
    let (problem, c) = layer();
    let setting = settings(&[c], Some(Rule::Paper), Some(Sampler::Bernoulli));
    let mut reference = Analysis::new(setting.clone()).by_reference();
    let mut fast = Analysis::new(setting);
    reference.add(&problem, None).unwrap();
    fast.add(&problem, None).unwrap();
    let path = |analysis: &Analysis| analysis.paths.unwrap().to_string();
    assert_eq!(path(&reference), "forward plain (asked for), backward plain (asked for)");
    assert_eq!(path(&fast), "forward fast, backward fast");
    let (reference, fast, apart) = (sums(&reference), sums(&fast), apart(&problem, c.get()));
    for n in 0..6 {
        let difference = (reference[n] - fast[n]).abs();
        assert!(difference <= apart[n], "{n}: {difference:e} above {:e}", apart[n]);
        assert!(apart[n] < 1e-8 * reference[n], "{n}: a bound of {:e} says nothing", apart[n]);
    }
    assert_ne!(reference, fast, "two orders of summation that round alike");
}

#[test]
fn the_path_is_said_and_plain_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let (problem, _) = layer();
    let file = write(folder.path(), "layer.safetensors", &problem, None);
    let analyze: &[&str] = &["analyze", "--c", "20", "--rule", "paper"];
    let choose: &[&str] = &["choose-c", "--target", "0.05", "--relative-to", "norm"];
    for arguments in [analyze, choose] {
        for (plain, path) in
            [(false, "forward fast, backward fast"), (true, "backward plain (asked for)")]
        {
            let mut command = command();
            command.args(arguments).arg(&file).args(["--scale", "0.17677669529663687", "--causal"]);
            if plain {
                command.arg("--plain");
            }
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let last = text.lines().last().unwrap_or_default();
            assert!(last.starts_with("path") && last.ends_with(path), "{text}");
        }
    }
}

#[test]
fn layers_get_a_budget_for_each_query_head_in_print_and_as_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(folder.path(), "a.safetensors", &batch(2, 1), None);
    let options = Options::default();
    let other = Shape { batch: 2, group: 3, seed: 2, options, ..Shape::plain(7, 9) }.problem();
    let second = write(folder.path(), "b.safetensors", &other, None);
    let out = folder.path().join("budgets.json");
    let run = |more: &[&str]| -> Value {
        let mut arguments = vec!["choose-c".as_ref(), first.as_os_str(), second.as_os_str()];
        let fixed = ["--layers", "--count", "2.5", "--json", "--out"];
        arguments.extend(fixed.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
        arguments.push(out.as_os_str());
        arguments.extend(more.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
        json(&arguments)
    };
    let file = || serde_json::from_slice::<Value>(&fs::read(&out).unwrap()).unwrap();
    let report = run(&["--relative-to", "norm"]);
    let heads = |l: usize| report["c"][l].as_array().unwrap().len();
    assert_eq!((heads(0), heads(1)), (2, 3));
    assert_eq!(file(), serde_json::json!({ "c": report["c"] }));
    assert_eq!(report["layers"][1]["heads"][2]["c"], report["c"][1][2]);
    assert!((report["chosen"]["expected_nnz"].as_f64().unwrap() - 2.5).abs() < 1e-9);
    let increase = |of: &str| report[of]["increase"].as_f64().unwrap();
    assert!(increase("chosen") <= increase("paper"));
    let cotangent = run(&["--rows", "cotangent", "--relative-to", "nothing", "--of", "dv"]);
    assert_eq!(file(), serde_json::json!({ "c": cotangent["c"], "rows": "cotangent" }));
}

#[test]
fn budgets_of_layers_that_mean_nothing_are_refused_in_a_line_and_write_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let one = write(folder.path(), "a.safetensors", &batch(1, 1), None);
    let two = write(folder.path(), "b.safetensors", &batch(2, 1), None);
    let out = folder.path().join("budgets.json");
    for (arguments, expected) in [
        ("--layers --count 1", "1 sequences, as the first layer has"),
        ("--layers --count 0 --relative-to norm", "above 0"),
        ("--layers --target inf --relative-to norm", "above 0"),
        ("--layers --count 1 --of max", "'sum'"),
        ("--layers --count 1 --layer-weights 1", "one for each layer"),
        ("--layers --count 1 --layer-weights 1,-1", "above 0"),
        ("--layers --count 1 --rule calibrated", "paper and bernoulli"),
        ("--layers --count 1 --rows up", "'cotangent'"),
        ("--layers --count 1 --target 1", "cannot be used with"),
        ("--count 1", "--layers"),
        ("--layers", "--count <N>"),
    ] {
        let mut run = command();
        run.arg("choose-c").args([&one, &two]).args(arguments.split(' ')).arg("--out").arg(&out);
        let output = run.assert().code(2).get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected) && said.trim_end().lines().count() == 1, "{said}");
        assert!(!out.exists());
    }
    for (arguments, expected) in [
        ("--count 1", "at least 2 sequences"),
        ("--count 100 --relative-to norm", "fewer than all"),
        ("--count 1 --relative-to norm --softcap 2 --centred-keys", "without a softcap"),
        ("--count 1 --relative-to norm --softcap 2 --remainder", "without softcap"),
    ] {
        let mut run = command();
        run.arg("choose-c").arg(&one).arg("--layers").args(arguments.split(' '));
        let output = run.assert().code(2).get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected) && said.trim_end().lines().count() == 1, "{said}");
    }
}
