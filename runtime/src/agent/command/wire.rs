//! The lines that go to a program and come from it. Pure.

use serde::{Deserialize, Serialize};

use crate::agent::{AgentError, Turn};
use crate::event::Attachment;
use crate::limit;
use crate::store::{HistoryEntry, Role};

#[derive(Serialize)]
struct Question<'a> {
    event: &'a str,
    channel: &'a str,
    session: &'a str,
    conversation: &'a str,
    thread: Option<&'a str>,
    sender: &'a str,
    sender_name: Option<&'a str>,
    text: &'a str,
    attachments: &'a [Attachment],
    history: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    role: &'static str,
    text: &'a str,
}

impl<'a> From<&'a HistoryEntry> for Line<'a> {
    fn from(entry: &'a HistoryEntry) -> Self {
        let role = match entry.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        Self {
            role,
            text: &entry.text,
        }
    }
}

/// Writes a turn as one line, with its end.
pub(super) fn question(turn: Turn<'_>) -> Result<Vec<u8>, AgentError> {
    let (event, message) = (turn.event, &turn.event.message);
    let question = Question {
        event: event.id.as_str(),
        channel: event.channel.as_str(),
        session: event.session.as_str(),
        conversation: &message.conversation.id,
        thread: message.conversation.thread.as_deref(),
        sender: &message.sender.id,
        sender_name: message.sender.name.as_deref(),
        text: message
            .value
            .as_ref()
            .filter(|_| message.text.is_empty())
            .unwrap_or(&message.text),
        attachments: &message.attachments,
        history: turn.history.iter().map(Line::from).collect(),
    };
    let mut line = serde_json::to_vec(&question)
        .map_err(|fault| AgentError::Refused(format!("the message can't be written as JSON: {fault}")))?;
    line.push(b'\n');
    Ok(line)
}

/// One line of a program.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Text {
        text: String,
    },
    Delta {
        delta: String,
    },
    Error {
        error: String,
        #[serde(default)]
        retry: bool,
    },
}

/// What a program has said so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    text: String,
    /// Whether it said anything at all.
    spoke: bool,
    /// Whether it gave a whole answer, which holds whatever its exit status.
    whole: bool,
}

impl Output {
    /// Takes one line. Returns whether the answer grew.
    ///
    /// # Errors
    /// When the line reports an error, or is none of ours.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<bool, AgentError> {
        let said = serde_json::from_slice(line).map_err(|_| {
            AgentError::Misconfigured(
                "the program wrote a line that is no JSON object with \"text\", \"delta\" or \"error\"".to_owned(),
            )
        })?;
        match said {
            Said::Text { text } => (self.text, self.whole) = (text, true),
            // What comes after the whole answer is not a part of it.
            Said::Delta { .. } if self.whole => return Ok(false),
            Said::Delta { delta } => self.text.push_str(&delta),
            Said::Error { error, retry: true } => return Err(AgentError::Unreachable(error)),
            Said::Error { error, retry: false } => return Err(AgentError::Refused(error)),
        }
        self.spoke = true;
        if self.text.len() > limit::COMMAND_OUTPUT_BYTES_MAX {
            return Err(AgentError::Refused("the program writes too much".to_owned()));
        }
        Ok(!self.whole)
    }

    /// Returns what there is of the answer.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether a whole answer came, after which nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Returns the answer, when it is whole.
    ///
    /// # Errors
    /// When the program said nothing, or failed in the middle.
    pub(super) fn finish(self, succeeded: bool) -> Result<String, AgentError> {
        if self.whole || (self.spoke && succeeded) {
            return Ok(self.text);
        }
        let why = if succeeded {
            "the program ended without an answer"
        } else {
            "the program failed"
        };
        Err(AgentError::Unreachable(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str], succeeded: bool) -> Result<String, AgentError> {
        let mut output = Output::default();
        for line in lines {
            output.take(line.as_bytes())?;
        }
        output.finish(succeeded)
    }

    #[test]
    fn an_answer_is_a_text_or_all_deltas_of_a_run_that_succeeded() {
        let hel = r#"{"delta":"hel"}"#;
        let lo = r#"{"delta":"lo"}"#;
        let bye = r#"{"text":"bye"}"#;
        assert_eq!(said(&[hel, lo], true).unwrap(), "hello");
        assert_eq!(said(&[hel, bye, lo], true).unwrap(), "bye");
        assert_eq!(said(&[bye], false).unwrap(), "bye");
        assert_eq!(said(&[r#"{"text":""}"#], true).unwrap(), "");
        assert!(
            matches!(said(&[hel, lo], false), Err(AgentError::Unreachable(_))),
            "half an answer is none"
        );
        assert!(matches!(said(&[], true), Err(AgentError::Unreachable(_))));
    }

    #[test]
    fn a_program_says_whether_another_run_may_help() {
        assert!(matches!(
            said(&[r#"{"error":"busy","retry":true}"#], true),
            Err(AgentError::Unreachable(_))
        ));
        assert!(matches!(
            said(&[r#"{"error":"no","retry":false}"#], true),
            Err(AgentError::Refused(_))
        ));
        assert!(matches!(
            said(&[r#"{"error":"no"}"#], true),
            Err(AgentError::Refused(_))
        ));
    }

    #[test]
    fn a_line_that_is_none_of_ours_is_the_operators_to_correct() {
        for line in ["hello", "{}", "[]", r#"{"text":7}"#, "\u{fffd}"] {
            assert!(
                matches!(said(&[line], true), Err(AgentError::Misconfigured(_))),
                "{line}"
            );
        }
    }
}
