//! The channel in events mode: Slack calls the gateway.

use harness::{Setup, TestGateway, eventually, http};
use serde_json::{Value, json};

use super::fake::{self, APP_USER, BOT_TOKEN, SIGNING_SECRET, SlackFake};

async fn listening(fake: &SlackFake) -> TestGateway {
    let web = fake.origin();
    Setup::new()
        .echo()
        .env("SLACK_BOT_TOKEN", BOT_TOKEN)
        .env("SLACK_SIGNING_SECRET", SIGNING_SECRET)
        .section(&format!(
            "[channels.office]\ncomponent = \"slack\"\naccess = \"open\"\ngrant = [\"{web}\"]\n\
             settings = {{ mode = \"events\", api-base = \"{web}/api\" }}\n\
             secrets = {{ bot-token = {{ env = \"SLACK_BOT_TOKEN\" }}, signing-secret = {{ env = \"SLACK_SIGNING_SECRET\" }} }}"
        ))
        .start()
        .await
}

fn now_s() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is after 1970");
    since.as_secs()
}

/// Calls the gateway as Slack does, signed `age_s` seconds ago; `retry` is the number of an earlier try that failed.
async fn call(gateway: &TestGateway, body: &Value, age_s: u64, retry: Option<u32>) -> http::Response {
    let body = body.to_string();
    let signed = fake::signed(&body, now_s() - age_s);
    let mut headers: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(("content-type", "application/json"));
    let retry = retry.map(|number| number.to_string());
    if let Some(retry) = &retry {
        headers.extend([
            ("x-slack-retry-num", retry.as_str()),
            ("x-slack-retry-reason", "http_timeout"),
        ]);
    }
    gateway
        .request("POST", "/hooks/office", &headers, body.as_bytes())
        .await
}

fn event(channel: &str, ts: &str, text: &str) -> Value {
    json!({"type": "event_callback", "event_id": format!("Ev{ts}"), "team_id": "T1", "event": {
        "type": "message", "channel": channel, "channel_type": "im", "user": "U55", "text": text, "ts": ts,
    }})
}

async fn wait_for_posts(fake: &SlackFake, channel: &str, count: usize) -> Vec<String> {
    eventually(&format!("{count} posts in {channel}"), async || {
        let posts = fake.posts(channel);
        (posts.len() >= count).then(|| posts.into_iter().map(|post| post.text).collect())
    })
    .await
}

#[tokio::test]
async fn the_challenge_is_answered_as_it_is() {
    let fake = SlackFake::start().await.expect("a free port");
    let gateway = listening(&fake).await;
    let challenge =
        json!({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"});
    let answer = call(&gateway, &challenge, 0, None).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, challenge["challenge"].as_str().unwrap_or_default())
    );
    let unsigned = gateway.post("office", &challenge).await;
    assert_eq!(unsigned.status, 401, "nobody else is answered");
    assert_eq!(
        call(&gateway, &challenge, 301, None).await.status,
        401,
        "nor anything that is old"
    );
}

#[tokio::test]
async fn an_event_that_slack_sends_again_is_answered_once() {
    let fake = SlackFake::start().await.expect("a free port");
    let gateway = listening(&fake).await;
    let channel = fake.add_direct();
    let first = event(&channel, "1767225600.000101", "hello");
    assert_eq!(call(&gateway, &first, 0, None).await.status, 200);
    // A retry is signed anew.
    for retry in 1..=3 {
        assert_eq!(call(&gateway, &first, u64::from(retry), Some(retry)).await.status, 200);
    }
    let next = event(&channel, "1767225600.000102", "and next");
    assert_eq!(call(&gateway, &next, 0, None).await.status, 200);
    assert_eq!(wait_for_posts(&fake, &channel, 2).await, ["hello", "and next"]);
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_post_in_a_channel_is_answered_once_in_a_thread_of_its_own() {
    let fake = SlackFake::start().await.expect("a free port");
    let gateway = listening(&fake).await;
    let ts = "1767225600.000103";
    let mut as_message = event(fake::CHANNEL, ts, &format!("<@{APP_USER}> hello"));
    as_message["event"]["channel_type"] = json!("channel");
    let mut as_mention = as_message.clone();
    as_mention["event"]["type"] = json!("app_mention");
    as_mention["event_id"] = json!("EvOther");
    for event in [&as_message, &as_mention] {
        assert_eq!(call(&gateway, event, 0, None).await.status, 200);
    }
    let direct = fake.add_direct();
    assert_eq!(
        call(&gateway, &event(&direct, "1767225600.000104", "later"), 0, None)
            .await
            .status,
        200
    );
    wait_for_posts(&fake, &direct, 1).await;
    wait_for_posts(&fake, fake::CHANNEL, 1).await;
    let posts = fake.posts(fake::CHANNEL);
    assert_eq!(posts.len(), 1, "{posts:?}");
    assert_eq!(
        (posts[0].text.as_str(), posts[0].thread.as_deref()),
        ("@sluice hello", Some(ts))
    );
}
