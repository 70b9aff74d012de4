//! What an SMTP server's refusals lead to: a small server of our own says what real ones say only on a bad day.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use harness::{Setup, TestGateway, eventually};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::operator::{done, json_of};

/// What the server did with each recipient's mails.
#[derive(Debug, Default)]
struct Mails {
    /// How often each was tried.
    tries: HashMap<String, usize>,
    /// The mails that were written to the end, whatever came of them.
    written: Vec<(String, String)>,
    /// Those that the server took, as it keeps them.
    sent: Vec<String>,
}

/// An SMTP submission server in the clear, on which the recipient's name says what is wrong.
pub(crate) struct SmtpFake {
    address: SocketAddr,
    mails: Arc<Mutex<Mails>>,
}

impl SmtpFake {
    /// Starts it; `login` is its answer to a password.
    pub(crate) async fn start(login: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mails = Arc::new(Mutex::new(Mails::default()));
        let shared = Arc::clone(&mails);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, login, Arc::clone(&shared)));
            }
        });
        Self { address, mails }
    }

    /// Returns how often somebody was to get a mail.
    fn tries(&self, to: &str) -> usize {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.tries.get(to).copied().unwrap_or_default()
    }

    /// Returns the mails to somebody that were written to the end.
    pub(crate) fn written(&self, to: &str) -> Vec<String> {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        let to_them = mails.written.iter().filter(|(name, _)| name == to);
        to_them.map(|(_, mail)| mail.clone()).collect()
    }
}

/// Returns the answer to a recipient, and to a mail for them; none hangs up.
fn answers(name: &str, first: bool) -> (&'static str, Option<&'static str>) {
    const TAKEN: &str = "250 2.0.0 queued";
    match name {
        "gone" => ("550 5.1.1 no such user", Some(TAKEN)),
        "full" => ("552 5.2.2 mailbox full", Some(TAKEN)),
        "grey" => ("451 4.7.1 greylisted", Some(TAKEN)),
        "restarting" if first => ("421 4.3.2 going down", Some(TAKEN)),
        "spam" => ("250 2.1.5 fine", Some("554 5.7.1 looks like spam")),
        "cut" | "lost" if first => ("250 2.1.5 fine", None),
        _ => ("250 2.1.5 fine", Some(TAKEN)),
    }
}

async fn serve(stream: TcpStream, login: &str, mails: Arc<Mutex<Mails>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 fake.example ESMTP\r\n").await?;
    let (mut name, mut mail, mut in_mail, mut verdict) = (String::new(), String::new(), false, None);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let said = std::mem::take(&mut line);
        let verb = said
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_uppercase();
        let answer = match verb.as_str() {
            _ if in_mail && said == ".\r\n" => {
                in_mail = false;
                let mut mails = mails.lock().unwrap_or_else(PoisonError::into_inner);
                let is_taken = verdict.map_or(name != "lost", |verdict: &str| verdict.starts_with('2'));
                if is_taken {
                    mails.sent.push(mail.clone());
                }
                mails.written.push((name.clone(), std::mem::take(&mut mail)));
                match verdict {
                    Some(verdict) => verdict,
                    None => return Ok(()),
                }
            }
            _ if in_mail => {
                mail.push_str(&said);
                continue;
            }
            "EHLO" => "250-fake.example\r\n250 AUTH PLAIN",
            "AUTH" => login,
            "MAIL" => "250 2.1.0 fine",
            "RCPT" => {
                let to = said.split('<').nth(1).and_then(|rest| rest.split('@').next());
                to.unwrap_or_default().clone_into(&mut name);
                let mut mails = mails.lock().unwrap_or_else(PoisonError::into_inner);
                let tries = mails.tries.entry(name.clone()).or_default();
                *tries += 1;
                let (answer, later) = answers(&name, *tries == 1);
                verdict = later;
                answer
            }
            "DATA" => {
                in_mail = true;
                "354 go on"
            }
            "QUIT" => "221 2.0.0 bye",
            _ => "500 5.5.1 what?",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// Starts an IMAP server for one empty mailbox and the folder `Sent`, in which what the fake took is kept.
async fn imap_with_sent(smtp: &SmtpFake) -> SocketAddr {
    let (listener, address) = silent().await;
    let mails = Arc::clone(&smtp.mails);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(show(stream, Arc::clone(&mails)));
        }
    });
    address
}

async fn show(stream: TcpStream, mails: Arc<Mutex<Mails>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"* OK ready\r\n").await?;
    let (mut line, mut folder) = (String::new(), String::new());
    while stream.read_line(&mut line).await? > 0 {
        let said = std::mem::take(&mut line);
        let (tag, command) = said.trim().split_once(' ').unwrap_or_default();
        let quoted = command.split('"').nth(1).unwrap_or_default();
        let mut untagged = String::new();
        let mut done = "OK done";
        match command.split(' ').next().unwrap_or_default() {
            "AUTHENTICATE" => {
                stream.write_all(b"+ \r\n").await?;
                stream.read_line(&mut line).await?;
                line.clear();
            }
            "CAPABILITY" => "* CAPABILITY IMAP4rev1\r\n".clone_into(&mut untagged),
            "EXAMINE" if ["INBOX", "Sent"].contains(&quoted) => {
                quoted.clone_into(&mut folder);
                "* OK [UIDVALIDITY 1] numbered\r\n* OK [UIDNEXT 1] next\r\n".clone_into(&mut untagged);
            }
            "UID" if command.starts_with("UID SEARCH HEADER Message-ID ") && folder == "Sent" => {
                let mails = mails.lock().unwrap_or_else(PoisonError::into_inner);
                let wanted = format!("Message-ID: {quoted}");
                let is_there = mails.sent.iter().any(|mail| message_id(mail) == Some(&wanted));
                untagged = format!("* SEARCH{}\r\n", if is_there { " 1" } else { "" });
            }
            "UID" => "* SEARCH\r\n".clone_into(&mut untagged),
            "NOOP" => {}
            _ => done = "NO what?",
        }
        stream
            .write_all(format!("{untagged}{tag} {done}\r\n").as_bytes())
            .await?;
    }
    Ok(())
}

/// Starts a gateway with a mailbox that is silent, and whose mail goes out through the fake.
pub(crate) async fn mailing(smtp: &SmtpFake, imap: SocketAddr) -> TestGateway {
    mailing_with(smtp, imap, "", "").await
}

/// As [`mailing`], with more settings and more keys of the channel.
pub(crate) async fn mailing_with(smtp: &SmtpFake, imap: SocketAddr, more: &str, keys: &str) -> TestGateway {
    let smtp = smtp.address;
    let setup = Setup::new().echo().env("MAIL_PASSWORD", "a password of the suite");
    let setup = setup.section(&format!(
        "[channels.mail]\ncomponent = \"email\"\naccess = \"open\"\n\
         secrets = {{ password = {{ env = \"MAIL_PASSWORD\" }} }}\n\
         settings = {{ address = \"bot@example.org\", imap = \"tcp://{imap}\", smtp = \"tcp://{smtp}\", clear = true{more} }}\n\
         grant = [\"tcp://{imap}\", \"tcp://{smtp}\"]\n{keys}"
    ));
    setup.start().await
}

/// Makes a server that takes connections and says nothing.
async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Waits until a mail to somebody is in a list of the operator's, and returns its row.
async fn listed(gateway: &TestGateway, list: &[&str], name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let conversation = format!("{name}@example.net");
    eventually(&format!("the mail to {name} in {list:?}"), async || {
        let rows = json_of(gateway, list).await;
        let mut rows = rows.as_array().cloned().unwrap_or_default().into_iter();
        rows.find(|row| row["conversation"] == conversation.as_str() && is_it(row))
    })
    .await
}

fn message_id(mail: &str) -> Option<&str> {
    mail.lines()
        .find(|line| line.to_ascii_lowercase().starts_with("message-id:"))
}

#[tokio::test]
async fn each_refusal_of_an_smtp_server_leads_to_what_it_means() {
    let (_held, imap) = silent().await;
    let smtp = SmtpFake::start("235 2.7.0 welcome").await;
    let gateway = mailing(&smtp, imap).await;
    for name in ["gone", "full", "spam", "grey", "restarting", "cut", "fine"] {
        done(&gateway, &["send", "mail", &format!("{name}@example.net"), "Hello."]).await;
    }
    for (name, words) in [("gone", "5.1.1"), ("full", "5.2.2"), ("spam", "5.7.1")] {
        let dead = listed(&gateway, &["dead", "list"], name, |_| true).await;
        let reason = dead["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(words) && dead["attempts"] == 1, "{name}: {dead}");
    }
    // What is certainly not taken comes again, and what may have been taken comes again under its own id.
    for (name, copies) in [("restarting", 1), ("cut", 2), ("fine", 1)] {
        eventually(&format!("the mail to {name}"), async || {
            (smtp.written(name).len() >= copies).then_some(())
        })
        .await;
    }
    let copies = smtp.written("cut");
    assert!(message_id(&copies[0]).is_some());
    assert_eq!(message_id(&copies[0]), message_id(&copies[1]), "who gets both can tell");
    // Only the grey one still waits: by the usual schedule it would have come again as the others did.
    listed(&gateway, &["outbox", "list"], "grey", |_| true).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 1.0).await;
    assert_eq!((smtp.tries("grey"), smtp.tries("restarting")), (1, 2));
    assert_eq!(smtp.written("restarting").len(), 1);
    assert_eq!(smtp.written("fine").len(), 1);
}

#[tokio::test]
async fn a_refused_password_pauses_the_mailbox_and_keeps_its_mail() {
    let (_held, imap) = silent().await;
    let smtp = SmtpFake::start("535 5.7.8 wrong").await;
    let gateway = mailing(&smtp, imap).await;
    done(&gateway, &["send", "mail", "fine@example.net", "Hello."]).await;
    gateway.wait_for_log(&["mail", "paused", "535"]).await;
    let kept = listed(&gateway, &["outbox", "list"], "fine", |_| true).await;
    assert_ne!(kept["state"], "dead", "{kept}");
    assert_eq!(smtp.written("fine"), Vec::<String>::new());
}

#[tokio::test]
async fn a_mail_whose_answer_was_lost_is_looked_for_where_the_server_keeps_what_it_took() {
    let smtp = SmtpFake::start("235 2.7.0 welcome").await;
    let imap = imap_with_sent(&smtp).await;
    let gateway = mailing_with(&smtp, imap, ", sent-folder = \"Sent\"", "").await;
    for name in ["cut", "lost"] {
        done(&gateway, &["send", "mail", &format!("{name}@example.net"), "Hello."]).await;
    }
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(smtp.written("cut").len(), 1, "the server has it");
    let lost = smtp.written("lost");
    assert_eq!(lost.len(), 2, "the server has not the first");
    assert_eq!(message_id(&lost[0]), message_id(&lost[1]));
}

#[tokio::test]
async fn a_folder_that_is_not_there_tells_nothing_and_a_copy_is_risked() {
    let smtp = SmtpFake::start("235 2.7.0 welcome").await;
    let imap = imap_with_sent(&smtp).await;
    let gateway = mailing_with(&smtp, imap, ", sent-folder = \"Gesendet\"", "").await;
    done(&gateway, &["send", "mail", "cut@example.net", "Hello."]).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(smtp.written("cut").len(), 2);
    gateway.wait_for_log(&["mail", "not searched for", "EXAMINE"]).await;
}
