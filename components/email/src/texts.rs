//! Which texts of a mail are decoded.
//!
//! mail-parser makes letters of every text, attached ones too: of one that claims an encoding which it is not in, ten times
//! its size in memory. A message takes a fraction of that. So where a mail is long, its texts are decoded up to a bound,
//! and those behind it are taken for files, whose bytes nobody looks at.

use std::ops::Range;

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};

use crate::bounds::{content_fields, places};

/// The texts of a mail that are decoded, bytes together as they stand in the mail: more than is read of one in HTML, and ten
/// times that fits into an instance's memory beside the largest mail.
const TEXTS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What stands for the first letter of a word that mail-parser is not to know.
const HIDING: u8 = b'x';

/// What becomes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It stays the text that it is.
    Text,
    /// It is a text, and becomes a file.
    File,
    /// It is a text by default and has no type that could be changed: it stays as it is encoded.
    Encoded,
    /// It is no text. One that is not in its encoding would be taken for a text after all, so that its letters are nobody's.
    Other,
}

/// A word in a field of a header whose first letter was changed.
struct Hidden {
    at: usize,
    letter: u8,
}

/// Has the long texts of a mail taken for files, by changes in place: [`crate::bounds::shown_type`] undoes that of their
/// type. mail-parser says where the parts are, and is kept from decoding them meanwhile.
pub fn hide_long(raw: &mut [u8], parser: &MessageParser) {
    if raw.len() <= TEXTS_BYTES_MAX {
        return;
    }
    let fields = content_fields(raw);
    let mut encodings = hide(raw, &fields, b"base64");
    encodings.extend(hide(raw, &fields, b"quoted-printable"));
    let charsets = hide(raw, &fields, b"charset");
    let parts = parser.parse(&*raw).map(|mail| fates(&mail)).unwrap_or_default();
    // What stands in no header is a word in a text, which stays as it is.
    let fate_at = |at: usize| {
        let next = parts.partition_point(|(header, _)| header.start <= at);
        let part = next.checked_sub(1).and_then(|before| parts.get(before));
        part.filter(|(header, _)| header.contains(&at)).map(|(_, fate)| *fate)
    };
    for word in encodings {
        if fate_at(word.at) != Some(Fate::Encoded) {
            raw[word.at] = word.letter;
        }
    }
    for word in charsets {
        if matches!(fate_at(word.at), None | Some(Fate::Text)) {
            raw[word.at] = word.letter;
        }
    }
    for field in fields {
        if fate_at(field.start) == Some(Fate::File) {
            hide_type(&mut raw[field]);
        }
    }
}

/// Returns the header of each part and what becomes of it, in the order of the mail.
fn fates(mail: &Message<'_>) -> Vec<(Range<usize>, Fate)> {
    let mut room = TEXTS_BYTES_MAX;
    let fate = |part: &MessagePart<'_>| {
        let bytes = part.offset_end.saturating_sub(part.offset_body) as usize;
        let is_text = matches!(part.body, PartType::Text(_) | PartType::Html(_));
        let fate = match part.content_type() {
            _ if !is_text => Fate::Other,
            _ if bytes <= room => Fate::Text,
            Some(kind) if kind.ctype().eq_ignore_ascii_case("text") => Fate::File,
            _ => Fate::Encoded,
        };
        if fate == Fate::Text {
            room -= bytes;
        }
        (part.offset_header as usize..part.offset_body as usize, fate)
    };
    mail.parts.iter().map(fate).collect()
}

/// Hides a word wherever it stands in these fields.
fn hide(raw: &mut [u8], fields: &[Range<usize>], word: &[u8]) -> Vec<Hidden> {
    let mut hidden = Vec::new();
    for field in fields {
        for at in places(&raw[field.clone()], word) {
            let at = field.start + at;
            hidden.push(Hidden { at, letter: raw[at] });
            raw[at] = HIDING;
        }
    }
    hidden
}

/// Hides that a type is a text: the word, wherever it stands alone, since comments may stand around it.
fn hide_type(field: &mut [u8]) {
    const WORD: &[u8] = b"text";
    for at in places(field, WORD) {
        let ends = field
            .get(at + WORD.len())
            .is_none_or(|byte| b"/( \t\r\n".contains(byte));
        let begins = at == 0 || !field[at - 1].is_ascii_alphanumeric();
        if begins && ends {
            field[at] = HIDING;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = TEXTS_BYTES_MAX;

    /// Returns the kinds of a mail's parts once its long texts are hidden: `text`, `file` or `multipart`.
    fn kinds(mail: &str) -> Vec<&'static str> {
        let mut raw = mail.as_bytes().to_vec();
        hide_long(&mut raw, &MessageParser::new());
        assert_eq!(raw.len(), mail.len());
        let mail = MessageParser::new().parse(&raw).expect("it is a mail");
        let kind = |part: &MessagePart<'_>| match &part.body {
            PartType::Text(_) | PartType::Html(_) => "text",
            PartType::Multipart(_) => "multipart",
            _ => "file",
        };
        mail.parts.iter().map(kind).collect()
    }

    fn part(header: &str, body: &str) -> String {
        format!("--b\r\n{header}\r\n\r\n{body}\r\n")
    }

    fn mail(parts: &[String]) -> String {
        let parts = parts.concat();
        format!("From: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n")
    }

    #[test]
    fn the_texts_behind_the_bound_are_files_however_their_type_is_written() {
        let base64 = "AAAA".repeat(LONG / 4 + 1);
        for kind in [
            "Content-Type: text/plain; charset=utf-8",
            "Content-Type: TEXT/html",
            "Content-Type: (;) text (x)/ csv; name=\"context.csv\"",
            "content-type:\r\n text/calendar",
        ] {
            let long = part(&format!("{kind}\r\nContent-Transfer-Encoding: base64"), &base64);
            let short = part("Content-Type: text/plain; charset=iso-8859-1", "caf\u{e9}");
            assert_eq!(
                kinds(&mail(&[short.clone(), long, short])),
                ["multipart", "text", "file", "text"],
                "{kind}"
            );
        }
        let half = part("Content-Type: text/plain", &"a ".repeat(LONG / 4 + 1));
        assert_eq!(
            kinds(&mail(&[half.clone(), half.clone(), half])),
            ["multipart", "text", "file", "file"]
        );
    }

    #[test]
    fn what_is_kept_and_what_only_looks_like_a_header_stays_as_it_was() {
        let words = "See below:\r\nContent-Type: text/plain; charset=x, base64\r\n";
        let short = part(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable",
            words,
        );
        let image = part(
            "Content-Type: image/png; name=\"text (1).png\"\r\nContent-Transfer-Encoding: base64",
            &"AAAA".repeat(LONG),
        );
        let mail = mail(&[short, image]);
        let mut raw = mail.clone().into_bytes();
        hide_long(&mut raw, &MessageParser::new());
        assert!(raw == mail.as_bytes(), "a mail without long texts was changed");
    }

    #[test]
    fn a_long_text_without_a_type_stays_encoded() {
        let encoded = "/+7/".repeat(LONG / 4 + 1);
        let mail = format!("From: a@b\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n");
        let mut raw = mail.into_bytes();
        hide_long(&mut raw, &MessageParser::new());
        let mail = MessageParser::new().parse(&raw).expect("it is a mail");
        assert!(mail.body_text(0).is_some_and(|text| text.starts_with("/+7/")));
    }
}
