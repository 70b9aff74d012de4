//! What goes out: what people see, and what the platform's refusals lead to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{Saying, eventually};
use serde_json::json;

use super::{MARKDOWN, Stage};
use crate::platform::{RATE_LIMIT_WAIT, Refusal, Room, Shown};

/// A short answer is one message, and never an answer to something else.
pub(super) async fn short(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let answer = stage.word("short");
    let said = if stage.platform.receives() {
        Some(stage.say(&room, &answer).await.1)
    } else {
        stage.let_bot_say(&room, &answer).await;
        None
    };
    let shown = stage.wait_for_text(&room, &answer).await;
    assert_eq!(shown.text.trim_end(), answer);
    if shown.reply_to.is_some() {
        assert_eq!(shown.reply_to, said, "it answers what was said");
    }
    stage.assert_said_once(&room, &answer).await;
}

/// A long answer arrives whole, in order, in parts that the platform takes, with its code readable in each.
pub(super) async fn long(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let base = stage.word("w");
    let words: Vec<String> = (0..stage.platform.long_words())
        .map(|n| format!("{base}{n:04}"))
        .collect();
    stage.let_bot_say(&room, &stage.platform.long_text(&words)).await;
    let last = words.last().expect("there are words").clone();
    let ended = |shown: &[Shown]| {
        let is_there = shown.iter().any(|part| part.text.contains(&last));
        is_there.then(|| shown.to_vec())
    };
    let parts = stage.wait_for(&room, "the last part of a long answer", ended).await;
    assert!(parts.len() > 1, "it was to need several messages");
    let all: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
    let all = all.join("\n");
    let is_part_of_word = |c: char| !(c.is_ascii_alphanumeric());
    let found: Vec<&str> = all
        .split(is_part_of_word)
        .filter(|word| word.starts_with(&base))
        .collect();
    assert_eq!(found, words, "each word once and in order");
    for part in &parts {
        let source = &part.source;
        assert_eq!(source.matches("```").count() % 2, 0, "a cut block of code: {source}");
        let code = code_in(source, stage.platform.code_marks());
        for word in words[words.len() / 2..].iter().filter(|word| part.text.contains(*word)) {
            assert!(code.contains(word), "{word} is not shown as code: {source}");
        }
    }
}

/// Returns what stands between marks.
fn code_in(source: &str, (begin, end): (&str, &str)) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some((_, inside)) = rest.split_once(begin) {
        let (block, after) = inside.split_once(end).unwrap_or((inside, ""));
        code.push_str(block);
        rest = after;
    }
    code
}

/// CommonMark becomes the platform's own formatting.
pub(super) async fn markdown(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    stage.let_bot_say(&room, MARKDOWN).await;
    let shown = stage.wait_for_text(&room, "bold").await;
    assert_eq!(shown.source, stage.platform.markdown_source());
}

/// A file that the operator sends arrives whole, with its name and its text.
pub(super) async fn file(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    // People see bots only where they have written to them.
    if stage.platform.receives() {
        stage.exchange(&room).await;
    }
    let text = stage.word("with");
    let bytes = b"%PDF-1.4 not really\n\x00\xff".to_vec();
    let file = json!({"name": "report.pdf", "media_type": "application/pdf", "base64": STANDARD.encode(&bytes)});
    stage.send(&room, &text, json!([file])).await;
    let find = |shown: &[Shown]| shown.iter().flat_map(|message| message.files.first()).next().cloned();
    let file = stage.wait_for(&room, "a file", find).await;
    assert_eq!((file.name.as_str(), file.bytes), ("report.pdf", bytes));
    stage.wait_for_text(&room, &text).await;
}

/// What is said in a thread is answered in that thread.
pub(super) async fn thread(stage: &Stage<'_>) {
    let thread = stage.platform.thread().await;
    let answer = stage.word("answer");
    stage.let_bot_say(&thread, &answer).await;
    stage.wait_for_text(&thread, &answer).await;
    let around = Room {
        thread: None,
        ..thread.clone()
    };
    let outside = stage.platform.shown(&around).await;
    assert!(
        outside.iter().all(|message| !message.text.contains(&answer)),
        "{outside:?}"
    );
}

/// Typing is shown while the agent thinks.
pub(super) async fn typing(stage: &Stage<'_>) {
    let room = stage.platform.room_with_typing().await;
    let (word, answer) = (stage.word("typing"), stage.word("answer"));
    stage.model.when(&word, Saying::Pausing(String::new(), answer.clone()));
    stage.platform.say(&room, &word).await;
    eventually("typing is shown", async || {
        stage.platform.typing_shown(&room).await.then_some(())
    })
    .await;
    stage.model.go_on(&word);
    stage.wait_for_text(&room, &answer).await;
}

/// A growing answer is shown, and gives way to the whole one: nothing is left of it beside that.
pub(super) async fn draft(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    let word = stage.word("draft");
    let (first, rest) = (stage.word("first"), stage.word("rest"));
    let saying = Saying::Pausing(format!("{first} and some words "), format!("then {rest}"));
    stage.model.when(&word, saying);
    stage.platform.say(&room, &word).await;
    eventually("the beginning of the answer is shown", async || {
        let drafts = stage.platform.drafts(&room).await;
        drafts.iter().any(|draft| draft.contains(&first)).then_some(())
    })
    .await;
    stage.model.go_on(&word);
    stage.wait_for_text(&room, &rest).await;
    let whole = format!("{first} and some words then {rest}");
    let only = |shown: &[Shown]| (shown.len() == 1 && shown[0].text.trim_end() == whole).then_some(());
    stage
        .wait_for(&room, "the whole answer, and nothing beside it", only)
        .await;
}

/// A platform that asks to wait is not disturbed before, and gets the message once.
pub(super) async fn rate_limited(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    stage.platform.refuse_next(&room, Refusal::RateLimited).await;
    let answer = stage.word("answer");
    stage.let_bot_say(&room, &answer).await;
    stage.wait_for_text(&room, &answer).await;
    let attempts = stage.platform.attempts(&room).await;
    assert!(attempts.len() >= 2, "the refusal was not seen: {attempts:?}");
    let waited = attempts[1].duration_since(attempts[0]);
    // A fake's clock starts before its answer is written.
    assert!(
        waited.as_millis() + 50 >= RATE_LIMIT_WAIT.as_millis(),
        "it came back after {waited:?}"
    );
    stage.assert_said_once(&room, &answer).await;
}

/// A platform that is down for a moment gets the message again, once.
pub(super) async fn unavailable(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    stage.platform.refuse_next(&room, Refusal::Unavailable).await;
    let answer = stage.word("answer");
    stage.let_bot_say(&room, &answer).await;
    stage.wait_for_text(&room, &answer).await;
    let attempts = stage.platform.attempts(&room).await;
    assert!(attempts.len() >= 2, "the refusal was not seen: {attempts:?}");
    stage.assert_said_once(&room, &answer).await;
}

/// An answer to a conversation that is gone is a dead letter, which says so.
pub(super) async fn gone(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    stage.platform.refuse_next(&room, Refusal::Gone).await;
    let answer = stage.word("answer");
    stage.let_bot_say(&room, &answer).await;
    eventually("the answer is a dead letter", async || {
        let dead = stage.ask_admin("dead").await;
        let mut dead = dead["items"].as_array().cloned().unwrap_or_default().into_iter();
        dead.any(|letter| letter["conversation"] == room.conversation && letter["text"] == answer.as_str())
            .then_some(())
    })
    .await;
    stage.assert_said(&room, &[]).await;
}
