//! Hosts in one spelling, and the patterns that grants are made of.
//!
//! A host name is lower-case ASCII (IDNA applied), without a dot at its end; an address is an address however it was
//! written (`0x7f.1`, `2130706433` and `127.0.0.1` are one). Grants and requests pass through the same function, so
//! that two spellings can't disagree.

use std::fmt;
use std::net::IpAddr;

use crate::limit;

/// One host: a name or an address, normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name, lower-case ASCII, at most [`limit::HOST_BYTES_MAX`] bytes.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// Why a text is no host or no pattern, as a clause with its remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nothing there.
    #[error("the host is missing")]
    Empty,
    /// Longer than a DNS name can be.
    #[error("the host is longer than 253 characters")]
    TooLong,
    /// Not a name and not an address.
    #[error("this is neither a host name nor an IP address (an IPv6 address stands in [brackets])")]
    Malformed,
    /// `example.com.`
    #[error("leave out the dot at the end of the host name")]
    TrailingDot,
    /// `*` where it may not stand.
    #[error("a wildcard is only allowed as the first label: `*.example.com`")]
    MisplacedWildcard,
    /// `*.com`
    #[error("at least two labels must follow the wildcard: `*.example.com`, not `*.com`")]
    WideWildcard,
}

impl Host {
    /// Parses a name, an IPv4 address in any spelling, or an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let parsed = url::Host::parse(text).map_err(|_| HostError::Malformed)?;
        Self::from_url(&parsed)
    }

    /// Takes the host of a parsed URL.
    ///
    /// # Errors
    /// When it is no name that DNS could hold, or has a dot at its end.
    pub fn from_url<S: AsRef<str>>(host: &url::Host<S>) -> Result<Self, HostError> {
        match host {
            url::Host::Ipv4(address) => Ok(Self::Address((*address).into())),
            url::Host::Ipv6(address) => Ok(Self::Address((*address).into())),
            url::Host::Domain(name) => check_name(name.as_ref()).map(|()| Self::Name(name.as_ref().to_owned())),
        }
    }

    /// Whether this names the machine itself: `localhost` or a name below it (RFC 6761 section 6.3).
    pub fn is_localhost(&self) -> bool {
        matches!(self, Self::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Which hosts a grant or a request means.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Exactly this host.
    Exact(Host),
    /// Every name with at least one label before this suffix; the suffix itself is not meant.
    Below(String),
}

impl HostPattern {
    /// Parses a host, or `*.` and a suffix of at least two labels.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let Some(suffix) = text.strip_prefix("*.") else {
            if text.contains('*') {
                return Err(HostError::MisplacedWildcard);
            }
            return Host::parse(text).map(Self::Exact);
        };
        if suffix.contains('*') {
            return Err(HostError::MisplacedWildcard);
        }
        match Host::parse(suffix)? {
            Host::Name(name) if name.contains('.') => Ok(Self::Below(name)),
            Host::Name(_) => Err(HostError::WideWildcard),
            Host::Address(_) => Err(HostError::MisplacedWildcard),
        }
    }

    /// Whether the host is meant by this pattern.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(wanted), _) => wanted == host,
            (Self::Below(suffix), Host::Name(name)) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
            (Self::Below(_), Host::Address(_)) => false,
        }
    }

    /// Whether every host that `other` means is meant by this pattern too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(host)) => self.matches(host),
            (Self::Below(mine), Self::Below(theirs)) => {
                mine == theirs
                    || theirs
                        .strip_suffix(mine.as_str())
                        .is_some_and(|front| front.ends_with('.'))
            }
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.ends_with('.') {
        return Err(HostError::TrailingDot);
    }
    if name.len() > limit::HOST_BYTES_MAX {
        return Err(HostError::TooLong);
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= limit::HOST_LABEL_BYTES_MAX
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if name.split('.').all(is_label) {
        Ok(())
    } else {
        Err(HostError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn one_host_has_one_spelling() {
        for (written, normal) in [
            ("API.Example.COM", "api.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("0x7f.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("::1", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("%61pi.example.com", "api.example.com"),
            ("ａｐｉ.example.com", "api.example.com"),
        ] {
            assert_eq!(host(written).to_string(), normal, "{written}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for (text, error) in [
            ("", HostError::Empty),
            ("example.com.", HostError::TrailingDot),
            ("a..b", HostError::Malformed),
            (".example.com", HostError::Malformed),
            ("a b", HostError::Malformed),
            ("a/b", HostError::Malformed),
            ("user@host", HostError::Malformed),
            ("host:80", HostError::Malformed),
            ("[::1", HostError::Malformed),
            ("1.2.3.4.5", HostError::Malformed),
            ("256.1.1.1", HostError::Malformed),
            ("a\r\nb", HostError::Malformed),
        ] {
            assert_eq!(Host::parse(text), Err(error), "{text:?}");
        }
        assert!(Host::parse(&format!("{}.com", "a".repeat(64))).is_err());
        assert_eq!(
            Host::parse("abc.".repeat(70).trim_end_matches('.')),
            Err(HostError::TooLong)
        );
    }

    #[test]
    fn a_wildcard_means_labels_before_its_suffix_and_nothing_else() {
        let pattern = HostPattern::parse("*.Example.com").unwrap();
        for meant in ["a.example.com", "a.b.example.com"] {
            assert!(pattern.matches(&host(meant)), "{meant}");
        }
        for other in [
            "example.com",
            "badexample.com",
            "a.example.com.evil.org",
            "example.com.evil.org",
            "1.2.3.4",
        ] {
            assert!(!pattern.matches(&host(other)), "{other}");
        }
    }

    #[test]
    fn wide_or_misplaced_wildcards_are_refused() {
        for (text, error) in [
            ("*", HostError::MisplacedWildcard),
            ("*.com", HostError::WideWildcard),
            ("a.*.example.com", HostError::MisplacedWildcard),
            ("*.*.example.com", HostError::MisplacedWildcard),
            ("a*.example.com", HostError::MisplacedWildcard),
            ("*.1.2.3.4", HostError::MisplacedWildcard),
            ("*.", HostError::Empty),
        ] {
            assert_eq!(HostPattern::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses_to_the_same(text in "\\PC{1,40}") {
            if let Ok(pattern) = HostPattern::parse(&text) {
                prop_assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern));
            }
        }

        #[test]
        fn a_pattern_that_covers_another_matches_all_it_matches(
            name in "[a-c]{1,2}(\\.[a-c]{1,2}){1,4}", one in "(\\*\\.)?[a-c]{1,2}(\\.[a-c]{1,2}){1,3}",
            two in "(\\*\\.)?[a-c]{1,2}(\\.[a-c]{1,2}){1,3}",
        ) {
            let (one, two) = (HostPattern::parse(&one).unwrap(), HostPattern::parse(&two).unwrap());
            let host = Host::parse(&name).unwrap();
            if one.covers(&two) && two.matches(&host) {
                prop_assert!(one.matches(&host));
            }
        }
    }
}
