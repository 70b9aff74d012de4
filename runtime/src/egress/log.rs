//! What a channel reached, or tried to: the last of its requests, for its operator. A bounded list in memory.
//!
//! A guest wrote the URL, so nothing of it is kept but its place and the form of its path: what may be an id, a token or a
//! person's words is a `*`, and a placeholder stays a placeholder, since the path is the one before it was filled in.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::clock::{Clock as _, SystemClock, UnixMillis};
use crate::limit;
use crate::policy::{Scheme, Target};

/// The method of an entry that is no request: the guest asked for the plain value of a secret.
pub const REVEAL: &str = "REVEAL";

/// One request, or one socket when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it ended.
    pub at_ms: UnixMillis,
    /// The method; `WEBSOCKET`, `TCP` or `TLS` for a socket, [`REVEAL`] for the plain value of a secret.
    pub method: String,
    /// Scheme, host and port; `?` where the guest wrote no URL.
    pub place: String,
    /// The form of the path; empty for a byte stream.
    pub path: String,
    /// `answered` or `open`; else why not: `denied`, `invalid`, `unreachable`, `interrupted`, `too-large`, `busy` or
    /// `shutting-down`.
    pub outcome: &'static str,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Bytes of the request's body; of a socket none.
    pub bytes_out: u64,
    /// Bytes of the answer's body; of one that is read as it comes, and of a socket, none.
    pub bytes_in: u64,
    /// The channel's secrets whose placeholders stood in it, by name, sorted; of a body only its start is looked at.
    pub secrets: Vec<String>,
}

impl Entry {
    /// Begins the entry of a request to a URL.
    pub(super) fn of_url(method: &str, url: &str, bytes_out: usize) -> Self {
        let all = [Scheme::Http, Scheme::Https, Scheme::Ws, Scheme::Wss];
        let target = Target::parse(url, &all);
        Self {
            at_ms: 0,
            method: shown_method(method),
            place: target.as_ref().map_or_else(|_| "?".to_owned(), ToString::to_string),
            path: target.map_or_else(|_| String::new(), |_| form_of_path(url)),
            outcome: "answered",
            status: None,
            bytes_out: bytes_out as u64,
            bytes_in: 0,
            secrets: Vec::new(),
        }
    }

    /// Begins the entry of an attempt to see the plain value of a secret; `name` where the channel has one of that name.
    pub(super) fn of_reveal(name: Option<&str>) -> Self {
        Self {
            at_ms: 0,
            method: REVEAL.to_owned(),
            place: "secret".to_owned(),
            path: String::new(),
            outcome: "answered",
            status: None,
            bytes_out: 0,
            bytes_in: 0,
            secrets: name.map(str::to_owned).into_iter().collect(),
        }
    }

    /// Begins the entry of a byte stream.
    pub(super) fn of_stream(scheme: Scheme, host: &str, port: u16) -> Self {
        let host = crate::policy::Host::parse(host).map_or_else(|_| "?".to_owned(), |host| host.to_string());
        Self {
            at_ms: 0,
            method: scheme.as_str().to_uppercase(),
            place: format!("{scheme}://{host}:{port}"),
            path: String::new(),
            outcome: "open",
            status: None,
            bytes_out: 0,
            bytes_in: 0,
            secrets: Vec::new(),
        }
    }
}

/// The last entries of one channel.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<VecDeque<Entry>>);

impl Log {
    /// Adds an entry that has ended, in place of the oldest where there is no room.
    pub(super) fn add(&self, mut entry: Entry) {
        entry.at_ms = SystemClock.now_ms();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= limit::EGRESS_LOG_ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// Returns the newest, at most `max`, newest first.
    pub(super) fn newest(&self, max: usize) -> Vec<Entry> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().rev().take(max).cloned().collect()
    }
}

/// A guest's method, if it can be one.
fn shown_method(method: &str) -> String {
    let is_word = (1..=limit::EGRESS_LOG_WORD_BYTES_MAX).contains(&method.len())
        && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if is_word { method.to_owned() } else { "?".to_owned() }
}

/// Returns the path of a URL with a `*` for each segment that may be more than a word of the platform's own.
fn form_of_path(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let path = path.find('/').map_or("", |start| &path[start..]);
    let forms: Vec<&str> = path.split('/').map(form_of_segment).collect();
    let mut form = forms.join("/");
    if form.len() > limit::EGRESS_LOG_PATH_BYTES_MAX {
        // All ASCII: what is not has become a `*`.
        form.truncate(limit::EGRESS_LOG_PATH_BYTES_MAX);
        form.push('*');
    }
    form
}

fn form_of_segment(segment: &str) -> &str {
    /// Digits of a version, such as `v10`; more are an id.
    const DIGITS_MAX: usize = 2;
    let placeholder = segment
        .find("{{")
        .zip(segment.find("}}"))
        .filter(|(start, end)| start < end);
    let word = match placeholder {
        Some((_, end)) => &segment[..end],
        None => segment,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.{}".contains(&byte);
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let is_word = word.bytes().all(is_plain) && digits <= DIGITS_MAX && word.len() <= limit::EGRESS_LOG_WORD_BYTES_MAX;
    let has_rest = placeholder.is_some_and(|(_, end)| segment.len() > end + 2);
    if is_word && !has_rest { segment } else { "*" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_form_and_nothing_that_may_be_a_secret_or_an_id() {
        for (url, form) in [
            (
                "https://api.example/bot{{bot-token}}/sendMessage",
                "/bot{{bot-token}}/sendMessage",
            ),
            ("https://api.example/bot123456:AAF-x/sendMessage", "/*/sendMessage"),
            (
                "https://discord.example/api/v10/channels/1234567890/messages?key=x",
                "/api/v10/channels/*/messages",
            ),
            ("https://a.example/{{token}}hunter/x", "/*/x"),
            ("https://a.example/h%C3%A4/ä", "/*/*"),
            ("https://a.example", ""),
            ("https://a.example/thisisoneverylongwordwithoutanydigits", "/*"),
        ] {
            assert_eq!(form_of_path(url), form, "{url}");
        }
        assert!(form_of_path(&format!("https://a.example{}", "/a".repeat(4000))).len() <= 257);
    }

    #[test]
    fn the_list_is_bounded_and_the_newest_come_first() {
        let log = Log::default();
        for number in 0..limit::EGRESS_LOG_ENTRIES_MAX + 5 {
            log.add(Entry::of_url("GET", "https://a.example/x", number));
        }
        let newest = log.newest(usize::MAX);
        assert_eq!(newest.len(), limit::EGRESS_LOG_ENTRIES_MAX);
        assert_eq!(newest[0].bytes_out, limit::EGRESS_LOG_ENTRIES_MAX as u64 + 4);
        assert_eq!(log.newest(3).len(), 3);
    }

    #[test]
    fn what_is_no_url_or_no_method_is_not_repeated() {
        let entry = Entry::of_url("GET\r\nX: secret", "secret", 0);
        assert_eq!(
            (entry.method.as_str(), entry.place.as_str(), entry.path.as_str()),
            ("?", "?", "")
        );
    }
}
