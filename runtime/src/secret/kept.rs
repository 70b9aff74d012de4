//! Random secrets of the gateway's own, made at its first start and kept in a file for its owner alone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::id::random_hex;

/// Characters below which what is in the file is no such secret, but what a crash left of one.
const CHARACTERS_MIN: usize = 32;

/// Reads the secret from `path`, or makes one of 256 bits and writes it there (mode 0600).
///
/// # Errors
/// Any I/O error.
pub fn load_or_make(path: &Path) -> std::io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= CHARACTERS_MIN => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let made = random_hex::<32>();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(made.as_bytes())?;
    file.sync_all()?;
    Ok(made)
}
