//! Endpoints: what a grant names, `scheme://host[:port]`, and how an operator writes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::address::AddressClass;
use super::host::{Host, HostError, HostPattern};

/// How an endpoint is spoken to. A grant of one scheme says nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https,
    /// WebSocket in the clear.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// A byte stream, which the guest may turn into TLS later (STARTTLS).
    Tcp,
    /// A byte stream over TLS from its first byte.
    Tls,
}

impl Scheme {
    /// Returns the scheme as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Returns the port that is meant where none is written; none for byte streams.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Http | Self::Ws => Some(80),
            Self::Https | Self::Wss => Some(443),
            Self::Tcp | Self::Tls => None,
        }
    }

    /// Whether what is sent can be read on the way.
    pub const fn is_clear(self) -> bool {
        matches!(self, Self::Http | Self::Ws | Self::Tcp)
    }
}

impl FromStr for Scheme {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        [Self::Http, Self::Https, Self::Ws, Self::Wss, Self::Tcp, Self::Tls]
            .into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
            .ok_or(EndpointError::Scheme)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no endpoint, as a clause with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// No scheme, or one that is not spoken.
    #[error("it must start with http://, https://, ws://, wss://, tcp:// or tls://")]
    Scheme,
    /// The host can't be understood.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// A byte stream without a port.
    #[error("tcp:// and tls:// need a port, such as tls://irc.example.org:6697")]
    PortMissing,
    /// `user:password@`
    #[error("leave out the user name and password: they belong in `secrets`")]
    UserInfo,
    /// Anything after the host and port.
    #[error("leave out the path: a grant is for a whole host, such as https://api.example.com")]
    Path,
    /// An address that no peer can have.
    #[error("{0} is the address of no peer: name the machine's own address")]
    Address(std::net::IpAddr),
    /// `private` beside an address.
    #[error("`private` belongs to names: an address is granted by naming it")]
    PrivateAddress,
    /// A folder that depends on where the gateway was started, or is not said plainly.
    #[error("a folder is an absolute path without `..`, such as folder:/srv/outbox")]
    Folder,
}

/// Where a channel may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Which host or hosts.
    pub host: HostPattern,
    /// Which port: exactly one.
    pub port: u16,
}

impl Endpoint {
    /// Whether a connection to this place is meant.
    pub fn matches(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        self.scheme == scheme && self.port == port && self.host.matches(host)
    }

    /// Whether all that `other` means is meant by this endpoint too.
    pub fn covers(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.port == other.port && self.host.covers(&other.host)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = text.split_once("://").ok_or(EndpointError::Scheme)?;
        let scheme: Scheme = scheme.parse()?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(EndpointError::Path);
        }
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = port.or(scheme.default_port()).ok_or(EndpointError::PortMissing)?;
        let host = HostPattern::parse(host)?;
        refuse_peerless(&host)?;
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.scheme.default_port() == Some(self.port) {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

/// Splits `host[:port]`; an IPv6 address stands in brackets, which the host keeps.
///
/// # Errors
/// When what follows the host is no port.
pub(super) fn split_port(authority: &str) -> Result<(&str, Option<u16>), EndpointError> {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[host_end..].find(':') else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(host_end + colon);
    match port[1..].parse::<u16>() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        _ => Err(EndpointError::Port),
    }
}

/// Refuses addresses that can't be connected to, or that mean another one in disguise (`0.0.0.0` is this machine).
fn refuse_peerless(host: &HostPattern) -> Result<(), EndpointError> {
    match host {
        HostPattern::Exact(Host::Address(address)) if address.is_unspecified() || address.is_multicast() => {
            Err(EndpointError::Address(*address))
        }
        _ => Ok(()),
    }
}

/// An endpoint that the operator granted.
///
/// Written as `"https://api.example.com"`, or as `{ url = "https://nas.example.com", private = true }` where the name
/// leads into a private network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    /// What is granted.
    pub endpoint: Endpoint,
    /// Whether the name may lead to an address of this machine or of a private network.
    pub private: bool,
}

impl Grant {
    /// Reads an endpoint that is granted, in a private network where it is said to be in one.
    ///
    /// # Errors
    /// What is wrong with it. An address is private or not by itself, so nothing may be said of that.
    pub fn read(endpoint: &str, private: bool) -> Result<Self, EndpointError> {
        let endpoint: Endpoint = endpoint.parse()?;
        if private && matches!(endpoint.host, HostPattern::Exact(Host::Address(_))) {
            return Err(EndpointError::PrivateAddress);
        }
        Ok(Self { endpoint, private })
    }

    /// Whether connections under this grant may end at an address that is not public.
    ///
    /// An address that was granted by naming it, and `localhost`, need no flag: what they mean is plain.
    pub fn reaches_private(&self) -> bool {
        self.private
            || match &self.endpoint.host {
                HostPattern::Exact(Host::Address(address)) => AddressClass::of(*address) != AddressClass::Public,
                HostPattern::Exact(host) => host.is_localhost(),
                HostPattern::Below(suffix) => suffix.ends_with(".localhost"),
            }
    }
}

impl FromStr for Grant {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::read(text, false)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)?;
        if self.private {
            f.write_str(" (private network)")
        } else {
            Ok(())
        }
    }
}

/// One line of a channel's `grant` list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantEntry {
    /// An endpoint.
    Endpoint(Grant),
    /// The process's terminal: `"terminal"`.
    Terminal,
    /// The plain value of a secret: `"reveal:NAME"`.
    Reveal(String),
    /// A folder to put files into: `"folder:/absolute/path"`.
    Folder(PathBuf),
}

impl GrantEntry {
    /// Whether both are about the same: two grants of one endpoint, one private and one not, contradict each other, and so
    /// do two folders, because a channel has one.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Endpoint(one), Self::Endpoint(other)) => one.endpoint == other.endpoint,
            (Self::Folder(_), Self::Folder(_)) => true,
            _ => self == other,
        }
    }
}

/// Reads the path of a granted folder.
fn folder(text: &str) -> Result<PathBuf, EndpointError> {
    let path = Path::new(text);
    let is_plain = path
        .components()
        .all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && is_plain {
        Ok(path.to_owned())
    } else {
        Err(EndpointError::Folder)
    }
}

impl FromStr for GrantEntry {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(name) = text.strip_prefix("reveal:") {
            return Ok(Self::Reveal(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("folder:") {
            return folder(path).map(Self::Folder);
        }
        match text {
            "terminal" => Ok(Self::Terminal),
            endpoint => endpoint.parse().map(Self::Endpoint),
        }
    }
}

impl fmt::Display for GrantEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(grant) => grant.fmt(f),
            Self::Terminal => f.write_str("terminal"),
            Self::Reveal(name) => write!(f, "reveal:{name}"),
            Self::Folder(path) => write!(f, "folder:{}", path.display()),
        }
    }
}

/// The two forms in which an entry is written.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected an endpoint such as \"https://api.example.com\", or { url = \"…\", private = true }"
)]
enum Written {
    Short(String),
    Long(WrittenTable),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    url: String,
    #[serde(default)]
    private: bool,
}

impl<'de> Deserialize<'de> for GrantEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, private) = match Written::deserialize(deserializer)? {
            Written::Short(text) => (text, None),
            Written::Long(table) => (table.url, Some(table.private)),
        };
        let parsed = match private {
            None => text.parse(),
            Some(private) => Grant::read(&text, private).map(Self::Endpoint),
        };
        parsed.map_err(|error| serde::de::Error::custom(format!("`{text}`: {error}")))
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match GrantEntry::deserialize(deserializer)? {
            GrantEntry::Endpoint(grant) => Ok(grant),
            other => Err(serde::de::Error::custom(format!("`{other}` is no endpoint"))),
        }
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let url = self.endpoint.to_string();
        if self.private {
            Written::Long(WrittenTable { url, private: true }).serialize(serializer)
        } else {
            Written::Short(url).serialize(serializer)
        }
    }
}

impl Serialize for GrantEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Endpoint(grant) => grant.serialize(serializer),
            Self::Terminal | Self::Reveal(_) | Self::Folder(_) => serializer.collect_str(self),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| serde::de::Error::custom(format!("`{text}`: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_endpoint_is_written_and_read_in_one_form() {
        for (written, normal) in [
            ("https://api.telegram.org", "https://api.telegram.org"),
            ("HTTPS://API.Telegram.org:443/", "https://api.telegram.org"),
            ("http://127.0.0.1:9101", "http://127.0.0.1:9101"),
            ("http://0x7f.1:9101", "http://127.0.0.1:9101"),
            ("http://[::1]:9101", "http://[::1]:9101"),
            ("https://[2606:4700::1]", "https://[2606:4700::1]"),
            ("tcp://irc.example:6667", "tcp://irc.example:6667"),
            ("tls://irc.example:443", "tls://irc.example:443"),
            ("https://*.example.com", "https://*.example.com"),
            ("wss://gateway.example:8443", "wss://gateway.example:8443"),
        ] {
            assert_eq!(written.parse::<Endpoint>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn each_wrong_endpoint_says_what_is_wrong() {
        for (text, error) in [
            ("api.telegram.org", EndpointError::Scheme),
            ("ftp://example.com", EndpointError::Scheme),
            ("file:///etc/passwd", EndpointError::Scheme),
            ("https://", EndpointError::Host(HostError::Empty)),
            ("https://user:pw@example.com", EndpointError::UserInfo),
            ("https://example.com/path", EndpointError::Path),
            ("https://example.com?x", EndpointError::Path),
            ("https://example.com\\x", EndpointError::Path),
            ("https://example.com:0", EndpointError::Port),
            ("https://example.com:65536", EndpointError::Port),
            ("https://example.com:", EndpointError::Port),
            ("https://::1", EndpointError::Port),
            ("tcp://example.com", EndpointError::PortMissing),
            ("https://*.com", EndpointError::Host(HostError::WideWildcard)),
            ("https://example.com.", EndpointError::Host(HostError::TrailingDot)),
            ("http://0.0.0.0:80", EndpointError::Address([0, 0, 0, 0].into())),
            ("http://224.0.0.1:80", EndpointError::Address([224, 0, 0, 1].into())),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_grant_list_reads_all_its_forms() {
        #[derive(Deserialize, Serialize)]
        struct File {
            grant: Vec<GrantEntry>,
        }
        let text = r#"grant = ["https://a.example", { url = "http://nas.lan.example:81", private = true }, "terminal", "reveal:token"]"#;
        let file: File = toml::from_str(text).unwrap();
        let shown: Vec<String> = file.grant.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "https://a.example",
                "http://nas.lan.example:81 (private network)",
                "terminal",
                "reveal:token"
            ]
        );
        let again: File = toml::from_str(&toml::to_string(&file).unwrap()).unwrap();
        assert_eq!(again.grant, file.grant);
        for wrong in [
            r#"grant = [{ url = "https://a.example", privat = true }]"#,
            r#"grant = [{ url = "http://10.0.0.1", private = true }]"#,
            r#"grant = ["a.example"]"#,
            "grant = [1]",
        ] {
            assert!(toml::from_str::<File>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses_to_the_same(text in "(https?|wss?|tcp|tls)://\\PC{1,30}(:[0-9]{1,5})?/?") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
    }
}
