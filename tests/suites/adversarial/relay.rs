//! Listeners that lie to their own deliveries: the host knows what was taken and what was answered, whatever a guest says.

use sluicegate::delivery::Attempt;

use crate::support::{Hostile, Rig};

/// Starts a channel whose listener treats requests so.
async fn serving(how: &str) -> (Hostile, tokio::task::JoinHandle<sluicegate::channel::Ended>) {
    let rig = Rig::new()
        .setting("listener", &format!("relay_serve {how}"))
        .ample_cpu()
        .up()
        .await;
    let listening = tokio::spawn(rig.channel.clone().listen());
    (rig, listening)
}

/// What the guest was told, from the id that it made of it.
fn told(attempt: &Attempt) -> &str {
    let receipt = attempt
        .result
        .as_ref()
        .expect("the guest gives a receipt, whatever it was told");
    &receipt.message_ids[0]
}

async fn ended(rig: Hostile, listening: tokio::task::JoinHandle<sluicegate::channel::Ended>) {
    rig.channel.services().listening.cancel();
    listening.await.expect("no panic");
    rig.survived().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_takes_a_delivery_and_does_not_answer_it_leaves_it_ambiguous() {
    let mut lies = tokio::task::JoinSet::new();
    for how in ["never", "guess", "huge", "return"] {
        lies.spawn(async move {
            let (rig, listening) = serving(how).await;
            let attempt = rig.deliver("relay_ask 6000").await;
            assert_eq!(told(&attempt), "Err(RelayError::Unanswered)", "{how}");
            assert!(attempt.bytes_left, "{how}: it may have been sent");
            ended(rig, listening).await;
        });
    }
    while let Some(lie) = lies.join_next().await {
        lie.expect("no panic");
    }
    let (rig, listening) = serving("true").await;
    let attempt = rig.deliver("relay_ask 20000").await;
    assert_eq!(
        (told(&attempt), attempt.bytes_left),
        ("Ok(\"sent\")", false),
        "the first answer counts"
    );
    ended(rig, listening).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_answers_for_its_own_channel_only_and_nobody_else_for_it() {
    let (other, others) = serving("guess").await;
    // Without a listener of its own nothing takes the request, however many numbers another channel's listener answers.
    let alone = Rig::new().ample_cpu().up().await;
    let (attempt, _) = tokio::join!(alone.deliver("relay_ask 1000"), other.deliver("relay_ask 1000"));
    assert_eq!(
        (told(&attempt), attempt.bytes_left),
        ("Err(RelayError::NotTaken)", false)
    );

    // An instance that is not the listener takes nothing, answers nothing and abandons nothing.
    let (honest, listening) = serving("never").await;
    let waits = honest.deliver("relay_ask 2000");
    let robs = async {
        let reported = honest.report("relay_ask flood").await;
        assert_eq!(reported, "Err(RelayError::TooLarge), 0 stolen");
    };
    let (attempt, ()) = tokio::join!(waits, robs);
    assert_eq!(told(&attempt), "Err(RelayError::Unanswered)", "nobody forged an answer");
    ended(other, others).await;
    ended(honest, listening).await;
    alone.survived().await;
}
