//! What a component says of itself and asks for: plain data, as validated by [`crate::channel::inspect`] before a
//! person or the configuration sees it.

mod shelf;

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

pub use self::shelf::Shelf;
use crate::id::hex;
use crate::limit;

/// Reads a component's file, up to one byte more than a component may have, so that a larger one is refused as such.
///
/// # Errors
/// Any I/O error, and what is no regular file: a pipe would never end.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut wasm = Vec::new();
    let bytes_max = limit::COMPONENT_BYTES_MAX as u64 + 1;
    fs::File::open(path)?.take(bytes_max).read_to_end(&mut wasm)?;
    Ok(wasm)
}

/// Returns the SHA-256 of a component's file, hexadecimal: what grants are pinned to.
pub fn digest(wasm: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, wasm).as_ref())
}

/// What compiling one component may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileBounds {
    /// The longest time.
    pub time_max: Duration,
    /// All memory that the process needs which compiles.
    pub memory_bytes_max: u64,
}

impl Default for CompileBounds {
    fn default() -> Self {
        Self {
            time_max: limit::COMPILE_TIME_DEFAULT,
            memory_bytes_max: limit::COMPILE_MEMORY_BYTES_DEFAULT,
        }
    }
}

/// The kind of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingKind {
    /// Text.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Several texts.
    ListOfText,
}

/// A setting that the component reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key in `[channels.NAME.settings]`.
    pub key: String,
    /// What it does.
    pub summary: String,
    /// The kind of value.
    pub kind: SettingKind,
    /// Whether the channel can't work without it.
    pub required: bool,
    /// What holds where the operator says nothing.
    pub default: Option<String>,
}

/// Where the host may put a secret's value in for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// A request header's value.
    Header,
    /// A segment of the URL's path.
    UrlPath,
    /// A value in the URL's query.
    UrlQuery,
    /// A string in a JSON body.
    JsonBody,
    /// A text frame of a WebSocket.
    WebsocketText,
    /// A text that the guest composed for a byte stream.
    TcpText,
}

/// A secret that the component uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRequest {
    /// Its key in `[channels.NAME.secrets]`.
    pub name: String,
    /// What it is.
    pub summary: String,
    /// Whether the channel can't work without it.
    pub required: bool,
    /// Hosts that the value may be sent to: names, `*.suffix`, or `{setting-key}`.
    pub hosts: Vec<String>,
    /// Where it may be put in.
    pub placements: Vec<Placement>,
    /// Whether the guest wants the plain value.
    pub reveal: bool,
}

/// An endpoint that the component wants to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointRequest {
    /// `http`, `https`, `ws`, `wss`, `tcp` or `tls`.
    pub scheme: String,
    /// A host name, `*.suffix`, or `{setting-key}`: the host part of an operator's setting.
    pub host: String,
    /// The port; none for the scheme's own, or the setting's.
    pub port: Option<u16>,
    /// Why.
    pub reason: String,
}

/// How the gateway checks a webhook before the component sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookRecipe {
    /// `none`, `hmac-sha256`, `ed25519` or `shared-secret`.
    pub scheme: String,
    /// The secret that holds the key.
    pub secret: Option<String>,
    /// The header with the signature.
    pub signature_header: Option<String>,
    /// What stands before the signature in that header.
    pub signature_prefix: Option<String>,
    /// The header with the time of signing, Unix seconds.
    pub timestamp_header: Option<String>,
    /// The signed bytes, with `{timestamp}` and `{body}` filled in.
    pub signed_payload: Option<String>,
    /// How far the time of signing may be off, seconds.
    pub tolerance_s: Option<u32>,
    /// The largest body.
    pub body_bytes_max: u32,
}

/// Everything that is known of a component before it is granted anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// SHA-256 of the file, hexadecimal: what grants are pinned to.
    pub digest: String,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it is, in a line.
    pub summary: String,
    /// The version of the contract that it was built for.
    pub contract: String,
    /// The optional interfaces that it offers, such as `listener`, sorted.
    pub interfaces: Vec<String>,
    /// What the platform can do through it, such as `edit`, sorted.
    pub features: Vec<String>,
    /// Settings that it reads.
    pub settings: Vec<Setting>,
    /// Secrets that it uses.
    pub secrets: Vec<SecretRequest>,
    /// Endpoints that it wants to reach.
    pub endpoints: Vec<EndpointRequest>,
    /// How its webhooks are checked.
    pub webhook: Option<WebhookRecipe>,
    /// For how long the platform drops a second send with the same key, seconds.
    pub deduplicates_for_s: Option<u32>,
    /// For how long the platform keeps what was not taken and hands it out again, seconds; none where it is lost.
    pub replays_for_s: Option<u32>,
    /// Whether the platform allows one receiver for each credential.
    pub single_receiver: bool,
    /// Whether it wants the process's terminal.
    pub terminal: bool,
    /// What it would put into a folder that it is granted; none where it asks for none.
    pub folder: Option<String>,
    /// Standard interfaces that it imports and that lead nowhere here, such as `wasi:sockets/tcp`.
    pub powerless_imports: Vec<String>,
}

impl Inspection {
    /// Returns whether the component offers an optional interface.
    pub fn offers(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|offered| offered == interface)
    }
}
