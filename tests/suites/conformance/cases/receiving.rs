//! What comes in: what the agent is asked, and what it is not.

use harness::{PATIENCE, Saying, WsClient};

use super::{CHANNEL, Stage};
use crate::platform::File;

/// A text reaches the agent as it was written.
pub(super) async fn text(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let answer = stage.word("answer");
    let word = stage.word("text");
    let said = format!("{word} is \u{e9}\u{1f30a} & <fine>");
    stage.model.when(&word, Saying::Answer(answer.clone()));
    stage.platform.say(&room, &said).await;
    stage.wait_for_text(&room, &answer).await;
    let asked = stage.model.heard(&word);
    assert!(asked.iter().all(|heard| heard.contains(&said)), "{asked:?}");
    assert_eq!(asked.len(), 1, "asked once");
}

/// A changed message is answered again, as it reads now.
pub(super) async fn edit(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let (first, second) = (stage.word("answer"), stage.word("answer"));
    let (_, id) = stage.say(&room, &first).await;
    stage.wait_for_text(&room, &first).await;
    let edited = stage.word("edited");
    stage.model.when(&edited, Saying::Answer(second.clone()));
    stage.platform.edit(&room, &id, &edited).await;
    stage.wait_for_text(&room, &second).await;
}

/// An answer to the bot's own message names that message.
pub(super) async fn reply(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let shown = stage.exchange(&room).await;
    let token = std::fs::read_to_string(stage.gateway.data().join("admin-token")).expect("the token is there");
    let path = format!("/ws?events=all&token={token}");
    let mut events = WsClient::connect(stage.gateway.address(), &path, &[])
        .await
        .expect("the token opens the stream of events");
    let (word, answer) = (stage.word("reply"), stage.word("answer"));
    stage.model.when(&word, Saying::Answer(answer.clone()));
    let answered = stage.platform.reply(&room, &shown, &word).await;
    let event = loop {
        let event = events.until("event").await["event"].clone();
        let is_ours = event["kind"] == "inbound" && event["channel"] == CHANNEL;
        if is_ours && event["text"].as_str().is_some_and(|text| text.contains(&word)) {
            break event;
        }
    };
    assert_eq!(event["in_reply_to"], answered.0, "{event}");
    stage.wait_for_text(&room, &answer).await;
}

/// What is said in a thread reaches the agent as said there, and its session is the thread's own.
pub(super) async fn thread(stage: &Stage<'_>) {
    let (one, other) = (stage.platform.thread().await, stage.platform.thread().await);
    assert_ne!(one, other, "two threads");
    let first = stage.word("answer");
    let (in_one, _) = stage.say(&one, &first).await;
    stage.wait_for_text(&one, &first).await;
    let second = stage.word("answer");
    let (in_other, _) = stage.say(&other, &second).await;
    stage.wait_for_text(&other, &second).await;
    let asked = stage.model.asked().all();
    let about = asked.iter().filter(|body| body.to_string().contains(&in_other));
    for body in about {
        assert!(
            !body.to_string().contains(&in_one),
            "two threads share a memory: {body}"
        );
    }
}

/// A file reaches the agent with its name and type, and its text with it.
pub(super) async fn file(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let (word, answer) = (stage.word("file"), stage.word("answer"));
    stage.model.when(&word, Saying::Answer(answer.clone()));
    let file = File {
        name: "notes.txt".to_owned(),
        media_type: "text/plain".to_owned(),
        bytes: b"buy milk".to_vec(),
    };
    stage.platform.send_file(&room, &file, &word).await;
    stage.wait_for_text(&room, &answer).await;
    let asked = stage.model.heard(&word).join("\n");
    assert!(asked.contains("[attached file: notes.txt, text/plain"), "{asked}");
}

/// What the bot's own account writes is not answered.
pub(super) async fn own_echo(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let word = stage.word("echo");
    stage.platform.echo_own(&room, &word).await;
    unanswered(stage, &room, &word).await;
}

/// What another bot writes is not answered, or two of them would talk for ever.
pub(super) async fn other_bot(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let word = stage.word("bot");
    stage.platform.bot_says(&room, &word).await;
    unanswered(stage, &room, &word).await;
}

/// Asserts that the agent was never asked about a word that came in before what is said now.
async fn unanswered(stage: &Stage<'_>, room: &crate::platform::Room, word: &str) {
    stage.exchange(room).await;
    assert_eq!(stage.model.heard(word), Vec::<String>::new(), "it reached the agent");
}

/// A message that the platform sends again changes nothing.
pub(super) async fn duplicate(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let answer = stage.word("answer");
    let (word, _) = stage.say(&room, &answer).await;
    stage.platform.repeat(&room).await;
    stage.wait_for_text(&room, &answer).await;
    let last = stage.exchange(&room).await;
    assert_eq!(stage.model.heard(&word).len(), 1, "asked once, within {PATIENCE:?}");
    stage.assert_said(&room, &[&answer, &last.text]).await;
}
