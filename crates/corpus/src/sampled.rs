//! The SUS cases.

use super::{Recipe, SQUARE, by, capped, causal, packed, plain, sus, windowed};
use sus_reference::sus::{Layout, Rule, Sampler};

/// The SUS cases.
pub(super) fn sampled() -> Vec<Recipe> {
    let mut cases = by_rule_and_layout();
    cases.extend(with_features());
    cases
}

/// Each rule, sampler and layout.
fn by_rule_and_layout() -> Vec<Recipe> {
    let (paper, calibrated) = (Rule::Paper, Rule::Calibrated);
    let (bernoulli, systematic) = (Sampler::Bernoulli, Sampler::Systematic);
    vec![
        sus(
            plain("sus", "the paper's draw; group of 3", [2, 2, 3, 19, 23, 5, 7]),
            4.0,
            42,
            Layout::Coord4,
        ),
        sus(
            causal(plain("sus_causal", "causal; deep scores; c below 2", SQUARE)),
            1.5,
            7,
            Layout::Coord4,
        )
        .deep(),
        by(
            sus(
                plain(
                    "sus_calibrated",
                    "the calibrated rule, linear words",
                    [1, 1, 3, 29, 31, 7, 5],
                ),
                5.5,
                11,
                Layout::Linear4,
            ),
            calibrated,
            bernoulli,
        ),
        by(
            sus(
                causal(plain("sus_systematic", "one uniform per row, linear words", SQUARE)),
                4.0,
                13,
                Layout::Linear1,
            ),
            paper,
            systematic,
        ),
        by(
            sus(
                plain(
                    "sus_both",
                    "calibrated and systematic, Threefry words",
                    [2, 1, 2, 19, 29, 5, 7],
                ),
                6.0,
                17,
                Layout::JaxThreefry,
            ),
            calibrated,
            systematic,
        ),
    ]
}

/// The draw together with what a problem can have, and seeds that show rare decisions.
fn with_features() -> Vec<Recipe> {
    vec![
        sus(
            packed(
                causal(plain("sus_packed", "packed sequences", [1, 1, 2, 31, 37, 7, 5])),
                &[0, 13, 13, 31],
                &[0, 11, 17, 37],
            ),
            3.0,
            19,
            Layout::Coord4,
        ),
        sus(
            capped(
                plain(
                    "sus_everything",
                    "softcap, bias, sink, cotangent of lse",
                    [2, 1, 2, 17, 23, 5, 7],
                ),
                1.5,
            ),
            4.0,
            23,
            Layout::Coord4,
        )
        .with_bias([false, true, true])
        .with_sink()
        .with_dlse(),
        {
            let r = sus(
                plain("sus_stream", "a stream, a seed above 2^32", [1, 2, 1, 23, 19, 5, 7]),
                3.0,
                0x1234_5678_9abc,
                Layout::Linear4,
            );
            Recipe { settings: r.settings.with_stream(5), ..r }
        },
        sus(
            windowed(
                plain("sus_window", "a window, rows shorter than c", [1, 1, 2, 29, 31, 5, 7]),
                3,
                2,
            ),
            5.0,
            29,
            Layout::Linear1,
        ),
        sus(
            causal(plain(
                "sus_small_q",
                "many small probabilities; the seed is chosen so that 24 bits decide otherwise",
                [1, 1, 4, 61, 67, 8, 8],
            )),
            2.0,
            SMALL_Q_SEED,
            Layout::Coord4,
        )
        .deep(),
        sus(
            plain(
                "sus_float_words",
                "the seed is chosen so that a float made of a word decides otherwise",
                [1, 1, 1, 61, 67, 5, 5],
            ),
            20.0,
            FLOAT_WORDS_SEED,
            Layout::Coord4,
        ),
    ]
}

/// The first seed for which 24 bits and 16 bits of some word decide otherwise than all 32, where a kernel in `f32`
/// cannot err: where `ln(x / (q 2^32))` is above `2e-4`.
const SMALL_Q_SEED: u64 = 7390;

/// The first seed for which the `f32` nearest to a word decides otherwise than the word, where `f64` cannot err.
const FLOAT_WORDS_SEED: u64 = 1865;
