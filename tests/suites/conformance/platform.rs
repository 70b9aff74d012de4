//! A messaging platform as the people on it, and the operator of a gateway, see it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use harness::{Setup, TestGateway, eventually};
use tokio::net::TcpStream;

use crate::cases::Case;

/// How long a platform asks to wait with [`Refusal::RateLimited`].
pub(crate) const RATE_LIMIT_WAIT: Duration = Duration::from_secs(2);

/// A place where people and the bot talk, as the gateway addresses it: see `conversation` in the contract.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Room {
    /// The conversation's id.
    pub(crate) conversation: String,
    /// The thread in it.
    pub(crate) thread: Option<String>,
}

/// The platform's id of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MessageId(pub(crate) String);

/// A file that is sent, or shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name.
    pub(crate) name: String,
    /// RFC 6838 media type; empty where the platform does not show it.
    pub(crate) media_type: String,
    /// Its contents.
    pub(crate) bytes: Vec<u8>,
}

/// A message of the bot, as the platform shows it to people now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The platform's id of it.
    pub(crate) id: MessageId,
    /// What people read, without its formatting.
    pub(crate) text: String,
    /// What the bot sent, with its formatting in the platform's own form.
    pub(crate) source: String,
    /// The message that it answers, where the platform shows that.
    pub(crate) reply_to: Option<MessageId>,
    /// The file that it carries, or the files.
    pub(crate) files: Vec<File>,
}

/// What goes wrong with what the bot sends next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The next message is refused with a wait of [`RATE_LIMIT_WAIT`], and taken after it.
    RateLimited,
    /// The next message is certainly not taken, for a reason that passes (503 and the like); the one after it is.
    Unavailable,
    /// The credentials are refused, until [`Platform::forgive`].
    Unauthorized,
    /// The room is gone, or closed to the bot, for good.
    Gone,
}

/// Why a row, or a case of it, could not be run here: a real server or a client library is not installed.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl Skipped {
    /// Says so in the output of the test.
    #[expect(clippy::print_stdout, reason = "a test that was skipped says so")]
    pub(crate) fn say(&self, what: &str) {
        println!("skipped: {what}: {}", self.0);
    }
}

/// One platform with one bot account on it, running for one test.
///
/// A case that [`Platform::lacks`] names is never run, so what only that case uses need not be there: the methods that
/// have a body here are for cases. Cases run side by side, each in a room of its own; those that disturb others
/// (sockets dropped, credentials refused, restarts) run alone at the end. Methods panic where the platform does not do
/// what it is asked: the caller is a test.
#[async_trait]
pub(crate) trait Platform: Send + Sync {
    /// Returns what the row is proved against, such as `ngircd 26.1`, or `own fake, which discord.py runs against`.
    fn peer(&self) -> String;

    /// Adds the channel of this name to a configuration, as an operator would, open to everyone: its table and its
    /// secrets. The agent is there already.
    fn configure(&self, setup: Setup, channel: &str) -> Setup;

    /// Returns why a case has no meaning here; none for a case that is to be run. The words stand in the table.
    fn lacks(&self, case: Case) -> Option<&'static str>;

    /// Returns whether people can write to the bot; where not, the operator lets it speak.
    fn receives(&self) -> bool {
        true
    }

    /// Called whenever the gateway has become ready, at the start and after each restart.
    async fn gateway_is_up(&self, _gateway: &mut TestGateway) {}

    /// Returns how many cases may run side by side.
    fn cases_at_once(&self) -> usize {
        8
    }

    // Places.

    /// Returns a new place where the bot reads everything: a direct conversation where there are such.
    async fn room(&self) -> Room;

    /// Returns a new thread.
    async fn thread(&self) -> Room {
        absent("thread")
    }

    /// Returns a new place where the platform shows that somebody is writing.
    async fn room_with_typing(&self) -> Room {
        self.room().await
    }

    // What people and other bots do.

    /// Lets a person write a text to the bot (with a mention, where the bot would not be addressed without).
    async fn say(&self, _room: &Room, _text: &str) -> MessageId {
        absent("say")
    }

    /// Lets the person change what they wrote.
    async fn edit(&self, _room: &Room, _message: &MessageId, _text: &str) {
        absent("edit")
    }

    /// Lets a person answer one of the bot's messages. Returns what the gateway should know as the answered message.
    async fn reply(&self, _room: &Room, _to: &Shown, _text: &str) -> MessageId {
        absent("reply")
    }

    /// Lets a person send a file with a text.
    async fn send_file(&self, _room: &Room, _file: &File, _text: &str) {
        absent("send_file")
    }

    /// Hands the bot a message with this text that the bot's own account wrote.
    async fn echo_own(&self, _room: &Room, _text: &str) {
        absent("echo_own")
    }

    /// Hands the bot what was said last in the room again: the same message with the same id.
    async fn repeat(&self, _room: &Room) {
        absent("repeat")
    }

    /// Lets another bot write a text that a person could have written to this one.
    async fn bot_says(&self, _room: &Room, _text: &str) {
        absent("bot_says")
    }

    // What can be seen of the bot.

    /// Returns the bot's messages in a room as people see them now: edited, without the deleted, oldest first.
    async fn shown(&self, room: &Room) -> Vec<Shown>;

    /// Returns whether the bot has been seen typing in a room.
    async fn typing_shown(&self, _room: &Room) -> bool {
        absent("typing_shown")
    }

    /// Returns the texts that unfinished answers in a room had so far, oldest first.
    async fn drafts(&self, _room: &Room) -> Vec<String> {
        absent("drafts")
    }

    /// Returns when the bot tried to send to a room, refused attempts included, oldest first. Drafts are not counted.
    async fn attempts(&self, _room: &Room) -> Vec<Instant> {
        absent("attempts")
    }

    /// Returns what [`crate::cases::MARKDOWN`] has to look like in [`Shown::source`].
    fn markdown_source(&self) -> String {
        absent("markdown_source")
    }

    /// Returns what stands before and after a block of code in [`Shown::source`], or before and after a line of one.
    fn code_marks(&self) -> (&'static str, &'static str) {
        ("```", "```")
    }

    /// Returns a text that does not fit one message, with each of `words` in it once and in order, and one block of code
    /// that a split has to cut.
    fn long_text(&self, words: &[String]) -> String {
        let (prose, code) = words.split_at(words.len() / 2);
        format!("{}\n\n```text\n{}\n```", prose.join(" "), code.join("\n"))
    }

    /// Returns how many words [`Platform::long_text`] is given; each has about 9 characters.
    fn long_words(&self) -> usize {
        1200
    }

    // What is ordered.

    /// Orders what goes wrong with what the bot sends to a room (or to all, where the platform knows no rooms there).
    async fn refuse_next(&self, _room: &Room, _refusal: Refusal) {
        absent("refuse_next")
    }

    /// Drops the connections that the bot receives through, and refuses its credentials when it comes back, until
    /// [`Platform::forgive`] or once.
    async fn refuse_receiver(&self) {
        absent("refuse_receiver")
    }

    /// Ends [`Refusal::Unauthorized`] and [`Platform::refuse_receiver`].
    async fn forgive(&self) {}

    /// Hands the bot what no version of the platform ever sent: broken, foreign and empty updates.
    async fn malformed(&self, _room: &Room) {
        absent("malformed")
    }

    /// Drops every connection that the bot receives through, without a goodbye.
    async fn drop_connections(&self) {
        absent("drop_connections")
    }

    /// Returns the most receivers of the bot account that were ever connected at once.
    async fn receivers_max(&self) -> usize {
        absent("receivers_max")
    }

    /// Drives the fake with the platform's own client libraries.
    ///
    /// # Errors
    /// Where they are not installed.
    async fn oracle(&self) -> Result<(), Skipped> {
        absent("oracle")
    }
}

/// Returns why a case has no meaning for an adapter that only sends.
pub(crate) fn sends_only(case: Case) -> Option<&'static str> {
    match case {
        Case::Short | Case::Long | Case::Markdown | Case::FileOut | Case::ThreadOut => None,
        Case::RateLimited | Case::Unavailable | Case::Unauthorized | Case::Gone => None,
        Case::Oracle => Some("it is a receiver, not a platform"),
        _ => Some("it only sends"),
    }
}

/// Fails a case that needs what a platform has not told how to do.
fn absent(what: &str) -> ! {
    panic!("this platform has no `{what}`: write it, or say in `lacks` why the case has no meaning")
}

/// Returns where an installed peer is: below `target/peers`, unless the variable names another place.
///
/// # Errors
/// Where it is not there. With `SLUICEGATE_REQUIRE_PEERS=1` it panics instead.
pub(crate) fn installed(variable: &str, below_peers: &str) -> Result<PathBuf, Skipped> {
    let path = std::env::var_os(variable).map_or_else(
        || crate::table::root().join("target/peers").join(below_peers),
        PathBuf::from,
    );
    if path.exists() {
        return Ok(path);
    }
    Err(missing(&format!(
        "{} is missing; `just peers` installs it, or set {variable}",
        path.display()
    )))
}

/// Returns where a program is that the system's package manager installs.
///
/// # Errors
/// As [`installed`].
#[allow(dead_code, reason = "not every channel's peer is a program of the system")]
pub(crate) fn program(name: &str, package: &str) -> Result<PathBuf, Skipped> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    // Servers stand in folders that only root has in its path.
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut found = folders.map(|folder| folder.join(name)).filter(|path| path.is_file());
    let words = || missing(&format!("{name} is missing; install the package {package}"));
    found.next().ok_or_else(words)
}

/// How often other free ports are tried where one was taken meanwhile.
const PORTS_TRIED_MAX: usize = 10;

/// Starts a server that takes no port 0 on ports that are free, and on others where it ends because another program took
/// one of them meanwhile; returns it when all of them answer.
///
/// # Panics
/// Where that never succeeds.
#[allow(dead_code, reason = "not every channel's peer is a program of the system")]
pub(crate) async fn on_free_ports<S, const PORTS: usize>(
    what: &str,
    start: impl Fn([u16; PORTS]) -> S,
    has_ended: impl Fn(&mut S) -> bool,
) -> S {
    for _ in 0..PORTS_TRIED_MAX {
        let ports = free_ports();
        let mut server = start(ports);
        let is_up = eventually(&format!("{what}: up, or ended"), async || {
            let mut answers = true;
            for port in ports {
                answers &= TcpStream::connect(("127.0.0.1", port)).await.is_ok();
            }
            // Another program's server answers as well: ours has to be there still.
            let has_ended = has_ended(&mut server);
            (has_ended || answers).then_some(!has_ended)
        })
        .await;
        if is_up {
            return server;
        }
    }
    panic!("{what}: no free ports");
}

/// Returns ports that nobody listens on now.
fn free_ports<const PORTS: usize>() -> [u16; PORTS] {
    let bound = [(); PORTS].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("it is bound").port())
}

fn missing(why: &str) -> Skipped {
    let required = std::env::var_os("SLUICEGATE_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "{why}");
    Skipped(why.to_owned())
}
