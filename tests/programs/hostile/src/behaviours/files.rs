//! Looks for files, and tries to make one.

use std::fs;

pub(crate) fn run() -> String {
    let read = [
        "/etc/passwd",
        "sluicegate.toml",
        "data/admin-token",
        "/proc/self/environ",
        "../data/admin-token",
    ]
    .iter()
    .filter(|path| fs::read(path).is_ok())
    .count();
    let listed = ["/", ".", ".."]
        .iter()
        .filter(|path| fs::read_dir(path).is_ok())
        .count();
    let written = ["/tmp/hostile", "hostile"]
        .iter()
        .filter(|path| fs::write(path, b"x").is_ok())
        .count();
    format!("read {read}, listed {listed}, written {written}")
}
