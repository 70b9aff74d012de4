//! Finds out how long the words of a request of `wasi:http` may be, up to some megabytes: a host that takes those keeps
//! them for every request that a guest puts together and does not send.

use wasip2::http::types::{Fields, Method, OutgoingRequest};

pub(crate) fn run() -> String {
    let request = OutgoingRequest::new(Fields::new());
    let method = longest(|length| request.set_method(&Method::Other("A".repeat(length))).is_ok());
    let authority = longest(|length| request.set_authority(Some(&"a".repeat(length))).is_ok());
    let path = longest(|length| {
        request
            .set_path_with_query(Some(&format!("/{}", "a".repeat(length - 1))))
            .is_ok()
    });
    format!("method {method} authority {authority} path {path}")
}

/// Returns the greatest power of two that is taken.
fn longest(is_taken: impl Fn(usize) -> bool) -> usize {
    (1..23)
        .map(|exponent| 1 << exponent)
        .filter(|length| is_taken(*length))
        .max()
        .unwrap_or(0)
}
