//! Waits for moments that never come: one as far away as a number can say, or (`flood`) more of them than a guest may hold.

use wasip2::clocks::monotonic_clock;

pub(crate) fn run(argument: &str) -> String {
    let never = || monotonic_clock::subscribe_duration(u64::MAX);
    if argument == "flood" {
        let held: Vec<_> = (0..100_000).map(|_| never()).collect();
        return format!("{} held", held.len());
    }
    monotonic_clock::subscribe_instant(u64::MAX).block();
    never().block();
    "the end of time".to_owned()
}
