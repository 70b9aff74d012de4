//! Sends a form to a server that nobody granted, whose parts are all the same file (`PARTS MIB`).

use sluicegate_sdk::blobs;
use sluicegate_sdk::http::{FormPart, HttpError, PartData, Request};

pub(crate) fn run(argument: &str) -> String {
    let (parts, size) = argument.split_once(' ').unwrap_or((argument, "1"));
    let file = vec![b'x'; crate::results::number(size) * 1024 * 1024];
    let Ok(blob) = blobs::put("text/plain", &file) else {
        return "not stored".to_owned();
    };
    drop(file);
    let part = |_| FormPart::file("f", "f.txt", "text/plain", PartData::Blob(blob.clone()));
    let form = (0..crate::results::number(parts)).map(part).collect();
    match Request::post("http://192.0.2.1/").multipart(form).send() {
        Ok(_) => "sent".to_owned(),
        Err(HttpError::TooLarge) => "too large".to_owned(),
        Err(HttpError::Denied(_)) => "denied".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}
