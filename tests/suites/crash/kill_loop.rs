//! Kills at random moments, again and again, while messages come in over `/ws` and the webhook.
//!
//! `SLUICEGATE_KILLS` says how often (30), `SLUICEGATE_SEED` repeats a run's moments.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Delivery, Dice, FakePlatform, PATIENCE, Setup, TestGateway, WsClient, http};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Conversations over the webhook.
const POSTERS: usize = 4;
/// Conversations over `/ws`.
const CHATTERS: usize = 2;
/// How long the gateway lives, milliseconds.
const LIFE_MS: std::ops::Range<u64> = 20..350;
/// A copy's original may be written down a little after the process that sent it is gone: its bytes were under way.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// What the load follows: where the gateway is (none while it is dead), and whether to go on.
#[derive(Debug, Clone, Copy)]
struct Stage {
    address: SocketAddr,
    goes_on: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_reordered_over_many_kills() {
    let kills = number("SLUICEGATE_KILLS", 30);
    let seed = number("SLUICEGATE_SEED", 20_260_101);
    let platform = Arc::new(FakePlatform::start().await);
    // Many kills may hit the same message; the number of its copies is checked here, kill by kill.
    let lines = "ambiguous_resends = 10";
    let mut gateway = Setup::new()
        .echo()
        .websocket()
        .webhook_with("hook", &platform, lines)
        .start()
        .await;
    let (stage_tx, stage) = watch::channel(Stage {
        address: gateway.address(),
        goes_on: true,
    });
    let posters: Vec<_> = (0..POSTERS)
        .map(|n| tokio::spawn(post(format!("p{n}"), stage.clone())))
        .collect();
    let chatters: Vec<_> = (0..CHATTERS)
        .map(|n| tokio::spawn(chat(format!("w{n}"), stage.clone())))
        .collect();

    let deaths = kill_often(&mut gateway, kills, seed, &stage_tx).await;
    stage_tx.send_modify(|stage| stage.goes_on = false);

    let posted = ended(posters).await;
    let chatted = ended(chatters).await;
    for (conversation, count) in &posted {
        platform.wait_for_accepted(conversation, *count).await;
    }
    // A reply that a dying process handed over is known to its client and not to the store: its copy wants a client too.
    let mut takers = Vec::new();
    for (conversation, _) in &chatted {
        let mut taker = gateway.client().await;
        taker.attach(conversation, false).await;
        takers.push(taker);
    }
    gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    gateway.wait_for_metric("sluicegate_dead_letters", 0.0).await;
    drop(takers);
    let copies: usize = posted
        .iter()
        .map(|(conversation, count)| check(conversation, *count, &platform.accepted(conversation), &deaths))
        .sum();
    let sent: usize = posted.iter().map(|(_, count)| count).sum();
    let said: usize = chatted.iter().map(|(_, count)| count).sum();
    println!("seed {seed}\n| kills | webhook: accepted | answered | copies | /ws: accepted | answered |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |\n| {kills} | {sent} | {sent} | {copies} | {said} | {said} |");
    assert!(sent > 0 && said > 0, "nothing was said");
}

/// Kills the gateway at random moments of its life. Returns for each death when it was ordered, and when it was done.
async fn kill_often(
    gateway: &mut TestGateway,
    kills: u64,
    seed: u64,
    stage: &watch::Sender<Stage>,
) -> Vec<(Instant, Instant)> {
    let mut moments = Dice::new(seed);
    let mut deaths = Vec::new();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(moments.within(LIFE_MS))).await;
        let ordered = Instant::now();
        gateway.kill().await;
        deaths.push((ordered, Instant::now()));
        gateway.restart().await;
        let address = gateway.address();
        stage.send_modify(|stage| stage.address = address);
    }
    deaths
}

/// Checks a conversation's deliveries: all of them, in order, and each copy explained by a death between it and the one
/// before. Returns the number of copies.
fn check(conversation: &str, count: usize, taken: &[Delivery], deaths: &[(Instant, Instant)]) -> usize {
    let mut last_by_key: HashMap<&str, Instant> = HashMap::new();
    let mut firsts = Vec::new();
    for one in taken {
        match last_by_key.insert(&one.key, one.at) {
            None => firsts.push(one.text.clone()),
            Some(before) => {
                let explains = |(ordered, done): &(Instant, Instant)| *ordered <= one.at && before <= *done + UNDER_WAY;
                assert!(
                    deaths.iter().any(explains),
                    "{conversation}: a copy of {:?} without a death",
                    one.text
                );
            }
        }
    }
    let expected: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    assert_eq!(
        firsts, expected,
        "{conversation}: every accepted message answered, once and in order"
    );
    taken.len() - firsts.len()
}

/// What a talker did: its conversation, and how many messages of it were accepted.
type Talk = (String, usize);

async fn ended(talkers: Vec<JoinHandle<Talk>>) -> Vec<Talk> {
    let mut talks = Vec::new();
    for talker in talkers {
        let talk = tokio::time::timeout(PATIENCE, talker)
            .await
            .expect("a talker ends when it is told to");
        talks.push(talk.expect("a talker does not fail"));
    }
    talks
}

/// Posts messages, each until it was confirmed, as a platform does.
async fn post(conversation: String, mut stage: watch::Receiver<Stage>) -> Talk {
    let mut count = 0;
    while stage.borrow().goes_on {
        let text = count.to_string();
        let id = format!("{conversation}-{count}");
        let body = json!({"id": id, "conversation": conversation, "sender": "ada", "text": text}).to_string();
        loop {
            let address = stage.borrow_and_update().address;
            match http::request(address, "POST", "/hooks/hook", &[], body.as_bytes()).await {
                Ok(answer) if answer.status == 200 => break,
                // Going down, or not up yet: not confirmed.
                _ => wait_for_change(&mut stage).await,
            }
        }
        count += 1;
    }
    (conversation, count)
}

/// Waits until the gateway lives again, or a moment where it never died.
async fn wait_for_change(stage: &mut watch::Receiver<Stage>) {
    // Without a change the same request is tried again, as a platform would: it may have been refused for a moment.
    let _ = tokio::time::timeout(Duration::from_millis(100), stage.changed()).await;
}

/// Says messages over `/ws`, each until it was accepted; goes on until every one is answered, in order.
async fn chat(conversation: String, mut stage: watch::Receiver<Stage>) -> Talk {
    let mut talker = Talker {
        conversation,
        accepted: 0,
        answered: Vec::new(),
        keys: HashMap::new(),
    };
    loop {
        let address = stage.borrow_and_update().address;
        if let Some(mut client) = WsClient::try_connect(address, "/ws").await
            && talker.converse(&mut client, &stage).await.is_some()
        {
            return (talker.conversation, talker.accepted);
        }
        wait_for_change(&mut stage).await;
    }
}

struct Talker {
    conversation: String,
    accepted: usize,
    /// What was answered, in the order of the first arrival.
    answered: Vec<usize>,
    /// The delivery key of each answer: a copy has the same.
    keys: HashMap<usize, Value>,
}

impl Talker {
    /// Talks until the connection ends (none), or until there is nothing more to say and everything is answered.
    async fn converse(&mut self, client: &mut WsClient, stage: &watch::Receiver<Stage>) -> Option<()> {
        let attach = json!({"type": "attach", "conversation": self.conversation});
        if !client.try_send(&attach).await {
            return None;
        }
        while stage.borrow().goes_on {
            self.say(client).await?;
        }
        while self.answered.len() < self.accepted {
            let frame = client.next().await?;
            self.take(&frame);
        }
        Some(())
    }

    /// Says the next message and waits until it is accepted.
    async fn say(&mut self, client: &mut WsClient) -> Option<()> {
        let id = self.accepted.to_string();
        let frame = json!({"type": "message", "id": id, "conversation": self.conversation, "text": id});
        loop {
            if !client.try_send(&frame).await {
                // The gateway is dead. What it handed over before that is here: whoever asks for no acknowledgements must
                // read it.
                while let Some(frame) = client.next().await {
                    self.take(&frame);
                }
                return None;
            }
            if self.is_accepted(&id, client).await? {
                self.accepted += 1;
                return Some(());
            }
            // It dies so often that as much waits as may. The next answer makes room.
            let answer = client.next().await?;
            self.take(&answer);
        }
    }

    /// Reads until the message was accepted, or refused.
    async fn is_accepted(&mut self, id: &str, client: &mut WsClient) -> Option<bool> {
        loop {
            let frame = client.next().await?;
            let is_accepted = frame["type"] == "accepted";
            if is_accepted || frame["code"] == "refused" {
                assert_eq!(frame["id"], id, "{frame}");
                return Some(is_accepted);
            }
            self.take(&frame);
        }
    }

    fn take(&mut self, frame: &Value) {
        if frame["type"] != "reply" {
            assert_eq!(frame["type"], "attached", "{frame}");
            return;
        }
        let number: usize = frame["text"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("an echo of a number");
        match self.keys.insert(number, frame["delivery_key"].clone()) {
            None => {
                assert_eq!(
                    number,
                    self.answered.len(),
                    "{}: answers keep their order",
                    self.conversation
                );
                self.answered.push(number);
            }
            Some(before) => assert_eq!(before, frame["delivery_key"], "a copy has the key of its original"),
        }
    }
}

/// Reads a number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}: it must be a whole number")),
        Err(_) => default,
    }
}
