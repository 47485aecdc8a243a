//! Kernels that read an operand in another order, or from elsewhere.

use crate::cause::Kind;
use crate::kernel::{Kernel, Machine, dot};
use crate::maps::{Map, feature_maps, maps, memory_orders, row_maps};
use crate::supposition::{Build, Supposition, in_scopes, like, with_inputs};
use std::sync::Arc;
use sus_reference::TensorName;
use sus_reference::problem::{Inputs, Problem};
use sus_reference::tensor::Tensor;

/// Every operand that is read otherwise.
pub(crate) fn operands<'a>(machine: &'a Machine<'_>, forward_failed: bool) -> Vec<Supposition<'a>> {
    let mut all = factors_of_lse(machine);
    all.extend(rows_of_forward(machine));
    all.extend(tensors(machine, forward_failed));
    all
}

type Numbers = Option<Vec<f64>>;

/// A kernel that reads other numbers of the rows.
fn of_rows<'a>(
    text: String,
    build: impl Fn() -> (Numbers, Numbers) + Send + Sync + 'a,
) -> Supposition<'a> {
    let build = move || {
        let (lse, delta) = build();
        Some(Kernel { lse: lse.map(Arc::new), delta: delta.map(Arc::new), ..Kernel::default() })
    };
    Supposition::new(Kind::Operand, text, Arc::new(build))
}

/// Multiples of `lse`.
fn factors_of_lse<'a>(machine: &'a Machine<'_>) -> Vec<Supposition<'a>> {
    let scale = machine.problem.scale();
    let ln2 = std::f64::consts::LN_2;
    [
        ("lse taken for a logarithm of base 2 (times ln 2)", ln2),
        ("lse of base 2 taken for a natural logarithm (over ln 2)", 1.0 / ln2),
        ("lse times the scale", scale),
        ("lse over the scale", 1.0 / scale),
        ("lse with the other sign", -1.0),
        ("an lse of zero", 0.0),
        ("half of the lse", 0.5),
        ("twice the lse", 2.0),
    ]
    .into_iter()
    .map(|(text, factor)| {
        let by = move |&x: &f64| if x.is_finite() { factor * x } else { x };
        of_rows(format!("{text}, in the backward pass"), move || {
            (Some(machine.saved.lse.as_slice().iter().map(by).collect()), None)
        })
    })
    .collect()
}

/// `lse`, `delta` and `o` as the backward pass reads them.
fn rows_of_forward<'a>(machine: &'a Machine<'_>) -> Vec<Supposition<'a>> {
    let problem = machine.problem;
    let lse = &machine.saved.lse;
    let shape = lse.shape();
    let mut all = Vec::new();
    for map in memory_orders(shape).into_iter().chain(row_maps(shape, "query")) {
        let of_lse = map.clone();
        let lse = move || Some(of_lse.all(shape, lse.as_slice()));
        let of_delta = map.clone();
        let delta = move || Some(of_delta.all(shape, &machine.delta));
        let (a, b) = (lse.clone(), delta.clone());
        all.push(of_rows(format!("the lse {}", map.text), move || (a(), None)));
        all.push(of_rows(format!("the delta {}", map.text), move || (None, b())));
        all.push(of_rows(format!("lse and delta {}", map.text), move || (lse(), delta())));
    }
    let (o, g) = (&machine.saved.o, &problem.inputs().g);
    for map in maps(o.shape(), "query") {
        let of_o = map.clone();
        all.push(of_rows(format!("the o that delta is made of {}", map.text), move || {
            let read = of_o.all(o.shape(), o.as_slice());
            (None, Some(products(problem, g.as_slice(), &read)))
        }));
        all.push(of_rows(format!("the do that delta is made of {}", map.text), move || {
            let read = map.all(g.shape(), g.as_slice());
            (None, Some(products(problem, &read, o.as_slice())))
        }));
    }
    for (text, tensor) in [("a delta of do and do", g), ("a delta of o and o", o)] {
        all.push(of_rows(text.into(), move || {
            (None, Some(products(problem, tensor.as_slice(), tensor.as_slice())))
        }));
    }
    all
}

/// The sum over the features of each row.
fn products(problem: &Problem<f64>, a: &[f64], b: &[f64]) -> Vec<f64> {
    let width = problem.sizes().value_features;
    a.chunks(width).zip(b.chunks(width)).map(|(a, b)| dot(a, b)).collect()
}

/// Which operands are changed together, and how.
type Change = (&'static str, &'static [TensorName]);

/// The operands that kernels read alike.
const GROUPS: [Change; 8] = [
    ("do", &[TensorName::Do]),
    ("v", &[TensorName::V]),
    ("k", &[TensorName::K]),
    ("q", &[TensorName::Q]),
    ("k and v", &[TensorName::K, TensorName::V]),
    ("q and do", &[TensorName::Q, TensorName::Do]),
    ("q and k", &[TensorName::Q, TensorName::K]),
    ("q, k, v and do", &[TensorName::Q, TensorName::K, TensorName::V, TensorName::Do]),
];

fn operand(inputs: &Inputs<f64>, name: TensorName) -> &Tensor<f64> {
    match name {
        TensorName::Q => &inputs.q,
        TensorName::K => &inputs.k,
        TensorName::V => &inputs.v,
        _ => &inputs.g,
    }
}

/// The maps of an operand, numbered alike for operands that are read together.
fn maps_of(shape: [usize; 4], name: TensorName, many: bool) -> Vec<Map> {
    let of = if matches!(name, TensorName::K | TensorName::V) { "key" } else { "query" };
    let mut all = memory_orders(shape);
    if !many || !matches!(name, TensorName::Q) {
        all.extend(row_maps(shape, of));
        if !many {
            all.extend(feature_maps(shape));
        }
    }
    all
}

/// `q`, `k`, `v` and `do`, alone and together.
fn tensors<'a>(machine: &'a Machine<'_>, forward_failed: bool) -> Vec<Supposition<'a>> {
    let problem = machine.problem;
    let mut all = Vec::new();
    for (text, names) in GROUPS {
        let many = names.len() > 1;
        let by_name: Vec<Vec<Map>> = names
            .iter()
            .map(|&name| maps_of(operand(problem.inputs(), name).shape(), name, many))
            .collect();
        for map in &by_name[0] {
            // Operands of other lengths have other maps: the one of the same words is meant.
            let same: Vec<(TensorName, Map)> = names
                .iter()
                .zip(&by_name)
                .filter_map(|(&name, maps)| {
                    Some((name, maps.iter().find(|other| other.text == map.text)?.clone()))
                })
                .collect();
            let build: Build<'a> = Arc::new(move || read(problem, &same));
            let text = format!("{text} {}", map.text);
            if names.contains(&TensorName::Do) && !names.contains(&TensorName::Q) {
                // No forward pass reads `do`.
                all.push(Supposition::new(Kind::Operand, text.clone(), Arc::clone(&build)));
                let with_delta = move || {
                    let delta = Some(Arc::new(machine.delta.clone()));
                    Some(Kernel { delta, ..build()? })
                };
                let text = format!("{text}, but not in delta");
                all.push(Supposition::new(Kind::Operand, text, Arc::new(with_delta)));
            } else {
                all.extend(in_scopes(Kind::Operand, &text, &build, forward_failed));
            }
        }
    }
    all
}

/// A kernel that reads some operands from elsewhere.
fn read(problem: &Problem<f64>, maps: &[(TensorName, Map)]) -> Option<Kernel> {
    with_inputs(problem, |mut inputs| {
        for (name, map) in maps {
            let tensor = operand(&inputs, *name);
            let data = map.all(tensor.shape(), tensor.as_slice());
            let Some(read) = like(tensor, &data) else { continue };
            inputs = match name {
                TensorName::Q => inputs.with_q(read),
                TensorName::K => inputs.with_k(read),
                TensorName::V => inputs.with_v(read),
                _ => inputs.with_g(read),
            };
        }
        inputs
    })
}
