//! Connects the stages with the channels: what the delivery worker, the agent worker and the HTTP surface each ask for,
//! answered by the channel of that name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;

use crate::admin;
use crate::agent::Presence;
use crate::bus::{Bus, Event};
use crate::channel::{CallError, Channel, Status};
use crate::clock::Clock;
use crate::delivery::{Attempt, DeliveryRequest, Dispatcher, Drafts, Failure, Finding, Guarantees};
use crate::event::{Conversation, OutboundEvent};
use crate::id::ChannelName;
use crate::ingress::{
    Answer, ClientId, CloseReason, Connection, Ingress, OutgoingFrame, Refusal, WebhookReply, WebhookRequest,
};
use crate::limit;
use crate::policy::webhook::{Refusal as Unverified, Verifier};

/// A channel with what only the gateway knows of it.
pub struct Line {
    /// The channel.
    pub channel: Arc<Channel>,
    /// How its webhooks are checked; none where it takes none, or has no secret to check with.
    pub verifier: Option<Verifier>,
    /// What its deliveries promise.
    pub guarantees: Guarantees,
    /// Whether it came up once: one that did not can't be resumed, since its listener never ran.
    has_started: AtomicBool,
}

impl Line {
    /// Connects a channel that is still to be started.
    pub fn new(channel: Channel, verifier: Option<Verifier>, guarantees: Guarantees) -> Self {
        Self {
            channel: Arc::new(channel),
            verifier,
            guarantees,
            has_started: AtomicBool::new(false),
        }
    }
}

/// All channels by name.
pub struct Switchboard {
    lines: RwLock<BTreeMap<ChannelName, Arc<Line>>>,
    drafts: Drafts,
    bus: Bus,
    clock: Arc<dyn Clock>,
}

impl Switchboard {
    /// Makes an empty one.
    pub fn new(drafts: Drafts, bus: Bus, clock: Arc<dyn Clock>) -> Self {
        Self {
            lines: RwLock::default(),
            drafts,
            bus,
            clock,
        }
    }

    /// Adds a channel, in place of one of the same name.
    pub fn add(&self, line: Line) {
        let name = line.channel.services().name.clone();
        self.lines
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, Arc::new(line));
    }

    /// Returns the channels, sorted by name.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.lines().values().map(|line| line.channel.clone()).collect()
    }

    /// Returns whether no channel is still being started.
    pub fn is_started(&self) -> bool {
        self.lines()
            .values()
            .all(|line| line.channel.status() != Status::Starting)
    }

    /// Changes how a channel is, and tells who listens.
    pub fn set_status(&self, channel: &Channel, status: Status) {
        let (state, reason) = described(&status);
        let now = self.clock.now_ms();
        let name = channel.services().name.clone();
        channel.set_status(status);
        self.bus.publish(|| Event::Channel {
            channel: name,
            state: state.to_owned(),
            reason,
            at_ms: now,
        });
        self.bus.deliveries_due().wake();
    }

    /// Notes that a channel has come up.
    pub(super) fn set_started(&self, channel: &Channel) {
        if let Some(line) = self.find(channel.services().name.as_str()) {
            line.has_started.store(true, Ordering::Relaxed);
        }
        self.set_status(channel, Status::Up);
    }

    /// Takes a channel out of work because the operator says so. One that is paused already keeps its reason.
    pub(super) fn pause_for_operator(&self, name: &str) -> Result<Arc<Channel>, admin::Refusal> {
        let channel = self.known(name)?.channel.clone();
        match channel.status() {
            Status::Up | Status::Degraded(_) => {
                self.set_status(&channel, Status::Paused("by the operator".to_owned()));
                Ok(channel)
            }
            Status::Paused(_) => Ok(channel),
            Status::Starting => Err(not_now(name, "is being started")),
            Status::Ended => Err(not_now(name, "has ended")),
        }
    }

    /// Puts a paused channel back to work.
    pub(super) fn resume_for_operator(&self, name: &str) -> Result<Arc<Channel>, admin::Refusal> {
        let line = self.known(name)?;
        if matches!(line.channel.status(), Status::Paused(_)) {
            if !line.has_started.load(Ordering::Relaxed) {
                return Err(not_now(
                    name,
                    "did not start; mend what its status says, and start the gateway again",
                ));
            }
            self.set_status(&line.channel, Status::Up);
        }
        Ok(line.channel.clone())
    }

    fn known(&self, name: &str) -> Result<Arc<Line>, admin::Refusal> {
        self.find(name)
            .ok_or_else(|| admin::Refusal::NotFound(format!("channel {name:?}")))
    }

    /// Returns the channel that `/ws` leads to.
    pub fn default_serving_name(&self) -> Option<ChannelName> {
        self.default_serving().map(|line| line.channel.services().name.clone())
    }

    fn find(&self, name: &str) -> Option<Arc<Line>> {
        self.lines().get(name).cloned()
    }

    fn lines(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<ChannelName, Arc<Line>>> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The serving channel that `/ws` leads to: the one named `websocket`, else the first by name.
    fn default_serving(&self) -> Option<Arc<Line>> {
        let lines = self.lines();
        let serves = |line: &&Arc<Line>| line.channel.inspection().offers("connections");
        lines
            .get("websocket")
            .filter(serves)
            .or_else(|| lines.values().find(serves))
            .cloned()
    }
}

fn not_now(channel: &str, why: &str) -> admin::Refusal {
    admin::Refusal::NotNow(format!("the channel {channel} {why}"))
}

/// A status as the live view names it.
pub(super) fn described(status: &Status) -> (&'static str, Option<String>) {
    match status {
        Status::Starting => ("starting", None),
        Status::Up => ("up", None),
        Status::Degraded(reason) => ("degraded", Some(reason.clone())),
        Status::Paused(reason) => ("paused", Some(reason.clone())),
        Status::Ended => ("ended", None),
    }
}

#[async_trait]
impl Dispatcher for Switchboard {
    fn ready(&self) -> Vec<ChannelName> {
        let lines = self.lines();
        lines
            .iter()
            .filter(|(_, line)| line.channel.delivers())
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn guarantees(&self, channel: &ChannelName) -> Guarantees {
        let careful = Guarantees {
            deduplicates_for: None,
            reconciles: false,
            ambiguous_resends: 0,
        };
        self.find(channel.as_str()).map_or(careful, |line| line.guarantees)
    }

    async fn deliver(&self, request: DeliveryRequest) -> Attempt {
        match self.find(request.event.channel.as_str()) {
            Some(line) => line.channel.deliver(request).await,
            None => Attempt {
                result: Err(Failure::NotUp),
                bytes_left: false,
            },
        }
    }

    async fn reconcile(&self, request: DeliveryRequest) -> Finding {
        match self.find(request.event.channel.as_str()) {
            Some(line) => line.channel.reconcile(request).await,
            None => Finding::Unknown,
        }
    }

    fn pause(&self, channel: &ChannelName, reason: &str) {
        if let Some(line) = self.find(channel.as_str()) {
            self.set_status(&line.channel, Status::Paused(reason.to_owned()));
        }
    }
}

#[async_trait]
impl Presence for Switchboard {
    async fn typing(&self, channel: &ChannelName, conversation: &Conversation) {
        let Some(line) = self.find(channel.as_str()) else {
            return;
        };
        if line.channel.delivers() && line.channel.inspection().offers("presence") {
            line.channel.typing(conversation.clone()).await;
        }
    }

    async fn draft(&self, answer: OutboundEvent) {
        let Some(line) = self.find(answer.channel.as_str()) else {
            return;
        };
        if !line.channel.delivers() || !line.channel.inspection().offers("presence") {
            return;
        }
        let draft_id = self.drafts.of(&answer);
        let request = DeliveryRequest {
            event: answer.clone(),
            attempt: 1,
            already_sent: Vec::new(),
            draft_id,
        };
        if let Some(draft_id) = line.channel.draft(request).await {
            self.drafts.remember(&answer, draft_id);
        }
    }
}

#[async_trait]
impl Ingress for Switchboard {
    fn webhook_body_bytes_max(&self, channel: &str) -> Result<usize, Refusal> {
        let line = self
            .find(channel)
            .filter(|line| line.channel.inspection().offers("webhook"));
        let line = line.ok_or(Refusal::NotFound)?;
        let declared = line
            .channel
            .inspection()
            .webhook
            .as_ref()
            .map(|recipe| recipe.body_bytes_max as usize);
        Ok(declared
            .unwrap_or(limit::WEBHOOK_BODY_BYTES_MAX)
            .min(limit::WEBHOOK_BODY_BYTES_MAX))
    }

    async fn webhook(&self, channel: &str, request: WebhookRequest) -> Result<WebhookReply, Refusal> {
        let line = self.find(channel).ok_or(Refusal::NotFound)?;
        if !matches!(line.channel.status(), Status::Up | Status::Degraded(_)) {
            return Err(Refusal::Unavailable(WAIT_FOR_CHANNEL.as_secs()));
        }
        let admission = match &line.verifier {
            None => None,
            Some(verifier) => {
                match verifier.verify(&header_map(&request.headers), &request.body, self.clock.now_ms()) {
                    Ok(admission) => Some(admission),
                    // It was taken before: the platform's retry is told so, and nothing happens again.
                    Err(Unverified::Replayed) => return Ok(TAKEN_BEFORE),
                    Err(refusal) => return Err(unverified(channel, &refusal)),
                }
            }
        };
        let reply = line.channel.webhook(request).await.map_err(|error| match error {
            CallError::NotOffered(_) => Refusal::NotFound,
            CallError::Busy => Refusal::Busy(1),
            CallError::Trapped(_) | CallError::DeadlineExceeded(_) => Refusal::Failed,
        })?;
        // A request that was not taken may come again; one that was may not be replayed.
        if let Some(admission) = admission
            && reply.status < 300
        {
            admission.accept();
        }
        Ok(reply)
    }

    fn connect(
        &self,
        channel: Option<&str>,
        path: &str,
        query: Option<&str>,
        principal: Option<&str>,
    ) -> Result<(Arc<dyn Connection>, mpsc::Receiver<OutgoingFrame>), Refusal> {
        let line = match channel {
            Some(name) => self
                .find(name)
                .filter(|line| line.channel.inspection().offers("connections")),
            None => self.default_serving(),
        };
        let line = line.ok_or(Refusal::NotFound)?;
        let wait = Refusal::Unavailable(WAIT_FOR_CHANNEL.as_secs());
        if !line.channel.delivers() {
            return Err(wait);
        }
        let (id, frames) = line.channel.services().clients.connect().ok_or(wait)?;
        let connection = ClientConnection {
            channel: line.channel.clone(),
            id,
            path: path.to_owned(),
            query: query.map(str::to_owned),
            principal: principal.map(str::to_owned),
        };
        Ok((Arc::new(connection), frames))
    }
}

/// The answer to a request that was taken before.
const TAKEN_BEFORE: WebhookReply = WebhookReply {
    status: 200,
    headers: Vec::new(),
    body: Vec::new(),
};

/// What a caller hears to wait while a channel is paused or starting.
const WAIT_FOR_CHANNEL: Duration = Duration::from_secs(30);

fn header_map(headers: &[(String, Vec<u8>)]) -> HeaderMap {
    let pairs = headers.iter().filter_map(|(name, value)| {
        Some((
            HeaderName::try_from(name.as_str()).ok()?,
            HeaderValue::from_bytes(value).ok()?,
        ))
    });
    pairs.collect()
}

fn unverified(channel: &str, refusal: &Unverified) -> Refusal {
    tracing::warn!(channel, reason = %refusal, "a webhook was refused");
    match refusal {
        Unverified::BodyTooLarge => Refusal::TooLarge,
        Unverified::Busy => Refusal::Busy(1),
        _ => Refusal::Unverified,
    }
}

/// One client's connection to its channel.
struct ClientConnection {
    channel: Arc<Channel>,
    id: ClientId,
    path: String,
    query: Option<String>,
    principal: Option<String>,
}

#[async_trait]
impl Connection for ClientConnection {
    fn id(&self) -> &ClientId {
        &self.id
    }

    async fn opened(&self) -> Result<Vec<String>, CloseReason> {
        self.channel
            .client_opened(&self.id, self.path.clone(), self.query.clone(), self.principal.clone())
            .await
    }

    async fn received(&self, frame: String) -> Result<Answer, CloseReason> {
        let hold = self.channel.services().clients.hold(&self.id).await;
        let frames = self.channel.client_received(&self.id, frame).await?;
        Ok(Answer { frames, hold })
    }

    async fn closed(&self) {
        self.channel.services().clients.disconnect(&self.id);
        self.channel.client_closed(&self.id).await;
    }
}
