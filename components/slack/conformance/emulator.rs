//! The channel against emulate, a third party's emulator of Slack's Web API. It sends no events of its own, so a signed
//! call stands for Slack's; what the channel answers is read back from the emulator.

use harness::{Program, Setup, eventually, http};
use serde_json::{Value, json};
use tokio::process::Command;

use super::fake::{SIGNING_SECRET, signed};
use crate::platform::installed;

/// The token and the channel that `start.mjs` and the emulator itself set up.
const TOKEN: &str = "xoxb-emulated";
const CHANNEL: &str = "C000000001";

/// Asks the emulator.
async fn ask(port: u16, method: &str, body: &Value) -> Value {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let (address, path) = (([127, 0, 0, 1], port).into(), format!("/api/{method}"));
    let answer = http::request(address, "POST", &path, &headers, body.to_string().as_bytes()).await;
    let answer = answer.unwrap_or_else(|error| panic!("the emulator gave no answer to {method}: {error}"));
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{method} answered {}", answer.text()))
}

#[tokio::test]
async fn the_third_party_emulator_of_slack_is_answered() {
    let folder = match installed("SLUICEGATE_SLACK_EMULATOR", "slack-emulator") {
        Ok(folder) => folder,
        Err(skipped) => return skipped.say("slack, its emulator"),
    };
    let mut command = Command::new(folder.join("node24"));
    command.arg("start.mjs").current_dir(folder);
    let program = Program::spawn(command);
    let first_line = |lines: &[String]| lines.iter().find_map(|line| line.trim().parse::<u16>().ok());
    let port = program
        .output()
        .wait_for("the emulator says its port", first_line)
        .await;
    let me = ask(port, "auth.test", &json!({})).await;
    let web = format!("http://127.0.0.1:{port}");
    let gateway = Setup::new()
        .echo()
        .env("SLACK_BOT_TOKEN", TOKEN)
        .env("SLACK_SIGNING_SECRET", SIGNING_SECRET)
        .section(&format!(
            "[channels.office]\ncomponent = \"slack\"\naccess = \"open\"\ngrant = [\"{web}\"]\n\
             settings = {{ mode = \"events\", api-base = \"{web}/api\" }}\n\
             secrets = {{ bot-token = {{ env = \"SLACK_BOT_TOKEN\" }}, signing-secret = {{ env = \"SLACK_SIGNING_SECRET\" }} }}"
        ))
        .start()
        .await;
    let asked = ask(
        port,
        "chat.postMessage",
        &json!({"channel": CHANNEL, "text": "a question"}),
    )
    .await;
    let text = format!("<@{}> a < b & **bold**", me["user_id"].as_str().unwrap_or_default());
    let event = json!({"type": "event_callback", "event_id": "Ev1", "event": {
        "type": "app_mention", "channel": CHANNEL, "user": "U55", "text": text, "ts": asked["ts"],
    }});
    let body = event.to_string();
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .expect("the clock is after 1970")
        .as_secs();
    let signed = signed(&body, now);
    let headers: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let taken = gateway
        .request("POST", "/hooks/office", &headers, body.as_bytes())
        .await;
    assert_eq!(taken.status, 200, "{}", taken.text());
    let thread = json!({"channel": CHANNEL, "ts": asked["ts"]});
    let answer = eventually("the thread has an answer", async || {
        let replies = ask(port, "conversations.replies", &thread).await;
        let messages = replies["messages"].as_array().cloned().unwrap_or_default();
        messages.into_iter().find(|message| message["ts"] != asked["ts"])
    })
    .await;
    assert_eq!(answer["text"], "@sluice a &lt; b &amp; *bold*");
    assert_eq!((&answer["thread_ts"], &answer["user"]), (&asked["ts"], &me["user_id"]));
    let mark = &answer["metadata"];
    assert_eq!(
        mark["event_type"], "sluicegate_delivery",
        "it takes the mark, and shows it: {answer}"
    );
    assert_eq!(mark["event_payload"]["part"], 0);
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
}
