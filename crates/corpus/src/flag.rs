//! Flags: what can be true of a case. Their meaning and the reports stand in `data/flags.toml`.

use serde::Deserialize;

/// What the data say of a flag.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlagData {
    pub(crate) meaning: String,
    #[serde(default)]
    pub(crate) upstream: Vec<String>,
}

macro_rules! flags {
    ($($flag:ident $name:literal)*) => {
        /// Something true of a case, for which some bug is known.
        ///
        /// # Examples
        /// ```
        /// use sus_corpus::Flag;
        /// let flag = Flag::Sq1;
        /// assert_eq!((flag.name(), flag.meaning()), ("SQ1", "Nq = 1"));
        /// assert_eq!(flag.upstream(), ["cudnn-frontend #1072"]);
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        pub enum Flag {
            $(
                #[doc = concat!("`", $name, "`.")]
                #[serde(rename = $name)]
                $flag,
            )*
        }

        impl Flag {
            /// All flags.
            pub const ALL: &[Flag] = &[$(Flag::$flag),*];

            /// The name used in the manifest.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Flag::$flag => $name,)* }
            }
        }
    };
}

flags! {
    EmptyBatch "EMPTY_BATCH"
    NoQueries "NO_QUERIES"
    NoKeys "NO_KEYS"
    Sq1 "SQ1"
    Sk1 "SK1"
    SqGtSk "SQ_GT_SK"
    SqLtSk "SQ_LT_SK"
    SEqH "S_EQ_H"
    Primes "PRIMES"
    Gqa "GQA"
    Gqa3 "GQA3"
    DvNeDqk "DV_NE_DQK"
    Tail8 "TAIL_8"
    Tail16 "TAIL_16"
    Tail64 "TAIL_64"
    Tail128 "TAIL_128"
    Causal "CAUSAL"
    NotCausal "NOT_CAUSAL"
    TopLeft "TOP_LEFT"
    BottomRight "BOTTOM_RIGHT"
    Window "WINDOW"
    Packed "PACKED"
    EmptySegment "EMPTY_SEGMENT"
    FullyMaskedRow "FULLY_MASKED_ROW"
    Softcap "SOFTCAP"
    Bias "BIAS"
    BiasBroadcast "BIAS_BROADCAST"
    BiasMask "BIAS_MASK"
    BiasFirst "BIAS_FIRST"
    AttnMask "ATTN_MASK"
    BlockMask "BLOCK_MASK"
    Indices "INDICES"
    Padding "PADDING"
    Dropout "DROPOUT"
    Alibi "ALIBI"
    VOfK "V_OF_K"
    Sink "SINK"
    Dlse "DLSE"
    DlseAlone "DLSE_ALONE"
    Scale "SCALE"
    NegativeScale "NEGATIVE_SCALE"
    DeepNegative "DEEP_NEGATIVE"
    LargeScores "LARGE_SCORES"
    HugeScores "HUGE_SCORES"
    Peaked "PEAKED"
    Flat "FLAT"
    SmallIntegers "SMALL_INTEGERS"
    TinyCotangent "TINY_COTANGENT"
    HeadRamps "HEAD_RAMPS"
    Real "REAL"
    Sus "SUS"
    Bernoulli "BERNOULLI"
    Systematic "SYSTEMATIC"
    Paper "PAPER"
    Calibrated "CALIBRATED"
    Coord4 "COORD4"
    Linear4 "LINEAR4"
    Linear1 "LINEAR1"
    JaxThreefry "JAX_THREEFRY"
    Seed64 "SEED_64"
    Stream "STREAM"
    Saturated "SATURATED"
    BudgetBelow1 "BUDGET_BELOW_1"
    BudgetInf "BUDGET_INF"
    EmptyRowOfMask "EMPTY_ROW_OF_MASK"
    ExactMask "EXACT_MASK"
    Statistics "STATISTICS"
}
