//! `f32` and `f64` as SIMD vectors: the operations that the kernels use, and the choice of an instruction set.
//!
//! [`pulp`] detects the instruction set at run time and compiles each kernel once for each of them. Without one that it
//! knows, or on request, the kernels run [portably](Dispatch::Portable), one lane wide and without fused operations.
//! Results depend on that choice in their last bits, and on nothing else about the machine.

use super::kernels::Kernels;
use pulp::{Arch, Simd, WithSimd};
use sus_reference::scalar::Scalar;

/// Which instructions the kernels use.
///
/// # Examples
/// ```
/// use sus_fast::{Dispatch, Workspace, forward};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// // The machine's own instructions may give other last bits, and no more than that.
/// let [native, portable] = [Dispatch::Native, Dispatch::Portable].map(|it| forward(&problem, &mut Workspace::new(it)));
/// let pairs = native.lse.as_slice().iter().zip(portable.lse.as_slice());
/// assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-13));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dispatch {
    /// The widest vectors that this machine has.
    #[default]
    Native,
    /// AVX2 with fused operations and no wider vectors, where this machine has it; else as [`Native`](Dispatch::Native).
    Avx2,
    /// No vector instructions beyond the target's baseline.
    Portable,
}

impl Dispatch {
    /// Every choice.
    pub const ALL: [Self; 3] = [Dispatch::Native, Dispatch::Avx2, Dispatch::Portable];

    /// Runs a kernel.
    pub(super) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self {
            Dispatch::Native => Arch::new().dispatch(kernel),
            Dispatch::Avx2 => {
                #[cfg(target_arch = "x86_64")]
                if let Some(avx2) = pulp::x86::V3::try_new() {
                    return Simd::vectorize(avx2, kernel);
                }
                Arch::new().dispatch(kernel)
            }
            Dispatch::Portable => Simd::vectorize(pulp::Scalar, kernel),
        }
    }

    /// The instructions that kernels run with here: `avx512`, `avx2`, `neon`, or `portable`.
    ///
    /// # Examples
    /// ```
    /// use sus_fast::Dispatch;
    /// assert_eq!(Dispatch::Portable.instructions(), "portable");
    /// assert!(["avx512", "avx2", "neon", "portable"].contains(&Dispatch::Native.instructions()));
    /// ```
    #[must_use]
    pub fn instructions(self) -> &'static str {
        #[cfg(target_arch = "x86_64")]
        if self != Dispatch::Portable {
            if self == Dispatch::Native && pulp::x86::V4::try_new().is_some() {
                return "avx512";
            }
            if pulp::x86::V3::try_new().is_some() {
                return "avx2";
            }
        }
        #[cfg(target_arch = "aarch64")]
        if self != Dispatch::Portable && pulp::aarch64::Neon::try_new().is_some() {
            return "neon";
        }
        "portable"
    }
}

/// `f32` and `f64`, with their vectors. Nothing else implements it.
///
/// # Examples
/// ```
/// use sus_fast::{Real, evaluate};
/// use sus_reference::problem::Problem;
/// fn largest_dq<T: Real>(problem: &Problem<f64>) -> Result<f64, sus_reference::Error> {
///     let gradients = evaluate::<T>(problem, None, None)?.evaluation.gradients;
///     Ok(gradients.dq.as_slice().iter().fold(0.0, |largest, x| x.to_f64().abs().max(largest)))
/// }
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let (single, double) = (largest_dq::<f32>(&problem)?, largest_dq::<f64>(&problem)?);
/// assert!(single != double && (single / double - 1.0).abs() < 1e-4);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub trait Real: Scalar + Default + private::Vectors + Kernels {}

/// Lanes of the widest vector.
pub(super) const MAX_LANES: usize = 16;

/// Bits of a lane that can be set.
pub(super) const MARKS: usize = 32;

impl Real for f32 {}
impl Real for f64 {}

pub(super) mod private {
    use super::super::exp::Series;
    use pulp::Simd;

    /// Vector operations.
    pub trait Vectors: Sized + Copy + Series {
        /// A vector of an instruction set.
        type Vector<S: Simd>: Copy;
        /// The unit roundoff `u`.
        const ROUNDOFF: f64;
        /// Keys side by side in a packed panel: four vectors of the widest kind.
        const PANEL: usize;
        /// A row of a tile: three panels wide, a multiple of the six rows that a product holds in registers.
        type TileRow: Copy + Send + Sync + AsRef<[Self]> + AsMut<[Self]> + std::fmt::Debug;
        /// A row of zeros.
        const BLANK: Self::TileRow;
        /// A tile as one slice.
        fn flat(tile: &mut [Self::TileRow]) -> &mut [Self];
        /// The elements as whole vectors and a rest.
        fn vectors<S: Simd>(x: &[Self]) -> (&[Self::Vector<S>], &[Self]);
        /// The elements as whole vectors and a rest, to write.
        fn vectors_mut<S: Simd>(x: &mut [Self]) -> (&mut [Self::Vector<S>], &mut [Self]);
        /// Fewer elements than a vector has, then zeros.
        fn load_part<S: Simd>(simd: S, x: &[Self]) -> Self::Vector<S>;
        /// The first elements of a vector.
        fn store_part<S: Simd>(simd: S, x: &mut [Self], vector: Self::Vector<S>);
        /// The same number in every lane.
        fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
        /// `a + b`.
        fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
        /// `a - b`.
        fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
        /// `a b`.
        fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
        /// `a / b`.
        fn over<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
        /// `a b + c`, rounded once where the machine can.
        fn multiply_add<S: Simd>(
            simd: S,
            a: Self::Vector<S>,
            b: Self::Vector<S>,
            c: Self::Vector<S>,
        ) -> Self::Vector<S>;
        /// The larger number of each lane.
        fn larger<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
        /// The smaller number of each lane.
        fn smaller<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
        /// `a` in the lanes where the first of `xy` is below the second, else `b`: also where one of the two is NaN.
        fn where_below<S: Simd>(
            simd: S,
            xy: [Self::Vector<S>; 2],
            a: Self::Vector<S>,
            b: Self::Vector<S>,
        ) -> Self::Vector<S>;
        /// `2^n`, from `n` plus the [`SHIFTER`](Series::SHIFTER): its exponent field is 0 for the least `n`, which is zero, and all ones
        /// for the largest, which is infinity.
        fn power_of_two<S: Simd>(simd: S, shifted: Self::Vector<S>) -> Self::Vector<S>;
        /// The sum of the lanes.
        fn sum<S: Simd>(simd: S, x: Self::Vector<S>) -> Self;
        /// The largest lane.
        fn largest<S: Simd>(simd: S, x: Self::Vector<S>) -> Self;
        /// Bits for each lane.
        type Marks<S: Simd>: Copy;
        /// No bit.
        fn no_marks<S: Simd>(simd: S) -> Self::Marks<S>;
        /// Sets this bit, below [`MARKS`](super::MARKS), of the lanes that are at most 0.
        fn mark<S: Simd>(
            simd: S,
            marks: Self::Marks<S>,
            x: Self::Vector<S>,
            bit: usize,
        ) -> Self::Marks<S>;
        /// The bits of each lane; zeros beyond the last one.
        fn marks_of_lanes<S: Simd>(marks: Self::Marks<S>) -> [u32; super::MAX_LANES];
        /// A random word, rounded to nearest.
        fn from_word(x: u32) -> Self;
    }
}

macro_rules! vectors_of {
    (
        $t:ty, $vector:ident, $panel:literal, $as:ident, $as_mut:ident, $load:ident, $store:ident,
        $splat:ident, $add:ident, $subtract:ident, $multiply:ident, $divide:ident, $multiply_add:ident, $larger:ident, $smaller:ident,
        ($below:ident, $choose:ident), $power_of_two:ident, $sum:ident, $largest:ident,
        ($bits:ty, $marks:ident, $as_mut_marks:ident, $splat_marks:ident, $or:ident, $select:ident, $at_most:ident)
    ) => {
        impl private::Vectors for $t {
            type Vector<S: Simd> = S::$vector;
            const ROUNDOFF: f64 = <$t>::EPSILON as f64 / 2.0;
            const PANEL: usize = $panel;
            type TileRow = [$t; 3 * $panel];
            const BLANK: Self::TileRow = [0.0; 3 * $panel];
            #[inline(always)]
            fn flat(tile: &mut [Self::TileRow]) -> &mut [Self] {
                tile.as_flattened_mut()
            }
            #[inline(always)]
            fn vectors<S: Simd>(x: &[Self]) -> (&[S::$vector], &[Self]) {
                S::$as(x)
            }
            #[inline(always)]
            fn vectors_mut<S: Simd>(x: &mut [Self]) -> (&mut [S::$vector], &mut [Self]) {
                S::$as_mut(x)
            }
            #[inline(always)]
            fn load_part<S: Simd>(simd: S, x: &[Self]) -> S::$vector {
                simd.$load(x)
            }
            #[inline(always)]
            fn store_part<S: Simd>(simd: S, x: &mut [Self], vector: S::$vector) {
                simd.$store(x, vector);
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$vector {
                simd.$splat(x)
            }
            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$subtract(a, b)
            }
            #[inline(always)]
            fn times<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$multiply(a, b)
            }
            #[inline(always)]
            fn over<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$divide(a, b)
            }
            #[inline(always)]
            fn multiply_add<S: Simd>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                c: S::$vector,
            ) -> S::$vector {
                simd.$multiply_add(a, b, c)
            }
            #[inline(always)]
            fn larger<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$larger(a, b)
            }
            #[inline(always)]
            fn smaller<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$smaller(a, b)
            }
            #[inline(always)]
            fn where_below<S: Simd>(
                simd: S,
                [x, y]: [S::$vector; 2],
                a: S::$vector,
                b: S::$vector,
            ) -> S::$vector {
                simd.$choose(simd.$below(x, y), a, b)
            }
            #[inline(always)]
            fn power_of_two<S: Simd>(simd: S, shifted: S::$vector) -> S::$vector {
                $power_of_two(simd, shifted)
            }
            #[inline(always)]
            fn sum<S: Simd>(simd: S, x: S::$vector) -> Self {
                simd.$sum(x)
            }
            #[inline(always)]
            fn largest<S: Simd>(simd: S, x: S::$vector) -> Self {
                simd.$largest(x)
            }
            type Marks<S: Simd> = S::$marks;
            #[inline(always)]
            fn no_marks<S: Simd>(simd: S) -> S::$marks {
                simd.$splat_marks(0)
            }
            #[inline(always)]
            fn mark<S: Simd>(simd: S, marks: S::$marks, x: S::$vector, bit: usize) -> S::$marks {
                let chosen = simd.$at_most(x, simd.$splat(0.0));
                let bits = simd.$splat_marks(1 << bit);
                simd.$or(marks, simd.$select(chosen, bits, simd.$splat_marks(0)))
            }
            #[inline(always)]
            fn marks_of_lanes<S: Simd>(marks: S::$marks) -> [u32; MAX_LANES] {
                let mut lanes: [$bits; MAX_LANES] = [0; MAX_LANES];
                S::$as_mut_marks(&mut lanes).0[0] = marks;
                lanes.map(|bits| bits as u32)
            }
            #[inline(always)]
            fn from_word(x: u32) -> Self {
                x as $t
            }
        }
    };
}

vectors_of!(
    f64,
    f64s,
    32,
    as_simd_f64s,
    as_mut_simd_f64s,
    partial_load_f64s,
    partial_store_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    div_f64s,
    mul_add_e_f64s,
    max_f64s,
    min_f64s,
    (less_than_f64s, select_f64s),
    power_of_two_f64,
    reduce_sum_f64s,
    reduce_max_f64s,
    (u64, u64s, as_mut_simd_u64s, splat_u64s, or_u64s, select_u64s, less_than_or_equal_f64s)
);
vectors_of!(
    f32,
    f32s,
    64,
    as_simd_f32s,
    as_mut_simd_f32s,
    partial_load_f32s,
    partial_store_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    div_f32s,
    mul_add_e_f32s,
    max_f32s,
    min_f32s,
    (less_than_f32s, select_f32s),
    power_of_two_f32,
    reduce_sum_f32s,
    reduce_max_f32s,
    (u32, u32s, as_mut_simd_u32s, splat_u32s, or_u32s, select_u32s, less_than_or_equal_f32s)
);

/// See [`power_of_two`](private::Vectors::power_of_two). The compiler makes one shift of a vector of this loop.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled for the instruction set of its caller")]
fn power_of_two_f64<S: Simd>(_: S, shifted: S::f64s) -> S::f64s {
    let mut lanes = [0.0_f64; MAX_LANES];
    S::as_mut_simd_f64s(&mut lanes).0[0] = shifted;
    for x in &mut lanes[..S::F64_LANES] {
        *x = f64::from_bits(x.to_bits().wrapping_add(1023) << 52);
    }
    S::as_simd_f64s(&lanes).0[0]
}

/// The same in 32 bits.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled for the instruction set of its caller")]
fn power_of_two_f32<S: Simd>(simd: S, shifted: S::f32s) -> S::f32s {
    let n = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(n, simd.splat_u32s(23)))
}
