//! `sluicegate chat`: a terminal client of a running gateway, over its WebSocket.
//!
//! A line is sent again, with the same id, until the gateway has accepted it; an answer is acknowledged once it is
//! written, and a copy of it is dropped by its key. So a lost connection loses and repeats nothing.

mod input;
mod session;
mod wire;

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite;

use self::session::{End, Session, Socket};
use super::args::ChatArgs;
use super::component::bundled_names;
use super::failure::{Failure, Kind};
use super::run::start_runtime;
use crate::config::{Config, Sources};
use crate::gateway::Beacon;
use crate::telemetry::tell;

/// How long a connection may take: the gateway is near, or not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first wait after a lost connection; it doubles up to the last.
const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(250);
/// The longest wait after a lost connection.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of one frame of the gateway: an answer of the largest size, with room for its escapes.
const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Chats until the end of input, or Ctrl-C.
///
/// # Errors
/// Where no gateway answers at first, or a line was never accepted.
pub(super) fn chat(args: &ChatArgs, sources: &Sources) -> Result<String, Failure> {
    if let Some(url) = args.url.as_ref().filter(|url| !url.starts_with("ws://")) {
        let remedy = "write ws://HOST:PORT/ws; for a gateway elsewhere, forward its port, such as with ssh -L";
        let message = format!("{:?} is no URL that chat speaks", shown(url));
        return Err(Failure::new(Kind::Usage, message, remedy));
    }
    // One that is started again may have another port.
    let url = || args.url.clone().unwrap_or_else(|| default_url(sources));
    let runtime = start_runtime()?;
    let outcome = runtime.block_on(converse(url, args));
    // The thread that reads standard input may wait for a line that never comes.
    runtime.shutdown_background();
    outcome.map(|()| String::new())
}

/// Returns `/ws` of the gateway that runs in the data directory, or else at the configured listener; a listener on all
/// addresses is reached on the loopback one.
fn default_url(sources: &Sources) -> String {
    let gateway = Config::read(sources, &bundled_names()).config.gateway;
    let running = Beacon::find(&gateway.data).ok().flatten();
    let mut listen = running.map_or(gateway.listen, |running| running.address);
    if listen.ip().is_unspecified() {
        listen.set_ip(if listen.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("ws://{listen}/ws")
}

async fn converse(url: impl Fn() -> String, args: &ChatArgs) -> Result<(), Failure> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let first = url();
    let mut socket = connect(&first).await.map_err(|why| why.at(shown(&first)))?;
    let wait = Duration::from_secs(args.wait);
    let mut session = Session::new(args.conversation.clone(), is_terminal, wait, input::lines());
    if is_terminal {
        let (url, conversation) = (shown(&first), session.conversation());
        tell(format_args!(
            "connected to {url}, conversation {conversation} (go on later with --conversation {conversation})"
        ));
    }
    loop {
        let why = match session.run(&mut socket).await {
            End::Done => return session.verdict(),
            End::Lost(why) => why,
        };
        tell(format_args!("the connection is lost ({why}); trying again"));
        let Some(again) = reconnect(&url, &mut session).await else {
            return session.verdict();
        };
        tell("connected again");
        socket = again;
    }
}

/// Connects again, with growing waits; none where the chat ends before that.
async fn reconnect(url: &impl Fn() -> String, session: &mut Session) -> Option<Socket> {
    let mut wait = RECONNECT_WAIT_MIN;
    loop {
        let again = async {
            tokio::time::sleep_until(Instant::now() + wait).await;
            connect(&url()).await
        };
        tokio::select! {
            // Dropping a half-made connection closes it: nothing was said on it yet.
            connected = again => if let Ok(socket) = connected { return Some(socket) },
            () = session.over() => return None,
        }
        wait = (wait * 2).min(RECONNECT_WAIT_MAX);
    }
}

/// Returns a URL without what may be a token.
fn shown(url: &str) -> &str {
    url.split_once('?').map_or(url, |(shown, _)| shown)
}

/// Why there is no connection.
enum Unconnected {
    /// Nobody is there, for this reason.
    Nobody(String),
    /// Somebody is, and wants no chat, for this reason.
    Refused(String),
}

impl Unconnected {
    fn at(self, url: &str) -> Failure {
        let (message, remedy) = match self {
            Self::Nobody(why) => (
                format!("no gateway answers at {url}: {why}"),
                "start one with `sluicegate run`, or name its WebSocket with --url",
            ),
            Self::Refused(why) => (
                format!("the gateway at {url} refuses the chat: {why}"),
                "name the WebSocket of a channel with --url; a token in it must be the right one",
            ),
        };
        Failure::new(Kind::Failed, message, remedy)
    }
}

async fn connect(url: &str) -> Result<Socket, Unconnected> {
    let config = tungstenite::protocol::WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => Err(Unconnected::Nobody(format!(
            "no answer in {} s",
            CONNECT_TIMEOUT.as_secs()
        ))),
        Ok(Err(tungstenite::Error::Http(response))) => Err(Unconnected::Refused(match response.status().as_u16() {
            401 | 403 => "the token is not its own".to_owned(),
            404 => "it has no WebSocket channel there".to_owned(),
            503 => "the channel is paused or being started".to_owned(),
            _ => format!("it answers {}", response.status()),
        })),
        Ok(Err(error)) => Err(Unconnected::Nobody(error.to_string())),
        Ok(Ok((socket, _))) => Ok(socket),
    }
}
