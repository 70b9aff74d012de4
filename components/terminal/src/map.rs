//! Between typed lines and messages.

use sluicegate_sdk::{Conversation, InboundMessage, Sender};

/// The one conversation of a terminal.
const CONVERSATION: &str = "terminal";

/// Whoever sits at the terminal that started the gateway.
const OPERATOR: &str = "operator";

/// Makes a message of a typed line: the `count`-th (from 1) since the listener started at `started_ms`, which makes its
/// id unique across restarts.
pub(crate) fn message(line: &str, started_ms: u64, count: u64) -> InboundMessage {
    let conversation = Conversation::direct(CONVERSATION);
    InboundMessage::text(
        format!("t{started_ms}-{count}"),
        conversation,
        Sender::person(OPERATOR),
        line,
    )
}

/// Returns the text without control characters but line feeds and tabs, so that no answer can drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, '\n' | '\t') || !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_have_two_ids_in_one_conversation() {
        let (first, second) = (message("a", 1_000, 1), message("b", 1_000, 2));
        assert_ne!(first.id, second.id);
        assert_ne!(first.id, message("a", 1_001, 1).id);
        assert_eq!(first.conversation, second.conversation);
        assert_eq!(
            (first.text.as_str(), first.sender.id.as_str(), first.addressed),
            ("a", "operator", true)
        );
    }

    #[test]
    fn no_control_sequence_reaches_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{7}\u{9b}31mc\r\n\td\u{7f}"), "a[2Jb31mc\n\td");
        assert_eq!(printable("äöü 😀\n"), "äöü 😀\n");
    }
}
