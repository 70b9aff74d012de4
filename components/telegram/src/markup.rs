//! CommonMark to the HTML that Telegram takes (core.telegram.org/bots/api#html-style).
//!
//! Telegram knows a handful of tags and no blocks, so blocks become line breaks, lists become bullets, headings bold.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use sluicegate_sdk::text::Unit;

/// A converted text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html {
    /// For `parse_mode` HTML.
    pub markup: String,
    /// How long the text is once Telegram has parsed it, UTF-16 code units.
    pub units: usize,
}

/// Converts CommonMark (with `~~strikethrough~~`). Raw HTML is shown as it is written; the result is always well formed.
pub fn to_html(markdown: &str) -> Html {
    let mut writer = Writer::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_STRIKETHROUGH) {
        writer.event(event);
    }
    Html {
        markup: writer.markup,
        units: writer.units,
    }
}

#[derive(Default)]
struct Writer {
    markup: String,
    units: usize,
    /// Line breaks that are due before the next text: 2 between blocks, 1 between lines.
    due_breaks: usize,
    /// One for each open list: the next number, or none for bullets.
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// Whether a list mark was written last: the next block continues its line.
    after_mark: bool,
    /// For each open link whether it is one for Telegram too.
    links: Vec<bool>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(text) => {
                self.tag("<code>");
                self.text(&text);
                self.markup.push_str("</code>");
            }
            Event::SoftBreak | Event::HardBreak => self.text("\n"),
            Event::Rule => {
                self.block(2);
                self.text("———");
                self.block(2);
            }
            // Extensions that are not enabled.
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => self.text(&text),
            Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.block_here(),
            Tag::Heading { level, .. } => {
                self.block(2);
                self.tag(if level == HeadingLevel::H1 { "<b><u>" } else { "<b>" });
            }
            Tag::BlockQuote(_) => self.start_quote(),
            Tag::CodeBlock(kind) => self.start_code(&kind),
            Tag::List(first) => {
                self.block_here();
                self.lists.push(first);
            }
            Tag::Item => self.start_item(),
            Tag::Emphasis => self.tag("<i>"),
            Tag::Strong => self.tag("<b>"),
            Tag::Strikethrough => self.tag("<s>"),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.start_link(&dest_url),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.block_here(),
            TagEnd::Heading(level) => {
                self.markup
                    .push_str(if level == HeadingLevel::H1 { "</u></b>" } else { "</b>" });
                self.block(2);
            }
            TagEnd::BlockQuote(_) => {
                self.quotes -= 1;
                if self.quotes == 0 {
                    self.markup.push_str("</blockquote>");
                }
                self.block(2);
            }
            TagEnd::CodeBlock => self.end_code(),
            TagEnd::List(_) => {
                self.lists.pop();
                self.block_here();
            }
            TagEnd::Item => self.block(1),
            TagEnd::Emphasis => self.markup.push_str("</i>"),
            TagEnd::Strong => self.markup.push_str("</b>"),
            TagEnd::Strikethrough => self.markup.push_str("</s>"),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            _ => {}
        }
    }

    /// Telegram refuses quotes inside quotes, so only the outermost is one.
    fn start_quote(&mut self) {
        self.block_here();
        if self.quotes == 0 {
            self.tag("<blockquote>");
        }
        self.quotes += 1;
    }

    fn start_code(&mut self, kind: &CodeBlockKind<'_>) {
        self.block_here();
        let language = match kind {
            CodeBlockKind::Fenced(info) => info.split_whitespace().next().unwrap_or_default(),
            CodeBlockKind::Indented => "",
        };
        self.tag("<pre><code");
        if !language.is_empty() {
            self.markup.push_str(" class=\"language-");
            self.markup.push_str(&escaped(language));
            self.markup.push('"');
        }
        self.markup.push('>');
    }

    fn end_code(&mut self) {
        // The line break before the closing fence is no part of the code.
        if self.markup.ends_with('\n') {
            self.markup.pop();
            self.units -= 1;
        }
        self.markup.push_str("</code></pre>");
        self.block(if self.lists.is_empty() { 2 } else { 1 });
    }

    fn start_item(&mut self) {
        self.block(1);
        let depth = self.lists.len().saturating_sub(1);
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number += 1;
                mark
            }
            _ => "• ".to_owned(),
        };
        self.text(&("  ".repeat(depth) + &mark));
        self.after_mark = true;
    }

    /// A link to what Telegram does not open is only its words.
    fn start_link(&mut self, url: &str) {
        let schemes = ["http://", "https://", "tg://", "mailto:"];
        let is_link = self.links.is_empty() && schemes.iter().any(|scheme| url.starts_with(scheme));
        self.links.push(is_link);
        if is_link {
            self.tag(&format!("<a href=\"{}\">", escaped(url)));
        }
    }

    fn end_link(&mut self) {
        if self.links.pop() == Some(true) {
            self.markup.push_str("</a>");
        }
    }

    /// Breaks between blocks: an empty line, but inside lists only a new line.
    fn block_here(&mut self) {
        if !self.after_mark {
            self.block(if self.lists.is_empty() { 2 } else { 1 });
        }
    }

    fn block(&mut self, breaks: usize) {
        self.due_breaks = self.due_breaks.max(breaks);
    }

    /// Writes a tag after the breaks that are due, so that no entity starts with a line break.
    fn tag(&mut self, tag: &str) {
        self.write_breaks();
        self.markup.push_str(tag);
    }

    fn text(&mut self, text: &str) {
        self.write_breaks();
        self.markup.push_str(&escaped(text));
        self.units += Unit::Utf16.measure(text);
    }

    fn write_breaks(&mut self) {
        self.after_mark = false;
        let due = std::mem::take(&mut self.due_breaks);
        if self.units > 0 {
            self.markup.extend(std::iter::repeat_n('\n', due));
            self.units += due;
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_forms_become_what_telegram_shows() {
        for (markdown, markup) in [
            ("plain", "plain"),
            ("a < b & c > \"d\"", "a &lt; b &amp; c &gt; &quot;d&quot;"),
            (
                "**bold** _italic_ ~~gone~~ `a<b`",
                "<b>bold</b> <i>italic</i> <s>gone</s> <code>a&lt;b</code>",
            ),
            ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
            ("# Top\ntext\n## Next", "<b><u>Top</u></b>\n\ntext\n\n<b>Next</b>"),
            ("- a\n- b\n  - c\n\nafter", "• a\n• b\n  • c\n\nafter"),
            ("3. x\n4. y", "3. x\n4. y"),
            ("- a\n\n  b\n- c", "• a\nb\n• c"),
            (
                "```rust\nlet a = 1 < 2;\n\n```",
                "<pre><code class=\"language-rust\">let a = 1 &lt; 2;\n</code></pre>",
            ),
            (
                "> said\n> > twice\n\nme",
                "<blockquote>said\n\ntwice</blockquote>\n\nme",
            ),
            ("[x](https://e.org/?a&b)", "<a href=\"https://e.org/?a&amp;b\">x</a>"),
            ("[x](javascript:alert)", "x"),
            ("<b>raw</b>", "&lt;b&gt;raw&lt;/b&gt;"),
            ("***", "———"),
            ("", ""),
        ] {
            assert_eq!(to_html(markdown).markup, markup, "{markdown:?}");
        }
    }

    /// Reads markup as Telegram does: every tag is known and closed in order. Returns the text without the tags.
    fn parsed(markup: &str) -> Result<String, String> {
        let (mut text, mut open, mut rest) = (String::new(), Vec::new(), markup);
        while let Some(at) = rest.find('<') {
            text.push_str(&rest[..at]);
            let end = at + rest[at..].find('>').ok_or("a tag has no end")?;
            let tag = &rest[at + 1..end];
            let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
            if !["b", "i", "u", "s", "a", "code", "pre", "blockquote"].contains(&name) {
                return Err(format!("<{tag}> is unknown"));
            }
            if !tag.starts_with('/') {
                open.push(name);
            } else if open.pop() != Some(name) {
                return Err(format!("<{tag}> closes something else"));
            }
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        if text.contains('>') || !open.is_empty() {
            return Err(format!("{open:?} stay open, or a > is not escaped"));
        }
        Ok(text
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&amp;", "&"))
    }

    /// Returns texts full of what means something in CommonMark.
    fn markdown() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z<>&\"😀 ]{1,6}",
            6 => proptest::sample::select(vec![
                "*", "**", "_", "~~", "`", "```", "```rust\n", "\n", "\n\n", "> ", "- ", "  - ", "1. ", "# ", "## ", "[", "](",
                "](https://e.org/?a&b)", "![", ")", "<b>", "</b>", "<!--", "---\n", "    ", "\\", "&amp;", "|", "<http://x.y>",
            ])
            .prop_map(str::to_owned),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_becomes_well_formed_markup_of_the_length_it_says(markdown in markdown()) {
            let html = to_html(&markdown);
            let text = parsed(&html.markup).map_err(TestCaseError::fail)?;
            prop_assert_eq!(html.units, text.encode_utf16().count());
        }
    }

    #[test]
    fn the_length_is_that_of_the_parsed_text() {
        assert_eq!(
            to_html("**😀** &amp; `x`\n\ny").units,
            "😀 & x\n\ny".encode_utf16().count()
        );
    }
}
