//! The Telegram channel's third-party peers: the client library that our fake is checked by, and an emulator.
//!
//! `.ci/run` installs them below `target/peers` (`tests/peers/telegram/install.sh`). Without them these tests say that
//! they were skipped and why, or fail where `SLUICEGATE_REQUIRE_PEERS=1` says that they must be there.

use std::path::{Path, PathBuf};

use harness::{PATIENCE, Program, Setup, eventually, http};
use serde_json::{Value, json};
use telegram_fake::TelegramFake;
use tokio::process::Command;

const REQUIRED: &str = "SLUICEGATE_REQUIRE_PEERS";

/// Returns the root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns a path of the installed peers, or says that the test is skipped.
///
/// # Panics
/// Where the peers are required.
fn installed(variable: &str, default: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| root().join("target/peers").join(default), PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    let why = format!(
        "{} is missing; `.ci/run` installs it, or set {variable}",
        path.display()
    );
    assert!(std::env::var_os(REQUIRED).is_none_or(|value| value != "1"), "{why}");
    say(&format!("skipped: {why}"));
    None
}

#[expect(clippy::print_stdout, reason = "a test that was skipped says so")]
fn say(words: &str) {
    println!("{words}");
}

#[tokio::test]
async fn our_fake_of_telegram_satisfies_third_party_clients() {
    let Some(python) = installed("SLUICEGATE_TELEGRAM_PYTHON", "telegram-venv/bin/python") else {
        return;
    };
    let fake = TelegramFake::start().await.expect("a free port");
    let mut command = Command::new(python);
    command
        .arg(root().join("tests/peers/telegram/oracle.py"))
        .arg(fake.base_url())
        .arg(fake.token());
    let mut program = Program::spawn(command);
    program.close_input();
    let (code, output, errors) = tokio::time::timeout(PATIENCE * 3, program.outcome())
        .await
        .expect("it ends");
    assert_eq!(code, Some(0), "the client disagrees with the fake:\n{output}\n{errors}");
}

/// Asks the emulator's own side.
async fn emulator(port: u16, path: &str, body: &Value) -> Value {
    let address = ([127, 0, 0, 1], port).into();
    let headers = [("content-type", "application/json")];
    let answer = http::request(address, "POST", path, &headers, body.to_string().as_bytes()).await;
    let answer = answer.unwrap_or_else(|error| panic!("the emulator gave no answer to {path}: {error}"));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{path} answered {}", answer.text()))
}

#[tokio::test]
async fn the_third_party_emulator_of_telegram_is_answered() {
    const TOKEN: &str = "12345:emulated-token";
    let Some(folder) = installed("SLUICEGATE_TELEGRAM_EMULATOR", "telegram-emulator") else {
        return;
    };
    let mut command = Command::new(std::env::var_os("SLUICEGATE_NODE").unwrap_or_else(|| "node".into()));
    command.arg("start.js").arg("0").current_dir(folder);
    let program = Program::spawn(command);
    let first_line = |lines: &[String]| lines.iter().find_map(|line| line.trim().parse::<u16>().ok());
    let port = program
        .output()
        .wait_for("the emulator says its port", first_line)
        .await;

    let base = format!("http://127.0.0.1:{port}");
    let gateway = Setup::new()
        .echo()
        .env("TELEGRAM_TOKEN", TOKEN)
        .section(&format!(
            "[channels.tg]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
             settings = {{ mode = \"poll\", api-base = \"{base}\", poll-seconds = 1 }}\n\
             secrets = {{ bot-token = {{ env = \"TELEGRAM_TOKEN\" }} }}"
        ))
        .start()
        .await;
    for text in ["hello", "and again"] {
        let message = json!({
            "botToken": TOKEN, "text": text, "date": 1_700_000_000,
            "from": {"id": 1, "first_name": "Ada", "username": "ada", "is_bot": false},
            "chat": {"id": 1, "first_name": "Ada", "username": "ada", "type": "private"},
        });
        emulator(port, "/sendMessage", &message).await;
    }
    let answered = eventually("both messages are answered", async || {
        let answer = emulator(port, "/getUpdatesHistory", &json!({"token": TOKEN})).await;
        let all = answer["result"].as_array().cloned().unwrap_or_default();
        let by_bot = all.iter().filter(|update| update["message"]["from"].is_null());
        let texts: Vec<String> = by_bot
            .filter_map(|update| update["message"]["text"].as_str().map(str::to_owned))
            .collect();
        Some(texts).filter(|texts| texts.len() >= 2)
    })
    .await;
    assert_eq!(answered, ["hello", "and again"]);
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
}
