//! The outgoing webhook's row, against a receiver of our own that checks each signature.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{Act, Delivery, FakePlatform, Setup};

use crate::cases::{Case, MARKDOWN};
use crate::platform::{File, MessageId, Platform, RATE_LIMIT_WAIT, Refusal, Room, Shown, Skipped, sends_only};

const KEY: &str = "a key of the conformance suite";

struct Receiver {
    platform: FakePlatform,
    next: AtomicUsize,
}

/// Starts the receiver.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    Ok(Box::new(Receiver {
        platform: FakePlatform::start().await,
        next: AtomicUsize::new(1),
    }))
}

/// Checks a delivery as the libraries of Standard Webhooks do.
#[track_caller]
fn assert_signed(delivery: &Delivery) {
    let header = |name: &str| delivery.request.header(name).unwrap_or_default().to_owned();
    assert_eq!(header("webhook-id"), delivery.key);
    let mut signed = format!("{}.{}.", delivery.key, header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&delivery.request.body);
    let signature = header("webhook-signature");
    let tag = signature.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok());
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEY.as_bytes());
    let verified = ring::hmac::verify(&key, &signed, &tag.unwrap_or_default());
    assert!(verified.is_ok(), "the signature {signature:?} is wrong");
}

fn files(delivery: &Delivery) -> Vec<File> {
    let files = delivery.body["files"]
        .as_array()
        .cloned()
        .unwrap_or_default()
        .into_iter();
    let text = |file: &serde_json::Value, key: &str| file[key].as_str().unwrap_or_default().to_owned();
    files
        .map(|file| File {
            name: text(&file, "name"),
            media_type: text(&file, "media_type"),
            bytes: STANDARD.decode(text(&file, "base64")).unwrap_or_default(),
        })
        .collect()
}

impl Receiver {
    fn new_room(&self, thread: Option<&str>) -> Room {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Room {
            conversation: format!("place/{n}"),
            thread: thread.map(|thread| format!("{thread}{n}")),
        }
    }

    fn deliveries(&self, room: &Room) -> Vec<Delivery> {
        let all = self.platform.arrived().all().into_iter();
        let of_room = |one: &Delivery| one.body["thread"].as_str() == room.thread.as_deref();
        all.filter(|one| one.conversation == room.conversation && of_room(one))
            .collect()
    }
}

#[async_trait]
impl Platform for Receiver {
    fn peer(&self) -> String {
        "own receiver".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        let (url, grant) = (self.platform.url(), self.platform.endpoint());
        setup.env("SIGNING_KEY", KEY).section(&format!(
            "[channels.{channel}]\ncomponent = \"webhook-out\"\naccess = \"open\"\ngrant = [\"{grant}\"]\n\
             settings = {{ url = \"{url}\" }}\nsecrets = {{ signing-key = {{ env = \"SIGNING_KEY\" }} }}"
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Long => Some("one call takes the longest message"),
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
        let taken = self.deliveries(room).into_iter().filter(|one| one.accepted);
        taken
            .map(|one| {
                assert_signed(&one);
                Shown {
                    files: files(&one),
                    id: MessageId(one.key),
                    source: one.text.clone(),
                    text: one.text,
                    reply_to: None,
                }
            })
            .collect()
    }

    async fn attempts(&self, room: &Room) -> Vec<Instant> {
        self.deliveries(room).iter().map(|one| one.at).collect()
    }

    fn markdown_source(&self) -> String {
        MARKDOWN.to_owned()
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        let act = match refusal {
            Refusal::RateLimited => Act::RefuseFor(RATE_LIMIT_WAIT.as_secs()),
            Refusal::Unavailable => Act::Refuse(503),
            Refusal::Unauthorized => Act::Refuse(401),
            Refusal::Gone => Act::Refuse(410),
        };
        self.platform.next(&room.conversation, [act]);
    }
}
