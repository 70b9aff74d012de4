//! Starts that can't work: one clear message with its remedy, and nothing half-started.

use std::net::SocketAddr;
use std::path::Path;

use harness::{FakePlatform, Program, Setup, Signal, TempFolder, WsClient, eventually, http, sluicegate_binary};
use tokio::net::TcpListener;
use tokio::process::Command;

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
    let free = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address: SocketAddr = free.local_addr().expect("an address");
    drop(free);
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
