//! What is still there after a restart.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use harness::{Act, FakePlatform, MockModel, Program, Setup, Signal, TempFolder, sluicegate_binary};
use serde_json::{Value, json};
use tokio::process::Command;

/// Returns who said what in a request to the model, the system prompt left out.
fn said(request: &Value) -> Vec<(String, String)> {
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let field = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let told = messages
        .iter()
        .map(|message| (field(message, "role"), field(message, "content")));
    told.filter(|(role, _)| role != "system").collect()
}

#[tokio::test]
async fn a_conversation_goes_on_after_an_orderly_restart() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "my name is Ada").await;
    platform.wait_for_accepted("c1", 1).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));

    gateway.restart().await;
    gateway.tell("hook", "m2", "c1", "who am I?").await;
    platform.wait_for_accepted("c1", 2).await;
    let expected = [
        ("user", "my name is Ada"),
        ("assistant", "re: my name is Ada"),
        ("user", "who am I?"),
    ];
    let expected = expected.map(|(role, text)| (role.to_owned(), text.to_owned()));
    assert_eq!(said(&model.asked().all()[1]), expected);
}

#[tokio::test]
async fn the_grace_is_one_for_all_that_is_under_way() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let setup = Setup::new()
        .section("[agents.mirror]\nkind = \"echo\"")
        .model(&model)
        .webhook_with("fast", &platform, "agent = \"mirror\"")
        .webhook_with("slow", &platform, "agent = \"main\"");
    let mut gateway = setup.grace_s(4).start().await;
    model.hold();
    platform.always("c1", Act::Hang);
    gateway.tell("slow", "m1", "c2", "a turn that does not end").await;
    gateway.tell("fast", "m2", "c1", "a delivery that does not end").await;
    platform.wait_for_arrived("c1", 1).await;
    model.asked().wait_for_len("the question", 1).await;
    let began = Instant::now();
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let took = began.elapsed();
    // Four seconds, and the last two for the delivery. One grace after the other would be twelve.
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(9)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_channel_hears_that_its_clients_are_gone_before_the_store_closes() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = gateway.client().await;
        client.attach(&format!("c{number}"), false).await;
        clients.push(client);
    }
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let log = gateway.program().errors().all().join("\n");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    for client in &mut clients {
        assert_eq!(client.close_code().await, Some(1001), "going away");
    }
}

#[tokio::test]
async fn a_message_that_was_accepted_before_a_restart_is_a_duplicate_after_it() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    gateway.terminate().await;

    gateway.restart().await;
    let again = gateway
        .post(
            "hook",
            &json!({"id": "m1", "conversation": "c1", "sender": "ada", "text": "hi"}),
        )
        .await;
    assert_eq!(
        (again.status, again.text().as_str()),
        (200, r#"{"status":"duplicate"}"#)
    );
    // The lane keeps its order: were the first one answered again, that would come before this.
    gateway.tell("hook", "m2", "c1", "still there?").await;
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!(
        taken.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(),
        ["hi", "still there?"]
    );
}

#[tokio::test]
async fn a_reply_that_found_its_platform_down_goes_out_after_the_restart() {
    let platform = FakePlatform::start_down();
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));

    platform.come_up();
    gateway.restart().await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text, "hi");
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(platform.arrived().len(), 1, "the platform got it once");
}

#[tokio::test]
async fn a_crash_leaves_no_core_file() {
    let folder = TempFolder::new();
    folder.write("sluicegate.toml", &Setup::new().echo().websocket().toml());
    let mut command = Command::new("sh");
    // As where cores are wanted: of a program that allows it there would be one now.
    command.args(["-c", "ulimit -c unlimited && exec \"$0\" run"]);
    command.arg(sluicegate_binary()).current_dir(folder.path());
    let mut gateway = Program::spawn(command);
    let is_up = |lines: &[String]| lines.iter().any(|line| line.contains("status=\"up\"")).then_some(());
    gateway.errors().wait_for("the channel is up", is_up).await;
    gateway.signal(Signal::Abort);
    let status = gateway.ended().await;
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "its memory was written to a file");
}
