//! A run as a Coq file: the table of the nodes that its results need, and the results as numbers of nodes.

use crate::node::{Id, Node, Term};
use crate::run::{Run, Sampled};
use crate::shape::Shape;
use std::collections::HashMap;
use sus_reference::backward::Gradients;
use sus_reference::mask::Alignment;
use sus_reference::problem::Row;
use sus_reference::tensor::Tensor;

/// Nodes per definition: Coq reads a long list in parts.
const NODES_PER_PART: usize = 500;

/// The nodes that are written, numbered from 1 in the order of first use.
#[derive(Default)]
struct Table {
    numbers: HashMap<Id, usize>,
    lines: Vec<String>,
}

impl Table {
    /// The number of a node, after those of its operands.
    fn number(&mut self, root: Id) -> usize {
        // A stack of its own: a sum over many keys is a deep term.
        let mut stack = vec![root];
        while let Some(&id) = stack.last() {
            if self.numbers.contains_key(&id) {
                stack.pop();
                continue;
            }
            let term = Node::term(id);
            let operands = match term {
                Term::Unary(_, a) => vec![a],
                Term::Binary(_, a, b) => vec![a, b],
                _ => vec![],
            };
            let missing: Vec<Id> =
                operands.into_iter().filter(|a| !self.numbers.contains_key(a)).rev().collect();
            if missing.is_empty() {
                stack.pop();
                let line = self.line(term);
                self.lines.push(line);
                self.numbers.insert(id, self.lines.len());
            } else {
                stack.extend(missing);
            }
        }
        self.numbers[&root]
    }

    fn line(&self, term: Term) -> String {
        match term {
            Term::Zero => "Zero".into(),
            Term::One => "One".into(),
            Term::Number(bits) => match dyadic(f64::from_bits(bits)) {
                None => "Least".into(),
                Some((m, e)) => format!("Number ({m}) ({e})"),
            },
            Term::Read(input, [b, h, i, d]) => format!("Read I{input:?} {b} {h} {i} {d}"),
            Term::Unary(op, a) => format!("{op:?} {}", self.numbers[&a]),
            Term::Binary(op, a, b) => format!("{op:?} {} {}", self.numbers[&a], self.numbers[&b]),
        }
    }
}

/// `(m, e)` with `x = m * 2^e`: `e` is 0 for an integer below 2^53, and `m` is odd otherwise. `None` for minus infinity.
fn dyadic(x: f64) -> Option<(i64, i32)> {
    if x == f64::NEG_INFINITY {
        return None;
    }
    assert!(x.is_finite(), "no number: {x}");
    let (mut m, mut e) = (x, 0);
    while m.fract() != 0.0 {
        (m, e) = (m * 2.0, e - 1);
    }
    assert!(m.abs() < 9_007_199_254_740_992.0, "an integer beyond 2^53: {x}");
    Some((m as i64, e))
}

/// `[a; b; ...]`
fn list<X>(items: impl IntoIterator<Item = X>, write: impl FnMut(X) -> String) -> String {
    format!("[{}]", items.into_iter().map(write).collect::<Vec<_>>().join("; "))
}

/// One item per row, as nested lists over `b`, `h`, `i`.
fn per_row(run: &Run, mut write: impl FnMut(Row) -> String) -> String {
    let sizes = run.problem.sizes();
    list(0..sizes.batch, |b| {
        list(0..sizes.query_heads, |h| list(0..sizes.queries, |i| write(Row { b, h, i })))
    })
}

fn option<X>(x: Option<X>, write: impl FnOnce(X) -> String) -> String {
    x.map_or("None".into(), |x| format!("(Some {})", write(x)))
}

fn number(x: f64) -> String {
    let (m, e) = dyadic(x).expect("a finite number");
    format!("(({m})%Z, ({e})%Z)")
}

fn tensor(table: &mut Table, tensor: &Tensor<Node>) -> String {
    let [batch, heads, positions, _] = tensor.shape();
    list(0..batch, |b| {
        list(0..heads, |h| {
            list(0..positions, |n| list(tensor.row(b, h, n), |x| table.number(x.id()).to_string()))
        })
    })
}

fn gradients(table: &mut Table, gradients: &Gradients<Node>) -> String {
    let Gradients { dq, dk, dv, dbias, dsink, .. } = gradients;
    let fields = [
        tensor(table, dq),
        tensor(table, dk),
        tensor(table, dv),
        dbias.as_ref().map_or("[]".into(), |dbias| tensor(table, dbias)),
        list(dsink.iter().flatten(), |x| table.number(x.id()).to_string()),
    ];
    let fields = fields.map(|field| format!("    {field}%positive"));
    format!("RecordedGradients\n{}", fields.join("\n"))
}

fn sampled(table: &mut Table, run: &Run, sampled: &Sampled) -> String {
    let Sampled { sample, gradients: results } = sampled;
    let numbers = |row| run.problem.row_number(row);
    // An infinite rate keeps every weight as it is: no result has it in its term.
    let finite = |lambda: f64| if lambda == f64::INFINITY { 0.0 } else { lambda };
    let lambda = per_row(run, |row| number(finite(sample.lambda[numbers(row)])));
    let mask = per_row(run, |row| list(sample.pattern.row(numbers(row)), u32::to_string));
    let light = per_row(run, |row| list(run.light(sample, row), |j| j.to_string()));
    let results = gradients(table, results);
    format!("RecordedSample {lambda}\n    {mask}\n    {light}\n    ({results})")
}

/// The mask of a shape, as a term.
pub fn mask(shape: &Shape) -> String {
    let options = &shape.options;
    format!(
        "Mask {} {} {} {} {} {}",
        options.causal,
        options.alignment == Alignment::TopLeft,
        option(options.window.and_then(|window| window.left), |x| format!("{x}%Z")),
        option(options.window.and_then(|window| window.right), |x| format!("{x}%Z")),
        options
            .segments
            .as_ref()
            .map_or(format!("[0; {}]", shape.queries), |s| { list(&s.queries, usize::to_string) }),
        options
            .segments
            .as_ref()
            .map_or(format!("[0; {}]", shape.keys), |s| { list(&s.keys, usize::to_string) }),
    )
}

/// The file of one case.
pub fn case(shape: &Shape, run: &Run) -> String {
    let mut table = Table::default();
    let saved = [tensor(&mut table, &run.saved.o), tensor(&mut table, &run.saved.lse)];
    let backward = gradients(&mut table, &run.gradients);
    let given = gradients(&mut table, &run.given);
    let free = gradients(&mut table, &run.free);
    let samples: Vec<String> =
        run.samples.iter().map(|sample| sampled(&mut table, run, sample)).collect();

    let bias = run.problem.inputs().bias.as_ref().map(Tensor::shape);
    let spread = [0, 1, 2].map(|axis| bias.is_none_or(|shape| shape[axis] == 1).to_string());
    let options = &shape.options;
    let mask = mask(shape);
    let negatives = match options.softcap {
        None => "[]".into(),
        Some(_) => per_row(run, |row| list(run.negatives(row), |j| j.to_string())),
    };
    let fields = [
        ("c_batch", shape.batch.to_string()),
        ("c_key_heads", shape.key_heads.to_string()),
        ("c_group", shape.group.to_string()),
        ("c_queries", shape.queries.to_string()),
        ("c_keys", shape.keys.to_string()),
        ("c_features", shape.features.to_string()),
        ("c_value_features", shape.value_features.to_string()),
        ("c_scale", option(options.scale, number)),
        ("c_softcap", option(options.softcap, number)),
        ("c_mask", mask),
        ("c_dlse", shape.dlse.to_string()),
        ("c_bias", shape.bias.is_some().to_string()),
        ("c_sink", shape.sink.to_string()),
        ("c_spread_b", spread[0].clone()),
        ("c_spread_h", spread[1].clone()),
        ("c_spread_i", spread[2].clone()),
        ("c_peaks", per_row(run, |row| run.peak(row).to_string())),
        ("c_negatives", negatives),
        ("c_table", "table".into()),
        ("c_o", format!("{}%positive", saved[0])),
        ("c_lse", format!("{}%positive", saved[1])),
        ("c_backward", backward),
        ("c_given", given),
        ("c_free", free),
        ("c_samples", list(&samples, |sample| sample.clone())),
    ];
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("    {name} := {value}")).collect();
    let parts: Vec<String> = table
        .lines
        .chunks(NODES_PER_PART)
        .enumerate()
        .map(|(at, lines)| {
            format!("Definition part{at} : list node := [\n  {}]%positive.\n", lines.join(";\n  "))
        })
        .collect();
    let names: Vec<String> =
        (0..parts.len()).map(|at| format!("part{at}")).chain(["[]".into()]).collect();
    format!(
        "From Coq Require Import List ZArith.\nFrom SusOracle Require Import Exec Record.\nImport ListNotations.\n\n\
         {}\nDefinition table : list node := {}.\n\nDefinition run : case :=\n  {{|\n{}\n  |}}.\n\n\
         Theorem checked : check run = true.\nProof. vm_compute. reflexivity. Qed.\n\nCheck checked.\n",
        parts.join("\n"),
        names.join(" ++ "),
        fields.join(";\n"),
    )
}

/// The file that lists the cases.
pub fn all(names: &[String]) -> String {
    let list = list(names, |name| format!("{name}.run"));
    let proof = names.iter().rfold("Forall_nil _".to_owned(), |rest, name| {
        format!("Forall_cons {name}.run {name}.checked ({rest})")
    });
    format!(
        "From Coq Require Import List.\nFrom SusOracle Require Import Record.\n\
         From SusOracle.Generated Require {}.\nImport ListNotations.\n\n\
         Definition runs : list case := {list}.\n\n\
         Theorem checked : Forall (fun c => check c = true) runs.\n\
         Proof. exact ({proof}). Qed.\n\nCheck checked.\n",
        names.join(" "),
    )
}
