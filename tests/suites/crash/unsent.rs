//! From the claim to the first byte: what dies there has sent nothing, and the next process does as if it had never been.

use std::path::Path;

use harness::{Act, FakePlatform, Setup, TestGateway};

use crate::front::{Authority, Front};

/// A gateway whose channel `hook` reaches the platform through the front, and sends nothing again of which it can't know
/// what became.
async fn gateway(front: &Front, roots: &Path, lines: &str) -> TestGateway {
    let address = front.address;
    let setup = Setup::new().echo().section(&format!(
        "[channels.hook]\ncomponent = \"webhook\"\naccess = \"open\"\nsettings = {{ url = \"https://{address}/\" }}\n\
         grant = [\"https://{address}\"]\nambiguous_resends = 0\n{lines}"
    ));
    let roots = roots.display().to_string();
    setup.env("SSL_CERT_FILE", &roots).start().await
}

#[tokio::test]
async fn an_attempt_that_dies_before_its_first_byte_leaves_nothing_unknown_however_often() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = folder.path().join("roots.pem");
    for guarantee in ["", "guarantee = \"at-most-once\""] {
        let platform = FakePlatform::start().await;
        let front = Front::start(&platform, &Authority::written_to(&roots)).await;
        let mut gateway = gateway(&front, &roots, guarantee).await;
        gateway.tell("hook", "m1", "c1", "hi").await;
        for deaths in 1..=3 {
            front.connected.wait_for_len("the attempt connects", deaths).await;
            gateway.crash().await;
        }
        front.connected.wait_for_len("the attempt connects", 4).await;
        gateway.kill().await;
        front.open();
        gateway.restart().await;
        platform.wait_for_accepted("c1", 1).await;
        // What is behind it in its lane comes once it is settled.
        gateway.tell("hook", "m2", "c1", "next").await;
        let taken = platform.wait_for_accepted("c1", 2).await;
        let texts: Vec<&str> = taken.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(
            (texts, platform.arrived().len()),
            (vec!["hi", "next"], 2),
            "{guarantee}"
        );
        assert!(gateway.metric("sluicegate_dead_letters", "").await < 0.5, "{guarantee}");
    }
}

#[tokio::test]
async fn an_attempt_that_dies_after_its_first_byte_is_unknown_on_a_new_connection_and_on_a_kept_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = folder.path().join("roots.pem");
    let platform = FakePlatform::start().await;
    let front = Front::start(&platform, &Authority::written_to(&roots)).await;
    front.open();
    let mut gateway = gateway(&front, &roots, "").await;
    for (round, warm_up) in [false, true].into_iter().enumerate() {
        if warm_up {
            gateway.tell("hook", "w", "warm", "up").await;
            platform.wait_for_accepted("warm", 1).await;
            gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        }
        let before = front.connected.len();
        let conversation = format!("c{round}");
        platform.always(&conversation, Act::AcceptThenHang);
        gateway.tell("hook", &conversation, &conversation, "hi").await;
        platform.wait_for_accepted(&conversation, 1).await;
        assert_eq!(front.connected.len() - before, usize::from(!warm_up));
        gateway.crash().await;
        gateway
            .wait_for_metric(
                "sluicegate_dead_letters",
                f64::from(u8::try_from(round + 1).expect("small")),
            )
            .await;
        assert_eq!(platform.accepted(&conversation).len(), 1, "it is not sent again");
    }
}
