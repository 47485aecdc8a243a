//! The mutants, by type of bug.

mod bias;
mod delta;
mod heads;
mod indexing;
mod masks;
mod merging;
mod operands;
mod rounding;
mod scale;
mod softcap;
mod sus_arrival;
mod sus_masks;
mod sus_weights;

use super::simulated_kernel::State;
use super::{Kernel, define_kernels, only_if};
use sus_corpus::BugType;
use sus_reference::problem::Row;
use sus_reference::tensor::Tensor;

/// The mutants of each type of bug.
pub(super) const BY_TYPE: &[&[Kernel]] = &[
    indexing::KERNELS,
    delta::KERNELS,
    scale::KERNELS,
    softcap::KERNELS,
    masks::KERNELS,
    operands::KERNELS,
    heads::KERNELS,
    bias::KERNELS,
    merging::KERNELS,
    rounding::KERNELS,
    sus_weights::KERNELS,
    sus_masks::KERNELS,
    sus_arrival::KERNELS,
];

/// Mutants that no verdict can tell from a control, and why.
const INDISTINGUISHABLE: &[(&str, &str)] = &[(
    "equal_word_is_kept",
    "nowhere: it differs only where a word is `q 2^32` to the last bit, which any kernel that rounds may decide either way",
)];

impl Kernel {
    /// Why no verdict can tell this mutant from a control, if that is so.
    #[must_use]
    pub fn indistinguishable(&self) -> Option<&'static str> {
        INDISTINGUISHABLE.iter().find(|(name, _)| *name == self.name).map(|(_, why)| *why)
    }
}

impl State<'_> {
    /// Entries for which `lost` holds take no part in any sum.
    fn lose(&mut self, lost: impl Fn(Row, usize) -> bool) {
        for (at, _, row, j) in self.entries() {
            if lost(row, j) {
                (self.zq[at], self.zk[at], self.wv[at], self.ds[at]) = (0.0, 0.0, 0.0, 0.0);
            }
        }
    }

    /// Entries for which `lost` holds take no part in `dk` and `dv`.
    fn lose_keys(&mut self, lost: impl Fn(Row, usize) -> bool) {
        for (at, _, row, j) in self.entries() {
            if lost(row, j) {
                (self.zk[at], self.wv[at]) = (0.0, 0.0);
            }
        }
    }

    /// Sets the entries of a row's matrices that `seen` names as seen, but for those that a bias of `-inf` hides.
    fn see(&mut self, seen: impl Fn(Row, usize) -> bool) {
        for (at, _, row, j) in self.entries() {
            self.seen[at] = seen(row, j) && self.bias(row, j) > f64::NEG_INFINITY;
        }
    }

    /// Every entry of `p` by its score and `lse`, seen or not.
    fn unmasked_weight(&self, at: usize, lse: f64) -> f64 {
        self.exp(self.fl(self.s[at] - lse))
    }
}

/// The same tensor with each row read from elsewhere; `None` reads zeros.
fn read_rows(tensor: &Tensor<f64>, from: impl Fn([usize; 3]) -> Option<[usize; 3]>) -> Tensor<f64> {
    Tensor::from_fn(tensor.shape(), |[b, h, n, d]| {
        from([b, h, n]).map_or(0.0, |[b, h, n]| tensor.row(b, h, n)[d])
    })
}

/// The same tensor with every element read from another flat index; outside are zeros.
fn read_flat(tensor: &Tensor<f64>, from: impl Fn([usize; 4]) -> usize) -> Tensor<f64> {
    let data = tensor.as_slice();
    Tensor::from_fn(tensor.shape(), |at| data.get(from(at)).copied().unwrap_or(0.0))
}

/// The same tensor with every element written to another flat index: the last writer wins, and zeros stay where
/// nobody writes.
fn write_flat(tensor: &Tensor<f64>, to: impl Fn([usize; 4]) -> usize) -> Tensor<f64> {
    let mut out = Tensor::zeros(tensor.shape());
    let [batch, heads, positions, features] = tensor.shape();
    for b in 0..batch {
        for h in 0..heads {
            for n in 0..positions {
                for d in 0..features {
                    if let Some(x) = out.as_mut_slice().get_mut(to([b, h, n, d])) {
                        *x = tensor.row(b, h, n)[d];
                    }
                }
            }
        }
    }
    out
}
