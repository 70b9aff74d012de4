//! The folder's row, against a real folder and who reads it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use harness::Setup;
use serde_json::Value;
use tempfile::TempDir;

use crate::cases::{Case, MARKDOWN};
use crate::platform::{File, MessageId, Platform, Room, Shown, Skipped, sends_only};

struct Folder {
    folder: TempDir,
    next: AtomicUsize,
}

/// Makes the folder.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    Ok(Box::new(Folder {
        folder: tempfile::tempdir().expect("a temporary folder"),
        next: AtomicUsize::new(1),
    }))
}

/// Reads a message as a program does that looks into the folder at any moment.
fn message(path: &Path) -> Value {
    let bytes = std::fs::read(path).expect("what is listed can be read");
    serde_json::from_slice(&bytes).expect("a file that is there is whole")
}

impl Folder {
    fn new_room(&self, thread: Option<&str>) -> Room {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Room {
            conversation: format!("../place/{n}"),
            thread: thread.map(|thread| format!("{thread}{n}")),
        }
    }

    /// Returns the messages in the folder, in the order that they came in.
    fn messages(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_message = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
        let mut paths: Vec<PathBuf> = paths.filter(is_message).collect();
        paths.sort_by_key(|path| path.metadata().and_then(|found| found.modified()).ok());
        paths.iter().map(|path| message(path)).collect()
    }

    fn files(&self, message: &Value) -> Vec<File> {
        let files = message["files"].as_array().cloned().unwrap_or_default().into_iter();
        let file = |file: Value| {
            let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
            // Before it stand the message's key and a number.
            let own = text("name").splitn(3, '-').last().unwrap_or_default().to_owned();
            File {
                name: own,
                media_type: text("media_type"),
                bytes: std::fs::read(self.folder.path().join(text("name")))
                    .expect("files are there before their message"),
            }
        };
        files.map(file).collect()
    }
}

#[async_trait]
impl Platform for Folder {
    fn peer(&self) -> String {
        "a real folder".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        let folder = self.folder.path().display();
        setup.section(&format!(
            "[channels.{channel}]\ncomponent = \"file-drop\"\ngrant = [\"folder:{folder}\"]"
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Long => Some("a file takes the longest message"),
            Case::RateLimited | Case::Unavailable | Case::Unauthorized | Case::Gone => {
                Some("a folder takes files or is out of order; the suite `integration` has it away, full and back")
            }
            case => sends_only(case),
        }
    }

    fn receives(&self) -> bool {
        false
    }

    async fn room(&self) -> Room {
        self.new_room(None)
    }

    async fn thread(&self) -> Room {
        self.new_room(Some("t"))
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let of_room = |message: &Value| {
            message["conversation"] == room.conversation.as_str()
                && message["thread"].as_str() == room.thread.as_deref()
        };
        let messages = self.messages().into_iter().filter(of_room);
        let text = |message: &Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
        messages
            .map(|message| Shown {
                id: MessageId(text(&message, "delivery_key")),
                text: text(&message, "text"),
                source: text(&message, "text"),
                reply_to: None,
                files: self.files(&message),
            })
            .collect()
    }

    fn markdown_source(&self) -> String {
        MARKDOWN.to_owned()
    }
}
