//! E-mail's row, against real servers: Dovecot for IMAP and submission, over STARTTLS with a certificate of the test's own
//! authority, and OpenSMTPD behind it, which hands the mails back to Dovecot. (OpenSMTPD 6.8 speaks no TLS with OpenSSL 3.)

mod servers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use harness::{Link, PATIENCE, Setup, TestGateway};
use mail_parser::{Message, MessageParser, MimeHeaders as _};
use tokio::sync::Mutex;

use crate::cases::Case;
use crate::platform::{File, MessageId, Platform, Refusal, Room, Shown, Skipped};
use servers::Servers;

const BOT: &str = "bot@x.example";
/// How often is looked at what rings no bell.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
const PASSWORD: &str = "correct-horse-battery";

struct Email {
    servers: Servers,
    imap: Link,
    smtp: Link,
    next: AtomicU32,
    /// The last mail of each room.
    last: Mutex<HashMap<Room, String>>,
}

/// Starts the servers.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    let servers = Servers::start(PASSWORD).await?;
    Ok(Box::new(Email {
        imap: Link::to(servers.imap).await,
        smtp: Link::to(servers.submission).await,
        servers,
        next: AtomicU32::new(1),
        last: Mutex::default(),
    }))
}

impl Email {
    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands the bot's server a mail of a person, and remembers it.
    async fn deliver(&self, room: &Room, headers: &str, body: &str) -> MessageId {
        let id = match &room.thread {
            // The first mail of a thread is what the thread is called after.
            Some(thread) if !self.last.lock().await.contains_key(room) => thread.clone(),
            _ => format!("m{}@y.example", self.number()),
        };
        let references = room.thread.as_ref().filter(|thread| **thread != id);
        let references = references.map_or(String::new(), |thread| format!("References: <{thread}>\r\n"));
        let mail = format!(
            "From: A Person <{}>\r\nTo: {BOT}\r\nMessage-ID: <{id}>\r\n{references}{headers}\r\n{body}\r\n",
            room.conversation
        );
        self.servers.hand_in(&room.conversation, BOT, &mail).await;
        self.last.lock().await.insert(room.clone(), mail);
        MessageId(id)
    }
}

const TEXT: &str =
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";

#[async_trait]
impl Platform for Email {
    fn peer(&self) -> String {
        "Dovecot 2.3.19 and OpenSMTPD 6.8.0p2".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        let (imap, smtp) = (self.imap.port(), self.smtp.port());
        let roots = self.servers.authority().display().to_string();
        setup.env("MAIL_PASSWORD", PASSWORD).env("SSL_CERT_FILE", &roots).section(&format!(
            "[channels.{channel}]\ncomponent = \"email\"\naccess = \"open\"\n\
             grant = [\"tcp://127.0.0.1:{imap}\", \"tcp://127.0.0.1:{smtp}\"]\n\
             settings = {{ address = \"{BOT}\", imap = \"tcp://127.0.0.1:{imap}\", smtp = \"tcp://127.0.0.1:{smtp}\" }}\n\
             secrets = {{ password = {{ env = \"MAIL_PASSWORD\" }} }}"
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Edit => Some("a mail that was sent can't be changed"),
            Case::Typing | Case::Draft => Some("a mail is there or not"),
            Case::Long => Some("no answer is too long for a mail"),
            Case::RateLimited | Case::Unavailable => {
                Some("these servers refuse nobody for a moment; the tests with a server of their own do")
            }
            Case::Oracle => Some("the servers are no fakes"),
            _ => None,
        }
    }

    /// The very first start begins with the next mail: none may come before it.
    async fn gateway_is_up(&self, _gateway: &mut TestGateway) {
        let started = Instant::now();
        while !self.servers.is_watched() {
            assert!(started.elapsed() < PATIENCE, "the mailbox is not watched");
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    async fn room(&self) -> Room {
        let number = self.number();
        Room {
            conversation: format!("person{number}@y.example"),
            thread: Some(format!("root{number}@y.example")),
        }
    }

    /// All of one person: only the thread tells them apart.
    async fn thread(&self) -> Room {
        Room {
            conversation: "talkative@y.example".to_owned(),
            ..self.room().await
        }
    }

    async fn say(&self, room: &Room, text: &str) -> MessageId {
        self.deliver(room, TEXT, text).await
    }

    async fn reply(&self, room: &Room, to: &Shown, text: &str) -> MessageId {
        self.deliver(room, &format!("In-Reply-To: <{}>\r\n{TEXT}", to.id.0), text)
            .await;
        to.id.clone()
    }

    async fn send_file(&self, room: &Room, file: &File, text: &str) {
        let contents = String::from_utf8_lossy(&file.bytes);
        let body = format!(
            "--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n--b\r\nContent-Type: {}\r\n\
             Content-Disposition: attachment; filename=\"{}\"\r\n\r\n{contents}\r\n--b--",
            file.media_type, file.name
        );
        self.deliver(
            room,
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
            &body,
        )
        .await;
    }

    async fn echo_own(&self, room: &Room, text: &str) {
        let mail = format!(
            "From: {BOT}\r\nTo: {}\r\nSubject: own\r\n{TEXT}\r\n{text}\r\n",
            room.conversation
        );
        self.servers.hand_in(BOT, BOT, &mail).await;
    }

    async fn repeat(&self, room: &Room) {
        let mail = self.last.lock().await.get(room).cloned().expect("something was said");
        self.servers.hand_in(&room.conversation, BOT, &mail).await;
    }

    async fn bot_says(&self, room: &Room, text: &str) {
        let mail = format!(
            "From: {}\r\nTo: {BOT}\r\nAuto-Submitted: auto-replied\r\n{TEXT}\r\n{text}\r\n",
            room.conversation
        );
        self.servers.hand_in(&room.conversation, BOT, &mail).await;
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let mails = self.servers.mails_of(&room.conversation);
        let parsed = mails.iter().filter_map(|mail| MessageParser::default().parse(mail));
        let in_thread = parsed.filter(|mail| match &room.thread {
            Some(thread) => mail
                .header_raw("References")
                .is_some_and(|ids| ids.contains(&format!("<{thread}>"))),
            None => mail.header_raw("References").is_none(),
        });
        in_thread.map(|mail| shown(&mail)).collect()
    }

    fn markdown_source(&self) -> String {
        "<p><strong>bold</strong> and <em>soft</em>, <code>a &lt; b</code>, <a href=\"https://example.org/x\">here</a></p>\n\
         <ul>\n<li>one</li>\n<li>two</li>\n</ul>\n<pre><code class=\"language-rust\">let a = 1 &amp; 2;\n</code></pre>"
            .to_owned()
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        match refusal {
            Refusal::Unauthorized => self.servers.set_password("another-password").await,
            Refusal::Gone => self.servers.remove_mailbox(&room.conversation).await,
            Refusal::RateLimited | Refusal::Unavailable => unreachable!("they are lacking"),
        }
    }

    async fn refuse_receiver(&self) {
        self.servers.set_password("another-password").await;
        self.imap.drop_connections();
    }

    async fn forgive(&self) {
        self.servers.set_password(PASSWORD).await;
    }

    async fn malformed(&self, room: &Room) {
        for mail in [
            "\r\n".to_owned(),
            "Subject: nobody wrote this\r\n\r\nx\r\n".to_owned(),
            format!(
                "From: <{}>\r\nContent-Type: multipart/mixed; boundary=\r\n\r\n--\r\n--",
                room.conversation.replace('@', "")
            ),
            "From: =?x?q?=zz?= <>\r\nDate: never\r\nMessage-ID: <>\r\n\r\n\u{0}\r\n".to_owned(),
        ] {
            self.servers.hand_in("", BOT, &mail).await;
        }
    }

    async fn drop_connections(&self) {
        self.imap.drop_connections();
        self.smtp.drop_connections();
    }

    async fn receivers_max(&self) -> usize {
        self.imap.most_at_once()
    }
}

fn shown(mail: &Message<'_>) -> Shown {
    let text = mail.body_text(0).unwrap_or_default().replace("\r\n", "\n");
    let html = mail.body_html(0).unwrap_or_default().replace("\r\n", "\n");
    let answered = mail.in_reply_to().as_text().map(|id| MessageId(id.to_owned()));
    let files = mail.attachments().map(|part| File {
        name: part.attachment_name().unwrap_or_default().to_owned(),
        media_type: String::new(),
        bytes: part.contents().to_vec(),
    });
    Shown {
        id: MessageId(mail.message_id().unwrap_or_default().to_owned()),
        text: text.trim_end().to_owned(),
        source: html.trim_end().to_owned(),
        reply_to: answered,
        files: files.collect(),
    }
}
