//! The sizes of tiles, and the slice of one head.

use super::simd::Real;

/// Rows of a tile.
pub(super) const ROWS: usize = 96;

/// Keys of a tile, at most.
pub(super) const MAX_TILE: usize = tile::<f32>();

/// Keys of a tile: three panels, a multiple of the six rows that a product holds in registers.
pub(super) const fn tile<T: Real>() -> usize {
    3 * T::PANEL
}

/// The part of a tensor that belongs to one head.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a slice")]
pub(super) fn head<T>(data: &[T], number: usize, size: usize) -> &[T] {
    &data[number * size..][..size]
}
