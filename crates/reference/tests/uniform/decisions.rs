//! Keep or drop: the exact proportion, the lazy second word, and what a kernel may decide differently.

use proptest::prelude::*;
use sus_reference::sus::uniform::{ForcedDecision, forced_decision, keep32, keep64, margin};

const GRID: f64 = 4_294_967_296.0;

/// `ceil(q * 2^bits)` for `0 <= q < 1`, from the bits of `q`, by integers alone.
fn ceiling(q: f64, bits: i32) -> u128 {
    let (exponent, fraction) = ((q.to_bits() >> 52) as i32, q.to_bits() & ((1 << 52) - 1));
    let significand = u128::from(if exponent == 0 { fraction } else { fraction | 1 << 52 });
    let shift = exponent.max(1) - 1075 + bits;
    if shift >= 0 {
        significand << shift
    } else if shift > -120 {
        significand.div_ceil(1 << -shift)
    } else {
        u128::from(significand > 0)
    }
}

/// The first of `0..end` that is dropped, by bisection (`end` if none is).
fn first_dropped(end: u128, kept: impl Fn(u128) -> bool) -> u128 {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low.midpoint(high);
        if kept(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Keep probabilities: of any size, near multiples of `2^-32`, and near 1.
fn probability() -> impl Strategy<Value = f64> {
    let any = (0u64..1023 << 52).prop_map(f64::from_bits);
    let usual = (0.0..1.0f64, 0..70i32).prop_map(|(q, exponent)| q * 0.5f64.powi(exponent));
    let grid = (0..=u32::MAX, -2..3i64).prop_map(|(x, ulps)| {
        f64::from_bits((f64::from(x) / GRID).to_bits().saturating_add_signed(ulps))
    });
    let top = (1u64..100).prop_map(|ulps| f64::from_bits(1f64.to_bits() - ulps));
    prop_oneof![any, usual, grid, top].prop_filter("below 1", |q| (0.0..1.0).contains(q))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_words_kept_are_the_first_ceil_of_q_times_2_to_the_32(q in probability(), x: u32) {
        let kept = ceiling(q, 32);
        prop_assert_eq!(first_dropped(1 << 32, |x| keep32(q, x as u32)), kept);
        prop_assert_eq!(keep32(q, x), u128::from(x) < kept);
    }

    #[test]
    fn the_pairs_kept_are_the_first_ceil_of_q_times_2_to_the_64(q in probability(), x: u32, y: u32) {
        let kept = ceiling(q, 64);
        let keep = |pair: u128| keep64(q, (pair >> 32) as u32, || pair as u32);
        prop_assert_eq!(first_dropped(1 << 64, keep), kept);
        prop_assert_eq!(keep64(q, x, || y), (u128::from(x) << 32 | u128::from(y)) < kept);
    }

    #[test]
    fn the_second_word_is_asked_for_only_on_a_tie(q in probability(), away in -2..3i64) {
        let floor = (q * GRID) as i64;
        let x = (floor + away).clamp(0, i64::from(u32::MAX));
        let mut asked = false;
        let kept = keep64(q, x as u32, || { asked = true; 0 });
        prop_assert_eq!(asked, x == floor);
        if x != floor {
            prop_assert_eq!(kept, keep32(q, x as u32));
        }
    }

    #[test]
    fn a_kernel_within_delta_and_one_step_decides_as_forced(
        q in probability(), log_s in -2.0..2.0f64, away in -4..5i64, delta in 0.0..1e-3f64, part in -0.999..0.999f64,
    ) {
        let s = q * libm::exp(log_s);
        let x = ((s * GRID) as i64 + away).clamp(0, i64::from(u32::MAX)) as u32;
        let own = s * libm::exp(part * delta);
        for threshold in [libm::floor(own * GRID), own * GRID, libm::ceil(own * GRID)] {
            let kept = own >= 1.0 || f64::from(x) < threshold;
            match forced_decision(s, x, delta) {
                ForcedDecision::MustKeep => prop_assert!(kept),
                ForcedDecision::MustDrop => prop_assert!(!kept),
                ForcedDecision::Ambiguous => {}
            }
        }
    }

    #[test]
    fn the_exact_decision_is_never_against_what_is_forced(q in probability(), x: u32, delta in 0.0..1.0f64) {
        match forced_decision(q, x, delta) {
            ForcedDecision::MustKeep => prop_assert!(keep32(q, x)),
            ForcedDecision::MustDrop => prop_assert!(!keep32(q, x)),
            ForcedDecision::Ambiguous => {}
        }
    }

    #[test]
    fn a_margin_well_above_delta_and_the_grid_is_a_forced_decision(
        q in probability(), x: u32, delta in 0.0..1.0f64,
    ) {
        // One step of the grid changes ln x by about 1/x.
        if x > 0 && margin(q, x) > delta + 2.0 / f64::from(x) {
            prop_assert_ne!(forced_decision(q, x, delta), ForcedDecision::Ambiguous);
        }
    }
}

#[test]
fn nothing_is_kept_at_zero_or_below_or_nan_and_everything_from_one_on() {
    for x in [0, 1, 1 << 31, u32::MAX] {
        for q in [0.0, -0.0, -1e-300, -0.5, -1.0, f64::NEG_INFINITY, f64::NAN] {
            assert!(!keep32(q, x), "{q} {x}");
            assert!(!keep64(q, x, || 0), "{q} {x}");
            assert_eq!(forced_decision(q, x, 0.1), ForcedDecision::MustDrop, "{q} {x}");
            assert!(margin(q, x).is_infinite(), "{q} {x}");
        }
        for q in [1.0, 1.0 + f64::EPSILON, 30.0, f64::INFINITY] {
            assert!(keep32(q, x), "{q} {x}");
            assert!(keep64(q, x, || unreachable!("no tie")), "{q} {x}");
            assert_eq!(forced_decision(q, x, 0.0), ForcedDecision::MustKeep, "{q} {x}");
        }
    }
}

#[test]
fn what_is_forced_changes_exactly_where_the_specification_says() {
    use ForcedDecision::{Ambiguous, MustDrop, MustKeep};
    let steps = |threshold: f64| threshold / GRID;
    let double = 2f64.ln(); // e^delta is 2 to the last bit or so
    let cases = [
        // On the grid, no error: one undecided word.
        (steps(5.0), 4, 0.0, MustKeep),
        (steps(5.0), 5, 0.0, Ambiguous),
        (steps(5.0), 6, 0.0, MustDrop),
        // Between two points of it: two.
        (steps(5.5), 4, 0.0, MustKeep),
        (steps(5.5), 5, 0.0, Ambiguous),
        (steps(5.5), 6, 0.0, Ambiguous),
        (steps(5.5), 7, 0.0, MustDrop),
        // A factor of two either way: from 500 - 1 to 2000 + 1.
        (steps(1000.1), 498, double, MustKeep),
        (steps(1000.1), 500, double, Ambiguous),
        (steps(1000.1), 2001, double, Ambiguous),
        (steps(1000.1), 2002, double, MustDrop),
        // Below one step of the grid even word 0 may go either way, and word 2 may not.
        (steps(0.5), 0, 0.0, Ambiguous),
        (steps(0.5), 1, 0.0, Ambiguous),
        (steps(0.5), 2, 0.0, MustDrop),
        // At 1 and above: kept outright once no error brings it below 1.
        (1.0, u32::MAX, 0.0, MustKeep),
        (1.0, u32::MAX, 1e-6, Ambiguous),
        (1.01, u32::MAX, 0.02, Ambiguous),
        (1.01, u32::MAX, 0.009, MustKeep),
        (1.01, 1 << 31, 0.02, MustKeep),
        (f64::INFINITY, u32::MAX, 1.0, MustKeep),
    ];
    for (s, x, delta, expected) in cases {
        assert_eq!(
            forced_decision(s, x, delta),
            expected,
            "s {s:e} ({} steps) x {x} delta {delta}",
            s * GRID
        );
    }
}

#[test]
fn the_margin_is_the_log_distance_to_the_threshold() {
    assert_eq!(margin(0.5, 1 << 31).to_bits(), 0);
    for (s, x, expected) in [(0.5, 1 << 30, 2.0), (0.5, u32::MAX, 2.0), (4.0, 1 << 31, 8.0)] {
        // The largest word is 2^32 - 1: ln 2^32 less 2^-32. Product and logarithm round.
        let allowed = 1.0 / GRID + 4.0 * f64::EPSILON;
        assert!((margin(s, x) - f64::ln(expected)).abs() <= allowed, "{s} {x}");
    }
    assert!(margin(1e-300, 0).is_infinite());
}

#[test]
fn a_delta_that_is_no_error_bound_panics() {
    for delta in [-1e-9, f64::NAN, f64::INFINITY] {
        std::panic::catch_unwind(|| forced_decision(0.5, 7, delta)).expect_err("no bound");
    }
}
