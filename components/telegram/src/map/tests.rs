use sluicegate_sdk::serde_json::{self, Value, json};

use super::*;

fn me() -> User {
    User {
        id: 700_100_200,
        is_bot: true,
        username: Some("Sluice_Bot".to_owned()),
        ..User::default()
    }
}

fn read(update: Value) -> Option<Mapped> {
    let update: Update = serde_json::from_value(update).expect("the update is well formed");
    mapped(&update, &me())
}

fn group_message(fields: Value) -> Value {
    let mut message = json!({
        "message_id": 17, "date": 1_760_000_000, "chat": {"id": -1_001_234, "type": "supergroup", "title": "Crew"},
        "from": {"id": 55, "is_bot": false, "first_name": "Ada", "last_name": "L", "language_code": "en"},
    });
    if let (Value::Object(message), Value::Object(fields)) = (&mut message, fields) {
        message.extend(fields);
    }
    json!({"update_id": 610_000_001, "message": message})
}

fn is_addressed_with(fields: Value) -> bool {
    read(group_message(fields)).expect("it is a message").message.addressed
}

#[test]
fn a_private_text_is_a_direct_message() {
    let mapped = read(json!({"update_id": 9, "message": {
        "message_id": 3, "date": 1_760_000_000, "text": "hi",
        "chat": {"id": 55, "type": "private", "first_name": "Ada", "username": "ada"},
        "from": {"id": 55, "is_bot": false, "first_name": "Ada", "username": "ada"},
    }}));
    let message = mapped.expect("it is a message").message;
    assert_eq!(
        (message.id.as_str(), message.text.as_str(), message.kind),
        ("9", "hi", EventKind::Message)
    );
    let direct = Conversation {
        title: Some("Ada".to_owned()),
        ..Conversation::direct("55")
    };
    assert_eq!(message.conversation, direct);
    assert_eq!(
        message.sender,
        Sender {
            name: Some("Ada".to_owned()),
            ..Sender::person("55")
        }
    );
    assert_eq!((message.sent_at_ms, message.addressed), (Some(1_760_000_000_000), true));
    assert_eq!(message.extra, [("telegram.message".to_owned(), "9:3".to_owned())]);
    assert_eq!(message.in_reply_to, None);
}

#[test]
fn in_a_group_the_bot_is_addressed_by_name_command_or_answer() {
    let mention = json!([{"type": "mention", "offset": 3, "length": 11}]);
    // The emoji is two UTF-16 code units.
    assert!(is_addressed_with(
        json!({"text": "😀 @sluice_bot hello", "entities": mention})
    ));
    assert!(is_addressed_with(
        json!({"caption": "😀 @sluice_bot", "caption_entities": mention, "photo": [{"file_id": "f"}]})
    ));
    assert!(!is_addressed_with(
        json!({"text": "😀 @sluice_bop hello", "entities": mention})
    ));
    assert!(!is_addressed_with(json!({"text": "hello"})));
    let command = |length: usize| json!([{"type": "bot_command", "offset": 0, "length": length}]);
    assert!(is_addressed_with(json!({"text": "/help", "entities": command(5)})));
    assert!(is_addressed_with(
        json!({"text": "/help@Sluice_bot", "entities": command(16)})
    ));
    assert!(!is_addressed_with(
        json!({"text": "/help@other_bot", "entities": command(15)})
    ));
    let person =
        json!([{"type": "text_mention", "offset": 0, "length": 2, "user": {"id": 700_100_200, "first_name": "S"}}]);
    assert!(is_addressed_with(json!({"text": "Hi", "entities": person})));
    let answer = |id: i64| {
        json!({"text": "yes", "reply_to_message": {
            "message_id": 4, "date": 1, "chat": {"id": -1_001_234, "type": "supergroup"},
            "from": {"id": id, "is_bot": true, "first_name": "S"}, "text": "?",
        }})
    };
    assert!(is_addressed_with(answer(700_100_200)));
    assert!(!is_addressed_with(answer(700_100_201)));
}

#[test]
fn an_entity_outside_the_text_is_harmless() {
    let entities = json!([{"type": "mention", "offset": 4000, "length": 9_000_000}]);
    assert!(!is_addressed_with(json!({"text": "short", "entities": entities})));
}

#[test]
fn an_answer_names_the_message_and_a_topic_is_a_thread() {
    let root = |extra: Value| {
        let mut root = json!({"message_id": 8, "date": 1, "chat": {"id": -1_001_234, "type": "supergroup"}});
        root["forum_topic_created"] = extra;
        root
    };
    let in_topic = |topic: bool, reply: Value| {
        let fields = json!({"text": "x", "message_thread_id": 8, "is_topic_message": topic, "reply_to_message": reply});
        read(group_message(fields)).expect("it is a message").message
    };
    let plain = in_topic(true, root(json!({"name": "News", "icon_color": 1})));
    assert_eq!(
        (plain.conversation.thread.as_deref(), plain.in_reply_to),
        (Some("8"), None)
    );
    let answer = in_topic(true, root(Value::Null));
    assert_eq!(answer.in_reply_to.as_deref(), Some("8"));
    // Outside forums the id only groups replies.
    assert_eq!(in_topic(false, root(Value::Null)).conversation.thread, None);
}

#[test]
fn an_edit_names_the_message_that_changed() {
    let mut update = group_message(json!({"text": "new", "edit_date": 1_760_000_009}));
    update["edited_message"] = update["message"].take();
    let message = read(update).expect("it is an edit").message;
    assert_eq!(
        (message.kind, message.in_reply_to.as_deref()),
        (EventKind::Edit, Some("17"))
    );
    assert_eq!(message.sent_at_ms, Some(1_760_000_009_000));
}

#[test]
fn a_pressed_button_is_a_choice_with_its_label() {
    let mapped = read(json!({"update_id": 11, "callback_query": {
        "id": "4382bfdwdsb323b2d9", "from": {"id": 55, "is_bot": false, "first_name": "Ada"}, "data": "y",
        "chat_instance": "-3719", "message": {
            "message_id": 30, "date": 1_760_000_000, "chat": {"id": 55, "type": "private", "first_name": "Ada"},
            "from": {"id": 700_100_200, "is_bot": true, "first_name": "S"}, "text": "Sure?",
            "reply_markup": {"inline_keyboard": [[{"text": "No", "callback_data": "n"}, {"text": "Yes", "callback_data": "y"}]]},
        },
    }}));
    let mapped = mapped.expect("it is a choice");
    assert_eq!(mapped.query.as_deref(), Some("4382bfdwdsb323b2d9"));
    let message = mapped.message;
    assert_eq!(
        (message.kind, message.text.as_str(), message.value.as_deref()),
        (EventKind::Choice, "Yes", Some("y"))
    );
    assert_eq!(
        (message.in_reply_to.as_deref(), message.sender.id.as_str()),
        (Some("30"), "55")
    );
}

#[test]
fn a_reaction_tells_what_was_added_or_that_it_was_taken_back() {
    let reaction = |old: Value, new: Value| {
        let update = json!({"update_id": 12, "message_reaction": {
            "chat": {"id": 55, "type": "private", "first_name": "Ada"}, "message_id": 30, "date": 1_760_000_000,
            "user": {"id": 55, "is_bot": false, "first_name": "Ada"}, "old_reaction": old, "new_reaction": new,
        }});
        read(update).expect("it is a reaction").message
    };
    let thumb = json!({"type": "emoji", "emoji": "👍"});
    let fire = json!({"type": "emoji", "emoji": "🔥"});
    let changed = reaction(json!([thumb]), json!([thumb, fire]));
    assert_eq!(
        (changed.kind, changed.value.as_deref()),
        (EventKind::Reaction, Some("🔥"))
    );
    assert_eq!(changed.in_reply_to.as_deref(), Some("30"));
    assert_eq!(reaction(json!([thumb]), json!([])).value, None);
    let custom = reaction(json!([]), json!([{"type": "custom_emoji", "custom_emoji_id": "53"}]));
    assert_eq!(custom.value.as_deref(), Some("custom:53"));
}

#[test]
fn files_come_with_their_caption() {
    let mapped = read(group_message(json!({
        "caption": "look", "photo": [{"file_id": "small", "file_size": 10}, {"file_id": "large", "file_size": 90}],
        "voice": {"file_id": "v", "duration": 2}, "video": {"file_id": "m", "mime_type": "video/webm"},
        "document": {"file_id": "d", "file_name": "a.pdf", "mime_type": "application/pdf", "file_size": 5},
    })));
    let mapped = mapped.expect("it is a message");
    assert_eq!(mapped.message.text, "look");
    let files: Vec<_> = mapped
        .files
        .iter()
        .map(|file| (file.file_id.as_str(), file.media_type.as_str()))
        .collect();
    let wanted = [
        ("large", "image/jpeg"),
        ("d", "application/pdf"),
        ("v", "audio/ogg"),
        ("m", "video/webm"),
    ];
    assert_eq!(files, wanted);
    assert_eq!(
        (mapped.files[1].name.as_deref(), mapped.files[1].size),
        (Some("a.pdf"), Some(5))
    );
}

#[test]
fn an_animation_is_not_taken_twice() {
    let file = json!({"file_id": "gif", "mime_type": "video/mp4"});
    let mapped = read(group_message(json!({"animation": file, "document": file}))).expect("it is a message");
    assert_eq!(mapped.files.len(), 1);
}

#[test]
fn what_has_no_text_gets_words() {
    let text = |fields: Value| read(group_message(fields)).expect("it is a message").message.text;
    assert_eq!(text(json!({"sticker": {"file_id": "s", "emoji": "🙂"}})), "🙂");
    assert_eq!(
        text(json!({"location": {"latitude": 52.5, "longitude": 13.25}})),
        "geo:52.5,13.25"
    );
    assert_eq!(
        text(json!({"contact": {"phone_number": "+491", "first_name": "Bo"}})),
        "Bo +491"
    );
}

#[test]
fn service_messages_and_unknown_updates_are_nothing() {
    assert_eq!(
        read(group_message(
            json!({"new_chat_members": [{"id": 1, "first_name": "N"}]})
        )),
        None
    );
    assert_eq!(read(json!({"update_id": 5, "poll": {"id": "1"}})), None);
    let inline = json!({"update_id": 5, "callback_query": {"id": "1", "from": {"id": 1}, "inline_message_id": "x"}});
    assert_eq!(read(inline), None);
}

#[test]
fn other_bots_and_anonymous_writers_are_told_apart() {
    let bot = read(group_message(
        json!({"text": "x", "from": {"id": 8, "is_bot": true, "first_name": "B"}}),
    ));
    assert!(bot.expect("it is a message").message.sender.bot);
    let anonymous = read(group_message(json!({
        "text": "x", "from": {"id": 1_087_968_824, "is_bot": true, "first_name": "Group"},
        "sender_chat": {"id": -1_001_234, "type": "supergroup", "title": "Crew"},
    })));
    let sender = anonymous.expect("it is a message").message.sender;
    assert_eq!(
        sender,
        Sender {
            id: "-1001234".to_owned(),
            name: Some("Crew".to_owned()),
            bot: false
        }
    );
}

#[test]
fn a_group_that_moved_is_noticed() {
    let update = group_message(json!({"migrate_to_chat_id": -1_009_999}));
    let update: Update = serde_json::from_value(update).expect("the update is well formed");
    assert_eq!(
        migration(&update),
        Some(Migration {
            from: -1_001_234,
            to: -1_009_999
        })
    );
}
