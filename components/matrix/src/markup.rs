//! CommonMark to the HTML that Matrix clients show (client-server API, section "m.room.message msgtypes").

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// The schemes of links that clients open.
const LINKED: [&str; 5] = ["https://", "http://", "ftp://", "mailto:", "magnet:"];

/// Converts CommonMark with tables and `~~strikethrough~~`; none where the text has no formatting to show.
///
/// Raw HTML is shown as it is written, a picture becomes a link (clients load pictures from Matrix only), a link to what
/// clients don't open becomes its words, and a line break is kept, as chats do.
pub fn to_html(markdown: &str) -> Option<String> {
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES;
    let mut links = Links::default();
    let events: Vec<Event<'_>> = Parser::new_ext(markdown, options)
        .filter_map(|event| links.shown(event))
        .collect();
    if is_plain(&events) {
        return None;
    }
    let mut out = String::with_capacity(markdown.len() * 2);
    html::push_html(&mut out, events.into_iter());
    Some(out.trim_end().to_owned())
}

/// One paragraph of nothing but text.
fn is_plain(events: &[Event<'_>]) -> bool {
    let Some((Event::Start(Tag::Paragraph), rest)) = events.split_first() else {
        return events.is_empty();
    };
    let Some((Event::End(TagEnd::Paragraph), text)) = rest.split_last() else {
        return false;
    };
    text.iter()
        .all(|event| matches!(event, Event::Text(_) | Event::HardBreak))
}

/// The links that are open, and whether each is shown as one.
#[derive(Default)]
struct Links(Vec<bool>);

impl Links {
    fn shown<'a>(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        match event {
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            })
            | Event::Start(Tag::Image {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                // A link inside of a link is not allowed in HTML.
                let is_link = !self.0.contains(&true) && is_linked(&dest_url);
                self.0.push(is_link);
                is_link.then_some(Event::Start(Tag::Link {
                    link_type,
                    dest_url,
                    title,
                    id,
                }))
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                let is_link = self.0.pop() == Some(true);
                is_link.then_some(Event::End(TagEnd::Link))
            }
            Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
            Event::Start(Tag::HtmlBlock) => Some(Event::Start(Tag::Paragraph)),
            Event::End(TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
            Event::SoftBreak => Some(Event::HardBreak),
            other => Some(other),
        }
    }
}

fn is_linked(url: &CowStr<'_>) -> bool {
    LINKED.iter().any(|scheme| {
        url.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_forms_become_what_clients_show() {
        for (markdown, wanted) in [
            ("plain", None),
            ("two\nlines, a < b & c", None),
            ("", None),
            (
                "**b** _i_ ~~s~~ `a<b`",
                Some("<p><strong>b</strong> <em>i</em> <del>s</del> <code>a&lt;b</code></p>"),
            ),
            ("one\n\ntwo", Some("<p>one</p>\n<p>two</p>")),
            ("*a*\nb", Some("<p><em>a</em><br />\nb</p>")),
            ("# Top", Some("<h1>Top</h1>")),
            ("3. x\n4. y", Some("<ol start=\"3\">\n<li>x</li>\n<li>y</li>\n</ol>")),
            (
                "```rust\nlet a = 1 < 2;\n```",
                Some("<pre><code class=\"language-rust\">let a = 1 &lt; 2;\n</code></pre>"),
            ),
            (
                "[x](https://e.org/?a&b)",
                Some("<p><a href=\"https://e.org/?a&amp;b\">x</a></p>"),
            ),
            (
                "![x](https://e.org/i.png)",
                Some("<p><a href=\"https://e.org/i.png\">x</a></p>"),
            ),
            ("[**x**](javascript:alert(1))", Some("<p><strong>x</strong></p>")),
            ("<b>raw</b>*", None),
            ("*x* <script>", Some("<p><em>x</em> &lt;script&gt;</p>")),
        ] {
            assert_eq!(to_html(markdown).as_deref(), wanted, "{markdown:?}");
        }
    }

    /// The tags of a piece of HTML, without their attributes and slashes.
    fn tags(html: &str) -> Vec<String> {
        let pieces = html.split('<').skip(1);
        pieces
            .map(|piece| {
                let name: String = piece
                    .trim_start_matches('/')
                    .chars()
                    .take_while(char::is_ascii_alphanumeric)
                    .collect();
                name
            })
            .collect()
    }

    fn markdown() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z<>&\"😀 ]{1,6}",
            6 => proptest::sample::select(vec![
                "*", "**", "_", "~~", "`", "```", "\n", "\n\n", "> ", "- ", "1. ", "# ", "[", "](", "](https://e.org/)",
                "](javascript:x)", "![", ")", "<img src=x onerror=y>", "<script>", "<!--", "|a|b|\n|-|-|\n", "\\", "&lt;",
            ])
            .prop_map(str::to_owned),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn only_tags_that_clients_allow_come_out(markdown in markdown()) {
            const ALLOWED: [&str; 26] = [
                "p", "br", "strong", "em", "del", "code", "pre", "a", "ul", "ol", "li", "blockquote", "hr", "h1", "h2",
                "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "div",
            ];
            let html = to_html(&markdown).unwrap_or_default();
            for tag in tags(&html) {
                prop_assert!(ALLOWED.contains(&tag.as_str()), "<{}> in {}", tag, html);
            }
            prop_assert!(!html.contains("href=\"javascript"), "{}", html);
        }
    }
}
