//! `sluicegate send`: a message through a channel of a running gateway.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::args::SendArgs;
use super::channel::with_channel;
use super::failure::{Failure, Kind};
use super::json_text;
use super::running::Running;
use crate::admin::{Outgoing, OutgoingFile, Sent};
use crate::config::Sources;
use crate::limit;

/// The media types of common file names (iana.org/assignments/media-types); everything else is bytes.
const MEDIA_TYPES: [(&str, &str); 12] = [
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("html", "text/html"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("md", "text/markdown"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("txt", "text/plain"),
    ("webp", "image/webp"),
    ("zip", "application/zip"),
];

/// Sends a message, and says by which key it is found.
pub(super) fn send(args: SendArgs, sources: &Sources) -> Result<String, Failure> {
    let gateway = with_channel(Running::require(sources)?, sources, &args.channel)?;
    let text = match args.text.as_deref() {
        Some("-") => from_input()?,
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    let message = Outgoing {
        channel: args.channel,
        conversation: args.conversation,
        thread: args.thread,
        text,
        files: args.file.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
        key: args.key,
    };
    let sent: Sent = gateway.post(&["messages"], Some(json!(message)))?;
    if args.json.json {
        return Ok(json_text(&json!(sent)));
    }
    let key = sent.delivery_key;
    let what = match sent.known {
        true => "was stored before under the key that was given, and nothing more is sent",
        false => "is stored",
    };
    Ok(format!(
        "{key} {what}; `sluicegate trace {key}` shows what becomes of it\n"
    ))
}

fn from_input() -> Result<String, Failure> {
    let mut text = String::new();
    let bounded = std::io::stdin()
        .lock()
        .take(limit::ANSWER_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text);
    bounded.map_err(|error| Failure::plain(format!("standard input can't be read as text: {error}")))?;
    Ok(text)
}

fn read(path: &Path) -> Result<OutgoingFile, Failure> {
    let unreadable = |error: std::io::Error| {
        let message = format!("{} can't be read: {error}", path.display());
        Failure::new(Kind::Failed, message, "name a file that you may read")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let bounded = file
        .take(limit::OPERATOR_SEND_BODY_BYTES_MAX as u64)
        .read_to_end(&mut bytes);
    bounded.map_err(unreadable)?;
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    Ok(OutgoingFile {
        media_type: media_type(&name).to_owned(),
        name,
        base64: STANDARD.encode(bytes),
    })
}

fn media_type(name: &str) -> &'static str {
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    let known = MEDIA_TYPES
        .iter()
        .find(|(known, _)| Some(*known) == extension.as_deref());
    known.map_or("application/octet-stream", |(_, media_type)| media_type)
}

#[cfg(test)]
mod tests {
    use super::media_type;

    #[test]
    fn a_file_is_bytes_unless_its_name_says_more() {
        assert_eq!(media_type("report.PDF"), "application/pdf");
        assert_eq!(media_type("a.tar.zst"), "application/octet-stream");
        assert_eq!(media_type("pdf"), "application/octet-stream");
    }
}
