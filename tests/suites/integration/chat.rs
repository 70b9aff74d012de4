//! `sluicegate chat` with a gateway that runs: it finds it, and says what keeps it out.

use harness::{Setup, TempFolder, sluicegate_binary};
use tokio::io::AsyncWriteExt as _;

use crate::operator::fails;

/// What nobody but the one who typed it should read.
const TOKEN: &str = "a-token-to-hush";

#[tokio::test]
async fn a_chat_finds_the_gateway_of_its_data_directory_whatever_port_it_has() {
    // It listens on whatever port is free, so that its configuration does not name it.
    let gateway = Setup::new().echo().websocket().start().await;
    let mut command = tokio::process::Command::new(sluicegate_binary());
    command.args(["chat", "--wait", "30"]).current_dir(gateway.folder());
    let piped = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut chat = piped.spawn().expect("the binary starts");
    let mut input = chat.stdin.take().expect("the input is a pipe");
    input.write_all(b"are you there\n").await.expect("the input is taken");
    drop(input);
    let output = chat.wait_with_output().await.expect("the chat ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()),
        ("are you there\n", Some(0)),
        "{errors}"
    );
}

#[tokio::test]
async fn a_chat_that_is_refused_says_why() {
    let gateway = Setup::new().echo().websocket().start().await;
    let address = gateway.address();
    for (path, words) in [
        (format!("ws?token={TOKEN}"), "the token is not its own"),
        ("nowhere".to_owned(), "it has no WebSocket channel there"),
    ] {
        let url = format!("ws://{address}/{path}");
        let said = fails(gateway.folder(), &["chat", "--url", &url], 1).await;
        assert!(said.contains("refuses the chat") && said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn no_failure_of_a_chat_repeats_its_token() {
    let gateway = Setup::new().echo().websocket().start().await;
    let (address, nobody) = (gateway.address(), TempFolder::new());
    for (place, code) in [
        (format!("ws://{address}/ws"), 1),
        ("ws://127.0.0.1:1/ws".to_owned(), 1),
        ("ws://not a host/ws".to_owned(), 1),
        ("https://gate.example.org/ws".to_owned(), 2),
    ] {
        let url = format!("{place}?token={TOKEN}");
        let said = fails(nobody.path(), &["chat", "--url", &url], code).await;
        assert!(said.contains(&place) && !said.contains(TOKEN), "{place}: {said}");
    }
}
