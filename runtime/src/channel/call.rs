//! Calling a component's exports: each call in a fresh instance, under one deadline, with every way to end told apart.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Instance;
use wasmtime::{Store, Trap};

use super::loaded::LoadedComponent;
use super::status::Status;
use crate::clock::UnixMillis;
use crate::component::Inspection;
use crate::delivery::{Attempt, DeliveryRequest, Failure, Finding};
use crate::egress::Evidence;
use crate::event::{Conversation, DeliveryError};
use crate::guest::bindings::exports::sluicegate::channel as exports;
use crate::guest::{Bounds, CallContext, Guest, Level, Services, Used};
use crate::ingress::{ClientId, CloseReason, WebhookReply, WebhookRequest};
use crate::limit;

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The component does not have that export.
    #[error("the component does not offer `{0}`")]
    NotOffered(&'static str),
    /// Too many calls of this channel run already.
    #[error("the channel is busy")]
    Busy,
    /// It was stopped or paused before the call began.
    #[error("the channel is not up")]
    NotUp,
    /// The guest trapped, or used up its bounds.
    #[error("the guest trapped: {0}")]
    Trapped(String),
    /// It did not return in time.
    #[error("the guest gave no answer within {} s", .0.as_secs())]
    DeadlineExceeded(Duration),
}

/// What an operator can bound, for each channel.
#[derive(Debug, Clone, Copy)]
pub struct ChannelBounds {
    /// Linear memory of one instance, bytes.
    pub memory_bytes_max: usize,
    /// Guest CPU time of one call.
    pub cpu_max: Duration,
    /// Time for a delivery, host waits included.
    pub deliver_timeout: Duration,
    /// Calls at once, over all exports.
    pub calls_max: u32,
}

impl Default for ChannelBounds {
    fn default() -> Self {
        Self {
            memory_bytes_max: limit::GUEST_MEMORY_BYTES_DEFAULT,
            cpu_max: limit::CALL_CPU_DEFAULT,
            deliver_timeout: limit::DELIVER_TIMEOUT_DEFAULT,
            calls_max: limit::CALLS_PER_CHANNEL_DEFAULT,
        }
    }
}

/// On what terms a call is made.
struct Terms {
    context: CallContext,
    /// Time for the call once it runs, host waits included.
    timeout: Duration,
    /// Whether there is no call where the channel was stopped by the time that it is its turn: whoever stops it waits for
    /// the calls that run by then, and cuts short what begins after them.
    must_be_up: bool,
}

/// A fresh instance, for one call: whoever makes the call has all of it, and drops it with the call.
struct Entered {
    component: Arc<LoadedComponent>,
    store: Store<Guest>,
    instance: Instance,
}

/// One configured channel. Shared; calls run side by side.
pub struct Channel {
    pub(super) services: Arc<Services>,
    pub(super) component: Arc<LoadedComponent>,
    bounds: ChannelBounds,
    calls: Semaphore,
    /// Bounds the calls that wait for a permit of `calls`.
    waiting: Semaphore,
    pub(super) status: RwLock<Status>,
    /// Ends the listener that runs now; a new one has a new token.
    pub(super) listening: Mutex<CancellationToken>,
}

impl Channel {
    /// Makes a channel of a loaded component. Nothing of it runs yet.
    pub fn new(component: Arc<LoadedComponent>, services: Arc<Services>, bounds: ChannelBounds) -> Self {
        Self {
            services,
            component,
            bounds,
            calls: Semaphore::new(bounds.calls_max as usize),
            waiting: Semaphore::new(limit::CALLS_WAITING_PER_CHANNEL_MAX),
            status: RwLock::new(Status::Starting),
            listening: Mutex::default(),
        }
    }

    /// Returns what its guests share.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Returns what its component is.
    pub fn inspection(&self) -> &Inspection {
        self.component.inspection()
    }

    /// Waits until no call runs, at most for `patience`; calls that come meanwhile wait behind it. Returns whether none did.
    pub async fn rest(&self, patience: Duration) -> bool {
        let rested = tokio::time::timeout(patience, self.calls.acquire_many(self.bounds.calls_max)).await;
        rested.is_ok_and(|permits| permits.is_ok())
    }

    /// Delivers a message. What may have left the host is noted in `evidence`, which marks the attempt before.
    pub async fn deliver(&self, request: DeliveryRequest, evidence: Evidence) -> Attempt {
        let mut terms = self.while_up(self.bounds.deliver_timeout);
        terms.context.evidence = evidence.clone();
        let called = self
            .call(terms, move |mut it| async move {
                let guest = it.component.exports.delivery.load(&mut it.store, &it.instance)?;
                guest.call_deliver(&mut it.store, &request.into()).await
            })
            .await;
        let result = match called {
            Ok(Ok(receipt)) => Ok(receipt.into()),
            // The guest can't tell a platform that has no room from a gateway that has none.
            Ok(Err(exports::delivery::DeliveryError::Unavailable(_))) if evidence.is_unplaced() => {
                Err(Failure::NoPlace)
            }
            Ok(Err(error)) => Err(Failure::Reported(
                DeliveryError::from(error).presentable(&self.services),
            )),
            Err(CallError::Trapped(reason)) => Err(Failure::Trapped(reason)),
            Err(CallError::DeadlineExceeded(_)) if evidence.is_unplaced() && !evidence.anything_left() => {
                Err(Failure::NoPlace)
            }
            Err(CallError::DeadlineExceeded(_)) => Err(Failure::DeadlineExceeded),
            Err(CallError::Busy | CallError::NotUp | CallError::NotOffered(_)) => Err(Failure::NotUp),
        };
        // A guest that reports has weighed the answers that it got; one that died has not, and one that could not read them
        // says so.
        let bytes_left = match &result {
            Err(Failure::Trapped(_) | Failure::DeadlineExceeded | Failure::Reported(DeliveryError::Ambiguous(_))) => {
                evidence.anything_left()
            }
            _ => evidence.bytes_left(),
        };
        Attempt { result, bytes_left }
    }

    /// Asks what became of a delivery whose outcome is unknown, and of which no such attempt began before `since`.
    pub async fn reconcile(&self, request: DeliveryRequest, since: UnixMillis) -> Finding {
        use exports::reconciliation::Finding as Found;
        let since_ms = u64::try_from(since).unwrap_or_default();
        let called = self
            .call(self.while_up(self.bounds.deliver_timeout), move |mut it| async move {
                let Some(indices) = &it.component.exports.reconciliation else {
                    return Ok(Found::Unknown);
                };
                let guest = indices.load(&mut it.store, &it.instance)?;
                guest.call_reconcile(&mut it.store, &request.into(), since_ms).await
            })
            .await;
        called.map_or(Finding::Unknown, Finding::from)
    }

    /// Shows that the agent is at work. Nothing depends on it.
    pub async fn typing(&self, conversation: Conversation) {
        let _ = self
            .call(self.within(limit::PRESENCE_TIMEOUT), move |mut it| async move {
                let Some(indices) = &it.component.exports.presence else {
                    return Ok(());
                };
                let guest = indices.load(&mut it.store, &it.instance)?;
                guest.call_typing(&mut it.store, &conversation.into()).await
            })
            .await;
    }

    /// Shows a growing answer. Returns the draft's id where the platform has it.
    pub async fn draft(&self, request: DeliveryRequest) -> Option<String> {
        let called = self
            .call(self.within(limit::PRESENCE_TIMEOUT), move |mut it| async move {
                let Some(indices) = &it.component.exports.presence else {
                    return Ok(None);
                };
                let guest = indices.load(&mut it.store, &it.instance)?;
                Ok(guest.call_draft(&mut it.store, &request.into()).await?.ok())
            })
            .await;
        called
            .ok()
            .flatten()
            .filter(|id| id.len() <= limit::PLATFORM_ID_BYTES_MAX)
    }

    /// Handles a webhook that was found genuine.
    ///
    /// # Errors
    /// See [`CallError`]; an answer out of bounds counts as a trap.
    pub async fn webhook(&self, request: WebhookRequest) -> Result<WebhookReply, CallError> {
        let request = self.without_secrets(request);
        let reply = self
            .call(self.while_up(limit::WEBHOOK_TIMEOUT), move |mut it| async move {
                let Some(indices) = &it.component.exports.webhook else {
                    return Ok(None);
                };
                let guest = indices.load(&mut it.store, &it.instance)?;
                let request = exports::webhook::Request {
                    method: request.method,
                    path: request.path,
                    query: request.query,
                    headers: request.headers,
                    body: request.body,
                };
                guest.call_handle(&mut it.store, &request).await.map(Some)
            })
            .await?
            .ok_or(CallError::NotOffered("webhook"))?;
        let header_bytes: usize = reply.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let beyond = [
            (!(200..600).contains(&reply.status)).then(|| format!("the status {}", reply.status)),
            past(reply.body.len(), limit::WEBHOOK_BODY_BYTES_MAX, "bytes of body"),
            past(reply.headers.len(), limit::REPLY_HEADERS_MAX, "headers"),
            past(header_bytes, limit::REPLY_HEADER_BYTES_MAX, "bytes of headers"),
        ];
        if let Some(what) = beyond.into_iter().flatten().next() {
            return Err(self.out_of_bounds(&format!("an answer to a webhook with {what}")));
        }
        Ok(WebhookReply {
            status: reply.status,
            headers: reply.headers,
            body: reply.body,
        })
    }

    /// Takes the channel's secrets out of a request: a platform that shows one to prove who it is shows it to the host, which
    /// has looked at it by now.
    fn without_secrets(&self, request: WebhookRequest) -> WebhookRequest {
        let redactor = self.services().egress.keyring().redactor();
        let bytes = |bytes: Vec<u8>| match redactor.bytes(&bytes) {
            Cow::Borrowed(_) => bytes,
            Cow::Owned(redacted) => redacted,
        };
        let headers = request.headers.into_iter();
        WebhookRequest {
            method: request.method,
            path: redactor.text(&request.path).into_owned(),
            query: request.query.map(|query| redactor.text(&query).into_owned()),
            headers: headers.map(|(name, value)| (name, bytes(value))).collect(),
            body: bytes(request.body),
        }
    }

    /// Tells a serving component of a new client.
    ///
    /// # Errors
    /// Why the connection must be closed.
    pub async fn client_opened(
        &self,
        id: &ClientId,
        path: String,
        query: Option<String>,
        principal: Option<String>,
    ) -> Result<Vec<String>, CloseReason> {
        let client = exports::connections::Client {
            id: id.as_str().to_owned(),
            path,
            query,
            principal,
        };
        self.call_connections(id, move |guest, mut store| async move {
            guest.call_opened(&mut store, &client).await
        })
        .await
    }

    /// Hands a client's frame to a serving component.
    ///
    /// # Errors
    /// Why the connection must be closed.
    pub async fn client_received(&self, id: &ClientId, frame: String) -> Result<Vec<String>, CloseReason> {
        let own = id.clone();
        self.call_connections(id, move |guest, mut store| async move {
            guest.call_received(&mut store, own.as_str(), &frame).await
        })
        .await
    }

    /// Tells a serving component that a client is gone.
    pub async fn client_closed(&self, id: &ClientId) {
        let own = id.clone();
        let closed = self
            .call_connections(id, move |guest, mut store| async move {
                guest.call_closed(&mut store, own.as_str()).await?;
                Ok(Ok(Vec::new()))
            })
            .await;
        if let Err(reason) = closed {
            tracing::debug!(channel = %self.services.name, ?reason, "a client's end was not taken");
        }
    }

    /// Tells the component that the channel starts. `webhook_url` is its public address, if it has one.
    ///
    /// # Errors
    /// The component's own words, or why it gave none.
    pub async fn start(&self, webhook_url: Option<String>) -> Result<(), String> {
        let called = self
            .call(self.within(limit::LIFECYCLE_TIMEOUT), move |mut it| async move {
                let Some(indices) = &it.component.exports.lifecycle else {
                    return Ok(Ok(()));
                };
                let guest = indices.load(&mut it.store, &it.instance)?;
                guest.call_start(&mut it.store, webhook_url.as_deref()).await
            })
            .await;
        called
            .map_err(|error| error.to_string())?
            .map_err(|text| self.services.presentable(&text))
    }

    /// Tells the component that the channel stops.
    pub async fn stop(&self) {
        let stopped = self
            .call(self.within(limit::LIFECYCLE_TIMEOUT), move |mut it| async move {
                let Some(indices) = &it.component.exports.lifecycle else {
                    return Ok(());
                };
                let guest = indices.load(&mut it.store, &it.instance)?;
                guest.call_stop(&mut it.store).await
            })
            .await;
        if let Err(error) = stopped {
            tracing::warn!(channel = %self.services.name, %error, "the channel did not stop cleanly");
        }
    }

    async fn call_connections<F>(
        &self,
        id: &ClientId,
        call: impl FnOnce(exports::connections::Guest, Store<Guest>) -> F + Send + 'static,
    ) -> Result<Vec<String>, CloseReason>
    where
        F: Future<Output = wasmtime::Result<Result<Vec<String>, exports::connections::CloseReason>>> + Send + 'static,
    {
        let mut terms = self.within(limit::FRAME_TIMEOUT);
        terms.context.client = Some(id.clone());
        let called = self
            .call(terms, move |mut it| async move {
                let Some(indices) = &it.component.exports.connections else {
                    return Ok(Err(exports::connections::CloseReason::Internal));
                };
                let guest = indices.load(&mut it.store, &it.instance)?;
                call(guest, it.store).await
            })
            .await;
        match called {
            Ok(Ok(frames)) if frames_fit(&frames) => Ok(frames),
            Ok(Ok(frames)) => {
                self.out_of_bounds(&format!("{} frames for a client", frames.len()));
                Err(CloseReason::Internal)
            }
            Ok(Err(exports::connections::CloseReason::Policy(text))) => {
                Err(CloseReason::Policy(self.services.presentable(&text)))
            }
            Ok(Err(reason)) => Err(reason.into()),
            Err(_) => Err(CloseReason::Internal),
        }
    }

    /// Counts a result that no one may depend on as a trap: whoever made it is as little worth as a dead guest.
    fn out_of_bounds(&self, what: &str) -> CallError {
        self.services.note_trap();
        let error = CallError::Trapped(format!("it gave a result out of bounds: {what}"));
        self.services.log(Level::Warn, &format!("a call failed: {error}"));
        error
    }

    /// Returns the terms of a call that is made also while the channel is not up.
    fn within(&self, timeout: Duration) -> Terms {
        let context = CallContext {
            shutdown: self.services.shutdown.clone(),
            ..CallContext::default()
        };
        Terms {
            context,
            timeout,
            must_be_up: false,
        }
    }

    /// Returns the terms of a call that is made only while the channel is up.
    fn while_up(&self, timeout: Duration) -> Terms {
        Terms {
            must_be_up: true,
            ..self.within(timeout)
        }
    }

    /// Runs one call in a fresh instance. The future and the store are dropped together when the time is up: a store
    /// whose call was abandoned must never be entered again.
    async fn call<R, F>(&self, terms: Terms, call: impl FnOnce(Entered) -> F + Send + 'static) -> Result<R, CallError>
    where
        R: Send + 'static,
        F: Future<Output = wasmtime::Result<R>> + Send + 'static,
    {
        let Terms {
            context,
            timeout,
            must_be_up,
        } = terms;
        let _permit = self.turn().await?;
        if must_be_up && !self.delivers() {
            return Err(CallError::NotUp);
        }
        self.earn().await?;
        let usage = &self.services.usage;
        let bounds = Bounds {
            memory_bytes_max: self.bounds.memory_bytes_max,
            cpu_max: Some(self.bounds.cpu_max),
        };
        let meter = context.meter.clone();
        if self.services.share.is_in_the_way() {
            meter.mark_long();
        }
        let (component, services) = (self.component.clone(), self.services.clone());
        let running = async move {
            let mut store = component.store(services, context, bounds);
            let instance = component.pre().instantiate_async(&mut store).await?;
            let entered = Entered {
                component,
                store,
                instance,
            };
            call(entered).await
        };
        let guarded = AssertUnwindSafe(running).catch_unwind();
        let lane = self.component.lane();
        let ended = lane.run(meter.clone(), guarded, tokio::time::sleep(timeout)).await;
        // Taking an instance down takes time too, the longer the larger it had become.
        let taken_down = Used {
            cpu: meter.take(),
            is_long: false,
        };
        let _rest_of_nobody = self.services.use_cpu(taken_down);
        let outcome = match ended {
            Some(Ok(Ok(result))) => return Ok(result),
            Some(Ok(Err(trap))) => CallError::Trapped(trap_reason(&trap)),
            Some(Err(_)) => CallError::Trapped("the host failed while serving it".into()),
            None => CallError::DeadlineExceeded(timeout),
        };
        match &outcome {
            CallError::DeadlineExceeded(_) => usage.deadlines.add(1),
            _ => self.services.note_trap(),
        }
        // Through the channel's own log: whoever can make it trap must not fill the disk.
        self.services.log(Level::Warn, &format!("a call failed: {outcome}"));
        Err(outcome)
    }

    /// Waits for a call's turn, where fewer wait than may.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, CallError> {
        self.services.usage.calls.add(1);
        if let Ok(permit) = self.calls.try_acquire() {
            return Ok(permit);
        }
        let _place = self.waiting.try_acquire().map_err(|_| CallError::Busy)?;
        tokio::time::timeout(limit::CALL_WAIT_MAX, self.calls.acquire())
            .await
            .map_err(|_| CallError::Busy)?
            .map_err(|_| CallError::Busy)
    }

    /// Waits until the channel has earned what its calls before this one used.
    async fn earn(&self) -> Result<(), CallError> {
        let until = Instant::now() + limit::CALL_WAIT_MAX;
        while let Some(rest) = self.services.share.rest() {
            if Instant::now() + rest > until {
                return Err(CallError::Busy);
            }
            tokio::time::sleep(rest).await;
        }
        Ok(())
    }

    /// Returns the bounds of the long-lived instance.
    pub(super) fn listener_bounds(&self) -> Bounds {
        Bounds {
            memory_bytes_max: self.bounds.memory_bytes_max,
            cpu_max: None,
        }
    }
}

impl DeliveryError {
    /// Makes the guest's words presentable: they are stored and shown.
    pub(crate) fn presentable(self, services: &Services) -> Self {
        let clean = |text: String| services.presentable(&text);
        match self {
            Self::RateLimited { .. } => self,
            Self::Unavailable(text) => Self::Unavailable(clean(text)),
            Self::Ambiguous(text) => Self::Ambiguous(clean(text)),
            Self::Rejected(text) => Self::Rejected(clean(text)),
            Self::NoSuchConversation(text) => Self::NoSuchConversation(clean(text)),
            Self::Unauthorized(text) => Self::Unauthorized(clean(text)),
        }
    }
}

/// Says how many there are where there may not be as many.
fn past(count: usize, max: usize, what: &str) -> Option<String> {
    (count > max).then(|| format!("{count} {what}, of {max} that it may have"))
}

fn frames_fit(frames: &[String]) -> bool {
    frames.len() <= limit::CLIENT_ANSWER_FRAMES_MAX
        && frames.iter().all(|frame| frame.len() <= limit::CLIENT_FRAME_BYTES_MAX)
        && frames.iter().map(String::len).sum::<usize>() <= limit::CLIENT_ANSWER_BYTES_MAX
}

/// Says in a few words why a guest stopped.
pub(super) fn trap_reason(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "it used up its CPU time".into(),
        Some(Trap::StackOverflow) => "it ran out of stack".into(),
        Some(Trap::UnreachableCodeReached) => "it panicked (unreachable code)".into(),
        Some(trap) => trap.to_string(),
        None => crate::shown::printable(&error.root_cause().to_string()),
    }
}
