//! The admin token: made at the first start, kept in the data directory for its owner alone.

use std::path::Path;
use std::sync::Arc;

use axum::http::{HeaderMap, header};

use crate::secret::kept;

/// A bearer token. `Debug` prints nothing of it.
#[derive(Clone)]
pub struct AdminToken(Arc<str>);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

impl AdminToken {
    /// Reads the token from `path`, or makes one and writes it there (mode 0600).
    ///
    /// # Errors
    /// Any I/O error.
    pub fn load_or_create(path: &Path) -> std::io::Result<Self> {
        Ok(Self(kept::load_or_make(path)?.into()))
    }

    /// Returns whether this is the token, in constant time.
    pub fn matches(&self, offered: &str) -> bool {
        // Hashing first hides the length too.
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let (expected, offered) = (digest(&self.0), digest(offered));
        let differing = expected
            .as_ref()
            .iter()
            .zip(offered.as_ref())
            .fold(0, |all, (left, right)| all | (left ^ right));
        std::hint::black_box(differing) == 0
    }

    /// Returns whether a request carries the token: as a bearer token, or in the query for browsers, whose WebSockets
    /// can't set headers. None where it carries none at all.
    pub fn offered_in(&self, headers: &HeaderMap, query: Option<&str>) -> Option<bool> {
        let credentials = super::single(headers, header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        if let Some((scheme, bearer)) = credentials
            // RFC 9110, 11.1: the name of a scheme has no case.
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return Some(self.matches(bearer.trim()));
        }
        let query = query?;
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == "token")
            .map(|(_, value)| self.matches(&value))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::id::random_hex;

    #[test]
    fn the_token_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = std::env::temp_dir().join(format!("sluicegate-token-{}", random_hex::<8>()));
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join("token");
        let made = AdminToken::load_or_create(&path).expect("made");
        let text = fs::read_to_string(&path).expect("written");
        assert!(AdminToken::load_or_create(&path).expect("read").matches(&text));
        assert!(made.matches(&text) && !made.matches("") && !made.matches(&text[1..]));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn the_header_goes_before_the_query() {
        let token = AdminToken("right".into());
        let headers = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header"))]);
        assert_eq!(token.offered_in(&headers("Bearer right"), None), Some(true));
        assert_eq!(token.offered_in(&headers("bearer  right"), None), Some(true));
        assert_eq!(token.offered_in(&headers("Basic right"), None), None);
        assert_eq!(
            token.offered_in(&headers("Bearer wrong"), Some("token=right")),
            Some(false)
        );
        assert_eq!(token.offered_in(&HeaderMap::new(), Some("a=b&token=right")), Some(true));
        assert_eq!(token.offered_in(&HeaderMap::new(), Some("a=b")), None);
    }
}
