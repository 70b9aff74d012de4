//! During and after a turn: the model may be asked again, the person gets one answer.

use harness::{FakePlatform, MockModel, Setup, Signal};

#[tokio::test]
async fn a_turn_that_was_cut_off_runs_again_and_is_answered_once() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.hold();
    gateway.tell("hook", "m1", "c1", "hi").await;
    model.asked().wait_for_len("the model is asked", 1).await;
    gateway.crash().await;
    model.release();
    gateway.tell("hook", "m2", "c1", "next").await;
    let texts: Vec<String> = platform
        .wait_for_accepted("c1", 2)
        .await
        .into_iter()
        .map(|one| one.text)
        .collect();
    assert_eq!(texts, ["re: hi", "re: next"]);
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!((platform.arrived().len(), model.times_asked("hi")), (2, 2));
}

#[tokio::test]
async fn an_answer_that_the_model_has_just_finished_is_delivered_once() {
    let model = MockModel::start().await;
    for round in 0..6 {
        // Nothing can go out before the kill, so nothing is ambiguous.
        let platform = FakePlatform::start_down();
        let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
        let text = format!("question {round}");
        gateway.tell("hook", "m1", "c1", &text).await;
        let answer = format!("re: {text}");
        let finished = |all: &[String]| all.contains(&answer).then_some(());
        model
            .finished()
            .wait_for("the model's answer is written to its end", finished)
            .await;
        gateway.kill().await;
        platform.come_up();
        gateway.restart().await;
        platform.wait_for_accepted("c1", 1).await;
        gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
        assert_eq!(platform.arrived().len(), 1, "one answer in round {round}");
        let asked = model.times_asked(&text);
        assert!(asked <= 2, "asked {asked} times in round {round}");
    }
}

#[tokio::test]
async fn a_committed_turn_is_delivered_after_a_kill_without_asking_the_model_again() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start_down());
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;
    gateway.kill().await;
    platform.come_up();
    gateway.restart().await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text, "re: hi");
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!((platform.arrived().len(), model.times_asked("hi")), (1, 1));
}

#[tokio::test]
async fn the_history_holds_each_exchange_once_after_a_kill() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 1.0)
        .await;
    gateway.crash().await;
    model.hold();
    gateway.tell("hook", "m2", "c1", "two").await;
    model.asked().wait_for_len("the model is asked", 2).await;
    gateway.crash().await;
    model.release();
    platform.wait_for_accepted("c1", 2).await;
    gateway.tell("hook", "m3", "c1", "three").await;
    platform.wait_for_accepted("c1", 3).await;
    let asked = model.asked().all();
    let last = asked
        .last()
        .and_then(|body| body["messages"].as_array())
        .cloned()
        .unwrap_or_default();
    let contents: Vec<&str> = last.iter().filter_map(|message| message["content"].as_str()).collect();
    assert_eq!(contents, ["one", "re: one", "two", "re: two", "three"]);
}

#[tokio::test]
async fn a_kill_during_the_drain_loses_nothing() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.hold();
    gateway.tell("hook", "m1", "c1", "hi").await;
    model.asked().wait_for_len("the model is asked", 1).await;
    gateway.program().signal(Signal::Terminate);
    gateway.wait_for_log(&["stopping"]).await;
    gateway.kill().await;
    gateway.restart().await;
    model.release();
    platform.wait_for_accepted("c1", 1).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(platform.arrived().len(), 1);
}
