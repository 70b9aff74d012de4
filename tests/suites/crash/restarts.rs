//! Kills during turns and right after the model's answer, also several in a row: everyone gets one answer, soon.
//!
//! `SLUICEGATE_TURN_KILLS` says how many turns are killed at each of the two moments (5).

use std::time::{Duration, Instant};

use harness::{FakePlatform, MockModel, Setup, TestGateway};

/// How long after the start of the process the answer may be under way, with an optimised binary. The others are slower.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
/// Every so many turns, the gateway is killed three times more before it may work.
const ROW_EVERY: usize = 5;

struct Scene {
    model: MockModel,
    platform: FakePlatform,
    gateway: TestGateway,
}

/// What the killed turns of one moment cost.
#[derive(Debug, Default)]
struct Cost {
    already_out: usize,
    asked_again: usize,
    slowest: Duration,
}

impl Scene {
    /// Says something, kills the gateway at the moment, starts it again, and looks at what arrives.
    async fn kill_one(&mut self, conversation: &str, after_the_answer: bool, in_a_row: usize, cost: &mut Cost) {
        let answer = format!("re: {conversation}");
        if !after_the_answer {
            self.model.hold();
        }
        self.gateway
            .tell("hook", conversation, conversation, conversation)
            .await;
        if after_the_answer {
            let finished = |all: &[String]| all.contains(&answer).then_some(());
            self.model.finished().wait_for("the model's answer", finished).await;
        } else {
            let is_asked = |all: &[serde_json::Value]| all.iter().any(|one| one.to_string().contains(conversation));
            let asked = |all: &[serde_json::Value]| is_asked(all).then_some(());
            self.model.asked().wait_for("the model is asked", asked).await;
        }
        self.gateway.kill().await;
        for _ in 0..in_a_row {
            self.gateway.restart().await;
            self.gateway.kill().await;
        }
        cost.already_out += usize::from(!self.platform.accepted(conversation).is_empty());
        self.model.release();
        let started = Instant::now();
        self.gateway.restart().await;
        let taken = self.platform.wait_for_accepted(conversation, 1).await;
        cost.slowest = cost.slowest.max(taken[0].at.saturating_duration_since(started));
        self.gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
        self.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        let taken = self.platform.accepted(conversation);
        assert!(
            taken.iter().all(|one| one.text == answer && one.key == taken[0].key),
            "one answer and nothing else: {taken:?}"
        );
        let asked = self.model.times_asked(conversation);
        assert!(asked <= 2 + in_a_row, "{conversation}: asked {asked} times");
        cost.asked_again += usize::from(asked > 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_is_answered_soon_however_often_the_gateway_is_killed() {
    let count = crate::kill_loop::number("SLUICEGATE_TURN_KILLS", 5);
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    let mut scene = Scene {
        model,
        platform,
        gateway,
    };
    println!("| killed | turns | answered | out before the kill | asked again | slowest first byte after the start |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (moment, after_the_answer) in [("during the turn", false), ("right after the model's answer", true)] {
        let mut cost = Cost::default();
        for n in 0..count {
            let n = usize::try_from(n).expect("so many kills are never ordered");
            let in_a_row = if n.is_multiple_of(ROW_EVERY) { 3 } else { 0 };
            let conversation = format!("{}{n}", if after_the_answer { "after" } else { "during" });
            scene
                .kill_one(&conversation, after_the_answer, in_a_row, &mut cost)
                .await;
        }
        let (out, again, slowest) = (cost.already_out, cost.asked_again, cost.slowest.as_millis());
        println!("| {moment} | {count} | {count} | {out} | {again} | {slowest} ms |");
        assert!(cost.slowest < FIRST_BYTE_MAX, "{cost:?}");
    }
}

/// The answer is durable before anything of it leaves: once the platform has seen it, no crash asks for it again.
#[tokio::test]
async fn an_answer_that_was_on_its_way_out_is_never_asked_for_again() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    for round in 0..4 {
        let conversation = format!("c{round}");
        platform.next(&conversation, [harness::Act::Hang]);
        gateway.tell("hook", &conversation, &conversation, &conversation).await;
        platform.wait_for_arrived(&conversation, 1).await;
        gateway.crash().await;
        platform.wait_for_accepted(&conversation, 1).await;
        gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
        assert_eq!(model.times_asked(&conversation), 1);
    }
}
