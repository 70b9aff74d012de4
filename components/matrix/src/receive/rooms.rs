//! What is known of rooms while the channel runs: members and names, asked for when a room is first heard of.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::homeserver::{Homeserver, room_path};
use crate::map::{Lookup, Room};
use crate::wire::{Event, Members};
use sluicegate_sdk::serde_json::Value;

/// Rooms that are remembered; above it all are forgotten and asked for again, which costs two requests each.
const ROOMS_MAX: usize = 500;

/// The rooms that are known.
#[derive(Debug, Default)]
pub(super) struct Rooms(BTreeMap<String, Room>);

impl Rooms {
    /// Returns a room, asking the server where it is not known.
    ///
    /// # Errors
    /// Where asking again may succeed.
    pub(super) fn get(&mut self, server: &Homeserver, id: &str) -> Result<&Room, Failure> {
        if !self.0.contains_key(id) {
            if self.0.len() >= ROOMS_MAX {
                self.0.clear();
            }
            let room = asked(server, id)?;
            self.0.insert(id.to_owned(), room);
        }
        Ok(self.0.entry(id.to_owned()).or_default())
    }

    /// Forgets a room that has changed.
    pub(super) fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }
}

/// A room that says nothing of its members counts as one of several people.
fn asked(server: &Homeserver, id: &str) -> Result<Room, Failure> {
    let members: Option<Members> = server.find(&room_path(id, &["joined_members"]))?;
    let named: Option<Value> = server.find(&room_path(id, &["state", "m.room.name"]))?;
    let title = named.and_then(|named| named["name"].as_str().map(str::to_owned));
    let title = title.filter(|title| !title.is_empty());
    Ok(match members {
        Some(members) => Room::of(members, title),
        None => Room {
            title,
            ..Room::default()
        },
    })
}

/// The events of one room: those at hand, and those that the server has.
pub(super) struct InRoom<'a> {
    pub(super) server: &'a Homeserver,
    pub(super) room: &'a str,
    pub(super) seen: &'a [Event],
}

impl Lookup for InRoom<'_> {
    type Error = Failure;

    fn event(&mut self, id: &str) -> Result<Option<Event>, Failure> {
        if let Some(seen) = self.seen.iter().find(|event| event.event_id == id) {
            return Ok(Some(seen.clone()));
        }
        match self.server.find(&room_path(self.room, &["event", id])) {
            // What is no event there is nothing to go by.
            Err(Failure::Unreadable(_)) => Ok(None),
            settled => settled,
        }
    }
}
