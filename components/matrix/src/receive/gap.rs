//! The gap between two syncs, when more happened in a room than one of them shows.

use super::readable;
use crate::failure::Failure;
use crate::wire::{Event, Me, Page};

/// Events of one room's gap that are fetched at most: more than anyone wants answered after an outage.
const GAP_EVENTS_MAX: usize = 2_000;
/// Pages of one room's gap that are fetched at most: a page may be empty and name a next one all the same.
const GAP_PAGES_MAX: usize = 100;

/// Adds the events of a gap page by page, backwards, to where the account came into the room. Returns whether that is all
/// of them.
pub(super) fn fill(
    newest_first: &mut Vec<Event>,
    mut from: Option<String>,
    me: &Me,
    mut page: impl FnMut(&str) -> Result<Page, Failure>,
) -> Result<bool, Failure> {
    for _ in 0..GAP_PAGES_MAX {
        let Some(page_from) = from.filter(|_| arrival(newest_first, me).is_none()) else {
            return Ok(true);
        };
        if newest_first.len() >= GAP_EVENTS_MAX {
            return Ok(false);
        }
        let found = page(&page_from)?;
        newest_first.extend(readable(&found.chunk));
        from = found.end.filter(|end| *end != page_from);
    }
    Ok(false)
}

/// Returns where, in events from newest to oldest, the account was invited to the room or came into it uninvited: what
/// lies beyond is not for it.
pub(super) fn arrival(newest_first: &[Event], me: &Me) -> Option<usize> {
    newest_first.iter().position(|event| {
        let is_mine = event.kind == "m.room.member" && event.state_key.as_deref() == Some(me.user_id.as_str());
        let before = event.unsigned["prev_content"]["membership"].as_str();
        is_mine
            && match event.content["membership"].as_str() {
                Some("invite") => true,
                // A changed name is a "join" too.
                Some("join") => !matches!(before, Some("invite" | "join")),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::serde_json::json;

    use super::*;

    #[test]
    fn a_gap_that_never_ends_is_given_up() {
        let me = Me {
            user_id: "@bot:a".to_owned(),
        };
        let (mut pages, mut events) = (0, Vec::new());
        let mut fill_with = |chunk: Vec<_>, ends_at: usize| {
            (pages, events) = (0, Vec::new());
            let page = |_: &str| {
                pages += 1;
                let end = (pages < ends_at).then(|| pages.to_string());
                Ok(Page {
                    chunk: chunk.clone(),
                    end,
                })
            };
            let is_all = fill(&mut events, Some("0".to_owned()), &me, page).expect("each page is there");
            (is_all, pages, events.len())
        };
        assert_eq!(fill_with(Vec::new(), usize::MAX), (false, GAP_PAGES_MAX, 0));
        assert_eq!(fill_with(Vec::new(), 3), (true, 3, 0));
        let said = json!({"event_id": "$x", "type": "m.room.message", "sender": "@ada:a", "content": {"body": "hi"}});
        let full = vec![said; 100];
        assert_eq!(fill_with(full, usize::MAX), (false, 20, GAP_EVENTS_MAX));
    }
}
