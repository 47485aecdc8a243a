//! The public bugs that the gallery copies, by number, and why some are not copied.

/// A bug that was reported in public.
///
/// # Examples
/// ```
/// use sus_mutants::catalogue::BUGS;
/// let order = BUGS.iter().find(|bug| bug.number == "12").unwrap();
/// assert!(order.not_copied.unwrap().contains("an order is no error here"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// Its number: of the reports, or `s` and one for what SUS adds.
    pub number: &'static str,
    /// Where it was reported or fixed.
    pub source: &'static str,
    /// What was wrong.
    pub what: &'static str,
    /// Why no kernel of the gallery copies it.
    pub not_copied: Option<&'static str>,
}

/// The source of a bug.
///
/// # Examples
/// ```
/// use sus_mutants::catalogue::source;
/// assert_eq!(source("1"), Some("Dao-AILab/flash-attention b3f1b6a5"));
/// ```
#[must_use]
pub fn source(number: &str) -> Option<&'static str> {
    BUGS.iter().find(|bug| bug.number == number).map(|bug| bug.source)
}

/// Kernels of the gallery that no verdict can tell from a right one, and why.
const EQUIVALENT: &[(&str, &str)] = &[(
    "equal_word_is_kept",
    "nowhere: it differs only where a word is `q 2^32` to the last bit, which any kernel that rounds may decide either way",
)];

/// Why a kernel can be told from a right one by nobody, if that is so.
///
/// # Examples
/// ```
/// assert_eq!(sus_mutants::catalogue::equivalent("delta_missing"), None);
/// ```
#[must_use]
pub fn equivalent(kernel: &str) -> Option<&'static str> {
    EQUIVALENT.iter().find(|(name, _)| *name == kernel).map(|(_, why)| *why)
}

const fn bug(number: &'static str, source: &'static str, what: &'static str) -> Bug {
    Bug { number, source, what, not_copied: None }
}

const fn not_copied(
    number: &'static str,
    source: &'static str,
    what: &'static str,
    why: &'static str,
) -> Bug {
    Bug { number, source, what, not_copied: Some(why) }
}

/// The catalogue.
///
/// # Examples
/// ```
/// use sus_mutants::{catalogue::BUGS, kernels};
/// let copied = |number| kernels().iter().any(|kernel| kernel.bugs.contains(&number));
/// assert!(BUGS.iter().all(|bug| copied(bug.number) != bug.not_copied.is_some()));
/// ```
pub const BUGS: &[Bug] = &[
    bug("1", "Dao-AILab/flash-attention b3f1b6a5", "lse and delta loaded at the first tile"),
    bug("2", "Dao-AILab/flash-attention 42e4e3e8", "query tiles counted in keys"),
    bug(
        "3",
        "Dao-AILab/flash-attention a4f148b6; pytorch #196678; cudnn-frontend #1072",
        "tail of keys not masked",
    ),
    bug("4", "Dao-AILab/flash-attention c65b5106", "the causal branch skips the tail's mask"),
    bug(
        "5",
        "Dao-AILab/flash-attention 9ee0ff1d; aiter #2808; pytorch #133671",
        "strides of do used for o",
    ),
    bug("6", "Dao-AILab/flash-attention 2423cca3", "dv allocated like k"),
    bug("7", "Dao-AILab/flash-attention #2481", "delta from a partly written do"),
    bug("8", "Dao-AILab/flash-attention #2337", "padded offsets of 128 and of 64"),
    bug("9", "Dao-AILab/flash-attention #2552", "dv stored with the columns of dk"),
    bug(
        "10",
        "Dao-AILab/flash-attention #2623",
        "block lists of the forward pass used untransposed",
    ),
    bug(
        "11",
        "Dao-AILab/flash-attention 14f3627d, #1033",
        "softcap: factor, derivative, cap of another call",
    ),
    not_copied(
        "12",
        "Dao-AILab/flash-attention ab66326a",
        "a block count for all sequences in the lock order",
        "it changes the order in which tiles are added, or hangs; an order is no error here",
    ),
    bug(
        "13",
        "Dao-AILab/flash-attention b46c5875, ea8f7350",
        "keys of a sequence without queries not written",
    ),
    bug("14", "Dao-AILab/flash-attention 161b0e60", "rows beyond the used length contribute"),
    bug("15", "Dao-AILab/flash-attention 1c41d2b0", "keys overwritten before dq has read them"),
    bug("16", "Dao-AILab/flash-attention bdda7481", "contiguous strides taken for granted"),
    bug(
        "17",
        "fla f0e213db; aiter 95d46af0; Dao-AILab/flash-attention 7052e212",
        "32-bit offsets wrap",
    ),
    bug(
        "18",
        "tilelang #2461, bb7f30c9, 2de566e79",
        "padding uninitialised; vector index; shadowed loop variable",
    ),
    bug("19", "FlagGems #898", "tail of dv written to the next head"),
    bug(
        "20",
        "native-sparse-attention-triton #27; fla #632",
        "heads split by the wrong count; extents of q used for v",
    ),
    bug(
        "21",
        "levanter #449; ffpa-attn #301; fla #384; tokamax e98c877",
        "the group not summed, or summed in bf16",
    ),
    bug("22", "TransformerEngine #3216", "wrong batch of keys with groups"),
    bug(
        "23",
        "diffusers #14338, #14265",
        "keys transposed twice; keys of the first ring step reused",
    ),
    bug("24", "fla 2cec2a33", "delta subtracted once per tile of value features"),
    bug("25", "fla #690, #707", "offset of a batch of dk, dv in queries"),
    bug("26", "ffpa-attn #300", "top-left in the backward pass, bottom-right in the forward pass"),
    bug("27", "triton #4541, #5660, #7216", "always causal"),
    bug("28", "MSLK #263", "never causal with a window"),
    bug("29", "JAX 099f0a17", "window ignored"),
    bug("30", "FastVideo #1730; JAX #19301", "k scaled and rounded before the scores"),
    bug("31", "FastVideo #925", "padding of a partial block taken as valid"),
    bug("32", "xformers 70161e55", "tail rows of a tile left unset: NaN"),
    bug(
        "33",
        "tt-metal #42891; flashinfer #4267",
        "the bias scaled; a finite sentinel for masked scores",
    ),
    bug("34", "flash-sparse-attention #106, #109", "the scale applied twice"),
    bug(
        "35",
        "flash-sparse-attention #194; tokamax 04ed9b7; TransformerEngine 2d0d276e",
        "dbias: last writer, wrong type",
    ),
    bug("36", "pytorch #146377, #163677", "gradients garbage for some strides, or missing"),
    bug("37", "tt-metal #53205", "delta from the o of a chunk"),
    bug(
        "38",
        "TransformerEngine 7b861e75d; Megatron-LM #1464; NATTEN #299",
        "lse of a chunk, or of half the index",
    ),
    bug("39", "TransformerEngine #3333, #2186", "padded lengths: workspace uninitialised, NaN"),
    bug("40", "Dao-AILab/flash-attention #1936", "the infinity of an empty row has the other sign"),
    bug(
        "41",
        "TransformerEngine #3249; Megatron-LM #205; aiter #3070; cudnn-frontend #676",
        "dsink: index, none, noise; empty rows NaN",
    ),
    bug("42", "cudnn-frontend #385", "a key chosen twice"),
    bug("43", "cudnn-frontend #554; tokamax 62aeeb2", "the cotangent of lse dropped"),
    bug("44", "Dao-AILab/flash-attention #2439", "words keyed by (key, query)"),
    bug(
        "45",
        "pytorch #188015, #187684, #187227; ffpa-attn #352",
        "32-bit offsets of the generator wrap; heads share words",
    ),
    bug(
        "46",
        "Dao-AILab/flash-attention #2088, #314; composable_kernel #574; tt-metal #13904",
        "constant seed or offset; correlated lanes",
    ),
    bug(
        "47",
        "TransformerEngine 4cc220c9b; pytorch #190717",
        "the backward pass draws another mask",
    ),
    bug("48", "picotron #37", "no bug: delta from the whole o is right for every chunk"),
    bug("s1", "SUS", "delta from the sampled weights"),
    bug("s2", "SUS", "no 1/q"),
    bug("s3", "SUS", "1/q in some gradients only"),
    bug("s4", "SUS", "no minimum with 1"),
    bug("s5", "SUS", "q from other weights"),
    bug("s6", "SUS", "another comparison, another threshold"),
    bug("s7", "SUS", "words keyed by (key, query)"),
    bug("s8", "SUS", "words shared by heads, batches, rows or steps"),
    bug("s9", "SUS", "the counter wraps"),
    bug("s10", "SUS", "masked keys sampled"),
    bug("s11", "SUS", "the sampled weights renormalised"),
    bug("s12", "SUS", "m/q applied twice"),
    bug("s13", "SUS", "a fresh mask for each tile of value features"),
    bug("s14", "SUS", "compaction loses or repeats an entry"),
    bug("s15", "SUS", "a biased way from a word to a uniform"),
];
