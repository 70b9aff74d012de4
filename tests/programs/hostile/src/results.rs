//! Results that are out of all bounds.

use sluicegate_sdk::connections::CloseReason;
use sluicegate_sdk::{Confirmation, DeliveryError, RateLimit, Receipt, SentPart, WaitScope, webhook};

/// As many bytes as the argument says.
pub(crate) fn filler(bytes: &str) -> String {
    "x".repeat(number(bytes))
}

pub(crate) fn number(text: &str) -> usize {
    text.trim().parse().unwrap_or(0)
}

/// Words that drive a terminal and forge a second line, made as long as the argument says; or the argument itself.
pub(crate) fn words(argument: &str) -> String {
    match argument.parse::<usize>() {
        Ok(bytes) => format!("\u{1b}[2J\nforged=line \u{202e}{}", "x".repeat(bytes)),
        Err(_) => argument.to_owned(),
    }
}

/// As many parts as the argument says, the first of them with a long id, and one with an index that no part has.
pub(crate) fn parts(count: &str) -> Vec<SentPart> {
    let index = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let ids = receipt(count).message_ids;
    let last = SentPart {
        index: u32::MAX,
        message_id: "last".to_owned(),
    };
    let parts = ids.into_iter().enumerate().map(|(number, message_id)| SentPart {
        index: index(number),
        message_id,
    });
    std::iter::once(last).chain(parts).collect()
}

/// A receipt with as many ids as the argument says, the first of them a long one.
pub(crate) fn receipt(count: &str) -> Receipt {
    let ids = (0..number(count)).map(|number| {
        if number == 0 {
            "x".repeat(100_000)
        } else {
            number.to_string()
        }
    });
    Receipt {
        message_ids: ids.collect(),
        confirmation: Confirmation::Complete,
    }
}

/// An error of the kind and with the words that the argument says.
pub(crate) fn error(argument: &str) -> DeliveryError {
    match super::order(argument) {
        ("wait", _) => DeliveryError::RateLimited(RateLimit {
            retry_after_ms: u64::MAX,
            scope: WaitScope::Channel,
        }),
        ("rejected", rest) => DeliveryError::Rejected(words(rest)),
        (_, rest) => DeliveryError::Unavailable(words(rest)),
    }
}

/// Everything of a webhook that the guest sees, given back.
pub(crate) fn seen(headers: &[(String, Vec<u8>)], query: &str, body: &[u8]) -> webhook::Response {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", shown(value)))
        .collect();
    webhook::Response {
        status: 200,
        headers: Vec::new(),
        body: format!("{} | {query} | {}", headers.join(" | "), shown(body)).into_bytes(),
    }
}

/// An answer to a webhook that no host may pass on as it is.
pub(crate) fn reply(argument: &str) -> webhook::Response {
    let (name, value) = super::order(argument);
    let mut response = webhook::Response {
        status: 200,
        headers: Vec::new(),
        body: Vec::new(),
    };
    match argument.split_once('=').unwrap_or((name, value)) {
        ("status", status) => response.status = u16::try_from(number(status)).unwrap_or(u16::MAX),
        ("body", bytes) => response.body = filler(bytes).into_bytes(),
        ("headers", count) => {
            response.headers = (0..number(count))
                .map(|n| (format!("x-{n}"), vec![b'x'; 1000]))
                .collect();
        }
        ("injection", _) => {
            response.headers = [
                ("x-split", "a\r\nset-cookie: evil=1"),
                ("x-na\r\nme: a", "b"),
                ("set-cookie", "evil=1"),
                ("transfer-encoding", "chunked"),
                ("content-length", "1"),
                ("content-type", "text/html"),
                ("content-security-policy", "default-src *"),
                ("clear-site-data", "\"*\""),
            ]
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
            .to_vec();
            response.body = b"<script>alert(1)</script>".to_vec();
        }
        _ => {}
    }
    response
}

/// Frames that no client should get, or what an attack reports as one frame.
pub(crate) fn frames(attack: &str, run: impl Fn(&str) -> String) -> Result<Vec<String>, CloseReason> {
    match super::order(attack) {
        ("frames", count) => Ok(vec!["{}".to_owned(); number(count)]),
        ("frame", bytes) => Ok(vec![filler(bytes)]),
        ("large_frames", count) => Ok(vec!["x".repeat(512 * 1024); number(count)]),
        ("close", argument) => Err(CloseReason::Policy(words(argument))),
        _ => Ok(vec![run(attack)]),
    }
}
