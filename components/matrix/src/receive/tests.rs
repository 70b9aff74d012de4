use super::*;

fn me() -> Me {
    Me {
        user_id: "@bot:a".to_owned(),
    }
}

fn event(kind: &str, sender: &str, content: Value) -> Value {
    json!({"event_id": "$x", "type": kind, "sender": sender, "content": content})
}

fn membership(of: &str, membership: &str, before: Option<&str>) -> Value {
    let mut event = event("m.room.member", of, json!({"membership": membership}));
    event["state_key"] = json!(of);
    if let Some(before) = before {
        event["unsigned"] = json!({"prev_content": {"membership": before}});
    }
    event
}

#[test]
fn a_cursor_counts_only_for_its_own_account() {
    let cursor = cursor_text(&me(), "s72594_4483_1934");
    assert_eq!(since(&cursor, &me()), Some("s72594_4483_1934"));
    let other = Me {
        user_id: "@bot:b".to_owned(),
    };
    assert_eq!(since(&cursor, &other), None);
    assert_eq!(since("s72594", &me()), None);
}

#[test]
fn what_was_said_before_the_invitation_is_not_for_the_account() {
    let said = event("m.room.message", "@ada:a", json!({"body": "hi"}));
    let cases = [
        // Newest first: a message after the invitation is read.
        (
            vec![
                membership("@bot:a", "join", Some("invite")),
                said.clone(),
                membership("@bot:a", "invite", None),
                said.clone(),
            ],
            Some(2),
        ),
        (
            vec![said.clone(), membership("@bot:a", "join", None), said.clone()],
            Some(1),
        ),
        (vec![membership("@bot:a", "join", Some("leave")), said.clone()], Some(0)),
        (
            vec![said.clone(), membership("@bot:a", "join", Some("join")), said.clone()],
            None,
        ),
        (
            vec![said.clone(), membership("@eve:a", "join", None), said.clone()],
            None,
        ),
    ];
    for (events, wanted) in cases {
        assert_eq!(arrival(&readable(&events), &me()), wanted, "{events:#?}");
    }
}

#[test]
fn a_room_is_encrypted_by_what_others_say() {
    for (sign, wanted) in [
        (
            event(
                "m.room.encryption",
                "@ada:a",
                json!({"algorithm": "m.megolm.v1.aes-sha2"}),
            ),
            true,
        ),
        (event("m.room.encrypted", "@ada:a", json!({"ciphertext": "x"})), true),
        (event("m.room.encrypted", "@bot:a", json!({"ciphertext": "x"})), false),
        (
            event("m.room.message", "@ada:a", json!({"body": "m.room.encrypted"})),
            false,
        ),
    ] {
        let events = readable(std::slice::from_ref(&sign));
        assert_eq!(is_encryption(&events[0], &me()), wanted, "{sign}");
    }
}
