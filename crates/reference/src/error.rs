//! Errors in data from outside. Each names the operand, the expectation and the value found.

use crate::quote;
use std::fmt::Display;

/// An input that is not a legal problem, option or mask. Its message is one line.
///
/// # Examples
/// ```
/// use sus_reference::Error;
/// use sus_reference::tensor::Tensor;
/// let error = Tensor::new("q", [1, 1, 2, 2], &[0.0; 3]).unwrap_err();
/// assert!(matches!(error, Error::Shape { tensor: "q", .. }));
/// assert_eq!(error.to_string().lines().count(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A tensor has another shape than the other tensors imply.
    #[error("tensor '{tensor}': expected shape {expected}, found {}", quote::list(found))]
    Shape {
        /// The tensor's name in the files and in the paper.
        tensor: &'static str,
        /// The shape implied by the other tensors, in words.
        expected: String,
        /// The shape of the tensor.
        found: Vec<usize>,
    },
    /// A tensor holds a NaN or an infinity; a bias may hold `-inf`.
    #[error(
        "tensor '{tensor}': expected finite numbers{}, found {} at flat index {index}",
        if *tensor == "bias" { " or -inf" } else { "" },
        quote::text(found)
    )]
    NotFinite {
        /// The tensor's name.
        tensor: &'static str,
        /// Flat, row-major index of the first such element.
        index: usize,
        /// That element, printed.
        found: String,
    },
    /// The number of query heads is not a multiple of the number of key heads.
    #[error(
        "tensors 'q' and 'k': expected Hq to be a multiple of Hk, found Hq = {query_heads} and Hk = {key_heads}"
    )]
    Group {
        /// `Hq`.
        query_heads: usize,
        /// `Hk`.
        key_heads: usize,
    },
    /// The number of elements, or of masks to enumerate, is too large.
    #[error("{what}: expected fewer than {limit}, found {}", quote::words(found))]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The first number that is too large.
        limit: String,
        /// The number found.
        found: String,
    },
    /// An option has a value outside its domain.
    #[error("option '{name}': expected {}, found {}", quote::words(expected), quote::words(found))]
    Option {
        /// The option's name in the files; the command spells it with `--` and hyphens.
        name: &'static str,
        /// The legal values, in words.
        expected: String,
        /// The given value.
        found: String,
    },
    /// The layout of the random words does not give every weight a word of its own.
    #[error(transparent)]
    Uniform(#[from] UniformError),
    /// Finite inputs whose scores, weights or gradients leave the range of the arithmetic.
    #[error(
        "tensor '{tensor}': the result leaves the range of the arithmetic at flat index {index} ({found}); smaller inputs or a wider --dtype are needed"
    )]
    Overflow {
        /// The result that is not finite.
        tensor: &'static str,
        /// Flat, row-major index of the first such element.
        index: usize,
        /// That element, printed.
        found: String,
    },
}

impl Error {
    /// An [`Error::Option`] from values that can be printed.
    pub fn option(name: &'static str, expected: impl Display, found: impl Display) -> Self {
        Error::Option { name, expected: expected.to_string(), found: found.to_string() }
    }
}

/// An error in the description of a set of random words ([`Uniforms`](crate::sus::Uniforms)).
///
/// # Examples
/// ```
/// use sus_reference::sus::{Layout, Uniforms, uniform::Grid};
/// let grid = Grid { batch: 1, heads: 1, queries: 1, keys: 1 };
/// let error = Uniforms::new(0, 1 << 31, Layout::Coord4, grid).unwrap_err();
/// assert_eq!(error.to_string(), "stream: expected below 2^31, found 2147483648");
/// let wide = Grid { keys: (1 << 34) + 1, ..grid };
/// assert!(Uniforms::new(0, 0, Layout::Coord4, wide).is_err());
/// assert!(Uniforms::new(0, 0, Layout::Linear4, wide).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UniformError {
    /// No layout has this name.
    #[error(
        "layout: expected coord4, linear4, linear1, jax-threefry or arrival, found \"{}\"",
        quote::text(found)
    )]
    Layout {
        /// The name.
        found: String,
    },
    /// Streams have 31 bits: the upper bit marks the second words.
    #[error("stream: expected below 2^31, found {found}")]
    Stream {
        /// The stream.
        found: u32,
    },
    /// `coord4` and `arrival` have 32 bits for `b Hq + h`.
    #[error("batch * heads: expected at most 2^32 in layout {layout}, found {found}")]
    Heads {
        /// The layout's name.
        layout: &'static str,
        /// `B Hq`.
        found: u128,
    },
    /// `coord4` and `arrival` have 32 bits for `i`.
    #[error("queries: expected at most 2^32 in layout {layout}, found {found}")]
    Queries {
        /// The layout's name.
        layout: &'static str,
        /// `Nq`.
        found: u128,
    },
    /// `coord4` has 32 bits for `j >> 2`, `arrival` 30.
    #[error("keys: expected at most 2^{log2} in layout {layout}, found {found}")]
    Keys {
        /// The layout's name.
        layout: &'static str,
        /// The logarithm of the limit.
        log2: u32,
        /// `Nk`.
        found: u128,
    },
    /// The linear layouts have 64 bits for the offset.
    #[error(
        "batch * heads * queries * blocks of keys: expected at most 2^64 in layout {layout}, found {} * {} * {} * {}",
        factors[0], factors[1], factors[2], factors[3]
    )]
    Offsets {
        /// The layout's name.
        layout: &'static str,
        /// `B`, `Hq`, `Nq` and the number of blocks in a row.
        factors: [u128; 4],
    },
}
