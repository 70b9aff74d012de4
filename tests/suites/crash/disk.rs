//! A disk that fails under the real binary: no room, errors at writes and at syncs, nothing that may be changed.
#![cfg(target_os = "linux")]

use harness::{
    Act, FakePlatform, Fault, MockModel, PATIENCE, Setup, TempFolder, TestDisk, TestGateway, Unsynced, http,
};
use serde_json::{Value, json};
use telegram_fake::TelegramFake;

/// A private chat, and the person in it.
const ADA: i64 = 5001;

struct Scene {
    disk: TestDisk,
    platform: FakePlatform,
    model: MockModel,
    gateway: TestGateway,
}

/// Starts a gateway on a disk and lets it answer one message. None where this machine has no such disk.
async fn answered_once() -> Option<Scene> {
    answered_once_with(|setup| setup).await
}

/// As [`answered_once`], with more in its configuration.
#[expect(clippy::print_stdout, reason = "says why nothing is proved on this machine")]
async fn answered_once_with(more: impl FnOnce(Setup) -> Setup) -> Option<Scene> {
    let disk = match TestDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: {why}");
            return None;
        }
    };
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let setup = more(Setup::new().model(&model).webhook("hook", &platform));
    let gateway = setup.data(&disk.data()).start().await;
    gateway.tell("hook", "m1", "c1", "one").await;
    platform.wait_for_accepted("c1", 1).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    Some(Scene {
        disk,
        platform,
        model,
        gateway,
    })
}

fn message(id: &str, text: &str) -> Value {
    json!({"id": id, "conversation": "c1", "sender": "ada", "text": text})
}

impl Scene {
    /// Posts a message; returns the status, or none where the connection ended without an answer.
    async fn post(&self, id: &str, text: &str) -> Option<http::Response> {
        let body = message(id, text).to_string();
        let posted = http::request(self.gateway.address(), "POST", "/hooks/hook", &[], body.as_bytes());
        posted.await.ok()
    }

    /// Repairs the disk, starts the gateway again, repeats the message, and expects each of them answered once.
    async fn goes_on_after_the_repair(mut self, id: &str, text: &str) {
        self.disk.fail(Fault::None);
        self.gateway.restart().await;
        let again = self.post(id, text).await.expect("an answer");
        assert_eq!(again.status, 200, "{}", again.text());
        let taken = self.platform.wait_for_accepted("c1", 2).await;
        let texts: Vec<&str> = taken.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["re: one", &format!("re: {text}")]);
        self.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        assert_eq!(self.platform.arrived().len(), 2);
    }

    /// Lets the disk fail, posts a message, and expects the process to stop without having confirmed it.
    async fn stops_at(&mut self, fault: Fault) {
        self.disk.fail(fault);
        let answer = self.post("m2", "two").await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 500), "{answer:?}");
        assert_eq!(self.gateway.program().ended().await.code(), Some(1));
        self.gateway.wait_for_log(&["the store stopped"]).await;
    }
}

#[tokio::test]
async fn a_full_disk_takes_nothing_in_and_goes_on_when_there_is_room() {
    let Some(mut scene) = answered_once().await else { return };
    scene.disk.fail(Fault::Full);
    let refused = scene.post("m2", "two").await.expect("an answer");
    assert!(matches!(refused.status, 429 | 503), "come back later, not {refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(scene.gateway.get("/live").await.status, 200);
    // Once a write has found no room nothing is tried any more, and everyone is told.
    scene.gateway.wait_for_log(&["the disk is full"]).await;
    let refused = scene.post("m2", "two").await.expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    let ready = scene.gateway.get("/ready").await;
    let words = "nothing is taken in: the disk is full\n";
    assert_eq!((ready.status, ready.text().as_str()), (503, words));

    scene.disk.fail(Fault::None);
    scene.gateway.wait_for_metric("sluicegate_intake_open", 1.0).await;
    assert_eq!(scene.post("m2", "two").await.map(|answer| answer.status), Some(200));
    let taken = scene.platform.wait_for_accepted("c1", 2).await;
    assert_eq!(taken[1].text, "re: two");
    assert_eq!(scene.gateway.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_disk_with_little_room_takes_nothing_in_and_is_used_for_what_was_taken() {
    let Some(scene) = answered_once().await else { return };
    scene.platform.next("c1", [Act::RefuseFor(3)]);
    scene.gateway.tell("hook", "m2", "c1", "two").await;
    scene.gateway.wait_for_log(&["the platform asked to wait"]).await;
    scene.disk.fail(Fault::Scarce);
    scene.gateway.wait_for_metric("sluicegate_intake_open", 0.0).await;
    let refused = scene.post("m3", "three").await.expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    let ready = scene.gateway.get("/ready").await;
    let words = "nothing is taken in: the disk has 1 MiB left\n";
    assert_eq!((ready.status, ready.text().as_str()), (503, words));
    scene.platform.wait_for_accepted("c1", 2).await;
    let (intake, asked) = (
        scene.gateway.metric("sluicegate_intake_open", "").await,
        scene.model.times_asked("three"),
    );
    assert!(intake < 0.5 && asked == 0, "it was still so when the delivery went out");

    scene.disk.fail(Fault::None);
    scene.gateway.wait_for_metric("sluicegate_intake_open", 1.0).await;
    assert_eq!(scene.post("m3", "three").await.map(|answer| answer.status), Some(200));
    let taken = scene.platform.wait_for_accepted("c1", 3).await;
    let texts: Vec<&str> = taken.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["re: one", "re: two", "re: three"]);
    scene.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(scene.platform.arrived().len(), 4, "the refused one again, and no other");
}

#[tokio::test]
async fn a_file_without_room_waits_at_the_platform_and_nothing_is_taken_in_whatever_transactions_find() {
    let fake = TelegramFake::start().await.expect("a free port");
    let base = fake.base_url();
    let telegram = format!(
        "[channels.tg]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
         settings = {{ mode = \"poll\", api-base = \"{base}\", poll-seconds = 2 }}\n\
         secrets = {{ bot-token = {{ env = \"TELEGRAM_TOKEN\" }} }}"
    );
    let with_telegram = |setup: Setup| setup.env("TELEGRAM_TOKEN", &fake.token()).section(&telegram);
    let Some(scene) = answered_once_with(with_telegram).await else {
        return;
    };
    scene.platform.next("c1", [Act::RefuseFor(3)]);
    scene.gateway.tell("hook", "m2", "c1", "two").await;
    scene.gateway.wait_for_log(&["the platform asked to wait"]).await;
    scene.disk.fail(Fault::NoFiles);
    let file = fake.add_file("notes.txt", b"buy milk".to_vec());
    let document = json!({
        "file_id": file, "file_unique_id": "u1", "file_name": "notes.txt", "mime_type": "text/plain", "file_size": 8
    });
    fake.push_message(ADA, ADA, json!({"document": document, "caption": "look at this"}));
    scene
        .gateway
        .wait_for_log(&["the disk has no room for another file"])
        .await;
    // What is on its way is delivered meanwhile, so transactions find room; and the file is asked for again.
    scene.platform.wait_for_accepted("c1", 2).await;
    scene.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    let asked = fake.await_calls("getFile", 3, PATIENCE).await;
    assert!(asked.is_ok(), "the file is not asked for again: {asked:?}");
    let refused = scene.post("m3", "three").await.expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    let ready = scene.gateway.get("/ready").await;
    let words = "nothing is taken in: the disk has no room for another file\n";
    assert_eq!((ready.status, ready.text().as_str()), (503, words));
    assert_eq!(
        scene.model.asked().len(),
        2,
        "the agent is told of no file before it is there"
    );

    scene.disk.fail(Fault::None);
    scene.gateway.wait_for_metric("sluicegate_intake_open", 1.0).await;
    let asked = scene
        .model
        .asked()
        .wait_for_len("the agent is told of the file", 3)
        .await;
    let said = asked[2]["messages"]
        .as_array()
        .and_then(|said| said.last())
        .map(|said| said["content"].to_string())
        .unwrap_or_default();
    for part in ["look at this", "notes.txt", "text/plain"] {
        assert!(said.contains(part), "expected {part:?} in {said}");
    }
    assert!(!said.contains("could not be fetched"), "{said}");
    assert!(fake.await_confirmed(PATIENCE).await.is_ok());
    assert_eq!(scene.post("m3", "three").await.map(|answer| answer.status), Some(200));
}

#[tokio::test]
async fn an_answer_that_finds_the_disk_full_waits_for_room_and_is_not_asked_for_again() {
    let Some(scene) = answered_once().await else { return };
    scene.model.hold();
    scene.gateway.tell("hook", "m2", "c1", "two").await;
    scene.model.asked().wait_for_len("the model is asked", 2).await;
    scene.disk.fail(Fault::Full);
    scene.model.release();
    scene.gateway.wait_for_log(&["the disk is full"]).await;
    assert_eq!(scene.platform.arrived().len(), 1, "nothing leaves that is not stored");
    scene.disk.fail(Fault::None);
    let taken = scene.platform.wait_for_accepted("c1", 2).await;
    assert_eq!(taken[1].text, "re: two");
    scene.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!((scene.model.times_asked("two"), scene.platform.arrived().len()), (1, 2));
}

#[tokio::test]
async fn an_error_at_a_write_stops_the_process_and_nothing_that_was_confirmed_is_lost() {
    let Some(mut scene) = answered_once().await else { return };
    scene.stops_at(Fault::WritesFail).await;
    scene.goes_on_after_the_repair("m2", "two").await;
}

#[tokio::test]
async fn an_error_at_a_sync_stops_the_process_and_nothing_that_was_confirmed_is_lost() {
    let Some(mut scene) = answered_once().await else { return };
    scene.stops_at(Fault::SyncsFail).await;
    // A kernel that could not write pages back may drop them: what was synced is all there is.
    let left = TempFolder::new();
    let history = scene.disk.history();
    history.after_a_cut(history.len(), Unsynced::Lost, left.path());
    let Scene { platform, model, .. } = scene;
    let setup = Setup::new().model(&model).webhook("hook", &platform);
    let gateway = setup.data(&left.path().join("data")).start().await;
    let again = gateway.post("hook", &message("m1", "one")).await;
    assert_eq!(
        again.text(),
        r#"{"status":"duplicate"}"#,
        "it was confirmed, and must be known"
    );
    assert_eq!(gateway.post("hook", &message("m2", "two")).await.status, 200);
    // The ack of the first was never synced, so a copy of it may go before.
    let is_there = |all: &[harness::Delivery]| all.iter().any(|one| one.text == "re: two").then_some(());
    platform.arrived().wait_for("the answer to the second", is_there).await;
}

#[tokio::test]
async fn a_disk_that_may_only_be_read_stops_the_process_and_says_so_at_the_next_start() {
    let Some(mut scene) = answered_once().await else { return };
    scene.stops_at(Fault::ReadOnly).await;
    let data = scene.disk.data().display().to_string();
    let refused = scene.gateway.fails_to_start().await;
    assert!(refused.contains(&data) && refused.contains("ead-only"), "{refused}");
    scene.goes_on_after_the_repair("m2", "two").await;
}

#[tokio::test]
async fn a_full_disk_at_the_start_is_said_in_plain_words() {
    let Some(mut scene) = answered_once().await else { return };
    assert_eq!(scene.gateway.terminate().await.code(), Some(0));
    scene.disk.fail(Fault::Full);
    let refused = scene.gateway.fails_to_start().await;
    assert!(
        refused.contains("full") || refused.contains("No space left"),
        "{refused}"
    );
    scene.goes_on_after_the_repair("m2", "two").await;
}
