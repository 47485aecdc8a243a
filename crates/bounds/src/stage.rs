//! The stages of a kernel, after which the terms of a bound are named.

/// The stage of a kernel that an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// `q . k`, scale, softcap and its slope, bias, the argument of `exp`, and `exp` itself.
    Score,
    /// Scores stored in a narrow format, or with operands converted to one.
    ScoreStore,
    /// The row's `lse`: its sum, its logarithm, its storage.
    Lse,
    /// `P` rounded to the format that the products read.
    P,
    /// `dP = G . v`, the conversion of its operands, and its difference from `delta`.
    Dp,
    /// `delta`: its sum, and the errors of the sums of `o` that it is made of.
    Delta,
    /// `delta` again: the rounding of `P` in the forward pass, and of the stored `o`.
    StoredO,
    /// `dS` rounded to the format that the products read.
    Ds,
    /// The sum over keys, queries or heads.
    Sum,
    /// The result rounded to its format.
    Store,
    /// Entries that a kernel may rightly keep or drop.
    Mask,
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// All of them, in the order of the computation.
    pub const ALL: [Stage; Stage::COUNT] = [
        Stage::Score,
        Stage::ScoreStore,
        Stage::Lse,
        Stage::P,
        Stage::Dp,
        Stage::Delta,
        Stage::StoredO,
        Stage::Ds,
        Stage::Sum,
        Stage::Store,
        Stage::Mask,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Score => "score and exp",
            Stage::ScoreStore => "rounding of scores",
            Stage::Lse => "lse",
            Stage::P => "rounding of P",
            Stage::Dp => "dP",
            Stage::Delta => "delta",
            Stage::StoredO => "stored o in delta",
            Stage::Ds => "rounding of dS",
            Stage::Sum => "sum",
            Stage::Store => "store",
            Stage::Mask => "ambiguous mask entries",
        }
    }
}
