//! Guests that want more memory than there is: the bound is that of the whole store, and of all instances together.

use sluicegate::channel::CallError;
use sluicegate::limit;

use crate::support::Rig;

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_guest_that_allocates_for_ever_is_refused_at_its_bound() {
    let rig = Rig::new().ample_cpu().up().await;
    let attempt = rig.deliver("allocate").await;
    let reported = attempt
        .result
        .expect("the guest hears that there is no more")
        .message_ids;
    let mebibytes: u64 = reported[0]
        .strip_prefix("refused after ")
        .and_then(|rest| rest.strip_suffix(" MiB"))
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{reported:?}"));
    assert!((16..32).contains(&mebibytes), "{mebibytes} MiB of 32");
    assert!(rig.usage().memory_bytes_high.get() <= 32 * MIB as u64);
    assert_eq!(rig.channel.services().share.memory_bytes(), 0, "it is given back");
    rig.survived().await;
}

#[tokio::test]
async fn the_stack_of_a_guest_ends_long_before_the_hosts_own() {
    let rig = Rig::new().up().await;
    assert_eq!(rig.trap("recurse").await, "it ran out of stack");
    rig.survived().await;
}

#[tokio::test]
async fn the_instances_of_one_channel_have_a_bound_together() {
    let rig = Rig::new().ample_cpu().up().await;
    let calls = (0..2 * limit::CHANNEL_MEMORY_INSTANCES_MAX).map(|_| rig.webhook("idle 28"));
    let outcomes = futures_util::future::join_all(calls).await;
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(CallError::Trapped(_))))
        .count();
    assert!(
        refused >= limit::CHANNEL_MEMORY_INSTANCES_MAX - 2,
        "{refused} refused: {outcomes:?}"
    );
    assert!(refused < outcomes.len(), "some have their memory");
    rig.survived().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_instances_of_a_channel_hand_to_the_host_at_once_is_bounded() {
    let rig = std::sync::Arc::new(Rig::new().ample_cpu().up().await);
    assert_eq!(rig.report("large_body 12").await, "refused", "one may hand over much");
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..limit::GUEST_LARGE_HOSTCALLS_MAX {
        let rig = std::sync::Arc::clone(&rig);
        busy.spawn(async move { drop(rig.deliver("idle 8").await) });
    }
    // Three of them and what an instance has besides do not make up so much: all four are there.
    let memory_bytes = || rig.channel.services().share.memory_bytes();
    harness::eventually("all of them", async || (memory_bytes() >= 4 * 8 * MIB).then_some(())).await;
    let among_many = rig.webhook("large_body 12").await;
    assert!(matches!(among_many, Err(CallError::Trapped(_))), "{among_many:?}");
    assert_eq!(
        rig.report("large_body 4").await,
        "refused",
        "an ordinary amount is for all"
    );
    while let Some(ended) = busy.join_next().await {
        ended.expect("no panic");
    }
    assert_eq!(
        rig.report("large_body 12").await,
        "refused",
        "and much again after them"
    );
    let rig = std::sync::Arc::into_inner(rig).expect("nobody else has it");
    rig.survived().await;
}
