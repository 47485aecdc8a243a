//! Sets of runs, one bit for each run, and the number of runs in them, counted by the population count of the processor.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was compiled for"
)]

use pulp::{Arch, Simd, WithSimd};

/// The runs below `runs` that are `inside`.
pub(super) fn select(runs: usize, inside: impl Fn(usize) -> bool) -> Vec<u64> {
    let mut set = vec![0_u64; runs.div_ceil(64)];
    for run in (0..runs).filter(|&run| inside(run)) {
        set[run / 64] |= 1 << (run % 64);
    }
    set
}

/// The runs below `runs` in every second block of `block` runs, from the first block on or from the second.
pub(super) fn alternate(runs: usize, block: usize, second: bool) -> Vec<u64> {
    let mut set = vec![0_u64; runs.div_ceil(64)];
    let mut start = if second { block } else { 0 };
    while start < runs {
        for run in start..runs.min(start + block) {
            set[run / 64] |= 1 << (run % 64);
        }
        start += 2 * block;
    }
    set
}

/// The same set, `lag` runs earlier.
pub(super) fn earlier(set: &[u64], lag: usize) -> Vec<u64> {
    (0..set.len()).map(|n| word(set, n, lag)).collect()
}

/// Word `n` of the set `lag` runs earlier.
#[inline(always)]
fn word(set: &[u64], n: usize, lag: usize) -> u64 {
    let (words, rest) = (lag / 64, lag % 64);
    let of = |n: usize| set.get(n).copied().unwrap_or(0);
    let low = of(n + words) >> rest;
    if rest == 0 { low } else { low | of(n + words + 1) << (64 - rest) }
}

/// The number of runs in a set.
pub(super) fn count(set: &[u64]) -> f64 {
    counts_in_both(&[set], set)[0]
}

/// The number of runs that are in `other` and in each of `sets`.
pub(super) fn counts_in_both<A: AsRef<[u64]>>(sets: &[A], other: &[u64]) -> Vec<f64> {
    Arch::new().dispatch(Both { sets, other })
}

struct Both<'a, A> {
    sets: &'a [A],
    other: &'a [u64],
}

impl<A: AsRef<[u64]>> WithSimd for Both<'_, A> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f64> {
        let mut counts = vec![0.0; self.sets.len()];
        for (count, set) in counts.iter_mut().zip(self.sets) {
            let mut ones = 0;
            for (a, b) in set.as_ref().iter().zip(self.other) {
                ones += (a & b).count_ones();
            }
            *count = f64::from(ones);
        }
        counts
    }
}

/// Pairs of sets, the second `lag` runs later, over the runs in `starts`.
pub(super) struct Together<'a> {
    pub sets: &'a [Vec<u64>],
    pub pairs: &'a [(usize, usize)],
    pub starts: &'a [u64],
    pub lag: usize,
}

impl Together<'_> {
    /// For each pair, the number of runs of the first set, of the second, and of both.
    pub(super) fn counts(self) -> Vec<[f64; 3]> {
        Arch::new().dispatch(self)
    }
}

impl WithSimd for Together<'_> {
    type Output = Vec<[f64; 3]>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let mut counts = vec![[0.0; 3]; self.pairs.len()];
        for (counts, &(a, b)) in counts.iter_mut().zip(self.pairs) {
            let (first, second) = (&self.sets[a], &self.sets[b]);
            let mut ones = [0_u32; 3];
            for (n, (start, a)) in self.starts.iter().zip(first).enumerate() {
                let (a, b) = (start & a, start & word(second, n, self.lag));
                ones[0] += a.count_ones();
                ones[1] += b.count_ones();
                ones[2] += (a & b).count_ones();
            }
            *counts = [f64::from(ones[0]), f64::from(ones[1]), f64::from(ones[2])];
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::{Together, alternate, count, counts_in_both, earlier, select};

    /// All operations against those on one run at a time.
    #[test]
    fn sets_of_bits_are_sets_of_runs() {
        for (runs, lag) in [(1, 0), (63, 1), (64, 64), (65, 3), (200, 64), (200, 130), (1000, 7)] {
            let has = |n: usize, run: usize| {
                run < runs && (run * run + 7 * run / 3 + n).is_multiple_of(n + 2)
            };
            let sets: Vec<Vec<u64>> = (0..3).map(|n| select(runs, |run| has(n, run))).collect();
            for (n, set) in sets.iter().enumerate() {
                let number =
                    |of: &dyn Fn(usize) -> bool| (0..runs).filter(|&run| of(run)).count() as f64;
                assert_eq!(count(set), number(&|run| has(n, run)), "{runs}");
                assert_eq!(
                    earlier(set, lag),
                    select(runs, |run| has(n, run + lag)),
                    "{runs} {lag}"
                );
                let both = counts_in_both(&sets, set);
                assert!((0..3).all(|m| both[m] == number(&|run| has(n, run) && has(m, run))));
                for second in [false, true] {
                    let starts = alternate(runs - runs.min(lag), lag.max(1), second);
                    let inside =
                        |run: usize| run + lag < runs && (run / lag.max(1) % 2 == 1) == second;
                    assert_eq!(count(&starts), number(&inside), "{runs} {lag} {second}");
                    let pairs =
                        Together { sets: &sets, pairs: &[(n, 2 - n)], starts: &starts, lag };
                    let expected = [
                        number(&|run| inside(run) && has(n, run)),
                        number(&|run| inside(run) && has(2 - n, run + lag)),
                        number(&|run| inside(run) && has(n, run) && has(2 - n, run + lag)),
                    ];
                    assert_eq!(pairs.counts(), [expected], "{runs} {lag} {second}");
                }
            }
        }
    }
}
