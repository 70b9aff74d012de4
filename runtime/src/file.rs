//! Files that are there whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a file for its owner alone, in place of one that is there: whoever reads it sees the old one or the new one,
/// whole, also after a power cut. One process at a time writes a file.
///
/// # Errors
/// Any I/O error; nothing of the new one is left then.
pub(crate) fn write_whole(path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let written = write_durably(Path::new(&partial), pieces).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // It may not have been made at all.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_durably(path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    for piece in pieces {
        file.write_all(piece)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_and_what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_whole(&path, &[b"a longer text"]).unwrap();
        write_whole(&path, &[b"two ", b"pieces"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two pieces");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let folder_in_the_way = folder.path().join("folder");
        fs::create_dir(&folder_in_the_way).unwrap();
        assert!(write_whole(&folder_in_the_way, &[b"x"]).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
