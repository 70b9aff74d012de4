//! Makes as many lists of headers for `wasi:http` as a guest may hold, each as many KiB long as the argument says, puts every
//! second one into a request, and keeps them for as many milliseconds (`KIB MS`).

use sluicegate_sdk::clock;
use wasip2::http::types::{Fields, OutgoingRequest};

pub(crate) fn run(argument: &str) -> String {
    let (length, time) = argument.split_once(' ').unwrap_or((argument, ""));
    let values = vec![vec![b'x'; 1024]; crate::results::number(length)];
    let (mut lists, mut requests) = (Vec::new(), Vec::new());
    // The table of handles would end this a little later.
    for number in 0..1900 {
        let fields = Fields::new();
        if fields.set("x", &values).is_err() {
            return "refused".to_owned();
        }
        if number % 2 == 0 {
            lists.push(fields);
        } else {
            requests.push(OutgoingRequest::new(fields));
        }
    }
    if let Ok(time) = time.parse() {
        clock::sleep_ms(time);
    }
    format!("{} lists", lists.len() + requests.len())
}
