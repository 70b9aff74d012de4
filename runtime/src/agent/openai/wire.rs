//! The words of a chat-completions server: what is asked, and what its answers mean. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::{AgentError, Turn};
use crate::limit;
use crate::store::Role;

/// The longest part of a server's own error message that is kept.
const MESSAGE_BYTES_MAX: usize = 300;

/// What is asked.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> Request<'a> {
    /// Asks for the answer to `said`, which follows the turn's history.
    pub(super) fn new(model: &'a str, system: Option<&'a str>, turn: Turn<'a>, said: &'a str) -> Self {
        let system = system.map(|content| Message {
            role: "system",
            content,
        });
        let history = turn.history.iter().map(|entry| Message {
            role: role_name(entry.role),
            content: &entry.text,
        });
        let said = Message {
            role: "user",
            content: said,
        };
        Self {
            model,
            messages: system.into_iter().chain(history).chain([said]).collect(),
            stream: true,
        }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

/// One piece of a streamed answer, or a whole one: servers use the same shape with `delta` or `message`.
#[derive(Debug, Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default, alias = "message")]
    delta: Option<Piece>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Piece {
    #[serde(default)]
    content: Option<Content>,
    /// Comes in the place of the content where the model declines.
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

/// An answer that is being put together from its pieces.
#[derive(Debug, Default)]
pub(super) struct Answer {
    text: String,
    /// How the server said that this is all.
    end: Option<End>,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With the mark at the end of the stream alone.
    Marked,
    /// With the reason for which the model stopped.
    Reason(String),
}

/// Reasons for which a model stops that are no decision to say nothing.
const NO_CHOICE_OF_THE_MODEL: [&str; 4] = ["length", "tool_calls", "function_call", "content_filter"];

impl Answer {
    /// Takes the data of one event. Returns whether the answer grew.
    ///
    /// # Errors
    /// When the server reports an error in the middle, or sends something that is no completion.
    pub(super) fn take(&mut self, data: &str) -> Result<bool, AgentError> {
        if data.trim() == "[DONE]" {
            self.end.get_or_insert(End::Marked);
            return Ok(false);
        }
        let completion: Completion = serde_json::from_str(data)
            .map_err(|fault| AgentError::Unreachable(format!("the server sent no chat completion: {fault}")))?;
        if let Some(error) = &completion.error {
            return Err(AgentError::Unreachable(format!(
                "the server broke off: {}",
                message_of(error)
            )));
        }
        let Some(choice) = completion.choices.into_iter().next() else {
            return Ok(false);
        };
        if let Some(reason) = choice.finish_reason {
            self.end = Some(End::Reason(reason));
        }
        let before = self.text.len();
        if let Some(piece) = choice.delta {
            match piece.content {
                Some(Content::Text(text)) => self.text.push_str(&text),
                Some(Content::Parts(parts)) => self.text.extend(parts.into_iter().filter_map(|part| part.text)),
                None => {}
            }
            self.text.push_str(piece.refusal.as_deref().unwrap_or_default());
        }
        Ok(self.text.len() > before)
    }

    /// Returns what has come so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether nothing more is needed: the server is done, or the answer is longer than is ever used.
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some() || self.text.len() > limit::ANSWER_BYTES_MAX
    }

    /// Returns the answer, when it is whole.
    ///
    /// # Errors
    /// When the stream ended before the server said that it was done (half an answer is never taken for a whole one), and
    /// when nothing came that the model chose: it may say nothing, but then it says that it stopped.
    pub(super) fn finish(self) -> Result<String, AgentError> {
        let cut_off = || Err(AgentError::Unreachable("the answer was cut off".to_owned()));
        match self.end {
            None if self.text.len() > limit::ANSWER_BYTES_MAX => Ok(self.text),
            None => cut_off(),
            Some(_) if !self.text.is_empty() => Ok(self.text),
            Some(End::Marked) => cut_off(),
            Some(End::Reason(reason)) if NO_CHOICE_OF_THE_MODEL.contains(&reason.as_str()) => Err(AgentError::Refused(
                format!("the model wrote no answer: it stopped for {reason}"),
            )),
            Some(End::Reason(_)) => Ok(self.text),
        }
    }
}

/// Reads an answer that came as one JSON document.
///
/// # Errors
/// As [`Answer::take`]; also when the document has no choice in it.
pub(super) fn whole_answer(body: &[u8]) -> Result<String, AgentError> {
    let mut answer = Answer::default();
    let body = String::from_utf8_lossy(body);
    answer.take(&body)?;
    if answer.end.is_some() {
        return answer.finish();
    }
    if answer.text.is_empty() {
        return Err(AgentError::Unreachable("the server sent no chat completion".to_owned()));
    }
    // The document is whole by its nature, whether it says why it ended or not.
    Ok(answer.text)
}

/// Says what a status other than success means. `retry_after` is that header's value.
pub(super) fn failure(status: u16, retry_after: Option<&str>, body: &[u8]) -> AgentError {
    let said = serde_json::from_slice::<serde_json::Value>(body)
        .map_or_else(|_| shortened(&String::from_utf8_lossy(body)), |json| message_of(&json));
    let detail = if said.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {said}")
    };
    let after = retry_after.and_then(seconds);
    match status {
        429 => AgentError::RateLimited { after, detail },
        // Overloaded, or starting: some say for how long (RFC 9110, 10.2.3).
        503 | 529 if after.is_some() => AgentError::RateLimited { after, detail },
        // 404 too: it is the model or the address that is not there, and the same message is answered once it is.
        300..=399 | 401..=405 | 407 => AgentError::Misconfigured(detail),
        // A timeout, a conflict or a start that came too early (RFC 9110, 8470) says nothing about the message.
        408 | 409 | 421 | 425 => AgentError::Unreachable(detail),
        400..=499 => AgentError::Refused(detail),
        _ => AgentError::Unreachable(detail),
    }
}

/// Reads the form of `Retry-After` that gives seconds, also with a fraction; a date is left to the schedule.
fn seconds(retry_after: &str) -> Option<Duration> {
    let seconds: f64 = retry_after.trim().parse().ok()?;
    // More than a duration holds is as long as there is, and not no wait at all.
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Finds the words in an error document: `{"error":{"message":…}}`, `{"error":…}`, `{"message":…}` or `{"detail":…}`.
fn message_of(error: &serde_json::Value) -> String {
    let inner = error.get("error").unwrap_or(error);
    let words = ["message", "detail"]
        .iter()
        .find_map(|key| inner.get(key)?.as_str())
        .or_else(|| inner.as_str());
    words.map_or_else(|| shortened(&inner.to_string()), shortened)
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    let cut = &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)];
    cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(events: &[&str]) -> Result<String, AgentError> {
        let mut answer = Answer::default();
        for event in events {
            answer.take(event)?;
        }
        answer.finish()
    }

    #[test]
    fn an_answer_is_whole_when_the_server_says_so() {
        let hello = r#"{"choices":[{"delta":{"role":"assistant","content":"Hel"}}]}"#;
        let lo = r#"{"choices":[{"delta":{"content":"lo"},"finish_reason":null}]}"#;
        let stop = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let usage = r#"{"choices":[],"usage":{"total_tokens":7}}"#;
        assert_eq!(answer(&[hello, lo, "[DONE]"]).unwrap(), "Hello");
        assert_eq!(answer(&[hello, lo, stop, usage]).unwrap(), "Hello");
        assert!(
            matches!(answer(&[hello, lo]), Err(AgentError::Unreachable(_))),
            "half an answer is none"
        );
        assert!(matches!(answer(&[]), Err(AgentError::Unreachable(_))));
    }

    #[test]
    fn a_model_may_say_nothing_but_not_for_a_reason_that_is_none_of_its_own() {
        let ended = |reason: &str| format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"{reason}"}}]}}"#);
        assert_eq!(answer(&[&ended("stop")]).unwrap(), "");
        assert_eq!(answer(&[&ended("eos")]).unwrap(), "");
        for reason in NO_CHOICE_OF_THE_MODEL {
            let empty = answer(&[&ended(reason)]);
            assert!(matches!(empty, Err(AgentError::Refused(_))), "{reason}: {empty:?}");
            let begun = r#"{"choices":[{"delta":{"content":"so far"}}]}"#;
            assert_eq!(answer(&[begun, &ended(reason)]).unwrap(), "so far");
        }
        assert!(matches!(answer(&["[DONE]"]), Err(AgentError::Unreachable(_))));
        let declined = r#"{"choices":[{"delta":{"content":null,"refusal":"I would rather not"}}]}"#;
        assert_eq!(answer(&[declined, &ended("stop")]).unwrap(), "I would rather not");
    }

    #[test]
    fn an_error_or_rubbish_in_the_middle_is_a_failure_to_try_again() {
        for event in [
            r#"{"error":{"message":"overloaded"}}"#,
            "rubbish",
            "7",
            "{\"choices\":7}",
        ] {
            let failed = answer(&[r#"{"choices":[{"delta":{"content":"Hel"}}]}"#, event, "[DONE]"]);
            assert!(matches!(failed, Err(AgentError::Unreachable(_))), "{event}: {failed:?}");
        }
    }

    #[test]
    fn an_answer_that_is_too_long_needs_no_end() {
        let long = "x".repeat(limit::ANSWER_BYTES_MAX + 1);
        let mut answer = Answer::default();
        assert!(
            answer
                .take(&format!(r#"{{"choices":[{{"delta":{{"content":"{long}"}}}}]}}"#))
                .unwrap()
        );
        assert!(answer.is_done());
    }

    #[test]
    fn a_whole_document_is_an_answer_too() {
        let whole = |body: &str| whole_answer(body.as_bytes());
        assert_eq!(
            whole(r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#).unwrap(),
            "hi"
        );
        assert_eq!(
            whole(r#"{"choices":[{"message":{"content":[{"type":"text","text":"hi"}]}}]}"#).unwrap(),
            "hi"
        );
        assert_eq!(
            whole(r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#).unwrap(),
            ""
        );
        assert!(whole("{}").is_err());
        assert!(whole("<html>").is_err());
    }

    #[test]
    fn each_status_has_its_disposition() {
        use crate::agent::Disposition::{GiveUp, Misconfigured, Retry, RetryAfter};
        let rows = [
            (302, Misconfigured),
            (400, GiveUp),
            (401, Misconfigured),
            (402, Misconfigured),
            (403, Misconfigured),
            (404, Misconfigured),
            (408, Retry),
            (413, GiveUp),
            (422, GiveUp),
            (500, Retry),
            (503, Retry),
            (529, Retry),
        ];
        for (status, expected) in rows {
            assert_eq!(failure(status, None, b"").disposition(), expected, "{status}");
        }
        for (header, expected) in [
            ("7", RetryAfter(Duration::from_secs(7))),
            (" 1.5 ", RetryAfter(Duration::from_millis(1500))),
            ("-1", Retry),
            ("NaN", Retry),
            ("99999999999999999999", RetryAfter(Duration::MAX)),
            ("inf", RetryAfter(Duration::MAX)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Retry),
        ] {
            for status in [429, 503, 529] {
                assert_eq!(
                    failure(status, Some(header), b"").disposition(),
                    expected,
                    "{status}, {header}"
                );
            }
        }
        assert_eq!(failure(500, Some("7"), b"").disposition(), Retry);
    }

    #[test]
    fn the_servers_words_are_found_shortened_and_made_plain() {
        let said = |body: &str| failure(500, None, body.as_bytes()).to_string();
        assert_eq!(
            said(r#"{"error":{"message":"no such model"}}"#),
            "not reached: HTTP 500: no such model"
        );
        assert_eq!(
            said(r#"{"error":"no such model"}"#),
            "not reached: HTTP 500: no such model"
        );
        assert_eq!(said(r#"{"detail":"nope"}"#), "not reached: HTTP 500: nope");
        assert_eq!(said("a\nb\u{1b}[1m"), "not reached: HTTP 500: a b [1m");
        assert_eq!(said(""), "not reached: HTTP 500");
        assert!(said(&"é".repeat(1000)).len() < 400);
    }
}
