//! The unguessable part of a webhook's path, where nothing in its requests is signed.

use ring::hmac;

use super::equal_in_constant_time;
use crate::id::{ChannelName, hex};

/// Bytes of a token, before they are written in hexadecimal: 192 bits.
const BYTES: usize = 24;

/// Makes the path tokens of all channels from one key, so that they stay the same as long as it does.
pub struct PathTokens(hmac::Key);

impl PathTokens {
    /// Takes the key: a random text that only this gateway knows.
    pub fn new(key: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))
    }

    /// Returns the token of a channel.
    pub fn of(&self, channel: &ChannelName) -> PathToken {
        let tag = hmac::sign(&self.0, format!("webhook path of {channel}").as_bytes());
        PathToken(hex(&tag.as_ref()[..BYTES]))
    }
}

/// What a caller must know to reach a channel's webhook. `Debug` prints nothing of it.
pub struct PathToken(String);

impl std::fmt::Debug for PathToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PathToken(…)")
    }
}

impl PathToken {
    /// Returns the token as it stands in the path, for those who may know it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what follows the token in a path that begins with it, from its `/` on; none for every other path. Takes the
    /// same time for any guess.
    pub fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (offered, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        // Digests have one length, so that not even the guess's own is told.
        let is_right = equal_in_constant_time(digest(offered).as_ref(), digest(&self.0).as_ref());
        is_right.then_some(if rest.is_empty() { "/" } else { rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_channels_own_and_opens_what_is_below_it() {
        let tokens = PathTokens::new("key");
        let name = ChannelName::from_trusted;
        let token = tokens.of(&name("a"));
        assert_eq!(token.expose().len(), BYTES * 2);
        assert_eq!(token.expose(), PathTokens::new("key").of(&name("a")).expose());
        assert_ne!(token.expose(), tokens.of(&name("b")).expose());
        assert_ne!(token.expose(), PathTokens::new("other").of(&name("a")).expose());
        let right = token.expose();
        for (path, below) in [
            (format!("/{right}"), Some("/")),
            (format!("/{right}/"), Some("/")),
            (format!("/{right}/deeper/x"), Some("/deeper/x")),
            (format!("/{right}x"), None),
            (format!("/{}", &right[1..]), None),
            (format!("//{right}"), None),
            (format!("/{}", right.to_uppercase()), None),
            ("/".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(token.below(&path), below, "{path}");
        }
        assert!(!format!("{token:?}").contains(right));
    }
}
