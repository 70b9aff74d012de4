//! Stores values, of as many bytes as it is told, until the host takes no more, and then goes on.

use sluicegate_sdk::state;

pub(crate) fn run(bytes: &str) -> String {
    let value = vec![b'x'; bytes.parse().unwrap_or(256 * 1024)];
    let kept = (0..100)
        .filter(|n| state::set(&format!("key-{n}"), &value).is_ok())
        .count();
    state::delete("key-0");
    format!(
        "{kept} kept, after a deletion {}",
        state::set("key-0", b"small").is_ok()
    )
}
