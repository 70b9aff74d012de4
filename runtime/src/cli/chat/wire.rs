//! The JSON frames of `/ws`, as a client sees them.

use serde::{Deserialize, Serialize};

/// What the client sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ToGateway<'a> {
    /// Attaches to a conversation; with `acks` an answer counts as delivered only once it is acknowledged.
    Attach {
        /// The conversation.
        conversation: &'a str,
        /// Whether this client acknowledges.
        acks: bool,
    },
    /// Says something.
    Message {
        /// The same each time it is sent: a copy is dropped.
        id: &'a str,
        /// The conversation.
        conversation: &'a str,
        /// The text.
        text: &'a str,
    },
    /// Acknowledges an answer.
    Ack {
        /// The answer's key.
        delivery_key: &'a str,
    },
}

/// What the gateway sends. Fields that the client does not use are left out; other frames are [`FromGateway::Other`].
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum FromGateway {
    /// A message is durable.
    Accepted {
        /// Its id.
        id: String,
    },
    /// An answer.
    Reply {
        /// The message that it answers.
        #[serde(default)]
        in_reply_to: Option<String>,
        /// The same in every copy.
        delivery_key: String,
        /// The text.
        text: String,
    },
    /// A frame was refused.
    Error {
        /// The message's id, where there is one.
        #[serde(default)]
        id: Option<String>,
        /// Why, for programs.
        code: String,
        /// Why, for people.
        message: String,
    },
    /// Anything else, such as a sign that the agent is at work.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_fixed_forms() {
        let attach = ToGateway::Attach {
            conversation: "c1",
            acks: true,
        };
        assert_eq!(
            serde_json::to_string(&attach).unwrap(),
            r#"{"type":"attach","conversation":"c1","acks":true}"#
        );
        let message = ToGateway::Message {
            id: "m1",
            conversation: "c1",
            text: "hi",
        };
        let expected = r#"{"type":"message","id":"m1","conversation":"c1","text":"hi"}"#;
        assert_eq!(serde_json::to_string(&message).unwrap(), expected);
        let reply = r#"{"type":"reply","conversation":"c1","in_reply_to":"m1","delivery_key":"k","text":"t"}"#;
        let parsed: FromGateway = serde_json::from_str(reply).unwrap();
        let (in_reply_to, delivery_key, text) = (Some("m1".to_owned()), "k".to_owned(), "t".to_owned());
        assert_eq!(
            parsed,
            FromGateway::Reply {
                in_reply_to,
                delivery_key,
                text
            }
        );
        let typing: FromGateway = serde_json::from_str(r#"{"type":"typing","conversation":"c1"}"#).unwrap();
        assert_eq!(typing, FromGateway::Other);
        assert!(serde_json::from_str::<FromGateway>(r#"{"type":"reply"}"#).is_err());
    }
}
