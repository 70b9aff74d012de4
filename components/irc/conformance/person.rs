//! A person with a plain IRC client.

use std::sync::Arc;
use std::time::Instant;

use harness::{PATIENCE, Record};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Somebody who is connected.
pub(super) struct Person {
    writer: Arc<Mutex<OwnedWriteHalf>>,
    /// All lines from the server, in order.
    lines: Arc<Record<String>>,
    reading: JoinHandle<()>,
}

impl Person {
    /// Connects and waits for the server's welcome.
    pub(super) async fn connect(port: u16, nick: &str, password: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server is up");
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(Mutex::new(writer));
        let lines: Arc<Record<String>> = Arc::default();
        let reading = tokio::spawn(read(BufReader::new(reader), Arc::clone(&lines), Arc::clone(&writer)));
        let person = Self { writer, lines, reading };
        person
            .send(&format!("PASS {password}\r\nNICK {nick}\r\nUSER {nick} 0 * :{nick}"))
            .await;
        person.answer_after(0, " 001 ").await;
        person
    }

    /// Asks whether the server takes this password. One that reads its configuration again takes nobody for a moment.
    pub(super) async fn is_welcome(port: u16, password: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
            return false;
        };
        let hello = format!("PASS {password}\r\nNICK probe\r\nUSER probe 0 * :probe\r\n");
        if stream.write_all(hello.as_bytes()).await.is_err() {
            return false;
        }
        let mut lines = BufReader::new(stream).lines();
        // The server ends the connection of who is not welcome.
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains(" 001 ") {
                return true;
            }
        }
        false
    }

    /// Sends a line, or several.
    pub(super) async fn send(&self, line: &str) {
        let mut writer = self.writer.lock().await;
        writer
            .write_all(format!("{line}\r\n").as_bytes())
            .await
            .expect("the server takes it");
    }

    /// Waits until somebody of this nick is there.
    pub(super) async fn wait_for(&self, nick: &str) {
        let started = Instant::now();
        while !self.sees(nick).await {
            assert!(started.elapsed() < PATIENCE, "{nick} never came");
        }
    }

    /// Asks the server whether somebody of this nick is there.
    pub(super) async fn sees(&self, nick: &str) -> bool {
        let before = self.lines.len();
        self.send(&format!("ISON {nick}")).await;
        let answer = self.answer_after(before, " 303 ").await;
        let present = answer.rsplit_once(':').map_or("", |(_, present)| present);
        present.split_whitespace().any(|name| name == nick)
    }

    /// Returns what a nick has written to this person, with its formatting.
    pub(super) fn heard_from(&self, nick: &str) -> Vec<String> {
        let from = format!(":{nick}!");
        let lines = self.lines.all().into_iter();
        let said = lines.filter(|line| line.starts_with(&from) && line.contains(" PRIVMSG "));
        said.filter_map(|line| Some(line.split_once(" :")?.1.to_owned()))
            .collect()
    }

    /// Returns the first line with these words that came after so many.
    async fn answer_after(&self, before: usize, words: &str) -> String {
        let look = |lines: &[String]| lines[before..].iter().find(|line| line.contains(words)).cloned();
        self.lines.wait_for("the server's answer", look).await
    }
}

async fn read(
    mut reader: BufReader<tokio::net::tcp::OwnedReadHalf>,
    lines: Arc<Record<String>>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
) {
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if let Some(token) = text.strip_prefix("PING ") {
            let pong = format!("PONG {token}\r\n");
            writer.lock().await.write_all(pong.as_bytes()).await.ok();
        }
        lines.push(text);
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
