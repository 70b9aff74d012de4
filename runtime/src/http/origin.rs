//! Which web pages may open a WebSocket here, and which may read what needs no token.
//!
//! A browser lets any page connect to any address, also to one on the reader's own machine, and sends along who asks.
//! Programs send no `Origin` and are not limited by this. A page reads the answer where it has the same address as itself,
//! and the owner of a name can let it lead here after the page was loaded (DNS rebinding): then the browser asks for that
//! name.

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

/// Returns whether the host that is asked for is one that no stranger can let lead here: an address, a name without a dot,
/// one of the names that no public name server answers for (RFC 6761, 6762, 8375; ICANN's `internal`), or the gateway's own
/// public name. Programs that name none are no browsers.
pub(super) fn is_own_host(headers: &HeaderMap, public_host: Option<&str>) -> bool {
    if !headers.contains_key(header::HOST) {
        return true;
    }
    let asked = super::single(headers, header::HOST).and_then(|host| url::Url::parse(&format!("http://{host}/")).ok());
    match asked.as_ref().and_then(url::Url::host) {
        Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => true,
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let is_local = |zone: &str| name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
            !name.contains('.')
                || ["localhost", "local", "internal", "home.arpa"]
                    .into_iter()
                    .any(is_local)
                || public_host.is_some_and(|public| public.eq_ignore_ascii_case(name))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_stranger_can_let_lead_here_is_not_our_own() {
        let own = |host: &str, public: Option<&str>| {
            is_own_host(
                &HeaderMap::from_iter([(header::HOST, host.parse().expect("a header"))]),
                public,
            )
        };
        assert!(is_own_host(&HeaderMap::new(), None), "HTTP/1.0");
        for host in [
            "127.0.0.1:7878",
            "[::1]:7878",
            "10.0.0.7",
            "localhost:7878",
            "localhost.",
            "sluicegate:7878",
            "box.local",
            "gate.svc.cluster.local:7878",
            "gate.home.arpa",
        ] {
            assert!(own(host, None), "{host}");
        }
        assert!(own("Gate.Example.org:443", Some("gate.example.org")));
        for host in [
            "evil.example",
            "evil.example:7878",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil-local.example",
            "gate.example.org",
            "",
            "a b",
        ] {
            assert!(!own(host, None), "{host}");
        }
        let twice = ["127.0.0.1", "evil.example"].map(|host| (header::HOST, host.parse().expect("a header")));
        let mut both = HeaderMap::new();
        twice.into_iter().for_each(|(name, host)| {
            both.append(name, host);
        });
        assert!(!is_own_host(&both, None), "two of them");
    }

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
