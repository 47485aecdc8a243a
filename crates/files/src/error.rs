//! What is wrong with a file, in one line that names it.

use std::path::{Path, PathBuf};
use sus_reference::error::Error;
use sus_reference::quote;

/// A file that cannot be read, is not what it should be, or cannot be written.
///
/// # Examples
/// ```
/// use sus_files::TensorFile;
/// let error = TensorFile::read("fixtures/none.safetensors".as_ref()).unwrap_err();
/// assert!(error.to_string().starts_with("fixtures/none.safetensors: ")); // the file first
/// assert_eq!(error.to_string().lines().count(), 1);
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", quote::path(path))]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Box<Reason>,
}

impl FileError {
    /// The error of one file.
    pub fn new(path: &Path, reason: impl Into<Reason>) -> Self {
        FileError { path: path.to_owned(), reason: Box::new(reason.into()) }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not a safetensors file, or a damaged one.
    #[error("expected a safetensors file, found {}", quote::words(.0))]
    Format(String),
    /// A tensor that must be there is not.
    #[error("tensor '{tensor}': expected one of shape {expected}, found none")]
    Missing {
        /// The tensor's name.
        tensor: &'static str,
        /// Its shape, in the letters of the specification.
        expected: &'static str,
    },
    /// A name that stands twice where it may stand once.
    #[error("{what} '{}': expected once, found twice", quote::text(name))]
    Twice {
        /// What has the name: a tensor, a metadata entry or a metadata key.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A tensor that the format does not know.
    #[error("tensor '{}': expected one of {expected}, found an unknown name", quote::text(tensor))]
    UnknownTensor {
        /// The name found.
        tensor: String,
        /// The names known.
        expected: &'static str,
    },
    /// A name of another library, of a tensor or of a setting.
    #[error("{what} '{}': {advice}", quote::text(name))]
    Foreign {
        /// What has the name: a tensor, or a metadata key.
        what: &'static str,
        /// The name.
        name: String,
        /// What to write instead.
        advice: &'static str,
    },
    /// A tensor of another type.
    #[error("tensor '{}': expected dtype {expected}, found {found}", quote::text(tensor))]
    Dtype {
        /// The tensor's name.
        tensor: String,
        /// The legal types.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// A tensor with another number of axes.
    #[error(
        "tensor '{}': expected {expected} axes, found shape {}{}",
        quote::text(tensor),
        quote::list(found),
        packed_advice(*expected, found)
    )]
    Rank {
        /// The tensor's name.
        tensor: String,
        /// The number of axes.
        expected: usize,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A key of the metadata that means nothing, or a value that it cannot have.
    #[error(
        "metadata key '{}': expected {}, found {}",
        quote::text(key),
        quote::words(expected),
        quote::text(found)
    )]
    Metadata {
        /// The key within `__metadata__["sus_oracle"]`.
        key: String,
        /// What would be legal.
        expected: String,
        /// What was found.
        found: String,
    },
    /// An option of the command that says something else than the file.
    #[error(
        "option '{key}': expected {}, as the file says, found {}",
        quote::text(file),
        quote::text(command)
    )]
    Contradiction {
        /// The option's name in the files.
        key: &'static str,
        /// The file's value.
        file: String,
        /// The command's value.
        command: String,
    },
    /// The content is not a legal problem.
    #[error("{0}")]
    Invalid(#[from] Error),
}

/// What to write instead of `[total, heads, features]`.
fn packed_advice(expected: usize, found: &[usize]) -> &'static str {
    if (expected, found.len()) == (4, 3) {
        "; packed sequences [total, H, D] are written as [1, H, total, D], with cu_seqlens_q and cu_seqlens_k"
    } else {
        ""
    }
}
