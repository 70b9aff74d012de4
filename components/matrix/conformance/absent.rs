//! What the table has no row for: a long absence, rooms that can't be read, and rooms that can't be joined.

use harness::{Setup, TestGateway};
use serde_json::{Value, json};

use super::people::Seen;
use super::{Matrix, PERSON, escaped};
use crate::platform::{Platform as _, Room};

/// More than one sync shows of a room, and than the first page behind it.
const MESSAGES_MISSED: usize = 160;
/// What the bot says before it leaves a room that it can't read.
const FAREWELL: &str = "This room is encrypted, and I can't read encrypted messages, so I leave.";

#[tokio::test]
async fn a_long_absence_is_made_up_for_and_a_room_that_is_no_use_is_left_with_a_word() {
    let matrix = match Matrix::start().await {
        Ok(matrix) => matrix,
        Err(skipped) => return skipped.say("matrix, long absences and encrypted rooms"),
    };
    let setup = matrix.configure(Setup::new().echo(), "family");
    let mut gateway = setup.start().await;
    matrix.gate.wait_for_listening().await;
    encrypted_rooms_are_left(&matrix).await;
    what_only_looks_encrypted_is_passed_over(&matrix).await;
    a_room_that_can_not_be_joined_holds_nothing_up(&matrix).await;
    a_gap_is_read(&matrix, &mut gateway).await;
}

/// A room that was encrypted from the beginning, and one that was encrypted later.
async fn encrypted_rooms_are_left(matrix: &Matrix) {
    let made = matrix
        .people
        .ask(json!({"do": "room", "who": PERSON, "invite": [matrix.accounts.bot], "encrypted": true}))
        .await;
    let secret = Room {
        conversation: super::text(&made["room"]),
        thread: None,
    };
    has_left_with_a_word(matrix, &secret).await;
    let later = matrix.room().await;
    matrix.say(&later, "hello").await;
    answers(matrix, &later, 1).await;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.encryption/",
        escaped(&later.conversation)
    );
    let algorithm = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    matrix
        .people
        .ask(json!({"do": "call", "method": "PUT", "path": path, "body": algorithm, "who": PERSON}))
        .await;
    has_left_with_a_word(matrix, &later).await;
}

/// Anyone may send such an event into a room that is not encrypted.
async fn what_only_looks_encrypted_is_passed_over(matrix: &Matrix) {
    let room = matrix.room().await;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/send/m.room.encrypted/only-looks-so",
        escaped(&room.conversation)
    );
    let content = json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "s"});
    matrix
        .people
        .ask(json!({"do": "call", "method": "PUT", "path": path, "body": content, "who": PERSON}))
        .await;
    matrix.say(&room, "in the clear").await;
    assert_eq!(answers(matrix, &room, 1).await, ["in the clear"]);
}

/// An invitation to a room whose own server is gone.
async fn a_room_that_can_not_be_joined_holds_nothing_up(matrix: &Matrix) {
    let made = matrix
        .people
        .ask(json!({"do": "room", "who": PERSON, "invite": []}))
        .await;
    let gone = super::text(&made["room"]);
    matrix.gate.refuse_joins(&gone);
    let invitation = json!({"do": "invite", "who": PERSON, "room": gone, "user": matrix.accounts.bot});
    matrix.people.ask(invitation).await;
    let room = matrix.room().await;
    matrix.say(&room, "hello").await;
    assert_eq!(answers(matrix, &room, 1).await, ["hello"]);
}

async fn has_left_with_a_word(matrix: &Matrix, room: &Room) {
    let bot = matrix.accounts.bot.as_str();
    let of_bot = |seen: &Seen, is_it: &dyn Fn(&Value) -> bool| {
        let mut events = seen.events.iter();
        let found = |(of, event): &(String, Value)| *of == room.conversation && event["sender"] == bot && is_it(event);
        events.any(found).then_some(())
    };
    let says_so = |event: &Value| {
        let body = event["content"]["body"].as_str().unwrap_or_default();
        event["content"]["msgtype"] == "m.notice" && body.starts_with(FAREWELL)
    };
    matrix
        .people
        .wait_for("the bot says why it leaves", |seen| of_bot(seen, &says_so))
        .await;
    let leaves = |event: &Value| event["state_key"] == bot && event["content"]["membership"] == "leave";
    matrix
        .people
        .wait_for("the bot leaves", |seen| of_bot(seen, &leaves))
        .await;
}

/// So much is said while nobody listens that the sync shows the end of it only.
async fn a_gap_is_read(matrix: &Matrix, gateway: &mut TestGateway) {
    let room = matrix.room().await;
    matrix.say(&room, "before").await;
    answers(matrix, &room, 1).await;
    gateway.kill().await;
    for number in 0..MESSAGES_MISSED {
        matrix.say(&room, &format!("missed {number}")).await;
    }
    gateway.restart().await;
    let said = answers(matrix, &room, MESSAGES_MISSED + 1).await;
    let missed = (0..MESSAGES_MISSED).map(|number| format!("missed {number}"));
    let wanted: Vec<String> = std::iter::once("before".to_owned()).chain(missed).collect();
    assert_eq!(said, wanted);
}

/// Waits until the bot has said so much in a room, and returns it.
async fn answers(matrix: &Matrix, room: &Room, count: usize) -> Vec<String> {
    let look = |seen: &Seen| {
        let of_bot = seen.events.iter().filter(|(of, event)| {
            *of == room.conversation
                && event["sender"] == matrix.accounts.bot.as_str()
                && event["content"]["sluicegate.automated"] == true
                // Drafts are edited into what they become.
                && event["content"]["m.relates_to"]["rel_type"] != "m.replace"
        });
        let texts: Vec<String> = of_bot
            .map(|(_, event)| super::text(&event["content"]["body"]))
            .collect();
        (texts.len() >= count).then_some(texts)
    };
    matrix.people.wait_for("the bot has answered", look).await
}
