//! People on the homeserver: the other end of `person.py`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harness::{PATIENCE, Record};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

/// What the clients of all people have seen, in the order seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Events, each with its room.
    pub(super) events: Vec<(String, Value)>,
    /// Who typed, each with the room.
    pub(super) typing: Vec<(String, String)>,
    /// Events that matrix-nio does not take for what they say they are.
    pub(super) bad: Vec<Value>,
}

/// The clients of all people. Dropping it ends them.
pub(super) struct People {
    input: tokio::sync::Mutex<ChildStdin>,
    next: AtomicU64,
    shared: Arc<Shared>,
    _child: Child,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// Rings whenever more was seen.
    changes: Record<()>,
    asked: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
}

impl People {
    /// Starts with nobody.
    pub(super) fn start(python: &Path, base: &str, shared_secret: &str) -> Self {
        let script = crate::table::root().join("components/matrix/conformance/person.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([base, shared_secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the people's clients start");
        let shared = Arc::new(Shared::default());
        let output = child.stdout.take().expect("standard output is a pipe");
        tokio::spawn(listen(output, Arc::clone(&shared)));
        Self {
            input: tokio::sync::Mutex::new(child.stdin.take().expect("standard input is a pipe")),
            next: AtomicU64::new(0),
            shared,
            _child: child,
        }
    }

    /// Lets someone do something, and returns what came of it.
    pub(super) async fn ask(&self, mut command: Value) -> Value {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        command["number"] = number.into();
        let (answer_tx, answer_rx) = oneshot::channel();
        lock(&self.shared.asked).insert(number, answer_tx);
        let line = format!("{command}\n");
        let mut input = self.input.lock().await;
        input.write_all(line.as_bytes()).await.expect("the clients listen");
        drop(input);
        let answer = tokio::time::timeout(PATIENCE, answer_rx).await;
        let answer = answer.expect("the clients answer in time").expect("the clients run");
        assert!(
            answer["failed"].is_null(),
            "{command}: {}",
            answer["failed"].as_str().unwrap_or_default()
        );
        answer["answer"].clone()
    }

    /// Waits until `look` finds something in what was seen, and returns it.
    pub(super) async fn wait_for<T>(&self, what: &str, look: impl Fn(&Seen) -> Option<T>) -> T {
        let shared = &self.shared;
        shared.changes.wait_for(what, |_| look(&lock(&shared.seen))).await
    }

    /// Returns what was seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.shared.seen)
    }
}

async fn listen(output: ChildStdout, shared: Arc<Shared>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(number) = said["number"].as_u64() {
            let asked = lock(&shared.asked).remove(&number);
            // Whoever asked may have given up.
            let _ = asked.map(|asked| asked.send(said));
            continue;
        }
        let room = said["room"].as_str().unwrap_or_default().to_owned();
        {
            let mut seen = lock(&shared.seen);
            if said["seen"].is_object() {
                seen.events.push((room, said["seen"].clone()));
            } else if said["bad"].is_object() {
                seen.bad.push(said["bad"].clone());
            } else if let Some(users) = said["typing"].as_array() {
                let users = users.iter().filter_map(Value::as_str);
                seen.typing.extend(users.map(|user| (room.clone(), user.to_owned())));
            }
        }
        shared.changes.push(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
