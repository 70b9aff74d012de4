//! What an operator may do to stored messages. Each change is kept in the list of changes.

use crate::id::{ChannelName, DeliveryKey, EventId};

/// Which dead letters are meant; all of them where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Those of this channel.
    pub channel: Option<ChannelName>,
    /// Those whose reason contains this text; the case of ASCII letters does not matter.
    pub reason: Option<String>,
}

/// The dead letters that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dead {
    /// This one.
    One(DeliveryKey),
    /// Up to `max` of those that a filter lets through, in the order in which they were stored.
    Matching {
        /// Which.
        filter: DeadFilter,
        /// How many at most: fewer changed than this means that none is left.
        max: usize,
    },
}

/// A change that an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Holds a delivery back, and with it its lane, until it is released. It still expires.
    Hold(DeliveryKey),
    /// Ends a hold: the delivery is due now.
    Release(DeliveryKey),
    /// Drops a delivery that is neither delivered nor dead. Its key stays known, so that nothing brings it back.
    Drop(DeliveryKey),
    /// Puts dead letters back, as the last of their lanes, with fresh attempts and a fresh expiry.
    Redrive(Dead),
    /// Drops dead letters. Their keys stay known.
    DropDead(Dead),
    /// Lets a turn that was given up run again, with fresh failures, in its old place: before later turns of its session.
    Resubmit(EventId),
    /// Drops an inbound event whose turn was given up. Its ids stay known.
    DropInbound(EventId),
    /// Notes a change that was made elsewhere, such as the pause of a channel.
    Noted {
        /// What was done.
        verb: &'static str,
        /// What it was done to.
        subject: String,
    },
}

impl Change {
    /// Returns the change's name in the list of changes and on the bus.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Hold(_) => "hold",
            Self::Release(_) => "release",
            Self::Drop(_) => "drop",
            Self::Redrive(_) => "redrive",
            Self::DropDead(_) => "drop-dead",
            Self::Resubmit(_) => "resubmit",
            Self::DropInbound(_) => "drop-inbound",
            Self::Noted { verb, .. } => verb,
        }
    }

    /// Returns what it is about, in words.
    pub fn subject(&self) -> String {
        match self {
            Self::Hold(key)
            | Self::Release(key)
            | Self::Drop(key)
            | Self::Redrive(Dead::One(key))
            | Self::DropDead(Dead::One(key)) => key.to_string(),
            Self::Redrive(Dead::Matching { filter, .. }) | Self::DropDead(Dead::Matching { filter, .. }) => {
                filter.to_string()
            }
            Self::Resubmit(event) | Self::DropInbound(event) => event.to_string(),
            Self::Noted { subject, .. } => subject.clone(),
        }
    }
}

impl std::fmt::Display for DeadFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.channel {
            Some(channel) => write!(f, "dead letters of the channel {channel}")?,
            None => f.write_str("dead letters of all channels")?,
        }
        match &self.reason {
            Some(reason) => write!(f, " with {reason:?} in their reason"),
            None => Ok(()),
        }
    }
}
