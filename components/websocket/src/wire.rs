//! The JSON frames that clients and the gateway exchange, one object each.

use serde::{Deserialize, Serialize};

/// The longest id that a client may give a message, bytes: it becomes part of a key in the inbox.
pub(crate) const ID_BYTES_MAX: usize = 256;
/// The longest name of a conversation or thread, bytes: it becomes part of keys in the state.
pub(crate) const CONVERSATION_BYTES_MAX: usize = 256;
/// The longest text, bytes: what a person or a program may want to paste, far below what a turn can't hold.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest delivery key that a client may acknowledge, bytes; the gateway's own are much shorter.
pub(crate) const KEY_BYTES_MAX: usize = 256;

/// What a client sends.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Incoming {
    /// Something for the agent; attaches the client to the conversation as well.
    Message {
        /// The client's own id, unique within the conversation: a repeated one changes nothing.
        id: String,
        conversation: String,
        thread: Option<String>,
        text: String,
    },
    /// From now on this client gets the conversation's replies.
    Attach {
        conversation: String,
        /// Whether the client confirms each reply.
        #[serde(default)]
        acks: bool,
    },
    /// The client has the reply for good.
    Ack { delivery_key: String },
}

/// What a client gets.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Outgoing<'a> {
    /// The message is durable.
    Accepted { id: &'a str },
    /// Replies to the conversation come to this client.
    Attached { conversation: &'a str },
    /// An answer; a copy of one carries the same key.
    Reply(Answer<'a>),
    /// An answer that still grows: it takes the place of the one with the same key.
    Draft(Answer<'a>),
    /// An answer is being made.
    Typing {
        conversation: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread: Option<&'a str>,
    },
    /// A frame was not taken; the connection stays.
    Error {
        id: Option<&'a str>,
        code: Code,
        message: &'a str,
    },
}

/// What a reply and its drafts carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Answer<'a> {
    pub(crate) conversation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<&'a str>,
    /// The id of the message that it answers, as the client gave it.
    pub(crate) in_reply_to: Option<&'a str>,
    pub(crate) delivery_key: &'a str,
    pub(crate) text: &'a str,
}

/// Why a frame was not taken, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    /// Not a JSON object in UTF-8.
    Malformed,
    /// No such `type`.
    UnknownType,
    /// A field is missing, empty, too long or of another type.
    Invalid,
    /// This client may not talk to the agent, or as much as may wait in its conversation does.
    Refused,
    /// Too many messages: later again.
    Busy,
    /// The gateway is being shut down.
    ShuttingDown,
    /// The gateway could not keep what it must keep; later again.
    Unavailable,
}

/// Why a frame was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The message's id, where it is known.
    pub(crate) id: Option<String>,
    pub(crate) code: Code,
    /// For people.
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            id: None,
            code,
            message: message.into(),
        }
    }

    pub(crate) fn about(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Returns the error frame.
    pub(crate) fn frame(&self) -> String {
        Outgoing::Error {
            id: self.id.as_deref(),
            code: self.code,
            message: &self.message,
        }
        .frame()
    }
}

impl Outgoing<'_> {
    /// Returns the frame: one JSON object.
    pub(crate) fn frame(&self) -> String {
        // Strings and string keys only, which always can be written as JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Reads a client's frame and checks its fields.
pub(crate) fn parse(frame: &str) -> Result<Incoming, Fault> {
    let value: serde_json::Value =
        serde_json::from_str(frame).map_err(|error| Fault::new(Code::Malformed, format!("not JSON: {error}")))?;
    let Some(object) = value.as_object() else {
        return Err(Fault::new(Code::Malformed, "a frame is a JSON object"));
    };
    // An id that is too long is not sent back: an error frame has the bounds of any other.
    let id = object
        .get("id")
        .and_then(|id| id.as_str())
        .filter(|id| id.len() <= ID_BYTES_MAX)
        .map(str::to_owned);
    let kind = object.get("type").and_then(|kind| kind.as_str());
    let fault = match kind {
        Some("message" | "attach" | "ack") => match Incoming::deserialize(&value) {
            Ok(incoming) => match check(&incoming) {
                Ok(()) => return Ok(incoming),
                Err(fault) => fault,
            },
            Err(error) => Fault::new(Code::Invalid, mistyped(object).unwrap_or_else(|| error.to_string())),
        },
        Some(_) => Fault::new(Code::UnknownType, "`type` is one of message, attach, ack"),
        None => Fault::new(Code::Invalid, "the field `type` is missing, or no text"),
    };
    Err(Fault { id, ..fault })
}

/// Says which field is of another type than it must be; reading the frame as a whole tells the types alone.
fn mistyped(object: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let texts = ["id", "conversation", "thread", "text", "delivery_key"];
    let is_wrong = |field: &&str| object.get(*field).is_some_and(|value| !value.is_string());
    let text = texts
        .iter()
        .find(|field| is_wrong(field))
        .map(|field| format!("`{field}` is no text"));
    text.or_else(|| {
        let acks = object.get("acks")?;
        (!acks.is_boolean()).then(|| "`acks` is true or false".to_owned())
    })
}

fn check(incoming: &Incoming) -> Result<(), Fault> {
    match incoming {
        Incoming::Message {
            id,
            conversation,
            thread,
            text,
        } => {
            bound("id", id, ID_BYTES_MAX)?;
            bound("conversation", conversation, CONVERSATION_BYTES_MAX)?;
            thread
                .as_ref()
                .map_or(Ok(()), |thread| bound("thread", thread, CONVERSATION_BYTES_MAX))?;
            bound("text", text, TEXT_BYTES_MAX)
        }
        Incoming::Attach { conversation, .. } => bound("conversation", conversation, CONVERSATION_BYTES_MAX),
        Incoming::Ack { delivery_key } => bound("delivery_key", delivery_key, KEY_BYTES_MAX),
    }
}

fn bound(field: &str, value: &str, bytes_max: usize) -> Result<(), Fault> {
    match value.len() {
        0 => Err(Fault::new(Code::Invalid, format!("`{field}` is empty"))),
        length if length > bytes_max => Err(Fault::new(
            Code::Invalid,
            format!("`{field}` has more than {bytes_max} bytes"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(frame: &str) -> (Code, Option<String>) {
        let fault = parse(frame).expect_err("the frame is wrong");
        (fault.code, fault.id)
    }

    #[test]
    fn the_fixed_forms_are_read() {
        let message = parse(r#"{"type":"message","id":"m1","conversation":"c1","text":"hi"}"#);
        let (id, conversation, text) = ("m1".to_owned(), "c1".to_owned(), "hi".to_owned());
        assert_eq!(
            message,
            Ok(Incoming::Message {
                id,
                conversation: conversation.clone(),
                thread: None,
                text
            })
        );
        let attach = parse(r#"{"type":"attach","conversation":"c1"}"#);
        assert_eq!(
            attach,
            Ok(Incoming::Attach {
                conversation: conversation.clone(),
                acks: false
            })
        );
        let attach = parse(r#"{"type":"attach","conversation":"c1","acks":true}"#);
        assert_eq!(
            attach,
            Ok(Incoming::Attach {
                conversation,
                acks: true
            })
        );
        let ack = parse(r#"{"type":"ack","delivery_key":"dlv_1"}"#);
        assert_eq!(
            ack,
            Ok(Incoming::Ack {
                delivery_key: "dlv_1".to_owned()
            })
        );
    }

    #[test]
    fn the_fixed_forms_are_written() {
        assert_eq!(
            Outgoing::Accepted { id: "m1" }.frame(),
            r#"{"type":"accepted","id":"m1"}"#
        );
        assert_eq!(
            Outgoing::Attached { conversation: "c1" }.frame(),
            r#"{"type":"attached","conversation":"c1"}"#
        );
        let answer = Answer {
            conversation: "c1",
            thread: None,
            in_reply_to: Some("m1"),
            delivery_key: "dlv_1",
            text: "hi",
        };
        assert_eq!(
            Outgoing::Reply(answer).frame(),
            r#"{"type":"reply","conversation":"c1","in_reply_to":"m1","delivery_key":"dlv_1","text":"hi"}"#
        );
        assert_eq!(
            Fault::new(Code::ShuttingDown, "later").frame(),
            r#"{"type":"error","id":null,"code":"shutting-down","message":"later"}"#
        );
    }

    #[test]
    fn each_wrong_frame_has_its_code_and_the_id_where_it_is_known() {
        let known = Some("m1".to_owned());
        assert_eq!(code("hello"), (Code::Malformed, None));
        assert_eq!(code("[1]"), (Code::Malformed, None));
        assert_eq!(code(r#"{"id":"m1"}"#), (Code::Invalid, known.clone()));
        assert_eq!(
            code(r#"{"type":"shout","id":"m1"}"#),
            (Code::UnknownType, known.clone())
        );
        assert_eq!(
            code(r#"{"type":"message","id":"m1","text":"hi"}"#),
            (Code::Invalid, known.clone())
        );
        assert_eq!(
            code(r#"{"type":"message","id":"m1","conversation":"","text":"hi"}"#),
            (Code::Invalid, known)
        );
        assert_eq!(
            code(r#"{"type":"message","id":1,"conversation":"c","text":"hi"}"#),
            (Code::Invalid, None)
        );
    }

    #[test]
    fn a_field_of_another_type_is_named() {
        let words = |frame: &str| parse(frame).expect_err("the frame is wrong").message;
        let text = r#"{"type":"message","id":"m1","conversation":"c","text":null}"#;
        assert_eq!(words(text), "`text` is no text");
        let thread = r#"{"type":"message","id":"m1","conversation":"c","thread":7,"text":"hi"}"#;
        assert_eq!(words(thread), "`thread` is no text");
        let acks = r#"{"type":"attach","conversation":"c","acks":"yes"}"#;
        assert_eq!(words(acks), "`acks` is true or false");
        assert_eq!(words(r#"{"type":"attach"}"#), "missing field `conversation`");
    }

    #[test]
    fn a_bound_is_inclusive() {
        let frame = |id: usize, conversation: usize, text: usize| {
            let (id, conversation, text) = ("i".repeat(id), "c".repeat(conversation), "t".repeat(text));
            serde_json::json!({"type": "message", "id": id, "conversation": conversation, "text": text}).to_string()
        };
        let (id, conversation, text) = (ID_BYTES_MAX, CONVERSATION_BYTES_MAX, TEXT_BYTES_MAX);
        assert!(parse(&frame(id, conversation, text)).is_ok());
        assert_eq!(code(&frame(id + 1, conversation, text)), (Code::Invalid, None));
        assert_eq!(code(&frame(id, conversation + 1, text)).0, Code::Invalid);
        assert_eq!(code(&frame(id, conversation, text + 1)).0, Code::Invalid);
    }
}
