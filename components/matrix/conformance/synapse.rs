//! A real Synapse on the loopback, in a folder of its own.

use std::net::SocketAddr;
use std::path::Path;

use harness::{Program, TempFolder, eventually, http};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::platform::on_free_ports;

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
        let synapse = |port: u16, more: &[&str]| {
            // YAML takes JSON.
            let config = folder.write("homeserver.yaml", &configuration(folder.path(), port).to_string());
            let mut command = Command::new(python);
            command
                .args(["-m", "synapse.app.homeserver", "-c"])
                .arg(&config)
                .args(more);
            command.current_dir(folder.path());
            Program::spawn(command)
        };
        let (code, output, errors) = synapse(0, &["--generate-keys"]).outcome().await;
        assert_eq!(code, Some(0), "Synapse makes no keys:\n{output}\n{errors}");
        let start = |[port]: [u16; 1]| (synapse(port, &[]), SocketAddr::from(([127, 0, 0, 1], port)));
        let has_ended = |(program, _): &mut (Program, SocketAddr)| program.exit_status().is_some();
        let (program, address) = on_free_ports("Synapse", start, has_ended).await;
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

/// Messages are limited as in the row of refusals; who is not to be limited is excepted by name. Nothing else is limited:
/// the tests make many rooms at once.
fn configuration(folder: &Path, port: u16) -> Value {
    let unlimited = json!({"per_second": 10_000, "burst_count": 10_000});
    json!({
        "server_name": "localhost",
        "pid_file": folder.join("pid"),
        "signing_key_path": folder.join("signing.key"),
        "media_store_path": folder.join("media"),
        "database": {"name": "sqlite3", "args": {"database": folder.join("homeserver.db")}},
        "listeners": [{
            "port": port, "type": "http", "bind_addresses": ["127.0.0.1"],
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
