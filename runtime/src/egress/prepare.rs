//! From what a guest wrote to what is sent: checked, granted, and only then filled with secrets.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::counters::Denial;
use super::{Body, ChannelEgress, FormPart, HttpError, Request};
use crate::id::random_hex;
use crate::limit;
use crate::policy::{Permit, Scheme, Target};
use crate::secret::keyring::{FillError, Place};

/// A request that may be sent.
pub(super) struct Prepared {
    /// Where it goes, with secrets in its path and query: never shown.
    pub(super) target: Target,
    pub(super) permit: Permit,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: reqwest::Body,
    /// Of the whole request, for accounting.
    pub(super) bytes: usize,
    pub(super) timeout: Duration,
}

/// Headers that belong to the connection, which is the host's: a guest that sets them means to confuse somebody.
const FORBIDDEN: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "sec-websocket-key",
    "sec-websocket-version",
];

/// Headers that two readers would understand differently if they stood there twice.
const SINGLE: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::COOKIE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::ORIGIN,
    header::RANGE,
    header::USER_AGENT,
];

const USER_AGENT: &str = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));

impl ChannelEgress {
    pub(super) fn prepare(&self, request: Request) -> Result<Prepared, HttpError> {
        let method = parse_method(&request.method)?;
        let (target, permit) = self.admit(&request.url, &[Scheme::Http, Scheme::Https])?;
        let mut headers = self.fill_headers(&request.headers, &target)?;
        // What comes back compressed can't be searched for secrets, nor bounded before it is unpacked.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(USER_AGENT));
        let (body, body_bytes) = self.fill_body(request.body, &mut headers, &target)?;
        if body_bytes > self.limits.request_body_bytes_max {
            return Err(HttpError::TooLarge);
        }
        let bytes = body_bytes + header_bytes(&headers) + target.url.as_str().len();
        let timeout = request
            .timeout
            .unwrap_or(self.limits.timeout_default)
            .min(self.limits.timeout_max);
        Ok(Prepared {
            target,
            permit,
            method,
            headers,
            body,
            bytes,
            timeout,
        })
    }

    /// Parses a guest's URL, checks it against the grants, and fills in the secrets of its path and query.
    pub(super) fn admit(&self, url: &str, schemes: &[Scheme]) -> Result<(Target, Permit), HttpError> {
        let asked = Target::parse(url, schemes).map_err(|error| HttpError::Invalid(error.to_string()))?;
        let permit = self.permit_target(&asked).map_err(HttpError::Denied)?;
        let target = self.fill_url(url, asked, schemes)?;
        Ok((target, permit))
    }

    /// The host of `asked` holds no placeholder: braces are refused in hosts.
    fn fill_url(&self, url: &str, asked: Target, schemes: &[Scheme]) -> Result<Target, HttpError> {
        let whole = url.split('#').next().unwrap_or_default();
        let (path, query) = whole
            .split_once('?')
            .map_or((whole, None), |(path, query)| (path, Some(query)));
        let filled_path = self
            .keyring
            .fill(path, Place::UrlPath, &asked.host)
            .map_err(|error| self.denied(error))?;
        let filled_query = query
            .map(|query| self.keyring.fill(query, Place::UrlQuery, &asked.host))
            .transpose()
            .map_err(|error| self.denied(error))?;
        if matches!(
            (&filled_path, &filled_query),
            (Cow::Borrowed(_), None | Some(Cow::Borrowed(_)))
        ) {
            return Ok(asked);
        }
        let filled = filled_query.map_or_else(|| filled_path.to_string(), |query| format!("{filled_path}?{query}"));
        let target = Target::parse(&filled, schemes).map_err(|error| HttpError::Invalid(error.to_string()))?;
        // Encoded values can't move the target; should that ever be wrong, nothing is sent.
        if !target.same_place(&asked) {
            return Err(HttpError::Invalid(
                "a secret may only stand in the path or the query of a URL".into(),
            ));
        }
        Ok(target)
    }

    pub(super) fn fill_headers(&self, given: &[(String, String)], target: &Target) -> Result<HeaderMap, HttpError> {
        if given.len() > limit::HTTP_HEADERS_MAX {
            return Err(HttpError::TooLarge);
        }
        let mut headers = HeaderMap::with_capacity(given.len() + 4);
        for (name, value) in given {
            let name = parse_header_name(name)?;
            let filled = self
                .keyring
                .fill(value, Place::Header, &target.host)
                .map_err(|error| self.denied(error))?;
            let mut value = HeaderValue::from_bytes(filled.as_bytes()).map_err(|_| {
                HttpError::Invalid(format!(
                    "the value of the header {name} has characters that no header may have"
                ))
            })?;
            value.set_sensitive(matches!(filled, Cow::Owned(_)));
            if SINGLE.contains(&name) && headers.contains_key(&name) {
                return Err(HttpError::Invalid(format!(
                    "the header {name} may stand there only once"
                )));
            }
            headers.append(name, value);
        }
        if header_bytes(&headers) > limit::HTTP_HEADER_BYTES_MAX {
            return Err(HttpError::TooLarge);
        }
        Ok(headers)
    }

    fn denied(&self, error: FillError) -> HttpError {
        if matches!(error, FillError::Malformed) {
            return HttpError::Invalid(error.to_string());
        }
        self.counters.denied(Denial::Secret);
        HttpError::Denied(error.to_string())
    }

    fn fill_body(
        &self,
        body: Body,
        headers: &mut HeaderMap,
        target: &Target,
    ) -> Result<(reqwest::Body, usize), HttpError> {
        match body {
            Body::Empty => Ok((reqwest::Body::from(Bytes::new()), 0)),
            Body::Bytes(bytes) if is_json(headers) => {
                let filled = match self.keyring.fill_json(&bytes, Place::JsonBody, &target.host) {
                    Cow::Borrowed(_) => bytes,
                    Cow::Owned(filled) => Bytes::from(filled),
                };
                let length = filled.len();
                Ok((reqwest::Body::from(filled), length))
            }
            Body::Bytes(bytes) => {
                let length = bytes.len();
                Ok((reqwest::Body::from(bytes), length))
            }
            Body::Multipart(parts) => multipart(parts, headers),
        }
    }
}

fn parse_method(text: &str) -> Result<Method, HttpError> {
    let is_word = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if is_word && method != Method::CONNECT && method != Method::TRACE => Ok(method),
        _ => Err(HttpError::Invalid(
            "the method must be a word in upper case, and not CONNECT or TRACE".into(),
        )),
    }
}

fn parse_header_name(text: &str) -> Result<HeaderName, HttpError> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| HttpError::Invalid("a header's name has characters that no header may have".into()))?;
    if FORBIDDEN.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(HttpError::Invalid(format!(
            "the header {name} belongs to the host: leave it out"
        )));
    }
    Ok(name)
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Frames a form without copying its files.
fn multipart(parts: Vec<FormPart>, headers: &mut HeaderMap) -> Result<(reqwest::Body, usize), HttpError> {
    if parts.len() > limit::HTTP_FORM_PARTS_MAX {
        return Err(HttpError::TooLarge);
    }
    let boundary = format!("sluicegate-{}", random_hex::<16>());
    let mut pieces = Vec::with_capacity(parts.len() * 3 + 1);
    for part in parts {
        pieces.push(Bytes::from(part_head(&part, &boundary)?));
        pieces.push(part.data);
        pieces.push(Bytes::from_static(b"\r\n"));
    }
    pieces.push(Bytes::from(format!("--{boundary}--\r\n")));
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let invalid = |_| HttpError::Invalid("the form has no valid content type".into());
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_str(&content_type).map_err(invalid)?,
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let pieces = pieces
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .map(Ok::<_, std::convert::Infallible>);
    Ok((reqwest::Body::wrap_stream(stream::iter(pieces)), length))
}

fn part_head(part: &FormPart, boundary: &str) -> Result<String, HttpError> {
    let mut head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"",
        quoted(&part.name)
    );
    if let Some(file_name) = &part.file_name {
        head.push_str(&format!("; filename=\"{}\"", quoted(file_name)));
    }
    if let Some(media_type) = &part.media_type {
        if media_type.len() > 256 || media_type.contains(|c: char| c.is_control() || !c.is_ascii()) {
            return Err(HttpError::Invalid(
                "a part of the form has a media type that is none".into(),
            ));
        }
        head.push_str(&format!("\r\nContent-Type: {media_type}"));
    }
    head.push_str("\r\n\r\n");
    if head.len() > limit::HTTP_HEADER_BYTES_MAX {
        return Err(HttpError::TooLarge);
    }
    Ok(head)
}

/// Escapes a name for a form (WHATWG HTML, section 4.10.22.8).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_methods_are_sent() {
        for method in ["GET", "POST", "PROPFIND", "M-SEARCH"] {
            assert_eq!(parse_method(method).unwrap().as_str(), method);
        }
        for wrong in [
            "",
            "get",
            "CONNECT",
            "TRACE",
            "GET /x HTTP/1.1\r\nHost:",
            "G T",
            &"A".repeat(33),
        ] {
            assert!(parse_method(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_the_hosts() {
        for name in [
            "Host",
            "content-LENGTH",
            "Transfer-Encoding",
            "Connection",
            "Proxy-Authorization",
            "TE",
            "Expect",
        ] {
            assert!(parse_header_name(name).is_err(), "{name}");
        }
        for name in ["", "a b", "a\r\nb", "a:b", "é"] {
            assert!(parse_header_name(name).is_err(), "{name:?}");
        }
        assert!(parse_header_name("X-Custom").is_ok());
    }

    #[test]
    fn a_part_can_not_break_out_of_its_form() {
        let part = |name: &str, media_type: &str| FormPart {
            name: name.into(),
            file_name: Some("a\"\r\nX: y".into()),
            media_type: Some(media_type.into()),
            data: Bytes::new(),
        };
        let head = part_head(&part("a\"b", "text/plain"), "B").unwrap();
        assert_eq!(
            head,
            "--B\r\nContent-Disposition: form-data; name=\"a%22b\"; filename=\"a%22%0D%0AX: y\"\r\nContent-Type: text/plain\r\n\r\n"
        );
        assert!(part_head(&part("a", "text/plain\r\nX: y"), "B").is_err());
    }
}
