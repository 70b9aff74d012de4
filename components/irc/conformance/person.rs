//! A person with a plain IRC client.

use std::sync::Arc;

use harness::eventually;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Somebody who is connected.
pub(super) struct Person {
    writer: Arc<Mutex<OwnedWriteHalf>>,
    /// All lines from the server, in order.
    lines: Arc<Mutex<Vec<String>>>,
    reading: JoinHandle<()>,
}

impl Person {
    /// Connects and waits for the server's welcome.
    pub(super) async fn connect(port: u16, nick: &str, password: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server is up");
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(Mutex::new(writer));
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, answering) = (Arc::clone(&lines), Arc::clone(&writer));
        let reading = tokio::spawn(async move {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if let Some(token) = text.strip_prefix("PING ") {
                    let pong = format!("PONG {token}\r\n");
                    answering.lock().await.write_all(pong.as_bytes()).await.ok();
                }
                kept.lock().await.push(text);
            }
        });
        let person = Self {
            writer,
            lines,
            reading,
        };
        person.send(&format!("PASS {password}\r\nNICK {nick}\r\nUSER {nick} 0 * :{nick}")).await;
        eventually("the server's welcome", async || person.has(" 001 ").await.then_some(())).await;
        person
    }

    /// Sends a line, or several.
    pub(super) async fn send(&self, line: &str) {
        let mut writer = self.writer.lock().await;
        writer.write_all(format!("{line}\r\n").as_bytes()).await.expect("the server takes it");
    }

    /// Waits until somebody of this nick is there.
    pub(super) async fn wait_for(&self, nick: &str) {
        eventually("the bot is there", async || self.sees(nick).await.then_some(())).await;
    }

    /// Asks the server whether somebody of this nick is there.
    pub(super) async fn sees(&self, nick: &str) -> bool {
        let before = self.lines.lock().await.len();
        self.send(&format!("ISON {nick}")).await;
        let answer = eventually("the answer to ISON", async || {
            let lines = self.lines.lock().await;
            lines[before..].iter().find(|line| line.contains(" 303 ")).cloned()
        })
        .await;
        let present = answer.rsplit_once(':').map_or("", |(_, present)| present);
        present.split_whitespace().any(|name| name == nick)
    }

    /// Returns what a nick has written to this person, with its formatting.
    pub(super) async fn heard_from(&self, nick: &str) -> Vec<String> {
        let lines = self.lines.lock().await;
        let from = format!(":{nick}!");
        let said = lines.iter().filter(|line| line.starts_with(&from) && line.contains(" PRIVMSG "));
        said.filter_map(|line| line.split_once(" :")).map(|(_, text)| text.to_owned()).collect()
    }

    async fn has(&self, words: &str) -> bool {
        self.lines.lock().await.iter().any(|line| line.contains(words))
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
