//! Every rule of the verdict: a bug that it alone detects, and right results that it accepts.

use crate::common::{Shape, eighths, numbers};
use crate::emulate::{Kernel, Order};
use rand_core::Rng;
use safetensors::Dtype;
use sus_bounds::{Delta, Format, Mode, Recipe};
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::tensor_file::Numbers;
use sus_files::{Array, Pass, Settings, TensorFile};
use sus_mutants::arithmetic::Arithmetic;
use sus_mutants::{self as mutants, RunConfig};
use sus_reference::evaluation::evaluate;
use sus_reference::problem::{Dropout, Options, Problem};
use sus_reference::sus::{Budget, Sampler};
use sus_reference::tensor::Tensor;
use sus_verdict::{Case, Criterion, DirectionResult, Judge, Outcome, SetResult, Verdict, Worst};

fn problem() -> Problem<f64> {
    let options = Options::default().with_causal(true);
    let shape =
        Shape { features: 16, value_features: 16, key_heads: 2, options, ..Shape::plain(96, 96) };
    shape.problem()
}

/// Numbers of eight bits, of either sign, from 1/8 to 2: hardly two are equal, as in a real layer.
fn varied() -> Case {
    let shape = Shape { features: 32, value_features: 32, key_heads: 2, ..Shape::plain(128, 128) };
    let problem = shape.fill(|rng| {
        let word = rng.next_u32();
        let significand = f64::from(128 + (word & 127)) / 128.0;
        let sign = if word >> 31 == 0 { 1.0 } else { -1.0 };
        sign * significand / f64::from(1 << ((word >> 8) % 4))
    });
    Case::new(problem, Settings::default().with_pass(Pass::Dense))
}

fn dense() -> Case {
    let settings = Settings::default().with_pass(Pass::Dense);
    Case::new(problem(), settings)
}

fn judge(case: &Case, recipe: &str) -> Judge {
    sus_mutants::judge(case, &Recipe::built_in(recipe).unwrap()).build().unwrap()
}

/// The truth as a candidate.
fn truth(case: &Case) -> TensorFile {
    let draw = case.draw().unwrap();
    let evaluation = evaluate::<f64>(&case.problem, None, draw.as_ref()).unwrap();
    to_tensors(&evaluation, &case.settings, Stored::F64).unwrap()
}

fn floats<'a>(file: &'a mut TensorFile, name: &str) -> &'a mut Vec<f64> {
    match &mut file.arrays.get_mut(name).unwrap().numbers {
        Numbers::Float(data) => data,
        _ => panic!("{name} has no floats"),
    }
}

fn rules(verdict: &Verdict) -> Vec<Criterion> {
    let mut rules: Vec<Criterion> = verdict.findings.iter().map(|f| f.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// The verdict on edited exact results.
fn found(case: &Case, recipe: &str, edit: impl FnOnce(&mut TensorFile, &Judge)) -> Verdict {
    let judge = judge(case, recipe);
    let mut file = truth(case);
    edit(&mut file, &judge);
    judge.check(&file)
}

#[test]
fn the_truth_passes_and_exit_codes_are_those_of_the_specification() {
    let verdict = found(&dense(), "f64", |_, _| ());
    assert_eq!((verdict.outcome, verdict.findings.len()), (Outcome::Pass, 0));
    assert_eq!(verdict.tensors.len(), 5);
    let codes = [Outcome::Pass, Outcome::Fail, Outcome::Refused, Outcome::Inconclusive]
        .map(Outcome::exit_code);
    assert_eq!(codes, [0, 1, 3, 4]);
    assert!(Outcome::Fail > Outcome::Refused && Outcome::Refused > Outcome::Inconclusive);
    assert!(Outcome::Inconclusive > Outcome::Pass);
}

#[test]
fn tensors_that_are_missing_extra_or_of_another_kind_fail() {
    let case = dense();
    let remove = |names: &'static [&str]| {
        found(&case, "f64", |file, _| names.iter().for_each(|&name| drop(file.arrays.remove(name))))
    };
    assert_eq!(rules(&remove(&["dq"])), [Criterion::Missing]);
    assert_eq!(remove(&["o", "lse"]).outcome, Outcome::Pass);
    let nothing = remove(&["o", "lse", "dq", "dk", "dv"]);
    assert_eq!((nothing.outcome, rules(&nothing)), (Outcome::Fail, vec![Criterion::Missing]));
    let extra = found(&case, "f64", |file, _| {
        file.arrays.insert("dbias".into(), Array::f64(&[1], vec![0.0]));
    });
    assert_eq!(rules(&extra), [Criterion::Extra]);
    let shape = found(&case, "f64", |file, _| {
        file.arrays.get_mut("dk").unwrap().shape = vec![2, 1, 96, 16];
    });
    assert_eq!(rules(&shape), [Criterion::Shape]);
    let dtype = found(&case, "f64", |file, _| {
        let array = Array::i64(&[1, 2, 96, 16], vec![0; 2 * 96 * 16]);
        file.arrays.insert("dv".into(), array);
    });
    assert_eq!(rules(&dtype), [Criterion::Dtype]);
}

#[test]
fn what_is_no_number_or_was_never_computed_is_said_to_be() {
    let case = dense();
    let edit = |edit: fn(&mut [f64])| found(&case, "f64", |file, _| edit(floats(file, "dq")));
    let nan = edit(|dq| dq[17] = f64::NAN);
    assert_eq!(rules(&nan), [Criterion::NotANumber, Criterion::Bound]);
    assert!(nan.findings[0].message.contains("[0, 0, 1, 1]"), "{:?}", nan.findings);
    assert_eq!(
        rules(&edit(|dq| dq[17] = f64::INFINITY)),
        [Criterion::NotANumber, Criterion::Bound]
    );
    assert!(rules(&edit(|dq| dq.fill(f64::NAN))).contains(&Criterion::Unwritten));
    assert!(rules(&edit(|dq| dq[5] = -3.4e38)).contains(&Criterion::Unwritten));
    assert!(rules(&edit(|dq| dq.fill(0.0))).contains(&Criterion::Zero));
    assert!(rules(&edit(|dq| dq.fill(0.25))).contains(&Criterion::Constant));
}

#[test]
fn the_bound_alone_sees_one_element() {
    for recipe in ["f64", "f32", "flash-bf16"] {
        let verdict = found(&dense(), recipe, |file, judge| {
            floats(file, "dk")[700] += 1.01 * judge.bounds().dk.threshold[700];
        });
        assert_eq!(rules(&verdict), [Criterion::Bound], "{recipe}");
        let dk = verdict.tensors.iter().find(|t| t.name == "dk").unwrap();
        assert_eq!(dk.worst.as_ref().unwrap().index, [0, 0, 43, 12]);
        assert_eq!(dk.outside, 1);
        let verdict = found(&dense(), recipe, |file, judge| {
            floats(file, "dk")[700] += 0.98 * judge.bounds().dk.threshold[700];
        });
        assert_eq!(verdict.outcome, Outcome::Pass, "{recipe}");
    }
}

/// The verdict on exact results with the smallest share of an error that fails.
fn smallest_seen(recipe: &str, edit: impl Fn(f64, &mut TensorFile, &Judge)) -> Verdict {
    let (case, truth) = (varied(), truth(&varied()));
    let judge = judge(&case, recipe);
    let of_share = |n: i32| {
        let mut file = truth.clone();
        edit(f64::from(n) / 100.0, &mut file, &judge);
        judge.check(&file)
    };
    let mut verdicts = (1..100).map(of_share);
    verdicts.find(|verdict| verdict.outcome == Outcome::Fail).expect("less than the whole is seen")
}

#[test]
fn the_slope_alone_sees_a_small_factor_of_one_head() {
    let verdict = smallest_seen("flash-bf16", |share, file, judge| {
        let bounds = &judge.bounds().dv.threshold;
        let dv = floats(file, "dv");
        let room = dv.iter().zip(bounds).map(|(x, b)| b / x.abs()).fold(f64::INFINITY, f64::min);
        assert!(room < 0.01, "one percent is seen by the bound");
        let half = dv.len() / 2;
        for x in &mut dv[..half] {
            *x *= 1.0 + share * room;
        }
    });
    assert_eq!(rules(&verdict), [Criterion::Slope], "{:?}", verdict.findings);
}

#[test]
fn the_direction_alone_sees_results_that_are_cut() {
    let verdict = smallest_seen("flash-bf16", |share, file, judge| {
        let store = |x: f64| judge.recipe().output.rounding_error(x.abs(), false);
        // Half a spacing is what results cut towards zero err on average.
        for x in floats(file, "dv").iter_mut() {
            *x -= share * x.signum() * store(*x);
        }
    });
    assert_eq!(rules(&verdict), [Criterion::Direction], "{:?}", verdict.findings);
}

#[test]
fn the_mean_alone_sees_a_common_sign() {
    let verdict = smallest_seen("flash-f16", |share, file, judge| {
        let bounds = &judge.bounds().dq.threshold;
        let dq = floats(file, "dq");
        dq.iter_mut().zip(bounds).for_each(|(x, bound)| *x += share * bound);
    });
    assert_eq!(rules(&verdict), [Criterion::Mean], "{:?}", verdict.findings);
}

#[test]
fn the_root_mean_square_alone_sees_noise_below_the_bounds() {
    let verdict = smallest_seen("flash-f16", |share, file, judge| {
        let mut rng = numbers(3);
        let bounds = &judge.bounds().dv.threshold;
        // Pairs of opposite signs: no row has a mean.
        for (pair, bounds) in floats(file, "dv").chunks_mut(2).zip(bounds.chunks(2)) {
            let sign = if rng.next_u32() & 1 == 0 { share } else { -share };
            pair[0] += sign * bounds[0];
            pair[1] -= sign * bounds[1];
        }
    });
    assert_eq!(rules(&verdict), [Criterion::Rms], "{:?}", verdict.findings);
}

#[test]
fn a_tensor_below_the_noise_is_refused_and_a_zero_one_is_not() {
    // Values that hardly differ: dP - delta cancels, and what a 16-bit kernel leaves is its rounding.
    let shape = Shape { features: 8, value_features: 8, ..Shape::plain(16, 16) };
    let problem = shape.problem();
    let mut inputs = problem.inputs().clone();
    for x in inputs.v.as_mut_slice() {
        *x = if *x < 0.0 { 1.0 } else { 1.0 + 1.0 / 128.0 };
    }
    let settings = Settings::default().with_pass(Pass::Dense);
    let case = Case::new(Problem::new(inputs, Options::default()).unwrap(), settings.clone());
    let verdict = found(&case, "flash-bf16", |_, _| ());
    assert_eq!((verdict.outcome, rules(&verdict)), (Outcome::Refused, vec![Criterion::Vacuous]));
    assert_eq!(found(&case, "f32", |_, _| ()).outcome, Outcome::Pass);
    // One key: dq and dk are zero.
    let case = Case::new(Shape::plain(5, 1).problem(), settings);
    assert_eq!(found(&case, "flash-bf16", |_, _| ()).outcome, Outcome::Pass);
    let verdict = found(&case, "flash-bf16", |file, _| floats(file, "dq")[3] = 0.25);
    assert!(rules(&verdict).contains(&Criterion::Bound));
}

fn sus(seed: Option<u64>, sampler: Sampler) -> Case {
    let settings = Settings::default()
        .with_pass(Pass::Sus)
        .with_c(Budget::new(4.0).unwrap())
        .with_sampler(sampler)
        .with_seed(seed);
    Case::new(problem(), settings)
}

fn columns(file: &mut TensorFile) -> &mut Vec<i64> {
    match &mut file.arrays.get_mut("mask/columns").unwrap().numbers {
        Numbers::Integer(data) => data,
        _ => unreachable!(),
    }
}

#[test]
fn a_mask_is_held_against_the_words_of_its_seed() {
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        let case = sus(Some(7), sampler);
        for recipe in ["f64", "f32", "flash-bf16"] {
            let verdict = found(&case, recipe, |_, _| ());
            assert_eq!(verdict.outcome, Outcome::Pass, "{sampler} {recipe} {:?}", verdict.findings);
        }
        // Another seed's mask, with the gradients that go with it.
        let other = truth(&sus(Some(8), sampler));
        assert_eq!(rules(&judge(&case, "f32").check(&other)), [Criterion::Mask], "{sampler}");
        // The same gradients without their mask.
        let mut bare = other;
        bare.arrays.retain(|name, _| !name.starts_with("mask"));
        assert_eq!(judge(&case, "f32").check(&bare).outcome, Outcome::Fail);
    }
}

#[test]
fn a_kept_entry_that_the_problem_hides_fails() {
    let verdict = found(&sus(Some(7), Sampler::Bernoulli), "f32", |file, _| columns(file)[0] = 95);
    let message = &verdict.findings.iter().find(|f| f.rule == Criterion::Mask).unwrap().message;
    assert!(message.contains("hides") && message.contains("[0, 0, 0, 95]"), "{message}");
}

/// Two heads whose bias hides every third key, and all keys of query 1.
fn hidden(settings: Settings) -> Case {
    let p = problem();
    let bias = Tensor::from_fn([1, 2, 96, 96], |[_, h, i, j]| {
        if i == 1 || (h + i + j) % 3 == 0 { f64::NEG_INFINITY } else { (j % 4) as f64 / 8.0 }
    });
    let inputs = p.inputs().clone().with_bias(bias);
    Case::new(Problem::new(inputs, p.options().clone()).unwrap(), settings)
}

#[test]
fn a_kept_entry_that_the_bias_hides_fails() {
    let case = hidden(sus(Some(7), Sampler::Bernoulli).settings);
    assert_eq!(found(&case, "f32", |_, _| ()).outcome, Outcome::Pass);
    let verdict = found(&case, "f32", |file, _| {
        let Numbers::Integer(offsets) = &file.arrays["mask/row_offsets"].numbers else {
            unreachable!()
        };
        // Query 50 of head 0 sees neither key 1 nor any third one from there.
        let first = offsets[50] as usize;
        columns(file)[first] = 1;
    });
    let message = &verdict.findings.iter().find(|f| f.rule == Criterion::Mask).unwrap().message;
    assert!(message.contains("1 entries are kept that the mask of the problem hides"), "{message}");
    assert!(message.contains("[0, 0, 50, 1]"), "{message}");
}

#[test]
fn a_hidden_key_has_a_dbias_of_zero() {
    let case = hidden(dense().settings);
    let recipe = Recipe::built_in("f32").unwrap();
    let given = sus_mutants::judge(&case, &recipe).mode(Mode::Given).build().unwrap();
    assert_eq!(given.check(&truth(&case)).outcome, Outcome::Pass);
    for recipe in ["f64", "f32", "flash-bf16"] {
        let with =
            |x: f64| found(&case, recipe, |file, _| floats(file, "dbias")[50 * 96 + 1] = x).outcome;
        assert_eq!(
            [with(0.0), with(1e-6), with(f64::NAN)],
            [Outcome::Pass, Outcome::Fail, Outcome::Fail]
        );
    }
}

#[test]
fn values_and_counts_belong_to_the_mask() {
    let case = sus(Some(7), Sampler::Bernoulli);
    let verdict = found(&case, "f32", |file, _| floats(file, "mask/values")[3] *= 1.001);
    assert_eq!(rules(&verdict), [Criterion::Values]);
    let counts = |wrong: i64| {
        found(&case, "f32", |file, _| {
            let Numbers::Integer(offsets) = file.arrays["mask/row_offsets"].numbers.clone() else {
                unreachable!()
            };
            let mut nnz: Vec<i64> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
            nnz[40] += wrong;
            file.arrays.insert("nnz".into(), Array::i64(&[1, 2, 96], nnz));
        })
    };
    assert_eq!(counts(0).outcome, Outcome::Pass);
    assert_eq!(rules(&counts(1)), [Criterion::Counts]);
}

#[test]
fn a_dense_mask_says_the_same_as_a_compressed_one() {
    let case = sus(Some(7), Sampler::Bernoulli);
    let dense = |flip: bool| {
        found(&case, "f32", |file, _| {
            let Numbers::Integer(offsets) = file.arrays["mask/row_offsets"].numbers.clone() else {
                unreachable!()
            };
            let columns = columns(file).clone();
            let mut mask = vec![0; 2 * 96 * 96];
            for (row, range) in offsets.windows(2).enumerate() {
                for &j in &columns[range[0] as usize..range[1] as usize] {
                    mask[row * 96 + j as usize] = 1;
                }
            }
            if flip {
                // Query 0 sees key 0 alone, with weight 1.
                mask[0] = 0;
            }
            file.arrays.retain(|name, _| !name.starts_with("mask"));
            let numbers = Numbers::Integer(mask);
            let array = Array { dtype: Dtype::U8, shape: vec![1, 2, 96, 96], numbers };
            file.arrays.insert("mask".into(), array);
        })
    };
    assert_eq!(dense(false).outcome, Outcome::Pass);
    assert!(rules(&dense(true)).contains(&Criterion::Mask));
}

#[test]
fn without_a_seed_one_run_tells_no_law() {
    let case = sus(None, Sampler::Bernoulli);
    let verdict = found(&case, "f32", |_, _| ());
    assert_eq!(
        (verdict.outcome, rules(&verdict)),
        (Outcome::Inconclusive, vec![Criterion::Unjudged])
    );
    let verdict = found(&case, "f32", |file, _| {
        file.arrays.retain(|name, _| !name.starts_with("mask"));
        floats(file, "dq")[0] = 1e9;
    });
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
    // One run with an axis of runs is a run as well, where the pass is dense.
    let verdict = found(&dense(), "f64", |file, _| {
        for array in file.arrays.values_mut() {
            array.shape.insert(0, 1);
        }
    });
    assert_eq!(verdict.outcome, Outcome::Pass);
}

#[test]
fn the_mode_given_takes_the_stored_forward_pass_as_data() {
    let case = dense();
    let recipe = Recipe::built_in("f32").unwrap();
    let given = sus_mutants::judge(&case, &recipe).mode(Mode::Given).build().unwrap();
    let mut file = truth(&case);
    assert_eq!(given.check(&file).outcome, Outcome::Pass);
    // A forward pass that is wrong, and the gradients that follow from it.
    let exact = judge(&case, "f32");
    floats(&mut file, "o")[1600] += 0.5;
    let failed = |judge: &Judge, file: &TensorFile| -> Vec<String> {
        let verdict = judge.check(file);
        verdict
            .findings
            .into_iter()
            .map(|f| f.tensor)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    assert_eq!(failed(&exact, &file), ["o"]);
    assert_eq!(failed(&given, &file), ["dk", "dq", "o"]);
    file.arrays.remove("lse");
    let verdict = given.check(&file);
    assert_eq!(verdict.findings[0].rule, Criterion::Unjudged);
    assert!(verdict.outcome >= Outcome::Refused);
}

/// A recipe that rounds at one point alone.
fn only(edit: impl FnOnce(&mut Recipe)) -> Recipe {
    let mut recipe = Recipe::built_in("f64").unwrap().with_name("one stage".into());
    edit(&mut recipe);
    recipe
}

#[test]
fn the_bound_of_each_narrow_stage_is_reached_within_a_factor_of_three() {
    let narrow = Format::Bf16;
    let stages: [(&str, Recipe, &[&str]); 6] = [
        ("P", only(|r| r.p = narrow), &["o", "dv"]),
        ("P in dS", only(|r| r.p_in_ds = narrow), &["dq", "dk"]),
        ("dS", only(|r| r.ds = narrow), &["dq", "dk"]),
        ("o", only(|r| r.o = narrow), &["o", "dq", "dk"]),
        ("lse", only(|r| r.lse = narrow), &["lse", "dv"]),
        ("store", only(|r| r.output = narrow), &["dq", "dk", "dv"]),
    ];
    for (name, recipe, tensors) in stages {
        let mut most = vec![0.0_f64; tensors.len()];
        for seed in 0..60 {
            let shape = Shape { features: 1, value_features: 1, seed, ..Shape::plain(1, 2) };
            let problem = shape.fill(|rng| eighths(rng) + 0.0625);
            let settings = Settings::default().with_pass(Pass::Dense);
            let judge =
                sus_mutants::judge(&Case::new(problem.clone(), settings), &recipe).build().unwrap();
            let kernel = Kernel {
                problem: &problem,
                recipe: &recipe,
                order: Order::Forward,
                base_two: false,
                scale_first: false,
                online: 0,
                sample: None,
                truncates: false,
                conversions: None,
            };
            let verdict = judge.check(&kernel.run());
            assert!(
                !verdict.findings.iter().any(|f| f.rule == Criterion::Bound),
                "{name} {seed} {verdict:?}"
            );
            for (most, &tensor) in most.iter_mut().zip(tensors) {
                let result = verdict.tensors.iter().find(|t| t.name == tensor).unwrap();
                *most = most.max(result.worst.as_ref().unwrap().ratio);
            }
        }
        assert!(most.iter().all(|&ratio| ratio > 1.0 / 3.0), "{name}: {tensors:?} {most:?}");
    }
}

/// A direction along which the simplest right kernel errs by more than half of the limit is left out.
#[test]
fn no_direction_is_followed_that_the_plainest_right_kernel_half_reaches() {
    let recipe = Recipe::built_in("flash-bf16").unwrap();
    let bug = "a factor of dv";
    for (name, followed) in [("sus_stream", false), ("primes", true)] {
        let case = sus_corpus::named(name).unwrap();
        let given = Case::new(case.problem.clone(), case.settings.clone());
        let judge = sus_mutants::judge(&given, &recipe).build().unwrap();
        let draw = given.draw().unwrap();
        let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), draw.as_ref());
        let directions = judge.check(&mutants::control_kernel(&config)).directions;
        let share = |of: &DirectionResult| of.sum.found.abs() / of.sum.limit;
        assert!(directions.iter().all(|of| share(of) <= 0.5), "{name} {directions:?}");
        assert_eq!(directions.iter().any(|of| of.bug == bug), followed, "{name}");
    }
}

/// The verdict on the edited results of a wrong kernel on one of the corpus problems.
fn of_mutant(kernel: &str, case: &str, recipe: &str, edit: impl Fn(&mut TensorFile)) -> Verdict {
    let case = sus_corpus::named(case).unwrap();
    let recipe = Recipe::built_in(recipe).unwrap();
    let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), case.draw.as_ref());
    let mut file = (mutants::named(kernel).unwrap().run)(&config).unwrap();
    edit(&mut file);
    let case = Case::new(case.problem.clone(), case.settings);
    sus_mutants::judge(&case, &recipe).build().unwrap().check(&file)
}

#[test]
fn the_ranges_alone_see_a_factor_below_a_rounding() {
    let of = |recipe, edit: fn(&mut TensorFile)| {
        of_mutant("dv_one_percent_small", "one_key", recipe, edit)
    };
    let verdict = of("flash-bf16", |_| ());
    assert_eq!(rules(&verdict), [Criterion::Rounded], "{:?}", verdict.findings);
    // With more bits than bf16 it is no result that was rounded to bf16.
    let verdict = of("flash-bf16", |file| floats(file, "dv")[0] *= 1.0 + 1e-6);
    assert_eq!(verdict.outcome, Outcome::Pass, "{:?}", verdict.findings);
}

#[test]
fn the_ranges_know_the_weight_of_a_row_with_one_key() {
    let verdict = of_mutant("delta_in_bf16", "one_key", "flash-bf16", |_| ());
    assert_eq!(rules(&verdict), [Criterion::Rounded], "{:?}", verdict.findings);
}

#[test]
fn a_stored_o_says_what_delta_is_made_of() {
    let verdict = of_mutant("delta_in_bf16", "long", "flash-f16", |_| ());
    let both = [Criterion::StoredO, Criterion::Direction];
    assert_eq!(rules(&verdict), both, "{:?}", verdict.findings);
    // Without it, or with one that nobody stored, the roundings of P and of o are in the limit.
    let forget = |file: &mut TensorFile| drop(file.arrays.remove("o"));
    let widen = |file: &mut TensorFile| floats(file, "o")[0] *= 1.0 + 1e-6;
    for edit in [forget as fn(&mut TensorFile), widen] {
        let verdict = of_mutant("delta_in_bf16", "long", "flash-f16", edit);
        assert_eq!(verdict.outcome, Outcome::Pass, "{:?}", verdict.findings);
    }
}

/// A problem whose `dbias` and `dsink` are sums over many rows.
fn sums_over_rows() -> Problem<f64> {
    let shape = Shape {
        batch: 2,
        key_heads: 1,
        group: 2,
        features: 32,
        value_features: 32,
        dlse: true,
        bias: Some([true, false, true]),
        sink: true,
        ..Shape::plain(48, 40)
    };
    shape.problem()
}

/// A right kernel of one pass whose additions truncate.
fn right_kernel<'a>(
    problem: &'a Problem<f64>,
    recipe: &'a Recipe,
    order: Order,
    base_two: bool,
) -> Kernel<'a> {
    Kernel {
        problem,
        recipe,
        order,
        base_two,
        scale_first: false,
        online: recipe.tile,
        sample: None,
        truncates: true,
        conversions: None,
    }
}

/// A right kernel's results for it, and the judge.
fn right_sums_over_rows(recipe: &Recipe, order: Order) -> (Judge, TensorFile) {
    let problem = sums_over_rows();
    let case = Case::new(problem.clone(), Settings::default().with_pass(Pass::Dense));
    let judge = sus_mutants::judge(&case, recipe).build().unwrap();
    (judge, right_kernel(&problem, recipe, order, false).run())
}

/// The worst element of a tensor by the candidate's own `o`.
fn by_stored_o(verdict: &Verdict, name: &str) -> Option<Worst> {
    verdict.tensors.iter().find(|of| of.name == name).unwrap().by_stored_o.clone()
}

#[test]
fn a_right_sum_over_rows_follows_from_the_stored_o_and_one_beyond_its_bound_does_not() {
    for name in ["flash-bf16", "flash-f16", "flash-bf16-repeated"] {
        let recipe = Recipe::built_in(name).unwrap();
        let mut most = [0.0_f64; 2];
        for order in [Order::Forward, Order::Pairwise, Order::Lanes(3)] {
            let (judge, file) = right_sums_over_rows(&recipe, order);
            let verdict = judge.check(&file);
            assert_eq!(verdict.outcome, Outcome::Pass, "{name} {order:?}: {:?}", verdict.findings);
            for (most, tensor) in most.iter_mut().zip(["dbias", "dsink"]) {
                let worst = by_stored_o(&verdict, tensor).unwrap();
                *most = most.max(worst.ratio);
                for (share, passes) in [(0.98, true), (1.02, false), (-0.98, true), (-1.02, false)]
                {
                    let mut edited = file.clone();
                    let shape = edited.arrays[tensor].shape.clone();
                    let flat = worst.index.iter().zip(&shape).fold(0, |at, (i, n)| at * n + i);
                    floats(&mut edited, tensor)[flat] = worst.expected + share * worst.bound;
                    let verdict = judge.check(&edited);
                    let expected = if passes { vec![] } else { vec![Criterion::StoredO] };
                    assert_eq!(rules(&verdict), expected, "{name} {tensor} {share}");
                    let ratio = by_stored_o(&verdict, tensor).unwrap().ratio;
                    assert!((ratio - share.abs()).abs() < 1e-6, "{ratio} {share}");
                }
            }
        }
        println!("{name}: dbias {:.3}, dsink {:.3} of the bound", most[0], most[1]);
        // The rounding of each dS counts whole in a sum of 96 rows, and so does the truncation of each addition: in f16 that is
        // most of the bound of dsink, in bf16 the rounding of the result is.
        let [dbias, dsink] = most;
        let least = if recipe.output == Format::Bf16 { 0.3 } else { 0.02 };
        assert!(0.1 < dbias && dbias < 0.8, "{name}: {most:?}");
        assert!(least < dsink && dsink < 0.8, "{name}: {most:?}");
    }
}

/// Most of the bounds of these sums is the rounding of an `o` that is known.
/// Results of float32 that are cast to bf16: more exact than `flash-bf16` says, and right. Their `delta` is not that of their `o`.
#[test]
fn a_kernel_that_is_more_exact_than_its_recipe_passes_by_its_own_o() {
    let recipe = Recipe::built_in("flash-bf16").unwrap();
    let (judge, _) = right_sums_over_rows(&recipe, Order::Forward);
    let (_, mut file) = right_sums_over_rows(&Recipe::built_in("f32").unwrap(), Order::Pairwise);
    for tensor in ["o", "dq", "dk", "dv", "dbias", "dsink"] {
        for x in floats(&mut file, tensor) {
            *x = Format::Bf16.round(*x);
        }
    }
    let verdict = judge.check(&file);
    assert_eq!(verdict.outcome, Outcome::Pass, "{:?}", verdict.findings);
    // By the stored o alone dsink would be outside, so that the other way to delta is what lets it pass.
    assert!(by_stored_o(&verdict, "dsink").is_none());
    // One element of each by the one way, and the others by the other: no kernel.
    let (_, of_stored) = right_sums_over_rows(&recipe, Order::Forward);
    let mut mixed = of_stored;
    let dq = file.arrays["dq"].clone();
    let half = floats(&mut mixed, "dq").len() / 2;
    let mut exact = file.clone();
    exact.arrays.insert("dq".into(), dq);
    floats(&mut mixed, "dq")[..half].copy_from_slice(&floats(&mut exact, "dq")[..half]);
    assert_eq!(rules(&judge.check(&mixed)), vec![Criterion::StoredO]);
}

#[test]
fn the_stored_o_alone_sees_an_error_of_some_percent_in_a_sum_over_rows() {
    let recipe = Recipe::built_in("flash-bf16").unwrap();
    let (judge, file) = right_sums_over_rows(&recipe, Order::Forward);
    let largest = |file: &mut TensorFile, name| -> usize {
        let data = floats(file, name);
        (0..data.len()).max_by(|&a, &b| data[a].abs().total_cmp(&data[b].abs())).unwrap()
    };
    for name in ["dbias", "dsink"] {
        let wrong = |edit: fn(&mut TensorFile)| {
            let mut file = file.clone();
            let at = largest(&mut file, name);
            floats(&mut file, name)[at] *= 1.02;
            edit(&mut file);
            judge.check(&file)
        };
        let verdict = wrong(|_| ());
        assert_eq!(rules(&verdict), [Criterion::StoredO], "{name} {:?}", verdict.findings);
        let message = &verdict.findings[0].message;
        assert!(message.contains("the candidate's own o") && message.contains("times the bound"));
        // Without it, or with one that nobody stored, the roundings of P and of o are in the bound.
        for edit in [(|file| drop(file.arrays.remove("o"))) as fn(&mut TensorFile), |file| {
            floats(file, "o")[0] *= 1.0 + 1e-6;
        }] {
            let verdict = wrong(edit);
            assert_eq!(verdict.outcome, Outcome::Pass, "{name} {:?}", verdict.findings);
            assert_eq!(by_stored_o(&verdict, name), None);
        }
    }
}

/// Where `delta` is of other operands, the stored `o` says nothing of it.
#[test]
fn the_stored_o_judges_no_sum_of_a_recipe_whose_delta_is_of_something_else() {
    let flash = Recipe::built_in("flash-bf16").unwrap();
    for delta in [Delta::Unstored, Delta::Weights] {
        let recipe = flash.clone().with_delta(delta);
        let (judge, file) = right_sums_over_rows(&recipe, Order::Forward);
        let verdict = judge.check(&file);
        assert_eq!(verdict.outcome, Outcome::Pass, "{delta:?}: {:?}", verdict.findings);
        for name in ["dbias", "dsink"] {
            assert_eq!(by_stored_o(&verdict, name), None, "{delta:?}");
        }
        // The same results at the recipe that says `G . o` with the stored o.
        let (stored, _) = right_sums_over_rows(&flash, Order::Forward);
        assert!(rules(&stored.check(&file)).contains(&Criterion::StoredO), "{delta:?}");
    }
}

/// A right kernel's results where the scale is no power of two, and where it is.
fn right_dq(recipe: &Recipe, features: usize, options: Options) -> (Judge, TensorFile) {
    let shape = Shape {
        key_heads: 1,
        group: 2,
        features,
        value_features: 32,
        options,
        ..Shape::plain(96, 80)
    };
    let problem = shape.fill(|rng| eighths(rng) + 0.0625);
    let case = Case::new(problem.clone(), Settings::default().with_pass(Pass::Dense));
    let judge = sus_mutants::judge(&case, recipe).build().unwrap();
    (judge, right_kernel(&problem, recipe, Order::Blocks(4), true).run())
}

#[test]
fn the_stored_o_alone_sees_a_dq_that_is_one_rounding_away() {
    for name in ["flash-bf16", "flash-f16"] {
        for (features, p_in_ds) in [(16, true), (24, true), (24, false)] {
            let recipe = Recipe::built_in(name).unwrap();
            let kernel =
                if p_in_ds { recipe.clone() } else { recipe.clone().with_p_in_ds(Format::F32) };
            let options = Options::default().with_causal(true).with_softcap(Some(8.0));
            let (_, file) = right_dq(&kernel, features, options.clone());
            let (judge, _) = right_dq(&recipe, features, options);
            let verdict = judge.check(&file);
            assert_eq!(verdict.outcome, Outcome::Pass, "{name} {features}: {:?}", verdict.findings);
            // The largest elements one unit in the last place away, up and down in turn.
            let (mut moved, output) = (file.clone(), recipe.output);
            let dq = floats(&mut moved, "dq");
            let mut largest: Vec<usize> = (0..dq.len()).collect();
            largest.sort_by(|&a, &b| dq[b].abs().total_cmp(&dq[a].abs()));
            for (n, &at) in largest[..16].iter().enumerate() {
                let by = if n % 2 == 0 { 1.5 } else { -1.5 };
                dq[at] = output.round(dq[at] + by * output.rounding_error(dq[at].abs(), false));
            }
            let verdict = judge.check(&moved);
            assert_eq!(rules(&verdict), [Criterion::StoredO], "{name} {features}");
            let message = &verdict.findings[0].message;
            assert!(message.contains("the candidate's own o"), "{message}");
            // Without the o nothing is seen.
            drop(moved.arrays.remove("o"));
            let verdict = judge.check(&moved);
            assert_eq!(verdict.outcome, Outcome::Pass, "{name} {features}: {:?}", verdict.findings);
        }
    }
}

/// `dq` that is carried from tile to tile in 16 bits, which no other rule sees at this size.
#[test]
fn the_stored_o_alone_sees_a_dq_that_is_carried_in_sixteen_bits() {
    let recipe = Recipe::built_in("flash-bf16").unwrap();
    let shape = Shape { features: 32, value_features: 32, key_heads: 2, ..Shape::plain(129, 129) };
    let problem = shape.problem();
    let config = RunConfig::new(&problem, Arithmetic::of(&recipe), None);
    let judge_of = |file: &TensorFile| {
        let case = Case::new(problem.clone(), Settings::default().with_pass(Pass::Dense));
        sus_mutants::judge(&case, &recipe).build().unwrap().check(file)
    };
    let right = judge_of(&mutants::control_kernel(&config));
    assert_eq!(right.outcome, Outcome::Pass, "{:?}", right.findings);
    let wrong = (mutants::named("dq_carried_in_bf16").unwrap().run)(&config).unwrap();
    assert_eq!(rules(&judge_of(&wrong)), [Criterion::StoredO]);
}

/// Dropout of three quarters; slopes and a bias before the softcap; values in the keys.
fn with_more_operands() -> [(&'static str, Problem<f64>); 3] {
    let options = Options::default().with_causal(true);
    let plain =
        Shape { features: 16, value_features: 12, key_heads: 2, options, ..Shape::plain(96, 96) };
    let dropped = plain.problem();
    let mut rng = numbers(5);
    let kept = (0..2 * 96 * 96).map(|_| u8::from(rng.next_u32().is_multiple_of(4))).collect();
    let dropout = Dropout { shape: [1, 2, 96, 96], kept, p: 0.75 };
    let options = dropped.options().clone().with_dropout(Some(dropout));
    let dropped = Problem::new(dropped.inputs().clone(), options).unwrap();
    let biased = Shape { bias: Some([false; 3]), ..plain.clone() }.problem();
    let slopes = Tensor::from_fn([1, 2, 1, 1], |[_, h, ..]| [0.0625, 0.03125][h]);
    let options = biased.options().clone().with_softcap(Some(4.0)).with_bias_first(true);
    let biased =
        Problem::new(biased.inputs().clone().with_alibi_slopes(Some(slopes)), options).unwrap();
    let tied = plain.problem();
    let inputs = tied.inputs().clone();
    let v = Tensor::from_fn(inputs.v.shape(), |[b, h, n, e]| inputs.k.row(b, h, n)[e]);
    let options = tied.options().clone().with_v_of_k(true);
    let tied = Problem::new(inputs.with_v(v), options).unwrap();
    [("dropout", dropped), ("slopes", biased), ("tied", tied)]
}

/// Errors below most bounds, which the statistics, the directions, the ranges or the stored `o` see; and a right kernel, which comes within
/// a factor of 50 of the limits of each tensor and exceeds none.
#[test]
fn the_statistics_see_small_errors_of_problems_with_more_operands() {
    let recipe = Recipe::built_in("flash-bf16").unwrap();
    let wrong =
        ["delta_in_bf16", "gradients_truncated", "dk_one_percent_large", "dv_one_percent_small"];
    for (name, problem) in with_more_operands() {
        let case = Case::new(problem.clone(), Settings::default().with_pass(Pass::Dense));
        let judge = sus_mutants::judge(&case, &recipe).build().unwrap();
        let config = RunConfig::new(&problem, Arithmetic::of(&recipe), None);
        let right = judge.check(&mutants::control_kernel(&config));
        // dslopes is one number for a head, whose terms cancel: here it may be refused.
        assert_ne!(right.outcome, Outcome::Fail, "{name} {:?}", right.findings);
        let gradients =
            if problem.options().v_of_k { &["dq", "dkv"][..] } else { &["dq", "dk", "dv"] };
        for gradient in gradients {
            let tensor = right.tensors.iter().find(|tensor| tensor.name == *gradient).unwrap();
            assert_eq!(tensor.statistics.len(), 3, "{name} {gradient}");
            for of in &tensor.statistics {
                let share = [of.all, of.head.result, of.row.result].map(SetResult::ratio);
                let most = share.into_iter().fold(0.0, f64::max);
                println!("{name} {gradient} {:?}: {share:.3?}", of.statistic);
                assert!(0.02 < most && most < 1.0, "{name} {gradient} {of:?}");
            }
        }
        for kernel in wrong {
            let file = (mutants::named(kernel).unwrap().run)(&config).unwrap();
            let verdict = judge.check(&file);
            println!("{name} {kernel}: {:?}", rules(&verdict));
            assert_eq!(verdict.outcome, Outcome::Fail, "{name} {kernel}");
            let others = rules(&verdict).into_iter().filter(|&rule| rule != Criterion::Bound);
            assert!(others.count() > 0, "{name} {kernel}");
        }
    }
}
