//! Stores files with a kind as long as a book, and empty ones without end.

use sluicegate_sdk::blobs;

pub(crate) fn run() -> String {
    let long_kind = blobs::put(&"x".repeat(1_000_000), b"x").is_ok();
    let stored = (0..100).filter(|_| blobs::put("text/plain", b"").is_ok()).count();
    let foreign = blobs::get("../sluicegate.db").is_ok() || blobs::get("/etc/passwd").is_ok();
    format!("long kind {long_kind}, foreign {foreign}, stored {stored}")
}
