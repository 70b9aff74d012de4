//! Takes secrets out of what is logged, reported or handed to a guest.
//!
//! A peer that was sent a secret may echo it: in a body, a header, an error. Each secret is looked for as it is and in
//! the encodings that servers echo in (percent, JSON, HTML, hexadecimal, base64 at any alignment), in either case.
//! This is a net under honest mistakes; a peer that is bound to a secret and wants to pass it on can find a form of
//! its own.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::Secret;
use super::keyring::encode::{IN_SEGMENT, UNRESERVED, percent, percent_but};
use crate::id::hex;
use crate::limit;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Replaces every secret it knows. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor(Option<Arc<Patterns>>);

struct Patterns {
    automaton: AhoCorasick,
    /// In lower case, for comparing prefixes at the end of a chunk.
    lower: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Prepares the search. Secrets shorter than [`limit::REDACTED_BYTES_MIN`] are left out: they would hide ordinary text.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let values = secrets
            .into_iter()
            .map(Secret::expose)
            .filter(|value| value.len() >= limit::REDACTED_BYTES_MIN);
        let forms: BTreeSet<Vec<u8>> = values
            .flat_map(forms)
            .filter(|form| form.len() >= limit::REDACTED_BYTES_MIN)
            .collect();
        if forms.is_empty() {
            return Self(None);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            // A tenth of the memory of the alternative, which counts with a thousand channels.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&forms)
            .expect("the forms of bounded secrets fit into one automaton");
        let lower = forms.iter().map(|form| form.to_ascii_lowercase()).collect();
        Self(Some(Arc::new(Patterns { automaton, lower })))
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Replaces the secrets in bytes; borrowed where there was none.
    pub fn bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        match &self.0 {
            Some(patterns) if patterns.automaton.is_match(bytes) => {
                let replacements = vec![REDACTED.as_bytes(); patterns.automaton.patterns_len()];
                Cow::Owned(patterns.automaton.replace_all_bytes(bytes, &replacements))
            }
            _ => Cow::Borrowed(bytes),
        }
    }

    /// Replaces the secrets in text; borrowed where there was none.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Starts redacting a stream.
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor {
            redactor: self.clone(),
            held: Vec::new(),
        }
    }
}

/// Redacts bytes that come in pieces. Holds back the end of a piece only while it could be the beginning of a secret.
#[derive(Debug)]
pub struct StreamRedactor {
    redactor: Redactor,
    held: Vec<u8>,
}

impl StreamRedactor {
    /// Takes a piece and returns what may go on: possibly nothing yet.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let Some(patterns) = self.redactor.0.clone() else {
            return std::mem::take(&mut self.held);
        };
        let mut until = patterns.held_from(&self.held);
        // What begins before that point is complete, and goes out as a whole.
        for found in patterns.automaton.find_iter(&self.held) {
            if found.start() < until {
                until = until.max(found.end());
            }
        }
        let rest = self.held.split_off(until);
        let out = std::mem::replace(&mut self.held, rest);
        self.redactor.bytes(&out).into_owned()
    }

    /// Returns what was held back, at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.held);
        self.redactor.bytes(&rest).into_owned()
    }
}

impl Patterns {
    /// Returns where the longest end of `bytes` starts that more bytes could turn into a match.
    fn held_from(&self, bytes: &[u8]) -> usize {
        let lower = |from: usize| bytes[from..].iter().map(u8::to_ascii_lowercase);
        let starts = self.lower.iter().filter_map(|pattern| {
            let earliest = bytes.len().saturating_sub(pattern.len() - 1);
            (earliest..bytes.len()).find(|&from| lower(from).eq(pattern[..bytes.len() - from].iter().copied()))
        });
        starts.min().unwrap_or(bytes.len())
    }
}

/// Returns the forms in which a secret may come back.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let every_byte: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let texts = [
        secret.to_owned(),
        percent(secret).replace("%20", "+"),
        every_byte,
        json(secret, |_| false),
        json(secret, |c| !c.is_ascii()),
        json(secret, |c| !c.is_ascii() || "<>&'".contains(c)),
        json(secret, |_| false).replace('/', "\\/"),
        json(secret, |c| !c.is_ascii()).replace('/', "\\/"),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        html(secret),
        hex(bytes),
    ];
    let base64 = (0..3).flat_map(|offset| {
        [
            base64_at(bytes, offset, &STANDARD_NO_PAD),
            base64_at(bytes, offset, &URL_SAFE_NO_PAD),
        ]
    });
    texts
        .into_iter()
        .chain(percent_forms(secret))
        .map(String::into_bytes)
        .chain(base64)
        .collect()
}

/// Returns the percent-encoded forms: every writer keeps other punctuation as it is, so all choices are listed where
/// they are few, and those of the common writers otherwise.
fn percent_forms(secret: &str) -> Vec<String> {
    let punctuation: BTreeSet<u8> = secret
        .bytes()
        .filter(|byte| !byte.is_ascii_alphanumeric() && byte.is_ascii())
        .collect();
    if punctuation.len() <= 5 {
        let choices = 0..1_u32 << punctuation.len();
        let kept = |choice: u32| {
            punctuation
                .iter()
                .enumerate()
                .filter(move |(bit, _)| choice >> bit & 1 == 1)
        };
        return choices
            .map(|choice| percent_but(secret, &kept(choice).map(|(_, byte)| *byte).collect::<Vec<_>>()))
            .collect();
    }
    // RFC 3986 unreserved; its path segments; JavaScript's encodeURIComponent and encodeURI; HTML forms.
    let kept: [&[u8]; 5] = [UNRESERVED, IN_SEGMENT, b"-_.!~*'()", b";,/?:@&=+$-_.!~*'()#", b"-._*"];
    kept.iter().map(|kept| percent_but(secret, kept)).collect()
}

fn html(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}

/// Escapes text for the inside of a JSON string; `as_unicode` chooses what is written as `\uXXXX` beyond what must be.
fn json(text: &str, as_unicode: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || as_unicode(c) => {
                c.encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            c => out.push(c),
        }
    }
    out
}

/// Returns the characters that these bytes alone decide, when they stand `offset` bytes (0 to 2) into a group of three.
fn base64_at(bytes: &[u8], offset: usize, engine: &impl base64::Engine) -> Vec<u8> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(bytes);
    let encoded = engine.encode(&padded).into_bytes();
    let first = (offset * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    encoded[first..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn redactor(secret: &str) -> Redactor {
        Redactor::new([&Secret::new(secret.to_owned())])
    }

    #[test]
    fn a_secret_is_found_in_every_form_it_is_echoed_in() {
        let secret = "123:A/b+\"c\"<é>&d e";
        let redactor = redactor(secret);
        let json = serde_json::to_string(secret).unwrap();
        for echoed in [
            secret.to_owned(),
            secret.to_uppercase().replace('É', "é"),
            json.clone(),
            json.replace('/', "\\/"),
            json.replace('é', "\\u00e9"),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            percent(secret).to_lowercase(),
            percent_but(secret, IN_SEGMENT),
            hex(secret.as_bytes()).to_uppercase(),
            STANDARD.encode(secret),
            STANDARD.encode(format!("u:{secret}")),
            STANDARD.encode(format!("user:{secret}")),
            STANDARD.encode(format!("bot:{secret}@host")),
            URL_SAFE_NO_PAD.encode(format!("??{secret}>>")),
        ] {
            let out = redactor.text(&echoed);
            assert!(out.contains(REDACTED), "{echoed} stayed {out}");
        }
    }

    #[test]
    fn any_choice_of_punctuation_that_is_percent_encoded_is_found() {
        let secret = "1:a/b+c=d";
        let redactor = redactor(secret);
        for kept in ["", ":", "/", "+=", ":/", ":/+=", "=:"] {
            let echoed = percent_but(secret, kept.as_bytes());
            assert_eq!(redactor.text(&echoed), REDACTED, "{echoed}");
        }
    }

    #[test]
    fn short_secrets_and_other_text_are_left_alone() {
        assert!(redactor("12345").is_empty());
        assert!(matches!(
            redactor("1234567").text("123456 and nothing"),
            Cow::Borrowed(_)
        ));
        assert!(matches!(Redactor::default().text("anything"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_stream_is_held_back_only_at_what_could_be_a_secret() {
        let mut stream = redactor("hunter2-hunter2").stream();
        assert_eq!(stream.push(b"data: hello\n\n"), b"data: hello\n\n");
        assert_eq!(stream.push(b"a hunter2-hun"), b"a ");
        assert_eq!(stream.push(b"gry"), b"hunter2-hungry");
        assert_eq!(stream.push(b"x HUNTER2-"), b"x ");
        assert_eq!(stream.push(b"hunter2 y"), b"[redacted] y");
        assert_eq!(stream.push(b"hunt"), b"");
        assert_eq!(stream.finish(), b"hunt");
    }

    proptest! {
        #[test]
        fn a_stream_in_pieces_is_redacted_like_the_whole(
            text in "[abc]{0,40}", secret in "[abc]{6,8}", other in "[abc]{6,12}", cuts in prop::collection::vec(1_usize..7, 0..40),
        ) {
            let redactor = Redactor::new([&Secret::new(secret.clone()), &Secret::new(other)]);
            let text = format!("{text}{secret}{text}");
            let (mut stream, mut rest, mut out) = (redactor.stream(), text.as_bytes(), Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                out.extend(stream.push(piece));
                rest = after;
            }
            out.extend(stream.push(rest));
            out.extend(stream.finish());
            prop_assert_eq!(String::from_utf8(out).unwrap(), redactor.text(&text).into_owned());
        }

        #[test]
        fn base64_of_anything_around_a_secret_is_redacted(before in "\\PC{0,9}", secret in "[!-~]{6,30}", after in "\\PC{0,9}") {
            let encoded = STANDARD.encode(format!("{before}{secret}{after}"));
            let redactor = redactor(&secret);
            prop_assert!(redactor.text(&encoded).contains(REDACTED), "{}", encoded);
        }
    }
}
