//! Writes without pause for as many milliseconds as the argument says (`WHAT MS`), always in the same place, so that no
//! quota ends it; or the longest messages.

use sluicegate_sdk::{Conversation, InboundMessage, Sender, clock, inbox, state};

pub(crate) fn run(argument: &str) -> String {
    let (what, time) = argument.split_once(' ').unwrap_or((argument, ""));
    let until = clock::now_ms() + crate::results::number(time) as u64;
    let value = vec![b'x'; 250 * 1024];
    let (mut written, mut refused) = (0, 0);
    while clock::now_ms() < until {
        let done = match what {
            "publish" => published(written),
            "cursor" => inbox::publish(&[], Some(&written.to_string())).is_ok(),
            "swap" => state::swap("hammer", None, Some(&value)).is_ok(),
            _ => state::set("hammer", &value).is_ok(),
        };
        if done {
            written += 1;
        } else {
            refused += 1;
        }
    }
    format!("{written} written {refused} refused")
}

/// Publishes messages as long as they may be, eight at once.
fn published(number: usize) -> bool {
    let message = |n: usize| {
        InboundMessage::text(
            format!("{number}-{n}"),
            Conversation::direct(format!("c{number}-{n}")),
            Sender::person("ada"),
            "x".repeat(256 * 1024),
        )
    };
    let messages: Vec<_> = (0..8).map(message).collect();
    inbox::publish(&messages, None).is_ok()
}
