//! What WASI would give elsewhere: here there is nothing behind it.

use std::time::Duration;

use sluicegate::delivery::Failure;

use crate::support::Rig;

#[tokio::test]
async fn a_guest_finds_no_file_and_can_make_none() {
    let rig = Rig::new().up().await;
    assert_eq!(rig.report("files").await, "read 0, listed 0, written 0");
    rig.survived().await;
}

#[tokio::test]
async fn a_guest_finds_no_environment_no_arguments_and_no_input() {
    let rig = Rig::new().up().await;
    assert_eq!(
        rig.report("environment").await,
        "0 variables, 0 arguments, 0 bytes of input"
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_guest_gets_no_socket_around_the_gate() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    // The endpoint is granted over the gate: sockets are another way in, and closed all the same.
    let rig = Rig::new().grant(&format!("http://{address}")).up().await;
    let reported = rig.report(&format!("sockets {address}")).await;
    assert_eq!(
        reported,
        "connected false, listening false, datagrams 0, resolved false"
    );
    assert!(listener.accept().is_err(), "nothing arrived");
    rig.survived().await;
}

#[tokio::test]
async fn moments_that_never_come_end_at_the_deadline_and_a_flood_of_them_at_the_bound_of_handles() {
    let rig = Rig::new().deadline(Duration::from_secs(1)).up().await;
    assert_eq!(rig.failure("clocks").await, Failure::DeadlineExceeded);
    let reason = rig.trap("clocks flood").await;
    assert!(reason.contains("handles") || reason.contains("resource"), "{reason}");
    rig.survived().await;
}

#[tokio::test]
async fn a_guest_can_ask_for_no_more_random_bytes_than_the_host_gives_at_once() {
    let rig = Rig::new().up().await;
    let reason = rig.trap("random_huge").await;
    assert!(reason.contains("exceeds limit"), "{reason}");
    rig.survived().await;
}
