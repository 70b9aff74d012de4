//! The words of a channel that the platform calls.

use serde::Serialize;

pub use crate::bindings::webhook::exports::sluicegate::channel::webhook::{Request, Response};

impl Request {
    /// Returns the first header of this name, in any case; none where it is missing or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

impl Response {
    /// Makes an answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Makes an answer in JSON. A value that can't be written as JSON becomes an empty 500.
    pub fn json(status: u16, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self {
                body,
                ..Self::empty(status)
            }
            .header("content-type", "application/json"),
            Err(_) => Self::empty(500),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_in_any_case() {
        let request = Request {
            method: "POST".into(),
            path: "/".into(),
            query: None,
            headers: vec![("X-Kind".into(), b"push".to_vec()), ("x-bytes".into(), vec![0xff])],
            body: Vec::new(),
        };
        assert_eq!(request.header("x-kind"), Some("push"));
        assert_eq!(request.header("X-Bytes"), None);
        assert_eq!(request.header("x-other"), None);
    }

    #[test]
    fn an_answer_in_json_says_so() {
        let response = Response::json(200, &serde_json::json!({"status": "accepted"}));
        assert_eq!(response.body, br#"{"status":"accepted"}"#);
        assert_eq!(
            response.headers,
            [("content-type".to_owned(), b"application/json".to_vec())]
        );
    }
}
