//! One claimed turn, from the message to its outcome in the store.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::failure::{self, Next};
use super::presence::{Showing, Signs};
use super::{Agent, AgentError, AgentTable, Turn, TurnCounters, said};
use crate::bus::{Bus, Event, Place};
use crate::clock::{Clock, UnixMillis};
use crate::event::{InboundEvent, Notice, OutboundEvent};
use crate::limit;
use crate::retry;
use crate::store::{self, ClaimedTurn, EventStore, HistoryEntry, Role, TurnCommit};

/// What follows a text that was too long.
const CUT_NOTICE: &str = "\n\n[The answer was too long and is cut here.]";

/// What every turn needs.
pub(super) struct Context {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) bus: Bus,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) agents: AgentTable,
    pub(super) signs: Arc<Signs>,
    pub(super) counters: Arc<TurnCounters>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Context {
    /// Carries a claimed turn to its outcome.
    #[tracing::instrument(name = "agent.turn", skip_all, fields(
        channel = %claimed.event.channel, event = %claimed.event.id, failures = claimed.failures))]
    pub(super) async fn carry(&self, claimed: ClaimedTurn) {
        let settled = match self.outcome(&claimed).await {
            Ok(Ok(answer)) => self.commit(&claimed, answer).await,
            Ok(Err(failed)) => self.fail(&claimed, &failed).await,
            Err(failed) => Err(failed),
        };
        if let Err(failed) = settled {
            self.give_back(&claimed, &failed).await;
        }
    }

    async fn outcome(&self, claimed: &ClaimedTurn) -> Result<Result<String, AgentError>, store::Error> {
        if let Some(answer) = &claimed.answer {
            count(&self.counters.recovered);
            return Ok(Ok(answer.clone()));
        }
        let event = &claimed.event;
        let agent = self.agents.get(&event.channel);
        let history = match &agent {
            Some(agent) if agent.wants_history() => self.history(event).await?,
            _ => Vec::new(),
        };
        let turn = Turn {
            event,
            history: &history,
        };
        let showing = Showing::begin(Arc::clone(&self.signs), event);
        let answer = match self.ask(agent, turn, &showing).await {
            Ok(answer) => answer,
            Err(failed) => return Ok(Err(failed)),
        };
        if let Some(draft) = showing.finish() {
            // The commit comes after the draft, so that the answer replaces it: until then the answer is kept like this.
            retry::while_busy(|| self.record(claimed, &answer)).await?;
            draft.arrived().await;
        }
        Ok(Ok(answer))
    }

    async fn history(&self, event: &InboundEvent) -> Result<Vec<HistoryEntry>, store::Error> {
        self.store
            .history(&event.session, limit::HISTORY_ENTRIES_MAX, limit::HISTORY_BYTES_MAX)
            .await
    }

    /// Keeps a finished answer apart from its commit, so that it need not be asked for again.
    async fn record(&self, claimed: &ClaimedTurn, answer: &str) -> Result<(), store::Error> {
        self.store
            .lazy_record_answer(claimed.fence, &claimed.event.id, answer)
            .await
    }

    async fn ask(
        &self,
        agent: Option<Arc<dyn Agent>>,
        turn: Turn<'_>,
        showing: &Showing,
    ) -> Result<String, AgentError> {
        let channel = &turn.event.channel;
        let agent = agent
            .ok_or_else(|| AgentError::Misconfigured(format!("no agent is configured for the channel {channel}")))?;
        let growing = |text: &str| showing.grow(text);
        let answering = AssertUnwindSafe(agent.answer(turn, &growing)).catch_unwind();
        match timeout(limit::TURN_TIMEOUT, answering).await {
            Ok(Ok(answer)) => answer.map(cut),
            Ok(Err(_panic)) => {
                count(&self.counters.panicked);
                Err(AgentError::Panicked)
            }
            Err(_elapsed) => Err(AgentError::TimedOut(limit::TURN_TIMEOUT)),
        }
    }

    async fn commit(&self, claimed: &ClaimedTurn, answer: String) -> Result<(), store::Error> {
        let event = &claimed.event;
        let now = self.clock.now_ms();
        let silent = answer.trim().is_empty();
        let mut history = vec![HistoryEntry {
            role: Role::User,
            text: said(event),
        }];
        let mut outbound = Vec::new();
        if !silent {
            history.push(HistoryEntry {
                role: Role::Assistant,
                text: answer.clone(),
            });
            outbound.push(OutboundEvent::reply(event, 0, answer.clone()));
        }
        let commit = TurnCommit {
            event: event.id.clone(),
            session: event.session.clone(),
            history,
            outbound,
        };
        let committed = retry::while_busy(|| self.store.commit_turn(claimed.fence, commit.clone(), now)).await;
        if let Err(refused @ store::Error::Refused(_)) = committed {
            // The next run tries the commit again, without the agent.
            self.record(claimed, &answer).await?;
            return Err(refused);
        }
        committed?;
        count(if silent {
            &self.counters.silent
        } else {
            &self.counters.answered
        });
        if silent {
            // A person may wait for an answer that the model chose not to give: the operator must be able to tell.
            info!("the agent answered with nothing, so nothing is sent");
        } else {
            debug!("answered");
        }
        self.announce(&commit.outbound, now);
        Ok(())
    }

    async fn fail(&self, claimed: &ClaimedTurn, failed: &AgentError) -> Result<(), store::Error> {
        let jitter = retry::jitter(claimed.event.id.as_str(), claimed.failures);
        match failure::next(failed, claimed.failures, jitter) {
            Next::Again { wait, floor, tell } => {
                let words = tell.then(|| failure::delayed_words(failed));
                let due = retry::after(self.clock.now_ms(), wait);
                self.postpone(claimed, failed, (due, floor), words).await
            }
            Next::GiveUp => self.bury(claimed, failed).await,
        }
    }

    async fn postpone(
        &self,
        claimed: &ClaimedTurn,
        failed: &AgentError,
        (due, floor): (UnixMillis, bool),
        words: Option<&str>,
    ) -> Result<(), store::Error> {
        let event = &claimed.event;
        let now = self.clock.now_ms();
        let reason = reason(failed);
        let notice = words.map(|words| OutboundEvent::notice(event, Notice::Delayed, words.to_owned()));
        let write = || {
            self.store
                .postpone_turn(claimed.fence, &event.id, due, floor, &reason, notice.clone(), now)
        };
        retry::while_busy(write).await?;
        count(&self.counters.failed);
        match failed {
            AgentError::Misconfigured(_) => error!(reason, due, "the agent is misconfigured; the message is kept"),
            _ => warn!(reason, due, "the turn failed and runs again later"),
        }
        self.announce_failure(claimed, reason, Some(due), now);
        self.announce(notice.as_slice(), now);
        Ok(())
    }

    async fn bury(&self, claimed: &ClaimedTurn, failed: &AgentError) -> Result<(), store::Error> {
        let event = &claimed.event;
        let now = self.clock.now_ms();
        let reason = reason(failed);
        let notice = OutboundEvent::notice(event, Notice::GivenUp, failure::given_up_words(failed).to_owned());
        let write = || {
            self.store
                .bury_turn(claimed.fence, &event.id, &reason, Some(notice.clone()), now)
        };
        retry::while_busy(write).await?;
        count(&self.counters.dead);
        error!(reason, "the turn is given up");
        self.announce_failure(claimed, reason, None, now);
        self.announce(std::slice::from_ref(&notice), now);
        Ok(())
    }

    /// Tells of stored outbound events.
    fn announce(&self, outbound: &[OutboundEvent], now: UnixMillis) {
        for event in outbound {
            self.bus.publish(|| Event::outbound(event, now));
        }
        if !outbound.is_empty() {
            self.bus.deliveries_due().wake();
        }
    }

    fn announce_failure(&self, claimed: &ClaimedTurn, reason: String, due: Option<UnixMillis>, now: UnixMillis) {
        let event: &InboundEvent = &claimed.event;
        self.bus.publish(|| Event::TurnFailed {
            place: Place::new(&event.channel, &event.message.conversation),
            event: event.id.clone(),
            in_reply_to: event.message.id.clone(),
            reason,
            attempt: claimed.failures.saturating_add(1),
            retry_at_ms: due,
            at_ms: now,
        });
    }

    /// Gives a turn back whose outcome could not be stored, so that it does not stay claimed for the life of the process.
    async fn give_back(&self, claimed: &ClaimedTurn, failed: &store::Error) {
        match failed {
            store::Error::Stale => debug!("the turn was taken over or dropped meanwhile"),
            store::Error::Poisoned(_) => error!(error = %failed, "the outcome of a turn could not be stored"),
            _ => {
                error!(error = %failed, "the outcome of a turn could not be stored; it runs again");
                let now = self.clock.now_ms();
                let due = retry::after(now, limit::TURN_MISCONFIGURED_WAIT_MIN);
                let reason = format!("the store refused the outcome: {failed}");
                let put_off = self
                    .store
                    .postpone_turn(claimed.fence, &claimed.event.id, due, true, &reason, None, now)
                    .await;
                if let Err(failed) = put_off {
                    info!(error = %failed, "the turn stays claimed until the process starts again");
                }
            }
        }
    }
}

/// Returns the operator's words for a failure, as long as the store keeps them.
fn reason(failed: &AgentError) -> String {
    let mut reason = failed.to_string();
    reason.truncate(reason.floor_char_boundary(limit::REASON_BYTES_MAX));
    reason
}

/// Cuts an answer to [`limit::ANSWER_BYTES_MAX`], and says so in it.
fn cut(mut answer: String) -> String {
    if answer.len() > limit::ANSWER_BYTES_MAX {
        answer.truncate(answer.floor_char_boundary(limit::ANSWER_BYTES_MAX - CUT_NOTICE.len()));
        answer.push_str(CUT_NOTICE);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_too_long_is_cut_at_a_character_and_says_so() {
        let whole = "é".repeat(limit::ANSWER_BYTES_MAX / 2);
        assert_eq!(cut(whole.clone()), whole);
        let shorter = cut(format!("{whole}!"));
        assert!(shorter.len() <= limit::ANSWER_BYTES_MAX && shorter.ends_with(CUT_NOTICE));
    }

    #[test]
    fn a_reason_is_as_long_as_the_store_keeps() {
        let long = AgentError::Unreachable("é".repeat(limit::REASON_BYTES_MAX));
        assert!((limit::REASON_BYTES_MAX - 1..=limit::REASON_BYTES_MAX).contains(&reason(&long).len()));
    }
}
