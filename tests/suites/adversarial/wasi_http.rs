//! Guests that use the host's `wasi:http` to have it keep more than it can, which needs no grant and no server.

use harness::http::{Reply, Response};
use sluicegate::channel::CallError;
use sluicegate::delivery::Failure;
use sluicegate::limit;

use crate::network::server;
use crate::support::Rig;

const MIB: usize = 1024 * 1024;

/// The numbers of a report, in order.
fn numbers(report: &str) -> Vec<usize> {
    report.split(' ').filter_map(|word| word.parse().ok()).collect()
}

#[tokio::test]
async fn bodies_that_are_begun_and_never_ended_are_bounded_together() {
    let rig = Rig::new().ample_cpu().up().await;
    let held = limit::CHANNEL_KEPT_BYTES_MAX / (20 * MIB);
    for round in 0..2 {
        // Nobody granted the server that they are for.
        let reported = rig.report("wasi_uploads 12 20").await;
        assert_eq!(reported, format!("{held} held {} refused", 12 - held), "round {round}");
    }
    rig.survived().await;
}

#[tokio::test]
async fn answers_that_a_guest_keeps_and_does_not_read_are_bounded_together() {
    const ANSWER_BYTES: usize = 4 * MIB;
    let (_server, address) = server(|_| Reply::Whole(Response::new(200, "x".repeat(ANSWER_BYTES)))).await;
    let rig = Rig::new().grant(&format!("http://{address}")).ample_cpu().up().await;
    let kept = limit::CHANNEL_KEPT_BYTES_MAX / ANSWER_BYTES;
    for round in 0..2 {
        let reported = rig.report(&format!("wasi_unread {} {address}", kept + 8)).await;
        let [answers, refused] = numbers(&reported)[..] else {
            panic!("{reported}")
        };
        // What their headers take besides.
        assert!((kept - 1..=kept).contains(&answers), "round {round}: {reported}");
        assert_eq!(answers + refused, kept + 8, "round {round}: {reported}");
    }
    rig.survived().await;
}

#[tokio::test]
async fn a_request_that_is_put_together_and_never_sent_has_short_words_only() {
    let rig = Rig::new().ample_cpu().up().await;
    let reported = rig.report("wasi_words").await;
    assert_eq!(
        reported,
        format!(
            "method {0} authority {0} path {1}",
            limit::GUEST_HTTP_WORD_BYTES_MAX,
            limit::URL_BYTES_MAX
        )
    );
    assert_eq!(rig.report("wasi_fields 12").await, "1900 lists");
    let longer = rig
        .webhook(&format!("wasi_fields {}", limit::GUEST_HEADER_BYTES_MAX / 1024 + 1))
        .await;
    assert!(matches!(longer, Err(CallError::Trapped(_))), "{longer:?}");
    rig.survived().await;
}

#[tokio::test]
async fn lists_of_headers_are_bounded_for_all_instances_together() {
    const LIST_KIB: usize = 12;
    let rig = Rig::new().ample_cpu().up().await;
    let hold = format!("wasi_fields {LIST_KIB} 2000");
    let held_max = limit::CHANNEL_KEPT_BYTES_MAX / (1900 * LIST_KIB * 1024);
    for round in 0..2 {
        let together = futures_util::future::join_all((0..2 * held_max).map(|_| rig.deliver(&hold))).await;
        let ended: Vec<_> = together.into_iter().map(|attempt| attempt.result).collect();
        let held = ended.iter().filter(|it| it.is_ok()).count();
        assert!((1..=held_max).contains(&held), "round {round}: {held} of {ended:?}");
        for other in ended {
            assert!(matches!(&other, Ok(_) | Err(Failure::Trapped(_))), "{other:?}");
        }
    }
    rig.survived().await;
}
