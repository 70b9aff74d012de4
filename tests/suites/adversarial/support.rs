//! A hostile channel on the real host, with a store in a folder of its own and everything it logs written down.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sluicegate::bus::Bus;
use sluicegate::channel::{
    CallError, Channel, ChannelBounds, CodeCache, Compilation, ComponentEngine, LoadedComponent, Status,
};
use sluicegate::clock::SystemClock;
use sluicegate::component::CompileBounds;
use sluicegate::delivery::{Attempt, DeliveryRequest, Failure};
use sluicegate::egress::{ChannelEgress, ChannelSettings, EgressLimits, Evidence, Gate, GateSettings};
use sluicegate::event::{Action, Conversation, ConversationKind, OutboundEvent, Purpose};
use sluicegate::guest::{Allowance, ChannelLog, Clients, Crowd, Relay, Services, Share, Usage};
use sluicegate::id::{ChannelName, DeliveryKey, EventId};
use sluicegate::ingress::{WebhookReply, WebhookRequest};
use sluicegate::limit;
use sluicegate::policy::{Access, GrantEntry, Grants, HostPattern};
use sluicegate::secret::{BoundSecret, Keyring, Placements, Redactor, Secret};
use sluicegate::store::sqlite::SqliteStore;
use sluicegate::store::{EventStore as _, Quota};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

/// The component with all the attacks.
pub(crate) const HOSTILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.wasm"));
/// The value of the secret `token` of every channel here.
pub(crate) const SECRET: &str = "hunter2/\"quoted\"+s3cret";

/// Short bounds, so that what runs into them does not hold up the suite.
const BOUNDS: ChannelBounds = ChannelBounds {
    memory_bytes_max: 32 * 1024 * 1024,
    cpu_max: Duration::from_millis(300),
    deliver_timeout: DELIVER_TIMEOUT,
    calls_max: limit::CALLS_PER_CHANNEL_DEFAULT,
};
/// Long enough for the CPU time above, also where everything else on the machine comes first.
pub(crate) const DELIVER_TIMEOUT: Duration = Duration::from_secs(8);

/// The engine of all tests, with compiled code kept between runs: the same component is compiled once.
pub(crate) fn engine() -> ComponentEngine {
    static ENGINE: OnceLock<ComponentEngine> = OnceLock::new();
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adversarial-code");
        ComponentEngine::new(
            compilation(),
            Some(CodeCache::open(&folder).expect("a folder for code")),
        )
    };
    ENGINE.get_or_init(|| make().expect("an engine")).clone()
}

/// How components are compiled: by the binary under test.
pub(crate) fn compilation() -> Compilation {
    Compilation::by(harness::sluicegate_binary(), CompileBounds::default())
}

/// The component with all the attacks, loaded.
async fn hostile() -> Arc<LoadedComponent> {
    static LOADED: OnceCell<Arc<LoadedComponent>> = OnceCell::const_new();
    let load = || async {
        LoadedComponent::load(&engine(), HOSTILE)
            .await
            .expect("the hostile component is well-formed")
    };
    LOADED.get_or_init(load).await.clone()
}

/// What a channel is given.
pub(crate) struct Rig {
    settings: BTreeMap<String, String>,
    grants: Vec<String>,
    access: Access,
    bounds: ChannelBounds,
    component: Option<Arc<LoadedComponent>>,
}

impl Rig {
    /// A channel with nothing granted.
    pub(crate) fn new() -> Self {
        Self {
            settings: BTreeMap::new(),
            grants: Vec::new(),
            access: Access::Open,
            bounds: BOUNDS,
            component: None,
        }
    }

    /// Sets one of the channel's settings.
    pub(crate) fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Grants an endpoint.
    pub(crate) fn grant(mut self, endpoint: &str) -> Self {
        self.grants.push(endpoint.to_owned());
        self
    }

    /// Grants a folder.
    pub(crate) fn folder(self, path: &Path) -> Self {
        self.grant(&format!("folder:{}", path.display()))
    }

    /// Lets only these people talk.
    pub(crate) fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Gives calls more CPU time than they need, so that something else must end them.
    pub(crate) fn ample_cpu(mut self) -> Self {
        self.bounds.cpu_max = Duration::from_secs(600);
        self.bounds.deliver_timeout = Duration::from_secs(30);
        self
    }

    /// Ends its deliveries after this long.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.bounds.deliver_timeout = deadline;
        self
    }

    /// Uses another component.
    pub(crate) fn component(mut self, component: Arc<LoadedComponent>) -> Self {
        self.component = Some(component);
        self
    }

    /// Makes the channel, which is up from then on.
    pub(crate) async fn up(self) -> Hostile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        log();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Arc::new(SqliteStore::open(&folder.path().join("data")).expect("a store"));
        let name = format!("hostile-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let component = match self.component {
            Some(component) => component,
            None => hostile().await,
        };
        let shutdown = CancellationToken::new();
        let services = Services {
            name: ChannelName::from_trusted(name),
            store: store.clone(),
            quota: Quota::default(),
            inbound: Allowance::per_minute(limit::MESSAGES_PER_MINUTE_DEFAULT),
            bus: Bus::new(),
            clock: Arc::new(SystemClock),
            egress: egress(&self.grants, &shutdown),
            settings: self.settings,
            access: self.access,
            clients: Clients::default(),
            relay: Relay::default(),
            log: ChannelLog::default(),
            refusals: ChannelLog::default(),
            usage: Usage::default(),
            share: Share::among(Crowd::on_cores(2), limit::CHANNEL_CPU_PERCENT_DEFAULT),
            terminal: false,
            listening: shutdown.child_token(),
            shutdown,
        };
        let channel = Arc::new(Channel::new(component, Arc::new(services), self.bounds));
        channel.set_status(Status::Up);
        Hostile { channel, store, folder }
    }
}

fn egress(grants: &[String], shutdown: &CancellationToken) -> Arc<ChannelEgress> {
    let bound = BoundSecret {
        secret: Secret::new(SECRET.to_owned()),
        hosts: vec![HostPattern::parse("127.0.0.1").expect("a host")],
        placements: Placements {
            header: true,
            url_path: false,
            url_query: false,
            json_body: false,
            websocket_text: false,
            tcp_text: false,
        },
    };
    let granted: Vec<GrantEntry> = grants.iter().map(|text| text.parse().expect("a grant")).collect();
    let endpoints = granted.iter().filter_map(|entry| match entry {
        GrantEntry::Endpoint(grant) => Some(grant.endpoint.clone()),
        _ => None,
    });
    let requested = endpoints.collect();
    let settings = ChannelSettings {
        grants: Grants::new(requested, granted),
        keyring: Keyring::new(BTreeMap::from([("token".to_owned(), bound)])),
        limits: EgressLimits::default(),
        shutdown: shutdown.clone(),
    };
    ChannelEgress::new(Arc::new(Gate::new(GateSettings::default()).expect("a gate")), settings)
}

/// A hostile channel that is up.
pub(crate) struct Hostile {
    pub(crate) channel: Arc<Channel>,
    pub(crate) store: Arc<SqliteStore>,
    folder: tempfile::TempDir,
}

impl Hostile {
    /// What the channel used so far.
    pub(crate) fn usage(&self) -> &Usage {
        &self.channel.services().usage
    }

    /// Delivers a message whose text orders an attack.
    pub(crate) async fn deliver(&self, attack: &str) -> Attempt {
        self.channel
            .deliver(request(self.name(), attack), Evidence::default())
            .await
    }

    /// Delivers, and returns how the delivery failed.
    pub(crate) async fn failure(&self, attack: &str) -> Failure {
        let attempt = self.deliver(attack).await;
        attempt.result.expect_err("the attack does not end in a receipt")
    }

    /// Delivers, and returns why the guest was ended.
    pub(crate) async fn trap(&self, attack: &str) -> String {
        match self.failure(attack).await {
            Failure::Trapped(reason) => reason,
            other => panic!("{attack} must end in a trap, not {other:?}"),
        }
    }

    /// Sends a webhook that orders an attack.
    pub(crate) async fn webhook(&self, attack: &str) -> Result<WebhookReply, CallError> {
        let (name, argument) = attack.split_once(' ').unwrap_or((attack, ""));
        let request = WebhookRequest {
            method: "POST".to_owned(),
            path: format!("/{name}"),
            query: Some(encoded(argument)),
            headers: Vec::new(),
            body: Vec::new(),
        };
        self.channel.webhook(request).await
    }

    /// Runs an attack, and returns what it reports.
    pub(crate) async fn report(&self, attack: &str) -> String {
        let reply = self
            .webhook(attack)
            .await
            .unwrap_or_else(|error| panic!("{attack} reports nothing: {error}"));
        String::from_utf8(reply.body).expect("a report is text")
    }

    /// The name of the channel, which no other test uses.
    pub(crate) fn name(&self) -> &str {
        self.channel.services().name.as_str()
    }

    /// Returns the lines of the log that are about this channel, or about nobody.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        let all = log().0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = format!("channel=\"{}\"", self.name());
        let other = "channel=\"hostile-";
        let text = String::from_utf8_lossy(&all).into_owned();
        text.lines()
            .filter(|line| line.contains(&mine) || !line.contains(other))
            .map(str::to_owned)
            .collect()
    }

    /// Checks what holds after every attack: the next call works, and no log line and no file has the secret.
    pub(crate) async fn survived(self) {
        let attempt = self.deliver("log_line 0").await;
        let receipt = attempt
            .result
            .unwrap_or_else(|failure| panic!("the next call fails: {failure:?}"));
        assert_eq!(receipt.message_ids, ["0 lines"]);
        self.silent().await;
    }

    /// Checks that no log line and no file has the secret, in any encoding.
    pub(crate) async fn silent(self) {
        let secrets = Redactor::new([&Secret::new(SECRET.to_owned())]);
        for line in self.log_lines() {
            assert_eq!(secrets.text(&line), line, "a log line has the secret");
        }
        // What is not on the disk yet counts as well.
        self.store.close().await.expect("the store is sound");
        let mut folders = vec![self.folder.path().to_owned()];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).expect("a file");
                assert!(secrets.bytes(&bytes) == bytes, "{} has the secret", path.display());
                files += 1;
            }
        }
        assert!(files > 0, "the store has files");
    }
}

/// Percent-encodes a text so that it can stand in a query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A message whose text orders an attack.
pub(crate) fn request(channel: &str, text: &str) -> DeliveryRequest {
    let event = outbound(channel, text);
    DeliveryRequest {
        event,
        attempt: 1,
        already_sent: Vec::new(),
        draft_id: None,
    }
}

/// The message alone, with a key of its own.
pub(crate) fn outbound(channel: &str, text: &str) -> OutboundEvent {
    let cause = EventId::generate(0);
    OutboundEvent {
        key: DeliveryKey::of_turn(&cause, 0),
        channel: ChannelName::from_trusted(channel),
        conversation: conversation("c1"),
        action: Action::Send,
        purpose: Purpose::Answer,
        in_reply_to: None,
        text: text.to_owned(),
        attachments: Vec::new(),
        choices: Vec::new(),
        cause: Some(cause),
        extra: Vec::new(),
    }
}

pub(crate) fn conversation(id: &str) -> Conversation {
    Conversation {
        id: id.to_owned(),
        thread: None,
        kind: ConversationKind::Direct,
        title: None,
    }
}

/// Everything that is logged in this process.
struct Written(Mutex<Vec<u8>>);

impl Write for &Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Written {
    static WRITTEN: Written = Written(Mutex::new(Vec::new()));
    static SET_UP: OnceLock<()> = OnceLock::new();
    SET_UP.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(|| &WRITTEN)
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only log of this process");
    });
    &WRITTEN
}
