//! What the guests of one channel may reach: the channel's own slice of the store, the bus, egress, clients and log.
//!
//! Architecture invariant: everything that a guest can do passes through here, with the channel's name stamped by the
//! host. There is one for each configured channel; instances share it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::allowance::Allowance;
use super::clients::Clients;
use super::output::{ChannelLog, Level, near_start};
use super::relay::Relay;
use super::share::{Errand, Share, Used};
use super::usage::Usage;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::egress::ChannelEgress;
use crate::event::Conversation;
use crate::id::{ChannelName, SessionKey};
use crate::limit;
use crate::policy::Access;
use crate::shown::printable;
use crate::store::{EventStore, Full, Quota};

/// Everything that the guests of one channel share.
pub struct Services {
    /// The operator's name of the channel.
    pub name: ChannelName,
    /// The durable side.
    pub store: Arc<dyn EventStore>,
    /// Wake-ups and the live view.
    pub bus: Bus,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What it may keep there.
    pub quota: Quota,
    /// Messages that may come in.
    pub inbound: Allowance,
    /// The way out.
    pub egress: Arc<ChannelEgress>,
    /// The operator's settings with the component's defaults filled in; lists have an entry a line.
    pub settings: BTreeMap<String, String>,
    /// Who may talk.
    pub access: Access,
    /// Clients that are connected to this channel.
    pub clients: Clients,
    /// From its instances to its listener.
    pub relay: Relay,
    /// The channel's log.
    pub log: ChannelLog,
    /// What the host says of requests to it that are refused.
    pub refusals: ChannelLog,
    /// What it uses.
    pub usage: Usage,
    /// What its instances may use together.
    pub share: Share,
    /// Whether the process's terminal stands behind the guests' stdin and stdout.
    pub terminal: bool,
    /// Set when the listener must stop: deliveries go on.
    pub listening: CancellationToken,
    /// Set when the channel goes down altogether.
    pub shutdown: CancellationToken,
}

/// Why nothing of a channel is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The store, or the channel's part of it, is full.
    Full(Full),
    /// More came than may, and after so long there is room again.
    TooFast(Duration),
}

impl Services {
    /// Writes a line to the channel's log, with every secret of the channel taken out.
    pub fn log(&self, level: Level, message: &str) {
        self.write_to(&self.log, level, message);
    }

    /// Writes a line about a request that was refused. It is bounded as the channel's own log is, but apart from it: whoever
    /// can reach the webhook must neither fill the disk nor silence the channel.
    pub fn log_refusal(&self, message: &str) {
        self.write_to(&self.refusals, Level::Warn, message);
    }

    fn write_to(&self, log: &ChannelLog, level: Level, message: &str) {
        let redacted = || self.egress.redact(near_start(message, log.line_bytes_max())).into();
        if !log.write(self.name.as_str(), level, redacted) {
            self.usage.log_lines_dropped.add(1);
        }
    }

    /// Books CPU time that a guest of the channel used. Returns how long that guest must rest, where the channel used up its
    /// share.
    pub(crate) fn use_cpu(&self, used: Used) -> Option<Duration> {
        self.usage
            .cpu_ns
            .add(u64::try_from(used.cpu.as_nanos()).unwrap_or(u64::MAX));
        self.share.use_cpu(used)
    }

    /// Lets a guest pay for what the host did for it: it rests where the channel used up its share.
    ///
    /// # Cancel safety
    /// Dropping the future ends the rest; what was done is booked.
    pub(crate) async fn pay(&self, errand: Errand) {
        if let Some(rest) = self.share.book(errand) {
            tokio::time::sleep(rest).await;
        }
    }

    /// Counts the death of an instance, and books it.
    pub(crate) fn note_trap(&self) {
        self.usage.traps.add(1);
        self.share.book_trap();
    }

    /// Returns why nothing of this channel is to be taken in now.
    pub fn held(&self) -> Option<Held> {
        let full = self.store.intake(&self.name).map(Held::Full);
        full.or_else(|| {
            let owed = self.inbound.owed().max(self.share.inbound_owed());
            owed.map(Held::TooFast)
        })
    }

    /// Counts what was told to come again on this channel's own account.
    pub fn note_held(&self, held: Held) {
        match held {
            Held::Full(Full::Share(_)) => self.usage.inbound_held.add(1),
            Held::Full(_) => {}
            Held::TooFast(_) => {
                self.usage.inbound_held.add(1);
                self.log_refusal("messages come faster than `messages_per_minute` of its limits allows, or are too long for so many; they wait");
            }
        }
    }

    /// Returns a guest's words as a person may see them and the store may keep them: without the channel's secrets, without
    /// what drives a terminal, and at most [`limit::REASON_BYTES_MAX`] bytes.
    pub fn presentable(&self, words: &str) -> String {
        let mut words = printable(&self.egress.redact(near_start(words, limit::REASON_BYTES_MAX)));
        words.truncate(words.floor_char_boundary(limit::REASON_BYTES_MAX));
        words
    }

    /// Returns the session of a place: the operator's channel, the conversation and its thread, never a guest's choice.
    pub fn session(&self, conversation: &Conversation) -> SessionKey {
        let id = conversation.id.replace('%', "%25").replace('#', "%23");
        SessionKey::from_trusted(match &conversation.thread {
            Some(thread) => format!("{}/{id}#{thread}", self.name),
            None => format!("{}/{id}", self.name),
        })
    }
}
