//! Outgoing HTTP. The host is the gate: it checks grants and addresses, puts in `{{secrets}}`, and bounds sizes and times.
//!
//! Redirects come back as they are; nothing follows them.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::imports::sluicegate::channel::http as raw;
use crate::clock;
use crate::message::DeliveryError;

pub use raw::{FormPart, HttpError, PartData, ResponseStream};

/// What is read of an answer of which the status is all that matters, bytes.
const STATUS_BODY_BYTES_MAX: usize = 64 * 1024;
/// How long more of such an answer is waited for, milliseconds.
const STATUS_BODY_MS_MAX: u64 = 1_000;

/// A request, built step by step and sent with [`send`](Self::send).
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    /// A body that could not be made is reported when the request is sent, so that building stays one expression.
    body: Result<raw::Body, String>,
    timeout_ms: Option<u32>,
}

impl Request {
    /// Makes a request without a body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Ok(raw::Body::Empty),
            timeout_ms: None,
        }
    }

    /// Makes a GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Makes a POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body to these bytes, as they are.
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Ok(raw::Body::Bytes(bytes.into()));
        self
    }

    /// Sets the body to `value` in JSON, with its content type. `{{` in its texts stays text: what a person wrote can
    /// never become a placeholder for a secret.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        self.json_body(serde_json::to_vec(value).map(without_placeholders))
    }

    /// Sets the body to `value` in JSON, in which the host fills in a string that is nothing but `{{name}}`: for a
    /// `value` that no person wrote a part of.
    pub fn json_with_secrets(self, value: &(impl Serialize + ?Sized)) -> Self {
        self.json_body(serde_json::to_vec(value))
    }

    fn json_body(mut self, body: Result<Vec<u8>, serde_json::Error>) -> Self {
        self.body = body.map(raw::Body::Bytes).map_err(|error| error.to_string());
        self.header("content-type", "application/json")
    }

    /// Sets the body to a blob, which need not enter the guest's memory.
    pub fn blob(mut self, handle: impl Into<String>) -> Self {
        self.body = Ok(raw::Body::Blob(handle.into()));
        self
    }

    /// Sets the body to a form of several parts; the host writes its framing and content type.
    pub fn multipart(mut self, parts: Vec<FormPart>) -> Self {
        self.body = Ok(raw::Body::Multipart(parts));
        self
    }

    /// Sets how long the whole call may take, milliseconds; at most what the host allows.
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// Sends the request and reads the answer, whatever its status.
    ///
    /// # Errors
    /// See [`HttpError`]; only [`HttpError::Interrupted`] leaves it open whether the request arrived.
    pub fn send(self) -> Result<Response, HttpError> {
        raw::send(&self.into_raw()?).map(Response::from)
    }

    /// Sends the request to an endpoint whose status says what became of it, whatever it answers beside that. Of the body
    /// there is only what came soon and fits into 64 KiB: neither its length nor its end can turn a yes into a failure.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_for_status(self) -> Result<Response, HttpError> {
        let stream = self.stream()?;
        let (mut body, until_ms) = (Vec::new(), clock::now_ms().saturating_add(STATUS_BODY_MS_MAX));
        while body.len() < STATUS_BODY_BYTES_MAX {
            let room = STATUS_BODY_BYTES_MAX - body.len();
            let left_ms = until_ms.saturating_sub(clock::now_ms());
            match stream.read(u32::try_from(room).unwrap_or(u32::MAX), left_ms) {
                Ok(Some(piece)) if !piece.is_empty() => body.extend_from_slice(&piece),
                _ => break,
            }
        }
        Ok(Response {
            status: stream.status(),
            headers: stream.headers(),
            body,
        })
    }

    /// Sends the request and stores the answer's body as a blob: returns the answer without a body, and the handle.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn download(self) -> Result<(Response, String), HttpError> {
        raw::download(&self.into_raw()?).map(|(response, blob)| (Response::from(response), blob))
    }

    /// Sends the request and hands out the answer as it comes, such as server-sent events.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn stream(self) -> Result<ResponseStream, HttpError> {
        ResponseStream::open(&self.into_raw()?)
    }

    fn into_raw(self) -> Result<raw::Request, HttpError> {
        Ok(raw::Request {
            method: self.method,
            url: self.url,
            headers: self.headers,
            body: self.body.map_err(HttpError::Invalid)?,
            timeout_ms: self.timeout_ms,
        })
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, in the order received; a name may come more than once.
    pub headers: Vec<(String, String)>,
    /// The body; empty after [`Request::download`].
    pub body: Vec<u8>,
}

impl Response {
    /// Returns whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// Where the body is not JSON or does not fit `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Returns how long `Retry-After` asks to wait (RFC 9110, section 10.2.3: seconds, or a date), milliseconds.
    ///
    /// None where the header is missing or unreadable. `now_ms` is the present time, Unix milliseconds.
    pub fn retry_after_ms(&self, now_ms: u64) -> Option<u64> {
        let value = self.header("retry-after")?.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // More than a number holds is as long as there is.
            return Some(
                value
                    .parse()
                    .map_or(u64::MAX, |seconds: u64| seconds.saturating_mul(1000)),
            );
        }
        let date = httpdate::parse_http_date(value).ok()?;
        let now = UNIX_EPOCH.checked_add(Duration::from_millis(now_ms))?;
        // A date that has passed means now.
        let wait = date.duration_since(now).unwrap_or_default();
        Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<raw::Response> for Response {
    fn from(response: raw::Response) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            body: response.body,
        }
    }
}

impl FormPart {
    /// Makes a form field.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        let data = PartData::Bytes(value.into().into_bytes());
        Self {
            name: name.into(),
            file_name: None,
            media_type: None,
            data,
        }
    }

    /// Makes a file in a form.
    pub fn file(
        name: impl Into<String>,
        file_name: impl Into<String>,
        media_type: impl Into<String>,
        data: PartData,
    ) -> Self {
        Self {
            name: name.into(),
            file_name: Some(file_name.into()),
            media_type: Some(media_type.into()),
            data,
        }
    }
}

impl HttpError {
    /// Says in words why there is no answer.
    pub fn words(&self) -> String {
        match self {
            Self::Denied(why) => format!("the request was denied: {why}"),
            Self::Invalid(why) => format!("the request is invalid: {why}"),
            Self::Unreachable(why) => format!("the endpoint can't be reached: {why}"),
            Self::Interrupted(why) => format!("the request was interrupted: {why}"),
            Self::TooLarge => "the request or its answer is too large".to_owned(),
            Self::Busy => "the gateway has no room for another request or its answer now".to_owned(),
            Self::ShuttingDown => "the channel is shutting down".to_owned(),
        }
    }
}

/// What a failed call means for the delivery that made it: only bytes that left without an answer are ambiguous.
impl From<HttpError> for DeliveryError {
    fn from(error: HttpError) -> Self {
        let words = error.words();
        match error {
            HttpError::Denied(_) | HttpError::Unreachable(_) | HttpError::Busy | HttpError::ShuttingDown => {
                Self::Unavailable(words)
            }
            HttpError::Interrupted(_) => Self::Ambiguous(words),
            HttpError::Invalid(_) | HttpError::TooLarge => Self::Rejected(words),
        }
    }
}

/// Escapes what would end or leave one segment of a URL's path, `/` included, or one value of its query.
///
/// What comes out holds no `{{`, so that nothing in it can become a placeholder for a secret.
pub fn segment_escaped(segment: &str) -> String {
    escaped(segment, b"-._~")
}

/// Escapes what would end a URL's path; its slashes stay.
pub fn path_escaped(path: &str) -> String {
    escaped(path, b"/-._~")
}

/// Percent-encodes everything but letters, digits and `kept` (RFC 3986, section 2.1).
fn escaped(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Writes every `{{` of a JSON document as `{\u007b`: the same text, but no placeholder. Outside of strings JSON has no
/// `{{`.
fn without_placeholders(json: Vec<u8>) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(json.len());
    for byte in json {
        if byte == b'{' && escaped.last() == Some(&b'{') {
            escaped.extend_from_slice(b"\\u007b");
        } else {
            escaped.push(byte);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(name: &str, value: &str) -> Response {
        Response {
            status: 429,
            headers: vec![(name.to_owned(), value.to_owned())],
            body: Vec::new(),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // The date is RFC 9110's own example, section 5.6.7: 784111777 s after the epoch.
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now_ms = 784_111_770_500;
        assert_eq!(with_header("Retry-After", "7").retry_after_ms(now_ms), Some(7000));
        assert_eq!(with_header("retry-after", date).retry_after_ms(now_ms), Some(6500));
        assert_eq!(
            with_header("retry-after", date).retry_after_ms(now_ms + 60_000),
            Some(0)
        );
        assert_eq!(with_header("retry-after", "soon").retry_after_ms(now_ms), None);
        assert_eq!(
            with_header("retry-after", "99999999999999999999").retry_after_ms(now_ms),
            Some(u64::MAX),
            "longer than a number holds is long, and not none"
        );
        for none in ["", "-5", "1.5", "1e3"] {
            assert_eq!(
                with_header("retry-after", none).retry_after_ms(now_ms),
                None,
                "{none:?}"
            );
        }
        assert_eq!(with_header("x-other", "7").retry_after_ms(now_ms), None);
    }

    #[test]
    fn only_an_interrupted_call_is_ambiguous() {
        let cases = [
            (HttpError::Denied(String::new()), false),
            (HttpError::Unreachable(String::new()), false),
            (HttpError::Busy, false),
            (HttpError::ShuttingDown, false),
            (HttpError::Invalid(String::new()), false),
            (HttpError::TooLarge, false),
            (HttpError::Interrupted(String::new()), true),
        ];
        for (error, ambiguous) in cases {
            let meaning = DeliveryError::from(error.clone());
            assert_eq!(
                matches!(meaning, DeliveryError::Ambiguous(_)),
                ambiguous,
                "{error:?} became {meaning:?}"
            );
        }
    }

    #[test]
    fn a_failure_is_said_in_words_and_not_as_it_stands_in_the_code() {
        let lost = HttpError::Interrupted("https://example.org closed the connection".to_owned());
        assert_eq!(
            lost.words(),
            "the request was interrupted: https://example.org closed the connection"
        );
        for error in [HttpError::TooLarge, HttpError::Busy, HttpError::ShuttingDown] {
            let words = error.words();
            assert!(words.contains(' ') && !words.contains("HttpError"), "{words}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_reported_when_it_is_sent() {
        let keys_are_lists = std::collections::HashMap::from([(vec![1], 2)]);
        let request = Request::post("https://example.org").json(&keys_are_lists);
        assert!(matches!(request.into_raw(), Err(HttpError::Invalid(_))));
    }

    #[test]
    fn what_is_escaped_can_not_leave_its_place_in_the_url() {
        assert_eq!(path_escaped("documents/file_1.pdf"), "documents/file_1.pdf");
        assert_eq!(path_escaped("a b?c#d%é{{x}}"), "a%20b%3Fc%23d%25%C3%A9%7B%7Bx%7D%7D");
        assert_eq!(segment_escaped("!room:server/.."), "%21room%3Aserver%2F..");
    }

    #[test]
    fn a_persons_text_is_never_a_placeholder() {
        let text = "{{bot-token}} {{{{ {";
        let escaped = without_placeholders(serde_json::to_vec(&serde_json::json!({ "text": text })).expect("JSON"));
        assert!(
            !escaped.windows(2).any(|pair| pair == b"{{"),
            "{}",
            String::from_utf8_lossy(&escaped)
        );
        let read: serde_json::Value = serde_json::from_slice(&escaped).expect("still JSON");
        assert_eq!(read["text"], text);
    }
}
