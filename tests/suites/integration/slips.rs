//! Slips of an operator's hand: what is meant is done, or said.

use harness::{FakePlatform, PATIENCE, Setup, WsClient};
use serde_json::json;

use crate::operator::{done, fails, json_of};

#[tokio::test]
async fn an_id_that_no_path_can_hold_is_one_that_is_not_there() {
    let gateway = Setup::new().echo().websocket().start().await;
    for id in [".", ".."] {
        for words in [
            &["trace"][..],
            &["dead", "show"],
            &["dead", "drop"],
            &["dead", "redrive"],
            &["outbox", "show"],
            &["outbox", "hold"],
            &["outbox", "drop"],
            &["inbox", "drop"],
        ] {
            let words = [words, &[id]].concat();
            let said = fails(gateway.folder(), &words, 1).await;
            let expected = format!("error: nothing has the id {id:?}\n  fix: ");
            assert!(said.starts_with(&expected), "{words:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_channel_that_was_taken_out_of_the_file_by_hand_goes_at_its_reload() {
    let platform = FakePlatform::start().await;
    let setup = Setup::new().echo();
    let gateway = setup.clone().websocket().webhook("hook", &platform).start().await;
    let file = gateway.folder().join("sluicegate.toml");
    std::fs::write(&file, setup.clone().webhook("hook", &platform).toml()).expect("the file is written");
    let said = done(&gateway, &["channel", "reload", "websocket"]).await;
    assert!(said.contains("has stopped it"), "{said}");
    assert!(
        WsClient::try_connect(gateway.address(), "/ws").await.is_none(),
        "it is still there"
    );
    // Also the last one: what is there by default comes with the next start.
    std::fs::write(&file, setup.toml()).expect("the file is written");
    done(&gateway, &["channel", "reload", "hook"]).await;
    let listed = gateway.admin("GET", "channels", b"").await;
    assert_eq!(listed["items"], json!([]));
    let unknown = fails(gateway.folder(), &["channel", "reload", "hook"], 2).await;
    assert!(unknown.contains("there is no channel \"hook\""), "{unknown}");
    assert_eq!(json_of(&gateway, &["outbox", "list"]).await, json!([]));
}

#[tokio::test]
async fn a_channel_that_was_taken_out_of_the_file_by_hand_can_still_be_removed() {
    let setup = Setup::new().echo();
    let gateway = setup.clone().websocket().start().await;
    let file = gateway.folder().join("sluicegate.toml");
    std::fs::write(&file, setup.toml()).expect("the file is written");
    let said = done(&gateway, &["channel", "remove", "websocket"]).await;
    assert!(
        said.contains("channel websocket was not in ") && said.contains("has stopped it"),
        "{said}"
    );
    assert!(
        WsClient::try_connect(gateway.address(), "/ws").await.is_none(),
        "it is still there"
    );
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), setup.toml());
    let unknown = fails(gateway.folder(), &["channel", "remove", "websocket"], 2).await;
    assert!(unknown.contains("there is no channel \"websocket\""), "{unknown}");
}

#[tokio::test]
async fn a_lock_on_the_folder_of_the_configuration_holds_up_nobody() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    let folder = std::fs::File::open(gateway.folder()).expect("the folder is there");
    folder.lock().expect("nobody else has it");
    let add = ["channel", "add", "websocket", "other", "--open", "--yes"];
    let refused = tokio::time::timeout(PATIENCE, fails(gateway.folder(), &add, 1));
    let refused = refused.await.expect("it does not wait for the lock");
    assert!(
        refused.contains("its folder is locked") && refused.contains("flock"),
        "{refused}"
    );
    let paused = tokio::time::timeout(PATIENCE, done(&gateway, &["channel", "pause", "websocket"]));
    let paused = paused.await.expect("it does not wait for the lock");
    assert!(paused.contains("note: "), "{paused}");
    assert_eq!(gateway.get("/live").await.status, 200);
    drop(folder);
    done(&gateway, &add).await;
    assert!(gateway.terminate().await.success());
}
