//! Secrets: where they come from, and how they are kept from showing.
//!
//! A [`Secret`] prints nothing and is wiped when it is dropped. Guests never see one: they write `{{name}}` and the
//! egress gate puts the value in ([`keyring`]), or they ask the host to sign ([`signing`]). What comes back, and what
//! is logged, passes through a [`Redactor`] first.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::limit;

pub mod kept;
mod kernel;
pub mod keyring;
pub mod redact;
pub mod signing;
mod template;

pub use keyring::{BoundSecret, Keyring, Placements};
pub use redact::{Redactor, StreamRedactor};
pub use signing::Signing;

/// A value that must not show. Never empty; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the value.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Returns the value. Each caller is a place where it could leak: it goes into a request or a key, nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where an operator keeps a secret: `{ env = "NAME" }`, `{ file = "PATH" }` or `{ keyring = "NAME" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file that only its owner can read.
    File(PathBuf),
    /// A key of type `user` in the Linux kernel's keyring of the session or the user.
    Keyring(String),
}

/// Why a secret could not be loaded, with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set: export it before the start, or name a file instead")]
    VariableMissing(String),
    /// The variable holds bytes that are no text.
    #[error("the environment variable {0} is not UTF-8 text")]
    VariableNotText(String),
    /// The file can't be read.
    #[error("can't read the secret file {path}: check that it exists and that the gateway's user may read it")]
    Unreadable {
        /// As configured.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// It is a directory, a device, or the like.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// Others than the owner may read it.
    #[error("{0} can be read by others than its owner: run `chmod 600 {0}`")]
    Exposed(PathBuf),
    /// Nothing but line breaks.
    #[error("{0} is empty")]
    Empty(SecretSource),
    /// Longer than [`limit::SECRET_BYTES_MAX`].
    #[error("{0} is longer than 64 KiB: this is no secret")]
    TooLong(SecretSource),
    /// What is there is not text.
    #[error("{0} is not UTF-8 text: encode the secret, for instance in hexadecimal")]
    NotText(SecretSource),
    /// The kernel has no such key for this user.
    #[error("the kernel's keyring has no key {0}: run `keyctl padd user {0} @u` as the gateway's user")]
    KeyMissing(String),
    /// The key or the keyring can't be used.
    #[error("the key {name} of the kernel's keyring can't be read: {reason}; name a file instead")]
    KeyUnusable {
        /// As configured.
        name: String,
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Keyring(name) => write!(f, "the key {name} of the kernel's keyring"),
        }
    }
}

impl SecretSource {
    /// Loads the value. Line breaks at its end are dropped.
    ///
    /// # Errors
    /// What is missing or unsafe, and what to do; never the value.
    pub fn load(&self) -> Result<Secret, SecretError> {
        let text = match self {
            Self::Env(name) => read_variable(name)?,
            Self::File(path) => self.text(self.read_file(path)?)?,
            Self::Keyring(name) => self.text(kernel::read(name)?)?,
        };
        let trimmed = text.trim_end_matches(['\r', '\n']);
        if trimmed.is_empty() {
            return Err(SecretError::Empty(self.clone()));
        }
        if trimmed.len() > limit::SECRET_BYTES_MAX {
            return Err(SecretError::TooLong(self.clone()));
        }
        Ok(Secret::new(trimmed.to_owned()))
    }

    fn read_file(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let unreadable = |source| SecretError::Unreadable {
            path: path.to_owned(),
            source,
        };
        // A pipe or a device would block or never end: looked at before it is opened.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(SecretError::NotAFile(path.to_owned()));
        }
        let file = std::fs::File::open(path).map_err(unreadable)?;
        refuse_exposed(path, &file.metadata().map_err(unreadable)?)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        file.take(limit::SECRET_BYTES_MAX as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Ok(bytes)
    }

    fn text(&self, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, SecretError> {
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            Err(_) => Err(SecretError::NotText(self.clone())),
        }
    }
}

fn read_variable(name: &str) -> Result<Zeroizing<String>, SecretError> {
    match std::env::var(name) {
        Ok(value) => Ok(Zeroizing::new(value)),
        Err(std::env::VarError::NotPresent) => Err(SecretError::VariableMissing(name.to_owned())),
        Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::VariableNotText(name.to_owned())),
    }
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &std::fs::Metadata) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt as _;
    if metadata.permissions().mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(SecretError::Exposed(path.to_owned()))
    }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &std::fs::Metadata) -> Result<(), SecretError> {
    Ok(())
}

/// Reads hexadecimal of either case.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, SecretSource::File(path))
    }

    #[test]
    fn nothing_shows_a_secret() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(
            format!("{secret} {secret:?} {:#?}", Some(&secret))
                .matches("hunter2")
                .count(),
            0
        );
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_line_break() {
        let (_folder, source) = file(b"123:abc\r\n", 0o600);
        assert_eq!(source.load().unwrap().expose(), "123:abc");
        let (_folder, source) = file(b" spaces stay ", 0o400);
        assert_eq!(source.load().unwrap().expose(), " spaces stay ");
    }

    #[test]
    fn each_wrong_file_has_its_remedy() {
        for (content, mode, expected) in [
            (&b"x"[..], 0o644, "chmod 600"),
            (b"x", 0o640, "chmod 600"),
            (b"\n\n", 0o600, "empty"),
            (b"", 0o600, "empty"),
            (&[0xff, 0xfe], 0o600, "not UTF-8"),
            (&[b'x'; 64 * 1024 + 1], 0o600, "longer than 64 KiB"),
        ] {
            let (_folder, source) = file(content, mode);
            let message = source.load().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let (folder, _) = file(b"x", 0o600);
        let missing = SecretSource::File(folder.path().join("missing"));
        assert!(missing.load().unwrap_err().to_string().contains("check that it exists"));
        assert!(matches!(
            SecretSource::File(folder.path().into()).load(),
            Err(SecretError::NotAFile(_))
        ));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let source = SecretSource::Env("SLUICEGATE_TEST_NO_SUCH_VARIABLE".into());
        assert!(
            source
                .load()
                .unwrap_err()
                .to_string()
                .contains("SLUICEGATE_TEST_NO_SUCH_VARIABLE")
        );
        // Set for every test by cargo.
        assert!(
            !SecretSource::Env("CARGO_MANIFEST_DIR".into())
                .load()
                .unwrap()
                .expose()
                .is_empty()
        );
    }

    #[test]
    fn a_source_has_three_forms_and_no_others() {
        #[derive(Deserialize)]
        struct File {
            secret: SecretSource,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.secret);
        assert_eq!(
            read(r#"secret = { env = "X" }"#).unwrap(),
            SecretSource::Env("X".into())
        );
        assert_eq!(
            read(r#"secret = { file = "/x" }"#).unwrap(),
            SecretSource::File("/x".into())
        );
        assert_eq!(
            read(r#"secret = { keyring = "x" }"#).unwrap(),
            SecretSource::Keyring("x".into())
        );
        for wrong in [
            r#"secret = "x""#,
            r#"secret = { value = "x" }"#,
            r#"secret = { env = "X", file = "x" }"#,
            "secret = {}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hexadecimal_is_read_in_either_case_and_nothing_else_is() {
        assert_eq!(from_hex("00fFA0"), Some(vec![0, 255, 160]));
        for wrong in ["0", "0g", "+1", "é", "0x00", " 00"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
