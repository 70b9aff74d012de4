//! The ids of drafts that the final message will replace.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::OutboundEvent;
use crate::id::DeliveryKey;
use crate::limit;

/// The drafts that stand on platforms, by the key of the answer that each becomes. Clones are the same table.
///
/// In memory only, and bounded by [`limit::DRAFTS_MAX`]: the oldest is forgotten first. A forgotten draft stays beside
/// its answer on the platform, which is all that is lost.
#[derive(Debug, Clone, Default)]
pub struct Drafts {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    ids: HashMap<DeliveryKey, String>,
    /// The keys of `ids` from the oldest on, for dropping; may name keys that are gone already.
    order: VecDeque<DeliveryKey>,
}

impl Drafts {
    /// Remembers what the channel's presence returned for a growing answer, in place of what it returned before.
    pub fn remember(&self, answer: &OutboundEvent, draft_id: String) {
        let mut table = self.lock();
        if table.ids.insert(answer.key.clone(), draft_id).is_none() {
            table.order.push_back(answer.key.clone());
        }
        while table.order.len() > limit::DRAFTS_MAX {
            if let Some(oldest) = table.order.pop_front() {
                table.ids.remove(&oldest);
            }
        }
    }

    /// Returns the id of the draft that becomes this answer.
    pub fn of(&self, answer: &OutboundEvent) -> Option<String> {
        self.lock().ids.get(&answer.key).cloned()
    }

    /// Forgets the draft of an answer that took its place, or will never come.
    pub fn forget(&self, answer: &OutboundEvent) {
        let mut table = self.lock();
        if table.ids.remove(&answer.key).is_some() {
            table.order.retain(|key| *key != answer.key);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        // Each change leaves the table whole, so a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Conversation, ConversationKind, Purpose};
    use crate::id::ChannelName;

    fn answer(n: usize) -> OutboundEvent {
        OutboundEvent {
            key: DeliveryKey::from_trusted(format!("dlv_{n}")),
            channel: ChannelName::from_trusted("family"),
            conversation: Conversation {
                id: "c1".to_owned(),
                thread: None,
                kind: ConversationKind::Direct,
                title: None,
            },
            action: Action::Send,
            purpose: Purpose::Answer,
            in_reply_to: None,
            text: String::new(),
            attachments: Vec::new(),
            choices: Vec::new(),
            cause: None,
            extra: Vec::new(),
        }
    }

    #[test]
    fn the_newest_id_of_a_draft_counts_until_it_is_forgotten() {
        let drafts = Drafts::default();
        drafts.remember(&answer(1), "a".to_owned());
        drafts.remember(&answer(1), "b".to_owned());
        assert_eq!(drafts.of(&answer(1)).as_deref(), Some("b"));
        assert_eq!(drafts.of(&answer(2)), None);
        drafts.forget(&answer(1));
        assert_eq!(drafts.of(&answer(1)), None);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let drafts = Drafts::default();
        (0..=limit::DRAFTS_MAX).for_each(|n| drafts.remember(&answer(n), n.to_string()));
        assert_eq!(drafts.of(&answer(0)), None);
        assert_eq!(drafts.of(&answer(1)).as_deref(), Some("1"));
        let table = drafts.lock();
        assert_eq!(
            (table.ids.len(), table.order.len()),
            (limit::DRAFTS_MAX, limit::DRAFTS_MAX)
        );
    }
}
