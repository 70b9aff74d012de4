//! Compiled code on disk, so that a start takes milliseconds and not seconds.
//!
//! Loading compiled code trusts it completely. So the folder belongs to its owner alone, files are named by the
//! component's digest and the engine's version, and each carries an HMAC under a key of its name that only this data
//! directory can make: a file that anything else wrote, or that was damaged or renamed, is ignored and made again.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::file::{read_or_make, write_whole};

const TAG_BYTES: usize = 32;
const KEY_BYTES: usize = 32;

/// The folder of compiled code.
pub struct CodeCache {
    folder: PathBuf,
    key: hmac::Key,
}

impl CodeCache {
    /// Returns where the cache of a data directory is.
    pub fn folder_of(data: &Path) -> PathBuf {
        data.join("cache")
    }

    /// Opens the cache in `folder`, making it (mode 0700) and its key (mode 0600) where they are missing.
    ///
    /// # Errors
    /// Any I/O error, and a folder that others can write to.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if fs::metadata(folder)?.permissions().mode() & 0o022 != 0 {
            return Err(std::io::Error::other(format!(
                "{} can be written by others; run `chmod 700 {}`",
                folder.display(),
                folder.display()
            )));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &load_key(&folder.join("key"))?);
        Ok(Self {
            folder: folder.to_owned(),
            key,
        })
    }

    /// Returns the compiled component, if this very engine compiled it before.
    pub fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let name = file_name(engine, digest);
        let stored = fs::read(self.folder.join(&name)).ok()?;
        let (tag, code) = stored.split_at_checked(TAG_BYTES)?;
        hmac::verify(&self.key_of(&name), code, tag).ok()?;
        load(engine, code).ok()
    }

    /// Stores a component's compiled code. A failure is logged and costs only time at the next start.
    pub fn put(&self, engine: &Engine, digest: &str, code: &[u8]) {
        let name = file_name(engine, digest);
        if let Err(error) = self.write(&name, code) {
            let path = self.folder.join(name);
            tracing::warn!(path = %path.display(), %error, "compiled code was not cached");
        }
    }

    fn write(&self, name: &str, code: &[u8]) -> std::io::Result<()> {
        let path = self.folder.join(name);
        let tag = hmac::sign(&self.key_of(name), code);
        write_whole(&path, &[tag.as_ref(), code])
    }

    /// Returns the key of one file: code of one component is no code of another.
    fn key_of(&self, name: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.key, name.as_bytes()).as_ref())
    }
}

/// The name of a component's code for this very engine.
fn file_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}.cwasm", hasher.finish())
}

fn load_key(path: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    read_or_make(
        path,
        |kept| kept.try_into().ok(),
        || {
            let mut key = [0_u8; KEY_BYTES];
            SystemRandom::new()
                .fill(&mut key)
                .map_err(|_| std::io::Error::other("no random bytes"))?;
            Ok((key.to_vec(), key))
        },
    )
}

#[expect(
    unsafe_code,
    reason = "wasmtime can't check compiled code; it comes from our own compiler, or a cache that proves that it did"
)]
pub(super) fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what `Engine::precompile_component` gave. Either they come straight from the process that
    // compiled, over a pipe that nobody else has; or from a file whose HMAC was made by `put` under a key that never leaves
    // the owner-only folder.
    unsafe { Component::deserialize(engine, code) }
}
