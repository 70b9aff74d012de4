//! The list of cases, and how a row of them is run.

mod enduring;
mod receiving;
mod sending;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{FutureExt as _, StreamExt as _};
use harness::{MockModel, Saying, Setup, TestGateway, eventually};
use serde_json::{Value, json};

use crate::platform::{MessageId, Platform, Room, Shown, Skipped};
use crate::table;

/// The name of the channel under test.
pub(crate) const CHANNEL: &str = "under-test";

/// What the bot says in [`Case::Markdown`]; [`Platform::markdown_source`] is what it has to become.
pub(crate) const MARKDOWN: &str =
    "**bold** and *soft*, `a < b`, [here](https://example.org/x)\n\n- one\n- two\n\n```rust\nlet a = 1 & 2;\n```";

/// One thing that a channel must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Text,
    Edit,
    Reply,
    ThreadIn,
    FileIn,
    OwnEcho,
    Duplicate,
    OtherBot,
    Short,
    Long,
    Markdown,
    FileOut,
    ThreadOut,
    Typing,
    Draft,
    RateLimited,
    Unavailable,
    Unauthorized,
    ReceiverRefused,
    Gone,
    Malformed,
    Reconnect,
    Restart,
    OneReceiver,
    Oracle,
}

/// The column of the table that a case stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Receives,
    Ignores,
    Sends,
    Refused,
    Endures,
}

impl Column {
    /// All columns in their order.
    pub(crate) const ALL: [Self; 5] = [Self::Receives, Self::Ignores, Self::Sends, Self::Refused, Self::Endures];

    /// Returns its heading.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Receives => "receives",
            Self::Ignores => "ignores",
            Self::Sends => "sends",
            Self::Refused => "when refused",
            Self::Endures => "endures",
        }
    }
}

/// All cases: those that share a gateway first, those that need it for themselves after them.
pub(crate) const CASES: [(Case, Column, &str); 25] = [
    (Case::Text, Column::Receives, "text"),
    (Case::Edit, Column::Receives, "edit"),
    (Case::Reply, Column::Receives, "reply"),
    (Case::ThreadIn, Column::Receives, "thread"),
    (Case::FileIn, Column::Receives, "file"),
    (Case::OwnEcho, Column::Ignores, "own echo"),
    (Case::Duplicate, Column::Ignores, "duplicate"),
    (Case::OtherBot, Column::Ignores, "other bots"),
    (Case::Short, Column::Sends, "short"),
    (Case::Long, Column::Sends, "long"),
    (Case::Markdown, Column::Sends, "Markdown"),
    (Case::FileOut, Column::Sends, "a file"),
    (Case::ThreadOut, Column::Sends, "into a thread"),
    (Case::Typing, Column::Sends, "typing"),
    (Case::Draft, Column::Sends, "draft, then final"),
    (Case::RateLimited, Column::Refused, "429: waits as asked"),
    (Case::Unavailable, Column::Refused, "5xx: again"),
    (Case::Gone, Column::Refused, "conversation gone: dead letter"),
    (Case::Unauthorized, Column::Refused, "auth: pauses, loses nothing"),
    (
        Case::ReceiverRefused,
        Column::Refused,
        "auth of its receiver: pauses until resumed",
    ),
    (Case::Malformed, Column::Endures, "malformed update"),
    (Case::Reconnect, Column::Endures, "dropped socket"),
    (Case::Restart, Column::Endures, "restart: cursor kept"),
    (Case::OneReceiver, Column::Endures, "restart: one receiver"),
    (Case::Oracle, Column::Endures, "third-party client on its fake"),
];

impl Case {
    /// Returns whether others may run beside it.
    fn is_sociable(self) -> bool {
        !matches!(
            self,
            Self::Unauthorized | Self::ReceiverRefused | Self::Reconnect | Self::Restart | Self::OneReceiver
        )
    }

    async fn run(self, stage: &Stage<'_>) -> Result<(), Skipped> {
        match self {
            Self::Text => receiving::text(stage).await,
            Self::Edit => receiving::edit(stage).await,
            Self::Reply => receiving::reply(stage).await,
            Self::ThreadIn => receiving::thread(stage).await,
            Self::FileIn => receiving::file(stage).await,
            Self::OwnEcho => receiving::own_echo(stage).await,
            Self::Duplicate => receiving::duplicate(stage).await,
            Self::OtherBot => receiving::other_bot(stage).await,
            Self::Short => sending::short(stage).await,
            Self::Long => sending::long(stage).await,
            Self::Markdown => sending::markdown(stage).await,
            Self::FileOut => sending::file(stage).await,
            Self::ThreadOut => sending::thread(stage).await,
            Self::Typing => sending::typing(stage).await,
            Self::Draft => sending::draft(stage).await,
            Self::RateLimited => sending::rate_limited(stage).await,
            Self::Unavailable => sending::unavailable(stage).await,
            Self::Gone => sending::gone(stage).await,
            Self::Malformed => enduring::malformed(stage).await,
            Self::Oracle => return stage.platform.oracle().await,
            Self::Unauthorized | Self::ReceiverRefused | Self::Reconnect | Self::Restart | Self::OneReceiver => {
                unreachable!("it runs alone")
            }
        }
        Ok(())
    }

    async fn run_alone(self, platform: &dyn Platform, gateway: &mut TestGateway, model: &MockModel) {
        match self {
            Self::Unauthorized => enduring::unauthorized(platform, gateway, model).await,
            Self::ReceiverRefused => enduring::receiver_refused(platform, gateway, model).await,
            Self::Reconnect => enduring::reconnect(platform, gateway, model).await,
            Self::Restart => enduring::restart(platform, gateway, model).await,
            Self::OneReceiver => enduring::one_receiver(platform, gateway, model).await,
            _ => unreachable!("it runs beside others"),
        }
    }
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should.
    Passed,
    /// It was not run: why it has no meaning there.
    NotApplicable(&'static str),
    /// It was not run: what is not installed here.
    Skipped(String),
    /// It panicked; the words stand above in the output.
    Failed,
}

/// Runs all cases of a row and compares the table in the README with how they ended. `SLUICEGATE_CASE` names one to run
/// alone, such as `Draft`.
///
/// # Panics
/// Where a case fails, or the table says something else.
pub(crate) async fn row(name: &str, started: Result<Box<dyn Platform>, Skipped>) {
    let platform = match started {
        Ok(platform) => platform,
        Err(skipped) => return skipped.say(&format!("the row of {name}")),
    };
    let only = std::env::var("SLUICEGATE_CASE").ok();
    let wanted = |case: Case| only.as_ref().is_none_or(|name| format!("{case:?}") == *name);
    let outcomes = run(platform.as_ref(), &wanted).await;
    let of = |wanted: fn(&Outcome) -> bool| {
        let found = CASES.iter().zip(&outcomes).filter(|(_, outcome)| wanted(outcome));
        found.map(|((_, _, words), _)| *words).collect::<Vec<_>>()
    };
    let failed = of(|outcome| *outcome == Outcome::Failed);
    assert!(failed.is_empty(), "{name}: these cases failed, see above: {failed:?}");
    for (case, outcome) in CASES.iter().zip(&outcomes) {
        if let Outcome::Skipped(why) = outcome {
            Skipped(why.clone()).say(&format!("{name}, {}", case.2));
        }
    }
    if of(|outcome| matches!(outcome, Outcome::Skipped(_))).is_empty() {
        table::keep(name, &platform.peer(), &outcomes);
    }
}

async fn run(platform: &dyn Platform, wanted: &dyn Fn(Case) -> bool) -> Vec<Outcome> {
    let model = MockModel::start().await;
    let setup = platform.configure(Setup::new().model(&model), CHANNEL);
    let setup = if setup.toml().contains("[channels.websocket]") {
        setup
    } else {
        // The stream of events comes with it.
        setup.websocket()
    };
    let mut gateway = setup.start().await;
    platform.gateway_is_up(&mut gateway).await;
    let stage = Stage {
        platform,
        gateway: &gateway,
        model: &model,
    };
    let side_by_side = futures_util::stream::iter(CASES).map(async |(case, _, words)| match platform.lacks(case) {
        Some(why) => Some(Outcome::NotApplicable(why)),
        None if !wanted(case) => Some(Outcome::Skipped("another case was asked for".to_owned())),
        None if case.is_sociable() => Some(settle(words, case.run(&stage)).await),
        None => None,
    });
    let mut outcomes: Vec<Option<Outcome>> = side_by_side.buffered(platform.cases_at_once()).collect().await;
    for ((case, _, words), outcome) in CASES.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_none()) {
        let run = async {
            case.run_alone(platform, &mut gateway, &model).await;
            Ok(())
        };
        *outcome = Some(settle(words, run).await);
    }
    if outcomes.contains(&Some(Outcome::Failed)) {
        show_log(&mut gateway);
    }
    outcomes.into_iter().flatten().collect()
}

#[expect(clippy::print_stderr, reason = "a failed test shows what the gateway said")]
fn show_log(gateway: &mut TestGateway) {
    eprintln!("the end of the gateway's log:\n{}", gateway.program().errors().shown());
}

/// Lets a case end without ending the others.
#[expect(clippy::print_stderr, reason = "a failed case says which one it was")]
async fn settle(words: &str, case: impl Future<Output = Result<(), Skipped>>) -> Outcome {
    match AssertUnwindSafe(case).catch_unwind().await {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(Skipped(why))) => Outcome::Skipped(why),
        Err(_) => {
            eprintln!("the case that failed: {words}");
            Outcome::Failed
        }
    }
}

/// What a case acts on.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    platform: &'a dyn Platform,
    gateway: &'a TestGateway,
    model: &'a MockModel,
}

impl Stage<'_> {
    /// Returns a word that nothing else says, safe in every markup.
    fn word(&self, what: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(100);
        format!("{what}{}x", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets a person say a new word, which the agent is to answer with this, and returns the word.
    async fn say(&self, room: &Room, answer: &str) -> (String, MessageId) {
        let word = self.word("say");
        self.model.when(&word, Saying::Answer(answer.to_owned()));
        let id = self.platform.say(room, &word).await;
        (word, id)
    }

    /// Lets the bot say something in a room: as the answer to what a person says there, or where nobody can, because the
    /// operator says so.
    async fn let_bot_say(&self, room: &Room, text: &str) {
        if self.platform.receives() {
            self.say(room, text).await;
        } else {
            self.send(room, text, json!([])).await;
        }
    }

    /// Lets the operator send a message.
    async fn send(&self, room: &Room, text: &str, files: Value) {
        let mut message = json!({
            "channel": CHANNEL, "conversation": room.conversation, "text": text, "files": files,
        });
        if let Some(thread) = &room.thread {
            message["thread"] = json!(thread);
        }
        let sent = self
            .gateway
            .admin("POST", "messages", message.to_string().as_bytes())
            .await;
        assert!(sent["delivery_key"].is_string(), "{sent}");
    }

    /// Lets a person say something, waits for the answer and returns it.
    async fn exchange(&self, room: &Room) -> Shown {
        let answer = self.word("answer");
        self.say(room, &answer).await;
        self.wait_for_text(room, &answer).await
    }

    /// Waits until the bot's messages in a room are found good, and returns what was found.
    async fn wait_for<T>(&self, room: &Room, what: &str, look: impl Fn(&[Shown]) -> Option<T>) -> T {
        let seen = std::cell::RefCell::new(Vec::new());
        let looking = eventually(what, async || {
            *seen.borrow_mut() = self.platform.shown(room).await;
            look(&seen.borrow())
        });
        match AssertUnwindSafe(looking).catch_unwind().await {
            Ok(found) => found,
            Err(_) => panic!("expected in {room:?}: {what}; shown: {:#?}", seen.borrow()),
        }
    }

    /// Waits until the bot has said something that contains this text, and returns the message.
    async fn wait_for_text(&self, room: &Room, text: &str) -> Shown {
        let find = |shown: &[Shown]| shown.iter().find(|message| message.text.contains(text)).cloned();
        self.wait_for(room, &format!("a message with {text:?}"), find).await
    }

    /// Asserts that the bot said these words in a room, each in a message of its own, and nothing else.
    async fn assert_said(&self, room: &Room, words: &[&str]) {
        let shown = self.platform.shown(room).await;
        let texts: Vec<&str> = shown.iter().map(|message| message.text.as_str()).collect();
        let fits = texts.len() == words.len() && texts.iter().zip(words).all(|(text, word)| text.contains(word));
        assert!(fits, "expected in {room:?}: {words:?}, shown: {texts:?}");
    }

    /// Asserts that the bot said this in a room and nothing else, also no copy that comes late: what goes to one
    /// conversation goes in order, so a copy would stand before one more message.
    async fn assert_said_once(&self, room: &Room, words: &str) {
        let last = self.word("last");
        self.let_bot_say(room, &last).await;
        self.wait_for_text(room, &last).await;
        self.assert_said(room, &[words, &last]).await;
    }

    /// Asks the operator's door.
    async fn ask_admin(&self, path: &str) -> Value {
        self.gateway.admin("GET", path, b"").await
    }

    /// Waits until the channel under test has this status.
    async fn wait_for_status(&self, status: &str) {
        eventually(&format!("the channel is {status}"), async || {
            let channels = self.ask_admin("channels").await;
            let mut channels = channels["items"].as_array().cloned().unwrap_or_default().into_iter();
            channels
                .any(|channel| channel["name"] == CHANNEL && channel["status"] == status)
                .then_some(())
        })
        .await;
    }
}
