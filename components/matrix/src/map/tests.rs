//! Payloads as Synapse 1.163.2 sent them, shortened.

use std::convert::Infallible;

use sluicegate_sdk::serde_json::{self, json};

use super::*;

/// Events that can be looked up.
struct Known(Vec<Event>);

impl Lookup for Known {
    type Error = Infallible;

    fn event(&mut self, id: &str) -> Result<Option<Event>, Infallible> {
        Ok(self.0.iter().find(|event| event.event_id == id).cloned())
    }
}

fn me() -> Me {
    Me {
        user_id: "@bot:a".to_owned(),
    }
}

fn event(id: &str, sender: &str, kind: &str, content: Value) -> Event {
    let event = json!({
        "event_id": id, "sender": sender, "type": kind, "content": content, "origin_server_ts": 1_750_000_000_123_u64,
    });
    serde_json::from_value(event).expect("an event")
}

fn said(content: Value) -> Event {
    event("$said", "@ada:a", "m.room.message", content)
}

fn room(is_direct: bool) -> Room {
    Room {
        is_direct,
        title: Some("Tea".to_owned()),
        names: [("@ada:a".to_owned(), "Ada".to_owned())].into(),
    }
}

fn read_in(room: &Room, event: &Event, known: Vec<Event>) -> Option<Mapped> {
    let mapped = mapped(event, "!r:a", room, &me(), &mut Known(known));
    mapped.unwrap_or_else(|never| match never {})
}

fn read(event: &Event) -> Option<Mapped> {
    read_in(&room(true), event, Vec::new())
}

fn text(content: Value) -> Option<String> {
    read(&said(content)).map(|mapped| mapped.message.text)
}

#[test]
fn a_text_is_a_message() {
    let mapped = read(&said(json!({"msgtype": "m.text", "body": "hi"}))).expect("a message");
    let message = mapped.message;
    assert_eq!(
        (message.kind, message.text.as_str(), message.id.as_str()),
        (EventKind::Message, "hi", "$said")
    );
    assert_eq!(
        (message.conversation.id.as_str(), message.conversation.thread),
        ("!r:a", None)
    );
    assert_eq!(message.conversation.kind, ConversationKind::Direct);
    assert_eq!(message.conversation.title.as_deref(), Some("Tea"));
    assert_eq!(
        (message.sender.id.as_str(), message.sender.name.as_deref()),
        ("@ada:a", Some("Ada"))
    );
    assert_eq!(message.sent_at_ms, Some(1_750_000_000_123));
    assert_eq!(
        message.extra,
        [(MESSAGE_KEY.to_owned(), "$said $said @ada:a".to_owned())]
    );
    assert!(message.addressed);
}

#[test]
fn what_programs_write_is_not_read() {
    let notice = json!({"msgtype": "m.notice", "body": "I am a bot"});
    let marked = json!({"msgtype": "m.text", "body": "hi", AUTOMATED_KEY: true});
    let own = event(
        "$x",
        "@bot:a",
        "m.room.message",
        json!({"msgtype": "m.text", "body": "hi"}),
    );
    let edited = json!({
        "msgtype": "m.notice", "body": "* x", "m.new_content": {"msgtype": "m.notice", "body": "x"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$y"},
    });
    for event in [said(notice), said(marked), own, said(edited)] {
        assert_eq!(read(&event), None, "{event:?}");
    }
}

#[test]
fn words_come_from_every_kind_of_message() {
    let cases = [
        (json!({"msgtype": "m.emote", "body": "waves"}), Some("* waves")),
        (
            json!({"msgtype": "m.location", "body": "here", "geo_uri": "geo:51.5,0.1"}),
            Some("here (geo:51.5,0.1)"),
        ),
        (json!({"msgtype": "org.example.new", "body": "words"}), Some("words")),
        (json!({"msgtype": "m.key.verification.request", "body": "verify"}), None),
        (json!({"msgtype": "m.server_notice", "body": "terms"}), None),
        (json!({"msgtype": "m.text"}), None),
        (json!({"msgtype": "m.text", "body": 7}), None),
        (json!({}), None),
        (json!([]), None),
        (
            json!({
                "msgtype": "m.text", "body": "> <@eve:a> was said\n> twice\n\nanswer",
                "m.relates_to": {"m.in_reply_to": {"event_id": "$b"}},
            }),
            Some("answer"),
        ),
        (
            json!({"msgtype": "m.text", "body": "> <a quotation\n\nmine"}),
            Some("> <a quotation\n\nmine"),
        ),
    ];
    for (content, wanted) in cases {
        assert_eq!(text(content.clone()).as_deref(), wanted, "{content}");
    }
    let sticker = event(
        "$s",
        "@ada:a",
        "m.sticker",
        json!({"body": "a cat", "url": "mxc://a/1"}),
    );
    assert_eq!(
        read(&sticker).map(|mapped| mapped.message.text).as_deref(),
        Some("a cat")
    );
}

#[test]
fn a_file_has_a_name_and_a_caption() {
    let plain =
        json!({"msgtype": "m.image", "body": "cat.png", "url": "mxc://a.b/Ab1", "info": {"mimetype": "image/png"}});
    let mapped = read(&said(plain)).expect("a message");
    let file = WantedFile {
        server: "a.b".to_owned(),
        id: "Ab1".to_owned(),
        name: Some("cat.png".to_owned()),
        media_type: "image/png".to_owned(),
    };
    assert_eq!((mapped.message.text.as_str(), mapped.file), ("", Some(file.clone())));
    let captioned = json!({
        "msgtype": "m.file", "body": "Look!", "filename": "cat.png", "url": "mxc://a.b/Ab1",
    });
    let mapped = read(&said(captioned)).expect("a message");
    let file = WantedFile {
        media_type: "application/octet-stream".to_owned(),
        ..file
    };
    assert_eq!((mapped.message.text.as_str(), mapped.file), ("Look!", Some(file)));
    let nowhere = json!({"msgtype": "m.file", "body": "x", "url": "https://evil.example/x"});
    assert_eq!(read(&said(nowhere)).expect("its words").file, None);
}

#[test]
fn threads_and_replies_are_told_apart() {
    let fallback = json!({
        "msgtype": "m.text", "body": "in the thread",
        "m.relates_to": {
            "rel_type": "m.thread", "event_id": "$root", "is_falling_back": true, "m.in_reply_to": {"event_id": "$last"},
        },
    });
    let message = read(&said(fallback)).expect("a message").message;
    assert_eq!(
        (message.conversation.thread.as_deref(), message.in_reply_to),
        (Some("$root"), None)
    );
    let real = json!({
        "msgtype": "m.text", "body": "no, that one",
        "m.relates_to": {
            "rel_type": "m.thread", "event_id": "$root", "is_falling_back": false, "m.in_reply_to": {"event_id": "$b"},
        },
    });
    let message = read(&said(real)).expect("a message").message;
    assert_eq!(message.in_reply_to.as_deref(), Some("$b"));
}

#[test]
fn an_edit_stands_where_its_message_stood_and_is_its_authors() {
    let content = json!({
        "msgtype": "m.text", "body": "* better",
        "m.new_content": {"msgtype": "m.text", "body": "better"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$first"},
    });
    let first = |sender: &str| {
        let relation = json!({"rel_type": "m.thread", "event_id": "$root"});
        event(
            "$first",
            sender,
            "m.room.message",
            json!({"body": "good", "m.relates_to": relation}),
        )
    };
    let edit = said(content);
    let message = read_in(&room(true), &edit, vec![first("@ada:a")])
        .expect("an edit")
        .message;
    assert_eq!((message.kind, message.text.as_str()), (EventKind::Edit, "better"));
    assert_eq!(message.in_reply_to.as_deref(), Some("$first"));
    assert_eq!(message.conversation.thread.as_deref(), Some("$root"));
    assert_eq!(message.extra[0].1, "$said $first @ada:a");
    assert_eq!(
        read_in(&room(true), &edit, vec![first("@eve:a")]),
        None,
        "someone else's message"
    );
    let message = read(&edit).expect("an edit of what can't be seen").message;
    assert_eq!(message.conversation.thread, None);
}

#[test]
fn in_a_group_the_account_is_addressed_by_mention_reply_or_thread() {
    let mine = event("$mine", "@bot:a", "m.room.message", json!({"body": "I said"}));
    let hers = event("$hers", "@eve:a", "m.room.message", json!({"body": "she said"}));
    let text = |more: Value| {
        let mut content = json!({"msgtype": "m.text", "body": "hello"});
        content
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().unwrap_or_default());
        content
    };
    let reply = |to: &str| text(json!({"m.relates_to": {"m.in_reply_to": {"event_id": to}}}));
    let cases = [
        (text(json!({})), false),
        (text(json!({"m.mentions": {"user_ids": ["@bot:a"]}})), true),
        (text(json!({"m.mentions": {"user_ids": ["@eve:a"]}})), false),
        (text(json!({"m.mentions": {}, "body": "@bot:a"})), false),
        (text(json!({"body": "@bot:a: hello"})), true),
        (
            text(json!({"formatted_body": "<a href=\"https://matrix.to/#/@bot:a\">Bot</a>"})),
            true,
        ),
        (reply("$mine"), true),
        (reply("$hers"), false),
        (reply("$unknown"), false),
        (
            text(json!({"m.relates_to": {"rel_type": "m.thread", "event_id": "$mine"}})),
            true,
        ),
    ];
    for (content, wanted) in cases {
        let mapped = read_in(&room(false), &said(content.clone()), vec![mine.clone(), hers.clone()]);
        let message = mapped.expect("a message").message;
        assert_eq!(message.addressed, wanted, "{content}");
        assert_eq!(message.conversation.kind, ConversationKind::Group);
    }
}

#[test]
fn reactions_and_redactions_are_events() {
    let content = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": "$x", "key": "👍"}});
    let message = read(&event("$r", "@ada:a", "m.reaction", content))
        .expect("an event")
        .message;
    assert_eq!(
        (message.kind, message.value.as_deref()),
        (EventKind::Reaction, Some("👍"))
    );
    assert_eq!(message.in_reply_to.as_deref(), Some("$x"));
    let newer = event("$d", "@ada:a", "m.room.redaction", json!({"redacts": "$x"}));
    let mut older = event("$d", "@ada:a", "m.room.redaction", json!({}));
    older.redacts = Some("$x".to_owned());
    for redaction in [newer, older] {
        let message = read(&redaction).expect("an event").message;
        assert_eq!(
            (message.kind, message.in_reply_to.as_deref()),
            (EventKind::Deletion, Some("$x"))
        );
    }
    assert_eq!(
        read(&event("$r", "@ada:a", "m.reaction", json!({"m.relates_to": "x"}))),
        None
    );
}

#[test]
fn a_room_of_two_is_direct() {
    let members = |count: usize| {
        let joined = (0..count).map(|n| (format!("@{n}:a"), json!({"display_name": format!("N{n}")})));
        let joined: serde_json::Map<String, Value> = joined.collect();
        serde_json::from_value::<Members>(json!({"joined": joined})).expect("members")
    };
    assert!(Room::of(members(2), None).is_direct);
    let three = Room::of(members(3), None);
    assert!(!three.is_direct);
    assert_eq!(three.names.get("@1:a").map(String::as_str), Some("N1"));
    assert!(Room::of(members(NAMED_MEMBERS_MAX + 1), None).names.is_empty());
}
