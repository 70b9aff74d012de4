//! `chat` against a gateway that this test plays, so that it can lose connections and repeat itself at will.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::binary::{self, Outcome};

/// Fails a test that would hang; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

struct Gateway {
    listener: TcpListener,
}

struct Connection(WebSocketStream<TcpStream>);

impl Gateway {
    async fn start() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a port is free"),
        }
    }

    fn url(&self) -> String {
        format!(
            "ws://{}/ws",
            self.listener.local_addr().expect("the listener has an address")
        )
    }

    /// Takes the next connection and its attachment.
    async fn accept(&self) -> Connection {
        let accepting = async {
            let (stream, _) = self.listener.accept().await.expect("a client connects");
            let mut connection = Connection(tokio_tungstenite::accept_async(stream).await.expect("a WebSocket"));
            let attach = connection.receive().await;
            assert_eq!(attach, json!({ "type": "attach", "conversation": "c1", "acks": true }));
            connection
        };
        tokio::time::timeout(PATIENCE, accepting)
            .await
            .expect("a client connects in time")
    }
}

impl Connection {
    async fn receive(&mut self) -> Value {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.0.next())
                .await
                .expect("a frame comes in time");
            match frame.expect("the connection is open").expect("the frame is right") {
                Message::Text(text) => return serde_json::from_str(&text).expect("frames are JSON"),
                Message::Close(_) => panic!("the client closed the connection"),
                _ => {}
            }
        }
    }

    /// Receives a message, and returns its id and text.
    async fn message(&mut self) -> (String, String) {
        let frame = self.receive().await;
        assert_eq!(
            (&frame["type"], &frame["conversation"]),
            (&json!("message"), &json!("c1")),
            "{frame}"
        );
        let text = |key: &str| {
            frame[key]
                .as_str()
                .unwrap_or_else(|| panic!("{frame} has no {key}"))
                .to_owned()
        };
        (text("id"), text("text"))
    }

    async fn send(&mut self, frame: &Value) {
        self.0
            .send(Message::Text(frame.to_string().into()))
            .await
            .expect("the client listens");
    }

    async fn accepted(&mut self, id: &str) {
        self.send(&json!({ "type": "accepted", "id": id })).await;
    }

    /// Sends an answer and waits for its acknowledgement.
    async fn reply(&mut self, id: &str, key: &str, text: &str) {
        let frame =
            json!({ "type": "reply", "conversation": "c1", "in_reply_to": id, "delivery_key": key, "text": text });
        self.send(&frame).await;
        assert_eq!(self.receive().await, json!({ "type": "ack", "delivery_key": key }));
    }
}

/// Starts a chat with this input; `wait` is how long it waits for answers, seconds.
fn chat(url: &str, input: &str, wait: &str) -> Child {
    let mut command = binary::command(Path::new("."));
    command.args(["chat", "--url", url, "--conversation", "c1", "--wait", wait]);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the binary starts");
    // Dropped after this line: the end of input.
    let mut stdin = child.stdin.take().expect("the input is a pipe");
    stdin.write_all(input.as_bytes()).expect("the input is taken");
    child
}

async fn outcome(child: Child) -> Outcome {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the chat ends in time");
    ended.expect("the waiting thread lives").expect("the chat ends").into()
}

#[tokio::test]
async fn lines_are_answered_and_the_end_of_input_waits_for_it() {
    let gateway = Gateway::start().await;
    let child = chat(&gateway.url(), "one\n\ntwo\n", "30");
    let mut connection = gateway.accept().await;
    let ((first, one), (second, two)) = (connection.message().await, connection.message().await);
    assert_eq!((one.as_str(), two.as_str()), ("one", "two"));
    connection.accepted(&first).await;
    connection.accepted(&second).await;
    connection
        .send(&json!({ "type": "typing", "conversation": "c1" }))
        .await;
    connection.reply(&first, "dlv_1", "ONE").await;
    connection.reply(&second, "dlv_2", "TWO\u{1b}[2J").await;
    let outcome = outcome(child).await;
    assert_eq!(
        (outcome.out.as_str(), outcome.code),
        ("ONE\nTWO[2J\n", Some(0)),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn a_lost_connection_loses_and_repeats_nothing() {
    let gateway = Gateway::start().await;
    let child = chat(&gateway.url(), "one\ntwo\n", "30");
    let mut connection = gateway.accept().await;
    let (first, _) = connection.message().await;
    let (second, _) = connection.message().await;
    connection.accepted(&first).await;
    connection.reply(&first, "dlv_1", "ONE").await;
    drop(connection);
    let mut connection = gateway.accept().await;
    let (again, text) = connection.message().await;
    assert_eq!(
        (again.as_str(), text.as_str()),
        (second.as_str(), "two"),
        "the same id, and nothing that was accepted"
    );
    connection.accepted(&again).await;
    connection.reply(&first, "dlv_1", "ONE").await;
    connection.reply(&second, "dlv_2", "TWO").await;
    let outcome = outcome(child).await;
    assert_eq!(
        (outcome.out.as_str(), outcome.code),
        ("ONE\nTWO\n", Some(0)),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("the connection is lost"), "{}", outcome.err);
}

#[tokio::test]
async fn a_busy_gateway_is_asked_again_and_a_refusal_is_said() {
    let gateway = Gateway::start().await;
    let child = chat(&gateway.url(), "one\ntwo\n", "30");
    let mut connection = gateway.accept().await;
    let (first, _) = connection.message().await;
    let (second, _) = connection.message().await;
    connection
        .send(&json!({ "type": "error", "id": first, "code": "busy", "message": "wait" }))
        .await;
    connection
        .send(&json!({ "type": "error", "id": second, "code": "refused", "message": "not you" }))
        .await;
    let (again, _) = connection.message().await;
    assert_eq!(again, first);
    connection.accepted(&again).await;
    connection.reply(&again, "dlv_1", "ONE").await;
    let outcome = outcome(child).await;
    assert_eq!(
        (outcome.out.as_str(), outcome.code),
        ("ONE\n", Some(1)),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("not you (refused)"), "{}", outcome.err);
}

#[tokio::test]
async fn it_says_when_it_stops_waiting() {
    let gateway = Gateway::start().await;
    let child = chat(&gateway.url(), "one\n", "1");
    let mut connection = gateway.accept().await;
    let (id, _) = connection.message().await;
    connection.accepted(&id).await;
    let accepted = outcome(child).await;
    assert_eq!(accepted.code, Some(0), "{}", accepted.err);
    assert!(accepted.err.contains("1 without an answer so far"), "{}", accepted.err);

    let child = chat(&gateway.url(), "one\n", "1");
    let mut connection = gateway.accept().await;
    connection.message().await;
    let unaccepted = outcome(child).await;
    assert_eq!(
        unaccepted.code,
        Some(1),
        "a message that is not durable is a failure: {}",
        unaccepted.err
    );
}

#[tokio::test]
async fn an_answer_that_waited_is_shown() {
    let gateway = Gateway::start().await;
    let child = chat(&gateway.url(), "one\n", "30");
    let mut connection = gateway.accept().await;
    // The line that is typed comes at any moment; only after it is the order of frames known.
    let (id, _) = connection.message().await;
    connection.reply("m-of-yesterday", "dlv_0", "LATE").await;
    connection.reply(&id, "dlv_1", "ONE").await;
    let outcome = outcome(child).await;
    assert_eq!(
        (outcome.out.as_str(), outcome.code),
        ("LATE\nONE\n", Some(0)),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn without_a_gateway_it_says_how_to_start_one() {
    let gateway = Gateway::start().await;
    let url = gateway.url();
    drop(gateway);
    let outcome = outcome(chat(&url, "", "1")).await;
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains("no gateway answers at") && outcome.err.contains("sluicegate run"),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn a_url_that_it_does_not_speak_is_a_wrong_command_line() {
    let outcome = outcome(chat("https://gate.example.org", "", "1")).await;
    assert_eq!(outcome.code, Some(2), "{}", outcome.err);
}

#[tokio::test]
async fn a_gateway_that_goes_for_good_is_not_waited_for_longer_than_was_said() {
    let gateway = Gateway::start().await;
    let mut command = binary::command(Path::new("."));
    command.args(["chat", "--url", &gateway.url(), "--conversation", "c1", "--wait", "1"]);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the binary starts");
    let mut input = child.stdin.take().expect("the input is a pipe");
    input.write_all(b"one\n").expect("the input is taken");
    let mut connection = gateway.accept().await;
    let (id, _) = connection.message().await;
    connection.accepted(&id).await;
    connection.reply(&id, "dlv_0", "ONE").await;
    drop(connection);
    drop(gateway);
    input.write_all(b"two\n").expect("the input is taken");
    drop(input);
    let outcome = outcome(child).await;
    assert_eq!(
        (outcome.out.as_str(), outcome.code),
        ("ONE\n", Some(1)),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("did not accept: 1"), "{}", outcome.err);
}

#[tokio::test]
async fn a_conversation_that_is_gone_on_with_shows_what_waits_there_also_without_input() {
    let gateway = Gateway::start().await;
    let child = chat(&gateway.url(), "", "30");
    let mut connection = gateway.accept().await;
    connection.reply("m1", "dlv_1", "MEANWHILE").await;
    let outcome = outcome(child).await;
    assert_eq!(
        (outcome.out.as_str(), outcome.code),
        ("MEANWHILE\n", Some(0)),
        "{}",
        outcome.err
    );
}
