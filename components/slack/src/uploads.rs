//! Files that are about to be shared. Slack shares a file without a mark, so its id is kept until Slack has answered: by
//! it a file is found again whose answer was lost, and one without it was never shared.

use std::collections::BTreeMap;

use sluicegate_sdk::parts::Slot;
use sluicegate_sdk::{OutboundMessage, state};

/// Slack's ids of the files that may have been shared for a delivery, by part: one for each attempt.
pub type Uploads = BTreeMap<u32, Vec<String>>;

/// Keeps the id of a file that is about to be shared. It is durable when this returns.
///
/// # Errors
/// The host's words; then the file must not be shared.
pub fn begin(slot: Slot<'_>, file: &str) -> Result<(), String> {
    let key = key(&slot.message.delivery_key, slot.index);
    let mut ids = kept(&key);
    ids.push(file.to_owned());
    state::set(&key, ids.join(" ").as_bytes())
}

/// Forgets a part's file: Slack has answered.
pub fn end(slot: Slot<'_>) {
    state::delete(&key(&slot.message.delivery_key, slot.index));
}

/// Returns what may have been shared for a message.
pub fn of(message: &OutboundMessage) -> Uploads {
    let prefix = prefix(&message.delivery_key);
    let keys = state::keys(&prefix).into_iter();
    let parts = keys.filter_map(|key| Some((key.strip_prefix(&prefix)?.parse().ok()?, kept(&key))));
    parts.collect()
}

/// Forgets what was found.
pub fn forget(message: &OutboundMessage) {
    for key in state::keys(&prefix(&message.delivery_key)) {
        state::delete(&key);
    }
}

fn kept(key: &str) -> Vec<String> {
    let ids = state::get(key).and_then(|ids| String::from_utf8(ids).ok());
    let ids = ids.unwrap_or_default();
    ids.split_whitespace().map(str::to_owned).collect()
}

fn prefix(delivery_key: &str) -> String {
    format!("upload/{delivery_key}/")
}

fn key(delivery_key: &str, index: u32) -> String {
    format!("{}{index}", prefix(delivery_key))
}
