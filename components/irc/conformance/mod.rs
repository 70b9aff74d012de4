//! IRC's row, against a real ngircd. Between it and the gateway stands a link that drops connections and counts them.

mod person;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use harness::{Link, PATIENCE, Setup, TempFolder, TestGateway};
use tokio::sync::Mutex;

use crate::cases::Case;
use crate::platform::{MessageId, Platform, Refusal, Room, Shown, Skipped, on_free_ports, program};
use person::Person;

const NICK: &str = "gate";
/// The server's password.
const PASSWORD: &str = "correct-horse-battery";

/// The name of ngircd's file.
const CONFIGURATION: &str = "ngircd.conf";

/// A server, and the people on it: each in a query with the bot.
struct Irc {
    server: Server,
    link: Link,
    people: Mutex<HashMap<String, Arc<Person>>>,
    next_person: AtomicU32,
    /// Conversations whose person leaves as soon as it has said something.
    leaving: Mutex<HashSet<String>>,
}

struct Server {
    child: Child,
    port: u16,
    folder: TempFolder,
}

impl Server {
    /// Changes the password, and waits until ngircd asks for the new one. Who is connected stays so.
    async fn set_password(&self, password: &str) {
        self.folder.write(CONFIGURATION, &configuration(self.port, password));
        let told = Command::new("kill")
            .args(["-HUP", &self.child.id().to_string()])
            .status();
        assert!(told.expect("kill is everywhere").success(), "ngircd is gone");
        let started = Instant::now();
        while !Person::is_welcome(self.port, password).await {
            assert!(started.elapsed() < PATIENCE, "ngircd has not read the new password");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts ngircd on a free port.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    let ngircd = program("ngircd", "ngircd")?;
    let has_ended = |server: &mut Server| server.child.try_wait().expect("it is our child").is_some();
    let server = on_free_ports("ngircd", |[port]| serve(&ngircd, port), has_ended).await;
    Ok(Box::new(Irc {
        link: Link::to(server.port).await,
        server,
        people: Mutex::default(),
        next_person: AtomicU32::new(1),
        leaving: Mutex::default(),
    }))
}

fn serve(ngircd: &Path, port: u16) -> Server {
    let folder = TempFolder::new();
    let file = folder.write(CONFIGURATION, &configuration(port, PASSWORD));
    let mut started = Command::new(ngircd);
    started.arg("-n").arg("-f").arg(&file);
    started.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = started.spawn().expect("ngircd starts");
    Server { child, port, folder }
}

fn configuration(port: u16, password: &str) -> String {
    format!(
        "[Global]\nName = irc.test.example\nInfo = a test\nListen = 127.0.0.1\nPorts = {port}\nPassword = {password}\n\
         MotdPhrase = hello\nServerUID = irc\nServerGID = irc\n\
         [Limits]\nMaxConnections = 0\nMaxConnectionsIP = 0\nMaxNickLength = 20\nMaxPenaltyTime = 0\n\
         [Options]\nDNS = no\nIdent = no\nPAM = no\n"
    )
}

impl Irc {
    async fn connect(&self) -> (String, Person) {
        let nick = format!("person{}", self.next_person.fetch_add(1, Ordering::Relaxed));
        let person = Person::connect(self.server.port, &nick, PASSWORD).await;
        (nick, person)
    }

    /// Returns the person of a room, once the bot is there to hear it: IRC keeps nothing for those who are away.
    async fn person(&self, room: &Room) -> Arc<Person> {
        let people = self.people.lock().await;
        Arc::clone(people.get(&room.conversation).expect("the room has its person"))
    }
}

#[async_trait]
impl Platform for Irc {
    fn peer(&self) -> String {
        "ngircd 26.1".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        let server = format!("tcp://127.0.0.1:{}", self.link.port());
        setup.env("IRC_PASSWORD", PASSWORD).section(&format!(
            "[channels.{channel}]\ncomponent = \"irc\"\naccess = \"open\"\ngrant = [\"{server}\"]\n\
             settings = {{ server = \"{server}\", nick = \"{NICK}\", channels = [\"#help\"], line-interval-ms = 1 }}\n\
             secrets = {{ server-password = {{ env = \"IRC_PASSWORD\" }} }}"
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Edit | Case::Reply | Case::ThreadIn | Case::ThreadOut | Case::FileIn | Case::FileOut => {
                Some("IRC has no such thing")
            }
            Case::Typing | Case::Draft => Some("a line that was sent stays as it is"),
            Case::OwnEcho | Case::Duplicate => Some("this server sends nobody his own lines, nor anything twice"),
            Case::RateLimited => Some("a server that is flooded hangs up; the channel keeps its pace"),
            Case::Unavailable => Some("a server that is down is a dropped socket"),
            Case::Unauthorized => Some("who is refused hears nothing that could be answered"),
            Case::Restart => Some("IRC keeps nothing for those who are away"),
            Case::Oracle => Some("the server is no fake"),
            _ => None,
        }
    }

    async fn gateway_is_up(&self, _gateway: &mut TestGateway) {
        let (_, watcher) = self.connect().await;
        watcher.wait_for(NICK).await;
    }

    async fn room(&self) -> Room {
        let (nick, person) = self.connect().await;
        self.people.lock().await.insert(nick.clone(), Arc::new(person));
        Room {
            conversation: nick,
            thread: None,
        }
    }

    async fn say(&self, room: &Room, text: &str) -> MessageId {
        let person = self.person(room).await;
        person.wait_for(NICK).await;
        let line = format!("PRIVMSG {NICK} :{text}");
        if self.leaving.lock().await.contains(&room.conversation) {
            person.send(&format!("{line}\r\nQUIT :gone")).await;
        } else {
            person.send(&line).await;
        }
        MessageId(String::new())
    }

    async fn bot_says(&self, room: &Room, text: &str) {
        let person = self.person(room).await;
        person.wait_for(NICK).await;
        // What programs say is a notice, and may never be answered (RFC 1459 section 4.4.2).
        person.send(&format!("NOTICE {NICK} :{text}")).await;
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let heard = self.person(room).await.heard_from(NICK);
        let shown = heard.into_iter().enumerate().map(|(index, source)| Shown {
            id: MessageId(index.to_string()),
            text: source.chars().filter(|c| !c.is_control()).collect(),
            source,
            reply_to: None,
            files: Vec::new(),
        });
        shown.collect()
    }

    fn code_marks(&self) -> (&'static str, &'static str) {
        ("\u{11}", "\u{11}")
    }

    fn markdown_source(&self) -> String {
        "\u{2}bold\u{2} and \u{1d}soft\u{1d}, \u{11}a < b\u{11}, here (https://example.org/x)".to_owned()
    }

    fn long_words(&self) -> usize {
        240
    }

    fn long_text(&self, words: &[String]) -> String {
        let (prose, code) = words.split_at(words.len() / 2);
        let code: Vec<String> = code.chunks(10).map(|line| line.join(" ")).collect();
        format!("{}\n\n```text\n{}\n```", prose.join(" "), code.join("\n"))
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        assert_eq!(refusal, Refusal::Gone, "the others are lacking");
        self.leaving.lock().await.insert(room.conversation.clone());
    }

    async fn refuse_receiver(&self) {
        self.server.set_password("another-password").await;
        self.link.drop_connections();
    }

    async fn forgive(&self) {
        self.server.set_password(PASSWORD).await;
    }

    async fn malformed(&self, room: &Room) {
        let person = self.person(room).await;
        person.wait_for(NICK).await;
        for line in [
            "\u{1}VERSION\u{1}",
            "\u{1}",
            "\u{3}04,",
            "\u{2}\u{f}",
            "\u{1}ACTION\u{1}",
        ] {
            person.send(&format!("PRIVMSG {NICK} :{line}")).await;
        }
        person.send(&format!("INVITE {NICK} #nowhere")).await;
    }

    async fn drop_connections(&self) {
        let before = self.link.connections();
        self.link.drop_connections();
        let (_, watcher) = self.connect().await;
        let started = Instant::now();
        while self.link.connections() == before || !watcher.sees(NICK).await {
            assert!(started.elapsed() < PATIENCE, "the bot never came back");
            tokio::task::yield_now().await;
        }
    }

    async fn receivers_max(&self) -> usize {
        self.link.most_at_once()
    }
}
