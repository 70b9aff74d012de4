//! An IMAP server at its most awkward: it says what has come at any time, and only once. And mails of people who mean harm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::eventually;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::email::{SmtpFake, mailing, mailing_with};

/// A mailbox into which mails come while the server is busy with something else.
struct Mailbox {
    mails: Vec<Vec<u8>>,
    /// How many of them come at a time.
    step: usize,
    /// How many mails have come so far.
    count: AtomicUsize,
    /// How many logins were tried.
    logins: AtomicUsize,
}

impl Mailbox {
    /// Lets mails come, and returns the line that announces them.
    fn announce(&self) -> String {
        format!(
            "* {} EXISTS\r\n",
            self.count.fetch_add(self.step, Ordering::SeqCst) + self.step
        )
    }

    fn mail(&self, uid: &str) -> &[u8] {
        let uid: usize = uid.parse().expect("a number");
        &self.mails[uid - 1]
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Writes a mail: its writer, and what follows the lines that every mail has.
fn mail(writer: &str, rest: &[u8]) -> Vec<u8> {
    let head = format!("From: <{writer}@example.net>\r\nTo: bot@example.org\r\nMessage-ID: <{writer}@example.net>\r\n");
    [head.as_bytes(), rest].concat()
}

/// Starts the server. The first login fails for a reason of its own; then mails come, so many at a time, with the end of a
/// search, with the contents of another mail, and before it goes idle.
async fn start(mails: Vec<Vec<u8>>, step: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mailbox = Arc::new(Mailbox {
        mails,
        step,
        count: AtomicUsize::new(0),
        logins: AtomicUsize::new(0),
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&mailbox)));
        }
    });
    address
}

async fn serve(stream: TcpStream, mailbox: Arc<Mailbox>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"* OK ready\r\n").await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let said = std::mem::take(&mut line);
        let (tag, command) = said.trim().split_once(' ').unwrap_or_default();
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match words[..] {
            ["AUTHENTICATE", ..] => {
                stream.write_all(b"+ \r\n").await?;
                stream.read_line(&mut line).await?;
                line.clear();
                if mailbox.logins.fetch_add(1, Ordering::SeqCst) == 0 {
                    format!("{tag} NO [UNAVAILABLE] Temporary authentication failure.\r\n")
                } else {
                    format!("{tag} OK welcome\r\n")
                }
            }
            ["CAPABILITY"] => format!("* CAPABILITY IMAP4rev1 IDLE\r\n{tag} OK\r\n"),
            ["EXAMINE", _] => format!("* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 1] x\r\n{tag} OK\r\n"),
            ["UID", "SEARCH", "UID", range] => {
                let first: usize = range.trim_end_matches(":*").parse().expect("a number");
                let found: Vec<String> = (first..=mailbox.count()).map(|uid| format!(" {uid}")).collect();
                // The first search ends as the first mail comes: it is announced, and not found.
                let news = if mailbox.count() == 0 {
                    mailbox.announce()
                } else {
                    String::new()
                };
                format!("* SEARCH{}\r\n{news}{tag} OK\r\n", found.concat())
            }
            ["UID", "FETCH", uid, "(RFC822.SIZE)"] => {
                let size = mailbox.mail(uid).len();
                format!("* 1 FETCH (UID {uid} RFC822.SIZE {size})\r\n{tag} OK\r\n")
            }
            ["UID", "FETCH", uid, _] => {
                let mail = mailbox.mail(uid);
                let start = format!("* 1 FETCH (UID {uid} BODY[] {{{}}}\r\n", mail.len());
                stream.write_all(start.as_bytes()).await?;
                stream.write_all(mail).await?;
                let news = if mailbox.count() == 1 {
                    mailbox.announce()
                } else {
                    String::new()
                };
                format!(")\r\n{news}{tag} OK\r\n")
            }
            ["IDLE"] => {
                let news = if mailbox.count() == 2 {
                    mailbox.announce()
                } else {
                    String::new()
                };
                stream.write_all(format!("{news}+ idling\r\n").as_bytes()).await?;
                let mut done = [0; 6];
                stream.read_exact(&mut done).await?;
                format!("{tag} OK\r\n")
            }
            _ => format!("{tag} BAD what?\r\n"),
        };
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_mail_that_was_announced_in_passing_is_answered_at_once() {
    let smtp = SmtpFake::start("235 2.7.0 welcome").await;
    let writers = ["ada", "berta", "cleo"];
    let mails = writers.map(|writer| mail(writer, b"\r\nhello\r\n"));
    let imap = start(mails.to_vec(), 1).await;
    let _gateway = mailing(&smtp, imap).await;
    for writer in writers {
        answered(&smtp, writer).await;
    }
}

/// Waits for the one answer to a writer, and returns it.
async fn answered(smtp: &SmtpFake, writer: &str) -> String {
    eventually(&format!("one answer to {writer}"), async || {
        let mut answers = smtp.written(writer);
        (answers.len() == 1).then(|| answers.remove(0))
    })
    .await
}

/// Writes mails that would cost their reader more than it has: the writer, and what follows the head.
fn harmful() -> Vec<(&'static str, Vec<u8>)> {
    let mixed = "Content-Type: multipart/mixed; boundary=a\r\n\r\n";
    let nested = format!("--a\r\nContent-Type: message/rfc822\r\n\r\n{mixed}").repeat(4_000);
    let file = "--a\r\nContent-Disposition: attachment\r\n\r\nx\r\n";
    vec![
        ("nested", format!("{mixed}{nested}").into()),
        (
            "encoded",
            format!(
                "Subject: hidden\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
                base64(format!("{mixed}{nested}").as_bytes())
            )
            .into(),
        ),
        ("fields", "a:\n".repeat(1_000_000).into()),
        ("recipients", format!("Cc: {}\r\n\r\nx", "a,".repeat(2_000_000)).into()),
        ("letters", [b"\r\n".as_slice(), &b"\xff".repeat(5_000_000)].concat()),
        ("files", format!("{mixed}{}", file.repeat(100_000)).into()),
        ("few", format!("{mixed}{}", file.repeat(40)).into()),
        ("long", format!("\r\n{}", "word ".repeat(100_000)).into()),
        (
            "claims",
            encoded(
                "Subject: claims\r\nContent-Type: text/plain; charset=shift_jis",
                9_000_000,
            ),
        ),
        // What no look at it from outside tells: it can be begun, and no more.
        ("trap", encoded("Content-Type: image/png", 17_000_000)),
    ]
}

/// Returns a mail of as many bytes that are in no encoding of letters.
fn encoded(header: &str, bytes: usize) -> Vec<u8> {
    let body = base64(&b"\xff".repeat(bytes));
    format!("{header}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}").into()
}

/// Encodes as mails do, in lines of 76 characters.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let lines = bytes
        .chunks(57)
        .map(|line| base64::engine::general_purpose::STANDARD.encode(line) + "\r\n");
    lines.collect()
}

#[tokio::test]
async fn no_mail_keeps_those_behind_it_from_being_read() {
    let smtp = SmtpFake::start("235 2.7.0 welcome").await;
    let mut mails: Vec<_> = harmful().iter().map(|(writer, rest)| mail(writer, rest)).collect();
    mails.push(mail("ada", b"\r\nhello\r\n"));
    let count = mails.len();
    let imap = start(mails, count).await;
    let gateway = mailing_with(&smtp, imap, "", "limits = { memory_mib = 36 }").await;
    for (writer, note) in [
        ("nested", "could not be read"),
        ("encoded", "hidden"),
        ("fields", "could not be read"),
        ("recipients", "could not be read"),
        ("letters", "could not be read"),
        ("files", "could not be read"),
        ("few", "8 more files were left out"),
        ("long", "the rest of this mail is too long"),
        ("claims", "claims"),
        ("trap", "could not be read"),
        ("ada", "hello"),
    ] {
        let answer = answered(&smtp, writer).await;
        assert!(answer.contains(note), "{writer}: {answer}");
    }
    let restarts = gateway
        .metric("sluicegate_channel_listener_restarts_total", "channel=\"mail\"")
        .await;
    assert!(restarts <= 2.0, "{restarts} restarts, and one mail that needs two");
}
