//! Writes lines that would drive a terminal, forge other lines, or turn text around.

use sluicegate_sdk::log;

pub(crate) fn run() -> String {
    for text in [
        "\u{1b}[2J\u{1b}]0;owned\u{7}screen",
        "line\n2099-01-01T00:00:00Z ERROR forged: line",
        "\r\0nul\u{8}\u{7f}\u{9b}31m",
        "\u{202e}detrever\u{2066}\u{200f}\u{61c}",
    ] {
        log::write(log::Level::Error, text);
        eprintln!("{text}");
    }
    "logged".to_owned()
}
