//! An IRC network that vouches for accounts: a small server of our own speaks SASL and what IRCv3 adds, which the real one
//! of the conformance suite does not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{Setup, TestGateway, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::operator::done;

const PASSWORD: &str = "a password/of+the suite";
const OFFERED: &str = "message-tags server-time account-tag batch echo-message labeled-response sasl=PLAIN,EXTERNAL";

/// A server that lets in whoever knows the account's password, and then has one person say one thing.
struct IrcFake {
    address: SocketAddr,
    /// Every line of the bot.
    lines: Arc<Mutex<Vec<String>>>,
}

impl IrcFake {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn wait_for_line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        eventually(what, async || self.lines().into_iter().find(|line| is_it(line))).await
    }
}

/// Returns what the server says to a line.
fn answer(line: &str) -> String {
    let (tags, rest) = match line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
        Some((tags, rest)) => (format!("@{tags} "), rest),
        None => (String::new(), line),
    };
    match rest.split(' ').collect::<Vec<_>>()[..] {
        ["CAP", "LS", ..] => format!(":fake CAP * LS :{OFFERED}\r\n"),
        ["CAP", "REQ", name] => format!(":fake CAP * ACK {name}\r\n"),
        ["AUTHENTICATE", "PLAIN"] => "AUTHENTICATE +\r\n".to_owned(),
        ["AUTHENTICATE", proof] if STANDARD.decode(proof) == Ok(format!("agent\0agent\0{PASSWORD}").into_bytes()) => {
            ":fake 900 gate gate!u@h agent :You are now logged in\r\n:fake 903 gate :SASL successful\r\n".to_owned()
        }
        ["AUTHENTICATE", _] => ":fake 904 gate :SASL authentication failed\r\n".to_owned(),
        ["CAP", "END"] => ":fake 001 gate :Welcome\r\n:fake 005 gate CASEMAPPING=ascii CHANTYPES=# :are supported\r\n\
                           @time=2026-01-02T03:04:05.678Z;account=ada :nobody!u@h PRIVMSG gate :hello\r\n"
            .to_owned(),
        ["PING", token] => format!(":fake PONG fake {token}\r\n"),
        // The label comes back with the echo.
        ["PRIVMSG", ..] => format!("{tags}:gate!u@h {rest}\r\n"),
        _ => String::new(),
    }
}

async fn serve(stream: TcpStream, lines: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let said = line.trim_end().to_owned();
        line.clear();
        let answer = answer(&said);
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

async fn joined(server: &IrcFake, password: &str) -> TestGateway {
    let address = server.address;
    let setup = Setup::new().echo().websocket().env("IRC_PASSWORD", password);
    let setup = setup.section(&format!(
        "[channels.net]\ncomponent = \"irc\"\naccess = {{ allow = [\"ada\"] }}\ngrant = [\"tcp://{address}\"]\n\
         settings = {{ server = \"tcp://{address}\", nick = \"gate\", account = \"agent\", line-interval-ms = 1 }}\n\
         secrets = {{ password = {{ env = \"IRC_PASSWORD\" }} }}"
    ));
    setup.start().await
}

#[tokio::test]
async fn the_account_is_proved_before_anything_else_and_its_people_are_known_by_theirs() {
    let server = IrcFake::start().await;
    let gateway = joined(&server, PASSWORD).await;
    let answered = server
        .wait_for_line("the answer", |line| line.contains("PRIVMSG nobody :hello"))
        .await;
    assert!(answered.starts_with("@label="), "{answered}");
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    let lines = server.lines();
    let at = |what: &str| lines.iter().position(|line| line.starts_with(what));
    assert!(
        at("AUTHENTICATE PLAIN") < at("CAP END") && at("CAP END") < at("@label="),
        "{lines:?}"
    );
    assert!(
        lines.iter().all(|line| !line.contains(PASSWORD)),
        "never but in the proof"
    );
    for name in OFFERED.split(' ').filter_map(|name| name.split('=').next()) {
        assert!(at(&format!("CAP REQ :{name}")).is_some(), "{name}: {lines:?}");
    }
    // The echo of its own line is no message: what is said next is the next event.
    let sends = lines.iter().filter(|line| line.contains("PRIVMSG")).count();
    assert_eq!(sends, 1, "{lines:?}");
}

#[tokio::test]
async fn a_refused_account_is_said_and_nothing_is_sent_without_it() {
    let server = IrcFake::start().await;
    let gateway = joined(&server, "another").await;
    gateway.wait_for_log(&["net", "refuses the account agent"]).await;
    done(&gateway, &["send", "net", "nobody", "are you there?"]).await;
    gateway.wait_for_log(&["net", "paused"]).await;
    let lines = server.lines();
    assert!(
        lines.iter().all(|line| !line.contains("PRIVMSG") && line != "CAP END"),
        "{lines:?}"
    );
}
