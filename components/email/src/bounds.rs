//! What taking a mail apart may cost.
//!
//! Anybody may send a mail, and mail-parser sets no bounds of its own: a mail of many small pieces is many times its own
//! size in memory, and mails in mails nest as deep as they like. So a mail is looked at, in one pass, before it is parsed.

use std::ops::Range;

/// The memory that the pieces of a mail may take, bytes: what is left of an instance's 128 MiB beside the mail itself, the
/// buffer it came through and its decoded files. A field of a header that nobody reads is the most for the least: 3 bytes
/// become 76.
const PIECES_BYTES_MAX: usize = 24 * 1024 * 1024;
/// All `Content-` fields of a mail together, bytes: a thousand parts take as many. Their parameters are compared with each
/// other.
const CONTENT_FIELDS_BYTES_MAX: usize = 128 * 1024;
/// The boundaries that a mail may name: mails of people have some five. Each is looked for in all that follows.
const BOUNDARIES_MAX: usize = 20;
/// What is read of a mail that may not be taken apart, bytes: more than servers take as its header (Postfix: 100 KiB).
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// What mail-parser makes of a byte, bytes of memory at most: a field of a header for a colon (twice the size of one, since
/// lists grow by doubling), an item of a list for what separates items.
const fn piece_bytes(byte: u8) -> usize {
    match byte {
        b':' => 152,
        b',' | b';' | b'<' => 48,
        // Where the text is not in the encoding that it claims: three bytes, and the doubling.
        128.. => 6,
        _ => 0,
    }
}
/// As [`piece_bytes`], for a line that may begin a part.
const PART_BYTES: usize = 256;

/// Whether a mail can be taken apart within the bounds.
pub fn holds(raw: &[u8]) -> bool {
    let pieces: usize = raw.iter().map(|byte| piece_bytes(*byte)).sum();
    let parts = raw.windows(3).filter(|window| window == b"\n--").count();
    let (mut bytes, mut boundaries) = (0, 0);
    for field in content_fields(raw) {
        let field = &raw[field];
        bytes += field.len();
        boundaries += places(field, b"boundary").len();
        // The name of an encoding that is encoded itself: nobody's, and `texts` would not know it.
        if names(field, b"content-transfer-encoding") && !places(field, b"=?").is_empty() {
            return false;
        }
    }
    pieces.saturating_add(parts.saturating_mul(PART_BYTES)) <= PIECES_BYTES_MAX
        && bytes <= CONTENT_FIELDS_BYTES_MAX
        && boundaries <= BOUNDARIES_MAX
}

/// Returns the beginning of a mail, which holds its header.
pub fn head(raw: &[u8]) -> &[u8] {
    &raw[..raw.len().min(HEAD_BYTES_MAX)]
}

/// Has the mails in a mail taken for files, each whole: their type is changed in place, to one of the same length that
/// mail-parser does not know. [`shown_type`] undoes it.
pub fn hide_nested(raw: &mut [u8]) {
    for field in content_fields(raw) {
        let field = &mut raw[field];
        for (nested, hidden) in NESTED {
            for at in places(field, nested) {
                field[at..at + nested.len()].copy_from_slice(hidden);
            }
        }
    }
}

/// The media types of mails in mails that mail-parser knows (`message/rfc822`, `message/global`, and what a
/// `multipart/digest` consists of), and what they become.
const NESTED: [(&[u8], &[u8]); 3] = [(b"rfc822", b"x-822-"), (b"global", b"x-glob"), (b"digest", b"x-dige")];

/// Returns the media type that stood in the mail: what [`hide_nested`] or [`crate::texts::hide_long`] made of it undone.
pub fn shown_type(media_type: &str) -> String {
    match media_type {
        "message/x-822-" => "message/rfc822".to_owned(),
        "message/x-glob" => "message/global".to_owned(),
        other => match other.strip_prefix("xext/") {
            Some(subtype) => format!("text/{subtype}"),
            None => other.to_owned(),
        },
    }
}

/// Returns where the `Content-` fields are, with the lines that continue them; also where they are words in a text, since
/// only a parser knows. As lenient as mail-parser is with blanks in a field's name.
pub fn content_fields(raw: &[u8]) -> Vec<Range<usize>> {
    let mut fields: Vec<Range<usize>> = Vec::new();
    let (mut start, mut is_content) = (0, false);
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        let continues = line.first().is_some_and(|byte| b" \t".contains(byte));
        if names(line, b"content-") {
            fields.push(start..end);
            is_content = true;
        } else if is_content && continues {
            if let Some(field) = fields.last_mut() {
                field.end = end;
            }
        } else {
            is_content = false;
        }
        start = end;
    }
    fields
}

/// Whether a line begins a field whose name begins so, in lower case.
fn names(line: &[u8], beginning: &[u8]) -> bool {
    let name = line.iter().filter(|byte| !byte.is_ascii_whitespace());
    let name = name.map(u8::to_ascii_lowercase).take(beginning.len());
    name.eq(beginning.iter().copied()) && line.contains(&b':')
}

/// Returns where a word in lower case is, in whatever case it is written.
pub fn places(text: &[u8], word: &[u8]) -> Vec<usize> {
    let windows = text.windows(word.len()).enumerate();
    windows
        .filter(|(_, window)| window.eq_ignore_ascii_case(word))
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(mail: &str) -> String {
        let mut raw = mail.as_bytes().to_vec();
        hide_nested(&mut raw);
        String::from_utf8(raw).unwrap()
    }

    #[test]
    fn mails_in_mails_are_hidden_however_their_type_is_written() {
        for mail in [
            "Content-Type: message/rfc822\r\n",
            "cOnTeNt-TyPe:\r\n\tMESSAGE/RFC822; x=y\r\n",
            " Content - Type : (a) message/Global\n",
            "a: b\nContent-Type: multipart/\n digest; boundary=b\n",
        ] {
            let hidden = hidden(mail).to_ascii_lowercase();
            assert_eq!(hidden.len(), mail.len());
            assert!(
                ["rfc822", "global", "digest"].iter().all(|word| !hidden.contains(word)),
                "{hidden}"
            );
        }
        let words = "Content-Type: text/plain\r\n\r\nA digest of rfc822.\r\n global";
        assert_eq!(hidden(words), words, "words of a text stay as they are");
        for kind in ["message/rfc822", "message/global", "image/png"] {
            let field = hidden(&format!("Content-Type: {kind}"));
            assert_eq!(shown_type(field.trim_start_matches("Content-Type: ")), kind);
        }
    }

    #[test]
    fn a_mail_of_people_holds_and_one_of_pieces_does_not() {
        let files =
            "--b\r\nContent-Type: image/png; name=\"a.png\"\r\nContent-Disposition: attachment\r\n\r\niVBORw0KGgo=\r\n";
        let mail = format!(
            "From: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{}{}--b--\r\n",
            files.repeat(300),
            "AAAA/+==\r\n".repeat(2_000_000)
        );
        assert!(holds(mail.as_bytes()));
        assert!(holds(
            "Times: 10:30, 11:45; <b>and</b> more.\r\n".repeat(20_000).as_bytes()
        ));
        for (what, piece) in [
            ("fields", "a:\n"),
            ("letters", "ж"),
            ("addresses", "a,"),
            ("ids", "<a>"),
            ("parts", "\n--b\n"),
            ("types", "Content-Type: a/b\n\n"),
            ("parameters", "Content-Type: a/b;\n a*1=b\n"),
            ("boundaries", "Content-Type: multipart/mixed; boundary=a\n\n"),
        ] {
            assert!(!holds(piece.repeat(5_000_000 / piece.len()).as_bytes()), "{what}");
        }
        assert!(!holds(b"Content-Transfer-Encoding: =?a?q?base64?=\n\n"));
        let boundaries = "Content-Type: multipart/mixed; boundary=a\n\n--a\n";
        assert!(holds(boundaries.repeat(BOUNDARIES_MAX).as_bytes()));
        assert!(!holds(boundaries.repeat(BOUNDARIES_MAX + 1).as_bytes()));
    }
}
