use sluicegate_sdk::serde_json::json;

use super::*;

fn me() -> Me {
    Me {
        user_id: "U7".to_owned(),
        user: "sluice".to_owned(),
        bot_id: Some("B7".to_owned()),
        team: "Crew".to_owned(),
    }
}

fn read_as(event: Value, answers_in_thread: bool) -> Option<Mapped> {
    mapped(event, &me(), Threading { answers_in_thread }).expect("the event is well formed")
}

fn read(event: Value) -> Option<Mapped> {
    read_as(event, true)
}

/// A `message` as Slack's documentation shows it, with fields that nobody reads.
fn message(fields: Value) -> Value {
    let mut event = json!({
        "type": "message", "channel": "D1", "user": "U5", "text": "hi &amp; ho", "ts": "1700000000.000100",
        "event_ts": "1700000000.000100", "channel_type": "im", "team": "T1", "client_msg_id": "x",
        "blocks": [{"type": "rich_text"}],
    });
    if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
        event.extend(fields);
    }
    event
}

fn in_channel(fields: Value) -> Value {
    let mut event = message(json!({"channel": "C1", "channel_type": "channel"}));
    if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
        event.extend(fields);
    }
    event
}

#[test]
fn a_direct_text_is_a_direct_message() {
    let message = read(message(json!({}))).expect("it is a message").message;
    assert_eq!(
        (message.id.as_str(), message.text.as_str()),
        ("D1/1700000000.000100", "hi & ho")
    );
    assert_eq!(message.conversation, Conversation::direct("D1"));
    assert_eq!((message.sender, message.addressed), (Sender::person("U5"), true));
    assert_eq!(
        (message.sent_at_ms, message.in_reply_to),
        (Some(1_700_000_000_000), None)
    );
}

#[test]
fn one_post_that_comes_as_two_events_is_one_message() {
    let text = json!({"text": "<@U7> hello"});
    let as_message = read(in_channel(text)).expect("it is a message").message;
    let mention = json!({"type": "app_mention", "channel": "C1", "user": "U5", "text": "<@U7> hello",
        "ts": "1700000000.000100", "event_ts": "1700000000.000100"});
    let as_mention = read(mention).expect("it is a message").message;
    assert_eq!(as_message, as_mention);
    assert!(as_message.addressed);
    assert_eq!(as_message.text, "@sluice hello");
}

#[test]
fn in_a_channel_the_app_is_addressed_by_name_or_in_its_own_threads() {
    let addressed = |fields| read(in_channel(fields)).expect("it is a message").message.addressed;
    assert!(!addressed(json!({"text": "to others"})));
    assert!(addressed(json!({"text": "<@U7|sluice>: to you"})));
    assert!(!addressed(json!({"text": "<@U77> to another"})));
    assert!(addressed(json!({"thread_ts": "1699.0001", "parent_user_id": "U7"})));
    assert!(!addressed(json!({"thread_ts": "1699.0001", "parent_user_id": "U5"})));
}

#[test]
fn a_message_in_a_channel_begins_a_thread_where_the_operator_wants_that() {
    let thread = |event, answers| {
        read_as(event, answers)
            .expect("it is a message")
            .message
            .conversation
            .thread
    };
    assert_eq!(
        thread(in_channel(json!({})), true).as_deref(),
        Some("1700000000.000100")
    );
    assert_eq!(thread(in_channel(json!({})), false), None);
    assert_eq!(
        thread(in_channel(json!({"thread_ts": "1699.0001"})), false).as_deref(),
        Some("1699.0001")
    );
    assert_eq!(
        thread(message(json!({})), true),
        None,
        "a direct conversation is a thread already"
    );
    let answer = read(message(json!({"thread_ts": "1699.0001"})))
        .expect("it is a message")
        .message;
    assert_eq!(answer.in_reply_to.as_deref(), Some("1699.0001"));
}

#[test]
fn own_messages_notices_and_empty_ones_are_passed_over() {
    for fields in [
        json!({"user": "U7"}),
        json!({"bot_id": "B7"}),
        json!({"subtype": "channel_join"}),
        json!({"subtype": "channel_topic"}),
        json!({"text": ""}),
        json!({"user": null}),
        json!({"ts": ""}),
        json!({"channel": null}),
    ] {
        assert_eq!(read(message(fields.clone())), None, "{fields}");
    }
    assert_eq!(read(json!({"type": "team_join", "user": {"id": "U9"}})), None);
    assert_eq!(read(json!(null)), None);
}

#[test]
fn bots_are_bots() {
    let bot = read(message(json!({"bot_id": "B9", "user": "U9"})))
        .expect("it is a message")
        .message;
    assert!(bot.sender.bot);
    let classic = message(json!({"subtype": "bot_message", "bot_id": "B9", "user": null}));
    assert_eq!(read(classic).expect("it is a message").message.sender.id, "B9");
}

#[test]
fn an_edit_is_one_only_where_a_person_changed_something() {
    let changed = |edited: Value, before: &str| {
        json!({"type": "message", "subtype": "message_changed", "hidden": true, "channel": "D1", "channel_type": "im",
            "ts": "1700000001.000200", "message": {"type": "message", "user": "U5", "text": "ho",
            "ts": "1700000000.000100", "edited": edited}, "previous_message": {"user": "U5", "text": before,
            "ts": "1700000000.000100"}})
    };
    let edited = json!({"user": "U5", "ts": "1700000001.000000"});
    let edit = read(changed(edited.clone(), "hi")).expect("it is an edit").message;
    assert_eq!(edit.kind, EventKind::Edit);
    assert_eq!(edit.id, "D1/1700000000.000100/edit/1700000001.000000");
    assert_eq!(
        (edit.in_reply_to.as_deref(), edit.text.as_str()),
        (Some("1700000000.000100"), "ho")
    );
    assert_eq!(read(changed(Value::Null, "hi")), None, "a link was unfurled");
    assert_eq!(read(changed(edited, "ho")), None, "nothing is different");
}

#[test]
fn files_are_named_with_the_message() {
    let shared = message(json!({"subtype": "file_share", "text": "", "files": [{
        "id": "F1", "name": "notes.txt", "mimetype": "text/plain", "size": 8, "mode": "hosted",
        "url_private": "https://files.slack.com/files-pri/T1-F1/notes.txt",
        "url_private_download": "https://files.slack.com/files-pri/T1-F1/download/notes.txt",
    }]}));
    let files = read(shared).expect("it is a message").files;
    assert_eq!(
        (files.len(), files[0].name.as_deref(), files[0].size),
        (1, Some("notes.txt"), Some(8))
    );
}

#[test]
fn reactions_and_deletions_are_events_about_their_message() {
    let reaction = |kind: &str, user: &str| {
        json!({"type": kind, "user": user, "reaction": "thumbsup", "item_user": "U7",
            "item": {"type": "message", "channel": "C1", "ts": "1700000000.000100"}, "event_ts": "1700000002.000300"})
    };
    let came = read(reaction("reaction_added", "U5"))
        .expect("it is a reaction")
        .message;
    assert_eq!(
        (came.kind, came.value.as_deref()),
        (EventKind::Reaction, Some("thumbsup"))
    );
    assert_eq!(came.in_reply_to.as_deref(), Some("1700000000.000100"));
    assert_eq!(
        read(reaction("reaction_removed", "U5"))
            .expect("it is one")
            .message
            .value,
        None
    );
    assert_eq!(read(reaction("reaction_added", "U7")), None);
    let deletion = json!({"type": "message", "subtype": "message_deleted", "channel": "D1", "channel_type": "im",
        "ts": "1700000003.000000", "deleted_ts": "1700000000.000100", "previous_message": {"user": "U5", "text": "x",
        "ts": "1700000000.000100"}});
    let gone = read(deletion).expect("it is a deletion").message;
    assert_eq!(
        (gone.kind, gone.in_reply_to.as_deref()),
        (EventKind::Deletion, Some("1700000000.000100"))
    );
}

#[test]
fn an_event_of_another_form_is_an_error_and_no_message() {
    let threading = Threading {
        answers_in_thread: true,
    };
    assert!(mapped(message(json!({"text": ["a list"]})), &me(), threading).is_err());
    assert!(mapped(json!({"type": "reaction_added"}), &me(), threading).is_err());
}
