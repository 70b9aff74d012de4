//! The JSON that callers post here, what they get back, and what is posted to the operator's URL.

use serde::{Deserialize, Serialize};

/// The longest body that is taken, bytes. Chosen for text with its markup; files belong elsewhere.
pub(crate) const BODY_BYTES_MAX: u32 = 256 * 1024;
/// The longest id, name or title in a body, bytes: they become keys in the inbox.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// The header that carries the signature, both ways.
pub(crate) const SIGNATURE_HEADER: &str = "X-Signature";
/// What stands before the hexadecimal signature.
pub(crate) const SIGNATURE_PREFIX: &str = "sha256=";

/// What a caller posts.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Incoming {
    /// Unique in the channel: a repeated one changes nothing.
    pub(crate) id: String,
    pub(crate) conversation: String,
    pub(crate) sender: String,
    pub(crate) text: String,
    pub(crate) thread: Option<String>,
    pub(crate) sender_name: Option<String>,
    /// Whether several people read the conversation.
    #[serde(default)]
    pub(crate) group: bool,
}

/// What a caller gets back.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer<'a> {
    /// What became of the message.
    Status(&'a str),
    /// Why it was not taken.
    Error(&'a str),
}

/// What is posted to the operator's URL.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Outgoing<'a> {
    /// The same in every attempt.
    pub(crate) delivery_key: &'a str,
    pub(crate) conversation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<&'a str>,
    /// The id of the message that it answers.
    pub(crate) in_reply_to: Option<&'a str>,
    pub(crate) text: &'a str,
    /// 1 for the first attempt.
    pub(crate) attempt: u32,
}

/// What the operator's URL may answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Delivered {
    /// Its id of the message.
    pub(crate) id: Option<String>,
}

/// Reads a caller's body and checks its fields; what is wrong names the field.
pub(crate) fn parse(body: &[u8]) -> Result<Incoming, String> {
    // A list of the right length would be read as the fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err("the body must be a JSON object, but is a list".to_owned());
    }
    let incoming: Incoming =
        serde_json::from_slice(body).map_err(|error| mistyped(body).unwrap_or_else(|| error.to_string()))?;
    for (field, value) in [
        ("id", &incoming.id),
        ("conversation", &incoming.conversation),
        ("sender", &incoming.sender),
    ] {
        if value.is_empty() {
            return Err(format!("the field `{field}` is empty"));
        }
        bound(field, value)?;
    }
    if incoming.text.is_empty() {
        return Err("the field `text` is empty".to_owned());
    }
    for (field, value) in [("thread", &incoming.thread), ("sender_name", &incoming.sender_name)] {
        value.as_deref().map_or(Ok(()), |value| bound(field, value))?;
    }
    Ok(incoming)
}

/// Says which field is of another type than it must be; reading the body as a whole tells the types alone.
fn mistyped(body: &[u8]) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let required = ["id", "conversation", "sender", "text"].map(|field| (field, false));
    let optional = ["thread", "sender_name"].map(|field| (field, true));
    let is_wrong = |(field, may_be_null): &(&str, bool)| {
        let value = object.get(*field);
        value.is_some_and(|value| !(value.is_string() || (*may_be_null && value.is_null())))
    };
    let mut texts = required.into_iter().chain(optional);
    let text = texts
        .find(is_wrong)
        .map(|(field, _)| format!("the field `{field}` is no text"));
    let group = || {
        let is_wrong = object.get("group").is_some_and(|value| !value.is_boolean());
        is_wrong.then(|| "the field `group` is neither true nor false".to_owned())
    };
    text.or_else(group)
}

fn bound(field: &str, value: &str) -> Result<(), String> {
    if value.len() > NAME_BYTES_MAX {
        return Err(format!("the field `{field}` has more than {NAME_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Writes a signature as it stands in its header.
pub(crate) fn signature(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(SIGNATURE_PREFIX.to_owned(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"id":"7","conversation":"c1","sender":"ada","text":"hi"}"#;

    /// The body with one field changed; none removes the field.
    fn body_with(field: &str, value: Option<serde_json::Value>) -> Vec<u8> {
        let mut body: serde_json::Map<String, serde_json::Value> = serde_json::from_str(BODY).expect("it is an object");
        match value {
            Some(value) => body.insert(field.to_owned(), value),
            None => body.remove(field),
        };
        serde_json::to_vec(&body).expect("an object can be written")
    }

    #[test]
    fn the_fixed_form_is_read() {
        let incoming = parse(BODY.as_bytes()).expect("the body is right");
        assert_eq!(
            (incoming.id.as_str(), incoming.sender.as_str(), incoming.group),
            ("7", "ada", false)
        );
        let incoming = parse(&body_with("group", Some(true.into()))).expect("the body is right");
        assert!(incoming.group);
    }

    #[test]
    fn what_is_wrong_names_the_field() {
        for field in ["id", "conversation", "sender", "text"] {
            let missing = parse(&body_with(field, None)).expect_err("a field is missing");
            let empty = parse(&body_with(field, Some("".into()))).expect_err("a field is empty");
            assert!(missing.contains(field) && empty.contains(field), "{missing}; {empty}");
        }
        for field in ["id", "conversation", "sender", "text", "thread", "sender_name", "group"] {
            let mistyped = parse(&body_with(field, Some(7.into()))).expect_err("a field is a number");
            assert!(mistyped.contains(&format!("`{field}`")), "{mistyped}");
        }
        for field in ["id", "conversation", "sender", "thread", "sender_name"] {
            let longest = "x".repeat(NAME_BYTES_MAX);
            assert!(parse(&body_with(field, Some(longest.clone().into()))).is_ok());
            let too_long = parse(&body_with(field, Some((longest + "x").into()))).expect_err("a field is too long");
            assert!(too_long.contains(field), "{too_long}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for body in [
            &b""[..],
            b"hi",
            b"[]",
            b"{",
            b"\xff",
            br#"{"id":7,"conversation":"c","sender":"s","text":"t"}"#,
        ] {
            assert!(parse(body).is_err(), "{body:?} was taken");
        }
    }

    #[test]
    fn a_signature_is_lower_case_hexadecimal_after_its_prefix() {
        assert_eq!(signature(&[0x00, 0xab, 0x0f]), "sha256=00ab0f");
    }
}
