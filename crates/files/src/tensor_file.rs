//! Named arrays in a safetensors file, and the one metadata entry that this project uses.

use super::error::{FileError, Reason};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// The metadata entry that holds the settings, as JSON.
///
/// # Examples
/// ```
/// use sus_files::{TensorFile, tensor_file::METADATA_KEY};
/// let file = TensorFile { metadata: Some("{}".into()), ..TensorFile::default() };
/// // A safetensors file: the length of its header in eight bytes, then the header.
/// let header = String::from_utf8(file.to_bytes()[8..].to_vec()).unwrap();
/// assert_eq!(header.trim_end(), format!(r#"{{"__metadata__":{{"{METADATA_KEY}":"{{}}"}}}}"#));
/// ```
pub const METADATA_KEY: &str = "sus_oracle";

/// The numbers of one tensor, every element exact.
///
/// # Examples
/// ```
/// use sus_files::{Array, tensor_file::Numbers};
/// assert_eq!(Array::i32(&[2], vec![3, -1]).numbers, Numbers::Integer(vec![3, -1]));
/// assert_eq!(Array::f32(&[1], vec![0.5]).numbers, Numbers::Float(vec![0.5]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// F16, BF16, F32 or F64.
    Float(Vec<f64>),
    /// I64, I32, U32, U8 or BOOL.
    Integer(Vec<i64>),
    /// U64.
    Unsigned(Vec<u64>),
}

/// One tensor of a file.
///
/// # Examples
/// ```
/// use sus_files::{Array, TensorFile, tensor_file::Numbers};
/// use safetensors::Dtype;
/// // A bf16 tensor as a kernel stores it; 1/3 is rounded when it is written.
/// let array = Array { dtype: Dtype::BF16, shape: vec![2], numbers: Numbers::Float(vec![0.5, 1.0 / 3.0]) };
/// let mut file = TensorFile::default();
/// file.arrays.insert("dq".into(), array);
/// let read = TensorFile::parse(&file.to_bytes())?;
/// assert_eq!(read.arrays["dq"].numbers, Numbers::Float(vec![0.5, 0.333984375]));
/// # Ok::<(), sus_files::error::Reason>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The type it is stored in.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub numbers: Numbers,
}

/// The tensors of a file, by name, and its settings.
///
/// # Examples
/// ```
/// use sus_files::{Array, TensorFile};
/// let mut candidate = TensorFile::default();
/// for name in ["dq", "dk", "dv"] {
///     candidate.arrays.insert(name.into(), Array::f32(&[1, 1, 2, 1], vec![0.0; 2]));
/// }
/// assert_eq!(candidate.arrays["dk"].shape, [1, 1, 2, 1]);
/// ```
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
    ///
    /// # Examples
    /// ```
    /// use sus_files::TensorFile;
    /// let file = TensorFile::read(std::path::Path::new("fixtures/broken/candidate.safetensors"))?;
    /// assert_eq!(file.arrays["dq"].shape, [1, 1, 96, 64]);
    /// # Ok::<(), sus_files::FileError>(())
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Array, TensorFile};
    /// let mut file = TensorFile::default();
    /// file.arrays.insert("dq".into(), Array::f32(&[1, 1, 2, 1], vec![0.5, -1.0]));
    /// assert_eq!(TensorFile::parse(&file.to_bytes())?, file);
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
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

/// Writes a file whole or not at all. What is no regular file (a pipe, a device) is written to as it is.
///
/// # Errors
/// Those of the operating system.
///
/// # Examples
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("report.txt");
/// sus_files::tensor_file::write_atomically(&path, b"PASS")?;
/// assert_eq!(std::fs::read(&path)?, b"PASS");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return std::fs::OpenOptions::new().write(true).open(&target)?.write_all(bytes);
    }
    let mut temporary = temporary_beside(&target)?;
    temporary.write_all(bytes)?;
    temporary.persist(&target)?;
    Ok(())
}

/// Whether [`write_atomically`] could write a file, before there is anything to write. Nothing is left behind.
///
/// # Errors
/// Those of the operating system.
///
/// # Examples
/// ```
/// use sus_files::tensor_file::expect_writable;
/// let folder = tempfile::tempdir()?;
/// expect_writable(&folder.path().join("report.txt"))?;
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
/// assert!(expect_writable(&folder.path().join("nowhere").join("report.txt")).is_err());
/// assert!(expect_writable(folder.path()).is_err()); // a folder
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn expect_writable(path: &Path) -> std::io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    // A pipe or a device is not opened twice: who reads it would see an end.
    if !target.exists() || target.is_file() {
        temporary_beside(&target)?;
    }
    Ok(())
}

/// A file that goes away unless it takes the place of another one in its folder.
fn temporary_beside(target: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Its error names the path that was asked for.
    std::fs::metadata(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sus-oracle-");
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// A message without line breaks or control characters.
pub(super) fn one_line(message: &str) -> String {
    message
        .split(|c: char| c.is_control())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Decodes little-endian elements of `N` bytes.
fn decode<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&element| decode(element)).collect()
}

impl Array {
    /// An F64 array.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Array;
    /// assert_eq!(Array::f64(&[1], vec![1.0]).to_bytes(), [0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    /// ```
    #[must_use]
    pub fn f64(shape: &[usize], data: Vec<f64>) -> Self {
        Array { dtype: Dtype::F64, shape: shape.to_vec(), numbers: Numbers::Float(data) }
    }

    /// An F32 array; elements are rounded to it.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Array;
    /// assert_eq!(Array::f32(&[1], vec![1.0]).to_bytes(), [0, 0, 0x80, 0x3f]);
    /// assert_eq!(Array::f32(&[1], vec![0.1]).to_bytes(), 0.1_f32.to_le_bytes()); // rounded as it is stored
    /// ```
    #[must_use]
    pub fn f32(shape: &[usize], data: Vec<f64>) -> Self {
        Array { dtype: Dtype::F32, shape: shape.to_vec(), numbers: Numbers::Float(data) }
    }

    /// An I64 array.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Array;
    /// assert_eq!(Array::i64(&[2], vec![1, -1]).to_bytes(), [[1, 0, 0, 0, 0, 0, 0, 0], [255; 8]].concat());
    /// ```
    #[must_use]
    pub fn i64(shape: &[usize], data: Vec<i64>) -> Self {
        Array { dtype: Dtype::I64, shape: shape.to_vec(), numbers: Numbers::Integer(data) }
    }

    /// An I32 array.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Array;
    /// assert_eq!(Array::i32(&[2], vec![1, -1]).to_bytes(), [1, 0, 0, 0, 255, 255, 255, 255]);
    /// ```
    #[must_use]
    pub fn i32(shape: &[usize], data: Vec<i64>) -> Self {
        Array { dtype: Dtype::I32, shape: shape.to_vec(), numbers: Numbers::Integer(data) }
    }

    fn from_view(name: &str, view: &TensorView<'_>) -> Result<Self, Reason> {
        let data = view.data();
        let numbers = match view.dtype() {
            Dtype::F64 => Numbers::Float(decode(data, f64::from_le_bytes)),
            Dtype::F32 => Numbers::Float(decode(data, |b| f64::from(f32::from_le_bytes(b)))),
            Dtype::F16 => Numbers::Float(decode(data, |b| f16::from_le_bytes(b).to_f64())),
            Dtype::BF16 => Numbers::Float(decode(data, |b| bf16::from_le_bytes(b).to_f64())),
            Dtype::I64 => Numbers::Integer(decode(data, i64::from_le_bytes)),
            Dtype::I32 => Numbers::Integer(decode(data, |b| i64::from(i32::from_le_bytes(b)))),
            Dtype::U32 => Numbers::Integer(decode(data, |b| i64::from(u32::from_le_bytes(b)))),
            Dtype::U8 | Dtype::BOOL => Numbers::Integer(decode(data, |[b]| i64::from(b))),
            Dtype::U64 => Numbers::Unsigned(decode(data, u64::from_le_bytes)),
            other => {
                return Err(Reason::Dtype {
                    tensor: name.to_owned(),
                    expected: "F64, F32, F16, BF16, I64, I32, U64, U32, U8 or BOOL",
                    found: format!("{other:?}"),
                });
            }
        };
        Ok(Array { dtype: view.dtype(), shape: view.shape().to_vec(), numbers })
    }

    /// Its elements in little-endian bytes, as they are stored.
    ///
    /// # Panics
    /// If its type cannot hold them.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Array;
    /// let array = Array::f32(&[2], vec![0.5, -2.0]);
    /// assert_eq!(array.to_bytes(), [0.5_f32, -2.0].map(f32::to_le_bytes).concat());
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match (&self.numbers, self.dtype) {
            (Numbers::Float(x), Dtype::F64) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Numbers::Float(x), Dtype::F32) => {
                x.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect()
            }
            (Numbers::Float(x), Dtype::F16) => {
                x.iter().flat_map(|&x| f16::from_f64(x).to_le_bytes()).collect()
            }
            (Numbers::Float(x), Dtype::BF16) => {
                x.iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes()).collect()
            }
            (Numbers::Integer(x), Dtype::I64) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Numbers::Integer(x), Dtype::I32) => x
                .iter()
                .flat_map(|&x| i32::try_from(x).expect("an element that fits I32").to_le_bytes())
                .collect(),
            (Numbers::Integer(x), Dtype::U8) => {
                x.iter().map(|&x| u8::try_from(x).expect("an element that fits U8")).collect()
            }
            (Numbers::Unsigned(x), Dtype::U64) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (_, dtype) => panic!("nothing here is stored as {dtype:?}"),
        }
    }
}
