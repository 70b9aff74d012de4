//! Who may talk to the agent through a channel.

use std::collections::BTreeSet;

/// Who may talk to the agent through a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everyone whom the platform lets write.
    Open,
    /// These senders, by the platform's ids.
    Allow(BTreeSet<String>),
}

impl Access {
    /// Returns whether a sender may talk.
    pub fn permits(&self, sender: &str) -> bool {
        match self {
            Self::Open => true,
            Self::Allow(senders) => senders.contains(sender),
        }
    }
}
