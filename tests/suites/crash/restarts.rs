//! Kills during turns and after the model's answer, also several in a row: everyone gets one answer, soon.
//!
//! `SLUICEGATE_TURN_KILLS` says how many turns are killed at each of the moments (3).

use std::time::{Duration, Instant};

use harness::{FakePlatform, MockModel, Setup, TestGateway};

/// How long after the start of the process the answer may be under way, with an optimised binary. The others are slower.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
/// In every so many turns that were not answered yet, the gateway is killed three times more before it may work. Not in
/// the others: killed twice while it sends, it rather asks the operator than sends a third time to a platform that can
/// neither drop copies nor be asked (`ambiguous_resends`).
const ROW_EVERY: usize = 5;
/// Turns without a kill, by which the window is measured.
const UNDISTURBED: usize = 20;
/// When the gateway is killed, after the last byte of the model's answer.
const DELAYS_MS: [u64; 5] = [0, 2, 5, 10, 20];

/// When a turn's gateway is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The model was asked and has not answered.
    Thinking,
    /// So long after the last byte of the model's answer.
    Answered(Duration),
}

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
    async fn start() -> Self {
        let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
        let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
        Self {
            model,
            platform,
            gateway,
        }
    }

    /// Says something and waits for the last byte of the model's answer. Returns when that was written.
    async fn answered(&self, conversation: &str) -> Instant {
        self.gateway
            .tell("hook", conversation, conversation, conversation)
            .await;
        let answer = format!("re: {conversation}");
        let finished = |all: &[String]| all.contains(&answer).then(Instant::now);
        self.model.finished().wait_for("the model's answer", finished).await
    }

    async fn asked(&self, conversation: &str) {
        self.gateway
            .tell("hook", conversation, conversation, conversation)
            .await;
        let is_asked = |all: &[serde_json::Value]| all.iter().any(|one| one.to_string().contains(conversation));
        let asked = |all: &[serde_json::Value]| is_asked(all).then_some(());
        self.model.asked().wait_for("the model is asked", asked).await;
    }

    /// Says something, kills the gateway at the moment, starts it again, and looks at what arrives.
    async fn kill_one(&mut self, conversation: &str, moment: Moment, in_a_row: usize, cost: &mut Cost) {
        match moment {
            Moment::Thinking => {
                self.model.hold();
                self.asked(conversation).await;
            }
            Moment::Answered(delay) => {
                let at = self.answered(conversation).await;
                // The moment of the kill: it is what is tried out here.
                tokio::time::sleep(delay.saturating_sub(at.elapsed())).await;
            }
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
        let answer = format!("re: {conversation}");
        assert!(
            taken.iter().all(|one| one.text == answer && one.key == taken[0].key),
            "one answer and nothing else: {taken:?}"
        );
        let asked = self.model.times_asked(conversation);
        assert!(asked <= 2 + in_a_row, "{conversation}: asked {asked} times");
        cost.asked_again += usize::from(asked > 1);
    }

    /// Returns how long after the model's last byte an answer has reached the platform, sorted. It is stored before, so
    /// these are upper bounds of the time in which a kill still costs a second call.
    async fn windows(&self) -> Vec<Duration> {
        let mut windows = Vec::new();
        for n in 0..UNDISTURBED {
            let conversation = format!("undisturbed{n}");
            let at = self.answered(&conversation).await;
            let taken = self.platform.wait_for_accepted(&conversation, 1).await;
            windows.push(taken[0].at.saturating_duration_since(at));
        }
        windows.sort();
        windows
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_is_answered_soon_however_often_the_gateway_is_killed() {
    let count = usize::try_from(crate::kill_loop::number("SLUICEGATE_TURN_KILLS", 3)).expect("not so many kills");
    let mut scene = Scene::start().await;
    let windows = scene.windows().await;
    println!(
        "from the model's last byte to the answer's arrival at the platform: {:?} (median of {UNDISTURBED}), at most {:?}",
        windows[UNDISTURBED / 2],
        windows[UNDISTURBED - 1]
    );
    println!("| killed | turns | answered | out before the kill | asked again | slowest first byte after the start |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let answered = DELAYS_MS.map(|ms| Moment::Answered(Duration::from_millis(ms)));
    for moment in [Moment::Thinking].into_iter().chain(answered) {
        let mut cost = Cost::default();
        for n in 0..count {
            let is_row = matches!(moment, Moment::Thinking) && n.is_multiple_of(ROW_EVERY);
            let in_a_row = if is_row { 3 } else { 0 };
            let conversation = format!("{moment:?}-{n}");
            scene.kill_one(&conversation, moment, in_a_row, &mut cost).await;
        }
        let name = match moment {
            Moment::Thinking => "during the turn".to_owned(),
            Moment::Answered(delay) => format!("{} ms after the model's last byte", delay.as_millis()),
        };
        let (out, again, slowest) = (cost.already_out, cost.asked_again, cost.slowest.as_millis());
        println!("| {name} | {count} | {count} | {out} | {again} | {slowest} ms |");
        assert!(cost.slowest < FIRST_BYTE_MAX, "{cost:?}");
    }
}

/// The answer is durable before anything of it leaves: once the platform has seen it, no crash asks for it again.
#[tokio::test]
async fn an_answer_that_was_on_its_way_out_is_never_asked_for_again() {
    let mut scene = Scene::start().await;
    for round in 0..4 {
        let conversation = format!("c{round}");
        scene.platform.next(&conversation, [harness::Act::Hang]);
        scene
            .gateway
            .tell("hook", &conversation, &conversation, &conversation)
            .await;
        scene.platform.wait_for_arrived(&conversation, 1).await;
        scene.gateway.crash().await;
        scene.platform.wait_for_accepted(&conversation, 1).await;
        scene.gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
        assert_eq!(scene.model.times_asked(&conversation), 1);
    }
}
