//! The effective permissions of one channel: what its component asks for, and the operator granted.
//!
//! Both must say yes, at every use. A request alone gives nothing; a grant alone gives a component no more than its
//! description (which the operator read) asks for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::endpoint::{Endpoint, EndpointError, Grant, GrantEntry, Scheme, split_port};
use super::host::{Host, HostPattern};

/// An endpoint that a component's description asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How it will be spoken to.
    pub scheme: Scheme,
    /// A host name, `*.` and a suffix, or `{setting-key}`: the host part of an operator's setting.
    pub host: String,
    /// The port; where there is none, the setting's, else the scheme's own.
    pub port: Option<u16>,
    /// Why, in the component's words.
    pub reason: String,
}

/// Why a request of a component's description can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{scheme}://{host}: {problem}")]
pub struct RequestError {
    /// As in the request.
    pub scheme: Scheme,
    /// As in the request.
    pub host: String,
    /// What is wrong with it.
    #[source]
    pub problem: EndpointError,
}

impl Request {
    /// Returns the endpoints that are meant, given the operator's settings (`values_of(key)`: none, one or a list).
    ///
    /// A setting that is not set means no endpoint, and so does one that is a URL of another scheme.
    ///
    /// # Errors
    /// When the host, or a setting's value, is no host, `host:port` or URL.
    pub fn resolve(&self, values_of: &dyn Fn(&str) -> Vec<String>) -> Result<Vec<Endpoint>, RequestError> {
        let fail = |problem| RequestError {
            scheme: self.scheme,
            host: self.host.clone(),
            problem,
        };
        match self.host.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(key) => values_of(key)
                .iter()
                .filter_map(|value| self.of_setting(value).transpose())
                .collect(),
            None => self
                .endpoint(HostPattern::parse(&self.host).map_err(Into::into), None)
                .map(|endpoint| vec![endpoint]),
        }
        .map_err(fail)
    }

    fn of_setting(&self, value: &str) -> Result<Option<Endpoint>, EndpointError> {
        let authority = match value.trim().split_once("://") {
            Some((scheme, _)) if !scheme.eq_ignore_ascii_case(self.scheme.as_str()) => return Ok(None),
            Some((_, rest)) => rest.split(['/', '?', '#', '\\']).next().unwrap_or_default(),
            None => value.trim(),
        };
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let host = Host::parse(host).map(HostPattern::Exact).map_err(EndpointError::from);
        self.endpoint(host, port).map(Some)
    }

    fn endpoint(&self, host: Result<HostPattern, EndpointError>, port: Option<u16>) -> Result<Endpoint, EndpointError> {
        let port = self
            .port
            .or(port)
            .or(self.scheme.default_port())
            .ok_or(EndpointError::PortMissing)?;
        Ok(Endpoint {
            scheme: self.scheme,
            host: host?,
            port,
        })
    }
}

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Whether it may end at an address of this machine or of a private network.
    pub private: bool,
}

/// The effective permissions of one channel. Cheap to check; replaced as a whole when they change.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    requested: Vec<Endpoint>,
    granted: Vec<Grant>,
    reveal: BTreeSet<String>,
    terminal: bool,
    folder: Option<PathBuf>,
}

impl Grants {
    /// Puts together what was asked for (already resolved) and what was granted.
    pub fn new(requested: Vec<Endpoint>, entries: impl IntoIterator<Item = GrantEntry>) -> Self {
        let mut grants = Self {
            requested,
            ..Self::default()
        };
        for entry in entries {
            match entry {
                GrantEntry::Endpoint(grant) => grants.granted.push(grant),
                GrantEntry::Reveal(name) => {
                    grants.reveal.insert(name);
                }
                GrantEntry::Terminal => grants.terminal = true,
                GrantEntry::Folder(path) => grants.folder = Some(path),
            }
        }
        grants
    }

    /// Returns the permit for a connection, or none where it was not asked for or not granted.
    pub fn permit(&self, scheme: Scheme, host: &Host, port: u16) -> Option<Permit> {
        let is_requested = self
            .requested
            .iter()
            .any(|endpoint| endpoint.matches(scheme, host, port));
        let mut matching = self
            .granted
            .iter()
            .filter(|grant| grant.endpoint.matches(scheme, host, port))
            .peekable();
        (is_requested && matching.peek().is_some()).then(|| Permit {
            private: matching.any(Grant::reaches_private),
        })
    }

    /// Whether a grant names this very host, rather than all hosts below a suffix.
    pub fn names(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        self.granted.iter().any(|grant| {
            matches!(grant.endpoint.host, HostPattern::Exact(_)) && grant.endpoint.matches(scheme, host, port)
        })
    }

    /// Whether the connection would be granted, but the component's description does not ask for it.
    pub fn is_unrequested(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        !self
            .requested
            .iter()
            .any(|endpoint| endpoint.matches(scheme, host, port))
            && self
                .granted
                .iter()
                .any(|grant| grant.endpoint.matches(scheme, host, port))
    }

    /// Whether the plain value of this secret may be shown to the guest.
    pub fn reveals(&self, secret: &str) -> bool {
        self.reveal.contains(secret)
    }

    /// Whether the channel has the process's terminal.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// Returns the folder that files may be put into.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Takes the folder away again, where the component does not ask for one. Returns it.
    pub fn without_folder(&mut self) -> Option<PathBuf> {
        self.folder.take()
    }

    /// Returns what was granted, in the operator's order.
    pub fn granted(&self) -> &[Grant] {
        &self.granted
    }

    /// Returns what was asked for and no grant covers, in the component's order: what will be denied.
    pub fn ungranted(&self) -> impl Iterator<Item = &Endpoint> {
        self.requested.iter().filter(|asked| {
            !self
                .granted
                .iter()
                .any(|grant| grant.endpoint.covers(asked) || asked.covers(&grant.endpoint))
        })
    }

    /// Returns the grants that the component does not ask for: they have no effect.
    pub fn unused(&self) -> impl Iterator<Item = &Grant> {
        self.granted.iter().filter(|grant| {
            !self
                .requested
                .iter()
                .any(|asked| asked.covers(&grant.endpoint) || grant.endpoint.covers(asked))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(scheme: Scheme, host: &str, port: Option<u16>) -> Request {
        Request {
            scheme,
            host: host.to_owned(),
            port,
            reason: String::new(),
        }
    }

    fn resolved(request: &Request, setting: &str) -> Result<Vec<String>, RequestError> {
        let lookup = |key: &str| {
            if key == "base-url" {
                vec![setting.to_owned()]
            } else {
                Vec::new()
            }
        };
        Ok(request.resolve(&lookup)?.iter().map(ToString::to_string).collect())
    }

    fn grants(requested: &[&str], entries: &[&str]) -> Grants {
        let requested = requested.iter().map(|text| text.parse().unwrap()).collect();
        Grants::new(requested, entries.iter().map(|text| text.parse().unwrap()))
    }

    fn permit(grants: &Grants, place: &str) -> Option<Permit> {
        let endpoint: Endpoint = place.parse().unwrap();
        let HostPattern::Exact(host) = endpoint.host else {
            panic!("{place} is a pattern")
        };
        grants.permit(endpoint.scheme, &host, endpoint.port)
    }

    #[test]
    fn a_setting_gives_host_and_port_but_not_another_scheme() {
        let https = request(Scheme::Https, "{base-url}", None);
        let http = request(Scheme::Http, "{base-url}", None);
        assert_eq!(
            resolved(&https, "https://Chat.example/path?x").unwrap(),
            ["https://chat.example"]
        );
        assert_eq!(
            resolved(&https, "https://chat.example:8443/").unwrap(),
            ["https://chat.example:8443"]
        );
        assert_eq!(resolved(&http, "https://chat.example").unwrap(), Vec::<String>::new());
        assert_eq!(
            resolved(&http, "http://127.0.0.1:9101/base").unwrap(),
            ["http://127.0.0.1:9101"]
        );
        assert_eq!(
            resolved(&https, "chat.example:444").unwrap(),
            ["https://chat.example:444"]
        );
        assert_eq!(resolved(&https, "chat.example").unwrap(), ["https://chat.example"]);
        assert_eq!(
            resolved(&request(Scheme::Tls, "{base-url}", None), "irc.example:6697").unwrap(),
            ["tls://irc.example:6697"]
        );
        assert_eq!(
            resolved(&request(Scheme::Tls, "{base-url}", Some(7)), "irc.example:6697").unwrap(),
            ["tls://irc.example:7"]
        );
        assert_eq!(
            resolved(&request(Scheme::Https, "{other}", None), "x").unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_setting_that_is_no_place_is_an_error() {
        let https = request(Scheme::Https, "{base-url}", None);
        for wrong in [
            "",
            "https://",
            "https://u:p@chat.example",
            "a b",
            "https://chat.example:x",
            "*.example.com",
        ] {
            assert!(resolved(&https, wrong).is_err(), "{wrong:?}");
        }
        assert!(
            resolved(&request(Scheme::Tcp, "{base-url}", None), "irc.example").is_err(),
            "a stream needs a port"
        );
    }

    #[test]
    fn a_connection_needs_both_the_request_and_the_grant() {
        let grants = grants(
            &["https://*.example.com", "https://b.example.org"],
            &["https://a.example.com", "https://c.example.org"],
        );
        assert_eq!(
            permit(&grants, "https://a.example.com"),
            Some(Permit { private: false })
        );
        for refused in [
            "https://b.example.com",
            "https://b.example.org",
            "https://c.example.org",
            "http://a.example.com",
            "wss://a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil.org",
        ] {
            assert_eq!(permit(&grants, refused), None, "{refused}");
        }
        assert_eq!(
            grants.ungranted().map(ToString::to_string).collect::<Vec<_>>(),
            ["https://b.example.org"]
        );
        assert_eq!(
            grants.unused().map(ToString::to_string).collect::<Vec<_>>(),
            ["https://c.example.org"]
        );
    }

    #[test]
    fn private_addresses_need_to_be_meant() {
        let all = [
            "http://127.0.0.1:80",
            "http://localhost:80",
            "http://nas.example:80",
            "http://1.1.1.1:80",
        ];
        let mut grants = grants(&all, &all);
        let private = |grants: &Grants, place| permit(grants, place).unwrap().private;
        assert!(private(&grants, "http://127.0.0.1:80") && private(&grants, "http://localhost:80"));
        assert!(!private(&grants, "http://nas.example:80") && !private(&grants, "http://1.1.1.1:80"));
        grants.granted[2].private = true;
        assert!(private(&grants, "http://nas.example:80"));
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let grants = Grants::default();
        assert_eq!(permit(&grants, "https://a.example.com"), None);
        assert!(!grants.terminal() && !grants.reveals("token") && grants.folder().is_none());
    }
}
