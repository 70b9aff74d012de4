//! Files that are there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Writes a file for its owner alone, in place of one that is there: whoever reads it sees the old one or the new one,
/// whole, also after a power cut. Of several who write it at once the last one's stays.
///
/// # Errors
/// Any I/O error; nothing of the new one is left then.
pub(crate) fn write_whole(path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    Partial::begin(path)?.complete(path, pieces)
}

/// Writes a file as [`write_whole`] does, and returns it locked: from the moment that it is there until what is returned is
/// dropped, or the process ends.
///
/// # Errors
/// As [`write_whole`].
pub(crate) fn write_locked(path: &Path, pieces: &[&[u8]]) -> io::Result<File> {
    let partial = Partial::begin(path)?;
    let locked = partial.file.try_clone()?;
    partial.complete(path, pieces)?;
    Ok(locked)
}

/// Returns what `read` makes of a file. Where there is none, or `read` makes nothing of it, `make` says what is in it from
/// now on. Of several who make it at once all get the same.
///
/// # Errors
/// Any I/O error.
pub(crate) fn read_or_make<T>(
    path: &Path,
    read: impl Fn(&[u8]) -> Option<T>,
    make: impl FnOnce() -> io::Result<(Vec<u8>, T)>,
) -> io::Result<T> {
    let present = || match fs::read(path) {
        Ok(bytes) => Ok(read(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    if let Some(found) = present()? {
        return Ok(found);
    }
    let partial = Partial::begin(path)?;
    // Whoever had its turn before may have made it.
    if let Some(found) = present()? {
        return Ok(found);
    }
    let (bytes, made) = make()?;
    partial.complete(path, &[&bytes])?;
    Ok(made)
}

/// What a file is written to before it has its name. Only one process at a time has it; what a dead one left of it is
/// written over. Dropping it removes it.
struct Partial {
    path: PathBuf,
    /// Locked, which ends with the process, however that ends.
    file: File,
}

impl Partial {
    /// Waits until nobody else writes the file.
    fn begin(path: &Path) -> io::Result<Self> {
        let mut name = OsString::from(path);
        name.push(".partial");
        let path = PathBuf::from(name);
        loop {
            let mut options = File::options();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path)?;
            file.lock()?;
            // Whoever had it until now has renamed or removed it, so that it is nobody's way to the file any more.
            if is_at(&path, &file)? {
                return Ok(Self { path, file });
            }
        }
    }

    /// Writes the whole file, makes it durable and gives it its name.
    fn complete(mut self, path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
        self.file.set_len(0)?;
        for piece in pieces {
            self.file.write_all(piece)?;
        }
        self.file.sync_all()?;
        fs::rename(&self.path, path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Once it has its own name, this one may be another process's.
        if is_at(&self.path, &self.file).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns whether this open file is the one that has this path.
pub(crate) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

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

    #[test]
    fn what_a_dead_process_left_is_no_part_of_the_file_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(folder.path().join("file.partial"), "what a crash left, and long").unwrap();
        write_whole(&path, &[b"short"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn of_those_who_write_a_file_at_once_one_has_its_way_and_none_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // Long enough that one is still at it when the others begin.
        let long = |writer: u8| vec![writer; 3_000_000];
        std::thread::scope(|scope| {
            for writer in 1..=8 {
                let path = &path;
                scope.spawn(move || write_whole(path, &[&long(writer)]).unwrap());
            }
        });
        let written = fs::read(&path).unwrap();
        assert!((1..=8).any(|writer| written == long(writer)), "it is nobody's whole");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn who_makes_a_file_at_once_gets_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        // What a crash of long ago left.
        fs::write(&path, "").unwrap();
        let whole = |bytes: &[u8]| (bytes.len() == 2).then(|| bytes.to_vec());
        let all_there = std::sync::Barrier::new(8);
        let got: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let make = |maker: u8| {
                let (path, all_there) = (&path, &all_there);
                scope.spawn(move || {
                    all_there.wait();
                    read_or_make(path, whole, || Ok((vec![maker; 2], vec![maker; 2]))).unwrap()
                })
            };
            let makers: Vec<_> = (0..8).map(make).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        let kept = fs::read(&path).unwrap();
        assert!(got.iter().all(|it| *it == kept), "{got:?}, and {kept:?} is kept");
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn a_file_that_can_not_be_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::create_dir(&path).unwrap();
        let made = read_or_make(&path, |_| Some(()), || panic!("nothing is to be made"));
        assert!(made.is_err());
        assert_eq!(names(folder.path()), ["key"]);
    }
}
