//! Makes a million small calls of the host.

use sluicegate_sdk::{clock, settings};

pub(crate) fn run() -> String {
    let mut sum = 0_u64;
    for _ in 0..500_000 {
        sum = sum.wrapping_add(clock::now_ms());
        sum = sum.wrapping_add(settings::get("nothing").map_or(0, |text| text.len() as u64));
    }
    format!("done {}", sum % 2)
}
