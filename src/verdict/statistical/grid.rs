//! Keep probabilities on a grid of `2^bits` steps: what coarse uniforms and thresholds make of `q`.

/// A threshold that is cut to so many bits.
pub(super) fn cut(q: f64, bits: i32) -> f64 {
    libm::scalbn(libm::floor(libm::scalbn(q, bits)), -bits)
}

/// A threshold that is rounded to so many bits.
pub(super) fn rounded(q: f64, bits: i32) -> f64 {
    libm::scalbn(libm::round(libm::scalbn(q, bits)), -bits)
}

/// A uniform of so many bits from 0 on, kept if it is below `q`.
pub(super) fn raised(q: f64, bits: i32) -> f64 {
    libm::scalbn(libm::ceil(libm::scalbn(q, bits)), -bits)
}
