//! Inputs that are the same on every machine, drawn from Philox blocks.

use num_rational::Ratio;
use sus_reference::sus::uniform::philox4x32_10;

/// An exact number.
pub type Exact = Ratio<i128>;

/// A sequence of numbers, one for each kind of vector.
pub struct Numbers {
    kind: u32,
    drawn: u32,
}

impl Numbers {
    /// The numbers of a kind of vector.
    pub fn new(kind: u32) -> Self {
        Numbers { kind, drawn: 0 }
    }

    /// 32 random bits.
    pub fn word(&mut self) -> u32 {
        self.drawn += 1;
        philox4x32_10([self.drawn, self.kind, 0, 0], [21, 0])[0]
    }

    /// A number below `end`; the bias of at most `end / 2^32` does not matter here.
    pub fn below(&mut self, end: usize) -> usize {
        ((u64::from(self.word()) * end as u64) >> 32) as usize
    }

    /// A number of `first ..= last`.
    pub fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// True one time in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the given numbers.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A fraction in `[-most, most]` with a small denominator.
    pub fn signed(&mut self, most: i128) -> Exact {
        let denominator = self.choose(&[1, 1, 2, 3, 4, 5]);
        let span = most * denominator;
        Exact::new(self.below(2 * span as usize + 1) as i128 - span, denominator)
    }

    /// A fraction `n / denominator` of `[0, 1]`.
    pub fn part_of(&mut self, denominator: i128) -> Exact {
        Exact::new(self.below(denominator as usize + 1) as i128, denominator)
    }
}
