//! The names by which things are known: newtypes, so that one is never taken for another.
//!
//! Generated ids carry a visible prefix and 128 random bits; names given by an operator or a platform are bounded and
//! checked where they enter.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::limit;

/// Returns `N` random bytes as lower-case hexadecimal, from the operating system's source.
///
/// # Panics
/// When the operating system has no randomness to give: nothing that needs an unguessable value may go on then.
pub fn random_hex<const N: usize>() -> String {
    let mut bytes = [0_u8; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system provides random bytes");
    hex(&bytes)
}

/// Writes bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a String can't fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is: for values that were checked before, such as those read back from the store.
            pub fn from_trusted(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_id!(
    /// The operator's name of a channel: what stands after `channels.` in the configuration.
    ChannelName
);
text_id!(
    /// The id of a stored inbound event, `evt_…`.
    EventId
);
text_id!(
    /// The key of one delivery, `dlv_…`: the same in every attempt, so that a platform or a client can drop a copy.
    DeliveryKey
);
text_id!(
    /// What identifies an agent's memory, such as `family/12345`.
    SessionKey
);

impl ChannelName {
    /// Checks an operator's channel name: 1 to [`limit::CHANNEL_NAME_BYTES_MAX`] of `a-z`, `0-9`, `-`, starting with a letter.
    ///
    /// # Errors
    /// Returns what is wrong, as a clause that can follow the name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > limit::CHANNEL_NAME_BYTES_MAX {
            return Err("must have 1 to 64 characters");
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err("must start with a letter a-z");
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err("may only contain a-z, 0-9 and '-'");
        }
        Ok(Self(text.to_owned()))
    }
}

impl EventId {
    /// What every id starts with.
    pub const PREFIX: &str = "evt_";

    /// Makes a new id of the time, in Unix milliseconds, and 80 random bits. Ids made one after the other stand side by side in an index, which
    /// saves most of its writes.
    pub fn generate(now_ms: i64) -> Self {
        Self(format!("{}{now_ms:012x}{}", Self::PREFIX, random_hex::<10>()))
    }

    /// Returns ten of the hexadecimal digits of the time in a generated id: all but the first, which is 0 for some
    /// centuries, and the last.
    fn time_digits(&self) -> Option<&str> {
        let digits = self.0.strip_prefix(Self::PREFIX)?.get(1..11)?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)
    }

    /// Returns the time that it was made of; none where it is no id of ours.
    pub fn made_at_ms(&self) -> Option<i64> {
        let time = self.0.strip_prefix(Self::PREFIX)?.get(..12)?;
        i64::from_str_radix(time, 16).ok()
    }
}

impl DeliveryKey {
    /// Derives the key of the `position`-th outbound event (from 0) of the turn for `event`.
    ///
    /// A turn that is repeated after a crash makes the same keys, so its outbound events replace themselves.
    /// 26 characters: platforms that deduplicate take short keys (Discord's nonce has 25, so it goes without `dlv_`).
    pub fn of_turn(event: &EventId, position: usize) -> Self {
        Self::of_text(event, &format!("{event}/{position}"))
    }

    /// Derives the key of the gateway's own notice about `event`, of the kind that `name` says.
    pub fn of_notice(event: &EventId, name: &str) -> Self {
        Self::of_text(event, &format!("{event}/notice/{name}"))
    }

    /// Derives the key of a message that the operator sends through `channel` under an id of their own.
    pub fn of_operator(channel: &ChannelName, id: &str) -> Self {
        let text = format!("operator/{channel}/{id}");
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        Self(format!("dlv_{}", hex(&digest.as_ref()[..11])))
    }

    /// Begins with the time of the event, to 16 ms: keys made one after the other then stand side by side in an index, as
    /// event ids do. What follows is a hash, 48 bits of it or, for an id without a time, 88.
    fn of_text(event: &EventId, text: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let hash = hex(&digest.as_ref()[..11]);
        let time = event.time_digits().unwrap_or_default();
        Self(format!("dlv_{time}{}", &hash[time.len()..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_name_is_a_short_lower_case_word() {
        assert!(ChannelName::parse("family-2").is_ok());
        for wrong in ["", "2family", "Family", "a/b", "a b", "-a", &"a".repeat(65)] {
            assert!(ChannelName::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn an_event_id_says_when_it_was_made() {
        let now = 1_800_000_000_000;
        assert_eq!(EventId::generate(now).made_at_ms(), Some(now));
        for other in [
            "",
            "evt_",
            "evt_short",
            "dlv_0190a1b2c3d4",
            "evt_\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(EventId::from_trusted(other).made_at_ms(), None, "{other:?}");
        }
    }

    #[test]
    fn a_repeated_turn_makes_the_same_delivery_key() {
        let event = EventId::generate(0);
        assert_eq!(DeliveryKey::of_turn(&event, 0), DeliveryKey::of_turn(&event, 0));
        assert_ne!(DeliveryKey::of_turn(&event, 0), DeliveryKey::of_turn(&event, 1));
        assert_ne!(
            DeliveryKey::of_turn(&event, 0),
            DeliveryKey::of_turn(&EventId::generate(0), 0)
        );
    }

    #[test]
    fn delivery_keys_stand_in_the_order_of_their_events() {
        let keys = [1_800_000_000_000, 1_800_000_000_016, 1_900_000_000_000]
            .map(|at| DeliveryKey::of_turn(&EventId::generate(at), 0));
        assert!(keys.is_sorted(), "{keys:?}");
        let of_other_form = DeliveryKey::of_turn(&EventId::from_trusted("evt_1"), 0);
        assert!(keys.iter().chain([&of_other_form]).all(|key| key.as_str().len() == 26));
    }
}
