//! Kernels of 8 bits: right ones pass, and each wrong one fails.

use sus_bounds::Recipe;
use sus_files::Settings;
use sus_mutants::fp8::{Fp8Problem, ScaleBy, bugs, controls};
use sus_verdict::{Case, Judge, Outcome, Verdict};

fn judge(problem: &Fp8Problem) -> Judge {
    let case = Case::from_tensors(problem.file(), Settings::default(), "case").unwrap();
    let recipe = Recipe::built_in("flash-fp8").unwrap();
    Judge::builder(&case, &recipe).build().unwrap()
}

fn lines(verdict: &Verdict) -> String {
    verdict
        .findings
        .iter()
        .map(|f| format!("  {} {}: {}\n", f.tensor, f.rule.name(), f.message))
        .collect()
}

fn problems() -> Vec<(&'static str, Fp8Problem)> {
    let with = |problem: Fp8Problem, change: fn(Settings) -> Settings| {
        let settings = change(problem.settings.clone());
        problem.with_settings(settings)
    };
    let by_rows = Fp8Problem::drawn([1, 2, 64, 64, 64], ScaleBy::Rows(16), 1.0, 1);
    let causal = Fp8Problem::drawn([1, 2, 128, 128, 64], ScaleBy::Tensor, 1.0, 2);
    let peaked = Fp8Problem::drawn([1, 2, 64, 96, 64], ScaleBy::Head, 3.0, 3);
    let small = Fp8Problem::drawn([2, 2, 64, 64, 32], ScaleBy::Head, 2.0, 4);
    vec![
        ("by_rows", by_rows.clone()),
        ("causal", with(causal, |s| s.with_causal(true))),
        ("saturated", with(peaked, |s| s.with_p_scale(1024.0).with_ds_scale(40000.0))),
        ("unscaled", with(small, |s| s.with_p_scale(1.0).with_ds_scale(1.0))),
        ("dropout", by_rows.with_dropout(0.25)),
    ]
}

#[test]
fn explore() {
    for (at, problem) in problems() {
        let start = std::time::Instant::now();
        let judge = judge(&problem);
        println!("== {at} built in {:?}", start.elapsed());
        for (name, kernel) in controls() {
            let start = std::time::Instant::now();
            let candidate = kernel.run(&problem);
            let ran = start.elapsed();
            let verdict = judge.check(&candidate);
            print!("{name}: {:?} in {ran:?} + {:?}", verdict.outcome, start.elapsed());
            for t in &verdict.tensors {
                print!("; {} width {:.4} rms {:.3}", t.name, t.width, t.rms);
            }
            println!();
            print!("{}", lines(&verdict));
            println!("{:?}", &verdict.notes[1..]);
        }
        for bug in bugs() {
            let verdict = judge.check(&bug.kernel.run(&problem));
            let rules: Vec<String> = verdict
                .findings
                .iter()
                .map(|f| {
                    format!(
                        "{} {} {}",
                        f.tensor,
                        f.rule.name(),
                        f.message.split(' ').next().unwrap()
                    )
                })
                .collect();
            println!("{}: {:?} {rules:?}", bug.name, verdict.outcome);
        }
    }
    let _ = Outcome::Pass;
}
