//! Between messages and files. Pure.
//!
//! Nothing here depends on the attempt: the same message gives the same names and bytes, so that a retry finds its file
//! there and writes no second one.

use std::str::FromStr;

use sluicegate_sdk::document::Document;
use sluicegate_sdk::{Action, AttachmentSource, DeliveryError, OutboundMessage, serde_json, text};

use crate::wire::File;

/// The default form.
pub(crate) const JSON: &str = "json";
/// Of an attachment's own name, bytes: the gateway takes 200 for the whole name, and the key is before it.
const NAME_BYTES_MAX: usize = 120;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The gateway's own JSON.
    Json,
    /// The text as it is.
    Markdown,
}

impl FromStr for Form {
    type Err = DeliveryError;

    fn from_str(text: &str) -> Result<Self, DeliveryError> {
        match text {
            JSON => Ok(Self::Json),
            "markdown" => Ok(Self::Markdown),
            // Not the message's fault: it waits until the setting is mended.
            other => Err(DeliveryError::Unavailable(format!(
                "the setting `format` is {other:?}: write \"json\" or \"markdown\""
            ))),
        }
    }
}

impl Form {
    /// Returns the name of a message's file.
    pub(crate) fn name(self, message: &OutboundMessage) -> String {
        let extension = match self {
            Self::Json => "json",
            Self::Markdown => "md",
        };
        format!("{}.{extension}", message.delivery_key)
    }

    /// Returns what stands in a message's file.
    ///
    /// # Errors
    /// What can't be said in this form.
    pub(crate) fn written(self, message: &OutboundMessage, files: Vec<File>) -> Result<Vec<u8>, DeliveryError> {
        match self {
            Self::Json => serde_json::to_vec(&Document::of(message, files))
                .map_err(|error| DeliveryError::Rejected(format!("the message can't be written as JSON: {error}"))),
            Self::Markdown if message.action == Action::Send => Ok(page(message, &files).into_bytes()),
            Self::Markdown => Err(DeliveryError::Rejected(
                "a page for people can't be changed: write `format = \"json\"`".to_owned(),
            )),
        }
    }
}

/// Writes a message as CommonMark, with links to its files below.
fn page(message: &OutboundMessage, files: &[File]) -> String {
    let mut page = text::with_numbered(&message.text, &message.choices);
    page.push('\n');
    for file in files {
        // In angle brackets a target may hold blanks and parentheses; `<`, `>` and line ends it may not.
        let target = file.url.as_deref().unwrap_or(&file.name);
        let target: String = target
            .chars()
            .filter(|c| !matches!(c, '<' | '>' | '\n' | '\r'))
            .collect();
        let label = file.name.replace(['[', ']', '\\'], "_");
        page.push_str(&format!("\n- [{label}](<{target}>)"));
    }
    if !files.is_empty() {
        page.push('\n');
    }
    page
}

/// Returns the attachments under the names that they get: those of two messages never meet.
pub(crate) fn files(message: &OutboundMessage) -> Vec<File> {
    let numbered = (1..).zip(&message.attachments);
    numbered
        .map(|(number, attachment)| {
            let own = plain(attachment.name.as_deref().unwrap_or_default());
            let (name, url) = match &attachment.source {
                AttachmentSource::Blob(_) => (format!("{}-{number}-{own}", message.delivery_key), None),
                AttachmentSource::Url(url) => (own, Some(url.clone())),
            };
            File {
                name,
                media_type: attachment.media_type.clone(),
                url,
            }
        })
        .collect()
}

/// Makes what somebody called a file into the end of a name that any folder takes: its ending stays.
fn plain(name: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let plain: String = name.chars().map(|c| if kept(c) { c } else { '_' }).collect();
    let plain = plain.trim_matches(|c: char| matches!(c, '.' | ' '));
    let from = plain.len().saturating_sub(NAME_BYTES_MAX);
    match &plain[plain.ceil_char_boundary(from)..] {
        "" => "file".to_owned(),
        end => end.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Attachment, Choice, Conversation};

    use super::*;

    fn message(attachments: Vec<Attachment>) -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 2,
            conversation: Conversation::direct("../etc"),
            in_reply_to: None,
            text: "Sure?".to_owned(),
            attachments,
            choices: vec![Choice {
                id: "y".to_owned(),
                label: "Yes".to_owned(),
            }],
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        }
    }

    fn attached(name: &str, source: AttachmentSource) -> Attachment {
        Attachment {
            name: Some(name.to_owned()),
            media_type: "text/plain".to_owned(),
            source,
        }
    }

    #[test]
    fn every_attempt_writes_the_same_bytes_under_the_same_name() {
        let (first, again) = (
            message(Vec::new()),
            OutboundMessage {
                attempt: 3,
                ..message(Vec::new())
            },
        );
        for form in [Form::Json, Form::Markdown] {
            assert_eq!(form.name(&first), form.name(&again));
            assert_eq!(form.written(&first, Vec::new()), form.written(&again, Vec::new()));
        }
        let json = Form::Json.written(&first, Vec::new()).expect("JSON");
        assert_eq!(
            String::from_utf8_lossy(&json),
            r#"{"type":"message.sent","delivery_key":"dlv_1","conversation":"../etc","text":"Sure?\n\n1. Yes"}"#
        );
    }

    #[test]
    fn an_attachment_can_not_choose_where_it_goes() {
        let blob = |name| attached(name, AttachmentSource::Blob("b".to_owned()));
        let long = format!("{}.pdf", "ä".repeat(300));
        let names = [
            ("../../etc/passwd", "dlv_1-1-_.._etc_passwd"),
            ("report 1.pdf", "dlv_1-1-report 1.pdf"),
            ("a\nb\u{202e}.txt", "dlv_1-1-a_b_.txt"),
            ("..", "dlv_1-1-file"),
            ("", "dlv_1-1-file"),
        ];
        for (name, expected) in names {
            assert_eq!(files(&message(vec![blob(name)]))[0].name, expected, "{name:?}");
        }
        let name = files(&message(vec![blob(&long)]))[0].name.clone();
        assert!(name.len() <= 130 && name.ends_with(".pdf"), "{name}");
    }

    #[test]
    fn a_page_links_its_files_and_can_not_be_changed() {
        let url = AttachmentSource::Url("https://x.example/a>b".to_owned());
        let message = message(vec![
            attached("a].txt", AttachmentSource::Blob("b".to_owned())),
            attached("l", url),
        ]);
        let page = Form::Markdown.written(&message, files(&message)).expect("a page");
        assert_eq!(
            String::from_utf8_lossy(&page),
            "Sure?\n\n1. Yes\n\n- [dlv_1-1-a_.txt](<dlv_1-1-a_.txt>)\n- [l](<https://x.example/ab>)\n"
        );
        let edit = OutboundMessage {
            action: Action::Edit("m".to_owned()),
            ..message
        };
        assert!(matches!(
            Form::Markdown.written(&edit, Vec::new()),
            Err(DeliveryError::Rejected(_))
        ));
        assert!(matches!("yaml".parse::<Form>(), Err(DeliveryError::Unavailable(_))));
    }
}
