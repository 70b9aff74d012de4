//! A configuration file is replaced whole or not at all, also where one process writes the new one and another, the
//! gateway that runs by it, decides whether it takes its place.

use std::fs::{File, Metadata, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::edit::EditError;
use super::{FILE_BYTES_MAX, FILE_NAME, read_bounded};
use crate::component;

/// Random bytes in the name of a file that is staged.
const TICKET_BYTES: usize = 6;

/// A changed configuration file that lies beside the one that it is to replace. Dropping it leaves that one as it is.
#[derive(Debug)]
pub struct Staged {
    file: PathBuf,
    path: PathBuf,
    ticket: String,
    /// The digest of the text that it was made from.
    base: String,
}

impl Staged {
    fn named(file: &Path, ticket: &str, base: String) -> Self {
        Self {
            file: file.to_owned(),
            path: folder_of(file).join(format!(".{}.{ticket}", FILE_NAME)),
            ticket: ticket.to_owned(),
            base,
        }
    }

    /// Writes a text beside the file that it is to replace, with the file's owner and permissions. It was made from the
    /// text `before`.
    ///
    /// # Errors
    /// [`EditError::File`], [`EditError::Owner`], and [`EditError::TooLong`] for a text that nobody could read again.
    pub(super) fn write(file: &Path, text: &str, before: &str) -> Result<Self, EditError> {
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(EditError::TooLong(file.to_owned()));
        }
        let ticket = crate::id::random_hex::<TICKET_BYTES>();
        let staged = Self::named(file, &ticket, digest(before));
        staged.fill(text)?;
        Ok(staged)
    }

    /// Takes over what another process staged for this file, made from a text of the digest `base`. None where the ticket
    /// is none.
    pub fn adopt(file: &Path, ticket: &str, base: String) -> Option<Self> {
        let is_ticket = ticket.len() == 2 * TICKET_BYTES && ticket.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ticket.then(|| Self::named(file, ticket, base))
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
        read_bounded(&self.path).map_err(|source| failed(&self.path, "read", source))
    }

    /// Returns the digest of the text that it was made from.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Checks that the file is still what this was made from.
    ///
    /// # Errors
    /// [`EditError::Outdated`] where it is not, and [`EditError::File`].
    pub fn check(&self) -> Result<(), EditError> {
        if digest(&text_of(&self.file)?) == self.base {
            return Ok(());
        }
        Err(EditError::Outdated(self.file.clone()))
    }

    /// Replaces the file, durably, whole or not at all, if it is still what this was made from.
    ///
    /// # Errors
    /// As [`Staged::check`], and [`EditError::Outdated`] where another one is just being put in its place; the old file is
    /// there as it was.
    pub fn commit(self) -> Result<(), EditError> {
        let failed = |source| failed(&self.file, "written", source);
        // Between the look and the change nobody else may change it. A file system without locks leaves that to chance. It
        // is not waited for: whoever may read the folder can lock it, for ever.
        let folder = File::open(folder_of(&self.file));
        if matches!(folder.as_ref().map(File::try_lock), Ok(Err(TryLockError::WouldBlock))) {
            return Err(EditError::Outdated(self.file.clone()));
        }
        self.check()?;
        std::fs::rename(&self.path, &self.file).map_err(failed)?;
        // The flush takes its time, and the next one need not wait for it. Without this it would, and no more.
        let _unlocked = folder.as_ref().map(File::unlock);
        // The rename is durable once the folder is; a platform that can't open folders has nothing to flush.
        folder.and_then(|folder| folder.sync_all()).map_err(failed)
    }

    fn fill(&self, text: &str) -> Result<(), EditError> {
        let failed = |source| failed(&self.path, "written", source);
        let old = std::fs::metadata(&self.file).ok();
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        if old.is_some() {
            // Until it has the old one's permissions, which may be as narrow.
            options.mode(0o600);
        }
        let mut file = options.open(&self.path).map_err(failed)?;
        if let Some(old) = &old {
            keep_owner(&file, old).map_err(|source| EditError::Owner {
                path: self.file.clone(),
                user: old.uid(),
                group: old.gid(),
                source,
            })?;
            file.set_permissions(old.permissions()).map_err(failed)?;
        }
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is none. One that can't be removed is one file of a known form, and no worse than that.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Gives a new file to whoever has the one that it is to replace: a gateway whose configuration an administrator changed
/// is to read it still.
///
/// # Errors
/// Where it can't be given, and somebody would lose the file or get to see it. What root had may become ours: root reads
/// it all the same, and who may replace it is decided by its folder. A group that may do nothing loses nothing either.
fn keep_owner(file: &File, old: &Metadata) -> std::io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    let Err(refused) = fchown(file, Some(old.uid()), Some(old.gid())) else {
        return Ok(());
    };
    let owner_is_right = new.uid() == old.uid() || old.uid() == 0;
    let group_can_nothing = old.mode() & 0o070 == 0;
    let group_is_right = || new.gid() == old.gid() || fchown(file, None, Some(old.gid())).is_ok();
    if owner_is_right && (group_can_nothing || group_is_right()) {
        return Ok(());
    }
    Err(refused)
}

fn failed(path: &Path, verb: &'static str, source: std::io::Error) -> EditError {
    EditError::File {
        path: path.to_owned(),
        verb,
        source,
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn digest(text: &str) -> String {
    component::digest(text.as_bytes())
}

/// Reads a configuration file; one that does not exist is an empty one.
pub(super) fn text_of(path: &Path) -> Result<String, EditError> {
    match read_bounded(path) {
        Ok(text) => Ok(text),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(String::new()),
            ErrorKind::InvalidData => Err(EditError::Unfit {
                path: path.to_owned(),
                source: error,
            }),
            _ => Err(failed(path, "read", error)),
        },
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
        drop(Staged::write(&path, "new", "old").unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let staged = Staged::write(&path, "new", "old").unwrap();
        for wrong in ["", "../../etc/passwd", "00000000000", "0000000000000", "00000000000g"] {
            assert!(Staged::adopt(&path, wrong, String::new()).is_none(), "{wrong}");
        }
        let adopted = Staged::adopt(&path, staged.ticket(), staged.base().to_owned()).unwrap();
        assert_eq!(adopted.text().unwrap(), "new");
        adopted.commit().unwrap();
        drop(staged);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_made_from_another_text_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluicegate.toml");
        let first = Staged::write(&path, "first", "").unwrap();
        let second = Staged::write(&path, "second", "").unwrap();
        first.commit().unwrap();
        assert!(matches!(second.commit(), Err(EditError::Outdated(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_nobody_could_read_again_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluicegate.toml");
        let longest = " ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap());
        Staged::write(&path, &longest, "").unwrap().commit().unwrap();
        assert_eq!(text_of(&path).unwrap(), longest);
        let longer = format!("{longest} ");
        let refused = Staged::write(&path, &longer, &longest);
        assert!(matches!(refused, Err(EditError::TooLong(file)) if file == path));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_can_not_be_staged_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nowhere/sluicegate.toml");
        let Err(EditError::File { path, .. }) = Staged::write(&file, "new", "") else {
            panic!("it was written");
        };
        assert_ne!(path, file);
        assert_eq!(path.parent(), file.parent());
    }
}
