//! SHA-256, of what is stored.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The SHA-256 of some bytes.
///
/// # Examples
/// ```
/// use sus_files::hash::sha256;
/// assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]); // FIPS 180-4's example
/// assert_ne!(sha256(b""), sha256(b"\0"));
/// ```
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Bytes in hexadecimal, two lower-case digits each.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// [`sha256`] in hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}
