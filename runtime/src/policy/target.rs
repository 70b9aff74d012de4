//! A guest's URL, parsed once by one parser, and refused where two readers could understand it differently.

use std::fmt;

use url::Url;

use super::endpoint::Scheme;
use super::host::{Host, HostError};
use crate::limit;

/// Why a URL is refused. The text never repeats the URL: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Longer than [`limit::URL_BYTES_MAX`].
    #[error("the URL is longer than 8 KiB")]
    TooLong,
    /// A control character, a space or a line break.
    #[error("the URL contains a control character, a space or a backslash")]
    Characters,
    /// Not absolute, or not a URL at all.
    #[error("this is no absolute URL")]
    Malformed,
    /// A scheme that this call does not speak.
    #[error("this call does not speak {0}")]
    Scheme(String),
    /// `user:password@`
    #[error("a URL may not carry a user name or password")]
    UserInfo,
    /// The host can't be understood.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Port 0.
    #[error("port 0 can't be connected to")]
    Port,
}

/// A parsed URL of a request, and the place it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it leads.
    pub host: Host,
    /// Which port, with the scheme's own filled in.
    pub port: u16,
    /// The whole URL, normalised, without its fragment.
    pub url: Url,
}

impl Target {
    /// Parses a URL of one of the given schemes.
    ///
    /// # Errors
    /// Says what is refused, without repeating the URL.
    pub fn parse(text: &str, schemes: &[Scheme]) -> Result<Self, InvalidUrl> {
        if text.len() > limit::URL_BYTES_MAX {
            return Err(InvalidUrl::TooLong);
        }
        // The parser drops tabs and line breaks, trims spaces and reads `\` as `/`: others may not.
        if text.chars().any(|c| c.is_control() || c == ' ' || c == '\\') {
            return Err(InvalidUrl::Characters);
        }
        let (scheme_text, rest) = text.split_once("://").ok_or(InvalidUrl::Malformed)?;
        let scheme = schemes
            .iter()
            .copied()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(scheme_text));
        let scheme = scheme.ok_or_else(|| InvalidUrl::Scheme(name_only(scheme_text)))?;
        // `https:///host` is a host for this parser and an empty one for others.
        if rest.starts_with('/') {
            return Err(InvalidUrl::Malformed);
        }
        let mut url = Url::parse(text).map_err(|_| InvalidUrl::Malformed)?;
        if !url.username().is_empty() || url.password().is_some() || authority(rest).contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        url.set_fragment(None);
        let host = Host::from_url(&url.host().ok_or(InvalidUrl::Malformed)?)?;
        let port = url
            .port_or_known_default()
            .filter(|port| *port > 0)
            .ok_or(InvalidUrl::Port)?;
        Ok(Self {
            scheme,
            host,
            port,
            url,
        })
    }

    /// Whether both lead to the same place.
    pub fn same_place(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }
}

/// Shows the place only: a path or query may hold a secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.scheme.default_port() == Some(self.port) {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

/// Returns the part of a URL (after `://`) before its path, query and fragment.
pub(crate) fn authority(after_scheme: &str) -> &str {
    after_scheme.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Returns a scheme for an error message, or a placeholder where it is not one.
fn name_only(scheme: &str) -> String {
    let is_name = scheme.len() <= 16 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if is_name && !scheme.is_empty() {
        format!("{scheme}://")
    } else {
        "this scheme".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HTTP: [Scheme; 2] = [Scheme::Http, Scheme::Https];

    fn place(text: &str) -> Result<String, InvalidUrl> {
        Target::parse(text, &HTTP).map(|target| target.to_string())
    }

    #[test]
    fn a_url_leads_where_its_host_says() {
        for (text, leads_to) in [
            ("https://api.x.example/a?b#c", "https://api.x.example"),
            ("HTTPS://API.x.EXAMPLE:443", "https://api.x.example"),
            ("http://0x7f.1:9101/", "http://127.0.0.1:9101"),
            ("http://2130706433/", "http://127.0.0.1"),
            ("http://[::ffff:127.0.0.1]/", "http://[::ffff:127.0.0.1]"),
            ("https://api.x.evil.example", "https://api.x.evil.example"),
            ("https://evil.example/#@api.x.example", "https://evil.example"),
            ("https://evil.example?@api.x.example", "https://evil.example"),
            ("https://аpi.x.example", "https://xn--pi-6kc.x.example"),
        ] {
            assert_eq!(place(text).as_deref(), Ok(leads_to), "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        for (text, error) in [
            ("https://user@api.x.example/", InvalidUrl::UserInfo),
            ("https://@api.x.example/", InvalidUrl::UserInfo),
            ("https://:@api.x.example/", InvalidUrl::UserInfo),
            ("https://api.x.example@evil.example/", InvalidUrl::UserInfo),
            ("https://evil.example\\@api.x.example", InvalidUrl::Characters),
            ("https://api.x.example/\r\nHost: evil", InvalidUrl::Characters),
            ("https://api.x\t.example/", InvalidUrl::Characters),
            (" https://api.x.example/", InvalidUrl::Characters),
            ("https://api.x.example./", InvalidUrl::Host(HostError::TrailingDot)),
            ("https:///api.x.example", InvalidUrl::Malformed),
            ("https:api.x.example", InvalidUrl::Malformed),
            ("/relative", InvalidUrl::Malformed),
            ("//api.x.example", InvalidUrl::Malformed),
            ("ftp://api.x.example", InvalidUrl::Scheme("ftp://".into())),
            ("file:///etc/passwd", InvalidUrl::Scheme("file://".into())),
            ("https://api.x.example:0/", InvalidUrl::Port),
            ("https://api.x.example:99999/", InvalidUrl::Malformed),
            ("https://", InvalidUrl::Malformed),
        ] {
            assert_eq!(place(text), Err(error), "{text:?}");
        }
        assert_eq!(
            place(&format!("https://a.example/{}", "x".repeat(9000))),
            Err(InvalidUrl::TooLong)
        );
    }

    /// What two readers are known to disagree about, in any order.
    const PIECES: [&str; 44] = [
        "http://",
        "https://",
        "HTTP://",
        "http:",
        "//",
        "/",
        "\\",
        "@",
        ":",
        "?",
        "#",
        "%",
        ".",
        "..",
        "*.",
        "[",
        "]",
        "user",
        "user:pw@",
        "a.example",
        "A.Example",
        "evil.example",
        "xn--pi-6kc",
        "аpi",
        "ｅｘａｍｐｌｅ",
        "。",
        "\u{ad}",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "%61",
        "%2e",
        "%40",
        "%2f",
        "%5c",
        ":80",
        ":443",
        ":0",
        ":00080",
        ":65536",
        "{{token}}",
        "\t",
    ];

    fn soup() -> impl Strategy<Value = String> {
        let pieces = prop::collection::vec(prop::sample::select(&PIECES[..]), 1..8);
        (prop::bool::weighted(0.8), pieces).prop_map(|(begins_well, pieces)| {
            let begin = if begins_well { "http://" } else { "" };
            begin.to_owned() + &pieces.concat()
        })
    }

    proptest! {
        #[test]
        fn every_reader_of_an_accepted_url_finds_the_same_place(text in soup()) {
            let Ok(target) = Target::parse(&text, &HTTP) else { return Ok(()) };
            // The URL standard's reading of what the guest wrote, which browsers and the HTTP client share.
            let url = Url::parse(&text).expect("what was accepted is a URL");
            prop_assert_eq!(url.host().map(|host| Host::from_url(&host)), Some(Ok(target.host.clone())));
            prop_assert_eq!(url.port_or_known_default(), Some(target.port));
            prop_assert_eq!((url.username(), url.password()), ("", None));
            // RFC 3986's, which servers and proxies share. It knows fewer spellings, but what it takes leads there too.
            let Ok(uri) = text.parse::<http::Uri>() else { return Ok(()) };
            prop_assert_eq!(uri.host().map(Host::parse), Some(Ok(target.host.clone())));
            prop_assert_eq!(uri.port_u16().or(target.scheme.default_port()), Some(target.port));
            prop_assert!(!uri.authority().is_some_and(|authority| authority.as_str().contains('@')));
        }

        #[test]
        fn an_accepted_url_means_the_same_to_both_parsers(
            text in "https?://[a-zA-Z0-9.:@/?#%\\[\\]_~*{}é-]{1,40}"
        ) {
            let Ok(target) = Target::parse(&text, &HTTP) else { return Ok(()) };
            prop_assert_eq!(Target::parse(target.url.as_str(), &HTTP), Ok(target.clone()));
            let uri: http::Uri = target.url.as_str().parse().expect("the normalised URL is a URI");
            let port = uri.port_u16().or(target.scheme.default_port());
            prop_assert_eq!(uri.host().map(ToOwned::to_owned), Some(target.host.to_string()));
            prop_assert_eq!(port, Some(target.port));
        }
    }
}
