//! Threefry2x32: two words from a 64-bit counter and a 64-bit key, by adding, rotating and xoring only.
//!
//! With `k2 = k0 ^ k1 ^ PARITY`, the counter starts as `x = c + (k0, k1)`; a round is
//! `x0 += x1; x1 = rotl(x1, R[round mod 8]) ^ x0`; and after every fourth round, the `s`-th time,
//! `x += (k[s mod 3], k[(s + 1) mod 3] + s)`.
//!
//! Source: Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3* (SC 2011), after the
//! block cipher Threefish. JAX draws from the 20-round form by default.

/// A constant of the third key word, so that a zero key does not make it zero.
const PARITY: u32 = 0x1bd1_1bda;
/// The rotation of each of eight consecutive rounds, in bits.
const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];

/// Threefry2x32 with a given number of rounds: 20 is JAX's, 13 the fewest that its authors found to pass
/// every statistical test.
///
/// ```
/// use sus_reference::sus::uniform::threefry2x32;
/// let [x0, x1] = threefry2x32([0, 0], [0, 42], 20);
/// assert_eq!(x0 ^ x1, 0x7d1c_13a2); // the first word of jax.random.bits(jax.random.key(42), ...)
/// ```
#[must_use]
#[inline]
pub fn threefry2x32(counter: [u32; 2], key: [u32; 2], rounds: u32) -> [u32; 2] {
    let schedule = [key[0], key[1], key[0] ^ key[1] ^ PARITY];
    let mut x0 = counter[0].wrapping_add(schedule[0]);
    let mut x1 = counter[1].wrapping_add(schedule[1]);
    for round in 0..rounds {
        x0 = x0.wrapping_add(x1);
        x1 = x1.rotate_left(ROTATIONS[(round % 8) as usize]) ^ x0;
        if round % 4 == 3 {
            let s = round / 4 + 1;
            x0 = x0.wrapping_add(schedule[(s % 3) as usize]);
            x1 = x1.wrapping_add(schedule[((s + 1) % 3) as usize]).wrapping_add(s);
        }
    }
    [x0, x1]
}
