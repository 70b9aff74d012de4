//! A real Synapse on the loopback, in a folder of its own.

use std::net::SocketAddr;
use std::path::Path;

use harness::{Program, TempFolder, eventually, http};
use serde_json::{Value, json};
use tokio::process::Command;

/// The secret with which accounts are made.
pub(super) const SHARED_SECRET: &str = "shared-secret-of-a-test";

/// A running homeserver. Dropping it ends it and removes its folder.
pub(super) struct Synapse {
    address: SocketAddr,
    _program: Program,
    _folder: TempFolder,
}

impl Synapse {
    /// Starts it, and returns when it answers.
    pub(super) async fn start(python: &Path) -> Self {
        let folder = TempFolder::new();
        let address = free_address().await;
        let config = folder.path().join("homeserver.yaml");
        // YAML takes JSON.
        std::fs::write(&config, configuration(folder.path(), address).to_string()).expect("the folder can be written");
        let synapse = |more: &[&str]| {
            let mut command = Command::new(python);
            command
                .args(["-m", "synapse.app.homeserver", "-c"])
                .arg(&config)
                .args(more);
            command.current_dir(folder.path());
            Program::spawn(command)
        };
        let (code, output, errors) = synapse(&["--generate-keys"]).outcome().await;
        assert_eq!(code, Some(0), "Synapse makes no keys:\n{output}\n{errors}");
        let program = synapse(&[]);
        eventually("Synapse answers", async || {
            let asked = http::request(address, "GET", "/_matrix/client/versions", &[], b"").await;
            asked.is_ok_and(|answer| answer.status == 200).then_some(())
        })
        .await;
        Self {
            address,
            _program: program,
            _folder: folder,
        }
    }

    /// Returns where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Sends JSON with a token and returns the answer's.
pub(super) async fn call(address: SocketAddr, method: &str, path: &str, token: &str, body: &Value) -> Value {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = http::request(address, method, path, &headers, body.to_string().as_bytes()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"));
    assert!(
        answer.status < 300,
        "{method} {path}: {} {}",
        answer.status,
        answer.text()
    );
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{path} answered {}", answer.text()))
}

/// Synapse can't say which port it was given, so one is chosen for it.
async fn free_address() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.expect("a free port can be bound");
    listener.local_addr().expect("a bound socket has an address")
}

/// Messages are limited as in the row of refusals; who is not to be limited is excepted by name. Nothing else is limited:
/// the tests make many rooms at once.
fn configuration(folder: &Path, address: SocketAddr) -> Value {
    let unlimited = json!({"per_second": 10_000, "burst_count": 10_000});
    json!({
        "server_name": "localhost",
        "pid_file": folder.join("pid"),
        "signing_key_path": folder.join("signing.key"),
        "media_store_path": folder.join("media"),
        "database": {"name": "sqlite3", "args": {"database": folder.join("homeserver.db")}},
        "listeners": [{
            "port": address.port(), "type": "http", "bind_addresses": ["127.0.0.1"],
            "resources": [{"names": ["client"], "compress": false}],
        }],
        "report_stats": false,
        "trusted_key_servers": [],
        "registration_shared_secret": SHARED_SECRET,
        "macaroon_secret_key": "macaroon-of-a-test",
        "form_secret": "form-of-a-test",
        "presence": {"enabled": false},
        "rc_message": {"per_second": 0.5, "burst_count": 1},
        "rc_joins": {"local": unlimited, "remote": unlimited},
        "rc_joins_per_room": unlimited,
        "rc_invites": {"per_room": unlimited, "per_user": unlimited, "per_issuer": unlimited},
        "rc_room_creation": unlimited,
    })
}
