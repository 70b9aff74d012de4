//! From claimed rows to what the workers are handed: their JSON is read, and what is damaged is given up.

use super::SqliteStore;
use super::attempt;
use super::inbox::ClaimedRow;
use super::outbox::{Claimed, EXPIRED, Expired};
use crate::clock::UnixMillis;
use crate::store::{ClaimedTurn, DeadLetter, Dispatch, Error, EventStore as _, TurnFence};

impl SqliteStore {
    /// Reads the JSON of a claimed turn. A damaged one is buried rather than handed out for ever.
    pub(super) async fn open_turn(&self, row: ClaimedRow, now: UnixMillis) -> Result<Option<ClaimedTurn>, Error> {
        let fence = TurnFence(self.boot);
        match serde_json::from_str(&row.body) {
            Ok(event) => Ok(Some(ClaimedTurn {
                event,
                failures: row.failures,
                answer: row.answer,
                fence,
            })),
            Err(error) => {
                let reason = format!("its stored form is damaged: {error}");
                tracing::error!(event = %row.event_id, reason, "an inbound event was given up");
                self.bury_turn(fence, &row.event_id, &reason, None, now).await?;
                Ok(None)
            }
        }
    }

    /// Reads the JSON of a claimed delivery. A damaged one is buried: its lane goes on.
    pub(super) async fn open_dispatch(&self, row: Claimed, now: UnixMillis) -> Result<Option<Dispatch>, Error> {
        let parts = attempt::sent_parts(row.parts.as_deref());
        let event = serde_json::from_str(&row.body).map_err(|error| Error::Refused(error.to_string()));
        match (event, parts) {
            (Ok(event), Ok(already_sent)) => Ok(Some(Dispatch {
                claim: row.claim,
                event,
                already_sent,
                ambiguous: row.ambiguous,
                ambiguous_at_ms: row.ambiguous_at_ms,
                created_at_ms: row.created_at_ms,
                standing: row.standing,
            })),
            (Err(error), _) | (_, Err(error)) => {
                let reason = format!("its stored form is damaged: {error}");
                tracing::error!(row = row.claim.row, reason, "an outbound event was given up");
                self.bury(row.claim, &reason, now).await?;
                Ok(None)
            }
        }
    }
}

/// Reads the JSON of what expired. A damaged one is dead all the same; only nobody can be told what it was.
pub(super) fn open_expired(row: Expired, now: UnixMillis) -> Option<DeadLetter> {
    match serde_json::from_str(&row.body) {
        Ok(event) => Some(DeadLetter {
            event,
            reason: EXPIRED.to_owned(),
            attempts: row.attempts,
            died_at_ms: now,
        }),
        Err(error) => {
            tracing::error!(%error, "a damaged outbound event expired");
            None
        }
    }
}
