//! CommonMark to Slack's mrkdwn, and Slack's own escapes back to plain text.

use sluicegate_sdk::markdown::{self, Dialect};

/// Converts a text. What an agent writes can never become a mention: those need `<`, which is escaped.
pub fn to_mrkdwn(markdown: &str) -> String {
    markdown::render::<Mrkdwn>(markdown)
}

struct Mrkdwn;

impl Dialect for Mrkdwn {
    const STRONG: &'static str = "*";
    const EMPHASIS: &'static str = "_";
    const STRIKETHROUGH: &'static str = "~";
    const BULLET: &'static str = "• ";
    const MARKS_END_WITH_LINES: bool = true;

    fn text(text: &str, _at_line_start: bool, out: &mut String) {
        out.push_str(&escaped(text));
    }

    fn code(text: &str) -> String {
        // Slack has no way to write a backtick in inline code, so it shows one that looks like it.
        format!("`{}`", escaped(&text.replace('`', "ˋ")))
    }

    fn code_block(_language: &str, text: &str) -> String {
        // A language would be shown as the first line of the code.
        format!("```\n{}\n```", escaped(&markdown::without_fences(text)))
    }

    fn link(url: &str) -> Option<(String, String)> {
        let known = ["https://", "http://", "mailto:"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        let is_plain = !url.contains(|c: char| c.is_whitespace() || "<>|".contains(c));
        (known && is_plain).then(|| (format!("<{}|", escaped(url)), ">".to_owned()))
    }

    fn heading(_level: u8) -> Option<&'static str> {
        None
    }
}

/// Escapes what means something to Slack (docs.slack.dev: Formatting message text, Escaping text).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Turns what a person wrote, in Slack's form, into plain text. `names` says how a user is called, where that is known.
pub fn to_plain(text: &str, names: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(&unescaped(before));
        let Some((inside, behind)) = after.split_once('>') else {
            out.push('<');
            rest = after;
            continue;
        };
        out.push_str(&plain_reference(inside, &names));
        rest = behind;
    }
    out.push_str(&unescaped(rest));
    out
}

/// Says what stands between `<` and `>`: a user, a channel, a group or a link, with words after a bar.
fn plain_reference(inside: &str, names: &impl Fn(&str) -> Option<String>) -> String {
    let (target, label) = match inside.split_once('|') {
        Some((target, label)) => (target, Some(unescaped(label)).filter(|label| !label.is_empty())),
        None => (inside, None),
    };
    if let Some(user) = target.strip_prefix('@') {
        return format!("@{}", label.or_else(|| names(user)).unwrap_or_else(|| user.to_owned()));
    }
    if let Some(channel) = target.strip_prefix('#') {
        return format!("#{}", label.unwrap_or_else(|| channel.to_owned()));
    }
    if let Some(special) = target.strip_prefix('!') {
        return label.unwrap_or_else(|| format!("@{}", special.split('^').next().unwrap_or_default()));
    }
    let url = unescaped(target);
    match label {
        // Slack writes a bare address or domain as a link to itself.
        Some(label) if !url.ends_with(&label) => format!("{label} ({url})"),
        _ => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_become_mrkdwn() {
        for (markdown, wanted) in [
            ("a < b & c", "a &lt; b &amp; c"),
            ("**bold** _italic_ ~~gone~~ `a<b`", "*bold* _italic_ ~gone~ `a&lt;b`"),
            ("# Top\ntext", "*Top*\n\ntext"),
            ("- a\n- b", "• a\n• b"),
            ("```rust\nlet a = 1 & 2;\n```", "```\nlet a = 1 &amp; 2;\n```"),
            ("[x](https://e.org/?a&b)", "<https://e.org/?a&amp;b|x>"),
            ("[x](javascript:a)", "x"),
            ("<!channel> <@U1>", "&lt;!channel&gt; &lt;@U1&gt;"),
            ("**two\nlines**", "*two*\n*lines*"),
            ("`` a`b ``", "`aˋb`"),
        ] {
            assert_eq!(to_mrkdwn(markdown), wanted, "{markdown:?}");
        }
    }

    #[test]
    fn what_people_write_becomes_plain_text() {
        let names = |user: &str| (user == "U7").then(|| "sluice".to_owned());
        for (text, wanted) in [
            ("<@U7> and <@U8> &amp; you", "@sluice and @U8 & you"),
            ("<@U8|bob> in <#C1|general>", "@bob in #general"),
            ("<!here> <!subteam^S1|@crew> <!date^1^x|today>", "@here @crew today"),
            (
                "<https://e.org/?a&amp;b> <https://e.org|here> <http://e.org|e.org>",
                "https://e.org/?a&b here (https://e.org) http://e.org",
            ),
            ("&lt;b&gt; &amp;lt;", "<b> &lt;"),
            ("a < b <", "a < b <"),
        ] {
            assert_eq!(to_plain(text, names), wanted, "{text:?}");
        }
    }
}
