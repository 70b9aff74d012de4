//! Calling a component's exports: each call in a fresh instance, under one deadline, with every way to end told apart.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use wasmtime::component::Instance;
use wasmtime::{Store, Trap};

use super::bindings::exports::sluicegate::channel as exports;
use super::guest::{Bounds, CallContext, Guest};
use super::loaded::LoadedComponent;
use super::services::Services;
use crate::component::Inspection;
use crate::delivery::{Attempt, DeliveryRequest, Failure, Finding};
use crate::event::{Conversation, DeliveryError};
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
}

impl Default for ChannelBounds {
    fn default() -> Self {
        Self {
            memory_bytes_max: limit::GUEST_MEMORY_BYTES_DEFAULT,
            cpu_max: limit::CALL_CPU_DEFAULT,
            deliver_timeout: limit::DELIVER_TIMEOUT_DEFAULT,
        }
    }
}

/// How a channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is being started.
    Starting,
    /// It works.
    Up,
    /// Its listener failed and is started again after a while; deliveries go on.
    Degraded(String),
    /// It is stopped until someone acts.
    Paused(String),
    /// It has ended, such as a terminal at the end of its input.
    Ended,
}

/// One configured channel. Shared; calls run side by side.
pub struct Channel {
    pub(super) services: Arc<Services>,
    pub(super) component: Arc<LoadedComponent>,
    bounds: ChannelBounds,
    calls: Semaphore,
    status: RwLock<Status>,
}

impl Channel {
    /// Makes a channel of a loaded component. Nothing of it runs yet.
    pub fn new(component: Arc<LoadedComponent>, services: Arc<Services>, bounds: ChannelBounds) -> Self {
        Self {
            services,
            component,
            bounds,
            calls: Semaphore::new(limit::CALLS_PER_CHANNEL_MAX),
            status: RwLock::new(Status::Starting),
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

    /// Returns how it is.
    pub fn status(&self) -> Status {
        self.status.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether deliveries may be tried.
    pub fn delivers(&self) -> bool {
        matches!(&*self.status.read().unwrap_or_else(PoisonError::into_inner), Status::Up | Status::Degraded(_) | Status::Ended)
    }

    /// Changes how it is, and says so.
    pub fn set_status(&self, status: Status) {
        let mut current = self.status.write().unwrap_or_else(PoisonError::into_inner);
        if *current == status {
            return;
        }
        let channel = self.services.name.as_str();
        match &status {
            Status::Degraded(reason) => tracing::warn!(channel, reason, "channel degraded"),
            Status::Paused(reason) => tracing::error!(channel, reason, "channel paused"),
            other => tracing::info!(channel, status = ?other, "channel"),
        }
        *current = status;
    }

    /// Delivers a message.
    pub async fn deliver(&self, request: DeliveryRequest) -> Attempt {
        let context = CallContext { shutdown: self.services.shutdown.clone(), ..CallContext::default() };
        let evidence = context.evidence.clone();
        let called = self
            .call(context, self.bounds.deliver_timeout, move |channel, store, instance| {
                async move {
                    let guest = channel.component.exports.delivery.load(&mut *store, instance)?;
                    guest.call_deliver(store, &request.into()).await
                }
                .boxed()
            })
            .await;
        let result = match called {
            Ok(Ok(receipt)) => Ok(receipt.into()),
            Ok(Err(error)) => Err(Failure::Reported(DeliveryError::from(error).redacted(&self.services))),
            Err(CallError::Trapped(reason)) => Err(Failure::Trapped(reason)),
            Err(CallError::DeadlineExceeded(_)) => Err(Failure::DeadlineExceeded),
            Err(CallError::Busy | CallError::NotOffered(_)) => Err(Failure::NotUp),
        };
        Attempt { result, bytes_left: evidence.bytes_left() }
    }

    /// Asks what became of a delivery whose outcome is unknown.
    pub async fn reconcile(&self, request: DeliveryRequest) -> Finding {
        use exports::reconciliation::Finding as Found;
        let called = self
            .call(self.context(), self.bounds.deliver_timeout, move |channel, store, instance| {
                async move {
                    let Some(indices) = &channel.component.exports.reconciliation else { return Ok(Found::Unknown) };
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_reconcile(store, &request.into()).await
                }
                .boxed()
            })
            .await;
        match called {
            Ok(Found::Delivered(receipt)) => Finding::Delivered(receipt.into()),
            Ok(Found::NotDelivered) => Finding::NotDelivered,
            Ok(Found::Unknown) | Err(_) => Finding::Unknown,
        }
    }

    /// Shows that the agent is at work. Nothing depends on it.
    pub async fn typing(&self, conversation: Conversation) {
        let _ = self
            .call(self.context(), limit::PRESENCE_TIMEOUT, move |channel, store, instance| {
                async move {
                    let Some(indices) = &channel.component.exports.presence else { return Ok(()) };
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_typing(store, &conversation.into()).await
                }
                .boxed()
            })
            .await;
    }

    /// Shows a growing answer. Returns the draft's id where the platform has it.
    pub async fn draft(&self, request: DeliveryRequest) -> Option<String> {
        let called = self
            .call(self.context(), limit::PRESENCE_TIMEOUT, move |channel, store, instance| {
                async move {
                    let Some(indices) = &channel.component.exports.presence else { return Ok(None) };
                    let guest = indices.load(&mut *store, instance)?;
                    Ok(guest.call_draft(store, &request.into()).await?.ok())
                }
                .boxed()
            })
            .await;
        called.ok().flatten()
    }

    /// Handles a webhook that was found genuine.
    ///
    /// # Errors
    /// See [`CallError`]; an answer out of bounds counts as a trap.
    pub async fn webhook(&self, request: WebhookRequest) -> Result<WebhookReply, CallError> {
        let reply = self
            .call(self.context(), limit::WEBHOOK_TIMEOUT, move |channel, store, instance| {
                async move {
                    let Some(indices) = &channel.component.exports.webhook else { return Ok(None) };
                    let guest = indices.load(&mut *store, instance)?;
                    let request = exports::webhook::Request {
                        method: request.method,
                        path: request.path,
                        query: request.query,
                        headers: request.headers,
                        body: request.body,
                    };
                    guest.call_handle(store, &request).await.map(Some)
                }
                .boxed()
            })
            .await?
            .ok_or(CallError::NotOffered("webhook"))?;
        if !(200..600).contains(&reply.status) || reply.body.len() > limit::WEBHOOK_BODY_BYTES_MAX {
            return Err(CallError::Trapped(format!("it answered out of bounds (status {})", reply.status)));
        }
        Ok(WebhookReply { status: reply.status, headers: reply.headers, body: reply.body })
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
        let client = exports::connections::Client { id: id.as_str().to_owned(), path, query, principal };
        self.call_connections(id, move |guest, store| async move { guest.call_opened(store, &client).await }.boxed()).await
    }

    /// Hands a client's frame to a serving component.
    ///
    /// # Errors
    /// Why the connection must be closed.
    pub async fn client_received(&self, id: &ClientId, frame: String) -> Result<Vec<String>, CloseReason> {
        let own = id.clone();
        self.call_connections(id, move |guest, store| {
            async move { guest.call_received(store, own.as_str(), &frame).await }.boxed()
        })
        .await
    }

    /// Tells a serving component that a client is gone.
    pub async fn client_closed(&self, id: &ClientId) {
        let own = id.clone();
        let closed = self
            .call_connections(id, move |guest, store| {
                async move {
                    guest.call_closed(store, own.as_str()).await?;
                    Ok(Ok(Vec::new()))
                }
                .boxed()
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
            .call(self.context(), limit::LIFECYCLE_TIMEOUT, move |channel, store, instance| {
                async move {
                    let Some(indices) = &channel.component.exports.lifecycle else { return Ok(Ok(())) };
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_start(store, webhook_url.as_deref()).await
                }
                .boxed()
            })
            .await;
        called.map_err(|error| error.to_string())?.map_err(|text| self.services.egress.redact(&text))
    }

    /// Tells the component that the channel stops.
    pub async fn stop(&self) {
        let stopped = self
            .call(self.context(), limit::LIFECYCLE_TIMEOUT, move |channel, store, instance| {
                async move {
                    let Some(indices) = &channel.component.exports.lifecycle else { return Ok(()) };
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_stop(store).await
                }
                .boxed()
            })
            .await;
        if let Err(error) = stopped {
            tracing::warn!(channel = %self.services.name, %error, "the channel did not stop cleanly");
        }
    }

    async fn call_connections(
        &self,
        id: &ClientId,
        call: impl for<'a> FnOnce(
            exports::connections::Guest,
            &'a mut Store<Guest>,
        ) -> BoxFuture<'a, wasmtime::Result<Result<Vec<String>, exports::connections::CloseReason>>>
        + Send
        + 'static,
    ) -> Result<Vec<String>, CloseReason> {
        let context = CallContext { client: Some(id.clone()), ..self.context() };
        let called = self
            .call(context, limit::FRAME_TIMEOUT, move |channel, store, instance| {
                async move {
                    let Some(indices) = &channel.component.exports.connections else {
                        return Ok(Err(exports::connections::CloseReason::Internal));
                    };
                    let guest = indices.load(&mut *store, instance)?;
                    call(guest, store).await
                }
                .boxed()
            })
            .await;
        match called {
            Ok(Ok(frames)) => Ok(frames),
            Ok(Err(reason)) => Err(reason.into()),
            Err(_) => Err(CloseReason::Internal),
        }
    }

    fn context(&self) -> CallContext {
        CallContext { shutdown: self.services.shutdown.clone(), ..CallContext::default() }
    }

    /// Runs one call in a fresh instance. The future and the store are dropped together when the time is up: a store
    /// whose call was abandoned must never be entered again.
    async fn call<R: Send + 'static>(
        &self,
        context: CallContext,
        timeout: Duration,
        call: impl for<'a> FnOnce(&'a Self, &'a mut Store<Guest>, &'a Instance) -> BoxFuture<'a, wasmtime::Result<R>> + Send,
    ) -> Result<R, CallError> {
        let usage = &self.services.usage;
        usage.calls.add(1);
        let _permit = tokio::time::timeout(limit::CALL_WAIT_MAX, self.calls.acquire())
            .await
            .map_err(|_| CallError::Busy)?
            .map_err(|_| CallError::Busy)?;
        let bounds = Bounds { memory_bytes_max: self.bounds.memory_bytes_max, cpu_max: Some(self.bounds.cpu_max) };
        let running = async {
            let mut store = self.component.store(self.services.clone(), context, bounds);
            let instance = self.component.pre().instantiate_async(&mut store).await?;
            call(self, &mut store, &instance).await
        };
        let guarded = AssertUnwindSafe(running).catch_unwind();
        let outcome = match tokio::time::timeout(timeout, guarded).await {
            Ok(Ok(Ok(result))) => return Ok(result),
            Ok(Ok(Err(trap))) => CallError::Trapped(trap_reason(&trap)),
            Ok(Err(_)) => CallError::Trapped("the host failed while serving it".into()),
            Err(_) => CallError::DeadlineExceeded(timeout),
        };
        match &outcome {
            CallError::DeadlineExceeded(_) => usage.deadlines.add(1),
            _ => usage.traps.add(1),
        }
        tracing::warn!(channel = %self.services.name, error = %outcome, "a call failed");
        Err(outcome)
    }

    /// Returns the bounds of the long-lived instance.
    pub(super) fn listener_bounds(&self) -> Bounds {
        Bounds { memory_bytes_max: self.bounds.memory_bytes_max, cpu_max: None }
    }
}

impl DeliveryError {
    /// Takes the channel's secrets out of the guest's words, and bounds them: they are stored and shown.
    fn redacted(self, services: &Services) -> Self {
        let clean = |text: String| {
            let mut text = services.egress.redact(&text);
            text.truncate(text.floor_char_boundary(limit::REASON_BYTES_MAX));
            text
        };
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

impl From<exports::connections::CloseReason> for CloseReason {
    fn from(reason: exports::connections::CloseReason) -> Self {
        match reason {
            exports::connections::CloseReason::Normal => Self::Normal,
            exports::connections::CloseReason::Policy(text) => Self::Policy(text),
            exports::connections::CloseReason::TooLarge => Self::TooLarge,
            exports::connections::CloseReason::Internal => Self::Internal,
        }
    }
}

/// Says in a few words why a guest stopped.
pub(super) fn trap_reason(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "it used up its CPU time".into(),
        Some(Trap::StackOverflow) => "it ran out of stack".into(),
        Some(Trap::UnreachableCodeReached) => "it panicked (unreachable code)".into(),
        Some(trap) => trap.to_string(),
        None => super::engine::plain(error),
    }
}
