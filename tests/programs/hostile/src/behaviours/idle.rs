//! Takes as many MiB of memory as the argument says, writes to all of it, and keeps it for ten seconds.

use sluicegate_sdk::clock;

pub(crate) fn run(argument: &str) -> String {
    let mebibytes = crate::results::number(argument);
    let held = std::hint::black_box(vec![1_u8; mebibytes * 1024 * 1024]);
    clock::sleep_ms(10_000);
    format!("held {} bytes", held.len())
}
