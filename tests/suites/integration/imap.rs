//! An IMAP server at its most awkward: it says what has come at any time, and only once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::eventually;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::email::{SmtpFake, mailing};

/// A mailbox into which mails come while the server is busy with something else.
#[derive(Default)]
struct Mailbox {
    /// How many mails have come so far.
    count: AtomicUsize,
    /// How many logins were tried.
    logins: AtomicUsize,
}

impl Mailbox {
    /// Lets a mail come, and returns the line that announces it.
    fn announce(&self) -> String {
        format!("* {} EXISTS\r\n", self.count.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn mail(number: usize) -> String {
    format!(
        "From: <writer{number}@example.net>\r\nTo: bot@example.org\r\nMessage-ID: <m{number}@example.net>\r\n\r\nhello\r\n"
    )
}

/// Starts the server. The first login fails for a reason of its own; then mails come with the end of a search, with the
/// contents of another mail, and before it goes idle.
async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mailbox = Arc::new(Mailbox::default());
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
            ["UID", "FETCH", uid, "(RFC822.SIZE)"] => format!("* 1 FETCH (UID {uid} RFC822.SIZE 99)\r\n{tag} OK\r\n"),
            ["UID", "FETCH", uid, _] => {
                let mail = mail(uid.parse().expect("a number"));
                let news = if mailbox.count() == 1 {
                    mailbox.announce()
                } else {
                    String::new()
                };
                format!(
                    "* 1 FETCH (UID {uid} BODY[] {{{}}}\r\n{mail})\r\n{news}{tag} OK\r\n",
                    mail.len()
                )
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
    let imap = start().await;
    let _gateway = mailing(&smtp, imap).await;
    for number in 1..=3 {
        eventually(&format!("the answer to mail {number}"), async || {
            let answers = smtp.written(&format!("writer{number}"));
            (answers.len() == 1).then_some(())
        })
        .await;
    }
}
