//! Keep probabilities on a grid of `2^bits` steps: the effective `q` of coarse uniforms and thresholds.

/// A threshold truncated to `bits` bits.
pub(super) fn cut(q: f64, bits: i32) -> f64 {
    libm::scalbn(libm::floor(libm::scalbn(q, bits)), -bits)
}

/// A threshold rounded to `bits` bits.
pub(super) fn rounded(q: f64, bits: i32) -> f64 {
    libm::scalbn(libm::round(libm::scalbn(q, bits)), -bits)
}

/// The probability that a uniform of `bits` bits, from 0 on, is below `q`.
pub(super) fn raised(q: f64, bits: i32) -> f64 {
    libm::scalbn(libm::ceil(libm::scalbn(q, bits)), -bits)
}

/// The floats of `bits` significant bits next to `q`: at or below it, and at or above it.
pub(super) fn neighbours(q: f64, bits: i32) -> [f64; 2] {
    let scale = bits - 1 - libm::ilogb(q);
    let x = libm::scalbn(q, scale);
    [libm::floor(x), libm::ceil(x)].map(|x| libm::scalbn(x, -scale))
}

/// `q` rounded to a float of `bits` significant bits.
pub(super) fn float(q: f64, bits: i32) -> f64 {
    let [low, high] = neighbours(q, bits);
    if q - low <= high - q { low } else { high }
}

/// The middle between two neighbours: a uniform that is rounded to a float is below `q` if it was below the middle.
pub(super) fn middle([low, high]: [f64; 2]) -> f64 {
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::{float, middle, neighbours};

    #[test]
    fn floats_of_eight_significant_bits_are_those_of_bf16() {
        for n in 1..2000 {
            let q = f64::from(n) / 2000.3;
            let bf16 = f64::from(half::bf16::from_f64(q));
            let [low, high] = neighbours(q, 8);
            assert_eq!(float(q, 8), bf16);
            assert!(low < q && q < high && (bf16 == low || bf16 == high), "{q}");
            // A number a little below the middle is rounded below q, one above is not.
            let near = |x: f64| f64::from(half::bf16::from_f64(x));
            assert!(near(middle([low, high]) * (1.0 - 1e-5)) < q);
            assert!(near(middle([low, high]) * (1.0 + 1e-5)) > q);
        }
        assert_eq!(neighbours(0.375, 8), [0.375; 2]);
    }
}
