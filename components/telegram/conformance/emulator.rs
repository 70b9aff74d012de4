//! The channel against telegram-test-api, a third party's emulator of the Bot API.

use harness::{Program, Setup, eventually, http};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::platform::installed;

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
    let folder = match installed("SLUICEGATE_TELEGRAM_EMULATOR", "telegram-emulator") {
        Ok(folder) => folder,
        Err(skipped) => return skipped.say("telegram, its emulator"),
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
