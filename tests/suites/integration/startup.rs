//! Starts that can't work: one clear message with its remedy, and nothing half-started.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;

use harness::{FakePlatform, Program, Setup, Signal, TempFolder, WsClient, eventually, http, sluicegate_binary};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::operator::{command, done, fails};

/// The exit codes, as `sluicegate --help` lists them.
const CONFIGURATION: i32 = 3;
const BUSY: i32 = 4;

/// Starts `sluicegate run` with a configuration file, and returns its exit code and what it said.
async fn refused(folder: &TempFolder, file: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(sluicegate_binary());
    command
        .arg("run")
        .arg("--config")
        .arg(file)
        .args(arguments)
        .current_dir(folder.path());
    let mut program = Program::spawn(command);
    let (code, output, errors) = program.outcome().await;
    assert_eq!(output, "", "a failure belongs on standard error");
    assert!(!errors.contains("panicked"), "{errors}");
    (code.unwrap_or_else(|| panic!("it was killed: {errors}")), errors)
}

/// Returns an address where nobody listens.
async fn free_address() -> SocketAddr {
    let free = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    free.local_addr().expect("an address")
}

#[track_caller]
fn says(errors: &str, words: &[&str]) {
    for word in words {
        assert!(errors.contains(word), "expected {word:?} in:\n{errors}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_remedy_and_no_data_directory_is_left() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = TempFolder::new();
    let file = folder.write("sluicegate.toml", &Setup::new().echo().websocket().toml());
    let (code, errors) = refused(&folder, &file, &["--listen", &address]).await;
    assert_eq!(code, BUSY, "{errors}");
    says(&errors, &[&address, "in use", "fix:", "--listen"]);
    assert!(
        !folder.path().join("data").exists(),
        "a data directory was left:\n{errors}"
    );
}

#[tokio::test]
async fn a_second_start_names_the_gateway_that_runs() {
    let gateway = Setup::new().echo().websocket().start().await;
    let folder = TempFolder::new();
    let file = folder.write("sluicegate.toml", &Setup::new().echo().websocket().toml());
    let (data, address) = (gateway.data().display().to_string(), gateway.address().to_string());
    let (code, errors) = refused(&folder, &file, &["--data", &data, "--listen", &address]).await;
    assert_eq!(code, BUSY, "{errors}");
    says(&errors, &["already runs", &data, &address, "fix:", "sluicegate chat"]);
}

#[tokio::test]
async fn a_data_directory_in_use_is_named_and_its_gateway_goes_on() {
    let gateway = Setup::new().echo().websocket().start().await;
    let folder = TempFolder::new();
    let file = folder.write("sluicegate.toml", &Setup::new().echo().websocket().toml());
    let data = gateway.data().display().to_string();
    let (code, errors) = refused(&folder, &file, &["--data", &data]).await;
    assert_eq!(code, BUSY, "{errors}");
    says(&errors, &[&data, "in use"]);
    assert_eq!(gateway.get("/ready").await.status, 200);
    let mut client = gateway.client().await;
    client.say("m1", "c1", "hi").await;
    client.until("reply").await;
}

#[tokio::test]
async fn a_data_directory_that_is_a_file_is_refused_and_stays_as_it_is() {
    let folder = TempFolder::new();
    let file = folder.write("sluicegate.toml", &Setup::new().echo().websocket().toml());
    let data = folder.write("mine", "not a folder");
    let (code, errors) = refused(&folder, &file, &["--listen", "127.0.0.1:0", "--data", "mine"]).await;
    assert_eq!(code, 1, "{errors}");
    says(
        &errors,
        &["can't use", "mine", "it is a file: name a directory with --data"],
    );
    assert_eq!(std::fs::read_to_string(data).expect("it is there"), "not a folder");
}

#[tokio::test]
async fn all_faults_of_a_configuration_are_named_at_once_with_file_key_and_remedy() {
    let folder = TempFolder::new();
    let file = folder.write(
        "sluicegate.toml",
        "[gateway]\nlisten = 7\ncolour = \"red\"\n\n[agents.main]\nkind = \"openai\"\nmodel = \"m\"\n\
         api_key = { env = \"SURELY_NOT_SET_ANYWHERE\" }\n\n\
         [channels.a]\ncomponent = \"telegraph\"\n\n[channels.b]\ncomponent = \"webhook\"\nagent = \"nobody\"\n\
         grant = [\"example.com\"]\n",
    );
    let (code, errors) = refused(&folder, &file, &[]).await;
    assert_eq!(code, CONFIGURATION, "{errors}");
    let keys = [
        "listen",
        "colour",
        "base_url",
        "SURELY_NOT_SET_ANYWHERE",
        "telegraph",
        "nobody",
        "example.com",
    ];
    says(&errors, &keys);
    says(&errors, &["sluicegate.toml"]);
    assert!(
        !folder.path().join("data").exists(),
        "a data directory was left:\n{errors}"
    );
}

#[tokio::test]
async fn a_configuration_that_is_no_toml_is_named_with_its_line() {
    let folder = TempFolder::new();
    let file = folder.write(
        "sluicegate.toml",
        "[gateway]\nlisten = \"127.0.0.1:0\"\nthis is no toml\n",
    );
    let (code, errors) = refused(&folder, &file, &[]).await;
    assert_eq!(code, CONFIGURATION, "{errors}");
    says(&errors, &["sluicegate.toml", "3"]);
}

#[tokio::test]
async fn a_configuration_that_is_missing_or_no_file_is_named() {
    let folder = TempFolder::new();
    for path in [folder.path().join("missing.toml"), folder.path().to_owned()] {
        let (code, errors) = refused(&folder, &path, &[]).await;
        assert_eq!(code, CONFIGURATION, "{errors}");
        says(&errors, &[&path.display().to_string()]);
        assert!(
            !folder.path().join("data").exists(),
            "a data directory was left:\n{errors}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_no_component_is_refused_in_words() {
    let folder = TempFolder::new();
    let wasm = folder.write("channel.wasm", "no component at all");
    let setup = Setup::new().echo().section(&format!(
        "[channels.odd]\ncomponent = \"{}\"\nsha256 = \"{}\"\naccess = \"open\"",
        wasm.display(),
        sluicegate::component::digest(b"no component at all")
    ));
    let file = folder.write("sluicegate.toml", &setup.toml());
    let (code, errors) = refused(&folder, &file, &[]).await;
    assert_eq!(code, CONFIGURATION, "{errors}");
    says(&errors, &["odd", "component"]);
}

#[tokio::test]
async fn certificates_that_can_not_be_read_are_named_before_anything_starts() {
    let folder = TempFolder::new();
    let setup = Setup::new().echo().websocket().toml();
    let config = setup.replace("[gateway]\n", "[gateway]\ntls_roots = \"ca.pem\"\n");
    let file = folder.write("sluicegate.toml", &config);
    for written in [None, Some("no certificate at all")] {
        if let Some(text) = written {
            folder.write("ca.pem", text);
        }
        let (code, errors) = refused(&folder, &file, &[]).await;
        assert_eq!(code, CONFIGURATION, "{errors}");
        says(&errors, &["ca.pem", "PEM file", "tls_roots"]);
    }
}

#[tokio::test]
async fn a_start_that_failed_gives_the_port_back() {
    let folder = TempFolder::new();
    let address = free_address().await;
    let file = folder.write(
        "sluicegate.toml",
        "[channels.a]\ncomponent = \"telegraph\"\naccess = \"open\"\n",
    );
    let (code, errors) = refused(&folder, &file, &["--listen", &address.to_string()]).await;
    assert_eq!(code, CONFIGURATION, "{errors}");
    let answer = http::request(address, "GET", "/live", &[], b"").await;
    assert!(answer.is_err(), "something still listens: {answer:?}");
}

#[tokio::test]
async fn a_log_that_takes_nothing_keeps_no_gateway_from_running() {
    let folder = TempFolder::new();
    let file = folder.write("sluicegate.toml", &Setup::new().echo().websocket().toml());
    let mut command = Command::new("sh");
    // As with a log file on a full disk.
    command.args(["-c", "exec \"$0\" run --config \"$1\" 2>/dev/full"]);
    command.arg(sluicegate_binary()).arg(file).current_dir(folder.path());
    let mut program = Program::spawn(command);
    let beacon = folder.path().join("data/gateway.json");
    let address = eventually("the gateway says where it is", async || {
        assert_eq!(program.exit_status(), None, "it ended");
        let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&beacon).ok()?).ok()?;
        let address: SocketAddr = said["address"].as_str()?.parse().ok()?;
        let ready = http::request(address, "GET", "/ready", &[], b"").await.ok()?;
        (ready.status == 200).then_some(address)
    });
    let mut client = WsClient::connect(address.await, "/ws", &[]).await.expect("it serves");
    client.say("m1", "c1", "hi").await;
    client.until("reply").await;
    program.signal(Signal::Terminate);
    assert!(program.ended().await.success(), "it stops in order");
}

#[tokio::test]
async fn a_secret_that_is_too_short_to_be_redacted_is_warned_of() {
    let platform = FakePlatform::start().await;
    for (key, is_short) in [("k#y5z", true), ("k#y5z6", false)] {
        let lines = "secrets = { signing-key = { env = \"SHORT_KEY\" } }";
        let setup = Setup::new().echo().webhook_with("hook", &platform, lines);
        let mut gateway = setup.env("SHORT_KEY", key).start().await;
        gateway.terminate().await;
        let errors = gateway.program().errors().all();
        let warned = errors
            .iter()
            .any(|line| line.contains("`signing-key` is shorter than 6 bytes"));
        assert_eq!(warned, is_short, "{key}: {errors:?}");
        assert!(!errors.iter().any(|line| line.contains(key)), "{errors:?}");
    }
}

#[tokio::test]
async fn what_a_killed_gateway_left_behind_leads_the_token_to_nobody() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    gateway.kill().await;
    let beacon = gateway.data().join("gateway.json");
    let text = std::fs::read(&beacon).expect("a killed gateway could not remove it");
    let mut left: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    // A process of somebody else has its id by now, and its port.
    left["pid"] = std::process::id().into();
    std::fs::write(&beacon, left.to_string()).expect("it is written");
    let stranger = std::net::TcpListener::bind(gateway.address()).expect("the port is free again");
    stranger.set_nonblocking(true).expect("it does not wait");
    let listed = done(&gateway, &["channel", "list"]).await;
    assert!(listed.contains("No gateway runs in this data directory"), "{listed}");
    let paused = done(&gateway, &["channel", "pause", "websocket"]).await;
    assert!(paused.contains("No gateway runs in this data directory"), "{paused}");
    let file = std::fs::read_to_string(gateway.folder().join("sluicegate.toml")).expect("it is there");
    assert!(file.contains("paused = true"), "{file}");
    let called = stranger.accept().expect_err("nobody called");
    assert_eq!(called.kind(), std::io::ErrorKind::WouldBlock, "{called}");
}

/// Makes the lock of the data directory of a folder.
fn lock_file(folder: &TempFolder) -> File {
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("it is made");
    File::create(data.join("sluicegate.lock")).expect("it is made")
}

#[tokio::test]
async fn while_a_gateway_starts_no_change_is_said_to_be_made() {
    let folder = TempFolder::new();
    let text = Setup::new().echo().websocket().toml();
    let file = folder.write("sluicegate.toml", &text);
    let lock = lock_file(&folder);
    // As a gateway that compiles its components.
    lock.try_lock().expect("nobody has it");
    let (pause, remove, add) = tokio::join!(
        fails(folder.path(), &["channel", "pause", "websocket"], 1),
        fails(folder.path(), &["channel", "remove", "websocket"], 1),
        fails(
            folder.path(),
            &["channel", "add", "webhook", "hook", "--open", "--yes"],
            1
        ),
    );
    for said in [pause, remove, add] {
        says(&said, &["a gateway is starting", "fix: try again when it is up"]);
    }
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), text);
    drop(lock);
    let paused = command(folder.path(), &["channel", "pause", "websocket"]).await;
    assert!(paused.status.success(), "{paused:?}");
}

#[tokio::test]
async fn a_change_before_the_data_directory_is_taken_is_one_that_the_start_has() {
    let folder = TempFolder::new();
    let text = Setup::new().echo().websocket().toml();
    let changed = text.replace("[channels.websocket]\n", "[channels.websocket]\npaused = true\n");
    assert_ne!(changed, text);
    let file = folder.write("sluicegate.toml", &text);
    let looked = lock_file(&folder);
    // As one who looks whether a gateway runs, but for longer: the start has read its configuration, and waits.
    looked.try_lock_shared().expect("nobody has it");
    let address = free_address().await;
    let mut start = Command::new(sluicegate_binary());
    start.arg("run").arg("--config").arg(&file);
    start
        .arg("--listen")
        .arg(address.to_string())
        .current_dir(folder.path());
    let mut program = Program::spawn(start);
    // It takes its port when it has read, and before it takes the directory.
    eventually("the start has its port", async || {
        assert_eq!(program.exit_status(), None, "it ended");
        TcpStream::connect(address).await.ok().map(drop)
    })
    .await;
    folder.write("sluicegate.toml", &changed);
    drop(looked);
    let beacon = folder.path().join("data/gateway.json");
    eventually("the gateway is up", async || {
        assert_eq!(program.exit_status(), None, "it ended");
        beacon.exists().then_some(())
    })
    .await;
    let listed = command(folder.path(), &["channel", "show", "websocket", "--json"]).await;
    let shown: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert!(
        shown["live"]["status"]
            .as_str()
            .is_some_and(|status| status.contains("paused")),
        "{shown}"
    );
    program.signal(Signal::Terminate);
    assert!(program.ended().await.success(), "it stops in order");
}
