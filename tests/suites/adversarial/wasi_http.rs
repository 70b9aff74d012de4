//! Guests that use the host's `wasi:http` to have it keep more than it can, which needs no grant and no server.

use harness::http::{Reply, Response};
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
    // Nobody granted the server they are for.
    let reported = rig.report("wasi_uploads 12 20").await;
    let [requests, taken] = numbers(&reported)[..] else {
        panic!("{reported}")
    };
    // Of each, two pieces are on their way beside what was counted.
    let on_their_way = requests * 3 * limit::GUEST_HTTP_PIECE_BYTES_MAX;
    assert_eq!(requests, 12, "{reported}");
    assert!(taken <= limit::CHANNEL_KEPT_BYTES_MAX + on_their_way, "{reported}");
    assert!(taken >= limit::CHANNEL_KEPT_BYTES_MAX / 2, "{reported}");
    assert_eq!(
        numbers(&rig.report("wasi_uploads 1 20").await)[1],
        20 * MIB,
        "it is given back with the instance"
    );
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
    let reported = rig.report("wasi_fields").await;
    let [lists, bytes] = numbers(&reported)[..] else {
        panic!("{reported}")
    };
    assert!(bytes <= lists * limit::GUEST_HEADER_BYTES_MAX, "{reported}");
    assert!(bytes <= 32 * MIB, "{reported}");
    rig.survived().await;
}
