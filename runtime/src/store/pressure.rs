//! When the store has taken in enough: marks on rows, bytes and free disk, from which on nothing more is taken in until
//! there is room again.
//!
//! A mark that is reached holds until its figure is a tenth below it, so that work does not stop and go with each message.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Depth;
use crate::limit;

/// The marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Inbound events that wait for their turn.
    pub inbox_rows: u64,
    /// Those of one channel.
    pub channel_rows: u64,
    /// Outbound events that are neither delivered nor dead.
    pub outbox_rows: u64,
    /// Either of them in one conversation: what comes on top is refused.
    pub conversation_rows: u64,
    /// Bytes of the store, blobs included.
    pub store_bytes: u64,
    /// Bytes that must be free on its disk.
    pub disk_free_bytes: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            inbox_rows: limit::INBOX_ROWS_DEFAULT,
            channel_rows: limit::CHANNEL_ROWS_DEFAULT,
            outbox_rows: limit::OUTBOX_ROWS_DEFAULT,
            conversation_rows: limit::CONVERSATION_ROWS_DEFAULT,
            store_bytes: limit::STORE_BYTES_DEFAULT,
            disk_free_bytes: limit::DISK_FREE_BYTES_DEFAULT,
        }
    }
}

/// What one channel may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of its state, keys and values together.
    pub state_bytes: u64,
    /// Keys of its state.
    pub state_keys: u64,
    /// Bytes of its blobs.
    pub blob_bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            state_bytes: limit::STATE_BYTES_DEFAULT,
            state_keys: limit::STATE_KEYS_DEFAULT.into(),
            blob_bytes: limit::BLOBS_BYTES_DEFAULT,
        }
    }
}

/// What the store was last seen to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the store, blobs included.
    pub store_bytes: u64,
    /// Bytes that are free on its disk.
    pub disk_free_bytes: u64,
}

/// A mark that is reached, with the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too much waits for the agent.
    Inbox(u64),
    /// Too much of one channel waits for the agent.
    Share(u64),
    /// Too much waits to be delivered.
    Outbox(u64),
    /// The store has too many bytes.
    Store(u64),
    /// The disk has too few bytes left.
    Disk(u64),
    /// The last write found no room on the disk, whatever is said to be left.
    Refused,
    /// A file found no room on the disk, whatever is said to be left, and would find none now.
    Files,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: &u64| bytes / (1024 * 1024);
        match self {
            Self::Inbox(rows) => write!(f, "{rows} messages wait for the agent"),
            Self::Share(rows) => write!(f, "{rows} messages of this channel wait for the agent"),
            Self::Outbox(rows) => write!(f, "{rows} messages wait to be delivered"),
            Self::Store(bytes) => write!(f, "the store has {} MiB", mib(bytes)),
            Self::Disk(free) => write!(f, "the disk has {} MiB left", mib(free)),
            Self::Refused => f.write_str("the disk is full"),
            Self::Files => f.write_str("the disk has no room for another file"),
        }
    }
}

/// What must wait now, and why. Deliveries never wait: they make room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Why nothing is taken in.
    pub intake: Option<Full>,
    /// Why no turn is begun.
    pub turns: Option<Full>,
}

/// The marks and the figures that are held against them.
#[derive(Debug)]
pub(super) struct Gauges {
    marks: Marks,
    inbox: AtomicBool,
    outbox: AtomicBool,
    store: AtomicBool,
    disk: AtomicBool,
    store_bytes: AtomicU64,
    disk_free_bytes: AtomicU64,
}

impl Gauges {
    pub(super) fn new(marks: Marks) -> Self {
        Self {
            marks,
            inbox: AtomicBool::default(),
            outbox: AtomicBool::default(),
            store: AtomicBool::default(),
            disk: AtomicBool::default(),
            store_bytes: AtomicU64::default(),
            disk_free_bytes: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes note of what was measured.
    pub(super) fn measured(&self, usage: Usage) {
        self.store_bytes.store(usage.store_bytes, Ordering::Relaxed);
        self.disk_free_bytes.store(usage.disk_free_bytes, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            store_bytes: self.store_bytes.load(Ordering::Relaxed),
            disk_free_bytes: self.disk_free_bytes.load(Ordering::Relaxed),
        }
    }

    /// Returns whether a channel with this much waiting for the agent has its share of the inbox.
    pub(super) fn share_of(&self, waiting: u64) -> Option<Full> {
        (waiting >= self.marks.channel_rows).then_some(Full::Share(waiting))
    }

    pub(super) fn pressure(&self, depth: Depth) -> Pressure {
        let Usage {
            store_bytes,
            disk_free_bytes,
        } = self.usage();
        let missing = self.marks.disk_free_bytes.saturating_sub(disk_free_bytes);
        // For the disk what counts is what is missing: one byte is enough, and a tenth more ends it.
        let is_scarce = if self.disk.load(Ordering::Relaxed) {
            disk_free_bytes
                < self
                    .marks
                    .disk_free_bytes
                    .saturating_add(self.marks.disk_free_bytes / 10)
        } else {
            missing > 0
        };
        self.disk.store(is_scarce, Ordering::Relaxed);
        let turns = is_scarce
            .then_some(Full::Disk(disk_free_bytes))
            .or_else(|| reached(&self.store, store_bytes, self.marks.store_bytes).then_some(Full::Store(store_bytes)))
            .or_else(|| {
                reached(&self.outbox, depth.outbox, self.marks.outbox_rows).then_some(Full::Outbox(depth.outbox))
            });
        let inbox = reached(&self.inbox, depth.inbox, self.marks.inbox_rows).then_some(Full::Inbox(depth.inbox));
        Pressure {
            intake: turns.or(inbox),
            turns,
        }
    }
}

/// Returns whether a figure has reached its mark, or has reached it and is not yet a tenth below it.
fn reached(was: &AtomicBool, figure: u64, mark: u64) -> bool {
    let threshold = if was.load(Ordering::Relaxed) {
        mark - mark / 10
    } else {
        mark
    };
    let is = figure >= threshold;
    was.store(is, Ordering::Relaxed);
    is
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(inbox: u64, outbox: u64) -> Depth {
        Depth {
            inbox,
            outbox,
            ..Depth::default()
        }
    }

    fn gauges() -> Gauges {
        Gauges::new(Marks {
            inbox_rows: 100,
            channel_rows: 50,
            outbox_rows: 50,
            conversation_rows: 10,
            store_bytes: 1000,
            disk_free_bytes: 200,
        })
    }

    #[test]
    fn a_full_inbox_stops_the_intake_but_not_the_agent_that_empties_it() {
        let gauges = gauges();
        assert_eq!(gauges.pressure(depth(99, 0)), Pressure::default());
        let full = gauges.pressure(depth(100, 0));
        assert_eq!((full.intake, full.turns), (Some(Full::Inbox(100)), None));
        assert!(
            gauges.pressure(depth(91, 0)).intake.is_some(),
            "it goes on at a tenth below"
        );
        assert_eq!(gauges.pressure(depth(89, 0)), Pressure::default());
        assert_eq!(gauges.pressure(depth(99, 0)), Pressure::default());
    }

    #[test]
    fn a_full_outbox_store_or_disk_stops_intake_and_agent() {
        let gauges = gauges();
        let both = |full| Pressure {
            intake: Some(full),
            turns: Some(full),
        };
        assert_eq!(gauges.pressure(depth(0, 50)), both(Full::Outbox(50)));
        let usage = |store_bytes, disk_free_bytes| Usage {
            store_bytes,
            disk_free_bytes,
        };
        gauges.measured(usage(1000, 5000));
        assert_eq!(gauges.pressure(depth(0, 0)), both(Full::Store(1000)));
        gauges.measured(usage(1, 199));
        assert_eq!(gauges.pressure(depth(0, 0)), both(Full::Disk(199)));
        gauges.measured(usage(1, 219));
        assert_eq!(gauges.pressure(depth(0, 0)), both(Full::Disk(219)));
        gauges.measured(usage(1, 220));
        assert_eq!(gauges.pressure(depth(0, 0)), Pressure::default());
        gauges.measured(usage(1, 200));
        assert_eq!(gauges.pressure(depth(0, 0)), Pressure::default());
    }
}
