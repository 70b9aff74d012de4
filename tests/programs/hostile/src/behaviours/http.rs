//! Sends a request to the URL in the argument, with whatever header comes after it (`URL NAME VALUE`); `post:`
//! before the URL makes it one that changes something.

use sluicegate_sdk::http::Request;

pub(crate) fn run(argument: &str) -> String {
    let mut words = argument.splitn(3, ' ');
    let url = words.next().unwrap_or_default();
    let mut request = url
        .strip_prefix("post:")
        .map_or_else(|| Request::get(url), Request::post);
    if let (Some(name), Some(value)) = (words.next(), words.next()) {
        request = request.header(name, value);
    }
    match request.send() {
        Ok(response) => {
            let body = String::from_utf8_lossy(&response.body).into_owned();
            // As a careless author would: everything that came back goes into the log and on standard error.
            let said = format!("status {} headers {:?} body {body}", response.status, response.headers);
            sluicegate_sdk::info!("{said}");
            eprintln!("{said}");
            said
        }
        Err(error) => {
            let said = format!("{error:?}");
            sluicegate_sdk::info!("{said}");
            said
        }
    }
}
