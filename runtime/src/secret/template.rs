//! The text in which a guest names secrets: `{{name}}`, and `{{base64:text with {{name}}}}` where a field is encoded.

use super::keyring::{FillError, is_name};

/// What stands before the text of an encoded field.
const BASE64: &str = "base64:";

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Stays as it is.
    Text(&'t str),
    /// The name of a secret.
    Secret(&'t str),
    /// What is to be encoded: texts and secrets, never another encoded field.
    Base64(Vec<Self>),
}

/// Reads a text. The text inside an encoded field ends at its first `}}` that ends no name.
///
/// # Errors
/// [`FillError::Malformed`] where `{{` begins neither.
pub(super) fn parse(text: &str) -> Result<Vec<Piece<'_>>, FillError> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        push_text(&mut pieces, before);
        let (piece, behind) = match after.strip_prefix(BASE64) {
            Some(inner) => encoded(inner)?,
            None => secret(after)?,
        };
        pieces.push(piece);
        rest = behind;
    }
    push_text(&mut pieces, rest);
    Ok(pieces)
}

/// Reads the inside of an encoded field, and returns what follows it.
fn encoded(text: &str) -> Result<(Piece<'_>, &str), FillError> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    loop {
        let end = rest.find("}}").ok_or(FillError::Malformed)?;
        match rest.find("{{").filter(|start| *start < end) {
            Some(start) => {
                push_text(&mut pieces, &rest[..start]);
                let (piece, behind) = secret(&rest[start + 2..])?;
                pieces.push(piece);
                rest = behind;
            }
            None => {
                push_text(&mut pieces, &rest[..end]);
                return Ok((Piece::Base64(pieces), &rest[end + 2..]));
            }
        }
    }
}

/// Reads a name and its `}}`, and returns what follows.
fn secret(text: &str) -> Result<(Piece<'_>, &str), FillError> {
    let (name, behind) = text.split_once("}}").ok_or(FillError::Malformed)?;
    if is_name(name) {
        Ok((Piece::Secret(name), behind))
    } else {
        Err(FillError::Malformed)
    }
}

fn push_text<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_encoded_fields_are_told_from_text() {
        let parsed = parse("a {{b}} c {{base64:d{{e}}f}}g").unwrap();
        let inner = vec![Piece::Text("d"), Piece::Secret("e"), Piece::Text("f")];
        let whole = [
            Piece::Text("a "),
            Piece::Secret("b"),
            Piece::Text(" c "),
            Piece::Base64(inner),
            Piece::Text("g"),
        ];
        assert_eq!(parsed, whole);
        assert_eq!(parse("{{base64:}}").unwrap(), [Piece::Base64(Vec::new())]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for wrong in [
            "{{",
            "{{}}",
            "{{a",
            "{{a b}}",
            "{{base64:",
            "{{base64:{{a}}",
            "{{base64:{{a b}}}}",
            "{{base64:{{base64:a}}}}",
        ] {
            assert_eq!(parse(wrong), Err(FillError::Malformed), "{wrong:?}");
        }
    }
}
