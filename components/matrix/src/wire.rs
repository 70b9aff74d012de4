//! Matrix's types, as far as this channel reads them (spec.matrix.org, client-server API 1.16).
//!
//! Contents of events stay JSON values: anyone in a room may send anything as a content, and one odd field must not
//! hide the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluicegate_sdk::serde_json::Value;

/// The answer of `/sync`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Sync {
    /// Where the next sync begins.
    pub next_batch: String,
    /// What happened in rooms.
    #[serde(default)]
    pub rooms: Rooms,
}

/// What happened in rooms, by room id.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Rooms {
    /// Rooms that the account is in.
    #[serde(default)]
    pub join: BTreeMap<String, Joined>,
    /// Rooms that it is invited to.
    #[serde(default)]
    pub invite: BTreeMap<String, Invited>,
}

/// What happened in a room.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Joined {
    /// The newest events.
    #[serde(default)]
    pub timeline: Timeline,
    /// What changed between the last sync and the beginning of the timeline.
    #[serde(default)]
    pub state: Events,
}

/// The newest events of a room, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Timeline {
    /// The events, each of which may be anything.
    #[serde(default)]
    pub events: Vec<Value>,
    /// Whether there are more between the last sync and the first of these.
    #[serde(default)]
    pub limited: bool,
    /// Where those end.
    #[serde(default)]
    pub prev_batch: Option<String>,
}

/// An invitation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Invited {
    /// What may be known of the room, the invitation itself included.
    #[serde(default)]
    pub invite_state: Events,
}

/// A list of events, each of which may be anything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Events {
    /// The events.
    #[serde(default)]
    pub events: Vec<Value>,
}

/// The answer of `/messages`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Page {
    /// Events in the direction asked for.
    #[serde(default)]
    pub chunk: Vec<Value>,
    /// Where the next page begins; none at the end.
    #[serde(default)]
    pub end: Option<String>,
}

/// An event of a room.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Unique over all rooms.
    pub event_id: String,
    /// Who sent it, a user id.
    pub sender: String,
    /// `m.room.message` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its content.
    #[serde(default)]
    pub content: Value,
    /// There in state events.
    #[serde(default)]
    pub state_key: Option<String>,
    /// The sender's server's clock, Unix milliseconds.
    #[serde(default)]
    pub origin_server_ts: Value,
    /// In older rooms, the event that this one redacts.
    #[serde(default)]
    pub redacts: Option<String>,
    /// What the server adds.
    #[serde(default)]
    pub unsigned: Value,
}

/// The answer of `/account/whoami`, kept in the channel's state too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// The account's user id, such as `@bot:example.org`.
    pub user_id: String,
}

/// The answer of `/joined_members`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Members {
    /// By user id.
    #[serde(default)]
    pub joined: BTreeMap<String, Member>,
}

/// A member of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// What others see.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// The body of every refusal.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Refusal {
    /// `M_FORBIDDEN` and so on.
    pub errcode: String,
    /// The server's words.
    #[serde(default)]
    pub error: Option<String>,
    /// How long to wait, milliseconds: older than the `Retry-After` header, and still sent.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}
