//! What the client libraries do not show of the fake: webhooks, the order of long polls, severed connections.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use telegram_fake::{Fault, TelegramFake};

const PATIENCE: Duration = Duration::from_secs(10);

async fn call(fake: &TelegramFake, method: &str, params: Value) -> Option<Value> {
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let request = Request::post(format!("{}/bot{}/{method}", fake.base_url(), fake.token()))
        .header("content-type", "application/json")
        .body(Body::from(params.to_string()))
        .expect("the request is well formed");
    let response = client.request(request).await.ok()?;
    let body = axum::body::to_bytes(Body::new(response.into_body()), usize::MAX)
        .await
        .ok()?;
    serde_json::from_slice(&body).ok()
}

#[tokio::test]
async fn a_long_poll_ends_when_something_comes_and_repeats_it_until_it_is_confirmed() {
    let fake = TelegramFake::start().await.expect("a loopback port is free");
    let (polled, update) = tokio::join!(call(&fake, "getUpdates", json!({"timeout": 10})), async {
        fake.say(5, 5, "hi")
    });
    let first = polled.expect("the poll is answered");
    assert_eq!(first["result"][0]["update_id"], update);
    let again = call(&fake, "getUpdates", json!({}))
        .await
        .expect("the poll is answered");
    assert_eq!(again["result"], first["result"]);
    let confirmed = call(&fake, "getUpdates", json!({"offset": update + 1}))
        .await
        .expect("the poll is answered");
    assert_eq!(confirmed["result"], json!([]));
    assert_eq!(fake.await_confirmed(PATIENCE).await, Ok(()));
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_severed_call_may_have_taken_effect() {
    let fake = TelegramFake::start().await.expect("a loopback port is free");
    fake.say(5, 5, "hi");
    fake.fail_next("sendMessage", 1, Fault::close());
    fake.fail_next("sendMessage", 1, Fault::close().after_accepting());
    let message = json!({"chat_id": 5, "text": "answer", "shout": true});
    assert_eq!(call(&fake, "sendMessage", message.clone()).await, None);
    assert_eq!(fake.messages(5).len(), 0);
    assert_eq!(call(&fake, "sendMessage", message).await, None);
    assert_eq!(fake.messages(5).len(), 1);
    let accepted: Vec<bool> = fake.calls_of("sendMessage").iter().map(|call| call.accepted).collect();
    assert_eq!(accepted, [false, true]);
    assert_eq!(fake.violations(), ["sendMessage has no parameter shout"; 2]);
}

#[tokio::test]
async fn a_webhook_gets_each_update_with_its_secret_until_it_takes_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let seen = Arc::clone(&seen);
        post(move |headers: HeaderMap, body: String| async move {
            let secret = headers
                .get("x-telegram-bot-api-secret-token")
                .and_then(|value| value.to_str().ok());
            let update: Value = serde_json::from_str(&body).unwrap_or_default();
            let mut seen = seen.lock().expect("no other test holds it");
            seen.push((secret.map(str::to_owned), update["update_id"].as_i64()));
            if seen.len() == 1 {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            }
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound");
    let server = axum::serve(listener, Router::new().route("/hook", hook));
    let fake = TelegramFake::start().await.expect("a loopback port is free");
    let updates = async {
        let params = json!({"url": format!("http://{address}/hook"), "secret_token": "s-3"});
        call(&fake, "setWebhook", params).await.expect("setWebhook is answered");
        let update = fake.say(5, 5, "hi");
        assert_eq!(fake.await_confirmed(PATIENCE).await, Ok(()));
        update
    };
    let update = tokio::select! {
        update = updates => update,
        _ = server.into_future() => panic!("the hook's server ended"),
    };
    let secret = Some("s-3".to_owned());
    assert_eq!(
        *seen.lock().expect("no other test holds it"),
        [(secret.clone(), Some(update)), (secret, Some(update))]
    );
    let statuses: Vec<u16> = fake.webhook_attempts().iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [503, 200]);
}
