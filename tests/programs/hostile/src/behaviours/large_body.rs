//! Hands as many MiB to the host at once as the argument says, for a server that nobody granted.

use sluicegate_sdk::http::Request;

pub(crate) fn run(argument: &str) -> String {
    let body = vec![b'x'; crate::results::number(argument) * 1024 * 1024];
    match Request::post("http://192.0.2.1/").bytes(body).send() {
        Ok(_) => "sent".to_owned(),
        Err(_) => "refused".to_owned(),
    }
}
