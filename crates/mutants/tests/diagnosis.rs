//! The diagnosis names the bug, and names none where there is none that it knows.

use sus_corpus::{self as corpus, NamedProblem};
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_mutants::arithmetic::Arithmetic;
use sus_mutants::diagnosis::{diagnose, nan_in_rows_without_keys};
use sus_mutants::{RunConfig, control_kernel, named};
use sus_reference::problem::Problem;

fn case(name: &str) -> NamedProblem {
    corpus::named(name).expect("a built-in case")
}

fn config<'a>(case: &'a NamedProblem, recipe: &str) -> RunConfig<'a> {
    let arithmetic = Arithmetic::named(recipe).expect("a recipe");
    RunConfig::new(&case.problem, arithmetic, case.draw.as_ref())
}

fn scale(file: &mut TensorFile, name: &str, factor: impl Fn(usize) -> f64) {
    let Numbers::Float(data) = &mut file.arrays.get_mut(name).expect("an output").numbers else {
        panic!("{name} holds no floats")
    };
    data.iter_mut().enumerate().for_each(|(at, x)| *x *= factor(at));
}

#[test]
fn a_known_bug_is_named_at_any_recipe() {
    let table: [(&str, &str, &[&str]); 12] = [
        ("dk_unscaled", "primes", &["dk"]),
        ("delta_of_row_mod_tile", "square_causal", &["dq", "dk"]),
        ("softcap_derivative_missing", "softcap", &["dq", "dk"]),
        ("window_left_exclusive", "window_both_ways", &["dq", "dk", "dv"]),
        ("alignment_of_other_corner", "more_keys", &["dq", "dk", "dv"]),
        ("group_last_writer", "primes", &["dk", "dv"]),
        ("dbias_last_writer", "bias_broadcast", &["dbias"]),
        ("dsink_sign", "sink", &["dsink"]),
        ("dlse_dropped", "dlse", &["dq", "dk"]),
        ("delta_of_chunk", "primes", &["dq", "dk"]),
        ("upweighting_missing", "sus", &["dq", "dk", "dv"]),
        ("heads_share_words", "sus", &["dq", "dk", "dv"]),
    ];
    for (kernel, name, deviates) in table {
        let case = case(name);
        for recipe in ["f32", "flash-bf16"] {
            let kernel = named(kernel).expect("a kernel");
            let candidate = (kernel.run)(&config(&case, recipe)).expect("it applies");
            let found = diagnose(&case.problem, case.draw.as_ref(), &candidate, deviates);
            let found =
                found.unwrap_or_else(|| panic!("{} on {name} at {recipe}: none", kernel.name));
            let is_it = found.kernel == kernel.name || found.tied.contains(&kernel.name);
            assert!(is_it, "{} on {name} at {recipe}: {found}", kernel.name);
            assert_eq!(found.outputs.len(), deviates.len(), "{found}");
        }
    }
}

#[test]
fn an_unknown_bug_is_not_explained() {
    let case = case("primes");
    let mut candidate = control_kernel(&config(&case, "f32"));
    scale(&mut candidate, "dq", |at| if at % 7 < 3 { 1.0 } else { 0.63 });
    assert_eq!(diagnose(&case.problem, None, &candidate, &["dq"]), None);
}

#[test]
fn a_bug_must_explain_all_that_deviates() {
    let case = case("primes");
    let kernel = named("dk_unscaled").expect("a kernel");
    let mut candidate = (kernel.run)(&config(&case, "f32")).expect("it applies");
    scale(&mut candidate, "dv", |_| 1.4);
    assert_eq!(diagnose(&case.problem, None, &candidate, &["dk", "dv"]), None);
    assert_eq!(diagnose(&case.problem, None, &candidate, &[]), None);
}

#[test]
fn the_line_says_what_where_and_how_well() {
    let case = case("primes");
    let kernel = named("dk_unscaled").expect("a kernel");
    let candidate = (kernel.run)(&config(&case, "f32")).expect("it applies");
    let said = diagnose(&case.problem, None, &candidate, &["dk"]).expect("a bug").to_string();
    assert!(said.starts_with("dk matches \"The scale is missing from `dk`\" to "), "{said}");
}

/// A `delta` of 40 % is no half: what a mutant leaves unexplained is a sixth, and a tenth is allowed.
#[test]
fn a_bug_of_another_size_is_not_named() {
    let case = case("primes");
    let config = config(&case, "f64");
    let (right, wrong) = (control_kernel(&config), named("delta_halved").expect("a kernel"));
    let wrong = (wrong.run)(&config).expect("it applies");
    let with_factor = |factor: f64| {
        let mut candidate = right.clone();
        for name in ["dq", "dk"] {
            let Numbers::Float(of_half) = &wrong.arrays[name].numbers else { unreachable!() };
            let found = &mut candidate.arrays.get_mut(name).expect("an output").numbers;
            let Numbers::Float(of_all) = found else { unreachable!() };
            // The gradients are linear in `delta`.
            for (x, half) in of_all.iter_mut().zip(of_half) {
                *x += 2.0 * (1.0 - factor) * (half - *x);
            }
        }
        candidate
    };
    let said = |factor| diagnose(&case.problem, None, &with_factor(factor), &["dq", "dk"]);
    for factor in [0.47, 0.5, 0.53] {
        assert_eq!(said(factor).expect("a diagnosis").kernel, "delta_halved", "{factor}");
    }
    for factor in [0.4, 0.6] {
        assert_eq!(said(factor), None, "{factor}");
    }
}

/// The results of a kernel that gives NaN in the rows of `o` and `dq` that see no key, and so in all of `dk` and `dv`.
fn nan_rows(case: &NamedProblem) -> TensorFile {
    let mut file = control_kernel(&config(case, "f32"));
    let mask = case.problem.mask();
    for name in ["o", "dq"] {
        let array = file.arrays.get_mut(name).expect("an output");
        let width = array.shape[3];
        let Numbers::Float(data) = &mut array.numbers else { unreachable!() };
        for (at, row) in data.chunks_mut(width).enumerate() {
            if mask.span(0, case.problem.row(at).i).is_empty() {
                row.fill(f64::NAN);
            }
        }
    }
    scale(&mut file, "dk", |_| f64::NAN);
    scale(&mut file, "dv", |_| f64::NAN);
    file
}

/// The place is named only where it is all that failed, and `lse` is right.
#[test]
fn nan_in_the_rows_that_see_no_key_are_located() {
    let case = case("more_queries");
    let failed = ["o", "dq", "dk", "dv"];
    let file = nan_rows(&case);
    let said = nan_in_rows_without_keys(&case.problem, &file, &failed).expect("a place");
    assert!(said.starts_with("o, dq are NaN in exactly the rows that see no key, "), "{said}");
    assert!(said.ends_with("The NaN of dk, dv may come from them"), "{said}");
    let with_lse = ["lse", "o", "dq", "dk", "dv"];
    assert_eq!(nan_in_rows_without_keys(&case.problem, &file, &with_lse), None);

    // One more NaN, one fewer, or numbers that are wrong elsewhere: then this is no description of what failed.
    let Numbers::Float(dq) = &file.arrays["dq"].numbers else { unreachable!() };
    let number = dq.iter().position(|x| x.is_finite() && *x != 0.0).expect("a row with keys");
    let empty = dq.iter().position(|x| x.is_nan()).expect("a row without keys");
    for (at, x) in [(number, f64::NAN), (empty, 0.0), (number, 1e3)] {
        let mut other = file.clone();
        let dq = &mut other.arrays.get_mut("dq").expect("an output").numbers;
        let Numbers::Float(dq) = dq else { unreachable!() };
        dq[at] = x;
        assert_eq!(nan_in_rows_without_keys(&case.problem, &other, &failed), None);
    }
}

/// Without the softcap `exp(s - lse)` leaves the range of `f32`: the numbers that are left name the bug.
#[test]
fn a_bug_that_overflows_is_recognised_by_the_numbers_that_are_left() {
    let case = case("softcap");
    let mut inputs = case.problem.inputs().clone();
    // Scores of some hundreds under a softcap of a few.
    inputs.q = inputs.q.map(|x| 64.0 * x);
    let problem = Problem::new(inputs, case.problem.options().clone()).expect("a problem");
    let config = RunConfig::new(&problem, Arithmetic::named("f64").expect("a recipe"), None);
    let wrong = (named("softcap_ignored").expect("a kernel").run)(&config).expect("it applies");
    let mut candidate = wrong.clone();
    for name in ["dq", "dk", "dv"] {
        let data = &mut candidate.arrays.get_mut(name).expect("an output").numbers;
        let Numbers::Float(data) = data else { unreachable!() };
        for x in data.iter_mut() {
            *x = f64::from(*x as f32);
        }
        let left = data.iter().filter(|x| x.is_finite()).count();
        assert!((10..data.len()).contains(&left), "{name}: {left} of {}", data.len());
    }
    let found = diagnose(&problem, None, &candidate, &["dq", "dk", "dv"]).expect("a bug");
    assert!(
        found.kernel == "softcap_ignored" || found.tied.contains(&"softcap_ignored"),
        "{found}"
    );

    // Of an output without numbers nothing can be said.
    scale(&mut candidate, "dq", |_| f64::NAN);
    assert_eq!(diagnose(&problem, None, &candidate, &["dq", "dk", "dv"]), None);
}
