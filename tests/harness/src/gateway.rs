//! The real binary, started as an operator would.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde_json::Value;
use tokio::process::Command;

use crate::http::{self, Response};
use crate::{Program, Setup, Signal, TempFolder, WsClient, eventually, sluicegate_binary};

const FILE_NAME: &str = "sluicegate.toml";

/// A gateway in a process of its own. Dropping it kills it, and shows the end of its log where the test failed.
#[derive(Debug)]
pub struct TestGateway {
    setup: Setup,
    folder: TempFolder,
    program: Program,
    address: SocketAddr,
}

impl TestGateway {
    /// Starts a gateway in a folder and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready within [`crate::PATIENCE`].
    pub async fn start(setup: Setup, folder: TempFolder) -> Self {
        folder.write(FILE_NAME, &setup.toml());
        let mut program = Program::spawn(command(&setup, &folder));
        let address = ready_at(&mut program).await;
        Self {
            setup,
            folder,
            program,
            address,
        }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its folder: `sluicegate.toml`, and `data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join(self.setup.data_directory())
    }

    /// Returns its process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Kills it (SIGKILL), and waits until the process is gone.
    ///
    /// # Panics
    /// When it does not go.
    pub async fn kill(&mut self) {
        self.program.signal(Signal::Kill);
        self.program.ended().await;
    }

    /// Starts it again with its configuration, changed as it may be, and its data, on another port. It must have ended before.
    ///
    /// # Panics
    /// As [`TestGateway::start`].
    pub async fn restart(&mut self) {
        self.program = Program::spawn(command(&self.setup, &self.folder));
        self.address = ready_at(&mut self.program).await;
    }

    /// Tries to start it again, where that must not work, and returns what it says. It must have ended before.
    ///
    /// # Panics
    /// When it does not end, or ends as if nothing were wrong.
    pub async fn fails_to_start(&mut self) -> String {
        let mut program = Program::spawn(command(&self.setup, &self.folder));
        let (code, _, errors) = program.outcome().await;
        assert!(
            code.is_some_and(|code| code != 0),
            "expected: it refuses to start; seen: {code:?}\n{errors}"
        );
        errors
    }

    /// Kills it and starts it again.
    ///
    /// # Panics
    /// As [`TestGateway::kill`] and [`TestGateway::start`].
    pub async fn crash(&mut self) {
        self.kill().await;
        self.restart().await;
    }

    /// Stops it as a supervisor does (SIGTERM) and returns how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.program.signal(Signal::Terminate);
        self.program.ended().await
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let answer = http::request(self.address, method, path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
    }

    /// Asks the operator's door, and returns what it says.
    ///
    /// # Panics
    /// When no answer comes, or none in JSON.
    pub async fn admin(&self, method: &str, path: &str, body: &[u8]) -> Value {
        let token = std::fs::read_to_string(self.data().join("admin-token")).expect("the token is there");
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = self.request(method, &format!("/api/v1/{path}"), &headers, body).await;
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{path} answered {}", answer.text()))
    }

    /// Gets a page.
    ///
    /// # Panics
    /// As [`TestGateway::request`].
    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"").await
    }

    /// Returns the path of a channel's webhook, with the token where it needs one, as the operator is shown it.
    ///
    /// # Panics
    /// Where it has none.
    pub async fn hook(&self, channel: &str) -> String {
        let file = self.data().join("admin-token");
        let token = std::fs::read_to_string(file).expect("the admin token is there from the start");
        let bearer = format!("Bearer {token}");
        let answer = self
            .request("GET", "/api/v1/channels", &[("authorization", &bearer)], b"")
            .await;
        let listed: Value = serde_json::from_str(&answer.text()).expect("the channels are JSON");
        let all = listed["items"].as_array().into_iter().flatten();
        let path = all
            .filter(|it| it["name"] == channel)
            .find_map(|it| it["webhook"].as_str());
        path.unwrap_or_else(|| panic!("{channel} has no webhook in {listed}"))
            .to_owned()
    }

    /// Posts JSON to a generic webhook.
    ///
    /// # Panics
    /// As [`TestGateway::request`].
    pub async fn post(&self, channel: &str, body: &Value) -> Response {
        let path = format!("/hooks/{channel}");
        self.request(
            "POST",
            &path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
        .await
    }

    /// Posts a message for the agent to a generic webhook; it must be accepted as new.
    ///
    /// # Panics
    /// When it is not.
    pub async fn tell(&self, channel: &str, id: &str, conversation: &str, text: &str) {
        let body = serde_json::json!({"id": id, "conversation": conversation, "sender": "ada", "text": text});
        let answer = self.post(channel, &body).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, r#"{"status":"accepted"}"#),
            "posted {body}"
        );
    }

    /// Connects a client to `/ws`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn client(&self) -> WsClient {
        let client = WsClient::connect(self.address, "/ws", &[]).await;
        client.unwrap_or_else(|status| panic!("/ws refused a client with {status}"))
    }

    /// Waits for a line of the log (standard error) that contains all of these words, and returns it.
    ///
    /// # Panics
    /// As [`crate::Record::wait_for`].
    pub async fn wait_for_log(&self, words: &[&str]) -> String {
        let found = |lines: &[String]| {
            lines
                .iter()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .cloned()
        };
        self.program
            .errors()
            .wait_for(&format!("a line of the log with {words:?}"), found)
            .await
    }

    /// Returns a figure of `/metrics`: the sum over all rows of that name whose labels contain `labels`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.get("/metrics").await.text();
        let rows = page.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
        });
        let values: Vec<f64> = rows.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(
            !values.is_empty(),
            "expected the metric {name} with {labels:?}, seen:\n{page}"
        );
        values.iter().sum()
    }

    /// Waits until a figure of `/metrics` has this value.
    ///
    /// # Panics
    /// As [`eventually`].
    pub async fn wait_for_metric(&self, name: &str, value: f64) {
        let what = format!("the metric {name} at {value}");
        eventually(&what, async || {
            ((self.metric(name, "").await - value).abs() < 0.5).then_some(())
        })
        .await;
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show(&self.program);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows what the gateway said")]
fn show(program: &Program) {
    eprintln!("the end of the gateway's standard error:\n{}", program.errors().shown());
}

/// Returns the command that starts the gateway of a folder as a service, with none of the caller's own settings.
fn command(setup: &Setup, folder: &TempFolder) -> Command {
    let mut command = Command::new(sluicegate_binary());
    let file = folder.path().join(FILE_NAME);
    command.arg("run").arg("--config").arg(file).current_dir(folder.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SLUICEGATE_") {
            command.env_remove(name);
        }
    }
    command.envs(setup.environment().iter().map(|(name, value)| (name, value)));
    command
}

/// Waits until a starting gateway is ready, and returns where it listens: what it says itself, since the port is free.
async fn ready_at(program: &mut Program) -> SocketAddr {
    eventually("the gateway says where it listens, and is ready there", async || {
        if let Some(status) = program.exit_status() {
            show(program);
            panic!("expected: the gateway starts; seen: it ended with {status}");
        }
        for address in program.errors().all().iter().filter_map(|line| loopback_address(line)) {
            // Other addresses, such as a model's, stand in the log as well: only the gateway knows this page.
            if let Ok(answer) = http::request(address, "GET", "/ready", &[], b"").await
                && answer.body == b"ready\n"
            {
                return Some(address);
            }
        }
        None
    })
    .await
}

fn loopback_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
}
