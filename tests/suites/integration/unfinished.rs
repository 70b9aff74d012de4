//! Strangers who begin frames and bodies and end none, to have the gateway keep them.

use harness::{FakePlatform, PATIENCE, Setup, TestGateway, http};
use sluicegate::limit;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MIB: usize = 1024 * 1024;
/// Together four times what all may have.
const STRANGERS: usize = 4 * limit::UNFINISHED_BYTES_MAX / MIB;
/// What the gateway may need besides: buffers grow by doubling, and allocators keep some.
const BESIDES_MIB: u64 = 80;

/// Resident memory of the gateway, MiB.
fn resident_mib(gateway: &mut TestGateway) -> u64 {
    let id = gateway.program().id().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.expect("its resident memory").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") / 1024
}

/// Opens a connection, sends all of it, and returns the connection.
async fn send(gateway: &TestGateway, head: &str, begun: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("the head");
    // Who is given up meanwhile can't send all of it.
    let _sent = stream.write_all(begun).await;
    stream
}

/// Reads what the gateway said to someone whom it gave up.
async fn last_words(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let reading = stream.read_to_end(&mut said);
    // The end may be a reset where something was written that nobody read.
    let _ended = tokio::time::timeout(PATIENCE, reading).await.expect("it is ended");
    String::from_utf8_lossy(&said).into_owned()
}

fn bounded_mib(before: u64) -> u64 {
    before + (limit::UNFINISHED_BYTES_MAX / MIB) as u64 + BESIDES_MIB
}

#[tokio::test]
async fn frames_that_clients_begin_and_do_not_end_are_bounded_together() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    let mut client = gateway.client().await;
    let before = resident_mib(&mut gateway);
    let upgrade = "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // A text of 1 MiB under a mask of zeros, but for its last byte.
    let length = (MIB as u64).to_be_bytes();
    let begun = [&[0x81, 0x80 | 127][..], &length, &[0; 4], &vec![b'x'; MIB - 1]].concat();
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(send(&gateway, upgrade, &begun).await);
    }
    let first = last_words(strangers.remove(0)).await;
    assert!(first.contains("not whole"), "the first hears why: {first:?}");
    let now = resident_mib(&mut gateway);
    assert!(now < bounded_mib(before), "{before} MiB before, {now} MiB now");
    // Who ends what it begins is served all the same, also where it has much to say.
    client
        .say("m1", "c1", &"y".repeat(2 * limit::UNFINISHED_BYTES_FREE))
        .await;
    client.expect("accepted").await;
    drop(strangers);
}

#[tokio::test]
async fn bodies_that_strangers_begin_and_do_not_end_are_bounded_together() {
    // The largest that the generic webhook takes. As many connections as may ask at once have twice what all may have.
    const BODY_BYTES: usize = MIB / 4;
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    let before = resident_mib(&mut gateway);
    let head = format!(
        "POST /hooks/hook HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    );
    let begun = vec![b'x'; BODY_BYTES - 1];
    let mut strangers = Vec::new();
    for _ in 0..2 * limit::UNFINISHED_BYTES_MAX / BODY_BYTES - 100 {
        strangers.push(send(&gateway, &head, &begun).await);
    }
    let refused = http::receive(strangers.remove(0)).await.expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("not whole"), "{}", refused.text());
    let now = resident_mib(&mut gateway);
    assert!(now < bounded_mib(before), "{before} MiB before, {now} MiB now");
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    drop(strangers);
}
