//! The pages for supervisors and operators.

use harness::{FakePlatform, Setup};

#[tokio::test]
async fn it_says_that_it_lives_and_is_ready_and_goes_with_0_when_told() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    let live = gateway.get("/live").await;
    assert_eq!((live.status, live.text().as_str()), (200, "live\n"));
    let ready = gateway.get("/ready").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
    assert_eq!(gateway.get("/nothing/here").await.status, 404);
    assert_eq!(gateway.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn the_metrics_count_what_went_in_and_out() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    for id in ["m1", "m2", "m3"] {
        gateway.tell("hook", id, "c1", "hi").await;
    }
    platform.wait_for_accepted("c1", 3).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 3.0)
        .await;
    for (name, value) in [
        ("sluicegate_channel_inbound_accepted_total", 3.0),
        ("sluicegate_turns_committed_total", 3.0),
        ("sluicegate_channel_egress_requests_total", 3.0),
        ("sluicegate_channel_traps_total", 0.0),
        ("sluicegate_inbox_waiting", 0.0),
        ("sluicegate_dead_letters", 0.0),
        ("sluicegate_channel_up", 1.0),
        ("sluicegate_store_sound", 1.0),
    ] {
        let seen = gateway.metric(name, "").await;
        assert!((seen - value).abs() < 0.5, "expected {name} at {value}, seen {seen}");
    }
    let page = gateway.get("/metrics").await;
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(page.text().ends_with("# EOF\n"), "the page ends as OpenMetrics asks");
}
