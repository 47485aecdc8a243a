//! Keys (or values) of one head, transposed and cut into panels: in a panel, the same feature of neighbouring keys lies side by
//! side, which is how the scores of one query and many keys are computed in vectors.

use super::product::Right;
use super::simd::Real;
use aligned_vec::AVec;
use rayon::prelude::*;

/// The rows `[n][features]` of one head as panels `[ceil(n / PANEL)][features][PANEL]`, the last one filled up with zeros.
#[derive(Debug, Clone)]
pub(super) struct Panels<T> {
    data: AVec<T>,
    features: usize,
}

impl<T> Default for Panels<T> {
    fn default() -> Self {
        Panels { data: AVec::new(0), features: 0 }
    }
}

impl<T: Real> Panels<T> {
    /// Packs anew, keeping the memory.
    pub(super) fn pack(&mut self, rows: &[T], features: usize) {
        let size = features * T::PANEL;
        let count = (rows.len() / features).div_ceil(T::PANEL);
        self.features = features;
        self.data.clear();
        self.data.resize(count * size, T::zero());
        let panels = self.data.par_chunks_mut(size).zip(rows.par_chunks(size));
        panels.for_each(|(panel, rows)| {
            for (n, row) in rows.chunks_exact(features).enumerate() {
                for (d, &x) in row.iter().enumerate() {
                    panel[d * T::PANEL + n] = x;
                }
            }
        });
    }

    /// The panel that begins at key `number PANEL`.
    pub(super) fn panel(&self, number: usize) -> Right<'_, T> {
        let size = self.features * T::PANEL;
        Right { data: &self.data[number * size..][..size], stride: T::PANEL }
    }
}

/// Packs each head `[n][features]` of a tensor.
pub(super) fn pack_heads<T: Real>(
    panels: &mut Vec<Panels<T>>,
    data: &[T],
    n: usize,
    features: usize,
) {
    let heads = data.chunks(if n == 0 { 1 } else { n * features });
    panels.resize_with(heads.len(), Panels::default);
    for (panels, rows) in panels.iter_mut().zip(heads) {
        panels.pack(rows, features);
    }
}
