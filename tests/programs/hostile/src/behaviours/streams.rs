//! Opens response streams from the URL in the argument and closes none.

use sluicegate_sdk::http::Request;

pub(crate) fn run(url: &str) -> String {
    let mut open = Vec::new();
    let mut refused = String::new();
    for _ in 0..40 {
        match Request::get(url).stream() {
            Ok(stream) => open.push(stream),
            Err(error) => refused = format!("{error:?}"),
        }
    }
    format!("{} open, then {refused}", open.len())
}
