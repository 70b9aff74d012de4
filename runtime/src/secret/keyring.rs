//! The secrets of one channel: each bound to the hosts it may be sent to and the places it may stand in.
//!
//! A guest writes `{{name}}`; the value is put in here, after the request was granted, and never reaches the guest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Secret;
use super::redact::Redactor;
use super::signing::{self, Signing};
use super::template::{self, Piece};
use crate::limit;
use crate::policy::{Grants, Host, HostPattern};

/// Where a value may be put in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placements {
    /// In the value of a header.
    pub header: bool,
    /// In the path of a URL.
    pub url_path: bool,
    /// In the query of a URL.
    pub url_query: bool,
    /// As a whole string in a JSON body.
    pub json_body: bool,
    /// In a WebSocket text frame.
    pub websocket_text: bool,
    /// In a text that the guest composed for a byte stream.
    pub tcp_text: bool,
}

/// One place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The value of a header: put in as it is.
    Header,
    /// The path of a URL: percent-encoded as a segment.
    UrlPath,
    /// The query of a URL: percent-encoded.
    UrlQuery,
    /// A JSON body: put in for a string that is nothing but the placeholder.
    JsonBody,
    /// A text frame: as in a JSON body where the frame is JSON, else anywhere, as it is.
    WebsocketText,
    /// A text for a byte stream: as it is.
    TcpText,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "a header",
            Self::UrlPath => "the path of a URL",
            Self::UrlQuery => "the query of a URL",
            Self::JsonBody => "a JSON body",
            Self::WebsocketText => "a WebSocket text",
            Self::TcpText => "the text of a byte stream",
        })
    }
}

/// A secret and what it is bound to.
#[derive(Debug, Clone)]
pub struct BoundSecret {
    /// The value.
    pub secret: Secret,
    /// Hosts that it may be sent to, if they are granted; none means nowhere, for secrets that only sign or verify.
    pub hosts: Vec<HostPattern>,
    /// Where it may stand.
    pub placements: Placements,
}

/// Why a placeholder was not filled in. Names are those the guest wrote; values never show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// `{{` without a name and `}}`.
    #[error("`{{{{` must be followed by the name of a secret and `}}}}`")]
    Malformed,
    /// No such secret.
    #[error("the secret `{0}` is not configured")]
    Unknown(String),
    /// Bound to other hosts.
    #[error("the secret `{0}` may not be sent to {1}")]
    Host(String, Host),
    /// Bound to other places.
    #[error("the secret `{0}` may not stand in {1}")]
    Place(String, Place),
    /// Its value would end the line that it stands in.
    #[error("the secret `{0}` has a line break or another control character, which {1} can't hold: correct the secret")]
    Control(String, Place),
}

/// Why a guest got no secret, or no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// No such secret.
    #[error("the secret `{0}` is not configured")]
    Unknown(String),
    /// Not granted.
    #[error("showing the secret `{0}` is not granted: the operator can add `reveal:{0}`")]
    NotGranted(String),
    /// The secret is no key for this.
    #[error(transparent)]
    Signing(#[from] signing::SigningError),
}

/// The secrets of one channel.
#[derive(Debug, Default)]
pub struct Keyring {
    secrets: BTreeMap<String, BoundSecret>,
    redactor: Redactor,
}

impl Keyring {
    /// Takes the secrets, by name.
    pub fn new(secrets: BTreeMap<String, BoundSecret>) -> Self {
        let redactor = Redactor::new(secrets.values().map(|bound| &bound.secret));
        Self { secrets, redactor }
    }

    /// Returns what takes these secrets out of text and bytes.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Whether the secret is configured.
    pub fn available(&self, name: &str) -> bool {
        self.secrets.contains_key(name)
    }

    /// Returns the secret itself, for the host's own use, such as verifying webhooks.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name).map(|bound| &bound.secret)
    }

    /// Signs with a secret that stays here.
    ///
    /// # Errors
    /// When there is no such secret, or it is no key for this.
    pub fn sign(&self, name: &str, signing: Signing, data: &[u8]) -> Result<Vec<u8>, KeyringError> {
        let secret = self.get(name).ok_or_else(|| KeyringError::Unknown(shown(name)))?;
        Ok(signing::sign(secret, signing, data)?)
    }

    /// Returns the plain value, if the operator granted that.
    ///
    /// # Errors
    /// When it is not granted, or there is no such secret.
    pub fn reveal(&self, name: &str, grants: &Grants) -> Result<&Secret, KeyringError> {
        if !grants.reveals(name) {
            return Err(KeyringError::NotGranted(shown(name)));
        }
        self.get(name).ok_or_else(|| KeyringError::Unknown(shown(name)))
    }

    /// Fills in a header value, a URL's path or query, or a text for a byte stream: every `{{` must be a secret that may
    /// stand there, or, in a header or a stream's text, `{{base64:` and a text with such secrets.
    ///
    /// # Errors
    /// The first placeholder that can't be filled in.
    pub fn fill<'t>(&self, text: &'t str, place: Place, host: &Host) -> Result<Cow<'t, str>, FillError> {
        if !text.contains("{{") {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len() + 64);
        for piece in template::parse(text)? {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Secret(name) => {
                    let secret = self.bound(name, place, host)?;
                    if place == Place::TcpText && secret.expose().contains(char::is_control) {
                        return Err(FillError::Control(name.to_owned(), place));
                    }
                    out.push_str(&encode::for_place(secret, place));
                }
                Piece::Base64(inner) if matches!(place, Place::Header | Place::TcpText) => {
                    out.push_str(&STANDARD.encode(self.joined(&inner, place, host)?));
                }
                Piece::Base64(_) => return Err(FillError::Malformed),
            }
        }
        Ok(Cow::Owned(out))
    }

    /// Returns the text inside an encoded field, with its secrets as they are.
    fn joined(&self, pieces: &[Piece<'_>], place: Place, host: &Host) -> Result<String, FillError> {
        let mut out = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Secret(name) => out.push_str(self.bound(name, place, host)?.expose()),
                Piece::Base64(_) => return Err(FillError::Malformed),
            }
        }
        Ok(out)
    }

    /// Fills in a JSON document: strings that are nothing but a placeholder. All else, unknown names too, is left as it
    /// is, because a document carries what people wrote.
    pub fn fill_json<'b>(&self, json: &'b [u8], place: Place, host: &Host) -> Cow<'b, [u8]> {
        let mut out: Option<Vec<u8>> = None;
        let mut copied = 0;
        for (start, _) in json.windows(3).enumerate().filter(|(_, window)| window == b"\"{{") {
            // A quote after a backslash is inside a string, so the string is more than the placeholder.
            if start < copied || (start > 0 && json[start - 1] == b'\\') {
                continue;
            }
            let Some((name, end)) = placeholder_string(json, start) else {
                continue;
            };
            let Ok(secret) = self.bound(name, place, host) else {
                continue;
            };
            let out = out.get_or_insert_with(Vec::new);
            out.extend_from_slice(&json[copied..=start]);
            out.extend_from_slice(encode::json(secret.expose()).as_bytes());
            copied = end;
        }
        match out {
            Some(mut out) => {
                out.extend_from_slice(&json[copied..]);
                Cow::Owned(out)
            }
            None => Cow::Borrowed(json),
        }
    }

    /// Fills in a WebSocket text as [`Keyring::fill_json`] does. What is no JSON document is left as it is: in any other text
    /// nobody can tell what the guest composed from what people wrote, who could ask for a secret by sending its placeholder.
    pub fn fill_websocket<'t>(&self, text: &'t str, host: &Host) -> Cow<'t, str> {
        if !text.contains("\"{{") || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            return Cow::Borrowed(text);
        }
        match self.fill_json(text.as_bytes(), Place::WebsocketText, host) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Returns the names of the secrets whose placeholders stand in what a guest wrote, as often as they do.
    pub fn named_in<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = &'t str> {
        let starts = text.windows(2).enumerate().filter(|(_, window)| *window == b"{{");
        starts.filter_map(|(start, _)| {
            let name = placeholder(&text[start..])?;
            self.secrets.get_key_value(name).map(|(name, _)| name.as_str())
        })
    }

    fn bound(&self, name: &str, place: Place, host: &Host) -> Result<&Secret, FillError> {
        if !is_name(name) {
            return Err(FillError::Malformed);
        }
        let bound = self
            .secrets
            .get(name)
            .ok_or_else(|| FillError::Unknown(name.to_owned()))?;
        if !bound.hosts.iter().any(|pattern| pattern.matches(host)) {
            return Err(FillError::Host(name.to_owned(), host.clone()));
        }
        if !bound.placements.allow(place) {
            return Err(FillError::Place(name.to_owned(), place));
        }
        Ok(&bound.secret)
    }
}

impl Placements {
    /// Whether the value may stand there.
    pub fn allow(self, place: Place) -> bool {
        match place {
            Place::Header => self.header,
            Place::UrlPath => self.url_path,
            Place::UrlQuery => self.url_query,
            Place::JsonBody => self.json_body,
            Place::WebsocketText => self.websocket_text,
            Place::TcpText => self.tcp_text,
        }
    }
}

/// Whether a text can be the name of a secret.
pub(super) fn is_name(text: &str) -> bool {
    (1..=limit::DESCRIPTION_WORD_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Returns a guest's name for an error message: only if it is one.
fn shown(name: &str) -> String {
    if is_name(name) { name.to_owned() } else { "?".to_owned() }
}

/// Returns the name in the `{{name}}` that a text begins with.
fn placeholder(text: &[u8]) -> Option<&str> {
    let rest = text.strip_prefix(b"{{")?;
    // No further: a text may hold many beginnings and no end.
    let mut searched = rest.iter().take(limit::DESCRIPTION_WORD_BYTES_MAX + 1);
    let (name, behind) = rest.split_at(searched.position(|byte| *byte == b'}')?);
    let name = std::str::from_utf8(name).ok().filter(|name| is_name(name))?;
    behind.starts_with(b"}}").then_some(name)
}

/// Returns the name in `"{{name}}"` at `start`, and where its closing quote stands.
fn placeholder_string(json: &[u8], start: usize) -> Option<(&str, usize)> {
    let name = placeholder(&json[start + 1..])?;
    let end = start + 1 + "{{}}".len() + name.len();
    (json.get(end) == Some(&b'"')).then_some((name, end))
}

/// How a value is written in each place.
pub(super) mod encode {
    use super::{Place, Secret};

    pub(super) fn for_place(secret: &Secret, place: Place) -> String {
        let value = secret.expose();
        match place {
            Place::UrlPath => percent_but(value, IN_SEGMENT),
            Place::UrlQuery => percent(value),
            Place::JsonBody => json(value),
            Place::Header | Place::WebsocketText | Place::TcpText => value.to_owned(),
        }
    }

    /// The unreserved characters beside letters and digits (RFC 3986 section 2.3).
    pub(in crate::secret) const UNRESERVED: &[u8] = b"-._~";

    /// What a path segment may hold (`pchar`, RFC 3986 section 3.3): `123:abc` stays as it is.
    pub(in crate::secret) const IN_SEGMENT: &[u8] = b"-._~!$&'()*+,;=:@";

    /// Percent-encodes all but the unreserved characters.
    pub(in crate::secret) fn percent(text: &str) -> String {
        percent_but(text, UNRESERVED)
    }

    /// Escapes text for the inside of a JSON string.
    pub(super) fn json(text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        out
    }

    /// Percent-encodes all but letters, digits and what is kept.
    pub(in crate::secret) fn percent_but(text: &str, kept: &[u8]) -> String {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Placements = Placements {
        header: true,
        url_path: true,
        url_query: true,
        json_body: true,
        websocket_text: true,
        tcp_text: true,
    };

    fn keyring(value: &str, placements: Placements) -> Keyring {
        let bound = BoundSecret {
            secret: Secret::new(value.to_owned()),
            hosts: vec![HostPattern::parse("*.x.example").unwrap()],
            placements,
        };
        Keyring::new(BTreeMap::from([("token".to_owned(), bound)]))
    }

    fn host() -> Host {
        Host::parse("api.x.example").unwrap()
    }

    #[test]
    fn each_place_has_its_encoding() {
        let keyring = keyring("1:a/b \"", ALL);
        let fill = |text, place| keyring.fill(text, place, &host()).unwrap().into_owned();
        assert_eq!(fill("Bot {{token}}", Place::Header), "Bot 1:a/b \"");
        assert_eq!(fill("/bot{{token}}/send", Place::UrlPath), "/bot1:a%2Fb%20%22/send");
        assert_eq!(
            fill("t={{token}}&u={{token}}", Place::UrlQuery),
            "t=1%3Aa%2Fb%20%22&u=1%3Aa%2Fb%20%22"
        );
    }

    #[test]
    fn an_encoded_field_holds_the_secret_among_other_text() {
        let keyring = keyring("pass word", ALL);
        let fill = |text, place| keyring.fill(text, place, &host());
        let basic = format!("Basic {}", STANDARD.encode("user:pass word"));
        assert_eq!(fill("Basic {{base64:user:{{token}}}}", Place::Header).unwrap(), basic);
        let plain = format!("AUTHENTICATE {}\r\n", STANDARD.encode("\0bot\0pass word"));
        let text = "AUTHENTICATE {{base64:\0bot\0{{token}}}}\r\n";
        assert_eq!(fill(text, Place::TcpText).unwrap(), plain);
        for place in [Place::UrlPath, Place::UrlQuery] {
            assert_eq!(fill("{{base64:{{token}}}}", place), Err(FillError::Malformed));
        }
        let unbound = fill("{{base64:{{other}}}}", Place::TcpText);
        assert_eq!(unbound, Err(FillError::Unknown("other".into())));
    }

    #[test]
    fn a_secret_can_not_end_the_line_that_it_stands_in() {
        let fill = |value, text| {
            keyring(value, ALL)
                .fill(text, Place::TcpText, &host())
                .map(Cow::into_owned)
        };
        assert_eq!(fill("value-1", "PASS {{token}}\r\n"), Ok("PASS value-1\r\n".into()));
        for value in ["value\r\nQUIT", "value\n1", "value\0"] {
            let control = FillError::Control("token".into(), Place::TcpText);
            assert_eq!(fill(value, "PASS {{token}}\r\n"), Err(control), "{value:?}");
        }
    }

    #[test]
    fn a_placeholder_that_can_not_be_filled_in_is_refused_by_name() {
        let no_header = Placements { header: false, ..ALL };
        let keyring = keyring("value-1", no_header);
        let fail = |text, host: &str| {
            keyring
                .fill(text, Place::Header, &Host::parse(host).unwrap())
                .unwrap_err()
        };
        assert_eq!(fail("{{other}}", "a.x.example"), FillError::Unknown("other".into()));
        assert_eq!(
            fail("{{token}}", "a.x.example"),
            FillError::Place("token".into(), Place::Header)
        );
        assert!(matches!(fail("{{token}}", "evil.example"), FillError::Host(..)));
        for malformed in ["{{token", "{{}}", "{{{{token}}}}", "{{to ken}}"] {
            assert_eq!(fail(malformed, "a.x.example"), FillError::Malformed, "{malformed}");
        }
    }

    #[test]
    fn only_a_whole_json_string_is_filled_in() {
        let keyring = keyring("v\"1\n", ALL);
        let fill = |json: &str| {
            String::from_utf8(
                keyring
                    .fill_json(json.as_bytes(), Place::JsonBody, &host())
                    .into_owned(),
            )
            .unwrap()
        };
        assert_eq!(
            fill(r#"{"t":"{{token}}","u":"{{token}}"}"#),
            r#"{"t":"v\"1\u000a","u":"v\"1\u000a"}"#
        );
        for untouched in [
            r#"{"text":"say {{token}}"}"#,
            r#"{"text":"\"{{token}}"}"#,
            r#"{"text":"\"{{token}}\""}"#,
            r#"{"text":"{{other}}"}"#,
            r#"{"text":"{{token"#,
            r#""{{"#,
            "",
        ] {
            assert_eq!(fill(untouched), untouched);
        }
    }

    #[test]
    fn a_websocket_text_is_filled_in_where_it_is_json_and_nowhere_else() {
        let keyring = keyring("v\"1", ALL);
        let fill = |text| keyring.fill_websocket(text, &host()).into_owned();
        assert_eq!(fill(r#"{"op":2,"d":"{{token}}"}"#), r#"{"op":2,"d":"v\"1"}"#);
        for untouched in [
            r#"{"text":"say {{token}}"}"#,
            r#"{"text":"say \"{{token}}\""}"#,
            "PASS oauth:{{token}}",
            r#"PRIVMSG #room :they say "{{token}}""#,
            r#"["{{token}}"] and what somebody wrote"#,
            "{{token}}",
        ] {
            assert_eq!(fill(untouched), untouched);
        }
        let elsewhere = Host::parse("evil.example").unwrap();
        let text = r#"{"d":"{{token}}"}"#;
        assert_eq!(keyring.fill_websocket(text, &elsewhere), text);
        let no_text = Placements {
            websocket_text: false,
            ..ALL
        };
        assert_eq!(
            super::tests::keyring("value-1", no_text).fill_websocket(text, &host()),
            text
        );
    }

    #[test]
    fn revealing_needs_its_own_grant() {
        let keyring = keyring("value-1", ALL);
        assert!(matches!(
            keyring.reveal("token", &Grants::default()),
            Err(KeyringError::NotGranted(_))
        ));
        let grants = Grants::new(
            Vec::new(),
            ["reveal:token".parse().unwrap(), "reveal:x".parse().unwrap()],
        );
        assert_eq!(keyring.reveal("token", &grants).unwrap().expose(), "value-1");
        assert!(matches!(keyring.reveal("x", &grants), Err(KeyringError::Unknown(_))));
        assert!(matches!(
            keyring.sign("x", Signing::HmacSha256, b""),
            Err(KeyringError::Unknown(_))
        ));
    }
}
