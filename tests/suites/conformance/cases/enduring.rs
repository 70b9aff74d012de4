//! What a channel survives. All but the first have the gateway for themselves.

use harness::{MockModel, TestGateway};

use super::{CHANNEL, Stage};
use crate::platform::{Platform, Refusal};

fn stage<'a>(platform: &'a dyn Platform, gateway: &'a TestGateway, model: &'a MockModel) -> Stage<'a> {
    Stage {
        platform,
        gateway,
        model,
    }
}

/// Updates that nobody understands are passed over, and what comes after them is answered.
pub(super) async fn malformed(stage: &Stage<'_>) {
    let room = stage.platform.room().await;
    stage.platform.malformed(&room).await;
    stage.exchange(&room).await;
    stage.wait_for_status("up").await;
}

/// After every connection was dropped the next message is answered.
pub(super) async fn reconnect(platform: &dyn Platform, gateway: &mut TestGateway, model: &MockModel) {
    let stage = stage(platform, gateway, model);
    let room = platform.room().await;
    stage.exchange(&room).await;
    platform.drop_connections().await;
    stage.exchange(&room).await;
    stage.wait_for_status("up").await;
}

/// Refused credentials pause the channel; its answer waits, and goes out once the operator has mended it.
pub(super) async fn unauthorized(platform: &dyn Platform, gateway: &mut TestGateway, model: &MockModel) {
    let (room, answer) = {
        let stage = stage(platform, gateway, model);
        let room = platform.room().await;
        platform.refuse_next(&room, Refusal::Unauthorized).await;
        let answer = stage.word("answer");
        stage.let_bot_say(&room, &answer).await;
        stage.wait_for_status("paused").await;
        (room, answer)
    };
    platform.forgive().await;
    gateway.terminate().await;
    gateway.restart().await;
    platform.gateway_is_up(gateway).await;
    let stage = stage(platform, gateway, model);
    stage.wait_for_text(&room, &answer).await;
    stage.assert_said_once(&room, &answer).await;
}

/// A platform that refuses who receives pauses the channel; once the operator has mended it and resumes the channel, it
/// receives again.
pub(super) async fn receiver_refused(platform: &dyn Platform, gateway: &mut TestGateway, model: &MockModel) {
    {
        let stage = stage(platform, gateway, model);
        stage.exchange(&platform.room().await).await;
        platform.refuse_receiver().await;
        stage.wait_for_status("paused").await;
        platform.forgive().await;
        let resumed = gateway
            .admin("POST", &format!("channels/{CHANNEL}/resume"), b"{}")
            .await;
        assert_eq!(resumed["done"], "resumed", "{resumed}");
    }
    platform.gateway_is_up(gateway).await;
    let stage = stage(platform, gateway, model);
    stage.exchange(&platform.room().await).await;
    stage.wait_for_status("up").await;
}

/// What was answered before the process died is not answered again; what people said meanwhile is.
pub(super) async fn restart(platform: &dyn Platform, gateway: &mut TestGateway, model: &MockModel) {
    let (room, before, while_away, answer) = {
        let stage = stage(platform, gateway, model);
        let room = platform.room().await;
        let before = stage.exchange(&room).await;
        gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        (room, before.text, stage.word("away"), stage.word("answer"))
    };
    gateway.kill().await;
    model.when(&while_away, harness::Saying::Answer(answer.clone()));
    platform.say(&room, &while_away).await;
    gateway.restart().await;
    platform.gateway_is_up(gateway).await;
    let stage = stage(platform, gateway, model);
    stage.wait_for_text(&room, &answer).await;
    let last = stage.exchange(&room).await;
    assert_eq!(model.heard(&while_away).len(), 1, "asked once");
    stage.assert_said(&room, &[&before, &answer, &last.text]).await;
}

/// A restart never leaves two receivers of one account at the platform.
pub(super) async fn one_receiver(platform: &dyn Platform, gateway: &mut TestGateway, model: &MockModel) {
    gateway.terminate().await;
    gateway.restart().await;
    platform.gateway_is_up(gateway).await;
    let stage = stage(platform, gateway, model);
    let room = platform.room().await;
    stage.exchange(&room).await;
    assert_eq!(platform.receivers_max().await, 1, "receivers at once");
}
