//! CommonMark to what Discord shows. Discord's own form is near to it, but every line break counts, underscores
//! underline, and there are no images, rules or deep headings.

use sluicegate_sdk::markdown::{self, Dialect};

/// Converts a text.
pub fn to_discord(markdown: &str) -> String {
    markdown::render::<Discord>(markdown)
}

/// What Discord gives a meaning anywhere in a line.
const SPECIAL: [char; 6] = ['\\', '*', '_', '~', '`', '|'];

struct Discord;

impl Dialect for Discord {
    const STRONG: &'static str = "**";
    const EMPHASIS: &'static str = "*";
    const STRIKETHROUGH: &'static str = "~~";
    const BULLET: &'static str = "- ";
    const MARKS_END_WITH_LINES: bool = false;

    fn text(text: &str, at_line_start: bool, out: &mut String) {
        if at_line_start && text.starts_with(['#', '-', '>', '+']) {
            out.push('\\');
        }
        for word in text.split_inclusive(' ') {
            // An escaped address would lead elsewhere.
            if word.contains("://") {
                out.push_str(word);
                continue;
            }
            for character in word.chars() {
                if SPECIAL.contains(&character) {
                    out.push('\\');
                }
                out.push(character);
            }
        }
    }

    fn code(text: &str) -> String {
        if text.contains('`') {
            format!("`` {} ``", markdown::without_fences(text))
        } else {
            format!("`{text}`")
        }
    }

    fn code_block(language: &str, text: &str) -> String {
        let is_word = language
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-_.#".contains(c));
        let language = if is_word { language } else { "" };
        format!("```{language}\n{}\n```", markdown::without_fences(text))
    }

    fn link(url: &str) -> Option<(String, String)> {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        let is_plain = !url.contains(|c: char| c.is_whitespace() || "()<>".contains(c));
        (is_web && is_plain).then(|| ("[".to_owned(), format!("]({url})")))
    }

    fn heading(level: u8) -> Option<&'static str> {
        match level {
            1 => Some("# "),
            2 => Some("## "),
            3 => Some("### "),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_become_what_discord_shows() {
        for (markdown, wanted) in [
            ("plain snake_case", "plain snake\\_case"),
            ("__strong__ *em* ~~gone~~", "**strong** *em* ~~gone~~"),
            ("see https://e.org/a_b_c now_then", "see https://e.org/a_b_c now\\_then"),
            ("# A\n#### B", "# A\n\n**B**"),
            ("\\# no heading", "\\# no heading"),
            ("- a\n- b", "- a\n- b"),
            ("`a*b` ``a`b``", "`a*b` `` a`b ``"),
            (
                "~~~~rs\nlet a = \"```\";\n~~~~",
                "```rs\nlet a = \"`\u{200b}`\u{200b}`\";\n```",
            ),
            (
                "[x](https://e.org) ![y](https://e.org/i.png)",
                "[x](https://e.org) [y](https://e.org/i.png)",
            ),
            ("a || b", "a \\|\\| b"),
            ("> said", "> said"),
        ] {
            assert_eq!(to_discord(markdown), wanted, "{markdown:?}");
        }
    }
}
