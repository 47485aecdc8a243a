//! One tensor of a file, and the bytes that it is stored in.

use crate::error::Reason;
use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};
use safetensors::tensor::Dtype;

/// The numbers of one tensor, every element exact.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// `F8_E4M3`, `F8_E5M2`, F16, BF16, F32 or F64; of the first two the stored numbers, without their scales.
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

/// Decodes little-endian elements of `N` bytes.
fn decode<const N: usize, T>(
    bytes: &[u8],
    decode: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Reason> {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(elements.len()).map_err(std::io::Error::from)?;
    numbers.extend(elements.iter().map(|&element| decode(element)));
    Ok(numbers)
}

impl Array {
    /// An F64 array.
    #[must_use]
    pub fn f64(shape: &[usize], data: Vec<f64>) -> Self {
        Array { dtype: Dtype::F64, shape: shape.to_vec(), numbers: Numbers::Float(data) }
    }

    /// An F32 array; elements are rounded to it.
    #[must_use]
    pub fn f32(shape: &[usize], data: Vec<f64>) -> Self {
        Array { dtype: Dtype::F32, shape: shape.to_vec(), numbers: Numbers::Float(data) }
    }

    /// An I64 array.
    #[must_use]
    pub fn i64(shape: &[usize], data: Vec<i64>) -> Self {
        Array { dtype: Dtype::I64, shape: shape.to_vec(), numbers: Numbers::Integer(data) }
    }

    /// An I32 array.
    #[must_use]
    pub fn i32(shape: &[usize], data: Vec<i64>) -> Self {
        Array { dtype: Dtype::I32, shape: shape.to_vec(), numbers: Numbers::Integer(data) }
    }

    /// An `F8_E4M3` array; elements are rounded to it.
    #[must_use]
    pub fn e4m3(shape: &[usize], data: Vec<f64>) -> Self {
        Array { dtype: Dtype::F8_E4M3, shape: shape.to_vec(), numbers: Numbers::Float(data) }
    }

    /// A BF16 array; elements are rounded to it.
    #[must_use]
    pub fn bf16(shape: &[usize], data: Vec<f64>) -> Self {
        Array { dtype: Dtype::BF16, shape: shape.to_vec(), numbers: Numbers::Float(data) }
    }

    /// A U8 array of truth values.
    #[must_use]
    pub fn flags(shape: &[usize], data: &[bool]) -> Self {
        let numbers = Numbers::Integer(data.iter().map(|&x| i64::from(x)).collect());
        Array { dtype: Dtype::U8, shape: shape.to_vec(), numbers }
    }

    pub(super) fn decode(
        name: &str,
        dtype: Dtype,
        shape: Vec<usize>,
        data: &[u8],
    ) -> Result<Self, Reason> {
        let numbers = match dtype {
            Dtype::F64 => Numbers::Float(decode(data, f64::from_le_bytes)?),
            Dtype::F32 => Numbers::Float(decode(data, |b| f64::from(f32::from_le_bytes(b)))?),
            Dtype::F16 => Numbers::Float(decode(data, |b| f16::from_le_bytes(b).to_f64())?),
            Dtype::BF16 => Numbers::Float(decode(data, |b| bf16::from_le_bytes(b).to_f64())?),
            // A code that is no number stays none: NaN, and of E5M2 an infinity.
            Dtype::F8_E4M3 => Numbers::Float(decode(data, |[b]| F8E4M3::from_bits(b).to_f64())?),
            Dtype::F8_E5M2 => Numbers::Float(decode(data, |[b]| F8E5M2::from_bits(b).to_f64())?),
            Dtype::I64 => Numbers::Integer(decode(data, i64::from_le_bytes)?),
            Dtype::I32 => Numbers::Integer(decode(data, |b| i64::from(i32::from_le_bytes(b)))?),
            Dtype::U32 => Numbers::Integer(decode(data, |b| i64::from(u32::from_le_bytes(b)))?),
            Dtype::U8 | Dtype::BOOL => Numbers::Integer(decode(data, |[b]| i64::from(b))?),
            Dtype::U64 => Numbers::Unsigned(decode(data, u64::from_le_bytes)?),
            other => {
                let unsigned_zero = matches!(other, Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ);
                let blocks = matches!(other, Dtype::F4 | Dtype::F8_E8M0);
                let integers_of_16_bits = matches!(other, Dtype::I16 | Dtype::U16);
                return Err(Reason::Dtype {
                    tensor: name.to_owned(),
                    expected: if integers_of_16_bits {
                        "BF16 or F16, the type whose bits these 16-bit integers hold"
                    } else if unsigned_zero {
                        "F8_E4M3 or F8_E5M2, which have a negative zero and another exponent"
                    } else if blocks {
                        "F8_E4M3 or F8_E5M2 with scales of F32: mxfp8 and nvfp4 cannot be read yet"
                    } else {
                        "F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, U64, U32, U8 or BOOL"
                    },
                    found: format!("{other:?}"),
                });
            }
        };
        Ok(Array { dtype, shape, numbers })
    }

    /// Its elements in little-endian bytes, as they are stored.
    ///
    /// # Panics
    /// If its type cannot hold them.
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
            (Numbers::Float(x), Dtype::F8_E4M3) => {
                x.iter().map(|&x| F8E4M3::from_f64(x).to_bits()).collect()
            }
            (Numbers::Float(x), Dtype::F8_E5M2) => {
                x.iter().map(|&x| F8E5M2::from_f64(x).to_bits()).collect()
            }
            (Numbers::Integer(x), Dtype::I64) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Numbers::Integer(x), Dtype::I32) => x
                .iter()
                .flat_map(|&x| i32::try_from(x).expect("an element that fits I32").to_le_bytes())
                .collect(),
            (Numbers::Integer(x), Dtype::U8 | Dtype::BOOL) => {
                x.iter().map(|&x| u8::try_from(x).expect("an element that fits U8")).collect()
            }
            (Numbers::Unsigned(x), Dtype::U64) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (_, dtype) => panic!("nothing here is stored as {dtype:?}"),
        }
    }
}
