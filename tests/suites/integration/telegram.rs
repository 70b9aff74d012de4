//! The Telegram channel against our own strict fake of the Bot API.
//!
//! The fake is no proof by itself: `components/telegram/conformance` has it checked by third-party clients first.

use std::time::Duration;

use harness::{FakePlatform, MockModel, PATIENCE, Saying, Setup, Stop, TestGateway, Toll, eventually};
use serde_json::json;
use telegram_fake::{BotMessage, Call, ChatState, Fault, TelegramFake};

use crate::operator::{done, events, json_of, next_event};

/// A private chat, and the person in it.
pub(crate) const ADA: i64 = 5001;

/// Adds the channel `tg`, which polls the fake.
fn telegram(setup: Setup, fake: &TelegramFake) -> Setup {
    telegram_at(setup, fake, &fake.base_url())
}

/// Adds the channel `tg`, which polls the fake through another address.
fn telegram_at(setup: Setup, fake: &TelegramFake, base: &str) -> Setup {
    setup.env("TELEGRAM_TOKEN", &fake.token()).section(&format!(
        "[channels.tg]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
         settings = {{ mode = \"poll\", api-base = \"{base}\", poll-seconds = 2 }}\n\
         secrets = {{ bot-token = {{ env = \"TELEGRAM_TOKEN\" }} }}\nlimits = {{ call_timeout_s = 3 }}"
    ))
}

async fn echoing() -> (TelegramFake, TestGateway) {
    let fake = TelegramFake::start().await.expect("a free port");
    let gateway = telegram(Setup::new().echo(), &fake).start().await;
    (fake, gateway)
}

async fn modelled() -> (TelegramFake, MockModel, TestGateway) {
    let (fake, model) = (
        TelegramFake::start().await.expect("a free port"),
        MockModel::start().await,
    );
    let gateway = telegram(Setup::new().model(&model), &fake).start().await;
    (fake, model, gateway)
}

/// Waits until the bot has sent so many messages (attempts included), and returns the calls.
async fn sent(fake: &TelegramFake, count: usize) -> Vec<Call> {
    let calls = fake.await_calls("sendMessage", count, PATIENCE).await;
    calls.unwrap_or_else(|seen| panic!("expected {count} calls of sendMessage, seen {seen:#?}"))
}

/// Waits until the bot's messages in a chat are so many, and returns them.
pub(crate) async fn messages(fake: &TelegramFake, chat: i64, count: usize) -> Vec<BotMessage> {
    eventually(&format!("{count} messages in chat {chat}"), async || {
        Some(fake.messages(chat)).filter(|messages| messages.len() >= count)
    })
    .await
}

pub(crate) fn texts(messages: &[BotMessage]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

/// Asserts that the bot did nothing that Telegram lets pass but that no bot should do.
#[track_caller]
fn behaved(fake: &TelegramFake) {
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_text_is_answered_as_a_reply_to_it() {
    let (fake, gateway) = echoing().await;
    fake.say(ADA, ADA, "hello");
    let calls = sent(&fake, 1).await;
    assert_eq!(
        (&calls[0].params["chat_id"], &calls[0].params["text"]),
        (&json!(ADA), &json!("hello"))
    );
    let answered = &calls[0].params["reply_parameters"]["message_id"];
    assert!(answered.is_i64(), "{}", calls[0].params);
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(texts(&fake.messages(ADA)), ["hello"]);
    behaved(&fake);
}

#[tokio::test]
async fn a_poll_waits_in_publish_while_the_inbox_is_full_and_nothing_is_lost() {
    let fake = TelegramFake::start().await.expect("a free port");
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let full = Setup::new()
        .section("[gateway.pressure]\ninbox_rows = 1")
        .model(&model)
        .webhook("hook", &platform);
    let gateway = telegram(full, &fake).start().await;
    model.hold();
    fake.say(ADA, ADA, "one");
    model.asked().wait_for_len("the model is asked", 1).await;
    gateway.wait_for_metric("sluicegate_intake_open", 0.0).await;
    let before = gateway.metric("sluicegate_channel_egress_bytes_in_total", "tg").await;
    fake.say(ADA, ADA, "two");
    eventually("the second message has been fetched", async || {
        let now = gateway.metric("sluicegate_channel_egress_bytes_in_total", "tg").await;
        (now > before).then_some(())
    })
    .await;
    for _ in 0..3 {
        // As long as that takes, the one who polls would need to store it.
        let message = json!({"id": "m", "conversation": "c", "sender": "ada", "text": "hi"});
        assert_eq!(gateway.post("hook", &message).await.status, 503);
    }
    assert!(
        gateway.metric("sluicegate_inbox_waiting", "").await < 1.5,
        "it is stored all the same"
    );
    model.release();
    let answered = messages(&fake, ADA, 2).await;
    assert_eq!(texts(&answered), ["re: one", "re: two"]);
    assert!(fake.await_confirmed(PATIENCE).await.is_ok());
    behaved(&fake);
}

#[tokio::test]
async fn texts_of_a_chat_are_answered_in_order() {
    let (fake, _gateway) = echoing().await;
    for n in 0..10 {
        fake.say(ADA, ADA, &format!("{n}"));
    }
    let answered = messages(&fake, ADA, 10).await;
    assert_eq!(texts(&answered), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    behaved(&fake);
}

#[tokio::test]
async fn a_long_answer_goes_out_in_order_in_parts_that_telegram_takes() {
    let (fake, model, gateway) = modelled().await;
    // Each of these is two UTF-16 units and four bytes: only the right unit gives parts that fit and are few.
    let long = "\u{1f30a}\u{1f6aa} ".repeat(2000);
    model.next([Saying::Answer(long.clone())]);
    fake.say(ADA, ADA, "tell me much");
    messages(&fake, ADA, 3).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    let parts = fake.messages(ADA);
    assert_eq!(parts.len(), 3, "10,000 units fit three messages");
    for part in &parts {
        assert!(part.text.encode_utf16().count() <= 4096);
    }
    let joined: String = texts(&parts).concat();
    let without_spaces = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(without_spaces(&joined), without_spaces(&long));
    behaved(&fake);
}

#[tokio::test]
async fn a_rate_limit_is_honoured_and_the_message_sent_once() {
    let (fake, gateway) = echoing().await;
    fake.fail_next("sendMessage", 1, Fault::rate_limited(2));
    fake.say(ADA, ADA, "hello");
    let calls = sent(&fake, 2).await;
    assert!(
        calls[1].at_ms - calls[0].at_ms >= 1950,
        "it came back after {} ms",
        calls[1].at_ms - calls[0].at_ms
    );
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(texts(&fake.messages(ADA)), ["hello"]);
}

#[tokio::test]
async fn an_edited_message_is_answered_again() {
    let (fake, _gateway) = echoing().await;
    fake.push_message(ADA, ADA, json!({"message_id": 77, "text": "helo"}));
    messages(&fake, ADA, 1).await;
    fake.edit(ADA, 77, "hello")
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    let answered = messages(&fake, ADA, 2).await;
    assert_eq!(texts(&answered), ["helo", "hello"]);
    behaved(&fake);
}

#[tokio::test]
async fn a_file_with_a_caption_reaches_the_agent_with_its_name() {
    let (fake, model, _gateway) = modelled().await;
    let file = fake.add_file("notes.txt", b"buy milk".to_vec());
    let document = json!({
        "file_id": file, "file_unique_id": "u1", "file_name": "notes.txt", "mime_type": "text/plain", "file_size": 8
    });
    fake.push_message(ADA, ADA, json!({"document": document, "caption": "look at this"}));
    let asked = model.asked().wait_for_len("the model is asked", 1).await;
    let said = asked[0]["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .cloned()
        .unwrap_or_default();
    let said = said["content"].as_str().unwrap_or_default().to_owned();
    for part in ["look at this", "notes.txt", "text/plain"] {
        assert!(said.contains(part), "expected {part:?} in {said:?}");
    }
    assert_eq!(fake.calls_of("getFile").len(), 1);
    messages(&fake, ADA, 1).await;
    behaved(&fake);
}

#[tokio::test]
async fn a_topic_of_a_forum_is_answered_in_that_topic() {
    let (fake, _gateway) = echoing().await;
    let forum = -1_001_234_567_890;
    fake.add_forum(forum, &[7, 8]);
    let text = "@sluicegate_test_bot hello";
    fake.push_message(
        forum,
        ADA,
        json!({
            "text": text, "message_thread_id": 7, "is_topic_message": true,
            "entities": [{"type": "mention", "offset": 0, "length": 20}],
        }),
    );
    let calls = sent(&fake, 1).await;
    assert_eq!(
        (&calls[0].params["chat_id"], &calls[0].params["message_thread_id"]),
        (&json!(forum), &json!(7))
    );
    assert!(calls[0].accepted, "{:?}", calls[0]);
    behaved(&fake);
}

#[tokio::test]
async fn in_a_group_only_what_is_said_to_the_bot_is_answered() {
    let (fake, _gateway) = echoing().await;
    let group = -100_200;
    fake.say(group, ADA, "talking to others");
    fake.say(group, ADA, "@sluicegate_test_bot to you");
    let calls = sent(&fake, 1).await;
    assert_eq!(calls[0].params["text"], "@sluicegate_test_bot to you");
    behaved(&fake);
}

#[tokio::test]
async fn typing_is_shown_while_the_agent_thinks() {
    let (fake, model, _gateway) = modelled().await;
    model.hold();
    fake.say(ADA, ADA, "think about it");
    let shown = fake.await_calls("sendChatAction", 1, PATIENCE).await;
    let shown = shown.unwrap_or_else(|_| panic!("typing was never shown: {:?}", fake.calls()));
    assert_eq!(
        (&shown[0].params["chat_id"], &shown[0].params["action"]),
        (&json!(ADA), &json!("typing"))
    );
    model.release();
    let answered = messages(&fake, ADA, 1).await;
    assert_eq!(texts(&answered), ["re: think about it"]);
    behaved(&fake);
}

#[tokio::test]
async fn a_message_that_telegram_took_without_an_answer_is_copied_at_most_once() {
    let (fake, gateway) = echoing().await;
    fake.fail_next("sendMessage", 1, Fault::hang().after_accepting());
    fake.say(ADA, ADA, "hello");
    fake.say(ADA, ADA, "next");
    messages(&fake, ADA, 3).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(texts(&fake.messages(ADA)), ["hello", "hello", "next"]);
    let ambiguous = gateway.metric("sluicegate_delivery_ambiguous_total", "").await;
    assert!(
        (ambiguous - 1.0).abs() < 0.5,
        "{ambiguous} attempts counted as without an outcome"
    );
}

#[tokio::test]
async fn a_message_that_telegram_certainly_refused_is_never_copied() {
    let (fake, gateway) = echoing().await;
    fake.fail_next("sendMessage", 1, Fault::gateway(503));
    fake.say(ADA, ADA, "hello");
    messages(&fake, ADA, 1).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(texts(&fake.messages(ADA)), ["hello"]);
}

#[tokio::test]
async fn an_answer_in_parts_goes_on_after_the_last_part_that_telegram_took() {
    let (fake, model) = (
        TelegramFake::start().await.expect("a free port"),
        MockModel::start().await,
    );
    let toll = Toll::start(fake.address()).await;
    let gateway = telegram_at(Setup::new().model(&model), &fake, &toll.base_url())
        .start()
        .await;
    let paragraph = |name: &str| format!("{name} {}", "words and more words ".repeat(170));
    model.next([Saying::Answer(
        [paragraph("one"), paragraph("two"), paragraph("three")].join("\n\n"),
    )]);
    toll.stop_after("/sendMessage", 1, Stop::Refuse(503));
    fake.say(ADA, ADA, "tell me much");
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 1.0)
        .await;
    assert_eq!(toll.stopped().len(), 1, "the second part was refused once");
    let parts = fake.messages(ADA);
    let first_words: Vec<&str> = parts.iter().filter_map(|part| part.text.split(' ').next()).collect();
    assert_eq!(first_words, ["one", "two", "three"], "each part once and in order");
    behaved(&fake);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_batch_loses_nothing_and_repeats_nothing() {
    let (fake, model, mut gateway) = modelled().await;
    model.hold();
    let chats: Vec<i64> = (6000..6020).collect();
    for chat in &chats {
        fake.say(*chat, *chat, &format!("from {chat}"));
    }
    model.asked().wait_for_len("the model is asked", 1).await;
    gateway.kill().await;
    // More comes while nobody polls.
    for chat in &chats {
        fake.say(*chat, *chat, &format!("again {chat}"));
    }
    gateway.restart().await;
    model.release();
    for chat in &chats {
        messages(&fake, *chat, 2).await;
    }
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
    fake.await_confirmed(PATIENCE)
        .await
        .unwrap_or_else(|left| panic!("{left} updates were never confirmed"));
    for chat in &chats {
        let answered = fake.messages(*chat);
        assert_eq!(
            texts(&answered),
            [format!("re: from {chat}"), format!("re: again {chat}")]
        );
    }
    behaved(&fake);
}

#[tokio::test]
async fn refused_credentials_pause_the_channel_and_keep_the_reply() {
    let (fake, mut gateway) = echoing().await;
    fake.fail_next("sendMessage", 1, Fault::api(401, "Unauthorized"));
    fake.say(ADA, ADA, "hello");
    eventually("the channel is down", async || {
        (gateway.metric("sluicegate_channel_up", "tg").await < 0.5).then_some(())
    })
    .await;
    gateway.wait_for_log(&["tg", "paused"]).await;
    assert!((gateway.metric("sluicegate_outbox_waiting", "").await - 1.0).abs() < 0.5);
    // The operator mends it and starts again.
    gateway.terminate().await;
    gateway.restart().await;
    let answered = messages(&fake, ADA, 1).await;
    assert_eq!(texts(&answered), ["hello"]);
}

#[tokio::test]
async fn a_bot_that_is_refused_is_left_alone_until_the_operator_resumes_it() {
    let fake = TelegramFake::start().await.expect("a free port");
    fake.fail_next("getUpdates", 2, Fault::api(401, "Unauthorized"));
    let gateway = telegram(Setup::new().echo(), &fake).start().await;
    for polls in 1..=2 {
        let polled = fake.await_calls("getUpdates", polls, PATIENCE).await;
        assert_eq!(polled.expect("it polls").len(), polls, "once for each start");
        let paused = eventually("the channel is paused", async || {
            let listed = json_of(&gateway, &["channel", "list"]).await;
            let mut listed = listed.as_array().cloned().unwrap_or_default().into_iter();
            listed.find(|channel| channel["name"] == "tg" && channel["status"] == "paused")
        })
        .await;
        let reason = paused["status_reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("401: Unauthorized") && reason.contains("resume"),
            "{paused}"
        );
        fake.say(ADA, ADA, &format!("said while refused {polls}"));
        assert_eq!(
            done(&gateway, &["channel", "resume", "tg"]).await,
            "resumed tg\nIt is back at work.\n"
        );
    }
    let answers = messages(&fake, ADA, 2).await;
    assert_eq!(texts(&answers), ["said while refused 1", "said while refused 2"]);
    behaved(&fake);
}

#[tokio::test]
async fn the_token_appears_in_no_log_even_when_calls_fail() {
    let fake = TelegramFake::start().await.expect("a free port");
    let mut gateway = telegram(Setup::new().echo().env("SLUICEGATE_LOG", "trace"), &fake)
        .start()
        .await;
    fake.fail_next("sendMessage", 1, Fault::close());
    fake.fail_next("getUpdates", 1, Fault::close());
    fake.say(ADA, ADA, "hello");
    messages(&fake, ADA, 1).await;
    gateway.terminate().await;
    let log = gateway.program().errors().all().join("\n");
    let secret_part = fake
        .token()
        .split(':')
        .nth(1)
        .map(str::to_owned)
        .expect("a token has two parts");
    assert!(!log.contains(&secret_part), "the token is in the log:\n{log}");
}

#[tokio::test]
async fn updates_that_nobody_understands_are_passed_over() {
    let (fake, _gateway) = echoing().await;
    fake.push_update(json!({"something_new": {"from": 7}}));
    fake.push_update(json!({"message": {"message_id": "not a number"}}));
    fake.push_update(json!({"message": null}));
    fake.say(ADA, ADA, "hello");
    let answered = messages(&fake, ADA, 1).await;
    assert_eq!(texts(&answered), ["hello"]);
    fake.await_confirmed(Duration::from_secs(10))
        .await
        .unwrap_or_else(|left| panic!("{left} were never confirmed"));
}

#[tokio::test]
async fn a_button_that_was_pressed_is_what_was_said() {
    let (fake, model, _gateway) = modelled().await;
    fake.push_update(json!({"callback_query": {
        "id": "q1", "from": {"id": ADA, "is_bot": false, "first_name": "Ada"}, "chat_instance": "1", "data": "blue",
        "message": {"message_id": 9, "date": 1, "chat": {"id": ADA, "type": "private", "first_name": "Ada"}, "text": "?"},
    }}));
    let asked = model.asked().wait_for_len("the model is asked", 1).await;
    let said = asked[0]["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .cloned()
        .unwrap_or_default();
    assert_eq!(said["content"], "blue");
}

#[tokio::test]
async fn a_reaction_is_an_event_that_starts_no_turn() {
    let (fake, gateway) = {
        let fake = TelegramFake::start().await.expect("a free port");
        let gateway = telegram(Setup::new().echo().websocket(), &fake).start().await;
        (fake, gateway)
    };
    let mut events = events(&gateway).await;
    fake.say(ADA, ADA, "hello");
    let answer = messages(&fake, ADA, 1).await[0].message_id;
    fake.react(ADA, ADA, answer, Some("👍"));
    let reacted = loop {
        let event = next_event(&mut events, "inbound").await;
        if event["text"] != "hello" {
            break event;
        }
    };
    assert_eq!(reacted["in_reply_to"], answer.to_string());
    fake.say(ADA, ADA, "again");
    assert_eq!(texts(&messages(&fake, ADA, 2).await), ["hello", "again"]);
    behaved(&fake);
}

#[tokio::test]
async fn an_answer_follows_a_group_that_moved_and_the_next_one_knows_the_way() {
    let (fake, gateway) = echoing().await;
    let (group, moved) = (-300, -100_300);
    fake.set_chat(moved, ChatState::Open);
    fake.set_chat(group, ChatState::MigratedTo(moved));
    fake.say(group, ADA, "@sluicegate_test_bot hello");
    assert_eq!(texts(&messages(&fake, moved, 1).await), ["@sluicegate_test_bot hello"]);
    let before = fake.calls_of("sendMessage").len();
    assert_eq!(
        before, 2,
        "once to the old id, and once to the one that the refusal named"
    );
    done(&gateway, &["send", "tg", &group.to_string(), "later"]).await;
    let arrived = messages(&fake, moved, 2).await;
    assert_eq!(texts(&arrived), ["@sluicegate_test_bot hello", "later"]);
    assert_eq!(
        fake.calls_of("sendMessage").len(),
        before + 1,
        "the old id is not tried again"
    );
}

#[tokio::test]
async fn a_group_that_says_it_moves_is_followed_before_anything_is_refused() {
    let (fake, gateway) = echoing().await;
    let (group, moved) = (-400, -100_400);
    fake.set_chat(moved, ChatState::Open);
    // The service message of the old group (core.telegram.org/bots/api#message, `migrate_to_chat_id`).
    fake.push_message(group, ADA, json!({"migrate_to_chat_id": moved}));
    fake.set_chat(group, ChatState::MigratedTo(moved));
    fake.await_confirmed(PATIENCE).await.expect("the update is taken");
    done(&gateway, &["send", "tg", &group.to_string(), "hello"]).await;
    assert_eq!(texts(&messages(&fake, moved, 1).await), ["hello"]);
    assert_eq!(fake.calls_of("sendMessage").len(), 1, "the old id is not tried");
}
