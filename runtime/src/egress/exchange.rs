//! One HTTP exchange: sent, answered, redacted, or failed in a way that says whether anything was sent.

use std::borrow::Cow;
use std::error::Error as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{self, HeaderMap, HeaderName};
use tokio::sync::SemaphorePermit;

use super::address::ResolveError;
use super::counters::Denial;
use super::departure::Use;
use super::evidence::{self, Unanswered, Unmarked};
use super::prepare::Prepared;
use super::{ChannelEgress, Evidence, HttpError, Request, Response};
use crate::limit;
use crate::secret::Redactor;

/// Headers of the connection: they mean nothing to a guest.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// An answer whose body is still to come.
pub(super) struct Answer {
    pub(super) response: reqwest::Response,
    /// Settled when the body is complete; none for requests that change nothing.
    pub(super) unanswered: Option<Unanswered>,
    /// Kept until the body is complete.
    pub(super) origin: Arc<Use>,
    /// The scheme, host and port, for messages.
    pub(super) place: String,
}

impl ChannelEgress {
    pub(super) async fn exchange(
        &self,
        request: Request,
        evidence: &Evidence,
        body_bytes_max: usize,
    ) -> Result<Response, HttpError> {
        let prepared = self.prepare(request)?;
        let _place = self.place(evidence).await?;
        let (timeout, place) = (prepared.timeout, prepared.target.to_string());
        let work = async {
            let answer = self.dispatch(prepared, evidence).await?;
            self.receive(answer, body_bytes_max).await
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::Interrupted(format!(
                "{place} did not answer within {} ms",
                timeout.as_millis()
            ))),
        }
    }

    /// Waits for a place among the requests in flight, in the order of asking.
    async fn place(&self, evidence: &Evidence) -> Result<SemaphorePermit<'_>, HttpError> {
        evidence.note_unplaced();
        let placed = tokio::time::timeout(self.limits.place_wait_max, self.in_flight.acquire()).await;
        let place = placed.map_err(|_| HttpError::Busy)?.map_err(|_| HttpError::Busy)?;
        evidence.note_placed();
        Ok(place)
    }

    /// Sends the request and waits for the head of its answer.
    pub(super) async fn dispatch(&self, prepared: Prepared, evidence: &Evidence) -> Result<Answer, HttpError> {
        if !self.quota.charge(prepared.bytes) {
            return Err(HttpError::Busy);
        }
        let place = prepared.target.to_string();
        let changes_something = prepared.method != Method::GET && prepared.method != Method::HEAD;
        let mut request = reqwest::Request::new(prepared.method, prepared.target.url);
        *request.headers_mut() = prepared.headers;
        *request.body_mut() = Some(prepared.body);
        let pool = self.gate.pool(prepared.permit);
        let origin = pool
            .origins
            .enter(place.clone(), changes_something.then_some(evidence))
            .await?;
        let sending = self.lookups.scope(pool.client.execute(request));
        let result = origin.scope(sending).await;
        let unanswered = origin.take_noted().await;
        match result {
            Ok(response) => {
                origin.answered();
                self.counters.sent(prepared.bytes);
                self.check_head(&response, unanswered.as_ref(), &place)?;
                Ok(Answer {
                    response,
                    unanswered,
                    origin,
                    place,
                })
            }
            Err(error) => {
                let error = self.classify(&error, &place);
                if !matches!(error, HttpError::Interrupted(_))
                    && let Some(unsent) = unanswered
                {
                    unsent.withdraw();
                }
                Err(error)
            }
        }
    }

    /// Reads the whole body and redacts.
    async fn receive(&self, answer: Answer, body_bytes_max: usize) -> Result<Response, HttpError> {
        let Answer {
            mut response,
            unanswered,
            origin: _origin,
            place,
        } = answer;
        let beyond = |unanswered: &Option<Unanswered>| {
            let what = format!("a body of more than {body_bytes_max} bytes (see `response_mib`)");
            too_large(unanswered.as_ref(), &place, &what)
        };
        if response
            .content_length()
            .is_some_and(|length| length > body_bytes_max as u64)
        {
            return Err(beyond(&unanswered));
        }
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.cut_off(&error, &place))? {
            self.count_received(piece.len());
            if body.len() + piece.len() > body_bytes_max {
                return Err(beyond(&unanswered));
            }
            body.extend_from_slice(&piece);
        }
        evidence::settle(unanswered);
        let redactor = self.keyring.redactor();
        let mut headers = redacted_headers(response.headers(), redactor);
        let body = match redactor.bytes(&body) {
            Cow::Borrowed(_) => body.freeze(),
            Cow::Owned(redacted) => {
                headers.retain(|(name, _)| name != header::CONTENT_LENGTH.as_str());
                Bytes::from(redacted)
            }
        };
        Ok(Response {
            status: response.status().as_u16(),
            headers,
            body,
        })
    }

    /// Refuses heads that are too large, and bodies that can't be searched for secrets.
    fn check_head(
        &self,
        response: &reqwest::Response,
        unanswered: Option<&Unanswered>,
        place: &str,
    ) -> Result<(), HttpError> {
        let headers = response.headers();
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        self.count_received(bytes);
        if bytes > limit::HTTP_HEADER_BYTES_MAX || headers.len() > limit::HTTP_HEADERS_MAX {
            return Err(too_large(unanswered, place, "more headers than anyone may send"));
        }
        let is_encoded = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !self.keyring.redactor().is_empty() && headers.get_all(header::CONTENT_ENCODING).iter().any(is_encoded) {
            return Err(HttpError::Interrupted(format!(
                "{place} answered with a compressed body although none was asked for"
            )));
        }
        Ok(())
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.counters.received(bytes);
        // What is under way may finish: the next request is refused.
        self.quota.charge(bytes);
    }

    /// Describes a body that ended early.
    pub(super) fn cut_off(&self, error: &reqwest::Error, place: &str) -> HttpError {
        HttpError::Interrupted(self.describe(error, place))
    }

    /// Decides from a failure whether anything can have been sent.
    fn classify(&self, error: &reqwest::Error, place: &str) -> HttpError {
        if let Some(refused) = resolve_error(error) {
            let text = refused.to_string();
            return if refused.is_denial() {
                self.counters.denied(Denial::Address);
                HttpError::Denied(text)
            } else {
                HttpError::Unreachable(text)
            };
        }
        let text = self.describe(error, place);
        if error.is_connect() {
            HttpError::Unreachable(text)
        } else if error.is_builder() {
            HttpError::Invalid(text)
        } else {
            HttpError::Interrupted(text)
        }
    }

    /// Returns the place and the innermost cause: the texts between repeat the URL.
    fn describe(&self, error: &reqwest::Error, place: &str) -> String {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
        while let Some(inner) = cause.and_then(std::error::Error::source) {
            cause = Some(inner);
        }
        let cause = cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string);
        format!("{place}: {}", self.redact(&cause))
    }
}

/// Says that an answer is larger than allowed. A delivery takes "too large" for a message that can't be sent, while this one
/// may have been: to its attempt the answer is lost like any that broke off.
fn too_large(unanswered: Option<&Unanswered>, place: &str, what: &str) -> HttpError {
    if unanswered.is_some_and(Unanswered::is_of_attempt) {
        HttpError::Interrupted(format!("{place} answered with {what}"))
    } else {
        HttpError::TooLarge
    }
}

impl From<Unmarked> for HttpError {
    fn from(error: Unmarked) -> Self {
        Self::Unreachable(error.to_string())
    }
}

fn resolve_error(error: &reqwest::Error) -> Option<&ResolveError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<ResolveError>() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

/// Returns what a guest may see of an answer's headers: none that has a secret in its name, since no name can be redacted.
pub(super) fn redacted_headers(headers: &HeaderMap, redactor: &Redactor) -> Vec<(String, String)> {
    let is_clean = |name: &HeaderName| matches!(redactor.text(name.as_str()), Cow::Borrowed(_));
    let shown = headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(name) && is_clean(name));
    shown
        .map(|(name, value)| {
            let value = redactor.bytes(value.as_bytes());
            (name.as_str().to_owned(), String::from_utf8_lossy(&value).into_owned())
        })
        .collect()
}
