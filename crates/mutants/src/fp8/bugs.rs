//! The right kernels and the wrong ones. Sources: `docs/fp8.md`.

use super::kernel::{Descale, Forward, Fp8Kernel, Overflow, Use};
use sus_bounds::Format;

/// A wrong kernel of 8 bits.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub what: &'static str,
    /// The kernel.
    pub kernel: Fp8Kernel,
}

const RIGHT: fn() -> Fp8Kernel = Fp8Kernel::default;

/// Right kernels: other tiles, orders and forward passes.
#[must_use]
pub fn controls() -> Vec<(&'static str, Fp8Kernel)> {
    let online = Fp8Kernel { forward: Forward::Online, ..RIGHT() };
    vec![
        ("tiles_of_16", RIGHT()),
        ("tiles_of_64_reversed", Fp8Kernel { tile: 64, reversed: true, ..RIGHT() }),
        ("term_by_term", Fp8Kernel { tile: 1, ..RIGHT() }),
        ("without_o", Fp8Kernel { tile: 32, without_o: true, ..RIGHT() }),
        ("online_softmax", Fp8Kernel { tile: 32, ..online }),
        ("online_softmax_reversed", Fp8Kernel { tile: 64, reversed: true, ..online }),
        ("online_softmax_in_tiles_of_48", Fp8Kernel { tile: 48, ..online }),
        ("online_softmax_without_o", Fp8Kernel { tile: 64, without_o: true, ..online }),
    ]
}

/// Wrong kernels.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a list")]
pub fn bugs() -> Vec<Bug> {
    use Descale::{Never, Of, OfBlockBefore, OfFirstRow, Twice};
    use Use::{DeltaG, DkQ, DpG, DpV, DqK, DvG, Ov, Sk, Sq};
    let bug = |name, what, kernel| Bug { name, what, kernel };
    let by = |descale| Fp8Kernel { descale, ..RIGHT() };
    vec![
        bug("q_scale_missing", "`q` is not scaled back in the scores.", by(&[(Sq, Never)])),
        bug("k_scale_missing", "`k` is not scaled back in the scores.", by(&[(Sk, Never)])),
        bug("v_scale_missing", "`v` is not scaled back in `P v`.", by(&[(Ov, Never)])),
        bug("v_scale_missing_in_dp", "`v` is not scaled back in `dP`.", by(&[(DpV, Never)])),
        bug("do_scale_missing_in_dp", "`dO` is not scaled back in `dP`.", by(&[(DpG, Never)])),
        bug("do_scale_missing_in_dv", "`dO` is not scaled back in `dv`.", by(&[(DvG, Never)])),
        bug(
            "do_scale_missing_in_delta",
            "`dO` is not scaled back in `delta`.",
            by(&[(DeltaG, Never)]),
        ),
        bug("k_scale_missing_in_dq", "`dq` lacks the scale of `k`.", by(&[(DqK, Never)])),
        bug("q_scale_missing_in_dk", "`dk` lacks the scale of `q`.", by(&[(DkQ, Never)])),
        bug("k_scale_twice_in_dq", "`dq` has the scale of `k` twice.", by(&[(DqK, Twice)])),
        bug("do_scale_twice_in_dv", "`dv` has the scale of `dO` twice.", by(&[(DvG, Twice)])),
        bug("q_scale_for_k_in_dq", "`dq` has the scale of `q`.", by(&[(DqK, Of(DkQ))])),
        bug("k_scale_for_q_in_dk", "`dk` has the scale of `k`.", by(&[(DkQ, Of(DqK))])),
        bug("v_scale_for_do", "`dv` has the scale of `v`.", by(&[(DvG, Of(DpV))])),
        bug(
            "scale_of_the_first_head",
            "The first scale of `k` serves all.",
            by(&[(Sk, OfFirstRow), (DqK, OfFirstRow)]),
        ),
        bug(
            "scale_of_the_block_before",
            "A block of `k` has the scale of the one before in `dq`.",
            by(&[(DqK, OfBlockBefore)]),
        ),
        bug(
            "p_scale_not_undone",
            "`P` stays multiplied by its scale.",
            Fp8Kernel { undone: [false, true], ..RIGHT() },
        ),
        bug(
            "ds_scale_not_undone",
            "`dS` stays multiplied by its scale.",
            Fp8Kernel { undone: [true, false], ..RIGHT() },
        ),
        bug(
            "overflow_wraps",
            "Numbers above the largest wrap.",
            Fp8Kernel { overflow: Overflow::Wraps, ..RIGHT() },
        ),
        bug(
            "overflow_is_nan",
            "Numbers above the largest become NaN.",
            Fp8Kernel { overflow: Overflow::IsNan, ..RIGHT() },
        ),
        bug(
            "ds_in_e4m3",
            "`dS` is rounded to E4M3.",
            Fp8Kernel { formats: [Format::E4m3; 2], ..RIGHT() },
        ),
        bug(
            "p_in_e5m2",
            "`P` is rounded to E5M2.",
            Fp8Kernel { formats: [Format::E5m2; 2], ..RIGHT() },
        ),
        bug(
            "p_of_dv_in_e5m2",
            "`P` is rounded to E5M2 for `dv`.",
            Fp8Kernel { format_of_dv: Some(Format::E5m2), ..RIGHT() },
        ),
        bug(
            "p_of_dv_in_bf16",
            "`P` is rounded to bf16 for `dv`.",
            Fp8Kernel { format_of_dv: Some(Format::Bf16), ..RIGHT() },
        ),
        bug(
            "p_not_rounded",
            "`P` is not rounded.",
            Fp8Kernel { rounded: [false, true], ..RIGHT() },
        ),
        bug(
            "ds_not_rounded",
            "`dS` is not rounded.",
            Fp8Kernel { rounded: [true, false], ..RIGHT() },
        ),
        bug(
            "stale_p_scale",
            "`P` is rounded with the scale of the step before.",
            Fp8Kernel { stale: [0.7, 1.0], ..RIGHT() },
        ),
        bug(
            "stale_ds_scale",
            "`dS` is rounded with the scale of the step before.",
            Fp8Kernel { stale: [1.0, 0.7], ..RIGHT() },
        ),
        bug(
            "ds_rounded_before_its_scale",
            "`dS` is rounded before it is multiplied by its scale.",
            Fp8Kernel { ds_rounded_first: true, ..RIGHT() },
        ),
        bug(
            "p_subnormals_flushed",
            "Subnormal codes of `P` become zero.",
            Fp8Kernel { flushed: [true, false], ..RIGHT() },
        ),
        bug(
            "ds_subnormals_flushed",
            "Subnormal codes of `dS` become zero.",
            Fp8Kernel { flushed: [false, true], ..RIGHT() },
        ),
        bug("p_truncated", "`P` is truncated.", Fp8Kernel { truncated: [true, false], ..RIGHT() }),
        bug(
            "ds_truncated",
            "`dS` is truncated.",
            Fp8Kernel { truncated: [false, true], ..RIGHT() },
        ),
        bug("dp_in_bf16", "`dP` is rounded to bf16.", Fp8Kernel { dp: Format::Bf16, ..RIGHT() }),
        bug("dp_in_e5m2", "`dP` is rounded to E5M2.", Fp8Kernel { dp: Format::E5m2, ..RIGHT() }),
        bug(
            "code_of_p_in_ds",
            "`dS` is made of the rounded `P`.",
            Fp8Kernel { code_in_ds: true, ..RIGHT() },
        ),
        bug(
            "delta_of_unrounded_o",
            "`delta` is made of `o` before it is stored.",
            Fp8Kernel { delta_unrounded: true, ..RIGHT() },
        ),
        bug("delta_missing", "`delta` is left out.", Fp8Kernel { delta_missing: true, ..RIGHT() }),
        bug(
            "dq_unscaled",
            "`dq` lacks the scale of the scores.",
            Fp8Kernel { powers: [0, 1], ..RIGHT() },
        ),
        bug(
            "dk_scaled_twice",
            "`dk` has the scale of the scores twice.",
            Fp8Kernel { powers: [1, 2], ..RIGHT() },
        ),
        bug(
            "ds_rounded_after_the_scale",
            "`dS` is multiplied by the scale of the scores before it is rounded.",
            Fp8Kernel { scaled_ds: true, ..RIGHT() },
        ),
        bug(
            "p_rounded_after_dropout",
            "`P` is rounded after dropout.",
            Fp8Kernel { dropout_first: true, ..RIGHT() },
        ),
        bug(
            "o_in_e4m3",
            "`o` is stored in E4M3, and `delta` is made of it.",
            Fp8Kernel { o: Format::E4m3, ..RIGHT() },
        ),
    ]
}
