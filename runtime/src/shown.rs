//! Words of a component, a platform or a file, as a person may be shown them: in one line, and unable to act.

use crate::limit;

/// Cuts words to what a person is shown, and escapes what could drive a terminal or forge a line.
pub fn printable(message: &str) -> String {
    printable_within(message, limit::SHOWN_BYTES_MAX)
}

/// The same, cut to so many bytes.
pub fn printable_within(message: &str, bytes_max: usize) -> String {
    let end = message.floor_char_boundary(bytes_max);
    let mut line = String::with_capacity(end);
    for character in message[..end].chars() {
        if is_unsafe_to_print(character) {
            line.extend(character.escape_unicode());
        } else {
            line.push(character);
        }
    }
    if end < message.len() {
        line.push('…');
    }
    line
}

/// Control characters, and the marks that turn the direction of text around (Unicode TR 36, "bidirectional text spoofing").
fn is_unsafe_to_print(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_neither_drive_a_terminal_nor_forge_another_line() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let cut = printable(&"ä".repeat(limit::SHOWN_BYTES_MAX));
        assert!(cut.len() <= limit::SHOWN_BYTES_MAX + "…".len(), "{} bytes", cut.len());
        assert!(cut.ends_with('…'));
    }
}
