//! The mask of the fast path is the plain path's, entry by entry.

use crate::common::{Shape, eighths, shapes, with_hidden_keys, with_operands};
use crate::large_shapes::large_shapes;
use proptest::prelude::*;
use sus_fast::{self as fast, Backend, Dispatch, Fallback, Real, Workspace};
use sus_reference::forward::forward;
use sus_reference::mask::{Segments, Window};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::sus::{Budget, Draw, Layout, Rule, Sampler, UniformBits, sample};
use sus_reference::tensor::Tensor;

fn draws() -> impl Strategy<Value = Draw> {
    let c = prop_oneof![Just(0.3), Just(2.0), Just(9.5), Just(1e3)];
    let bits = prop_oneof![Just(UniformBits::Bits32), Just(UniformBits::Bits64)];
    (c, any::<u64>(), 0..1_u32 << 31, 0..5_usize, bits).prop_map(
        |(c, seed, stream, layout, bits)| {
            let c = Budget::new(c).unwrap();
            let layout = Layout::ALL[layout];
            let bits = if layout == Layout::Arrival { UniformBits::Bits32 } else { bits };
            Draw::paper(c, seed).with_stream(stream).with_layout(layout).with_bits(bits)
        },
    )
}

/// The mask equals that of `sus::sample`, and the expected counts do within the rounding of `T`.
fn same_mask<T: Real>(exact: &Problem<f64>, draw: &Draw, dispatch: Dispatch) -> Result<(), String> {
    let problem: Problem<T> = exact.cast().unwrap();
    let mut workspace = Workspace::new(dispatch);
    let (_, drawn, path) = fast::forward_and_sample(exact, &problem, draw, &mut workspace)
        .map_err(|e| e.to_string())?;
    if path != Backend::Fast {
        return Err(format!("path {path}"));
    }
    let plain = sample(exact, &forward(exact), draw).map_err(|e| e.to_string())?;
    if drawn.pattern != plain.pattern {
        return Err(format!("{} entries for {}", drawn.pattern.count(), plain.pattern.count()));
    }
    if drawn.lambda != plain.lambda {
        return Err("lambda".into());
    }
    // Scores below 20 that err by (D + 10) u each, a sum of n terms: a relative error of c below this.
    let sizes = exact.sizes();
    let u = if size_of::<T>() == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    // A slope's part is rounded twice in a score, and so is what it makes of `lse`; `u` here is two roundoffs.
    let slopes = exact.inputs().alibi_slopes.as_ref();
    let steepest =
        slopes.map_or(0.0, |x| x.as_slice().iter().fold(0.0, |a: f64, x| a.max(x.abs())));
    let of_slopes = 8.0 * steepest * (sizes.queries + sizes.keys) as f64;
    let relative = u * (40.0 * (sizes.features + 20) as f64 + 2.0 * sizes.keys as f64 + of_slopes);
    for (x, y) in drawn.expected.iter().zip(&plain.expected) {
        let bound = relative * draw.c.get().max(1.0);
        if (x - y).abs() > bound {
            return Err(format!("expected count {x} for {y}, bound {bound:e}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn masks_of_small_problems_are_identical(shape in shapes(9, 9), draw in draws(), hidden: bool, operands: Option<u64>) {
        let problem = shape.fill(|rng| eighths(rng) / 3.0);
        let problem = if hidden { with_hidden_keys(&problem) } else { problem };
        let problem = operands.map_or(problem.clone(), |seed| with_operands(&problem, seed));
        for dispatch in Dispatch::ALL {
            prop_assert_eq!(same_mask::<f64>(&problem, &draw, dispatch), Ok(()));
            prop_assert_eq!(same_mask::<f32>(&problem, &draw, dispatch), Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn masks_over_many_tiles_are_identical(shape in large_shapes(), draw in draws(), hidden: bool, operands: Option<u64>) {
        let problem = shape.fill(|rng| eighths(rng) / 3.0);
        let problem = if hidden { with_hidden_keys(&problem) } else { problem };
        let problem = operands.map_or(problem.clone(), |seed| with_operands(&problem, seed));
        prop_assert_eq!(same_mask::<f64>(&problem, &draw, Dispatch::Native), Ok(()));
        prop_assert_eq!(same_mask::<f32>(&problem, &draw, Dispatch::Native), Ok(()));
        prop_assert_eq!(same_mask::<f32>(&problem, &draw, Dispatch::Portable), Ok(()));
    }
}

#[test]
fn a_mask_of_a_million_decisions_is_identical_in_f32() {
    let options = Options::default().with_scale(0.6);
    let shape = Shape { features: 16, group: 2, options, ..Shape::plain(512, 1024) };
    let problem = shape.fill(|rng| eighths(rng) / 3.0);
    for seed in 0..3 {
        let draw = Draw::paper(Budget::new(30.0).unwrap(), seed);
        assert_eq!(same_mask::<f32>(&problem, &draw, Dispatch::Native), Ok(()));
        assert_eq!(same_mask::<f64>(&problem, &draw, Dispatch::Native), Ok(()));
    }
}

/// Keys that a row does not see, or has already seen, have far larger scores than those to come: what is known of the latter beforehand
/// must not speak of the former.
#[test]
fn masks_of_segments_whose_keys_differ_in_size_are_identical() {
    let packed = |queries: &[usize], keys: &[usize]| {
        let segments = Segments { queries: queries.to_vec(), keys: keys.to_vec() };
        Options::default().with_segments(segments).with_scale(1.0)
    };
    let window = Options::default()
        .with_window(Window { left: Some(900), right: Some(300) })
        .with_scale(1.0);
    let cases = [
        (packed(&[0, 2, 5], &[0, 1_500, 4_000]), 5),
        (packed(&[0, 2, 2, 5], &[0, 100, 1_700, 3_000]), 5),
        (packed(&[0, 1, 1, 1, 4], &[0, 700, 701, 2_900, 4_100]), 4),
        (packed(&[0, 5], &[0, 4_000]), 5),
        (window, 5),
    ];
    for (options, queries) in cases {
        let ends = options.segments.as_ref().map_or(vec![0, 2_000, 4_000], |it| it.keys.clone());
        let keys = *ends.last().unwrap();
        for falls in [true, false] {
            // Scores of about 7, then of about 0, or the other way round, by segments.
            let size = |j: usize| {
                let segment = ends.partition_point(|&end| end <= j);
                let large = if ends.len() == 2 { j < keys / 2 } else { segment % 2 == 1 };
                if large == falls { 7.0 } else { 0.0 }
            };
            let noise = |x: usize| libm::sin((x * x % 7919) as f64);
            let row =
                |at: usize, d: usize, first: f64| if d == 0 { first } else { noise(5 * at + d) };
            let q = Tensor::from_fn([1, 1, queries, 5], |[_, _, i, d]| row(i, d, 1.0));
            let k = Tensor::from_fn([1, 1, keys, 5], |[_, _, j, d]| row(j + 9, d, size(j)));
            let (v, g) = (k.clone(), q.clone());
            let inputs = Inputs::new(q, k, v, g);
            let problem = Problem::new(inputs, options.clone()).unwrap();
            for seed in 0..20 {
                let draw = Draw::paper(Budget::new(20.0).unwrap(), seed);
                let of_f64 = same_mask::<f64>(&problem, &draw, Dispatch::Native);
                assert_eq!(of_f64, Ok(()), "{options:?}, seed {seed}");
                let of_f32 = same_mask::<f32>(&problem, &draw, Dispatch::Native);
                assert_eq!(of_f32, Ok(()), "{options:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn what_needs_whole_rows_or_is_decided_by_rounding_goes_to_the_plain_path_and_says_so() {
    let plain = Draw::paper(Budget::new(2.0).unwrap(), 3);
    let problem = Shape::plain(40, 50).problem();
    let large = Shape { options: Options::default().with_scale(1e9), ..Shape::plain(40, 50) };
    let cases = [
        (&problem, plain.with_rule(Rule::Calibrated), Fallback::CalibratedRule),
        (&problem, plain.with_sampler(Sampler::Systematic), Fallback::SystematicSampler),
        (&problem, plain.with_c(Budget::new(f64::INFINITY).unwrap()), Fallback::LargeBudget),
        (&large.problem(), plain, Fallback::LargeScores),
    ];
    for (exact, draw, reason) in cases {
        let problem: Problem<f32> = exact.cast().unwrap();
        let (_, drawn, path) =
            fast::forward_and_sample(exact, &problem, &draw, &mut Workspace::default()).unwrap();
        assert_eq!(path, Backend::Reference(reason));
        assert_eq!(drawn, sample(exact, &forward(exact), &draw).unwrap());
    }
}
