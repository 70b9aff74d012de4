//! Channels of a gateway that runs: added, reviewed, granted, paused and removed while the others go on.

use std::path::Path;

use harness::{Act, FakePlatform, PATIENCE, Setup, TempFolder, TestGateway, WsClient, eventually};
use serde_json::{Value, json};
use sluicegate::component;
use telegram_fake::TelegramFake;

use crate::operator::{command, done, events, fails, json_of, next_event};

/// The generic webhook as a stranger's file: the same code in each version, under another digest.
fn versioned(version: u8) -> Vec<u8> {
    let bundled = sluicegate_bundle::find("webhook").expect("the generic webhook is bundled");
    // A custom section that nobody reads: id 0, its size, the length of its name, its name.
    [bundled.wasm, &[0, 2, 1, b'0' + version]].concat()
}

/// Puts a version of the component where the configuration names it.
fn put(folder: &Path, version: u8) -> String {
    let wasm = versioned(version);
    std::fs::write(folder.join("mine.wasm"), &wasm).expect("the component is written");
    component::digest(&wasm)
}

/// A channel `mine` of a stranger's component, pinned to a digest.
fn mine(setup: Setup, platform: &FakePlatform, pin: &str) -> Setup {
    let (url, grant) = (platform.url(), platform.endpoint());
    setup.section(&format!(
        "[channels.mine] # a stranger's\ncomponent = \"./mine.wasm\"\n{pin}access = \"open\"\n\
         settings = {{ url = \"{url}\" }}\ngrant = [\"{grant}\"]"
    ))
}

fn file(gateway: &TestGateway) -> String {
    std::fs::read_to_string(gateway.folder().join("sluicegate.toml")).expect("the configuration is there")
}

/// Says something to the neighbour and waits for its answer.
async fn round_trip(client: &mut WsClient, id: &str) {
    client.say(id, "c1", "hello").await;
    client.expect("accepted").await;
    let reply = client.until("reply").await;
    assert_eq!(
        (&reply["in_reply_to"], &reply["text"]),
        (&json!(id), &json!("hello")),
        "{reply}"
    );
}

async fn status_of(gateway: &TestGateway, name: &str) -> Value {
    let listed = json_of(gateway, &["channel", "list"]).await;
    let rows = listed.as_array().expect("a list");
    let found = rows.iter().find(|row| row["name"] == name).cloned();
    found.unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_channel_comes_and_goes_while_its_neighbour_talks_on() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().websocket().start().await;
    let (mut client, mut events) = (gateway.client().await, events(&gateway).await);
    round_trip(&mut client, "m1").await;
    let (url, grant) = (format!("url={}", platform.url()), platform.endpoint());
    let add = [
        "channel", "add", "webhook", "hook", "--open", "--set", &url, "--grant", &grant,
    ];
    let said = done(&gateway, &add).await;
    assert!(said.contains("The running gateway has it now."), "{said}");
    let change = next_event(&mut events, "operator").await;
    assert_eq!((&change["verb"], &change["subject"]), (&json!("add"), &json!("hook")));
    gateway.tell("hook", "h1", "p1", "at once").await;
    assert_eq!(platform.wait_for_accepted("p1", 1).await[0].text, "at once");
    round_trip(&mut client, "m2").await;

    done(&gateway, &["channel", "pause", "hook"]).await;
    assert!(file(&gateway).contains("paused = true"), "{}", file(&gateway));
    assert_eq!(gateway.post("hook", &json!({})).await.status, 503);
    assert!(gateway.terminate().await.success());
    gateway.restart().await;
    assert_eq!(
        status_of(&gateway, "hook").await["status"],
        "paused",
        "also after a restart"
    );
    assert_eq!(gateway.post("hook", &json!({})).await.status, 503);
    let mut client = gateway.client().await;
    done(&gateway, &["channel", "resume", "hook"]).await;
    assert!(!file(&gateway).contains("paused"), "{}", file(&gateway));
    gateway.tell("hook", "h2", "p1", "again").await;
    platform.wait_for_accepted("p1", 2).await;

    let said = done(&gateway, &["channel", "remove", "hook"]).await;
    assert!(said.contains("The running gateway has stopped it."), "{said}");
    assert_eq!(gateway.post("hook", &json!({})).await.status, 404);
    assert_eq!(status_of(&gateway, "hook").await, Value::Null);
    assert!(!file(&gateway).contains("hook"), "{}", file(&gateway));
    round_trip(&mut client, "m3").await;
}

#[tokio::test]
async fn what_the_gateway_refuses_leaves_the_file_and_the_channels_as_they_were() {
    let gateway = Setup::new().echo().websocket().start().await;
    let before = file(&gateway);
    let missing = [
        "channel",
        "add",
        "telegram",
        "--open",
        "--yes",
        "--secret",
        "bot-token=env:NOT_SET_ANYWHERE",
    ];
    let said = fails(gateway.folder(), &missing, 3).await;
    assert!(said.contains("NOT_SET_ANYWHERE"), "{said}");
    let nobody = ["channel", "add", "websocket", "second", "--open", "--agent", "nobody"];
    fails(gateway.folder(), &nobody, 3).await;
    assert_eq!(file(&gateway), before);
    let folder: Vec<_> = std::fs::read_dir(gateway.folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(folder.len(), 2, "only the configuration and the data: {folder:?}");
    assert_eq!(
        json_of(&gateway, &["channel", "list"]).await.as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn changes_that_are_ordered_at_once_are_all_made() {
    const ADDED: usize = 12;
    let gateway = Setup::new().echo().websocket().start().await;
    let names: Vec<String> = (0..ADDED).map(|number| format!("hook{number}")).collect();
    let adding = names.iter().map(|name| {
        let url = "url=http://127.0.0.1:1/x";
        let words = ["channel", "add", "webhook", name, "--open", "--set", url, "--yes"];
        command_of(gateway.folder(), words.map(str::to_owned).to_vec())
    });
    let pausing = ["pause", "resume", "pause"].map(|verb| {
        command_of(
            gateway.folder(),
            ["channel", verb, "websocket"].map(str::to_owned).to_vec(),
        )
    });
    let all: Vec<_> = adding.chain(pausing).collect();
    for one in all {
        let output = one.await.expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = file(&gateway);
    for name in &names {
        assert!(text.contains(&format!("[channels.{name}]")), "{name} is lost: {text}");
        assert_eq!(status_of(&gateway, name).await["status"], "up");
    }
    let row = status_of(&gateway, "websocket").await;
    assert_eq!(row["status"] == "paused", row["paused"] == true, "{row}");
}

/// Runs a command beside others.
fn command_of(folder: &Path, words: Vec<String>) -> tokio::task::JoinHandle<std::process::Output> {
    let folder = folder.to_owned();
    tokio::spawn(async move {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        command(&folder, &words).await
    })
}

#[tokio::test]
async fn a_changed_component_waits_for_its_review_and_the_reviewed_one_goes_on() {
    let (platform, folder) = (FakePlatform::start().await, TempFolder::new());
    let reviewed = put(folder.path(), 1);
    let setup = mine(Setup::new().echo(), &platform, &format!("sha256 = \"{reviewed}\"\n"));
    let mut gateway = TestGateway::start(setup, folder).await;
    assert!((gateway.metric("sluicegate_channel_waiting_for_review", "mine").await).abs() < 0.5);
    let changed = put(gateway.folder(), 2);
    gateway.wait_for_log(&["waiting for review", "mine"]).await;
    gateway
        .wait_for_metric("sluicegate_channel_waiting_for_review", 1.0)
        .await;
    let row = status_of(&gateway, "mine").await;
    assert_eq!(
        (&row["status"], &row["waiting_for_review"]),
        (&json!("up"), &json!(true)),
        "{row}"
    );
    gateway.tell("mine", "m1", "c1", "old").await;
    platform.wait_for_accepted("c1", 1).await;
    assert!(gateway.terminate().await.success());
    gateway.restart().await;
    gateway.tell("mine", "m2", "c1", "still the old one").await;
    platform.wait_for_accepted("c1", 2).await;

    let silent = fails(gateway.folder(), &["channel", "review", "mine"], 2).await;
    assert!(silent.contains("It asks for the same as before."), "{silent}");
    assert!(silent.contains(&reviewed) && silent.contains(&changed), "{silent}");
    assert!(file(&gateway).contains(&reviewed), "nothing was changed");
    let said = done(&gateway, &["channel", "review", "mine", "--yes"]).await;
    assert!(said.contains("in the place of the old one"), "{said}");
    let text = file(&gateway);
    assert!(
        text.contains(&changed) && !text.contains(&reviewed) && text.contains("# a stranger's"),
        "{text}"
    );
    gateway.tell("mine", "m3", "c1", "new").await;
    platform.wait_for_accepted("c1", 3).await;
    gateway
        .wait_for_metric("sluicegate_channel_waiting_for_review", 0.0)
        .await;
    let kept: Vec<_> = std::fs::read_dir(gateway.data().join("components"))
        .expect("components are kept")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    assert_eq!(
        kept,
        [format!("{changed}.wasm")],
        "what is not reviewed any more is dropped"
    );
}

#[tokio::test]
async fn a_component_without_a_pin_is_the_first_one_found_and_no_other() {
    let (platform, folder) = (FakePlatform::start().await, TempFolder::new());
    let first = put(folder.path(), 1);
    let setup = mine(Setup::new().echo(), &platform, "");
    let mut gateway = TestGateway::start(setup, folder).await;
    gateway
        .wait_for_log(&["not pinned", &first[..12], "channel review mine"])
        .await;
    gateway.tell("mine", "m1", "c1", "the first").await;
    platform.wait_for_accepted("c1", 1).await;
    assert!(gateway.terminate().await.success());

    let changed = put(gateway.folder(), 2);
    gateway.restart().await;
    gateway
        .wait_for_log(&["was changed from", &first[..12], &changed[..12]])
        .await;
    gateway.tell("mine", "m2", "c1", "still the first").await;
    platform.wait_for_accepted("c1", 2).await;
    let said = done(&gateway, &["channel", "review", "mine", "--yes"]).await;
    assert!(said.contains("in the place of the old one"), "{said}");
    assert!(file(&gateway).contains(&changed), "the pin is written");
    gateway.tell("mine", "m3", "c1", "new").await;
    platform.wait_for_accepted("c1", 3).await;
}

#[tokio::test]
async fn what_is_neither_reviewed_nor_kept_does_not_run() {
    let (platform, folder) = (FakePlatform::start().await, TempFolder::new());
    put(folder.path(), 1);
    let other = "00".repeat(32);
    let setup = mine(
        Setup::new().echo().websocket(),
        &platform,
        &format!("sha256 = \"{other}\"\n"),
    );
    let gateway = TestGateway::start(setup, folder).await;
    gateway.wait_for_log(&["was changed from", &other[..12]]).await;
    assert_eq!(status_of(&gateway, "mine").await["status"], "waiting");
    assert_eq!(
        gateway.post("mine", &json!({})).await.status,
        503,
        "the platform comes again"
    );
    let said = fails(gateway.folder(), &["channel", "resume", "mine"], 1).await;
    assert!(said.contains("waits for its review"), "{said}");
    let said = done(&gateway, &["channel", "review", "mine", "--yes"]).await;
    assert!(said.contains("The running gateway has it now."), "{said}");
    gateway.tell("mine", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
}

#[tokio::test]
async fn a_component_whose_file_is_gone_runs_from_the_copy_that_was_kept() {
    for is_pinned in [true, false] {
        let (platform, folder) = (FakePlatform::start().await, TempFolder::new());
        let reviewed = put(folder.path(), 1);
        let pin = if is_pinned {
            format!("sha256 = \"{reviewed}\"\n")
        } else {
            String::new()
        };
        let mut gateway = TestGateway::start(mine(Setup::new().echo(), &platform, &pin), folder).await;
        std::fs::remove_file(gateway.folder().join("mine.wasm")).expect("the file goes");
        // A change of another channel has no use for the copy, and leaves it.
        done(&gateway, &["channel", "add", "websocket", "ws", "--open"]).await;
        let paused = done(&gateway, &["channel", "pause", "mine"]).await;
        assert!(!paused.contains("note:"), "{paused}");
        done(&gateway, &["channel", "resume", "mine"]).await;
        assert!(gateway.terminate().await.success());

        let words = [
            "mine.wasm can't be read",
            &reviewed[..12],
            "was kept and runs in its place",
        ];
        let checked = done(&gateway, &["config", "check"]).await;
        assert!(words.iter().all(|word| checked.contains(word)), "{checked}");
        gateway.restart().await;
        gateway.wait_for_log(&words).await;
        gateway.tell("mine", "m1", "c1", "the kept one").await;
        platform.wait_for_accepted("c1", 1).await;
        let revoked = ["channel", "grant", "mine", "--revoke", &platform.endpoint()];
        done(&gateway, &revoked).await;
        assert!(gateway.terminate().await.success());

        std::fs::remove_dir_all(gateway.data().join("components")).expect("the copy goes");
        let refused = gateway.fails_to_start().await;
        assert!(
            refused.contains("there is no file") && refused.contains("mine.wasm"),
            "{refused}"
        );
    }
}

/// A gateway with the channel `tg`, which polls the fake.
fn telegram(fake: &TelegramFake) -> Setup {
    let base = fake.base_url();
    Setup::new()
        .echo()
        .env("TELEGRAM_TOKEN", &fake.token())
        .section(&format!(
            "[channels.tg]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
         settings = {{ mode = \"poll\", api-base = \"{base}\", poll-seconds = 2 }}\n\
         secrets = {{ bot-token = {{ env = \"TELEGRAM_TOKEN\" }} }}"
        ))
}

#[tokio::test]
async fn the_log_of_requests_has_the_form_of_a_path_and_no_token() {
    let fake = TelegramFake::start().await.expect("a free port");
    let gateway = telegram(&fake).start().await;
    fake.say(5001, 5001, "hello");
    let calls = fake.await_calls("sendMessage", 1, PATIENCE).await;
    assert!(calls.is_ok(), "{calls:?}");
    let log = eventually("the request is in the log", async || {
        let log = json_of(&gateway, &["channel", "log", "tg"]).await.to_string();
        log.contains("sendMessage").then_some(log)
    })
    .await;
    assert!(
        log.contains("/bot{{bot-token}}/sendMessage") && log.contains("/bot{{bot-token}}/getUpdates"),
        "{log}"
    );
    assert!(!log.contains(&fake.token()) && !log.contains("hello"), "{log}");
}

#[tokio::test]
async fn a_replacement_that_does_not_start_leaves_the_old_one_at_work() {
    let fake = TelegramFake::start().await.expect("a free port");
    let setup = telegram(&fake);
    let gateway = setup.start().await;
    let good = file(&gateway);
    let path = gateway.folder().join("sluicegate.toml");
    std::fs::write(&path, good.replace("\"poll\"", "\"webhook\"")).expect("the file is written");
    let said = fails(gateway.folder(), &["channel", "reload", "tg"], 3).await;
    assert!(
        said.contains("did not start") && said.contains("public address"),
        "{said}"
    );
    assert_eq!(status_of(&gateway, "tg").await["status"], "up");
    fake.say(5001, 5001, "are you there?");
    let calls = fake.await_calls("sendMessage", 1, PATIENCE).await;
    assert!(calls.is_ok(), "the old one answers: {calls:?}");
    std::fs::write(&path, good.replace("poll-seconds = 2", "poll-seconds = 1")).expect("the file is written");
    let said = done(&gateway, &["channel", "reload", "tg"]).await;
    assert!(said.contains("in the place of the old one"), "{said}");
    fake.say(5001, 5001, "and now?");
    let calls = fake.await_calls("sendMessage", 2, PATIENCE).await;
    assert!(calls.is_ok(), "the new one answers: {calls:?}");
}

#[tokio::test]
async fn what_is_revoked_is_denied_from_the_next_use_on_over_pooled_connections_too() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "one").await;
    platform.wait_for_accepted("c1", 1).await;
    let grant = platform.endpoint();
    let said = done(&gateway, &["channel", "grant", "hook", "--revoke", &grant]).await;
    assert!(
        said.contains("granted to hook: nothing") && said.contains("from the next use on"),
        "{said}"
    );
    assert!(!file(&gateway).contains("grant = "), "{}", file(&gateway));
    gateway.tell("hook", "m2", "c1", "two").await;
    let denied = eventually("the delivery is denied", async || {
        let waiting = json_of(&gateway, &["outbox", "list"]).await;
        let dead = json_of(&gateway, &["dead", "list"]).await;
        [waiting, dead]
            .iter()
            .filter_map(|rows| rows[0]["reason"].as_str().map(str::to_owned))
            .next()
    })
    .await;
    assert!(denied.contains("is not granted"), "{denied}");
    assert_eq!(platform.accepted("c1").len(), 1, "nothing went out");
    let log = json_of(&gateway, &["channel", "log", "hook"]).await;
    assert_eq!(
        (&log[0]["outcome"], &log[0]["place"]),
        (&json!("denied"), &json!(grant)),
        "{log}"
    );
    let first = log.as_array().and_then(|log| log.last()).expect("two entries");
    assert_eq!(
        (&first["outcome"], &first["status"]),
        (&json!("answered"), &json!(200)),
        "{log}"
    );
    assert!(first["bytes_out"].as_u64() > Some(0), "{log}");
    let table = done(&gateway, &["channel", "log", "hook"]).await;
    assert!(table.starts_with("TIME") && table.contains("denied"), "{table}");
    let shown = json_of(&gateway, &["channel", "show", "hook"]).await;
    let usage = &shown["live"]["usage"];
    assert!(usage["denials"]["not-granted"].as_u64() >= Some(1), "{shown}");
    assert!(
        usage["bytes_out"].as_u64() > Some(0) && usage["calls"].as_u64() > Some(1),
        "{shown}"
    );
    let text = done(&gateway, &["channel", "show", "hook"]).await;
    assert!(text.contains("not-granted") && text.contains("bytes out"), "{text}");
    let counted = gateway
        .metric("sluicegate_channel_denials_total", "reason=\"not-granted\"")
        .await;
    assert!(counted >= 1.0, "{counted}");
    platform.next("c2", [Act::Accept]);
    let said = done(&gateway, &["channel", "grant", "hook", &grant]).await;
    assert!(said.contains(&format!("granted to hook: {grant}")), "{said}");
    gateway.tell("hook", "m3", "c2", "three").await;
    platform.wait_for_accepted("c2", 1).await;
    let unknown = fails(
        gateway.folder(),
        &["channel", "grant", "hook", "--revoke", "terminal"],
        2,
    )
    .await;
    assert!(unknown.contains("is not granted to hook"), "{unknown}");
}
