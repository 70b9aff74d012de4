//! Asks a server as often as the argument says (`COUNT AUTHORITY`) through `wasi:http`, and keeps all answers without
//! reading one.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

pub(crate) fn run(argument: &str) -> String {
    let (count, authority) = argument.split_once(' ').unwrap_or((argument, ""));
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..crate::results::number(count) {
        let request = OutgoingRequest::new(Fields::new());
        let said = [
            request.set_scheme(Some(&Scheme::Http)),
            request.set_authority(Some(authority)),
            request.set_path_with_query(Some("/")),
        ];
        if said.iter().any(Result::is_err) {
            return "no such server".to_owned();
        }
        let Ok(answer) = outgoing_handler::handle(request, None) else {
            refused += 1;
            continue;
        };
        answer.subscribe().block();
        match answer.get() {
            Some(Ok(Ok(response))) => held.push(response),
            _ => refused += 1,
        }
    }
    format!("{} answers {refused} refused", held.len())
}
