//! A machine whose clock is set while the gateway runs, or while it does not: nothing is lost or sent twice, nothing
//! expires of it, and what waits is neither sent before its time nor put off by the jump.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use harness::{Act, Delivery, FakePlatform, MockModel, Saying, Setup, TestGateway, WallClock};
use serde_json::json;

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
/// How long the platform asks to wait, seconds.
const WAIT_S: u64 = 6;
/// What a busy machine may add to a wait: far less than any jump.
const LATE_MAX: Duration = Duration::from_secs(15);

struct Scene {
    clock: WallClock,
    platform: FakePlatform,
    model: MockModel,
    gateway: TestGateway,
}

/// Starts a gateway that was told one thing, whose answer the platform took, and one whose answer must wait
/// [`WAIT_S`] seconds. None where this machine has nothing to set a clock with.
#[expect(clippy::print_stdout, reason = "says why nothing is proved on this machine")]
async fn waiting() -> Option<Scene> {
    let clock = match WallClock::new() {
        Ok(clock) => clock,
        Err(why) => {
            println!("skipped: {why}");
            return None;
        }
    };
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let setup = Setup::new().model(&model).webhook("hook", &platform);
    let gateway = clock.shown_to(setup).start().await;
    gateway.tell("hook", "m0", "c0", "zero").await;
    platform.wait_for_accepted("c0", 1).await;
    platform.next("c1", [Act::RefuseFor(WAIT_S)]);
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway.tell("hook", "m2", "c1", "two").await;
    gateway.wait_for_log(&["the platform asked to wait"]).await;
    gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
    Some(Scene {
        clock,
        platform,
        model,
        gateway,
    })
}

impl Scene {
    /// Sets the clock, and waits until the gateway has seen it.
    async fn set(&self, jump_s: i64) {
        self.clock.set(jump_s);
        self.gateway.wait_for_log(&["the machine's clock was set"]).await;
    }

    /// Expects each message answered once, in its order and at its time, and what came before the jump still known.
    async fn all_is_as_if_nothing_had_been(&self) {
        let taken = self.platform.wait_for_accepted("c1", 2).await;
        let arrived = self.platform.wait_for_arrived("c1", 3).await;
        let texts = |all: &[Delivery]| all.iter().map(|one| one.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&taken), ["re: one", "re: two"]);
        assert_eq!(texts(&arrived), ["re: one", "re: one", "re: two"]);
        let waited = arrived[1].at.duration_since(arrived[0].at);
        let asked = Duration::from_secs(WAIT_S);
        assert!(
            waited + Duration::from_millis(100) >= asked && waited < asked + LATE_MAX,
            "{waited:?}"
        );
        for (id, conversation) in [("m0", "c0"), ("m1", "c1")] {
            let again = json!({"id": id, "conversation": conversation, "sender": "ada", "text": "again"});
            assert_eq!(
                self.gateway.post("hook", &again).await.text(),
                r#"{"status":"duplicate"}"#
            );
        }
        self.gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        self.gateway.tell("hook", "m3", "c0", "three").await;
        self.platform.wait_for_accepted("c0", 2).await;
        assert_eq!(self.platform.arrived().len(), 5, "nothing else was sent");
        assert!(self.gateway.metric("sluicegate_dead_letters", "").await < 0.5);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forwards_by_an_hour_hurries_nothing() {
    let Some(scene) = waiting().await else { return };
    scene.set(HOUR_S).await;
    scene.all_is_as_if_nothing_had_been().await;
}

#[tokio::test]
async fn a_clock_that_is_set_forwards_by_more_than_an_expiry_lets_nothing_expire() {
    let Some(scene) = waiting().await else { return };
    scene.set(DAY_S + HOUR_S).await;
    scene.all_is_as_if_nothing_had_been().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_by_a_day_puts_nothing_off() {
    let Some(scene) = waiting().await else { return };
    scene.set(-DAY_S).await;
    scene.all_is_as_if_nothing_had_been().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_while_the_gateway_was_down_puts_nothing_off() {
    let Some(mut scene) = waiting().await else { return };
    scene.gateway.kill().await;
    scene.clock.set(-DAY_S);
    scene.gateway.restart().await;
    scene.all_is_as_if_nothing_had_been().await;
}

#[tokio::test]
async fn a_turn_that_is_to_be_run_again_keeps_its_wait_when_the_clock_is_set_back() {
    let Some(scene) = waiting().await else { return };
    scene.model.next([Saying::Busy(WAIT_S)]);
    let asked = scene.model.asked().len();
    scene.gateway.tell("hook", "m4", "c4", "four").await;
    scene.model.asked().wait_for_len("the model is asked", asked + 1).await;
    let began = Instant::now();
    scene
        .gateway
        .wait_for_metric("sluicegate_turns_failed_total", 1.0)
        .await;
    scene.set(-DAY_S).await;
    scene
        .model
        .asked()
        .wait_for_len("the model is asked again", asked + 2)
        .await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(WAIT_S) + LATE_MAX, "{waited:?}");
    scene.platform.wait_for_accepted("c4", 1).await;
}
