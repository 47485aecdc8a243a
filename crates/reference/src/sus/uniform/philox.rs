//! Philox4x32: four words from a 128-bit counter and a 64-bit key.
//!
//! One round multiplies the two even words by fixed odd constants, and lets the high halves of the
//! products, the odd words and the key make the new even words (`c` counter, `k` key):
//!
//! ```text
//! (hi0, lo0) = M0 c0        (hi1, lo1) = M1 c2
//! c <- (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0)        k <- (k0 + W0, k1 + W1)
//! ```
//!
//! Every step is invertible, so for one key no two counters give the same block. There is no state: a word is a function
//! of its counter, so a kernel may visit the weights in any order.
//!
//! Source: Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3* (SC 2011), and its
//! known answers, which `tests/uniform.rs` checks.

/// The multipliers `M0`, `M1` of the two even words.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// The increment of each key word after a round: the golden ratio and `sqrt(3) - 1` as fractions of 2^32.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Philox4x32-10, the algorithm of `sus-u/1`.
///
/// ```
/// use sus_reference::sus::uniform::philox4x32_10;
/// assert_eq!(philox4x32_10([0; 4], [42, 0]), [0x9cea_f053, 0x77f5_493b, 0x12bf_50ad, 0x5742_b3d7]);
/// ```
#[must_use]
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox4x32(counter, key, 10)
}

/// Philox4x32 with any number of rounds.
///
/// cuRAND, Triton, `PyTorch` and `sus-u/1` use ten rounds, `FlashAttention`'s dropout seven. Zero rounds return the
/// counter.
///
/// ```
/// use sus_reference::sus::uniform::philox4x32;
/// assert_eq!(philox4x32([0; 4], [0; 2], 7), [0x5f6f_b709, 0x0d89_3f64, 0x4f12_1f81, 0x4f73_0a48]);
/// ```
#[must_use]
#[inline]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2], rounds: u32) -> [u32; 4] {
    let ([mut k0, mut k1], mut words) = (key, counter);
    for _ in 0..rounds {
        words = round(words, [k0, k1]);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    words
}

/// One round, without the key schedule.
#[inline]
fn round([c0, c1, c2, c3]: [u32; 4], [k0, k1]: [u32; 2]) -> [u32; 4] {
    let product0 = u64::from(MULTIPLIERS[0]) * u64::from(c0);
    let product1 = u64::from(MULTIPLIERS[1]) * u64::from(c2);
    let (high0, low0) = ((product0 >> 32) as u32, product0 as u32);
    let (high1, low1) = ((product1 >> 32) as u32, product1 as u32);
    [high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0]
}
