//! Channels in other languages than Rust, `components/examples`: built here by their own scripts, and run against fakes
//! of their platforms.
//!
//! `.ci/run` installs what builds them below `target/peers` (`components/examples/install.sh`). Without it these tests say
//! that they were skipped and why, or fail where `SLUICEGATE_REQUIRE_PEERS=1` says that it must be there.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harness::http::{Handler, Reply, Request, Response, Server};
use harness::{Record, Setup, TempFolder, TestGateway, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::platform::installed;
use crate::table::root;

/// A secret of the operator's, which no guest may see.
const TOKEN: &str = "token-of-the-operator";

/// Builds an example with its own script, with the tool that `variable` tells it.
async fn built(language: &str, variable: &str, tool: &Path) -> (TempFolder, PathBuf) {
    let folder = TempFolder::new();
    let output = folder.path().join("guest.wasm");
    let script = root().join("components/examples").join(language).join("build.sh");
    let ended = Command::new(script).arg(&output).env(variable, tool).output().await;
    let ended = ended.expect("the script can be started");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    (folder, output)
}

/// What a fake platform has, and what it does to the next messages sent to it.
#[derive(Debug, Default)]
struct Platform {
    /// What was said, by whomever, oldest first, as the platform tells it.
    said: Mutex<Vec<Value>>,
    /// Answers to the next messages, in the place of taking them.
    refusals: Mutex<VecDeque<Response>>,
    /// The messages that were sent, the refused ones included.
    sent: Record<Value>,
    /// What was seen in the header for the token.
    tokens: Record<String>,
}

impl Platform {
    fn said(&self) -> MutexGuard<'_, Vec<Value>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, refusal: Response) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.push_back(refusal);
    }

    /// Takes a sent message, or refuses it as ordered.
    fn take(&self, request: &Request) -> Result<Value, Response> {
        let message: Value = serde_json::from_slice(&request.body).expect("JSON is sent");
        self.sent.push(message.clone());
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.pop_front().map_or(Ok(message), Err)
    }

    /// Returns the texts under `key` of what the bot sent and the platform took.
    fn texts(&self, key: &str, is_bots: impl Fn(&Value) -> bool) -> Vec<String> {
        let said = self.said();
        let of_bot = said.iter().filter(|message| is_bots(message));
        of_bot
            .filter_map(|message| message[key].as_str())
            .map(str::to_owned)
            .collect()
    }
}

/// Serves a platform on a free port.
async fn serve(platform: &Arc<Platform>, answer: fn(&Platform, &Request) -> Response) -> (Server, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it has an address"));
    let platform = Arc::clone(platform);
    let handler: Handler = Arc::new(move |request| {
        let token = request.header("authorization").unwrap_or_default().to_owned();
        platform.tokens.push(token);
        let answer = answer(&platform, &request);
        Box::pin(async move { Reply::Whole(answer) })
    });
    (Server::start(listener, handler), base)
}

fn json_response(status: u16, body: &Value) -> Response {
    Response::new(status, body.to_string()).with("content-type", "application/json")
}

/// ntfy, as far as the example uses it (docs.ntfy.sh/subscribe/api).
fn ntfy(platform: &Platform, request: &Request) -> Response {
    if request.method == "POST" {
        return match platform.take(request) {
            Ok(mut message) => {
                let mut said = platform.said();
                message["id"] = json!(format!("n{}", said.len()));
                message["event"] = json!("message");
                said.push(message.clone());
                json_response(200, &message)
            }
            Err(refusal) => refusal,
        };
    }
    let since = request.path.split("since=").nth(1).unwrap_or_default();
    let said = platform.said();
    let known = said.iter().position(|message| message["id"] == since);
    let new = said.iter().skip(known.map_or(0, |at| at + 1));
    let lines: String = new.map(|message| format!("{message}\n")).collect();
    // What no server sends must not hide what follows.
    Response::new(200, format!("no JSON\n{{\"event\":\"keepalive\"}}\n{lines}"))
}

/// Mattermost, as far as the example uses it (api.mattermost.com).
fn mattermost(platform: &Platform, request: &Request) -> Response {
    let path = request.path.strip_prefix("/api/v4").unwrap_or_default();
    if request.method == "POST" && path == "/posts" {
        return match platform.take(request) {
            Ok(post) => {
                let text = post["message"].as_str().unwrap_or_default();
                let made = say_on_mattermost(platform, "bot-id", text);
                json_response(201, &made)
            }
            Err(refusal) => refusal,
        };
    }
    match path.split_once("/posts?since=") {
        Some((_, since)) => {
            let since: u64 = since.parse().expect("a number");
            let said = platform.said();
            let new = said.iter().filter(|post| post["update_at"].as_u64() > Some(since));
            let posts: serde_json::Map<String, Value> = new
                .map(|post| (post["id"].as_str().unwrap_or_default().to_owned(), post.clone()))
                // What no server sends must not hide the rest.
                .chain([
                    ("broken".to_owned(), json!([7])),
                    ("odd".to_owned(), json!({"update_at": since + 1})),
                ])
                .collect();
            json_response(200, &json!({"order": [], "posts": posts}))
        }
        None if path == "/users/me" => json_response(200, &json!({"id": "bot-id", "username": "agent"})),
        None => json_response(200, &json!({"type": "D", "display_name": "Ada"})),
    }
}

/// Adds a post, later than every other.
fn say_on_mattermost(platform: &Platform, user: &str, text: &str) -> Value {
    let mut said = platform.said();
    // Far in the future, as the example's first look begins at the present.
    let at = 4_000_000_000_000 + said.len();
    let post = json!({
        "id": format!("p{}", said.len()), "create_at": at, "update_at": at, "edit_at": 0, "delete_at": 0,
        "user_id": user, "channel_id": "town", "root_id": "", "message": text, "type": "", "props": {},
    });
    said.push(post.clone());
    post
}

/// What every channel of these must do, whatever it is written in.
struct Example {
    platform: Arc<Platform>,
    /// Lets a person say something.
    say: fn(&Platform, &str),
    /// Returns what the bot said, oldest first.
    answers: fn(&Platform) -> Vec<String>,
}

impl Example {
    async fn say(&self, text: &str) {
        (self.say)(&self.platform, text);
    }

    async fn wait_for_answers(&self, wanted: &[&str]) {
        eventually(&format!("the answers {wanted:?}"), async || {
            ((self.answers)(&self.platform) == wanted).then_some(())
        })
        .await;
    }

    /// Receives, answers, waits as asked, sends again, goes on where it was after a restart, and stops where the token
    /// is refused; and never answers itself.
    async fn prove(&self, mut gateway: TestGateway, limited: Response) {
        self.say("hello {{token}}").await;
        self.wait_for_answers(&["hello {{token}}"]).await;
        let tokens = self.platform.tokens.all();
        assert!(
            tokens.iter().all(|token| token == &format!("Bearer {TOKEN}")),
            "{tokens:?}"
        );

        self.platform.refuse(limited);
        self.say("again").await;
        self.wait_for_answers(&["hello {{token}}", "again"]).await;
        self.platform.refuse(Response::new(503, ""));
        self.say("and again").await;
        self.wait_for_answers(&["hello {{token}}", "again", "and again"]).await;
        // A message that was refused once was sent twice.
        assert_eq!(self.platform.sent.len(), 5);

        gateway.terminate().await;
        self.say("while you were away").await;
        gateway.restart().await;
        let all = ["hello {{token}}", "again", "and again", "while you were away"];
        self.wait_for_answers(&all).await;

        let bad_request = json_response(400, &json!({"message": "no"}));
        self.platform.refuse(bad_request);
        self.say("which nobody takes").await;
        gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
        self.platform.refuse(json_response(401, &json!({"message": "no"})));
        self.say("at last").await;
        gateway.wait_for_log(&["example", "paused"]).await;
        assert_eq!((self.answers)(&self.platform), all, "it answered itself, or twice");
    }
}

async fn started(component: &Path, base: &str, settings: &str) -> TestGateway {
    let setup = Setup::new().echo().env("EXAMPLE_TOKEN", TOKEN).section(&format!(
        "[channels.example]\ncomponent = {component:?}\naccess = \"open\"\ngrant = [\"{base}\"]\n\
         settings = {{ server = \"{base}\", poll-seconds = 1, {settings} }}\n\
         secrets = {{ token = {{ env = \"EXAMPLE_TOKEN\" }} }}"
    ));
    setup.start().await
}

#[tokio::test]
async fn a_channel_in_javascript_is_a_channel_like_any_other() {
    let tool = "examples-javascript/node_modules/.bin/componentize-qjs";
    let tool = match installed("SLUICEGATE_COMPONENTIZE_QJS", tool) {
        Ok(tool) => tool,
        Err(skipped) => return skipped.say("the channel in JavaScript"),
    };
    let (_folder, component) = built("javascript", "COMPONENTIZE_QJS", &tool).await;
    let platform = Arc::new(Platform::default());
    let (_server, base) = serve(&platform, ntfy).await;
    let gateway = started(&component, &base, "topic = \"tea\"").await;
    let example = Example {
        platform,
        say: |platform, text| {
            let mut said = platform.said();
            let id = format!("n{}", said.len());
            said.push(json!({"id": id, "event": "message", "topic": "tea", "time": 1, "message": text}));
        },
        answers: |platform| platform.texts("message", |message| message["tags"].is_array()),
    };
    let limited = Response::new(429, r#"{"code":42901,"http":429}"#).with("retry-after", "1");
    example.prove(gateway, limited).await;
}

#[tokio::test]
async fn a_channel_in_python_is_a_channel_like_any_other() {
    let tool = match installed("SLUICEGATE_COMPONENTIZE_PY", "examples-python/bin/componentize-py") {
        Ok(tool) => tool,
        Err(skipped) => return skipped.say("the channel in Python"),
    };
    let (_folder, component) = built("python", "COMPONENTIZE_PY", &tool).await;
    let platform = Arc::new(Platform::default());
    let (_server, base) = serve(&platform, mattermost).await;
    let gateway = started(&component, &base, "channels = [\"town\"]").await;
    let example = Example {
        platform,
        say: |platform, text| {
            say_on_mattermost(platform, "ada-id", text);
        },
        answers: |platform| platform.texts("message", |post| post["user_id"] == "bot-id"),
    };
    let limited = json_response(429, &json!({"message": "slow down"})).with("x-ratelimit-reset", "1");
    example.prove(gateway, limited).await;
}
