//! A safetensors file: named arrays, and the one metadata entry that this project uses.

mod array;
mod atomic;

pub use array::{Array, Numbers};
pub use atomic::{expect_writable, write_atomically};

use super::error::{FileError, Reason};
use safetensors::tensor::{SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The metadata entry that holds the settings, as JSON.
pub const METADATA_KEY: &str = "sus_oracle";

/// The tensors of a file, by name, and its settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorFile {
    /// The tensors.
    pub arrays: BTreeMap<String, Array>,
    /// The text of `__metadata__["sus_oracle"]`.
    pub metadata: Option<String>,
}

impl TensorFile {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Reason::Io`], [`Reason::Format`] if it is no safetensors file or is cut short, [`Reason::Dtype`] for a type
    /// that nothing here is stored in.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = std::fs::read(path).map_err(|e| FileError::new(path, e))?;
        Self::parse(&bytes).map_err(|reason| FileError::new(path, reason))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`TensorFile::read`].
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Array, TensorFile};
    /// let mut file = TensorFile::default();
    /// file.arrays.insert("mask/columns".into(), Array::i32(&[3], vec![0, 2, 1]));
    /// let bytes = file.to_bytes();
    /// assert_eq!(TensorFile::parse(&bytes)?, file);
    /// assert!(TensorFile::parse(&bytes[..bytes.len() - 1]).is_err()); // cut short
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let format = |e: safetensors::SafeTensorError| Reason::Format(one_line(&e.to_string()));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let metadata = header.metadata().as_ref().and_then(|m| m.get(METADATA_KEY)).cloned();
        let tensors = SafeTensors::deserialize(bytes).map_err(format)?;
        let arrays = tensors
            .iter()
            .map(|(name, view)| Ok((name.to_owned(), Array::from_view(name, &view)?)))
            .collect::<Result<_, Reason>>()?;
        Ok(TensorFile { arrays, metadata })
    }

    /// The bytes of the file; the same tensors and metadata always give the same bytes.
    ///
    /// # Panics
    /// If an array's shape does not fit its elements, or its type cannot hold them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored: Vec<(&String, &Array, Vec<u8>)> =
            self.arrays.iter().map(|(name, array)| (name, array, array.to_bytes())).collect();
        let views = stored.iter().map(|(name, array, bytes)| {
            let view = TensorView::new(array.dtype, array.shape.clone(), bytes);
            (*name, view.expect("a shape that fits its elements"))
        });
        let metadata =
            self.metadata.clone().map(|text| HashMap::from([(METADATA_KEY.to_owned(), text)]));
        safetensors::serialize(views, metadata).expect("tensors that were just validated")
    }

    /// Writes the file whole or not at all: to a temporary neighbour first, which then takes the name.
    ///
    /// # Errors
    /// [`Reason::Io`].
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Array, TensorFile};
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("candidate.safetensors");
    /// let mut file = TensorFile::default();
    /// file.arrays.insert("dq".into(), Array::f32(&[1, 1, 2, 1], vec![0.5, -1.0]));
    /// file.write(&path)?;
    /// assert_eq!(TensorFile::read(&path)?, file);
    /// assert!(file.write(&folder.path().join("none/candidate.safetensors")).is_err()); // no such folder
    /// # Ok::<(), sus_files::FileError>(())
    /// ```
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_atomically(path, &self.to_bytes()).map_err(|e| FileError::new(path, e))
    }
}

/// A message without line breaks or control characters.
pub(super) fn one_line(message: &str) -> String {
    message
        .split(|c: char| c.is_control())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
