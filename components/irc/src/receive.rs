//! The connection: held by the listener, which gives in what people write and sends what deliveries hand to it.
//!
//! A second connection for each delivery would have another nick, would not be in the channels, and could not tell what
//! the server made of a line; so there is one, and the host's relay leads to it.

use std::convert::Infallible;

use sluicegate_sdk::inbox::{self, Published};
use sluicegate_sdk::net::{NetError, TcpStream};
use sluicegate_sdk::{
    InboundMessage, ListenerError, clock, info, progress, relay, secrets, serde_json, settings, warn,
};

use crate::map::{Answer, NICK_BYTES_MAX, Order};
use crate::session::{Effect, Profile, Session};
use crate::wire::{Line, Lines, is_word};

/// The pace of lines after a burst unless the operator says otherwise, milliseconds (RFC 1459 section 8.10).
pub const LINE_INTERVAL_MS: u64 = 2_000;
/// The longest pace that an operator may set, milliseconds: a line must have its turn within one attempt.
const LINE_INTERVAL_MS_MAX: u64 = 10_000;
/// How often in a row the server may not be reached, or not take us in, before the operator sees the channel degraded.
const FAILURES_MAX: u32 = 3;
/// The wait before a lost connection is made again, milliseconds.
const RECONNECT_MS: u64 = 1_000;
/// The most bytes of one read.
const READ_BYTES_MAX: u32 = 16 * 1024;

/// What the operator set.
#[derive(Debug, Clone)]
pub struct Configuration {
    host: String,
    port: u16,
    is_tls: bool,
    profile: Profile,
    line_interval_ms: u64,
}

impl Configuration {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// Words for the operator.
    pub fn from_settings() -> Result<Self, String> {
        let text = |key| {
            settings::get(key)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let server = text("server").ok_or("the setting server is missing")?;
        let (host, port, is_tls) = address(&server)?;
        let nick = text("nick").ok_or("the setting nick is missing")?;
        let channels = text("channels").map(|list| serde_json::from_str(&list)).transpose();
        let channels: Vec<String> = channels
            .map_err(|error| format!("channels: {error}"))?
            .unwrap_or_default();
        let account = text("account").unwrap_or_else(|| nick.clone());
        check(&nick, &account, &channels)?;
        let interval = text("line-interval-ms").and_then(|value| value.parse().ok());
        let real_name: String = text("real-name").unwrap_or_default();
        Ok(Self {
            host,
            port,
            is_tls,
            line_interval_ms: interval.unwrap_or(LINE_INTERVAL_MS).clamp(1, LINE_INTERVAL_MS_MAX),
            profile: Profile {
                nick,
                real_name: real_name.chars().filter(|c| !c.is_control()).take(50).collect(),
                account,
                channels,
                has_password: secrets::available("password"),
                has_server_password: secrets::available("server-password"),
                id: String::new(),
            },
        })
    }
}

fn check(nick: &str, account: &str, channels: &[String]) -> Result<(), String> {
    if !is_word(nick) || nick.len() > NICK_BYTES_MAX {
        return Err(format!(
            "nick is {nick:?}: it must be one word of at most {NICK_BYTES_MAX} bytes"
        ));
    }
    if !is_word(account) || account.contains("{{") || account.contains("}}") {
        return Err(format!(
            "account is {account:?}: it must be one word without double braces"
        ));
    }
    match channels
        .iter()
        .find(|channel| !is_word(channel) || channel.contains(','))
    {
        Some(channel) => Err(format!(
            "channels has {channel:?}: a channel's name is one word, such as #help"
        )),
        None => Ok(()),
    }
}

/// Takes the setting `server` apart.
fn address(server: &str) -> Result<(String, u16, bool), String> {
    let wrong = || format!("server is {server:?}: it must be tls://host:port or tcp://host:port");
    let (scheme, authority) = server.split_once("://").ok_or_else(wrong)?;
    let is_tls = match scheme {
        "tls" => true,
        "tcp" => false,
        _ => return Err(wrong()),
    };
    let (host, port) = authority.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
    Ok((host.to_owned(), port.parse().map_err(|_| wrong())?, is_tls))
}

/// Stays connected, and listens and sends, until the channel is shut down.
///
/// # Errors
/// Words for the operator, where the server refuses us or can't be reached for a while.
pub fn stay_connected() -> Result<(), ListenerError> {
    let configuration = Configuration::from_settings()?;
    let mut failures = 0;
    loop {
        let (was_registered, ended) = connect(&configuration);
        // What the server had of it, nobody will hear now.
        relay::abandon();
        let why = match ended {
            Ended::Shutdown => return Ok(()),
            Ended::Refused(why) => return Err(ListenerError::Refused(why)),
            Ended::Failed(why) => why,
        };
        failures = if was_registered { 1 } else { failures + 1 };
        if failures >= FAILURES_MAX {
            return Err(ListenerError::Unavailable(why));
        }
        warn!("the connection is lost, and is made again: {why}");
        if !clock::sleep_ms(RECONNECT_MS) {
            return Ok(());
        }
    }
}

/// Connects and serves one connection to its end. Returns whether the server had taken us in.
fn connect(configuration: &Configuration) -> (bool, Ended) {
    let now_ms = clock::now_ms();
    let profile = Profile {
        id: format!("s{now_ms:x}"),
        ..configuration.profile.clone()
    };
    let stream = match TcpStream::connect(&configuration.host, configuration.port, configuration.is_tls) {
        Ok(stream) => stream,
        Err(error) => return (false, error.into()),
    };
    let (session, begun) = Session::new(profile, configuration.line_interval_ms, now_ms);
    let mut connection = Connection {
        stream,
        lines: Lines::default(),
        session,
        was_registered: false,
    };
    let Err(ended) = connection.apply(begun).and_then(|()| connection.serve());
    (connection.was_registered, ended)
}

/// Why a connection is over.
enum Ended {
    Shutdown,
    /// The server takes us not with these credentials.
    Refused(String),
    Failed(String),
}

impl From<NetError> for Ended {
    fn from(error: NetError) -> Self {
        match error {
            NetError::ShuttingDown => Self::Shutdown,
            other => Self::Failed(words(other)),
        }
    }
}

fn words(error: NetError) -> String {
    match error {
        NetError::Denied(why) | NetError::Failed(why) => why,
        NetError::Timeout => "the server took nothing in time".to_owned(),
        NetError::Closed => "the server closed the connection".to_owned(),
        NetError::ShuttingDown => "shutting down".to_owned(),
    }
}

struct Connection {
    stream: TcpStream,
    lines: Lines,
    session: Session,
    was_registered: bool,
}

impl Connection {
    fn serve(&mut self) -> Result<Infallible, Ended> {
        loop {
            self.take_orders()?;
            let wait_ms = self.session.wait_ms(clock::now_ms());
            // Ends early when a delivery waits: see the contract's `relay`.
            let effects = match self.stream.read(READ_BYTES_MAX, wait_ms)? {
                Some(bytes) => self.read(&bytes),
                None => self.session.tick(clock::now_ms()),
            };
            self.apply(effects)?;
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Vec<Effect> {
        let now_ms = clock::now_ms();
        let mut effects = Vec::new();
        for line in self.lines.push(bytes) {
            if let Some(line) = Line::parse(&line) {
                effects.extend(self.session.line(&line, now_ms));
            }
        }
        effects
    }

    /// Takes what waits to be sent, as far as pace and session allow: what is not taken stays where nothing can be lost.
    fn take_orders(&mut self) -> Result<(), Ended> {
        while self.session.takes_orders(clock::now_ms()) {
            let Some((number, request)) = relay::take() else {
                return Ok(());
            };
            let effects = match serde_json::from_slice::<Order>(&request) {
                Ok(order) => self.session.order(number, order, clock::now_ms()),
                Err(error) => vec![Effect::Answer(number, Answer::Rejected(error.to_string()))],
            };
            self.apply(effects)?;
        }
        Ok(())
    }

    /// Does what the session wants. Messages that came together go in together.
    fn apply(&mut self, effects: Vec<Effect>) -> Result<(), Ended> {
        let mut messages = Vec::new();
        for effect in effects {
            match effect {
                Effect::Write(line) => self.stream.write(format!("{line}\r\n").as_bytes())?,
                Effect::WriteSecret(line) => self.stream.write_text(&format!("{line}\r\n"))?,
                Effect::Publish(message) => messages.push(*message),
                Effect::Reachable(conversation) => progress::reachable(&conversation, None),
                Effect::Answer(number, answer) => reply(number, &answer),
                Effect::Registered => {
                    self.was_registered = true;
                    info!("registered with the server");
                }
                Effect::Warn(why) => warn!("{why}"),
                Effect::Refused(why) => return Err(Ended::Refused(why)),
                Effect::End(why) => {
                    publish(&messages)?;
                    return Err(Ended::Failed(why));
                }
            }
        }
        publish(&messages)
    }
}

fn publish(messages: &[InboundMessage]) -> Result<(), Ended> {
    if messages.is_empty() {
        return Ok(());
    }
    match inbox::publish_all(messages, None) {
        Published::Durable => Ok(()),
        Published::ShuttingDown => Err(Ended::Shutdown),
    }
}

fn reply(number: u64, answer: &Answer) {
    match serde_json::to_vec(answer) {
        Ok(answer) => relay::answer(number, &answer),
        Err(error) => warn!("an answer was not written: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_a_scheme_a_host_and_a_port() {
        assert_eq!(
            address("tls://irc.example.org:6697"),
            Ok(("irc.example.org".to_owned(), 6697, true))
        );
        assert_eq!(address("tcp://[::1]:6667/"), Ok(("[::1]".to_owned(), 6667, false)));
        for wrong in ["irc.example.org:6697", "https://x:1", "tls://x", "tls://x:99999"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_would_break_a_line_is_refused_before_anything_is_sent() {
        let check = |nick: &str, account: &str, channel: &str| check(nick, account, &[channel.to_owned()]);
        assert_eq!(check("gate", "gate", "#a"), Ok(()));
        for (nick, account, channel) in [
            ("two words", "a", "#a"),
            ("n", "a b", "#a"),
            ("n", "{{password}}", "#a"),
            ("n", "a", "#a,#b"),
            ("n", "a", "#a\r\nQUIT"),
            ("", "a", "#a"),
        ] {
            assert!(
                check(nick, account, channel).is_err(),
                "{nick:?} {account:?} {channel:?}"
            );
        }
    }
}
