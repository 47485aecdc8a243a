//! What the samplers drew: masks of the recorded shapes, and single words, decisions and rows.

use crate::run::Run;
use crate::shape::{Numbers, Shape, draw};
use std::fmt::Write as _;
use sus_reference::backward::DenseWeights;
use sus_reference::sus::Rule;
use sus_reference::sus::rule::keep_probability;
use sus_reference::sus::sampler::{Sampler, systematic};
use sus_reference::sus::uniform::{Grid, Layout, Uniforms, keep32, keep64};
use sus_reference::sus::{Draw, sample};

/// Seeds with their streams: the second seed uses both halves of the key.
const SEEDS: [(u64, u32); 2] = [(1, 0), (0x9e37_79b9_7f4a_7c15, 5)];

/// Calls of `systematic`, and of `keep32` and `keep64`.
const CALLS: usize = 400;

/// Calls of `word`: ten rounds of Philox take Coq some milliseconds.
const WORDS: usize = 100;

/// The masks drawn for one shape.
pub fn of(shape: &Shape, run: &Run) -> Vec<String> {
    let mut draws = Vec::new();
    for ((seed, stream), rule) in SEEDS.into_iter().zip([Rule::Paper, Rule::Calibrated]) {
        for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
            let draw = draw(1.75, rule, sampler).with_seed(seed).with_stream(stream);
            draws.push(drawn(shape, run, &draw));
        }
    }
    draws
}

/// The file of all draws, those of the shapes among them.
pub fn file(draws: Vec<String>) -> String {
    let mut numbers = Numbers(7);
    let mut take = |count: usize, write: fn(&mut Numbers) -> String| -> Vec<String> {
        (0..count).map(|_| write(&mut numbers)).collect()
    };
    let lists = [
        ("draw", "drawn", draws),
        ("call", "systematic_call", take(CALLS, systematic_call)),
        ("word", "recorded_word", take(WORDS, word)),
        ("decision", "decision", take(CALLS, decision)),
    ];
    let mut file = String::from(
        "From Coq Require Import List ZArith NArith QArith.\nFrom SusOracle Require Import Exec Draws.\n\
         Import ListNotations.\nLocal Open Scope nat_scope.\n\n",
    );
    for (name, kind, lines) in &lists {
        let lines = lines.join(";\n  ");
        let _ = writeln!(file, "Definition {name}s : list {kind} := [\n  {lines}].\n");
    }
    let checks: Vec<String> =
        lists.iter().map(|(name, ..)| format!("forallb check_{name} {name}s = true")).collect();
    let _ = writeln!(
        file,
        "Theorem checked :\n  {}.\nProof. vm_compute. repeat split; reflexivity. Qed.\n\nCheck checked.",
        checks.join(" /\\ ")
    );
    file
}

/// `(m, k)` with `x = m / 2^k`.
fn number(x: f64) -> String {
    let (mut m, mut k) = (x, 0);
    while m.fract() != 0.0 {
        (m, k) = (2.0 * m, k + 1);
    }
    format!("(dyadic ({m:.0}) {k})")
}

fn list<X>(items: impl IntoIterator<Item = X>, write: impl FnMut(X) -> String) -> String {
    format!("[{}]", items.into_iter().map(write).collect::<Vec<_>>().join("; "))
}

/// One mask, with the keep probability of each visible key.
fn drawn(shape: &Shape, run: &Run, draw: &Draw) -> String {
    let problem = run.problem.cast::<f64>().expect("finite numbers");
    let saved = run.saved.cast::<f64>();
    let sample = sample(&problem, &saved, draw).expect("a legal draw");
    let weights = DenseWeights { problem: &problem, saved: &saved };
    let rows = list(0..problem.row_count(), |at| {
        let row = problem.row(at);
        let q = list(problem.span(row), |j| {
            number(keep_probability(sample.lambda[at], weights.at(row, j).w))
        });
        let kept = list(sample.pattern.row(at), u32::to_string);
        format!("DrawnRow (Row {} {} {}) {q} {kept}", row.b, row.h, row.i)
    });
    let sampler = match draw.sampler {
        Sampler::Bernoulli => "Bernoulli".into(),
        Sampler::Systematic => format!("(Systematic {})", number(draw.c.get())),
    };
    format!(
        "Drawn {sampler} {} {} {} {} {} {} ({})\n    {rows}",
        draw.seed,
        draw.stream,
        shape.batch,
        shape.heads(),
        shape.queries,
        shape.keys,
        crate::coq::mask(shape),
    )
}

/// `systematic` of a few probabilities in sixteenths, with any cap: sums are exact, and the cap is often reached.
fn systematic_call(numbers: &mut Numbers) -> String {
    let mut sixteenths = |n: u64| (numbers.below(n)) as f64 / 16.0;
    let count = (sixteenths(16 * 9)) as usize;
    let q: Vec<f64> = (0..count).map(|_| sixteenths(19).min(1.0)).collect();
    let u = sixteenths(16);
    let sum: f64 = q.iter().sum();
    // At the sum, or rounded up, or below it by up to one.
    let most = match sixteenths(48) {
        x if x < 1.0 => sum,
        x if x < 2.0 => sum.ceil(),
        x => sum - (x - 2.0),
    };
    let kept = systematic(&q, u, most);
    format!(
        "SystematicCall {} {} {} {}",
        list(&q, |&q| number(q)),
        number(u),
        number(most),
        list(&kept, usize::to_string)
    )
}

/// A word of `coord4` at any place.
fn word(numbers: &mut Numbers) -> String {
    let (seed, stream) = (numbers.below(u64::MAX), numbers.below(1 << 31) as u32);
    let heads = 1 + numbers.below(7) as usize;
    let [b, i, j] = [1000, 1 << 32, 1 << 34].map(|n| numbers.below(n) as usize);
    let h = numbers.below(heads as u64) as usize;
    let grid = Grid { batch: b + 1, heads, queries: i + 1, keys: j + 1 };
    let uniforms = Uniforms::new(seed, stream, Layout::Coord4, grid).expect("a legal grid");
    let second = numbers.below(2) == 1;
    let word = if second { uniforms.second_word(b, h, i, j) } else { uniforms.word(b, h, i, j) };
    format!("RecordedWord {second} {seed} {stream} {} {i} {j} {word}", b * heads + h)
}

/// `keep32` and `keep64` of a probability within two steps of the word, or at the ends of `[0, 1]`.
fn decision(numbers: &mut Numbers) -> String {
    let (x, second) = (numbers.below(1 << 32) as u32, numbers.below(1 << 32) as u32);
    let near = f64::from(x) + (numbers.below(33) as f64 - 16.0) / 8.0;
    // A fraction of 20 bits is exact beside a word of 32 bits; one near the second word's makes it decide.
    let fine = f64::from(x) + f64::from(second >> 12) / 1_048_576.0;
    let q = match numbers.below(8) {
        0 => 0.0,
        1 => 1.0,
        2 => 1.0 - f64::EPSILON,
        3..6 => near.clamp(0.0, 4_294_967_296.0) / 4_294_967_296.0,
        _ => fine / 4_294_967_296.0,
    };
    let by_two = keep64(q, x, || second);
    format!("Decision {} {x} {second} {} {by_two}", number(q), keep32(q, x))
}
