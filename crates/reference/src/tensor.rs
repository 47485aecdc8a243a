//! A row-major tensor of four axes: every operand of attention is one.
//!
//! Axes are `[batch, head, position, feature]`; per-row quantities (`lse`, `dlse`) have one feature.

use crate::error::Error;
use crate::scalar::Ring;
use aligned_vec::{AVec, avec};
use nalgebra::{DMatrixView, Dyn, U1};

/// A dense row-major tensor `[batch, head, position, feature]`.
///
/// # Examples
/// ```
/// use sus_reference::tensor::Tensor;
/// let x = Tensor::from_fn([2, 1, 3, 4], |[b, _, n, d]| (100 * b + 10 * n + d) as f64);
/// assert_eq!(x.row(1, 0, 2), [120.0, 121.0, 122.0, 123.0]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<T> {
    shape: [usize; 4],
    /// Aligned to cache lines. Where a row's length is a multiple of a cache line, every row starts at one, and reading a
    /// single row loads no bytes of its neighbours.
    data: AVec<T>,
}

/// The number of elements of a shape, or `None` if it cannot be counted.
#[must_use]
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis))
}

impl<T: Ring> Tensor<T> {
    /// A tensor over `data`, which holds the elements in row-major order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the shape cannot be counted, [`Error::Shape`] if `data` has another length.
    /// Both name the tensor `name`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::tensor::Tensor;
    /// let q = Tensor::new("q", [1, 1, 2, 3], &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0])?;
    /// assert_eq!(q.row(0, 0, 1), [10.0, 11.0, 12.0]);
    /// let error = Tensor::new("q", [1, 1, 2, 3], &[0.0]).unwrap_err();
    /// assert_eq!(error.to_string(), "tensor 'q': expected shape one with 1 elements, found [1, 1, 2, 3]");
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn new(name: &'static str, shape: [usize; 4], data: &[T]) -> Result<Self, Error> {
        let n = element_count(&shape).ok_or_else(|| Error::TooLarge {
            what: "elements of a tensor",
            limit: "2^64".into(),
            found: format!("{name} of shape {shape:?}"),
        })?;
        if n != data.len() {
            let expected = format!("one with {} elements", data.len());
            return Err(Error::Shape { tensor: name, expected, found: shape.to_vec() });
        }
        Ok(Tensor { shape, data: AVec::from_slice(0, data) })
    }

    /// All elements zero.
    ///
    /// # Panics
    /// If the shape cannot be counted; shapes of a validated problem always can.
    #[must_use]
    pub fn zeros(shape: [usize; 4]) -> Self {
        let n = element_count(&shape).expect("a validated shape can be counted");
        Tensor { shape, data: avec![T::zero(); n] }
    }

    /// The element at `[b, h, n, d]` is `f([b, h, n, d])`.
    #[must_use]
    pub fn from_fn(shape: [usize; 4], mut f: impl FnMut([usize; 4]) -> T) -> Self {
        let mut tensor = Self::zeros(shape);
        let [_, heads, positions, features] = shape;
        for (at, x) in tensor.data.iter_mut().enumerate() {
            // at = ((b heads + h) positions + n) features + d
            let (row, d) = (at / features, at % features);
            let (head, n) = (row / positions, row % positions);
            *x = f([head / heads, head % heads, n, d]);
        }
        tensor
    }

    /// The shape `[batch, head, position, feature]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// All elements, row-major.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// All elements, row-major, to write.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The features at one position of one head.
    ///
    /// # Panics
    /// If an index is outside the shape.
    #[inline]
    #[must_use]
    pub fn row(&self, b: usize, h: usize, n: usize) -> &[T] {
        let [_, heads, positions, features] = self.shape;
        let start = ((b * heads + h) * positions + n) * features;
        &self.data[start..start + features]
    }

    /// One head as a matrix `position x feature`, without copying.
    ///
    /// # Panics
    /// If an index is outside the shape.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::tensor::Tensor;
    /// let x = Tensor::from_fn([1, 2, 2, 3], |[_, h, n, d]| (100 * h + 10 * n + d) as f64);
    /// assert_eq!(x.head(0, 1).shape(), (2, 3));
    /// assert_eq!(x.head(0, 1)[(1, 2)], 112.0);
    /// ```
    #[must_use]
    pub fn head(&self, b: usize, h: usize) -> DMatrixView<'_, T, Dyn, U1> {
        let [_, heads, positions, features] = self.shape;
        let start = (b * heads + h) * positions * features;
        let data = &self.data[start..start + positions * features];
        DMatrixView::from_slice_with_strides_generic(
            data,
            Dyn(positions),
            Dyn(features),
            Dyn(features),
            U1,
        )
    }

    /// The same shape with `f` of every element.
    #[must_use]
    pub fn map<U: Ring>(&self, f: impl Fn(T) -> U) -> Tensor<U> {
        Tensor { shape: self.shape, data: AVec::from_iter(0, self.data.iter().map(|&x| f(x))) }
    }
}

/// `|x|^2` of each row of a tensor, in row-major order.
#[must_use]
pub fn squared_norms<T: Ring>(x: &Tensor<T>) -> Vec<T> {
    let [.., features] = x.shape();
    x.as_slice().chunks_exact(features).map(|x| dot(x, x)).collect()
}

/// Whether `x` is neither NaN nor infinite; elements of an exact ring always are finite.
#[expect(clippy::eq_op, reason = "x - x is zero in any ring, and NaN for NaN and infinities")]
pub(crate) fn is_finite<T: Ring>(x: T) -> bool {
    x - x == T::zero()
}

/// The sum of the products, first element first.
#[inline]
#[must_use]
pub fn dot<T: Ring>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::zero(), |sum, (&x, &y)| sum + x * y)
}

/// `sum += factor * x`, element by element.
#[inline]
pub fn add_scaled<T: Ring>(sum: &mut [T], factor: T, x: &[T]) {
    for (s, &x) in sum.iter_mut().zip(x) {
        *s += factor * x;
    }
}
