//! The dense cases.

use super::{Numbers, Recipe, SQUARE, capped, causal, packed, plain, windowed};
use sus_reference::mask::Alignment;

/// The dense cases.
pub(super) fn dense() -> Vec<Recipe> {
    vec![
        plain("primes", "group of 3, all sizes distinct primes", [2, 2, 3, 19, 23, 5, 7]),
        causal(plain("square_causal", "square and causal, tails of every tile", SQUARE)),
        causal(plain("more_queries", "rows that see no key; Nq > Nk", [1, 2, 1, 53, 19, 7, 5])),
        causal(plain("more_keys", "bottom-right diagonal; Nq < Nk", [1, 1, 3, 19, 53, 5, 11])),
        {
            let r =
                causal(plain("top_left", "top-left diagonal; Nq < Nk", [1, 1, 2, 19, 41, 7, 5]));
            Recipe { settings: r.settings.with_alignment(Alignment::TopLeft), ..r }
        },
        windowed(causal(plain("window_causal", "causal window", SQUARE)), 5, 0),
        windowed(
            plain("window_both_ways", "window on both sides; Nq != Nk", [2, 1, 2, 23, 29, 5, 7]),
            4,
            3,
        ),
        packed(
            causal(plain(
                "packed",
                "packed sequences, one without queries",
                [1, 1, 2, 31, 37, 7, 5],
            )),
            &[0, 13, 13, 31],
            &[0, 11, 17, 37],
        ),
        packed(
            plain(
                "packed_uneven",
                "packed sequences, one without keys, sinks",
                [1, 2, 1, 29, 31, 5, 7],
            ),
            &[0, 7, 18, 29],
            &[0, 19, 19, 31],
        )
        .with_sink(),
        capped(causal(plain("softcap", "softcap well within its range", SQUARE)), 1.5),
        capped(plain("softcap_bias", "softcap, then a full bias", [1, 1, 3, 19, 23, 5, 7]), 1.5)
            .with_bias([true, true, true]),
        plain("bias_broadcast", "bias over batch and queries", [2, 1, 3, 17, 23, 7, 5])
            .with_bias([false, true, false]),
        plain("bias_per_row", "bias over batch and heads", [2, 1, 2, 19, 17, 5, 7])
            .with_bias([false, false, true]),
        plain("sink", "sinks and a cotangent of lse", [2, 2, 2, 17, 19, 5, 7])
            .with_sink()
            .with_dlse(),
        plain("dlse", "a cotangent of lse", [1, 1, 3, 23, 19, 7, 5]).with_dlse(),
        Recipe {
            numbers: Numbers::OnlyDlse,
            ..plain("dlse_alone", "no cotangent but that of lse", [1, 1, 1, 19, 23, 5, 7])
                .with_dlse()
        },
        Recipe {
            numbers: Numbers::Deep,
            ..plain("deep", "scores eight times as large", [1, 1, 2, 29, 31, 7, 5])
        },
        Recipe {
            numbers: Numbers::PeakedAndFlat,
            ..plain(
                "peaked_and_flat",
                "rows with one key and rows with all alike",
                [1, 1, 2, 29, 31, 5, 7],
            )
        },
        Recipe {
            numbers: Numbers::Offset,
            ..plain("negative_lse", "scores near -96, tails of tiles", [1, 1, 2, 19, 23, 5, 7])
                .with_bias([false, false, false])
        },
        plain(
            "wide_values",
            "values wider than queries, tiles of features",
            [1, 2, 1, 19, 23, 5, 19],
        ),
        plain("narrow_values", "values narrower than queries", [1, 2, 1, 19, 23, 17, 3]),
        Recipe {
            numbers: Numbers::HeadLevels,
            ..plain("head_levels", "a level for each head", [2, 3, 2, 17, 19, 5, 7])
        },
        plain("heads_as_keys", "as many key heads as keys", [1, 7, 1, 7, 7, 5, 5]),
        {
            let r =
                plain("given_scale", "a scale that is not the default", [1, 1, 2, 19, 23, 7, 5]);
            Recipe { settings: r.settings.with_scale(0.75), ..r }
        },
        causal(plain("whole_tiles", "no tails", [1, 1, 2, 32, 48, 16, 16])),
        plain("one_query", "a single query", [2, 1, 2, 1, 31, 7, 5]),
        plain("one_key", "a single key", [2, 1, 2, 17, 1, 7, 5]),
        causal(plain("long", "enough keys for sums to round", [1, 1, 1, 64, 193, 16, 16])),
    ]
}
