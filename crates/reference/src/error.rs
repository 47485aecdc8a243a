//! What is wrong with data that came from outside: the operand, what was expected, what was found.

use crate::sus::uniform::UniformError;
use std::fmt::Display;

/// An input that is not a legal problem, option or mask. One line, no panic.
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
    #[error("tensor '{tensor}': expected shape {expected}, found {found:?}")]
    Shape {
        /// The tensor's name in the files and in the paper.
        tensor: &'static str,
        /// The shape implied by the rest, in words.
        expected: String,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A tensor holds a NaN or an infinity.
    #[error("tensor '{tensor}': expected finite numbers, found {found} at flat index {index}")]
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
    /// The number of elements, or of random words, cannot be counted.
    #[error("{what}: expected fewer than {limit}, found {found}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The first number that is too large.
        limit: String,
        /// What was asked for.
        found: String,
    },
    /// An option has a value that means nothing.
    #[error("option '{name}': expected {expected}, found {found}")]
    Option {
        /// The option's name in the files; the command spells it with `--` and hyphens.
        name: &'static str,
        /// What would be legal.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The layout has no word of its own for some weight.
    #[error(transparent)]
    Uniform(#[from] UniformError),
    /// Finite inputs whose scores, weights or gradients leave the range of the arithmetic.
    #[error(
        "tensor '{tensor}': the result leaves the range of the arithmetic at flat index {index} ({found}); smaller inputs or a wider --dtype are needed"
    )]
    Overflow {
        /// The result that is not a number.
        tensor: &'static str,
        /// Flat, row-major index of the first such element.
        index: usize,
        /// That element, printed.
        found: String,
    },
}

impl Error {
    /// An [`Error::Option`] from anything that prints.
    ///
    /// # Examples
    /// ```
    /// let error = sus_reference::Error::option("c", "a number above 0", -1);
    /// assert_eq!(error.to_string(), "option 'c': expected a number above 0, found -1");
    /// ```
    pub fn option(name: &'static str, expected: impl Display, found: impl Display) -> Self {
        Error::Option { name, expected: expected.to_string(), found: found.to_string() }
    }
}
