//! A configuration file is replaced whole or not at all, also where one process writes the new one and another, the
//! gateway that runs by it, decides whether it takes its place.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::edit::EditError;
use super::{FILE_NAME, read_bounded};

/// Random bytes in the name of a file that is staged.
const TICKET_BYTES: usize = 6;

/// A changed configuration file that lies beside the one that it is to replace. Dropping it leaves that one as it is.
#[derive(Debug)]
pub struct Staged {
    file: PathBuf,
    path: PathBuf,
    ticket: String,
}

impl Staged {
    fn named(file: &Path, ticket: &str) -> Self {
        Self {
            file: file.to_owned(),
            path: folder_of(file).join(format!(".{}.{ticket}", FILE_NAME)),
            ticket: ticket.to_owned(),
        }
    }

    /// Writes a text beside the file that it is to replace, with the file's permissions.
    ///
    /// # Errors
    /// [`EditError::File`].
    pub(super) fn write(file: &Path, text: &str) -> Result<Self, EditError> {
        let staged = Self::named(file, &crate::id::random_hex::<TICKET_BYTES>());
        staged.fill(text).map_err(|source| staged.failed("written", source))?;
        Ok(staged)
    }

    /// Takes over what another process staged for this file. None where the ticket is none.
    pub fn adopt(file: &Path, ticket: &str) -> Option<Self> {
        let is_ticket = ticket.len() == 2 * TICKET_BYTES && ticket.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ticket.then(|| Self::named(file, ticket))
    }

    /// Returns what another process needs to take it over.
    pub fn ticket(&self) -> &str {
        &self.ticket
    }

    /// Returns the text that is to replace the file's.
    ///
    /// # Errors
    /// [`EditError::File`].
    pub fn text(&self) -> Result<String, EditError> {
        read_bounded(&self.path).map_err(|source| self.failed("read", source))
    }

    /// Returns the text of the file that is to be replaced; empty where there is none.
    ///
    /// # Errors
    /// [`EditError::File`].
    pub fn replaced_text(&self) -> Result<String, EditError> {
        text_of(&self.file)
    }

    /// Replaces the file, durably, whole or not at all.
    ///
    /// # Errors
    /// [`EditError::File`]; the old file is there as it was.
    pub fn commit(self) -> Result<(), EditError> {
        let failed = |source| self.failed("written", source);
        std::fs::rename(&self.path, &self.file).map_err(failed)?;
        // The rename is durable once the folder is; a platform that can't open folders has nothing to flush.
        std::fs::File::open(folder_of(&self.file))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)
    }

    fn fill(&self, text: &str) -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.path)?;
        if let Ok(old) = std::fs::metadata(&self.file) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    fn failed(&self, verb: &'static str, source: std::io::Error) -> EditError {
        EditError::File {
            path: self.file.clone(),
            verb,
            source,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is none. One that can't be removed is one file of a known form, and no worse than that.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Reads a configuration file; one that does not exist is an empty one.
pub(super) fn text_of(path: &Path) -> Result<String, EditError> {
    match read_bounded(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| EditError::File {
            path: path.to_owned(),
            verb: "read",
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_is_taken_over_by_its_ticket_or_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluicegate.toml");
        std::fs::write(&path, "old").unwrap();
        drop(Staged::write(&path, "new").unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let staged = Staged::write(&path, "new").unwrap();
        for wrong in ["", "../../etc/passwd", "00000000000", "0000000000000", "00000000000g"] {
            assert!(Staged::adopt(&path, wrong).is_none(), "{wrong}");
        }
        let adopted = Staged::adopt(&path, staged.ticket()).unwrap();
        assert_eq!(
            (adopted.text().unwrap(), adopted.replaced_text().unwrap()),
            ("new".to_owned(), "old".to_owned())
        );
        adopted.commit().unwrap();
        drop(staged);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
