use sluicegate_sdk::serde_json::{self, Value, json};

use super::*;

fn me() -> User {
    User {
        id: "700".to_owned(),
        username: "sluice".to_owned(),
        bot: true,
        ..User::default()
    }
}

/// A `MESSAGE_CREATE` as Discord's documentation and its clients show it, with the fields that nobody reads here too.
fn recorded(fields: Value) -> Message {
    let mut message = json!({
        "type": 0, "tts": false, "timestamp": "2026-03-01T10:00:00.000000+00:00", "pinned": false, "nonce": "1",
        "mentions": [], "mention_roles": [], "mention_everyone": false, "id": "1345678901234567890", "flags": 0,
        "embeds": [], "edited_timestamp": null, "content": "hi", "components": [], "channel_id": "900",
        "member": {"roles": [], "nick": "Countess", "mute": false, "joined_at": "2026-01-01T00:00:00+00:00", "deaf": false},
        "author": {"username": "ada", "id": "55", "global_name": "Ada L", "discriminator": "0", "avatar": null},
        "attachments": [], "guild_id": "800",
    });
    if let (Value::Object(message), Value::Object(fields)) = (&mut message, fields) {
        message.extend(fields);
    }
    serde_json::from_value(message).expect("the message is well formed")
}

fn read(fields: Value) -> Option<Mapped> {
    let message = recorded(fields);
    created(&message, place_of(&message).conversation(None), &me())
}

fn is_addressed_with(fields: Value) -> bool {
    read(fields).expect("it is a message").message.addressed
}

#[test]
fn a_direct_text_is_a_direct_message() {
    let message = recorded(json!({}));
    let direct = Message {
        guild_id: None,
        member: None,
        ..message
    };
    let mapped = created(&direct, place_of(&direct).conversation(None), &me()).expect("it is a message");
    assert_eq!(mapped.message.conversation, Conversation::direct("900"));
    assert_eq!(
        mapped.message.sender,
        Sender {
            name: Some("Ada L".to_owned()),
            ..Sender::person("55")
        }
    );
    assert_eq!(
        (
            mapped.message.id.as_str(),
            mapped.message.text.as_str(),
            mapped.message.addressed
        ),
        ("1345678901234567890", "hi", true)
    );
    // 1345678901234567890 >> 22 is 320834851559 ms after Discord's epoch.
    assert_eq!(mapped.message.sent_at_ms, Some(1_740_905_251_559));
}

#[test]
fn in_a_server_the_bot_is_addressed_by_name_or_answer() {
    assert!(!is_addressed_with(json!({})));
    let mention = json!({"content": "<@700> and <@!56>, hello", "mentions": [
        {"id": "700", "username": "sluice", "bot": true}, {"id": "56", "username": "bob"},
    ]});
    assert!(is_addressed_with(mention.clone()));
    assert_eq!(
        read(mention).expect("it is a message").message.text,
        "@sluice and @bob, hello"
    );
    let answer = |author: &str| {
        json!({"type": 19, "message_reference": {"message_id": "17", "channel_id": "900", "type": 0},
            "referenced_message": {"id": "17", "channel_id": "900", "author": {"id": author, "username": "x"}}})
    };
    assert!(is_addressed_with(answer("700")));
    assert!(!is_addressed_with(answer("56")));
    let mapped = read(answer("56")).expect("it is a message");
    assert_eq!(mapped.message.in_reply_to.as_deref(), Some("17"));
    assert_eq!(mapped.message.sender.name.as_deref(), Some("Countess"));
}

#[test]
fn the_bots_own_messages_notices_and_empty_ones_are_passed_over() {
    assert_eq!(
        read(json!({"author": {"id": "700", "username": "sluice", "bot": true}})),
        None
    );
    for notice in [1, 6, 7, 18, 21, 24] {
        assert_eq!(read(json!({"type": notice})), None, "type {notice}");
    }
    assert_eq!(read(json!({"content": ""})), None);
    assert_eq!(read(json!({"author": null})), None);
}

#[test]
fn bots_and_webhooks_are_bots() {
    let by = |fields| read(fields).expect("it is a message").message.sender.bot;
    assert!(by(json!({"author": {"id": "9", "username": "x", "bot": true}})));
    assert!(by(json!({"webhook_id": "12"})));
    assert!(!by(json!({})));
}

#[test]
fn a_thread_is_a_thread_of_its_channel() {
    let place = Place {
        channel: "901",
        in_guild: true,
    };
    let channel = |kind: u32, parent: Option<&str>| Channel {
        kind,
        name: Some("plans".to_owned()),
        parent_id: parent.map(str::to_owned),
    };
    let thread = place.conversation(Some(&channel(11, Some("900"))));
    assert_eq!((thread.id.as_str(), thread.thread.as_deref()), ("900", Some("901")));
    assert_eq!(thread.title.as_deref(), Some("plans"));
    // An ordinary channel has a parent too: its category.
    let plain = place.conversation(Some(&channel(0, Some("5"))));
    assert_eq!((plain.id.as_str(), plain.thread), ("901", None));
    assert_eq!(place.conversation(None).id, "901");
}

#[test]
fn an_edit_is_one_only_where_a_person_changed_something() {
    let edited = recorded(json!({"content": "ho", "edited_timestamp": "2026-03-01T10:01:00.000000+00:00"}));
    let mapped = updated(&edited, place_of(&edited).conversation(None), &me()).expect("it is an edit");
    assert_eq!(mapped.message.kind, EventKind::Edit);
    assert_eq!(
        mapped.message.id,
        "1345678901234567890/edit/2026-03-01T10:01:00.000000+00:00"
    );
    assert_eq!(mapped.message.in_reply_to.as_deref(), Some("1345678901234567890"));
    let unfurled = recorded(json!({"embeds": [{"type": "link"}]}));
    assert_eq!(updated(&unfurled, place_of(&unfurled).conversation(None), &me()), None);
}

#[test]
fn files_are_named_with_the_message() {
    let mapped = read(json!({"content": "", "attachments": [{
        "id": "1", "filename": "notes.txt", "size": 8, "content_type": "text/plain; charset=utf-8",
        "url": "https://cdn.discordapp.com/attachments/900/1/notes.txt?ex=1", "proxy_url": "https://media.discordapp.net/x",
    }]}));
    let files = mapped.expect("it is a message").files;
    assert_eq!(
        (files.len(), files[0].filename.as_str(), files[0].size),
        (1, "notes.txt", Some(8))
    );
}

#[test]
fn reactions_and_deletions_are_events_about_their_message() {
    let change: ReactionChange = serde_json::from_value(json!({
        "user_id": "55", "type": 0, "message_id": "17", "channel_id": "900", "guild_id": "800", "burst": false,
        "member": {"user": {"id": "55", "username": "ada"}, "nick": null}, "emoji": {"name": "👍", "id": null},
    }))
    .expect("it is a reaction");
    let conversation = || Conversation::group("900");
    let came = reacted(&change, true, "s1:4", conversation(), &me()).expect("it is a person's");
    assert_eq!((came.kind, came.value.as_deref()), (EventKind::Reaction, Some("👍")));
    assert_eq!(
        (came.id.as_str(), came.in_reply_to.as_deref()),
        ("17/reaction/s1:4", Some("17"))
    );
    let went = reacted(&change, false, "s1:5", conversation(), &me()).expect("it is a person's");
    assert_eq!(went.value, None);
    let own = ReactionChange {
        user_id: "700".to_owned(),
        ..change
    };
    assert_eq!(reacted(&own, true, "s1:6", conversation(), &me()), None);
    let deletion: MessageDelete =
        serde_json::from_value(json!({"id": "17", "channel_id": "900", "guild_id": "800"})).expect("it is a deletion");
    let gone = deleted(&deletion, conversation());
    assert_eq!(
        (gone.kind, gone.in_reply_to.as_deref()),
        (EventKind::Deletion, Some("17"))
    );
}
