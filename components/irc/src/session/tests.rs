use super::*;

fn profile() -> Profile {
    Profile {
        nick: "gate".to_owned(),
        real_name: "A gateway".to_owned(),
        account: "acc".to_owned(),
        channels: vec!["#a".to_owned(), "#b".to_owned()],
        id: "s1".to_owned(),
        ..Profile::default()
    }
}

fn feed(session: &mut Session, lines: &[&str]) -> Vec<Effect> {
    let lines = lines.iter().map(|line| Line::parse(line).expect("a line"));
    lines.flat_map(|line| session.line(&line, 0)).collect()
}

fn written(effects: &[Effect]) -> Vec<&str> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Write(line) | Effect::WriteSecret(line) => Some(line.as_str()),
            _ => None,
        })
        .collect()
}

fn registered(profile: Profile, capabilities: &str) -> Session {
    let (mut session, _) = Session::new(profile, 2_000, 0);
    let ls = format!(":s CAP * LS :{capabilities}");
    for name in written(&feed(&mut session, &[&ls]))
        .iter()
        .filter_map(|line| line.strip_prefix("CAP REQ :"))
    {
        feed(&mut session, &[&format!(":s CAP * ACK :{name}")]);
    }
    let effects = feed(
        &mut session,
        &[
            ":s 001 gate :hi",
            ":s 005 gate CASEMAPPING=ascii CHANTYPES=# BOT=B :are supported",
        ],
    );
    assert!(effects.contains(&Effect::Registered));
    assert_eq!(written(&effects), ["MODE gate +B"]);
    session
}

fn order(target: &str, text: &str) -> Order {
    Order {
        target: target.to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn all_that_a_server_says_of_itself_is_heard() {
    let (mut session, _) = Session::new(profile(), 2_000, 0);
    // Most servers sort what they say.
    let line = ":s 005 gate BOT=B CASEMAPPING=ascii CHANTYPES=! STATUSMSG=@ :are supported";
    let effects = feed(&mut session, &[":s CAP * LS :", ":s 001 gate :hi", line]);
    assert!(written(&effects).contains(&"MODE gate +B"));
    assert_eq!(session.place.casemapping, CaseMapping::parse("ascii"));
    assert_eq!(
        (
            session.place.channel_types.as_str(),
            session.place.status_prefixes.as_str()
        ),
        ("!", "@")
    );
}

#[test]
fn capabilities_are_asked_for_one_by_one_and_the_password_never_shows() {
    let profile = Profile {
        has_password: true,
        has_server_password: true,
        ..profile()
    };
    let (mut session, begun) = Session::new(profile, 2_000, 0);
    assert_eq!(
        written(&begun),
        [
            "CAP LS 302",
            "PASS :{{server-password}}",
            "NICK gate",
            "USER gate 0 * :A gateway"
        ]
    );
    assert_eq!(
        begun
            .iter()
            .filter(|effect| matches!(effect, Effect::WriteSecret(_)))
            .count(),
        1
    );
    assert!(feed(&mut session, &[":s CAP * LS * :message-tags unknown-thing"]).is_empty());
    let asked = feed(&mut session, &[":s CAP * LS :sasl=PLAIN,EXTERNAL account-tag"]);
    assert_eq!(
        written(&asked),
        ["CAP REQ :message-tags", "CAP REQ :account-tag", "CAP REQ :sasl"]
    );
    assert!(
        feed(
            &mut session,
            &[":s CAP * ACK :message-tags", ":s CAP * NAK :account-tag"]
        )
        .is_empty()
    );
    let started = feed(&mut session, &[":s CAP * ACK :sasl"]);
    assert_eq!(written(&started), ["AUTHENTICATE PLAIN"]);
    let proof = feed(&mut session, &["AUTHENTICATE +"]);
    let template = "AUTHENTICATE {{base64:acc\0acc\0{{password}}}}".to_owned();
    assert_eq!(proof, [Effect::WriteSecret(template)]);
    assert_eq!(
        written(&feed(&mut session, &[":s 900 * * acc :in", ":s 903 * :done"])),
        ["CAP END"]
    );
    assert!(!session.place.has_accounts);
}

#[test]
fn refused_credentials_are_told_from_other_ends() {
    let with_password = Profile {
        has_password: true,
        ..profile()
    };
    let (mut session, _) = Session::new(with_password.clone(), 2_000, 0);
    feed(&mut session, &[":s CAP * LS :sasl", ":s CAP * ACK :sasl"]);
    assert!(matches!(
        feed(&mut session, &[":s 904 * :SASL failed"])[..],
        [Effect::Refused(_)]
    ));
    let (mut session, _) = Session::new(with_password.clone(), 2_000, 0);
    assert!(
        matches!(feed(&mut session, &[":s CAP * LS :x"])[..], [Effect::End(_)]),
        "no SASL is not the password's fault"
    );
    let (mut session, _) = Session::new(with_password, 2_000, 0);
    assert!(
        matches!(feed(&mut session, &[":s 001 gate :hi"])[..], [Effect::End(_)]),
        "never in without the account"
    );
    let (mut session, _) = Session::new(profile(), 2_000, 0);
    assert!(matches!(
        feed(&mut session, &["ERROR :Access denied: Bad server password"])[..],
        [Effect::Refused(_)]
    ));
    assert!(matches!(
        feed(&mut registered(profile(), ""), &["ERROR :Closing link: password"])[..],
        [Effect::End(_)]
    ));
}

#[test]
fn a_nick_in_use_gets_another_ending_that_every_server_takes() {
    let (mut session, _) = Session::new(
        Profile {
            nick: "gatekeeper".to_owned(),
            ..profile()
        },
        2_000,
        0,
    );
    let effects = feed(&mut session, &[":s 433 * gatekeeper :in use"]);
    assert_eq!(written(&effects), ["NICK gatekee_1"]);
    assert_eq!(session.place.nick, "gatekee_1");
    for _ in 0..4 {
        feed(&mut session, &[":s 433 * x :in use"]);
    }
    assert!(matches!(
        feed(&mut session, &[":s 433 * x :in use"])[..],
        [Effect::End(_)]
    ));
}

#[test]
fn channels_are_joined_once_and_then_can_be_reached() {
    let mut session = registered(profile(), "");
    let effects = feed(&mut session, &[":s 376 gate :end", ":s 422 gate :none"]);
    assert_eq!(written(&effects), ["JOIN #a", "JOIN #b"]);
    let joined = feed(
        &mut session,
        &[":gate!u@h JOIN #A", ":other!u@h JOIN #A", ":gate!u@h JOIN :#b"],
    );
    assert_eq!(joined, [Effect::Reachable("#a".into()), Effect::Reachable("#b".into())]);
}

#[test]
fn an_order_is_answered_when_the_server_has_passed_its_barrier() {
    let mut session = registered(profile(), "");
    assert!(session.takes_orders(0));
    let effects = session.order(7, order("#a", "hello\r\nQUIT"), 0);
    assert_eq!(written(&effects), ["PRIVMSG #a :helloQUIT", "PING :s1-1"]);
    assert!(!session.takes_orders(0), "one after the other");
    assert!(feed(&mut session, &[":s PONG s s1"]).is_empty(), "another barrier");
    assert_eq!(
        feed(&mut session, &[":s PONG s :s1-1"]),
        [Effect::Answer(7, Answer::Sent("s1-1".into()))]
    );

    session.order(8, order("nobody", "x"), 0);
    assert!(feed(&mut session, &[":s 401 gate nobody :No such nick"]).is_empty());
    let refused = feed(&mut session, &[":s PONG s :s1-2"]);
    assert!(
        matches!(&refused[..], [Effect::Answer(8, Answer::Gone(_))]),
        "{refused:?}"
    );
    let refused = session.order(9, order("#a b", "x"), 0);
    assert!(
        matches!(&refused[..], [Effect::Answer(9, Answer::Rejected(_))]),
        "{refused:?}"
    );
}

#[test]
fn with_labels_the_echo_gives_the_servers_id() {
    let mut session = registered(profile(), "message-tags batch echo-message labeled-response");
    let effects = session.order(1, order("#a", "x"), 0);
    assert_eq!(written(&effects)[0], "@label=s1-1 PRIVMSG #a :x");
    feed(
        &mut session,
        &[
            "@msgid=other :gate!u@h PRIVMSG #a :an older one",
            "@label=s1-1;msgid=m9 :gate!u@h PRIVMSG #a :x",
        ],
    );
    assert_eq!(
        feed(&mut session, &["PONG s s1-1"]),
        [Effect::Answer(1, Answer::Sent("m9".into()))]
    );
}

#[test]
fn a_silent_server_is_asked_and_then_left() {
    let mut session = registered(profile(), "");
    assert_eq!(session.wait_ms(0), QUIET_MS_MAX);
    assert!(session.tick(QUIET_MS_MAX - 1).is_empty());
    assert_eq!(written(&session.tick(QUIET_MS_MAX)), ["PING :s1"]);
    assert!(matches!(
        session.tick(QUIET_MS_MAX + ANSWER_MS_MAX)[..],
        [Effect::End(_)]
    ));
    let (mut silent, _) = Session::new(profile(), 2_000, 0);
    assert!(matches!(silent.tick(REGISTER_MS_MAX)[..], [Effect::End(_)]));
    let mut session = registered(profile(), "");
    session.order(1, order("#a", "x"), 0);
    assert!(
        matches!(session.tick(ANSWER_MS_MAX)[..], [Effect::End(_)]),
        "an order without an answer"
    );
}

#[test]
fn others_messages_come_in_and_ours_do_not() {
    let mut session = registered(profile(), "");
    let effects = feed(
        &mut session,
        &[":al!u@h PRIVMSG #a :gate: hi", ":gate!u@h PRIVMSG #a :mine", "PING :x"],
    );
    let [Effect::Publish(message), Effect::Write(pong)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (message.text.as_str(), message.id.as_str(), pong.as_str()),
        ("hi", "s1-1", "PONG :x")
    );
    let kicked = feed(&mut session, &[":op!u@h KICK #a gate :out"]);
    assert!(matches!(&kicked[..], [Effect::Warn(words)] if words.contains("#a")));
}
