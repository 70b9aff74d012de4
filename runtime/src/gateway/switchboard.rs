//! Connects the stages with the channels: what the delivery worker, the agent worker and the HTTP surface each ask for,
//! answered by the channel of that name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::components::Review;
use crate::agent::Presence;
use crate::channel::{CallError, Channel, Status};
use crate::clock::{Clock, UnixMillis};
use crate::config::ChannelConfig;
use crate::delivery::{Attempt, DeliveryRequest, Dispatcher, Drafts, Failure, Finding, Guarantees};
use crate::egress::Evidence;
use crate::event::{Conversation, OutboundEvent};
use crate::guest::{Held, Services};
use crate::id::ChannelName;
use crate::ingress::{
    Answer, ClientId, CloseReason, Connection, Ingress, OutgoingFrame, Refusal, WebhookReply, WebhookRequest,
};
use crate::limit;
use crate::policy::webhook::{Door, Refusal as Unverified};

/// A channel with what only the gateway knows of it.
pub struct Line {
    /// The channel.
    pub channel: Arc<Channel>,
    /// How its webhooks are checked.
    pub door: Door,
    /// What its deliveries promise.
    pub guarantees: Guarantees,
    /// What it was made from; the grants of it may change while it runs.
    config: RwLock<ChannelConfig>,
    /// Whether it came up once: its component was told to start.
    has_started: AtomicBool,
    /// The task of its listener, while that runs.
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Line {
    /// Connects a channel that is still to be started.
    pub(super) fn new(channel: Channel, door: Door, guarantees: Guarantees, config: ChannelConfig) -> Self {
        Self {
            channel: Arc::new(channel),
            door,
            guarantees,
            config: RwLock::new(config),
            has_started: AtomicBool::new(false),
            listener: Mutex::default(),
        }
    }

    /// Returns what it runs by.
    pub(super) fn config(&self) -> ChannelConfig {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it runs by.
    pub(super) fn set_config(&self, config: ChannelConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Returns the path of its webhook, with the token where it needs one; none where it takes none.
    pub(super) fn webhook_path(&self) -> Option<String> {
        let name = &self.channel.services().name;
        let path = match &self.door {
            Door::Hidden(token) => format!("/hooks/{name}/{}", token.expose()),
            Door::Signed(_) | Door::Open => format!("/hooks/{name}"),
        };
        self.channel.inspection().offers("webhook").then_some(path)
    }

    /// Returns whether its component was told to start.
    pub(super) fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }

    /// Notes whether its component was told to start, or to stop since.
    pub(super) fn set_started(&self, started: bool) {
        self.has_started.store(started, Ordering::Relaxed);
    }

    /// Returns whether its listener runs, or waits to be started again.
    pub(super) fn is_listening(&self) -> bool {
        self.lock_listener().as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Notes the task of its listener.
    pub(super) fn set_listener(&self, task: JoinHandle<()>) {
        *self.lock_listener() = Some(task);
    }

    /// Takes the task of its listener, to wait for its end.
    pub(super) fn take_listener(&self) -> Option<JoinHandle<()>> {
        self.lock_listener().take()
    }

    fn lock_listener(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All channels by name.
pub struct Switchboard {
    lines: RwLock<BTreeMap<ChannelName, Arc<Line>>>,
    /// The channels whose component has to be reviewed; the reviewed one of it may run meanwhile.
    reviews: RwLock<BTreeMap<ChannelName, Review>>,
    drafts: Drafts,
    clock: Arc<dyn Clock>,
    /// Webhooks that were told to come again because a mark was reached.
    turned_away: AtomicU64,
}

impl Switchboard {
    /// Makes an empty one.
    pub fn new(drafts: Drafts, clock: Arc<dyn Clock>) -> Self {
        Self {
            lines: RwLock::default(),
            reviews: RwLock::default(),
            drafts,
            clock,
            turned_away: AtomicU64::new(0),
        }
    }

    /// Returns how many webhooks were told to come again because a mark was reached.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Adds a channel, in place of one of the same name.
    pub(super) fn add(&self, line: Arc<Line>) {
        let name = line.channel.services().name.clone();
        self.lines
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, line);
    }

    /// Takes a channel out.
    pub(super) fn remove(&self, name: &ChannelName) {
        self.lines.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Returns the channels, sorted by name.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.lines().values().map(|line| line.channel.clone()).collect()
    }

    /// Returns the channels with what only the gateway knows of them, sorted by name.
    pub(super) fn all(&self) -> Vec<Arc<Line>> {
        self.lines().values().cloned().collect()
    }

    /// Returns a channel.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Line>> {
        self.lines().get(name).cloned()
    }

    /// Returns the channel that has the process's terminal.
    pub(super) fn of_terminal(&self) -> Option<ChannelName> {
        let lines = self.lines();
        let found = lines.iter().find(|(_, line)| line.channel.services().terminal);
        found.map(|(name, _)| name.clone())
    }

    /// Returns what waits to be reviewed, by channel.
    pub(super) fn reviews(&self) -> BTreeMap<ChannelName, Review> {
        self.reviews.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what waits to be reviewed, or that nothing does. Returns whether that is news.
    pub(super) fn set_review(&self, name: &ChannelName, review: Option<Review>) -> bool {
        let mut reviews = self.reviews.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = reviews.get(name) != review.as_ref();
        match review {
            Some(review) => reviews.insert(name.clone(), review),
            None => reviews.remove(name),
        };
        is_news
    }

    /// Returns whether no channel is still being started.
    pub fn is_started(&self) -> bool {
        self.lines()
            .values()
            .all(|line| line.channel.status() != Status::Starting)
    }

    /// Returns the channel that `/ws` leads to.
    pub fn default_serving_name(&self) -> Option<ChannelName> {
        self.default_serving().map(|line| line.channel.services().name.clone())
    }

    /// Returns why there is no such channel: one that waits for a review comes back.
    fn unknown(&self, channel: &str) -> Refusal {
        if self
            .reviews
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(channel)
        {
            Refusal::Unavailable(limit::CHANNEL_AWAY_RETRY.as_secs())
        } else {
            Refusal::NotFound
        }
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
            at_most_once: true,
        };
        self.find(channel.as_str()).map_or(careful, |line| line.guarantees)
    }

    async fn deliver(&self, request: DeliveryRequest, evidence: Evidence) -> Attempt {
        match self.find(request.event.channel.as_str()) {
            Some(line) => line.channel.deliver(request, evidence).await,
            None => Attempt {
                result: Err(Failure::NotUp),
                bytes_left: false,
            },
        }
    }

    async fn reconcile(&self, request: DeliveryRequest, since: UnixMillis) -> Finding {
        match self.find(request.event.channel.as_str()) {
            Some(line) => line.channel.reconcile(request, since).await,
            None => Finding::Unknown,
        }
    }

    fn pause(&self, channel: &ChannelName, reason: &str) {
        if let Some(line) = self.find(channel.as_str()) {
            line.channel.set_status(Status::Paused(reason.to_owned()));
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
        let line = line.ok_or_else(|| self.unknown(channel))?;
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
        let line = self.find(channel).ok_or_else(|| self.unknown(channel))?;
        let mut request = request;
        if let Door::Hidden(token) = &line.door {
            request.path = token.below(&request.path).ok_or(Refusal::NotFound)?.to_owned();
        }
        if !matches!(line.channel.status(), Status::Up | Status::Degraded(_)) {
            return Err(Refusal::Unavailable(limit::CHANNEL_AWAY_RETRY.as_secs()));
        }
        // The platform keeps it and comes again: better than to take it in and not be able to store it.
        let services = line.channel.services();
        if let Some(held) = services.held() {
            services.note_held(held);
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(match held {
                Held::Full(_) => Refusal::Unavailable(limit::PRESSURE_RETRY.as_secs()),
                Held::TooFast(wait) => Refusal::Busy(wait.as_secs() + 1),
            });
        }
        let admission = match &line.door {
            Door::Hidden(_) | Door::Open => None,
            Door::Signed(verifier) => {
                match verifier.verify(&header_map(&request.headers), &request.body, self.clock.now_ms()) {
                    Ok(admission) => {
                        // What proved it is for the host alone, however short it is.
                        request.headers.retain(|(name, _)| !verifier.is_secret(name));
                        Some(admission)
                    }
                    // It was taken before: the platform's retry is told so, and nothing happens again.
                    Err(Unverified::Replayed) => return Ok(TAKEN_BEFORE),
                    Err(refusal) => return Err(unverified(services, &refusal)),
                }
            }
        };
        let reply = line.channel.webhook(request).await.map_err(|error| match error {
            CallError::NotOffered(_) => Refusal::NotFound,
            CallError::Busy | CallError::NotUp => Refusal::Busy(1),
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
        let wait = Refusal::Unavailable(limit::CHANNEL_AWAY_RETRY.as_secs());
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

fn header_map(headers: &[(String, Vec<u8>)]) -> HeaderMap {
    let pairs = headers.iter().filter_map(|(name, value)| {
        Some((
            HeaderName::try_from(name.as_str()).ok()?,
            HeaderValue::from_bytes(value).ok()?,
        ))
    });
    pairs.collect()
}

fn unverified(services: &Services, refusal: &Unverified) -> Refusal {
    services.usage.webhooks_refused.add(1);
    services.log_refusal(&format!("a webhook was refused: {refusal}"));
    match refusal {
        Unverified::BodyTooLarge => Refusal::TooLarge,
        Unverified::Busy => Refusal::Busy(1),
        Unverified::InFlight => Refusal::Unavailable(1),
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
