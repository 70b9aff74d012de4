//! One claimed message, from the question whether it may be sent to the outcome in the store.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use tracing::{debug, error, info, warn};

use super::decide::{self, Again, ChannelEffect, Decision, Preparation, Tried};
use super::{Attempt, DeliveryCounters, DeliveryRequest, Dispatcher, Drafts, Failure, Finding};
use crate::bus::{Bus, Event};
use crate::clock::{Clock, UnixMillis};
use crate::egress::Evidence;
use crate::event::{Receipt, SentPart};
use crate::retry;
use crate::store::{self, Attempted, DeadLetter, DeliveryClaim, Dispatch, EventStore};

/// What every attempt needs.
pub(super) struct Context {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) bus: Bus,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dispatcher: Arc<dyn Dispatcher>,
    pub(super) drafts: Drafts,
    pub(super) counters: Arc<DeliveryCounters>,
}

/// What an attempt means for those after it.
pub(super) struct Carried {
    /// Until when its whole channel must wait, if it must.
    pub(super) held_until: Option<UnixMillis>,
    /// Whether it is to be made again.
    pub(super) comes_again: bool,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Context {
    /// Carries a claimed message through one attempt.
    #[tracing::instrument(name = "delivery.attempt", skip_all, fields(
        channel = %dispatch.event.channel, key = %dispatch.event.key, attempt = dispatch.claim.attempt))]
    pub(super) async fn carry(&self, mut dispatch: Dispatch) -> Carried {
        let decision = self.decide(&mut dispatch).await;
        let carried = Carried {
            held_until: match &decision {
                Decision::Again(Again {
                    channel: ChannelEffect::HoldUntil(until),
                    ..
                }) => Some(*until),
                _ => None,
            },
            comes_again: matches!(decision, Decision::Again(_)),
        };
        if let Err(failed) = self.settle(&dispatch, decision).await {
            report(&failed);
        }
        carried
    }

    async fn decide(&self, dispatch: &mut Dispatch) -> Decision {
        let guarantees = self.dispatcher.guarantees(&dispatch.event.channel);
        match decide::prepare(dispatch, &guarantees, self.clock.now_ms()) {
            Preparation::Send => {}
            Preparation::Bury(reason) => return Decision::Bury(reason),
            Preparation::AskFirst { since } => {
                let finding = self.reconcile(dispatch, since).await;
                if let Finding::NotDelivered(parts) = &finding
                    && let Err(error) = self.remember(dispatch, parts).await
                {
                    return decide::not_begun(self.clock.now_ms(), error.to_string());
                }
                let decided = decide::after_finding(finding, dispatch, &guarantees, self.clock.now_ms());
                if let Some(decision) = decided {
                    return decision;
                }
            }
        }
        let began_at = self.clock.now_ms();
        let attempt = self.deliver(dispatch, guarantees.at_most_once).await;
        let jitter = retry::jitter(dispatch.event.key.as_str(), dispatch.claim.attempt);
        let tried = Tried {
            began_at,
            now: self.clock.now_ms(),
            jitter,
        };
        decide::after_attempt(attempt, dispatch, &guarantees, tried)
    }

    async fn reconcile(&self, dispatch: &Dispatch, since: UnixMillis) -> Finding {
        count(&self.counters.reconciled);
        let asked = AssertUnwindSafe(self.dispatcher.reconcile(self.request(dispatch), since))
            .catch_unwind()
            .await;
        let finding = asked.unwrap_or(Finding::Unknown);
        debug!(?finding, "asked what became of the earlier attempt");
        finding
    }

    /// Keeps the parts that the component found on the platform, so that this attempt and all later ones pass over them.
    async fn remember(&self, dispatch: &mut Dispatch, found: &[SentPart]) -> Result<(), store::Error> {
        for part in found {
            if dispatch.already_sent.iter().any(|known| known.index == part.index) {
                continue;
            }
            let (channel, key) = (&dispatch.event.channel, &dispatch.event.key);
            retry::while_busy(|| self.store.part_sent(channel, key, part.clone())).await?;
            dispatch.already_sent.push(part.clone());
        }
        Ok(())
    }

    /// Makes the evidence of an attempt: it marks it in the store, and waits for the disk where not even a power cut may
    /// make anything leave twice.
    fn evidence(&self, claim: DeliveryClaim, at_most_once: bool) -> Evidence {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        Evidence::marked_by(move || {
            let (store, now) = (Arc::clone(&store), clock.now_ms());
            async move {
                let marking = retry::while_busy(|| store.lazy_mark_sending(claim, now));
                marking.await.map_err(|error| error.to_string())?;
                if at_most_once {
                    store.flush().await.map_err(|error| error.to_string())?;
                }
                Ok(())
            }
        })
    }

    async fn deliver(&self, dispatch: &Dispatch, at_most_once: bool) -> Attempt {
        count(&self.counters.attempts);
        let evidence = self.evidence(dispatch.claim, at_most_once);
        let delivery = self.dispatcher.deliver(self.request(dispatch), evidence);
        AssertUnwindSafe(delivery)
            .catch_unwind()
            .await
            .unwrap_or_else(|_panic| {
                error!("the host panicked in a delivery; its outcome is unknown");
                count(&self.counters.panicked);
                Attempt {
                    result: Err(Failure::Trapped("the host panicked".to_owned())),
                    bytes_left: true,
                }
            })
    }

    fn request(&self, dispatch: &Dispatch) -> DeliveryRequest {
        DeliveryRequest {
            event: dispatch.event.clone(),
            attempt: dispatch.claim.attempt,
            already_sent: dispatch.already_sent.clone(),
            draft_id: self.drafts.of(&dispatch.event),
        }
    }

    async fn settle(&self, dispatch: &Dispatch, decision: Decision) -> Result<(), store::Error> {
        match decision {
            Decision::Ack(receipt) => self.ack(dispatch, receipt).await,
            Decision::Await { receipt, deadline } => self.wait_for_confirmation(dispatch, receipt, deadline).await,
            Decision::Again(again) => self.try_again(dispatch, again).await,
            Decision::Bury(reason) => self.bury(dispatch, reason).await,
        }
    }

    async fn ack(&self, dispatch: &Dispatch, receipt: Receipt) -> Result<(), store::Error> {
        let now = self.clock.now_ms();
        retry::while_busy(|| self.store.lazy_ack(dispatch.claim, receipt.clone(), now)).await?;
        count(&self.counters.delivered);
        self.drafts.forget(&dispatch.event);
        self.bus
            .publish(|| Event::delivered(&dispatch.event, &receipt, dispatch.claim.attempt, now));
        debug!("delivered");
        Ok(())
    }

    async fn wait_for_confirmation(
        &self,
        dispatch: &Dispatch,
        receipt: Receipt,
        deadline: UnixMillis,
    ) -> Result<(), store::Error> {
        let now = self.clock.now_ms();
        let write = || {
            self.store
                .lazy_await_confirmation(dispatch.claim, receipt.clone(), deadline, now)
        };
        retry::while_busy(write).await?;
        count(&self.counters.handed_over);
        self.drafts.forget(&dispatch.event);
        debug!(deadline, "handed over, confirmation awaited");
        Ok(())
    }

    async fn try_again(&self, dispatch: &Dispatch, again: Again) -> Result<(), store::Error> {
        let Again {
            due,
            floor,
            attempted,
            reason,
            channel,
        } = again;
        if channel == ChannelEffect::Pause {
            error!(reason, "the channel is paused: correct its credentials and resume it");
            self.dispatcher.pause(&dispatch.event.channel, &reason);
        }
        let now = self.clock.now_ms();
        let write = || {
            self.store
                .lazy_reschedule(dispatch.claim, due, floor, attempted, &reason, now)
        };
        retry::while_busy(write).await?;
        count(match attempted {
            Attempted::Ambiguous => &self.counters.ambiguous,
            Attempted::Failed => &self.counters.failed,
            Attempted::NotAtAll => &self.counters.not_tried,
        });
        info!(reason, due, ?attempted, "not delivered, tried again later");
        self.bus.publish(|| Event::Failed {
            letter: (&dispatch.event).into(),
            reason,
            attempt: dispatch.claim.attempt,
            retry_at_ms: due,
            at_ms: now,
        });
        Ok(())
    }

    /// Tells of a message that the store found expired and made a dead letter.
    pub(super) fn tell_of_expired(&self, letter: DeadLetter) {
        let DeadLetter {
            event,
            reason,
            attempts,
            died_at_ms,
        } = letter;
        count(&self.counters.dead);
        self.drafts.forget(&event);
        warn!(channel = %event.channel, key = %event.key, attempts, reason, "given up: it is a dead letter now");
        self.bus.publish(|| Event::Dead {
            letter: (&event).into(),
            reason,
            attempt: attempts,
            at_ms: died_at_ms,
        });
    }

    async fn bury(&self, dispatch: &Dispatch, reason: String) -> Result<(), store::Error> {
        let now = self.clock.now_ms();
        retry::while_busy(|| self.store.bury(dispatch.claim, &reason, now)).await?;
        count(&self.counters.dead);
        self.drafts.forget(&dispatch.event);
        warn!(reason, "given up: it is a dead letter now");
        self.bus.publish(|| Event::Dead {
            letter: (&dispatch.event).into(),
            reason,
            attempt: dispatch.claim.attempt,
            at_ms: now,
        });
        Ok(())
    }
}

/// Says that the outcome of an attempt could not be written. Where the row is marked as being sent, the next start of the
/// process takes it as an attempt without a known outcome.
fn report(failed: &store::Error) {
    match failed {
        store::Error::Stale => debug!("the claim was taken over or dropped meanwhile"),
        other => error!(error = %other, "the outcome of an attempt could not be stored"),
    }
}
