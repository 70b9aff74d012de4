//! Files that people or the bot sent.

use serde_json::{Value, json};

use crate::state::State;

/// The largest file that the Bot API hands out, bytes (core.telegram.org/bots/api#getfile).
const DOWNLOAD_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// A stored file.
#[derive(Debug, Clone)]
pub(crate) struct StoredFile {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// What the fake says of its size, which a test may have changed.
    pub(crate) size: u64,
}

impl State {
    /// Stores a file and returns its id.
    pub(crate) fn add_file(&mut self, name: &str, bytes: Vec<u8>) -> String {
        let number = self.files.len() + 1;
        let file_id = format!("BQACAgIAAxkBAAIfake{number:06}");
        let size = bytes.len() as u64;
        let path = format!("documents/file_{number}_{}", name.replace(['/', '\\', ' '], "_"));
        self.files.insert(file_id.clone(), StoredFile { path, bytes, size });
        file_id
    }

    /// Pretends another size.
    pub(crate) fn set_file_size(&mut self, file_id: &str, size: u64) {
        if let Some(file) = self.files.get_mut(file_id) {
            file.size = size;
        }
    }

    /// Answers `getFile`.
    pub(crate) fn get_file(&self, file_id: &str) -> Result<Value, String> {
        let file = self.files.get(file_id).ok_or("Bad Request: invalid file_id")?;
        if file.size > DOWNLOAD_BYTES_MAX {
            return Err("Bad Request: file is too big".to_owned());
        }
        Ok(json!({
            "file_id": file_id, "file_unique_id": unique_id(file_id), "file_size": file.size, "file_path": file.path,
        }))
    }

    /// Returns the bytes behind a `file_path`.
    pub(crate) fn file_at(&self, path: &str) -> Option<Vec<u8>> {
        self.files
            .values()
            .find(|file| file.path == path)
            .map(|file| file.bytes.clone())
    }
}

/// Returns what Telegram keeps the same for a file over all bots.
pub(crate) fn unique_id(file_id: &str) -> String {
    format!("AgAD{}", file_id.trim_start_matches("BQACAgIAAxkBAAI"))
}
