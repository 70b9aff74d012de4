//! The agent worker: runs one turn of an agent for each inbound event, one at a time in a session.
//!
//! An agent is `echo`, a model behind an OpenAI-compatible server, or a program. Which one serves a channel may change
//! while the gateway runs. What a turn yields is stored before anything else happens with it, so a crash asks a model
//! again only when it had not finished its answer, or the last of it had not been read and stored: a few milliseconds.
//!
//! * Takes: due turns from the store, at most one for each session.
//! * Gives: the outcome of each turn to the store (done, history, outbound events); signs of life to the [`Presence`].
//! * Durable when: the turn is committed, as one transaction. Where that waits for a draft, the answer alone survives the
//!   process from before the wait on.
//! * On failure: the turn waits by the kind of its failure and runs again; the person is told when that takes long, and
//!   when it is given up.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;

use crate::event::{Conversation, ConversationKind, InboundEvent, OutboundEvent};
use crate::id::ChannelName;
use crate::secret::Redactor;
use crate::store::HistoryEntry;

pub mod command;
pub mod echo;
mod failure;
pub mod local;
pub mod openai;
mod presence;
mod turn;
mod worker;

pub use worker::AgentWorker;

/// What an agent is asked.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// The message to answer.
    pub event: &'a InboundEvent,
    /// What was said in the session before, oldest first, within the bounds of [`crate::limit`].
    pub history: &'a [HistoryEntry],
}

impl Turn<'_> {
    /// Returns what the person said, in words: see [`said`].
    pub fn said(&self) -> String {
        said(self.event)
    }
}

/// Returns what an inbound event says to an agent: its text, else what was chosen; a line for each attachment; and in a
/// group, who it was.
pub fn said(event: &InboundEvent) -> String {
    let message = &event.message;
    let text = match &message.value {
        Some(chosen) if message.text.is_empty() => chosen,
        _ => &message.text,
    };
    let mut said = match message.conversation.kind {
        ConversationKind::Group => format!("{}: {text}", message.sender.name.as_ref().unwrap_or(&message.sender.id)),
        ConversationKind::Direct => text.clone(),
    };
    for attachment in &message.attachments {
        if !said.is_empty() {
            said.push('\n');
        }
        let name = attachment.name.as_deref().unwrap_or("without a name");
        said.push_str(&format!("[attached file: {name}, {}]", attachment.media_type));
    }
    said
}

/// Something that answers messages.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// Returns what it is, in a few words for the operator, such as `openai: qwen3 at http://127.0.0.1:11434/v1`.
    fn describe(&self) -> String;

    /// Returns whether it looks at [`Turn::history`]. Where it does not, none is read for it.
    fn wants_history(&self) -> bool {
        true
    }

    /// Answers a message with CommonMark; an empty answer means silence. `growing` may be called with all of the answer
    /// so far, as often as it likes.
    ///
    /// # Errors
    /// What follows is chosen by [`AgentError::disposition`].
    ///
    /// # Cancel safety
    /// A dropped future ends what it started, such as a request or a process.
    async fn answer(&self, turn: Turn<'_>, growing: &Growing<'_>) -> Result<String, AgentError>;
}

/// Takes all of an answer so far.
pub type Growing<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// Why an agent gave no answer. The texts are for the operator, never for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// It could not be reached, or stopped in the middle.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// It is asked too much.
    #[error("rate limited: {detail}")]
    RateLimited {
        /// How long to wait, where it says so.
        after: Option<Duration>,
        /// What it says.
        detail: String,
    },
    /// It will never answer this.
    #[error("refused: {0}")]
    Refused(String),
    /// Only the operator can help: a wrong key, model, address or program.
    #[error("misconfigured: {0}")]
    Misconfigured(String),
    /// It took longer than it may.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The gateway's own code for it panicked.
    #[error("the agent panicked")]
    Panicked,
}

/// What follows from a failed turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again by the schedule.
    Retry,
    /// Try again by the schedule, but not before this long.
    RetryAfter(Duration),
    /// Try again, a few times only: each run costs much.
    RetryFewTimes,
    /// Try again slowly, and tell the operator.
    Misconfigured,
    /// Do not try again.
    GiveUp,
}

impl AgentError {
    /// Returns it without the secrets in its words.
    #[must_use]
    pub(crate) fn redacted(self, redactor: &Redactor) -> Self {
        let clean = |text: String| redactor.text(&text).into_owned();
        match self {
            Self::Unreachable(text) => Self::Unreachable(clean(text)),
            Self::Refused(text) => Self::Refused(clean(text)),
            Self::Misconfigured(text) => Self::Misconfigured(clean(text)),
            Self::RateLimited { after, detail } => Self::RateLimited {
                after,
                detail: clean(detail),
            },
            other @ (Self::TimedOut(_) | Self::Panicked) => other,
        }
    }

    /// Returns what follows.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable(_) | Self::RateLimited { after: None, .. } | Self::Panicked => Disposition::Retry,
            Self::RateLimited { after: Some(after), .. } => Disposition::RetryAfter(*after),
            Self::TimedOut(_) => Disposition::RetryFewTimes,
            Self::Misconfigured(_) => Disposition::Misconfigured,
            Self::Refused(_) => Disposition::GiveUp,
        }
    }
}

/// What the agent worker needs from the channels: signs of life, which may be slow, fail or do nothing. Nothing waits
/// for them but the draft that a finished answer replaces, and that not for long.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Shows that the agent is at work.
    async fn typing(&self, channel: &ChannelName, conversation: &Conversation);

    /// Shows what there is of an answer. `growing` is the outbound event that it becomes, with the text so far.
    async fn draft(&self, growing: OutboundEvent);
}

/// Which agent serves which channel. Clones are the same table, which may change while turns run: a turn keeps the agent
/// that it began with.
#[derive(Clone, Default)]
pub struct AgentTable {
    agents: Arc<RwLock<HashMap<ChannelName, Arc<dyn Agent>>>>,
}

impl AgentTable {
    /// Makes a table in which no channel has an agent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a channel its agent, in place of the one that it had.
    pub fn set(&self, channel: ChannelName, agent: Arc<dyn Agent>) {
        self.agents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(channel, agent);
    }

    /// Takes a channel's agent away.
    pub fn remove(&self, channel: &ChannelName) {
        self.agents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(channel);
    }

    /// Returns a channel's agent.
    pub fn get(&self, channel: &ChannelName) -> Option<Arc<dyn Agent>> {
        self.agents
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(channel)
            .cloned()
    }
}

impl fmt::Debug for AgentTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_map()
            .entries(agents.iter().map(|(channel, agent)| (channel, agent.describe())))
            .finish()
    }
}

/// What the agent worker did since the start, for the metrics.
#[derive(Debug, Default)]
pub struct TurnCounters {
    answered: AtomicU64,
    silent: AtomicU64,
    recovered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
    panicked: AtomicU64,
    drafts_shown: AtomicU64,
    drafts_dropped: AtomicU64,
    running: AtomicU64,
}

macro_rules! counter {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $($(#[$doc])* pub fn $name(&self) -> u64 {
            self.$name.load(Ordering::Relaxed)
        })*
    };
}

impl TurnCounters {
    counter! {
        /// Returns how many turns ended with an answer.
        answered,
        /// Returns how many turns ended with an empty answer, so that nothing was sent.
        silent,
        /// Returns how many turns took their answer from an earlier run that a crash cut short.
        recovered,
        /// Returns how many runs failed and were put off.
        failed,
        /// Returns how many turns were given up.
        dead,
        /// Returns how many runs ended in a panic.
        panicked,
        /// Returns how many drafts were given to channels.
        drafts_shown,
        /// Returns how many drafts were dropped because too many were on their way.
        drafts_dropped,
        /// Returns how many turns run now.
        running,
    }
}

#[cfg(test)]
mod tests;
