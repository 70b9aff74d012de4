//! Random secrets of the gateway's own, made at its first start and kept in a file for its owner alone.

use std::path::Path;

use crate::file::read_or_make;
use crate::id::random_hex;

/// Characters below which what is in the file is no such secret, but what somebody left of one.
const CHARACTERS_MIN: usize = 32;

/// Reads the secret from `path`, or makes one of 256 bits and writes it there (mode 0600).
///
/// # Errors
/// Any I/O error.
pub fn load_or_make(path: &Path) -> std::io::Result<String> {
    let kept = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        (text.len() >= CHARACTERS_MIN).then(|| text.to_owned())
    };
    read_or_make(path, kept, || {
        let made = random_hex::<32>();
        Ok((made.clone().into_bytes(), made))
    })
}
