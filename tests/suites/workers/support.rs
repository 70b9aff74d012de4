//! What the tests of this suite share: the store with faults, the clock, and fakes of agents and channels.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sluicegate::agent::{Agent, AgentError, AgentTable, AgentWorker, Growing, Presence, Turn};
use sluicegate::bus::Bus;
use sluicegate::clock::{Clock, UnixMillis};
use sluicegate::delivery::{
    Attempt, DeliveryRequest, DeliveryWorker, Dispatcher, Drafts, Failure, Finding, Guarantees,
};
use sluicegate::egress::Evidence;
use sluicegate::event::{
    Confirmation, Conversation, ConversationKind, DeliveryError, EventKind, InboundEvent, InboundMessage,
    OutboundEvent, Receipt, Sender, SentPart,
};
use sluicegate::id::{ChannelName, DeliveryKey, EventId, SessionKey};
use sluicegate::store::sqlite::SqliteStore;
use sluicegate::store::{
    Accepted, Ask, Attempted, Change, ChangeRecord, ClaimedHeads, ClaimedTurns, DeadFilter, DeliveryClaim,
    DeliveryRecord, Depth, Error, EventStore, Full, HistoryEntry, Page, Pressure, Quota, Trace, TurnCommit, TurnFence,
    TurnRecord, Usage,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Tokio's clock, which the tests pause, as wall-clock time.
#[derive(Debug)]
pub(crate) struct TestClock {
    start: Instant,
    start_ms: UnixMillis,
}

impl TestClock {
    pub(crate) fn starting_at(start_ms: UnixMillis) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            start_ms,
        })
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> UnixMillis {
        self.start_ms + i64::try_from(self.start.elapsed().as_millis()).expect("a test is short")
    }
}

/// What happens at a call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out.
    None,
    /// It answers that it is busy.
    Busy,
    /// The process dies before it is carried out: the caller never hears of it again.
    DieBefore,
    /// The process dies after it was carried out, before the caller hears of it.
    DieAfter,
}

type Plan = Box<dyn FnMut(&'static str) -> Fault + Send>;

/// The real store, in which calls can fail by plan, and during which paused time stands still.
pub(crate) struct TestStore {
    inner: SqliteStore,
    plan: Mutex<Plan>,
    /// Cancelled at the death of the process.
    pub(crate) died: CancellationToken,
}

impl TestStore {
    pub(crate) fn open(dir: &Path) -> Arc<Self> {
        Self::open_with(dir, |_| Fault::None)
    }

    pub(crate) fn open_with(dir: &Path, plan: impl FnMut(&'static str) -> Fault + Send + 'static) -> Arc<Self> {
        let inner = SqliteStore::open(dir).expect("the store opens");
        Arc::new(Self {
            inner,
            plan: Mutex::new(Box::new(plan)),
            died: CancellationToken::new(),
        })
    }

    /// Dies, if the process has died or the plan says so.
    async fn carry_out<T>(&self, name: &'static str, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let fault = if self.died.is_cancelled() {
            Fault::DieBefore
        } else {
            (self.plan.lock().unwrap())(name)
        };
        match fault {
            Fault::None => steadily(call).await,
            Fault::Busy => Err(Error::Busy),
            Fault::DieBefore => self.die().await,
            Fault::DieAfter => {
                let _unheard = steadily(call).await;
                self.die().await
            }
        }
    }

    async fn die<T>(&self) -> T {
        self.died.cancel();
        std::future::pending().await
    }
}

/// Awaits something that happens on another thread while paused time stands still: tokio does not advance it while a
/// blocking task runs.
async fn steadily<T>(call: impl Future<Output = T>) -> T {
    let (done_tx, done_rx) = std::sync::mpsc::sync_channel::<()>(1);
    let still = tokio::task::spawn_blocking(move || done_rx.recv().is_ok());
    let answer = call.await;
    drop(done_tx);
    let _ended = still.await;
    answer
}

macro_rules! with_faults {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {
        #[async_trait]
        impl EventStore for TestStore {
            $(async fn $name(&self $(, $arg: $ty)*) -> Result<$ret, Error> {
                self.carry_out(stringify!($name), self.inner.$name($($arg),*)).await
            })*

            fn depth(&self) -> Depth {
                self.inner.depth()
            }

            fn pressure(&self) -> Pressure {
                self.inner.pressure()
            }

            fn intake(&self, channel: &ChannelName) -> Option<Full> {
                self.inner.intake(channel)
            }

            fn usage(&self) -> Usage {
                self.inner.usage()
            }

            fn is_sound(&self) -> bool {
                self.inner.is_sound()
            }
        }
    };
}

with_faults! {
    fn accept(channel: &ChannelName, events: Vec<InboundEvent>, cursor: Option<String>, now: UnixMillis) -> Vec<Accepted>;
    fn cursor(channel: &ChannelName) -> Option<String>;
    fn claim_turns(max: usize, of_channel: usize, now: UnixMillis) -> ClaimedTurns;
    fn lazy_record_answer(fence: TurnFence, event: &EventId, answer: &str) -> ();
    fn commit_turn(fence: TurnFence, commit: TurnCommit, now: UnixMillis) -> ();
    fn postpone_turn(fence: TurnFence, event: &EventId, due: UnixMillis, floor: bool, reason: &str, notice: Option<OutboundEvent>, now: UnixMillis) -> ();
    fn bury_turn(fence: TurnFence, event: &EventId, reason: &str, notice: Option<OutboundEvent>, now: UnixMillis) -> ();
    fn release_turn(fence: TurnFence, event: &EventId) -> ();
    fn history(session: &SessionKey, entries_max: usize, bytes_max: usize) -> Vec<HistoryEntry>;
    fn next_turn_due() -> Option<UnixMillis>;
    fn enqueue(events: Vec<OutboundEvent>, now: UnixMillis) -> ();
    fn lazy_claim_heads(asks: &[Ask], max: usize, now: UnixMillis) -> ClaimedHeads;
    fn lazy_mark_sending(claim: DeliveryClaim, now: UnixMillis) -> ();
    fn part_sent(channel: &ChannelName, key: &DeliveryKey, part: SentPart) -> ();
    fn lazy_ack(claim: DeliveryClaim, receipt: Receipt, now: UnixMillis) -> ();
    fn lazy_await_confirmation(claim: DeliveryClaim, receipt: Receipt, deadline: UnixMillis, now: UnixMillis) -> ();
    fn confirm(channel: &ChannelName, key: &DeliveryKey, outcome: Result<(), DeliveryError>, now: UnixMillis) -> bool;
    fn lazy_reschedule(claim: DeliveryClaim, due: UnixMillis, floor: bool, attempted: Attempted, reason: &str, now: UnixMillis) -> ();
    fn bury(claim: DeliveryClaim, reason: &str, now: UnixMillis) -> ();
    fn reachable(channel: &ChannelName, conversation: &str, thread: Option<&str>, now: UnixMillis) -> ();
    fn next_head_due(channels: &[ChannelName]) -> Option<UnixMillis>;
    fn dead_inbound(max: usize) -> Vec<TurnRecord>;
    fn outbox(channel: Option<&ChannelName>, after: Option<i64>, max: usize) -> Page<DeliveryRecord>;
    fn delivery(key: &DeliveryKey) -> Option<DeliveryRecord>;
    fn change(change: Change, now: UnixMillis) -> u64;
    fn changes(max: usize) -> Vec<ChangeRecord>;
    fn trace(id: &str) -> Vec<Trace>;
    fn dead_letters(filter: &DeadFilter, after: Option<(UnixMillis, i64)>, max: usize) -> Page<DeliveryRecord>;
    fn state_get(channel: &ChannelName, key: &str) -> Option<Vec<u8>>;
    fn state_set(channel: &ChannelName, key: &str, value: Option<Vec<u8>>, quota: Quota) -> ();
    fn state_swap(channel: &ChannelName, key: &str, expected: Option<Vec<u8>>, value: Option<Vec<u8>>, quota: Quota) -> bool;
    fn state_keys(channel: &ChannelName, prefix: &str) -> Vec<String>;
    fn blob_put(channel: &ChannelName, media_type: &str, bytes: Vec<u8>, quota: Quota, now: UnixMillis) -> String;
    fn blob_get(channel: &ChannelName, blob: &str) -> Option<(String, Vec<u8>)>;
    fn measure() -> Usage;
    fn flush() -> ();
    fn shift(jump: i64) -> ();
    fn lazy_note_time(now: UnixMillis) -> Option<i64>;
    fn lazy_seen(channel: &ChannelName, now: UnixMillis) -> ();
    fn last_seen(channel: &ChannelName) -> Option<UnixMillis>;
    fn sweep(now: UnixMillis) -> u64;
    fn close() -> ();
}

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::from_trusted(name)
}

pub(crate) fn conversation(id: &str) -> Conversation {
    Conversation {
        id: id.to_owned(),
        thread: None,
        kind: ConversationKind::Direct,
        title: None,
    }
}

/// Makes a message of a conversation in the channel `family`; its platform id is its text.
pub(crate) fn inbound(conversation_id: &str, text: &str) -> InboundEvent {
    InboundEvent {
        id: EventId::generate(0),
        channel: channel("family"),
        session: SessionKey::from_trusted(format!("family/{conversation_id}")),
        received_at_ms: 0,
        message: InboundMessage {
            kind: EventKind::Message,
            id: format!("{conversation_id}/{text}"),
            conversation: conversation(conversation_id),
            sender: Sender {
                id: "42".to_owned(),
                name: None,
                bot: false,
            },
            text: text.to_owned(),
            attachments: Vec::new(),
            in_reply_to: None,
            value: None,
            sent_at_ms: None,
            addressed: true,
            extra: Vec::new(),
        },
    }
}

/// Makes a message to a conversation of a channel, with a key of its own.
pub(crate) fn outbound(to: &str, conversation_id: &str, text: &str) -> OutboundEvent {
    let mut event = OutboundEvent::reply(&inbound(conversation_id, text), 0, text.to_owned());
    event.channel = channel(to);
    event
}

pub(crate) async fn accept(store: &TestStore, events: Vec<InboundEvent>, clock: &TestClock) {
    accept_in(store, "family", events, clock).await;
}

pub(crate) async fn accept_in(store: &TestStore, name: &str, events: Vec<InboundEvent>, clock: &TestClock) {
    store
        .accept(&channel(name), events, None, clock.now_ms())
        .await
        .unwrap();
}

/// An agent that answers by a rule, which may wait. Counts how often it was asked for each message.
pub(crate) struct ScriptedAgent<F> {
    rule: F,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl<F, Fut> ScriptedAgent<F>
where
    F: Fn(String, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, AgentError>> + Send,
{
    /// The rule gets the text, and how often it was asked for it before.
    pub(crate) fn new(rule: F) -> Arc<Self> {
        Arc::new(Self {
            rule,
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl<F, Fut> Agent for ScriptedAgent<F>
where
    F: Fn(String, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, AgentError>> + Send,
{
    fn describe(&self) -> String {
        "scripted".to_owned()
    }

    async fn answer(&self, turn: Turn<'_>, _growing: &Growing<'_>) -> Result<String, AgentError> {
        let text = turn.event.message.text.clone();
        let before = {
            let mut asked = self.asked.lock().unwrap();
            let before = asked.iter().filter(|other| **other == text).count();
            asked.push(text.clone());
            before
        };
        (self.rule)(text, before).await
    }
}

/// A channel without signs of life.
pub(crate) struct NoPresence;

#[async_trait]
impl Presence for NoPresence {
    async fn typing(&self, _channel: &ChannelName, _conversation: &Conversation) {}
    async fn draft(&self, _growing: OutboundEvent) {}
}

pub(crate) const CAREFUL: Guarantees = Guarantees {
    deduplicates_for: None,
    reconciles: false,
    ambiguous_resends: 1,
    at_most_once: false,
};

type Script = Box<dyn Fn(DeliveryRequest, usize) -> futures_util::future::BoxFuture<'static, Attempt> + Send + Sync>;

/// A platform that records what reaches it and answers by a rule.
pub(crate) struct Platform {
    pub(crate) guarantees: Guarantees,
    rule: Script,
    pub(crate) findings: Mutex<Vec<Finding>>,
    /// Every attempt, in the order in which it began.
    pub(crate) attempts: Mutex<Vec<DeliveryRequest>>,
    /// Every message that the platform took: conversation and text, in order.
    pub(crate) taken: Mutex<Vec<(String, String)>>,
    pub(crate) asked: AtomicUsize,
    paused: Mutex<HashMap<ChannelName, String>>,
    channels: Vec<ChannelName>,
}

impl Platform {
    /// The rule gets the request, and how often the same message was attempted before.
    pub(crate) fn new<Fut>(
        channels: &[&str],
        guarantees: Guarantees,
        rule: impl Fn(DeliveryRequest, usize) -> Fut + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        Fut: Future<Output = Attempt> + Send + 'static,
    {
        Arc::new(Self {
            guarantees,
            rule: Box::new(move |request, before| Box::pin(rule(request, before))),
            findings: Mutex::default(),
            attempts: Mutex::default(),
            taken: Mutex::default(),
            asked: AtomicUsize::new(0),
            paused: Mutex::default(),
            channels: channels.iter().map(|name| channel(name)).collect(),
        })
    }

    /// A platform that takes everything.
    pub(crate) fn willing(channels: &[&str]) -> Arc<Self> {
        Self::new(channels, CAREFUL, |_, _| async { taken() })
    }

    pub(crate) fn texts_taken(&self) -> Vec<String> {
        self.taken
            .lock()
            .unwrap()
            .iter()
            .map(|(_, text)| text.clone())
            .collect()
    }

    pub(crate) fn paused(&self) -> Vec<ChannelName> {
        self.paused.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn resume(&self) {
        self.paused.lock().unwrap().clear();
    }
}

#[async_trait]
impl Dispatcher for Platform {
    fn ready(&self) -> Vec<ChannelName> {
        let paused = self.paused.lock().unwrap();
        self.channels
            .iter()
            .filter(|name| !paused.contains_key(*name))
            .cloned()
            .collect()
    }

    fn guarantees(&self, _channel: &ChannelName) -> Guarantees {
        self.guarantees
    }

    async fn deliver(&self, request: DeliveryRequest, evidence: Evidence) -> Attempt {
        let before = {
            let mut attempts = self.attempts.lock().unwrap();
            attempts.push(request.clone());
            attempts
                .iter()
                .filter(|other| other.event.key == request.event.key)
                .count()
                - 1
        };
        let (place, text) = (request.event.conversation.id.clone(), request.event.text.clone());
        let attempt = (self.rule)(request, before).await;
        // What left the host without an answer was taken, as far as a platform can be unlucky.
        if attempt.result.is_ok() || attempt.bytes_left {
            if evidence.mark().await.is_err() {
                return unavailable();
            }
            self.taken.lock().unwrap().push((place, text));
        }
        attempt
    }

    async fn reconcile(&self, _request: DeliveryRequest, _since: UnixMillis) -> Finding {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.findings.lock().unwrap().pop().unwrap_or(Finding::Unknown)
    }

    fn pause(&self, channel: &ChannelName, reason: &str) {
        self.paused.lock().unwrap().insert(channel.clone(), reason.to_owned());
    }
}

pub(crate) fn taken() -> Attempt {
    let receipt = Receipt {
        message_ids: vec!["p1".to_owned()],
        confirmation: Confirmation::Complete,
    };
    Attempt {
        result: Ok(receipt),
        bytes_left: false,
    }
}

pub(crate) fn handed_over() -> Attempt {
    let receipt = Receipt {
        message_ids: Vec::new(),
        confirmation: Confirmation::Awaited,
    };
    Attempt {
        result: Ok(receipt),
        bytes_left: false,
    }
}

pub(crate) fn reported(error: DeliveryError) -> Attempt {
    Attempt {
        result: Err(Failure::Reported(error)),
        bytes_left: false,
    }
}

pub(crate) fn unavailable() -> Attempt {
    reported(DeliveryError::Unavailable("503".to_owned()))
}

/// The request left, and nothing came back.
pub(crate) fn cut_off() -> Attempt {
    Attempt {
        result: Err(Failure::Reported(DeliveryError::Ambiguous("cut".to_owned()))),
        bytes_left: true,
    }
}

/// Workers that run, each with a bus of its own: no wake-up of one ever reaches the other.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    tasks: Vec<JoinHandle<Result<(), Error>>>,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self {
            shutdown: CancellationToken::new(),
            tasks: Vec::new(),
        }
    }

    pub(crate) fn agents(mut self, store: &Arc<TestStore>, clock: &Arc<TestClock>, agent: Arc<dyn Agent>) -> Self {
        let worker = turn_worker(store, clock, agent, Bus::new(), Arc::new(NoPresence));
        self.tasks.push(tokio::spawn(worker.run(self.shutdown.clone())));
        self
    }

    pub(crate) fn deliveries(
        mut self,
        store: &Arc<TestStore>,
        clock: &Arc<TestClock>,
        platform: &Arc<Platform>,
    ) -> Self {
        let worker = delivery_worker(store, clock, platform, Bus::new(), Drafts::default());
        self.tasks.push(tokio::spawn(worker.run(self.shutdown.clone())));
        self
    }

    /// Shuts the workers down and waits for them.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }

    /// Drops the workers where they stand.
    pub(crate) async fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            assert!(task.await.is_err_and(|ended| ended.is_cancelled()));
        }
    }
}

pub(crate) fn turn_worker(
    store: &Arc<TestStore>,
    clock: &Arc<TestClock>,
    agent: Arc<dyn Agent>,
    bus: Bus,
    presence: Arc<dyn Presence>,
) -> AgentWorker {
    let agents = AgentTable::new();
    agents.set(channel("family"), agent);
    AgentWorker::new(Arc::clone(store) as _, bus, Arc::clone(clock) as _, agents, presence)
}

pub(crate) fn delivery_worker(
    store: &Arc<TestStore>,
    clock: &Arc<TestClock>,
    platform: &Arc<Platform>,
    bus: Bus,
    drafts: Drafts,
) -> DeliveryWorker {
    DeliveryWorker::new(
        Arc::clone(store) as _,
        bus,
        Arc::clone(clock) as _,
        Arc::clone(platform) as _,
        drafts,
    )
}

/// Lets paused time pass until the condition holds.
///
/// # Panics
/// When it does not hold within two (paused) days.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(2 * 24 * 3600);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A small deterministic generator of numbers (xorshift), so that a seed repeats a run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Why the dead letters died, newest first.
pub(crate) async fn reasons(store: &TestStore) -> Vec<String> {
    let page = store.dead_letters(&DeadFilter::default(), None, 10).await;
    let dead = page.expect("dead letters").items.into_iter();
    dead.map(|one| one.reason.expect("a dead letter has a reason"))
        .collect()
}
