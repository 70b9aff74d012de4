//! Asks for as many random bytes as a number can say, and then for a whole gigabyte.

pub(crate) fn run() -> String {
    let bytes = wasip2::random::random::get_random_bytes(u64::MAX).len();
    let more = wasip2::random::insecure::get_insecure_random_bytes(1 << 30).len();
    format!("{bytes} and {more} bytes")
}
