//! What a configuration says, as plain data.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::component::CompileBounds;
use crate::limit;
pub use crate::policy::Access;
use crate::policy::GrantEntry;
use crate::secret::{Secret, SecretSource};
pub use crate::store::Marks;

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where the HTTP listener is bound.
    pub listen: SocketAddr,
    /// The data directory.
    pub data: PathBuf,
    /// A PEM file with certificates to trust besides the system's.
    pub tls_roots: Option<PathBuf>,
    /// The address under which platforms reach this gateway, without a slash at its end.
    pub public_url: Option<String>,
    /// How long accepted work may take to finish at shutdown.
    pub grace: Duration,
    /// What compiling a component may take.
    pub compile: CompileBounds,
    /// When nothing more is taken in.
    pub pressure: Marks,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7878)),
            data: PathBuf::from("data"),
            tls_roots: None,
            public_url: None,
            grace: Duration::from_secs(20),
            compile: CompileBounds::default(),
            pressure: Marks::default(),
        }
    }
}

/// `[agents.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentConfig {
    /// Nothing is configured: a local model server if one answers, else echo.
    Automatic,
    /// Answers with the text it was given.
    Echo,
    /// An OpenAI-compatible chat-completions server.
    OpenAi(OpenAiConfig),
    /// A program, started for each turn.
    Command(CommandConfig),
}

/// An agent of kind `openai`.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenAiConfig {
    /// The server's base, such as `http://127.0.0.1:11434/v1`, without a slash at its end.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// The key; none for servers that want none.
    pub api_key: Option<Secret>,
    /// The system prompt.
    pub system: Option<String>,
    /// The longest turn.
    pub timeout: Duration,
}

/// An agent of kind `command`.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandConfig {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides `PATH`, `HOME` and `LANG`. Values may be secrets, so none is ever shown.
    pub env: BTreeMap<String, Secret>,
    /// Where it runs: the folder of the configuration; none for the working directory.
    pub directory: Option<PathBuf>,
    /// The longest turn.
    pub timeout: Duration,
}

/// `[channels.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelConfig {
    /// The component that runs it.
    pub component: ComponentSource,
    /// SHA-256 of the component that the operator reviewed, hexadecimal: the grants are for it alone. None where nobody
    /// reviewed one; a bundled component is pinned by the binary that it is in.
    pub sha256: Option<String>,
    /// Whether the operator took it out of work.
    pub paused: bool,
    /// The agent that answers in it: a key of [`Config::agents`](super::Config::agents).
    pub agent: String,
    /// Who may talk; none where nothing is written, which is right only for channels that receive nothing.
    pub access: Option<Access>,
    /// The secrets by the component's names for them.
    pub secrets: BTreeMap<String, Secret>,
    /// Where each secret comes from, also for those that could not be loaded.
    pub secret_sources: BTreeMap<String, SecretSource>,
    /// The settings by key.
    pub settings: BTreeMap<String, SettingValue>,
    /// What the operator grants to the component, without two for one endpoint.
    pub grants: Vec<GrantEntry>,
    /// Which is worse: a copy, or a message that does not arrive.
    pub guarantee: Guarantee,
    /// How often a delivery without a known outcome is repeated where nothing removes the copies.
    pub ambiguous_resends: u32,
    /// Its share of the machine.
    pub limits: ChannelLimits,
}

impl ChannelConfig {
    /// Returns whether another configuration differs from this one in nothing but the grants.
    pub fn differs_in_grants_alone(&self, other: &Self) -> bool {
        let mut regranted = self.clone();
        regranted.grants.clone_from(&other.grants);
        regranted == *other
    }
}

/// What holds for a delivery whose outcome nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// It is sent again, which can make a copy.
    #[default]
    AtLeastOnce,
    /// It is sent again only where no copy can come of it; else it becomes a dead letter.
    AtMostOnce,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentSource {
    /// Embedded in this binary, under this name.
    Bundled(String),
    /// A `.wasm` file.
    File(PathBuf),
}

impl std::fmt::Display for ComponentSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bundled(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The value of a component's setting.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// Several texts.
    Texts(Vec<String>),
}

impl SettingValue {
    /// Returns the value as the component reads it: numbers and booleans in decimal and as `true` or `false`, a list as
    /// a JSON array of strings.
    pub fn to_guest_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Texts(texts) => serde_json::Value::from(texts.clone()).to_string(),
        }
    }
}

/// `[channels.NAME.limits]`: what one channel may use, so that it can't starve its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ChannelLimits {
    /// Memory of one instance, MiB, over all its linear memories.
    pub memory_mib: u32,
    /// The longest call of `deliver`, `handle` and the like, host waits included.
    pub call_timeout_s: u32,
    /// Guest CPU time of one call, seconds.
    pub call_cpu_s: u32,
    /// The part of one core that it is slowed down to when it is busy for long, percent.
    pub cpu_percent: u32,
    /// Calls at once, over all exports.
    pub calls_at_once: u32,
    /// Outgoing requests at once.
    pub requests_in_flight: u32,
    /// The largest response body, MiB.
    pub response_mib: u32,
    /// WebSockets and byte streams at once.
    pub sockets: u32,
    /// What it may send and receive in a minute, MiB.
    pub network_mib_per_minute: u32,
    /// Clients that are connected at once.
    pub clients: u32,
    /// Messages that it may take in, in a minute; a minute's worth may come at once.
    pub messages_per_minute: u32,
    /// What it may keep as state, MiB.
    pub state_mib: u32,
    /// In how many values.
    pub state_keys: u32,
    /// What it may keep as files, MiB.
    pub blobs_mib: u32,
    /// Lines that it may go on logging, after its burst.
    pub log_lines_per_second: u32,
    /// The longest line that it may log, bytes.
    pub log_line_bytes: u32,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            memory_mib: mib(limit::GUEST_MEMORY_BYTES_DEFAULT as u64),
            call_timeout_s: limit::DELIVER_TIMEOUT_DEFAULT.as_secs() as u32,
            call_cpu_s: limit::CALL_CPU_DEFAULT.as_secs() as u32,
            cpu_percent: limit::CHANNEL_CPU_PERCENT_DEFAULT,
            calls_at_once: limit::CALLS_PER_CHANNEL_DEFAULT,
            requests_in_flight: limit::HTTP_IN_FLIGHT_DEFAULT as u32,
            response_mib: mib(limit::HTTP_RESPONSE_BODY_BYTES_DEFAULT as u64),
            sockets: limit::SOCKETS_DEFAULT as u32,
            network_mib_per_minute: mib(limit::EGRESS_BYTES_PER_MINUTE_DEFAULT),
            clients: limit::CLIENTS_PER_CHANNEL_DEFAULT as u32,
            messages_per_minute: limit::MESSAGES_PER_MINUTE_DEFAULT,
            state_mib: mib(limit::STATE_BYTES_DEFAULT),
            state_keys: limit::STATE_KEYS_DEFAULT,
            blobs_mib: mib(limit::BLOBS_BYTES_DEFAULT),
            log_lines_per_second: limit::LOG_LINES_PER_SECOND_DEFAULT,
            log_line_bytes: limit::LOG_LINE_BYTES_DEFAULT as u32,
        }
    }
}

const fn mib(bytes: u64) -> u32 {
    (bytes / (1024 * 1024)) as u32
}
