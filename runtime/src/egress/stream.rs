//! A response that is read as it comes, such as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::departure::Use;
use super::evidence::{self, Unanswered};
use super::exchange::{Answer, redacted_headers};
use super::{ChannelEgress, Evidence, HttpError, Request};
use crate::limit;
use crate::policy::Target;
use crate::secret::StreamRedactor;

/// An open response. Counts as one request in flight until it is dropped.
pub struct ResponseStream {
    channel: Arc<ChannelEgress>,
    /// Checked at each read, so that a revoked grant ends the stream.
    target: Target,
    place: String,
    response: reqwest::Response,
    headers: Vec<(String, String)>,
    redactor: StreamRedactor,
    /// Redacted bytes that did not fit into the last read; at most what one piece of the body made.
    waiting: BytesMut,
    is_ended: bool,
    unanswered: Option<Unanswered>,
    _origin: Arc<Use>,
    _permit: OwnedSemaphorePermit,
}

impl ResponseStream {
    pub(super) async fn open(
        channel: &Arc<ChannelEgress>,
        request: Request,
        evidence: &Evidence,
    ) -> Result<Self, HttpError> {
        let prepared = channel.prepare(request)?;
        evidence.note_unplaced();
        let permit = Arc::clone(&channel.in_flight)
            .try_acquire_owned()
            .map_err(|_| HttpError::Busy)?;
        evidence.note_placed();
        let (timeout, target) = (prepared.timeout, prepared.target.clone());
        let Answer {
            response,
            unanswered,
            origin,
            place,
        } = tokio::time::timeout(timeout, channel.dispatch(prepared, evidence))
            .await
            .map_err(|_| {
                HttpError::Interrupted(format!("{target} did not answer within {} ms", timeout.as_millis()))
            })??;
        let redactor = channel.keyring.redactor();
        Ok(Self {
            headers: redacted_headers(response.headers(), redactor),
            redactor: redactor.stream(),
            channel: Arc::clone(channel),
            target,
            place,
            response,
            waiting: BytesMut::new(),
            is_ended: false,
            unanswered,
            _origin: origin,
            _permit: permit,
        })
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns the headers, in order and redacted.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Returns the next 1 to `bytes_max` bytes; none when nothing came in time, empty at the end.
    ///
    /// # Errors
    /// When the answer is cut off, the grant was revoked, or the channel goes down.
    ///
    /// # Cancel safety
    /// Nothing that was read is lost when the future is dropped.
    pub async fn read(&mut self, bytes_max: u32, timeout: Duration) -> Result<Option<Bytes>, HttpError> {
        self.channel.permit_target(&self.target).map_err(HttpError::Denied)?;
        let bytes_max = usize::try_from(bytes_max)
            .unwrap_or(usize::MAX)
            .clamp(1, limit::HTTP_STREAM_READ_BYTES_MAX);
        let timeout = timeout.min(self.channel.limits.timeout_max);
        let channel = Arc::clone(&self.channel);
        let filled = async {
            tokio::time::timeout(timeout, self.fill())
                .await
                .map_or(Ok(false), |result| result.map(|()| true))
        };
        if !channel.unless_shut_down(filled, HttpError::ShuttingDown).await? {
            return Ok(None);
        }
        let length = self.waiting.len().min(bytes_max);
        Ok(Some(self.waiting.split_to(length).freeze()))
    }

    /// Waits until there is something to hand out, or the end.
    async fn fill(&mut self) -> Result<(), HttpError> {
        while !self.waiting.has_remaining() && !self.is_ended {
            if !self.channel.quota.charge(0) {
                return Err(HttpError::Busy);
            }
            let piece = self
                .response
                .chunk()
                .await
                .map_err(|error| self.channel.cut_off(&error, &self.place))?;
            match piece {
                Some(piece) => {
                    self.channel.count_received(piece.len());
                    self.waiting.extend_from_slice(&self.redactor.push(&piece));
                }
                None => {
                    self.is_ended = true;
                    self.waiting.extend_from_slice(&self.redactor.finish());
                    evidence::settle(self.unanswered.take());
                }
            }
        }
        Ok(())
    }
}
