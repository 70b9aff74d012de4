//! CommonMark to the form that a chat platform shows, for platforms with inline marks and line prefixes.
//!
//! The blocks are the same everywhere: paragraphs stand apart, items stand on lines of their own, quotes have a prefix.
//! What differs is a [`Dialect`]. The result grows with the text and never with the depth of what is nested in it.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd, TextMergeStream};

/// How deep a list is indented at most: deeper ones stand at this depth, since chat windows are narrow.
const INDENT_DEPTH_MAX: usize = 8;
/// The spaces of one step.
const INDENT: &str = "  ";
/// What stands before each line of a quote. Quotes inside quotes are part of the outermost one.
const QUOTE: &str = "> ";
/// What stands for a thematic break.
const RULE: &str = "———";

/// What is particular to a platform.
pub trait Dialect {
    /// Around strong text.
    const STRONG: &'static str;
    /// Around emphasised text.
    const EMPHASIS: &'static str;
    /// Around text that is struck through.
    const STRIKETHROUGH: &'static str;
    /// Before an item of a list without numbers.
    const BULLET: &'static str;
    /// Whether a mark ends at the end of a line, so that it is written again on the next one.
    const MARKS_END_WITH_LINES: bool;

    /// Appends plain text so that the platform shows it as it is. `at_line_start` says where it will stand.
    fn text(text: &str, at_line_start: bool, out: &mut String);

    /// Returns inline code.
    fn code(text: &str) -> String;

    /// Returns a block of code, without line breaks around it.
    fn code_block(language: &str, text: &str) -> String;

    /// Returns what stands before the words of a link and after them; none where the platform can't link there.
    fn link(url: &str) -> Option<(String, String)>;

    /// Returns what stands before a heading of this level (1 to 6); none where headings are strong text.
    fn heading(level: u8) -> Option<&'static str>;
}

/// Converts CommonMark (with `~~strikethrough~~`). Raw HTML is shown as it is written.
pub fn render<D: Dialect>(markdown: &str) -> String {
    let mut writer = Writer::<D>::default();
    for event in TextMergeStream::new(Parser::new_ext(markdown, Options::ENABLE_STRIKETHROUGH)) {
        writer.event(event);
    }
    writer.out
}

/// A mark around text, and how often it is open: only the outermost is written.
#[derive(Debug, Clone, Copy)]
struct Mark {
    text: &'static str,
    depth: usize,
}

struct Writer<D> {
    out: String,
    /// Line breaks that are due before the next text: 2 between blocks, 1 between lines.
    due_breaks: usize,
    /// One for each open list: the next number, or none for bullets.
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// Whether the next text starts a line of a quote.
    is_prefix_due: bool,
    /// Whether a list mark was written last: the next block continues its line.
    after_mark: bool,
    /// Strong, emphasis, strikethrough.
    marks: [Mark; 3],
    /// What closes each open link.
    links: Vec<Option<String>>,
    /// The language and the text of an open code block.
    code: Option<(String, String)>,
    dialect: std::marker::PhantomData<D>,
}

impl<D: Dialect> Default for Writer<D> {
    fn default() -> Self {
        Self {
            out: String::new(),
            due_breaks: 0,
            lists: Vec::new(),
            quotes: 0,
            is_prefix_due: false,
            after_mark: false,
            marks: [D::STRONG, D::EMPHASIS, D::STRIKETHROUGH].map(|text| Mark { text, depth: 0 }),
            links: Vec::new(),
            code: None,
            dialect: std::marker::PhantomData,
        }
    }
}

const STRONG: usize = 0;
const EMPHASIS: usize = 1;
const STRIKETHROUGH: usize = 2;

impl<D: Dialect> Writer<D> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => match &mut self.code {
                Some((_, code)) => code.push_str(&text),
                None => self.text(&text),
            },
            Event::Code(text) => self.raw(&D::code(&text)),
            Event::SoftBreak | Event::HardBreak => self.line_break(),
            Event::Rule => {
                self.block(2);
                self.raw(RULE);
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
                match D::heading(level_number(level)) {
                    Some(mark) => self.raw(mark),
                    None => self.open(STRONG),
                }
            }
            Tag::BlockQuote(_) => self.start_quote(),
            Tag::CodeBlock(kind) => {
                self.block_here();
                self.code = Some((language(&kind), String::new()));
            }
            Tag::List(first) => {
                self.block_here();
                self.lists.push(first);
            }
            Tag::Item => self.start_item(),
            Tag::Emphasis => self.open(EMPHASIS),
            Tag::Strong => self.open(STRONG),
            Tag::Strikethrough => self.open(STRIKETHROUGH),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.start_link(&dest_url),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.block_here(),
            TagEnd::Heading(level) => {
                if D::heading(level_number(level)).is_none() {
                    self.close(STRONG);
                }
                self.block(2);
            }
            TagEnd::BlockQuote(_) => {
                self.quotes = self.quotes.saturating_sub(1);
                if self.quotes == 0 {
                    self.is_prefix_due = false;
                }
                self.block(2);
            }
            TagEnd::CodeBlock => {
                if let Some((language, code)) = self.code.take() {
                    self.raw(&D::code_block(&language, code.strip_suffix('\n').unwrap_or(&code)));
                    self.block(if self.lists.is_empty() { 2 } else { 1 });
                }
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.after_mark = false;
                self.block_here();
            }
            TagEnd::Item => self.block(1),
            TagEnd::Emphasis => self.close(EMPHASIS),
            TagEnd::Strong => self.close(STRONG),
            TagEnd::Strikethrough => self.close(STRIKETHROUGH),
            TagEnd::Link | TagEnd::Image => {
                if let Some(Some(close)) = self.links.pop() {
                    self.out.push_str(&close);
                }
            }
            _ => {}
        }
    }

    fn start_quote(&mut self) {
        self.block_here();
        if self.quotes == 0 {
            // The break before a quote is no part of it.
            self.write_breaks();
            self.is_prefix_due = true;
        }
        self.quotes += 1;
    }

    fn start_item(&mut self) {
        self.block(1);
        let depth = self.lists.len().saturating_sub(1).min(INDENT_DEPTH_MAX);
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number = number.saturating_add(1);
                mark
            }
            _ => D::BULLET.to_owned(),
        };
        self.raw(&(INDENT.repeat(depth) + &mark));
        self.after_mark = true;
    }

    /// A link inside a link is only its words, and so is one to where the platform can't link.
    fn start_link(&mut self, url: &str) {
        let marks = if self.links.iter().any(Option::is_some) {
            None
        } else {
            D::link(url)
        };
        let close = marks.map(|(open, close)| {
            self.raw(&open);
            close
        });
        self.links.push(close);
    }

    fn open(&mut self, mark: usize) {
        self.marks[mark].depth += 1;
        if self.marks[mark].depth == 1 {
            self.raw(self.marks[mark].text);
        }
    }

    fn close(&mut self, mark: usize) {
        self.marks[mark].depth = self.marks[mark].depth.saturating_sub(1);
        if self.marks[mark].depth == 0 {
            self.out.push_str(self.marks[mark].text);
        }
    }

    fn line_break(&mut self) {
        let open: Vec<&str> = self
            .marks
            .iter()
            .filter(|mark| mark.depth > 0)
            .map(|mark| mark.text)
            .collect();
        let is_broken = D::MARKS_END_WITH_LINES && !open.is_empty();
        if is_broken {
            open.iter().rev().for_each(|mark| self.out.push_str(mark));
        }
        self.block(1);
        if is_broken {
            self.raw(&open.concat());
        }
    }

    /// Breaks between blocks: an empty line, but inside lists only a new line.
    fn block_here(&mut self) {
        if !self.after_mark {
            self.block(if self.lists.is_empty() { 2 } else { 1 });
        }
    }

    fn block(&mut self, breaks: usize) {
        // The first block of a quote stands where the quote starts.
        if !self.is_prefix_due {
            self.due_breaks = self.due_breaks.max(breaks);
        }
    }

    fn text(&mut self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.block(1);
            }
            if !line.is_empty() {
                self.write_breaks();
                let at_line_start = self.out.is_empty() || self.out.ends_with(['\n', ' ']);
                D::text(line, at_line_start, &mut self.out);
            }
        }
    }

    /// Writes what is in the platform's form already, line by line where a quote needs its prefix.
    fn raw(&mut self, text: &str) {
        self.write_breaks();
        if self.quotes == 0 {
            self.out.push_str(text);
        } else {
            self.out.push_str(&text.replace('\n', &format!("\n{QUOTE}")));
        }
    }

    fn write_breaks(&mut self) {
        self.after_mark = false;
        let due = std::mem::take(&mut self.due_breaks);
        if !self.out.is_empty() {
            for _ in 0..due {
                self.out.push('\n');
                if self.quotes > 0 && !self.is_prefix_due {
                    self.out.push_str(QUOTE);
                }
            }
        }
        if self.quotes > 0 && std::mem::take(&mut self.is_prefix_due) {
            self.out.push_str(QUOTE);
        }
    }
}

fn level_number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

fn language(kind: &CodeBlockKind<'_>) -> String {
    match kind {
        CodeBlockKind::Fenced(info) => info.split_whitespace().next().unwrap_or_default().to_owned(),
        CodeBlockKind::Indented => String::new(),
    }
}

/// Returns `text` with every run of three backticks broken by a space without width, for platforms whose code blocks
/// end at the first such run whatever opened them.
pub fn without_fences(text: &str) -> String {
    text.replace("```", "`\u{200b}`\u{200b}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Dialect for Plain {
        const STRONG: &'static str = "*";
        const EMPHASIS: &'static str = "_";
        const STRIKETHROUGH: &'static str = "~";
        const BULLET: &'static str = "• ";
        const MARKS_END_WITH_LINES: bool = true;

        fn text(text: &str, _at_line_start: bool, out: &mut String) {
            out.push_str(text);
        }

        fn code(text: &str) -> String {
            format!("`{text}`")
        }

        fn code_block(language: &str, text: &str) -> String {
            format!("```{language}\n{text}\n```")
        }

        fn link(url: &str) -> Option<(String, String)> {
            url.starts_with("https://")
                .then(|| (format!("<{url}|"), ">".to_owned()))
        }

        fn heading(level: u8) -> Option<&'static str> {
            (level == 1).then_some("# ")
        }
    }

    #[test]
    fn the_usual_forms_become_the_dialects_own() {
        for (markdown, wanted) in [
            ("plain", "plain"),
            ("**bold** _italic_ ~~gone~~ `a*b`", "*bold* _italic_ ~gone~ `a*b`"),
            ("**a **b** c**", "*a b c*"),
            ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
            ("**one\ntwo** three", "*one*\n*two* three"),
            ("# Top\ntext\n## Next", "# Top\n\ntext\n\n*Next*"),
            ("- a\n- b\n  - c\n\nafter", "• a\n• b\n  • c\n\nafter"),
            ("3. x\n4. y", "3. x\n4. y"),
            ("- a\n\n  b\n- c", "• a\nb\n• c"),
            ("```rust\nlet a = 1;\n\n```\nx", "```rust\nlet a = 1;\n\n```\n\nx"),
            (
                "before\n\n> said\n> > twice\n\nme",
                "before\n\n> said\n> \n> twice\n\nme",
            ),
            ("> ```\n> a\n> b\n> ```", "> ```\n> a\n> b\n> ```"),
            ("[x](https://e.org/?a&b) [y](javascript:a)", "<https://e.org/?a&b|x> y"),
            ("<b>raw</b>", "<b>raw</b>"),
            ("a\n\n***\n\nb", "a\n\n———\n\nb"),
            ("", ""),
        ] {
            assert_eq!(render::<Plain>(markdown), wanted, "{markdown:?}");
        }
    }

    #[test]
    fn what_is_nested_deeply_does_not_grow_without_end() {
        for piece in ["> ", "- ", "*a ", "**a ", "[", "1. "] {
            let text = piece.repeat(5000) + "x";
            let rendered = render::<Plain>(&text);
            assert!(
                rendered.len() < 40 * text.len(),
                "{} bytes of {piece:?} became {}",
                text.len(),
                rendered.len()
            );
        }
    }

    #[test]
    fn code_can_not_end_its_block() {
        assert!(!without_fences("a ```` b ``` c").contains("```"));
    }
}
