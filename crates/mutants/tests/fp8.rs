//! Kernels of 8 bits: right ones pass, and each wrong one fails.

use sus_bounds::Recipe;
use sus_files::{Array, Settings};
use sus_mutants::fp8::{Fp8Kernel, Fp8Problem, ScaleBy, bugs, controls, problems};
use sus_verdict::{Case, Judge, Mode, Outcome, Verdict};

fn case(problem: &Fp8Problem) -> Case {
    Case::from_tensors(problem.file(), Settings::default(), "case").unwrap()
}

fn judge(problem: &Fp8Problem) -> Judge {
    let recipe = Recipe::built_in("flash-fp8").unwrap();
    Judge::builder(&case(problem), &recipe).build().unwrap()
}

fn lines(verdict: &Verdict) -> String {
    let line =
        |f: &sus_verdict::Finding| format!("  {} {}: {}\n", f.tensor, f.rule.name(), f.message);
    verdict.findings.iter().map(line).collect()
}

#[test]
fn right_kernels_pass_and_their_errors_fill_the_bounds() {
    for (at, problem) in problems() {
        let judge = judge(&problem);
        for (name, kernel) in controls() {
            let verdict = judge.check(&kernel.run(&problem));
            assert_eq!(verdict.outcome, Outcome::Pass, "{at}, {name}:\n{}", lines(&verdict));
            for tensor in verdict.tensors.iter().filter(|tensor| tensor.name != "lse") {
                // Half a spacing of bf16 is 1/512 to 1/256 of a number; a code that is not known adds a step to few elements.
                assert!(tensor.width < 0.05, "{at}, {name}, {}: {}", tensor.name, tensor.width);
                assert!(tensor.rms > 0.3, "{at}, {name}, {}: {}", tensor.name, tensor.rms);
            }
        }
    }
}

/// Each wrong kernel fails on at least one problem, where nothing of it is refused but its `o`.
#[test]
fn every_wrong_kernel_fails_somewhere() {
    let judged: Vec<_> =
        problems().into_iter().map(|(at, problem)| (at, judge(&problem), problem)).collect();
    for bug in bugs() {
        let killed: Vec<&str> = judged
            .iter()
            .filter(|(_, judge, problem)| {
                judge.check(&bug.kernel.run(problem)).outcome == Outcome::Fail
            })
            .map(|(at, ..)| *at)
            .collect();
        assert!(!killed.is_empty(), "{} passes everywhere", bug.name);
    }
}

/// The bugs that can show on any problem, on an ordinary one of each kind of scale.
#[test]
fn the_usual_wrong_kernels_fail_on_ordinary_problems() {
    // These need blocks of scales, numbers out of range, a scale of scores that is no power of two, or dropout.
    let special = |name: &str| {
        let parts = [
            "block",
            "first_head",
            "overflow",
            "subnormals",
            "after_the_scale",
            "dropout",
            "o_in_e4m3",
        ];
        parts.iter().any(|part| name.contains(part))
    };
    for (by, n, seed) in [(ScaleBy::Tensor, 48, 5), (ScaleBy::Head, 64, 6)] {
        let problem = Fp8Problem::drawn([1, 2, n, n, 64], by, 1.0, seed);
        let judge = judge(&problem);
        for bug in bugs().into_iter().filter(|bug| !special(bug.name)) {
            for without_o in [false, by == ScaleBy::Tensor] {
                let kernel = Fp8Kernel { without_o, ..bug.kernel };
                // What is wrong in o alone cannot be seen without it.
                if without_o && bug.name == "v_scale_missing" {
                    continue;
                }
                let verdict = judge.check(&kernel.run(&problem));
                assert_eq!(
                    verdict.outcome,
                    Outcome::Fail,
                    "{by:?}, {}: {}",
                    bug.name,
                    lines(&verdict)
                );
            }
        }
    }
}

/// One code on the other side of a midpoint is right where the number is that close to it, and wrong elsewhere.
#[test]
fn one_flipped_code_fails_unless_it_is_at_a_midpoint() {
    let problem = Fp8Problem::drawn([1, 1, 64, 64, 64], ScaleBy::Tensor, 1.0, 9);
    let judge = judge(&problem);
    let (mut right, mut failed) = (Fp8Kernel::default().run(&problem), 0);
    let dv =
        |file: &mut sus_files::TensorFile| match &mut file.arrays.get_mut("dv").unwrap().numbers {
            sus_files::tensor_file::Numbers::Float(x) => std::mem::take(x),
            _ => unreachable!(),
        };
    let before = dv(&mut right);
    let g = case(&problem).problem.inputs().g.clone();
    for key in 0..64 {
        // A step of E4M3 of the weight of the row 0, about 1/64: 2^-10 to either side.
        let mut flipped = before.clone();
        let row = &mut flipped[key * 64..(key + 1) * 64];
        row.iter_mut().zip(g.row(0, 0, 0)).for_each(|(x, g)| {
            *x = sus_bounds::Format::Bf16.round(*x + g * libm::exp2(-10.0));
        });
        let mut file = right.clone();
        file.arrays.insert("dv".into(), Array::bf16(&[1, 1, 64, 64], flipped));
        failed += usize::from(judge.check(&file).outcome == Outcome::Fail);
    }
    assert!(failed >= 62, "{failed} of 64");
}

#[test]
fn a_forward_pass_that_no_maximum_explains_is_refused_and_judged_where_the_recipe_allows_it() {
    let problem = Fp8Problem::drawn([1, 2, 64, 64, 64], ScaleBy::Tensor, 1.0, 10);
    let online =
        Fp8Kernel { forward: sus_mutants::fp8::Forward::Online, tile: 13, ..Fp8Kernel::default() };
    let candidate = online.run(&problem);
    let recipe = Recipe::built_in("flash-fp8").unwrap();
    let outcome = |recipe: &Recipe| {
        Judge::builder(&case(&problem), recipe).build().unwrap().check(&candidate).outcome
    };
    assert_eq!(outcome(&recipe), Outcome::Refused);
    assert_eq!(outcome(&recipe.clone().with_any_forward(true)), Outcome::Pass);
}

#[test]
fn a_given_forward_pass_is_judged_as_data() {
    let problem = Fp8Problem::drawn([1, 2, 48, 48, 32], ScaleBy::Head, 1.0, 11);
    let recipe = Recipe::built_in("flash-fp8").unwrap();
    let judge = Judge::builder(&case(&problem), &recipe).mode(Mode::Given).build().unwrap();
    let right = judge.check(&Fp8Kernel::default().run(&problem));
    assert_eq!(right.outcome, Outcome::Pass, "{}", lines(&right));
    let wrong = Fp8Kernel { delta_unrounded: true, ..Fp8Kernel::default() };
    assert_eq!(judge.check(&wrong.run(&problem)).outcome, Outcome::Fail);
}

#[test]
fn scales_that_contradict_and_masks_are_errors() {
    let problem = Fp8Problem::drawn([1, 1, 8, 8, 8], ScaleBy::Tensor, 1.0, 12);
    let recipe = Recipe::built_in("flash-fp8").unwrap();
    let error = |case: &Case, recipe: &Recipe| {
        Judge::builder(case, recipe).build().unwrap_err().to_string()
    };
    let case = case(&problem);
    assert_eq!(
        error(&case, &recipe.clone().with_p_scale(2.0)),
        "option 'p_scale': expected 448, as the case says, found 2 in the recipe"
    );
    let sampled = Case { settings: case.settings.clone().with_seed(1), ..case };
    assert_eq!(
        error(&sampled, &recipe),
        "option 'pass': expected a dense pass where P or dS has 8 bits, found SUS"
    );
}

#[test]
fn a_recipe_of_8_bits_keeps_to_what_is_derived() {
    let read = |keys: &str| {
        let text = format!("base = \"flash-fp8\"\n{keys}");
        Recipe::from_toml("mine", &text).map_err(|e| e.to_string())
    };
    let legal = read("ds = \"e4m3\"\np = \"f32\"\nscaled_ds = true\nds_scale = 2.0").unwrap();
    assert!(legal.has_8_bits() && !legal.without_8_bits().has_8_bits());
    for (keys, said) in [
        ("p_scale = 0.0", "p_scale = 0 where a finite number above 0 is expected"),
        ("o = \"e4m3\"", "o = \"e4m3\": only p and ds may be \"e4m3\" or \"e5m2\""),
        ("delta = \"weights\"", "needs delta = \"stored\""),
        ("gqa = \"repeated\"", "needs gqa = \"fused\""),
        ("p = \"bf16\"", "needs p and ds of 8 bits or \"f32\""),
        ("running_dq = 64", "needs no running totals"),
    ] {
        let error = read(keys).unwrap_err();
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    }
    for name in ["mxfp8", "nvfp4"] {
        let error = Recipe::named(name).unwrap_err().to_string();
        assert!(error.contains("is not judged yet"), "{error}");
    }
}

/// `dS` in E4M3, and the scale of the scores before it is rounded: right where the recipe says so, wrong elsewhere.
#[test]
fn a_kernel_is_judged_by_its_own_recipe() {
    let problem = Fp8Problem::drawn([1, 2, 48, 48, 32], ScaleBy::Head, 1.0, 13);
    let plain = Recipe::built_in("flash-fp8").unwrap();
    let e4m3 = Fp8Kernel { formats: [sus_bounds::Format::E4m3; 2], ..Fp8Kernel::default() };
    let scaled = Fp8Kernel { scaled_ds: true, ..Fp8Kernel::default() };
    for (kernel, own) in [
        (e4m3, plain.clone().with_ds(sus_bounds::Format::E4m3)),
        (scaled, plain.clone().with_scaled_ds(true)),
    ] {
        let outcome = |recipe: &Recipe| {
            let judge = Judge::builder(&case(&problem), recipe).build().unwrap();
            judge.check(&kernel.run(&problem)).outcome
        };
        assert_eq!((outcome(&own), outcome(&plain)), (Outcome::Pass, Outcome::Fail));
    }
}
