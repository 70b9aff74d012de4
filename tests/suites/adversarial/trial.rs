//! A component that is tried out before anything is granted: it reaches nothing, and can't hold the operator up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Program, Signal, TempFolder, eventually, sluicegate_binary};
use sluicegate::config::SettingValue;
use sluicegate::gateway::{Findings, try_out};
use tokio::process::Command;

use crate::support::{HOSTILE, compilation};

/// How long each trial may run: what it does first takes no longer.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Tries the hostile component out with these attacks in its settings.
async fn tried(attacks: &[(&str, String)]) -> Findings {
    let attacks = attacks.iter();
    let settings: BTreeMap<_, _> = attacks
        .map(|(key, attack)| ((*key).to_owned(), SettingValue::Text(attack.clone())))
        .collect();
    try_out(HOSTILE, settings, TIME_MAX, compilation())
        .await
        .expect("it can be tried")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_lets_nothing_out_and_shows_what_was_tried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let findings = tried(&[
        (
            "start",
            format!("http http://{address}/a/1234567 x-token {{{{token}}}}"),
        ),
        ("listener", format!("http post:http://{address}/b")),
    ])
    .await;
    let attempts: Vec<_> = findings
        .attempts
        .iter()
        .map(|it| format!("{} {}{} {:?} {}", it.method, it.place, it.path, it.secrets, it.outcome))
        .collect();
    assert_eq!(
        attempts[..2],
        [
            format!("GET http://{address}/a/* [\"token\"] denied"),
            format!("POST http://{address}/b [] denied"),
        ]
    );
    // A connection of our own is accepted after any that the guest made.
    drop(
        tokio::net::TcpStream::connect(address)
            .await
            .expect("the server is there"),
    );
    while connections.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1, "nothing of the guest arrived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_ends_in_its_time_whatever_the_component_does() {
    for attack in ["spin", "panic now", "log_flood"] {
        let began = Instant::now();
        let findings = tried(&[("listener", attack.to_owned())]).await;
        assert!(!findings.steps.is_empty(), "{attack}");
        // Compiling and the machine's other work come on top.
        let took = began.elapsed();
        assert!(took < TIME_MAX + Duration::from_secs(60), "{attack}: {took:?}");
    }
}

#[tokio::test]
async fn a_trial_that_a_signal_cuts_short_leaves_nothing() {
    let (folder, temporary) = (TempFolder::new(), TempFolder::new());
    std::fs::write(folder.path().join("strange.wasm"), HOSTILE).expect("the component is written");
    let is_empty = || std::fs::read_dir(temporary.path()).expect("a folder").next().is_none();
    let mut command = Command::new(sluicegate_binary());
    command
        .args(["channel", "add", "./strange.wasm", "strange", "--open", "--learn"])
        .args(["--set", "listener=spin"])
        .current_dir(folder.path())
        .env("TMPDIR", temporary.path());
    let mut program = Program::spawn(command);
    eventually("the trial has its folder", async || (!is_empty()).then_some(())).await;
    program.signal(Signal::Interrupt);
    let (code, output, errors) = program.outcome().await;
    assert_eq!((code, output.as_str()), (Some(130), ""), "{errors}");
    assert!(errors.contains("cut short"), "{errors}");
    assert!(is_empty(), "something is left of it");
}
