//! A safetensors file: named arrays, and the one metadata entry that this project uses.

mod array;
mod atomic;
mod header;

pub use array::{Array, Numbers};
pub use atomic::{expect_writable, write_atomically};

use super::error::{FileError, Reason};
use header::{Header, LENGTH_BYTES, Shape, header_length};
use safetensors::tensor::TensorView;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
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
    /// Reads a whole file. The header is checked before the numbers are read, and no more is read than it claims.
    ///
    /// # Errors
    /// [`Reason::Io`], [`Reason::Format`] if it is no safetensors file, is cut short or claims too much,
    /// [`Reason::Twice`] for a name that stands twice, [`Reason::Dtype`] for a type that nothing here is stored in.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let read = File::open(path).map_err(Reason::from).and_then(Self::read_from);
        read.map_err(|reason| FileError::new(path, reason))
    }

    fn read_from(mut file: File) -> Result<Self, Reason> {
        let about = file.metadata()?;
        let length = about.is_file().then_some(about.len());
        let mut begin = Vec::new();
        file.by_ref().take(LENGTH_BYTES as u64).read_to_end(&mut begin)?;
        let header_bytes = header_length(&begin)?;
        let mut text = Vec::new();
        file.by_ref().take(header_bytes as u64).read_to_end(&mut text)?;
        if text.len() < header_bytes {
            return Err(cut_short(header_bytes, text.len()));
        }
        let header = Header::parse(&text)?;
        if let Some(length) = length {
            let rest = (length as usize).saturating_sub(LENGTH_BYTES + header_bytes);
            header.expect_data(rest)?;
        }
        let mut data = Vec::new();
        data.try_reserve_exact(header.data_bytes + 1).map_err(std::io::Error::from)?;
        file.take(header.data_bytes as u64 + 1).read_to_end(&mut data)?;
        Self::decode(header, &data)
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
        let header_bytes = header_length(bytes)?;
        let rest = &bytes[LENGTH_BYTES..];
        let cut = || cut_short(header_bytes, rest.len());
        let (text, data) = rest.split_at_checked(header_bytes).ok_or_else(cut)?;
        Self::decode(Header::parse(text)?, data)
    }

    fn decode(mut header: Header, data: &[u8]) -> Result<Self, Reason> {
        header.expect_data(data.len())?;
        let metadata = header.metadata.remove(METADATA_KEY);
        let arrays = header.entries.into_iter().map(|(name, entry)| {
            let (Shape(shape), (begin, end)) = (entry.shape, entry.data_offsets);
            let array = Array::decode(&name, entry.dtype, shape, &data[begin..end])?;
            Ok((name, array))
        });
        Ok(TensorFile { arrays: arrays.collect::<Result<_, Reason>>()?, metadata })
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

fn cut_short(claimed: usize, found: usize) -> Reason {
    Reason::Format(format!(
        "a file cut short: a header of {claimed} bytes, of which {found} are there"
    ))
}
