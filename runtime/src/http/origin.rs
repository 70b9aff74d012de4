//! Which web pages may open a WebSocket here.
//!
//! A browser lets any page connect to any address, also to one on the reader's own machine, and sends along who asks.
//! Programs send no `Origin` and are not limited by this.

use axum::http::{HeaderMap, header};

/// Returns whether the page that asks (if it is a page) may connect: one from this machine, or from the gateway's own
/// public address.
pub(super) fn is_permitted(headers: &HeaderMap, public_host: Option<&str>) -> bool {
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let Some(origin) = super::single(headers, header::ORIGIN).and_then(|text| url::Url::parse(text).ok()) else {
        return false;
    };
    match origin.host() {
        Some(url::Host::Ipv4(address)) if address.is_loopback() => true,
        Some(url::Host::Ipv6(address)) if address.is_loopback() => true,
        Some(url::Host::Domain("localhost")) => true,
        Some(host) => public_host.is_some_and(|public| public.eq_ignore_ascii_case(&host.to_string())),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_strangers_are_kept_out() {
        let permitted = |origin: &str, public: Option<&str>| {
            is_permitted(
                &HeaderMap::from_iter([(header::ORIGIN, origin.parse().expect("a header"))]),
                public,
            )
        };
        assert!(is_permitted(&HeaderMap::new(), None), "a program");
        assert!(permitted("http://localhost:5173", None));
        assert!(permitted("http://127.0.0.1:7878", None));
        assert!(permitted("https://chat.example", Some("chat.example")));
        assert!(!permitted("https://evil.example", Some("chat.example")));
        assert!(!permitted("https://localhost.evil.example", None));
        assert!(!permitted("null", None));
    }
}
