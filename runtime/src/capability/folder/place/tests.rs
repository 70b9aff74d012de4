use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::clock::{Clock as _, SystemClock};

fn now() -> UnixMillis {
    SystemClock.now_ms()
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), PutError> {
    Place::new(folder.to_owned(), now()).put(name, bytes)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_put_once_whatever_is_repeated_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.txt", b"one").unwrap();
    put(folder.path(), "a.txt", b"one").unwrap();
    assert_eq!(fs::read(folder.path().join("a.txt")).unwrap(), b"one");
    assert_eq!(names(folder.path()), ["a.txt"]);
}

#[test]
fn no_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), b"theirs").unwrap();
    for other in [&b"ours"[..], b"their5", b""] {
        assert!(matches!(put(folder.path(), "a.txt", other), Err(PutError::Taken)));
    }
    fs::create_dir(folder.path().join("b")).unwrap();
    assert!(matches!(put(folder.path(), "b", b"x"), Err(PutError::Taken)));
    assert_eq!(fs::read(folder.path().join("a.txt")).unwrap(), b"theirs");
    assert_eq!(names(folder.path()), ["a.txt", "b"]);
}

#[test]
fn a_link_is_neither_followed_nor_replaced() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = elsewhere.path().join("target");
    for name in ["dangling", "leads"] {
        symlink(&target, folder.path().join(name)).unwrap();
        assert!(matches!(put(folder.path(), name, b"x"), Err(PutError::Taken)), "{name}");
        assert!(!target.exists() || fs::read(&target).unwrap() == b"x");
        fs::write(&target, b"x").unwrap();
    }
    fs::remove_file(&target).unwrap();
    assert!(matches!(put(folder.path(), "leads", b"x"), Err(PutError::Taken)));
    assert!(!target.exists(), "nothing was written through the link");
}

#[test]
fn a_folder_that_is_not_there_is_a_passing_failure_that_names_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let error = put(&gone, "a", b"x").unwrap_err();
    assert!(matches!(error, PutError::Failed(_)), "{error:?}");
    assert!(!error.to_string().contains("gone"), "{error}");
    fs::write(&gone, b"").unwrap();
    assert!(matches!(put(&gone, "a", b"x"), Err(PutError::Failed(_))));
}

#[test]
fn a_folder_takes_so_many_files_and_bytes_and_goes_on_when_they_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let large = fs::File::create(folder.path().join("large")).unwrap();
    large.set_len(limit::FOLDER_BYTES_MAX - 1).unwrap();
    put(folder.path(), "fits", b"x").unwrap();
    assert!(matches!(put(folder.path(), "more", b"x"), Err(PutError::Full(_))));
    put(folder.path(), "fits", b"x").unwrap();
    fs::remove_file(folder.path().join("large")).unwrap();
    for n in 1..limit::FOLDER_FILES_MAX {
        fs::File::create(folder.path().join(format!("f{n}"))).unwrap();
    }
    assert!(matches!(put(folder.path(), "more", b"x"), Err(PutError::Full(_))));
    fs::remove_file(folder.path().join("f1")).unwrap();
    put(folder.path(), "more", b"x").unwrap();
}

#[test]
fn what_a_crash_left_is_removed_later_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let present = SystemTime::UNIX_EPOCH + Duration::from_millis(now().unsigned_abs());
    let old = present - limit::FOLDER_LEFT_OVER_AGE - Duration::from_secs(60);
    for (name, modified) in [
        (".sluicegate-old", old),
        (".sluicegate-new", present),
        ("old.txt", old),
        (".hidden", old),
    ] {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_modified(modified).unwrap();
    }
    put(folder.path(), "a", b"x").unwrap();
    assert_eq!(names(folder.path()), [".hidden", ".sluicegate-new", "a", "old.txt"]);
}
