use sluicegate_sdk::{Action, Choice, ConversationKind};

use super::*;

fn place() -> Place {
    Place {
        nick: "Gate".to_owned(),
        casemapping: CaseMapping::Rfc1459,
        channel_types: "#&".to_owned(),
        status_prefixes: "@+".to_owned(),
        has_accounts: true,
    }
}

fn read(line: &str) -> Option<InboundMessage> {
    inbound(&Line::parse(line).expect("a line"), &place(), "fallback")
}

fn outbound(target: &str, text: &str) -> OutboundMessage {
    OutboundMessage {
        action: Action::Send,
        delivery_key: "dlv_1".to_owned(),
        attempt: 1,
        conversation: Conversation::group(target),
        in_reply_to: None,
        text: text.to_owned(),
        attachments: Vec::new(),
        choices: Vec::new(),
        draft_id: None,
        already_sent: Vec::new(),
        extra: Vec::new(),
    }
}

#[test]
fn a_query_is_a_direct_conversation() {
    let message = read(":Al!u@host PRIVMSG gate :hello").unwrap();
    assert_eq!(message.conversation.id, "al");
    assert_eq!(message.conversation.kind, ConversationKind::Direct);
    assert!(message.addressed);
    assert_eq!((message.id.as_str(), message.text.as_str()), ("fallback", "hello"));
    assert_eq!(message.sender.id, "~al");
}

#[test]
fn in_a_channel_the_agent_is_addressed_by_its_nick() {
    for (said, addressed, text) in [
        ("hello all", false, "hello all"),
        ("gate: hello", true, "hello"),
        ("GATE, hello", true, "hello"),
        ("@Gate: hello", true, "hello"),
        ("ask gate!", true, "ask gate!"),
        ("gate:", true, "gate:"),
        ("gateway is up", false, "gateway is up"),
        ("the-gate", false, "the-gate"),
        ("gate_: x", false, "gate_: x"),
    ] {
        let message = read(&format!(":al!u@h PRIVMSG #Dev :{said}")).unwrap();
        assert_eq!((message.addressed, message.text.as_str()), (addressed, text), "{said}");
        assert_eq!(message.conversation.id, "#dev");
        assert_eq!(message.conversation.title.as_deref(), Some("#Dev"));
    }
    assert_eq!(read(":al!u@h PRIVMSG @#dev :ops").unwrap().conversation.id, "#dev");
}

#[test]
fn tags_give_id_time_account_and_bots() {
    let line = "@msgid=m1;time=1970-01-01T00:00:01.500Z;account=alice;bot :Al!u@h PRIVMSG #dev :x";
    let message = read(line).unwrap();
    assert_eq!((message.id.as_str(), message.sent_at_ms), ("m1", Some(1500)));
    assert_eq!((message.sender.id.as_str(), message.sender.bot), ("alice", true));
    let unvouched = Place {
        has_accounts: false,
        ..place()
    };
    let message = inbound(&Line::parse(line).unwrap(), &unvouched, "f").unwrap();
    assert_eq!(
        message.sender.id, "~al",
        "an account that nobody vouched for counts nothing"
    );
}

#[test]
fn what_no_person_wrote_to_us_is_ignored() {
    for line in [
        ":al!u@h NOTICE gate :an answer to this would be a loop",
        ":GATE!u@h PRIVMSG #dev :our own echo",
        ":al!u@h PRIVMSG gate :\u{1}VERSION\u{1}",
        ":al!u@h PRIVMSG gate :\u{2}\u{3}04 \u{f}",
        ":al!u@h PRIVMSG someone :not for us",
        "PRIVMSG gate :from nobody",
        ":al!u@h PRIVMSG gate",
        ":al!u@h JOIN #dev",
    ] {
        assert_eq!(read(line), None, "{line}");
    }
}

#[test]
fn actions_and_formatting_become_words() {
    assert_eq!(
        read(":al!u@h PRIVMSG gate :\u{1}ACTION waves\u{1}").unwrap().text,
        "* al waves"
    );
    let colored = read(":al!u@h PRIVMSG gate :\u{2}a\u{2} \u{3}04,12b\u{3} 3\u{3}1,x \u{4}ff0000c").unwrap();
    assert_eq!(colored.text, "a b 3,x c");
}

#[test]
fn no_line_is_cut_on_its_way() {
    let text = "wörter und 🦀 ".repeat(200);
    for target in ["#c", "#a-rather-long-channel-name-of-fifty-bytes-or-so-1234"] {
        let message = outbound(target, &text);
        let lines = lines(&message);
        assert!(lines.len() > 5);
        for line in &lines {
            let seen = format!(
                ":{}!~{}@{} PRIVMSG {target} :{line}\r\n",
                "n".repeat(NICK_BYTES_MAX),
                "u".repeat(10),
                "h".repeat(63)
            );
            assert!(seen.len() <= LINE_BYTES_MAX, "{}", seen.len());
        }
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&lines.join(" ")), words(&text), "nothing is lost");
    }
}

#[test]
fn choices_and_files_become_lines() {
    let mut message = outbound("#c", "Which?");
    message.choices = vec![
        Choice {
            id: "a".into(),
            label: "One".into(),
        },
        Choice {
            id: "b".into(),
            label: "Two".into(),
        },
    ];
    message.attachments = vec![
        Attachment {
            name: Some("a.txt".into()),
            media_type: "text/plain".into(),
            source: AttachmentSource::Url("https://x.example/a".into()),
        },
        Attachment {
            name: None,
            media_type: "text/plain".into(),
            source: AttachmentSource::Blob("b".into()),
        },
    ];
    let lines = lines(&message);
    assert_eq!(
        lines,
        [
            "Which?",
            "1. One",
            "2. Two",
            "a.txt: https://x.example/a",
            "(file can't be sent here: IRC takes no files)"
        ]
    );
}

#[test]
fn refusals_are_told_apart() {
    let answer = |line: &str| Answer::from_numeric(&Line::parse(line).unwrap()).map(Answer::into_result);
    let refused = |line| answer(line).unwrap().unwrap_err();
    assert!(matches!(
        refused(":s 401 me al :No such nick"),
        DeliveryError::NoSuchConversation(_)
    ));
    assert!(matches!(
        refused(":s 404 me #c :Cannot send to channel"),
        DeliveryError::NoSuchConversation(_)
    ));
    assert!(matches!(refused(":s 412 me :No text"), DeliveryError::Rejected(_)));
    assert!(matches!(
        refused(":s 263 me PRIVMSG :try again"),
        DeliveryError::RateLimited(_)
    ));
    assert_eq!(answer(":s 301 me al :away"), None, "a word, no refusal");
}
