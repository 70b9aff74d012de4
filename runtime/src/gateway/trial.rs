//! A trial: a component is run for some seconds with nothing granted, to see what it tries to reach.
//!
//! It runs as a channel does, from start to delivery, but with a store of its own that is thrown away, with made-up values
//! in place of the operator's secrets, and without a single grant: nothing of it can leave this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::maker::Maker;
use crate::bus::{Bus, Event, Received, Subscription};
use crate::channel::{Channel, Compilation, Status};
use crate::clock::{Clock, SystemClock};
use crate::component::{self, Inspection};
use crate::config::SettingValue;
use crate::config::{Access, ChannelConfig, ChannelLimits, ComponentSource, ConfigError, DEFAULT_AGENT, Guarantee};
use crate::delivery::{DeliveryRequest, Failure};
use crate::egress::{Entry, Evidence, Gate, GateSettings};
use crate::event::{Action, Conversation, ConversationKind, OutboundEvent, Purpose};
use crate::id::{ChannelName, DeliveryKey, random_hex};
use crate::secret::{Secret, SecretSource};
use crate::store::Marks;
use crate::store::sqlite::SqliteStore;

/// Where the trial's message is addressed to: as most platforms write their ids, and as those with addresses do.
const CONVERSATIONS: [&str; 3] = ["1", "someone@example.com", "#general"];

/// What a trial showed.
#[derive(Debug, Default)]
pub struct Findings {
    /// What it tried to reach, oldest first, as often as it did; the last ones where there were many.
    pub attempts: Vec<Entry>,
    /// What came of each step, in words.
    pub steps: Vec<String>,
}

/// Why there was no trial.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// The component can't be a channel with these settings.
    #[error(transparent)]
    Settings(#[from] ConfigError),
    /// The component can't be used.
    #[error("{problem}")]
    Component {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The machine can't run it.
    #[error("{0}")]
    Machine(String),
}

/// Runs a component with these settings and nothing granted, for at most `time_max` after it was compiled.
///
/// # Errors
/// See [`TrialError`].
///
/// # Cancel safety
/// Dropping the future ends the trial; its folder is removed.
pub async fn try_out(
    wasm: &[u8],
    settings: BTreeMap<String, SettingValue>,
    time_max: std::time::Duration,
    compilation: Compilation,
) -> Result<Findings, TrialError> {
    let machine = |error: &dyn std::fmt::Display| TrialError::Machine(error.to_string());
    let folder = tempfile::tempdir().map_err(|error| machine(&error))?;
    let data = folder.path().join("data");
    let bus = Bus::new();
    let maker = maker(data, bus.clone(), compilation).await?;
    let source = ComponentSource::File(PathBuf::from("component.wasm"));
    let loaded = maker.components.load(wasm, component::digest(wasm), &source).await;
    let component = loaded.map_err(|(problem, remedy)| TrialError::Component { problem, remedy })?;
    let config = config(source, component.inspection(), settings);
    let line = maker.line(&ChannelName::from_trusted("trial"), &config, component);
    let (line, _) = line.map_err(|faults| ConfigError { faults })?;
    let mut findings = Findings::default();
    let told = bus.subscribe();
    line.channel.set_status(Status::Up);
    let ran = run(&line.channel, told, &mut findings.steps);
    if tokio::time::timeout(time_max, ran).await.is_err() {
        findings
            .steps
            .push(format!("it was stopped after {} s", time_max.as_secs()));
    }
    line.channel.services().shutdown.cancel();
    findings.attempts = line.channel.services().egress.log(usize::MAX);
    findings.attempts.reverse();
    Ok(findings)
}

async fn maker(data: PathBuf, bus: Bus, compilation: Compilation) -> Result<Maker, TrialError> {
    let open = {
        let data = data.clone();
        move || SqliteStore::open_within(&data, Marks::default())
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let opened = opened.map_err(|error| TrialError::Machine(error.to_string()))?;
    let store = Arc::new(opened.map_err(|error| TrialError::Machine(error.to_string()))?);
    let gate = Gate::new(GateSettings::default()).map_err(|error| TrialError::Machine(error.to_string()))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Maker::new(&data, store, bus, clock, Arc::new(gate), compilation)
        .map_err(|error| TrialError::Machine(error.to_string()))
}

/// A channel that may do nothing, with a made-up value for each secret: many components do nothing without one.
fn config(
    component: ComponentSource,
    inspection: &Inspection,
    settings: BTreeMap<String, SettingValue>,
) -> ChannelConfig {
    let names = || inspection.secrets.iter().map(|secret| secret.name.clone());
    ChannelConfig {
        component,
        sha256: None,
        paused: false,
        agent: DEFAULT_AGENT.to_owned(),
        access: Some(Access::Open),
        // Hexadecimal digits of 32 bytes are a text, a token and a key.
        secrets: names().map(|name| (name, Secret::new(random_hex::<32>()))).collect(),
        secret_sources: names().map(|name| (name.clone(), SecretSource::Env(name))).collect(),
        settings,
        grants: Vec::new(),
        guarantee: Guarantee::default(),
        ambiguous_resends: 0,
        limits: ChannelLimits::default(),
    }
}

/// Starts the channel, lets its listener run until it first fails, and delivers a message.
async fn run(channel: &Arc<Channel>, told: Subscription, steps: &mut Vec<String>) {
    if channel.inspection().offers("lifecycle") {
        let started = channel.start(None).await;
        steps.push(format!("start: {}", started.err().unwrap_or_else(|| "done".to_owned())));
    }
    let (listened, delivered) = tokio::join!(listen(channel, told), deliver(channel));
    steps.extend(listened);
    steps.push(delivered);
    if channel.inspection().offers("presence") {
        channel.typing(conversation(CONVERSATIONS[0])).await;
    }
}

async fn listen(channel: &Arc<Channel>, told: Subscription) -> Option<String> {
    if !channel.listens() {
        return None;
    }
    let outcome = tokio::select! {
        ended = channel.clone().listen() => format!("{ended:?}").to_lowercase(),
        reason = fallen(told) => reason,
    };
    Some(format!("listen: {outcome}"))
}

/// Waits until the channel is no longer up, and returns why.
async fn fallen(mut told: Subscription) -> String {
    while let Some(received) = told.recv().await {
        if let Received::Event(event) = received
            && let Event::Channel { state, reason, .. } = &*event
            && *state != Status::Up.word()
        {
            return reason.clone().unwrap_or_else(|| state.clone());
        }
    }
    "the channel is gone".to_owned()
}

/// Delivers a message to each conversation until one was no wrong address. Returns what came of the last.
async fn deliver(channel: &Channel) -> String {
    let mut outcome = String::new();
    for (position, id) in CONVERSATIONS.iter().enumerate() {
        let attempt = channel
            .deliver(request(channel, id, position), Evidence::default())
            .await;
        outcome = match attempt.result {
            Ok(_) => return "deliver: done".to_owned(),
            Err(Failure::Reported(error)) => error.to_string(),
            Err(Failure::Trapped(reason)) => format!("it died: {reason}"),
            Err(Failure::DeadlineExceeded) => "it gave no answer in time".to_owned(),
            Err(Failure::NotUp | Failure::NoPlace) => "it took no call".to_owned(),
        };
        if !channel.services().egress.log(1).is_empty() {
            break;
        }
    }
    format!("deliver: {outcome}")
}

fn request(channel: &Channel, conversation_id: &str, position: usize) -> DeliveryRequest {
    let name = &channel.services().name;
    let event = OutboundEvent {
        key: DeliveryKey::of_operator(name, &position.to_string()),
        channel: name.clone(),
        conversation: conversation(conversation_id),
        action: Action::Send,
        purpose: Purpose::Answer,
        in_reply_to: None,
        text: "A trial.".to_owned(),
        attachments: Vec::new(),
        choices: Vec::new(),
        cause: None,
        extra: Vec::new(),
    };
    DeliveryRequest {
        event,
        attempt: 1,
        already_sent: Vec::new(),
        draft_id: None,
    }
}

fn conversation(id: &str) -> Conversation {
    Conversation {
        id: id.to_owned(),
        thread: None,
        kind: ConversationKind::Direct,
        title: None,
    }
}
