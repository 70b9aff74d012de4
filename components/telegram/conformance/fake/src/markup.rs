//! Entity parsing of `parse_mode` HTML, as strict as Telegram's (core.telegram.org/bots/api#html-style).

use serde_json::{Value, json};

/// A text after entity parsing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) text: String,
    pub(crate) entities: Vec<Value>,
}

struct Open {
    tag: String,
    entity: Value,
    offset: usize,
}

/// Parses Telegram's HTML; errors are Telegram's descriptions.
pub(crate) fn parse_html(source: &str) -> Result<Parsed, String> {
    let mut text = String::new();
    let mut entities = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let at = source.len() - rest.len();
        match next {
            '<' => {
                let end = rest
                    .find('>')
                    .ok_or_else(|| refused(&format!("Unclosed start tag at byte offset {at}")))?;
                let inner = &rest[1..end];
                match inner.strip_prefix('/') {
                    Some(name) => close(name, at, &text, &mut open, &mut entities)?,
                    None => open.push(start(inner, at, units(&text))?),
                }
                rest = &rest[end + 1..];
            }
            '&' => {
                let (character, length) = reference(rest).unwrap_or(('&', 1));
                text.push(character);
                rest = &rest[length..];
            }
            other => {
                text.push(other);
                rest = &rest[other.len_utf8()..];
            }
        }
    }
    if let Some(unclosed) = open.last() {
        return Err(refused(&format!(
            "Can't find end tag corresponding to start tag \"{}\"",
            unclosed.tag
        )));
    }
    entities.sort_by_key(|entity: &Value| entity["offset"].as_u64());
    Ok(Parsed { text, entities })
}

fn refused(words: &str) -> String {
    format!("Bad Request: can't parse entities: {words}")
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Reads a start tag.
fn start(inner: &str, at: usize, offset: usize) -> Result<Open, String> {
    let (name, attributes) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let tag = name.to_ascii_lowercase();
    let entity = match tag.as_str() {
        "b" | "strong" => json!({"type": "bold"}),
        "i" | "em" => json!({"type": "italic"}),
        "u" | "ins" => json!({"type": "underline"}),
        "s" | "strike" | "del" => json!({"type": "strikethrough"}),
        "tg-spoiler" => json!({"type": "spoiler"}),
        "span" if attribute(attributes, "class").as_deref() == Some("tg-spoiler") => json!({"type": "spoiler"}),
        "span" => {
            return Err(refused(&format!(
                "Tag \"span\" must have class \"tg-spoiler\" at byte offset {at}"
            )));
        }
        "a" => link(attributes),
        "code" => code(attributes),
        "pre" => json!({"type": "pre"}),
        "blockquote" => json!({"type": "blockquote"}),
        "tg-emoji" => json!({"type": "custom_emoji", "custom_emoji_id": attribute(attributes, "emoji-id")}),
        _ => return Err(refused(&format!("Unsupported start tag \"{tag}\" at byte offset {at}"))),
    };
    Ok(Open { tag, entity, offset })
}

/// A link without a usable address is shown as plain text by Telegram.
fn link(attributes: &str) -> Value {
    match attribute(attributes, "href") {
        Some(url) if url.contains("://") || url.starts_with("mailto:") || url.starts_with("tg:") => {
            json!({"type": "text_link", "url": url})
        }
        _ => Value::Null,
    }
}

fn code(attributes: &str) -> Value {
    match attribute(attributes, "class")
        .as_deref()
        .and_then(|class| class.strip_prefix("language-"))
    {
        Some(language) => json!({"type": "code", "language": language}),
        None => json!({"type": "code"}),
    }
}

/// Returns the value of a quoted attribute.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let mut rest = attributes.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, tail) = after[1..].split_once(quote)?;
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(unescaped(value));
        }
        rest = tail.trim_start();
    }
    None
}

fn unescaped(value: &str) -> String {
    value
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

/// Reads an end tag and finishes its entity.
fn close(name: &str, at: usize, text: &str, open: &mut Vec<Open>, entities: &mut Vec<Value>) -> Result<(), String> {
    let Some(opened) = open.pop() else {
        return Err(refused(&format!("Unexpected end tag at byte offset {at}")));
    };
    if !name.trim().eq_ignore_ascii_case(&opened.tag) {
        return Err(refused(&format!(
            "Unmatched end tag at byte offset {at}, expected \"</{}>\", found \"</{}>\"",
            opened.tag, name
        )));
    }
    let length = units(text) - opened.offset;
    if length > 0 && opened.entity.is_object() {
        let mut entity = opened.entity;
        entity["offset"] = json!(opened.offset);
        entity["length"] = json!(length);
        entities.push(entity);
    }
    Ok(())
}

/// Reads a character reference: the character and the bytes it takes.
fn reference(rest: &str) -> Option<(char, usize)> {
    let end = rest.find(';').filter(|end| *end <= 10)?;
    let name = &rest[1..end];
    let character = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        _ => numeric(name)?,
    };
    Some((character, end + 1))
}

fn numeric(name: &str) -> Option<char> {
    let digits = name.strip_prefix('#')?;
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
        None => digits.parse().ok()?,
    };
    char::from_u32(code).filter(|c| *c != '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_found_and_counted_in_utf_16() {
        let parsed =
            parse_html("😀 <b>bold <i>both</i></b> <a href=\"https://x.org/?a&amp;b\">link</a> 1 &lt; 2 &#33;");
        let parsed = parsed.expect("this is well formed");
        assert_eq!(parsed.text, "😀 bold both link 1 < 2 !");
        let found: Vec<_> = parsed
            .entities
            .iter()
            .map(|e| (e["type"].clone(), e["offset"].clone()))
            .collect();
        assert_eq!(
            found,
            [
                (json!("bold"), json!(3)),
                (json!("italic"), json!(8)),
                (json!("text_link"), json!(13))
            ]
        );
        assert_eq!(parsed.entities[2]["url"], "https://x.org/?a&b");
    }

    #[test]
    fn what_telegram_refuses_is_refused() {
        for (source, words) in [
            ("<h1>x</h1>", "Unsupported start tag \"h1\" at byte offset 0"),
            ("<b>x", "Can't find end tag corresponding to start tag \"b\""),
            ("x</b>", "Unexpected end tag at byte offset 1"),
            ("<b><i>x</b></i>", "Unmatched end tag at byte offset 7"),
            ("1 < 2", "Unclosed start tag at byte offset 2"),
            ("<p>x</p>", "Unsupported start tag \"p\""),
        ] {
            let error = parse_html(source).expect_err(source);
            assert!(
                error.starts_with("Bad Request: can't parse entities: ") && error.contains(words),
                "{source}: {error}"
            );
        }
    }
}
