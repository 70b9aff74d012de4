//! The Telegram channel in webhook mode against our own strict fake of the Bot API.

use harness::{PATIENCE, Setup, TestGateway};
use serde_json::{Value, json};
use telegram_fake::{ChatState, Fault, TelegramFake};

use crate::telegram::{ADA, messages, texts};

/// What Telegram sends with each call of a webhook.
const WEBHOOK_SECRET: &str = "a_secret-of-the-suite";

/// Starts a fake, and sets the channel `tg` up to be called.
async fn webhook() -> (TelegramFake, Setup) {
    let fake = TelegramFake::start().await.expect("a free port");
    fake.set_chat(ADA, ChatState::Open);
    let base = fake.base_url();
    let setup = Setup::new()
        .echo()
        .public_url("https://gate.example.org")
        .section(&format!(
            "[channels.tg]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
         settings = {{ mode = \"webhook\", api-base = \"{base}\" }}\n\
         secrets = {{ bot-token = {{ env = \"TELEGRAM_TOKEN\" }}, webhook-secret = {{ env = \"WEBHOOK_SECRET\" }} }}"
        ));
    let setup = setup.env("TELEGRAM_TOKEN", &fake.token());
    (fake, setup.env("WEBHOOK_SECRET", WEBHOOK_SECRET))
}

/// Calls the webhook as Telegram does (core.telegram.org/bots/api#setwebhook). Returns the status.
async fn called(gateway: &TestGateway, secret: Option<&str>, update: &Value) -> u16 {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(secret.map(|secret| ("x-telegram-bot-api-secret-token", secret)));
    let body = update.to_string();
    gateway
        .request("POST", "/hooks/tg", &headers, body.as_bytes())
        .await
        .status
}

/// A text in a private chat (core.telegram.org/bots/api#update).
fn update(id: i64, text: &str) -> Value {
    json!({"update_id": id, "message": {
        "message_id": id, "date": 1_760_000_000, "text": text,
        "from": {"id": ADA, "is_bot": false, "first_name": "Ada", "language_code": "en"},
        "chat": {"id": ADA, "type": "private", "first_name": "Ada"},
    }})
}

#[tokio::test]
async fn a_webhook_is_registered_with_its_secret_and_takes_only_calls_that_bring_it() {
    let (fake, setup) = webhook().await;
    let gateway = setup.start().await;
    let registered = fake
        .await_calls("setWebhook", 1, PATIENCE)
        .await
        .expect("it is registered");
    assert_eq!(registered[0].params["url"], "https://gate.example.org/hooks/tg");
    assert_eq!(registered[0].params["secret_token"], WEBHOOK_SECRET);
    assert!(registered[0].accepted, "Telegram would take it");
    for wrong in [
        None,
        Some(""),
        Some("a_secret-of-the-suit"),
        Some("A_secret-of-the-suite"),
    ] {
        assert_eq!(called(&gateway, wrong, &update(1, "forged")).await, 401, "{wrong:?}");
    }
    for (id, text) in [(2, "one"), (2, "one"), (3, "two")] {
        assert_eq!(called(&gateway, Some(WEBHOOK_SECRET), &update(id, text)).await, 200);
    }
    assert_eq!(texts(&messages(&fake, ADA, 2).await), ["one", "two"]);
    let broken = json!({"update_id": 4, "message": {"message_id": "no number"}});
    assert_eq!(
        called(&gateway, Some(WEBHOOK_SECRET), &broken).await,
        200,
        "Telegram would send it for ever"
    );
    assert_eq!(fake.calls_of("getUpdates").len(), 0, "nobody polls beside a webhook");
}

#[tokio::test]
async fn a_webhook_is_registered_as_soon_as_telegram_can_be_reached() {
    let (fake, setup) = webhook().await;
    fake.fail_next("getMe", 1, Fault::close());
    fake.fail_next("setWebhook", 1, Fault::gateway(502));
    let gateway = setup.start().await;
    let calls = fake.await_calls("setWebhook", 2, PATIENCE).await;
    assert!(calls.expect("it is tried again")[1].accepted);
    assert_eq!(called(&gateway, Some(WEBHOOK_SECRET), &update(1, "hello")).await, 200);
    assert_eq!(texts(&messages(&fake, ADA, 1).await), ["hello"]);
}

#[tokio::test]
async fn a_file_that_does_not_come_holds_up_no_webhook() {
    let (fake, setup) = webhook().await;
    let gateway = setup.start().await;
    fake.await_calls("setWebhook", 1, PATIENCE)
        .await
        .expect("it is registered");
    fake.fail_next("getFile", 1, Fault::hang());
    let mut with_file = update(1, "");
    with_file["message"]["text"] = Value::Null;
    with_file["message"]["caption"] = json!("see");
    with_file["message"]["document"] = json!({"file_id": "f1", "file_unique_id": "u1", "file_name": "a.txt"});
    assert_eq!(called(&gateway, Some(WEBHOOK_SECRET), &with_file).await, 200);
    let answers = messages(&fake, ADA, 1).await;
    assert_eq!(
        texts(&answers),
        ["see\n[the file a.txt could not be fetched: no answer]"]
    );
}

#[tokio::test]
async fn a_webhook_of_its_own_is_taken_back_before_the_channel_polls() {
    let (fake, setup) = webhook().await;
    let mut gateway = setup.start().await;
    fake.await_calls("setWebhook", 1, PATIENCE)
        .await
        .expect("it is registered");
    gateway.terminate().await;
    let file = gateway.folder().join("sluicegate.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration is there");
    std::fs::write(&file, text.replace("mode = \"webhook\"", "mode = \"poll\"")).expect("it can be written");
    gateway.restart().await;
    fake.say(ADA, ADA, "hello");
    assert_eq!(texts(&messages(&fake, ADA, 1).await), ["hello"]);
    let taken_back = fake.calls_of("deleteWebhook");
    assert_eq!(taken_back.len(), 1);
    assert!(
        taken_back[0].params["drop_pending_updates"].is_null(),
        "nothing is dropped"
    );
}
