use sluicegate_sdk::Action;

use super::*;

fn mailbox() -> Mailbox {
    Mailbox {
        address: "Bot@x.example".to_owned(),
        authenticated_by: None,
    }
}

const HEAD: &str = "From: Alice <Alice@y.example>\r\nTo: bot@x.example\r\nSubject: Lunch?\r\nMessage-ID: <m1@y.example>\r\nDate: Thu, 1 Jan 1970 00:00:02 +0000\r\n";

fn read(headers: &str, body: &str) -> Result<Received, Ignored> {
    whole(&format!("{HEAD}{headers}\r\n{body}"), &mailbox())
}

fn whole(mail: &str, mailbox: &Mailbox) -> Result<Received, Ignored> {
    inbound(mail.into(), Reading::Whole, mailbox, "uid:1.2")
}

#[test]
fn a_mail_begins_a_thread_and_its_subject_is_part_of_it() {
    let message = read("", "Today at 12?\r\n").unwrap().message;
    assert_eq!(message.id, "m1@y.example");
    assert_eq!(message.text, "Lunch?\n\nToday at 12?");
    assert_eq!(message.conversation.id, "alice@y.example");
    assert_eq!(message.conversation.thread.as_deref(), Some("m1@y.example"));
    assert_eq!(
        (message.sender.id.as_str(), message.sender.name.as_deref()),
        ("alice@y.example", Some("Alice"))
    );
    assert_eq!(message.sent_at_ms, Some(2000));
}

#[test]
fn an_answer_stays_in_its_thread_without_what_it_quotes() {
    let answer = read(
        "In-Reply-To: <b@x.example>\r\nReferences: <root@y.example> <b@x.example>\r\n",
        "Yes.\r\n\r\nOn Monday, Bot wrote:\r\n> Today?\r\n>\r\n> really\r\n",
    );
    let message = answer.unwrap().message;
    assert_eq!(message.text, "Yes.");
    assert_eq!(message.conversation.thread.as_deref(), Some("root@y.example"));
    assert_eq!(message.in_reply_to.as_deref(), Some("b@x.example"));
    assert_eq!(message.extra[1].1, "root@y.example b@x.example m1@y.example");
    let only_quote = read("", "> a\r\n> b\r\n").unwrap().message;
    assert!(
        only_quote.text.contains("> a"),
        "a mail of nothing but a quote is what was said"
    );
}

#[test]
fn words_are_read_in_the_encoding_that_they_came_in() {
    for (charset, encoding, body, wanted) in [
        (
            "iso-8859-1",
            "quoted-printable",
            "Gr=FC=DFe, soft=\r\nly",
            "Grüße, softly",
        ),
        ("windows-1252", "quoted-printable", "=80 5", "€ 5"),
        ("koi8-r", "base64", "0NLJ18XU", "привет"),
        ("iso-2022-jp", "base64", "GyRCJDMkcyRLJEEkTxsoQg==", "こんにちは"),
        ("shift_jis", "base64", "grGC8YLJgr+CzQ==", "こんにちは"),
        ("gb2312", "base64", "xOO6ww==", "你好"),
        ("euc-kr", "base64", "vsiz5w==", "안녕"),
        ("utf-8", "8bit", "naïve", "naïve"),
    ] {
        let headers = format!(
            "In-Reply-To: <b@x.example>\r\nContent-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"
        );
        assert_eq!(read(&headers, body).unwrap().message.text, wanted, "{charset}");
    }
    let mail = "From: a@y.example\r\nSubject: =?ISO-2022-JP?B?GyRCQ2s/KRsoQg==?=\r\n\r\n";
    let read = whole(mail, &mailbox()).unwrap();
    assert_eq!(read.message.text, "昼食");
}

#[test]
fn what_a_program_sent_is_not_answered() {
    for (headers, why) in [
        ("Auto-Submitted: auto-replied\r\n", Ignored::Automatic),
        ("Auto-submitted: Auto-Generated; x=y\r\n", Ignored::Automatic),
        ("Precedence: bulk\r\n", Ignored::Automatic),
        ("List-Id: <l.example>\r\n", Ignored::Automatic),
        ("List-Unsubscribe: <https://l.example>\r\n", Ignored::Automatic),
        ("Content-Type: multipart/report; boundary=b\r\n", Ignored::Automatic),
        ("Return-Path: <>\r\n", Ignored::NoSender),
    ] {
        assert_eq!(read(headers, "x").err(), Some(why), "{headers}");
    }
    assert!(read("Auto-Submitted: no\r\nPrecedence: first-class\r\n", "x").is_ok());
    let from = |from: &str| whole(&format!("From: {from}\r\nSubject: s\r\n\r\nx"), &mailbox()).err();
    assert_eq!(from("bot@X.example"), Some(Ignored::Own));
    assert_eq!(from("MAILER-DAEMON@y.example"), Some(Ignored::NoSender));
    assert_eq!(from("a@b\r\nBcc: c@d"), None, "a folded header is another header");
    assert_eq!(from("nobody"), Some(Ignored::NoSender));
    assert!(whole("", &mailbox()).is_err());
}

#[test]
fn a_sender_counts_only_where_the_trusted_server_vouches_for_him() {
    let strict = Mailbox {
        authenticated_by: Some("mx.x.example".to_owned()),
        ..mailbox()
    };
    let sender = |headers: &str| {
        let raw = format!("{headers}{HEAD}\r\nx");
        whole(&raw, &strict).unwrap().message.sender.id
    };
    let good = "Authentication-Results: mx.x.example; spf=pass; dmarc=pass (p=none) header.from=y.example\r\n";
    assert_eq!(sender(good), "alice@y.example");
    let forged = "Authentication-Results: mx.evil.example; dmarc=pass\r\n";
    for headers in [
        "",
        forged,
        &format!("{forged}{good}"),
        "Authentication-Results: mx.x.example; dmarc=fail; x=dmarc=pass\r\n",
    ] {
        assert_eq!(sender(headers), "unverified:alice@y.example", "{headers}");
    }
}

#[test]
fn files_come_along() {
    let body = "--b\r\nContent-Type: text/plain\r\n\r\nsee file\r\n--b\r\nContent-Type: text/csv; name=a.csv\r\nContent-Disposition: attachment; filename=\"a.csv\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYSxiCg==\r\n--b--\r\n";
    let received = read(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
        body,
    )
    .unwrap();
    let file = File {
        name: Some("a.csv".into()),
        media_type: "text/csv".into(),
        bytes: b"a,b\n".to_vec(),
    };
    assert_eq!(received.files, [file]);
}

const MIXED: &str = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";

#[test]
fn a_mail_in_a_mail_is_a_file_like_any_other() {
    let inner =
        "From: x@z.example\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nthe inner one\r\n--c--";
    let body = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\nsee below\r\n--b\r\nContent-Type: message/rfc822; name=fwd.eml\r\n\r\n{inner}\r\n--b--\r\n"
    );
    let received = read(MIXED, &body).unwrap();
    assert_eq!(received.message.text, "Lunch?\n\nsee below");
    let file = File {
        name: Some("fwd.eml".into()),
        media_type: "message/rfc822".into(),
        bytes: inner.as_bytes().to_vec(),
    };
    assert_eq!(received.files, [file]);
}

#[test]
fn more_than_a_message_holds_is_cut_with_a_note() {
    let file = "--b\r\nContent-Type: text/csv; name=a.csv\r\nContent-Disposition: attachment\r\n\r\na,b\r\n";
    let received = read(MIXED, &file.repeat(FILES_MAX + 3)).unwrap();
    assert_eq!(received.files.len(), FILES_MAX);
    assert!(
        received.message.text.ends_with("\n[3 more files were left out]"),
        "{}",
        received.message.text
    );
    for kind in ["text/plain", "text/html"] {
        let text = "wörter ".repeat(HTML_BYTES_MAX / 7);
        let cut = read(&format!("Content-Type: {kind}; charset=utf-8\r\n"), &text).unwrap();
        let text = cut.message.text;
        assert!(text.ends_with("\n[the rest of this mail is too long]"), "{kind}");
        assert!(
            (TEXT_BYTES_MAX - 8..TEXT_BYTES_MAX + 100).contains(&text.len()),
            "{kind}: {}",
            text.len()
        );
    }
}

#[test]
fn of_a_mail_that_would_cost_too_much_the_header_is_read() {
    let mail = format!("{HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nwords\r\n--b--\r\n");
    let head = inbound(mail.into(), Reading::Head, &mailbox(), "u").unwrap();
    assert_eq!(
        (head.message.text.as_str(), head.message.id.as_str(), head.files.len()),
        ("Lunch?\n[the rest of this mail could not be read]", "m1@y.example", 0)
    );
    let automatic = format!("{HEAD}Precedence: bulk\r\n\r\nx");
    let ignored = inbound(automatic.into(), Reading::Head, &mailbox(), "u").err();
    assert_eq!(ignored, Some(Ignored::Automatic));
}

fn answer(text: &str, extra: &[(&str, &str)]) -> OutboundMessage {
    OutboundMessage {
        action: Action::Send,
        delivery_key: "dlv_1".to_owned(),
        attempt: 1,
        conversation: Conversation::direct("alice@y.example"),
        in_reply_to: Some("m1@y.example".to_owned()),
        text: text.to_owned(),
        attachments: Vec::new(),
        choices: Vec::new(),
        draft_id: None,
        already_sent: Vec::new(),
        extra: extra
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[test]
fn an_answer_is_threaded_and_says_that_a_program_wrote_it() {
    let message = answer(
        "**yes** <b>",
        &[
            ("email.subject", "Lunch?\r\nBcc: evil@z.example"),
            ("email.references", "root@y.example m1@y.example"),
        ],
    );
    let file = File {
        name: Some("a\r\nX: y.txt".into()),
        media_type: "text/plain".into(),
        bytes: b"hi".to_vec(),
    };
    let raw = outbound(&message, &mailbox(), "The Bot", &[file], 3_000).unwrap();
    let mail = MessageParser::default().parse(&raw[..]).unwrap();
    assert_eq!(mail.message_id(), Some("dlv_1@x.example"));
    assert_eq!(ids(mail.in_reply_to()), ["m1@y.example"]);
    assert_eq!(ids(mail.references()), ["root@y.example", "m1@y.example"]);
    assert_eq!(mail.subject(), Some("Re: Lunch? Bcc: evil@z.example"));
    assert!(
        mail.bcc().is_none() && mail.header_raw("X").is_none(),
        "nothing slips into the head"
    );
    assert_eq!(mail.header_raw("Auto-Submitted").map(str::trim), Some("auto-replied"));
    assert_eq!(mail.body_text(0).unwrap().trim(), "**yes** <b>");
    assert!(mail.body_html(0).unwrap().contains("<strong>yes</strong> &lt;b&gt;"));
    assert_eq!(mail.attachment(0).unwrap().contents(), b"hi");
    let other = Mailbox {
        address: "other@z.example".into(),
        ..mailbox()
    };
    assert_eq!(
        inbound(raw.clone(), Reading::Whole, &other, "u").err(),
        Some(Ignored::Automatic),
        "two of us do not talk for ever"
    );
    assert_eq!(
        message_id("dlv_1", "Bot@x.example"),
        message_id("dlv_1", "Bot@x.example")
    );
    assert!(outbound(&answer(" ", &[]), &mailbox(), "b", &[], 0).is_err());
}

#[test]
fn an_address_can_break_no_command() {
    assert!(is_address("a.b+c@x.example"));
    for wrong in [
        "",
        "a",
        "@x",
        "a@",
        "a@b@c",
        "a b@x",
        "a@x>\r\nDATA",
        "<a@x>",
        "a@x,b@y",
        "\"a\"@x",
    ] {
        assert!(!is_address(wrong), "{wrong:?}");
    }
}
