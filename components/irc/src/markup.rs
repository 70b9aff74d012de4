//! CommonMark to lines with IRC's formatting (modern.ircdocs.horse/formatting), and lines to pieces that fit.
//!
//! A line of IRC is all there is: blocks become lines, lists become bullets, headings bold, code monospace.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use sluicegate_sdk::text::{self, Unit};

const BOLD: char = '\u{2}';
const ITALIC: char = '\u{1d}';
const STRUCK: char = '\u{1e}';
const MONOSPACE: char = '\u{11}';
const STYLES: [char; 4] = [BOLD, ITALIC, STRUCK, MONOSPACE];

/// Converts CommonMark (with `~~strikethrough~~`) to lines, none of them blank, each at most `bytes_max` bytes long.
///
/// The lines are a function of both arguments alone, so that a delivery goes on after the last line that was sent.
pub fn to_lines(markdown: &str, bytes_max: usize) -> Vec<String> {
    let mut writer = Writer::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_STRIKETHROUGH) {
        writer.event(event);
    }
    writer.end_line();
    let lines = writer.lines.iter();
    lines.flat_map(|line| fit(line, bytes_max)).collect()
}

/// Splits a line; a style that is on where it is split goes on in the next piece.
fn fit(line: &str, bytes_max: usize) -> Vec<String> {
    if line.len() <= bytes_max {
        return vec![line.to_owned()];
    }
    let mut active: Vec<char> = Vec::new();
    let mut pieces = Vec::new();
    for piece in text::split(line, bytes_max.saturating_sub(STYLES.len()), Unit::Bytes) {
        let opening: String = active.iter().collect();
        for style in piece.chars().filter(|c| STYLES.contains(c)) {
            match active.iter().position(|open| *open == style) {
                Some(at) => {
                    active.remove(at);
                }
                None => active.push(style),
            }
        }
        // What ends at a space would end with it on the wire.
        let piece = piece.trim_end();
        if piece.chars().any(|c| !STYLES.contains(&c) && !c.is_whitespace()) {
            pieces.push(opening + piece);
        }
    }
    pieces
}

#[derive(Default)]
struct Writer {
    lines: Vec<String>,
    line: String,
    /// The styles that are on, in the order of their beginning.
    styles: Vec<char>,
    /// One for each open list: the next number, or none for bullets.
    lists: Vec<Option<u64>>,
    quotes: usize,
    is_code: bool,
    /// Where each open link leads, and where its text begins in the line.
    links: Vec<(String, usize)>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(text) => {
                self.style(MONOSPACE, true);
                self.text(&text);
                self.style(MONOSPACE, false);
            }
            Event::SoftBreak | Event::HardBreak => self.end_line(),
            Event::Rule => {
                self.end_line();
                self.text("———");
                self.end_line();
            }
            // Extensions that are not enabled.
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => self.text(&text),
            Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } => {
                self.end_line();
                self.style(BOLD, true);
            }
            Tag::BlockQuote(_) => {
                self.end_line();
                self.quotes += 1;
            }
            Tag::CodeBlock(_) => {
                self.end_line();
                self.is_code = true;
                self.style(MONOSPACE, true);
            }
            Tag::List(first) => {
                self.end_line();
                self.lists.push(first);
            }
            Tag::Item => self.start_item(),
            Tag::Emphasis => self.style(ITALIC, true),
            Tag::Strong => self.style(BOLD, true),
            Tag::Strikethrough => self.style(STRUCK, true),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.links.push((dest_url.to_string(), self.line.len()));
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::Item | TagEnd::HtmlBlock => self.end_line(),
            TagEnd::Heading(_) => {
                self.style(BOLD, false);
                self.end_line();
            }
            TagEnd::BlockQuote(_) => {
                self.end_line();
                self.quotes = self.quotes.saturating_sub(1);
            }
            TagEnd::CodeBlock => {
                self.style(MONOSPACE, false);
                self.end_line();
                self.is_code = false;
            }
            TagEnd::List(_) => {
                self.end_line();
                self.lists.pop();
            }
            TagEnd::Emphasis => self.style(ITALIC, false),
            TagEnd::Strong => self.style(BOLD, false),
            TagEnd::Strikethrough => self.style(STRUCK, false),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            _ => {}
        }
    }

    fn start_item(&mut self) {
        self.end_line();
        let depth = self.lists.len().saturating_sub(1);
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number += 1;
                mark
            }
            _ => "- ".to_owned(),
        };
        self.line.push_str(&"  ".repeat(depth));
        self.line.push_str(&mark);
    }

    /// Writes where a link leads, unless its text says so.
    fn end_link(&mut self) {
        let Some((target, start)) = self.links.pop() else {
            return;
        };
        let is_shown = self
            .line
            .get(start..)
            .is_some_and(|shown| target.ends_with(shown.trim()) && !shown.trim().is_empty());
        if !is_shown && !target.is_empty() {
            self.text(&format!(" ({target})"));
        }
    }

    fn style(&mut self, style: char, on: bool) {
        let is_on = self.styles.contains(&style);
        if on != is_on {
            self.line.push(style);
            self.styles.retain(|open| *open != style);
            if on {
                self.styles.push(style);
            }
        }
    }

    fn text(&mut self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.end_line();
            }
            let visible = line.chars().map(|c| if c == '\t' { ' ' } else { c });
            self.line.extend(visible.filter(|c| !c.is_control()));
        }
    }

    /// Ends a line: its styles end with it, and begin again in the next one.
    fn end_line(&mut self) {
        let open: String = self.styles.iter().collect();
        let line = std::mem::replace(&mut self.line, open.clone());
        let is_blank = line.chars().all(|c| STYLES.contains(&c) || c.is_whitespace());
        if is_blank {
            return;
        }
        let closing: String = self.styles.iter().rev().collect();
        let quoted = if self.quotes > 0 { "> " } else { "" };
        let line = format!("{quoted}{}{closing}", line.trim_end());
        self.lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(markdown: &str) -> Vec<String> {
        to_lines(markdown, 400)
    }

    #[test]
    fn common_mark_becomes_lines() {
        assert_eq!(lines("plain"), ["plain"]);
        assert_eq!(
            lines("**b** *i* ~~s~~ `c`"),
            ["\u{2}b\u{2} \u{1d}i\u{1d} \u{1e}s\u{1e} \u{11}c\u{11}"]
        );
        assert_eq!(lines("# Title\n\ntext\nmore"), ["\u{2}Title\u{2}", "text", "more"]);
        assert_eq!(lines("- a\n- b\n  1. c\n"), ["- a", "- b", "  1. c"]);
        assert_eq!(lines("> q\n\nx"), ["> q", "x"]);
        assert_eq!(
            lines("```rust\nlet a;\n\n  b\n```\nend"),
            ["\u{11}let a;\u{11}", "\u{11}  b\u{11}", "end"]
        );
        assert_eq!(lines("[here](https://x.example/a)"), ["here (https://x.example/a)"]);
        assert_eq!(lines("<https://x.example>"), ["https://x.example"]);
        assert_eq!(lines(""), Vec::<String>::new());
    }

    #[test]
    fn nothing_that_a_model_writes_ends_a_line_or_formats_it() {
        assert_eq!(lines("a\r\0b\u{1}c\u{3}04d\u{7f}"), ["a", "bc04d"].map(str::to_owned));
        assert_eq!(lines("x\rQUIT :bye"), ["x", "QUIT :bye"]);
    }

    #[test]
    fn a_style_goes_on_in_the_next_piece() {
        let pieces = to_lines("**aaaa bbbb cccc dddd eeee**", 20);
        assert!(pieces.len() > 1);
        for piece in &pieces {
            assert!(piece.starts_with(BOLD), "{piece:?}");
        }
    }

    proptest! {
        #[test]
        fn every_line_fits_and_holds_no_end(markdown in "\\PC{0,200}|[a-z*_~`# \\n\\r\\t>\\-]{0,300}", bytes_max in 24_usize..400) {
            for line in to_lines(&markdown, bytes_max) {
                prop_assert!(line.len() <= bytes_max, "{} > {bytes_max}", line.len());
                let has_end = line.contains(['\r', '\n', '\0', '\u{1}']);
                prop_assert!(!has_end);
                prop_assert!(!line.trim().is_empty());
            }
        }
    }
}
