//! Files that people sent, on their way into the gateway.
//!
//! A platform that heard that a message was taken hands out its files no more. So a file for which the gateway has no room
//! just now holds its message up, and only what can't be had at all becomes words in it.

use crate::http::HttpError;
use crate::inbox::{self, PublishError};
use crate::recovery::Backoff;
use crate::{blobs, clock, debug, warn};

/// The first and the longest wait for room, milliseconds: somebody has to make it.
const ROOM_WAIT_MS: (u64, u64) = (1_000, 30_000);
/// The longest wait until the gateway is asked again whether it takes anything in, milliseconds.
const INTAKE_WAIT_MS_MAX: u64 = 30_000;
/// How often a file is offered to a gateway that takes messages in. Chosen because room may be found between an offer and
/// the question after it, and hardly twice.
const OFFERS_MAX: u32 = 3;

/// Why a file is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfetched {
    /// It can't be had, in words that may stand in the message.
    Lost(String),
    /// The gateway has no room for it now ([`HttpError::Busy`]) or goes down ([`HttpError::ShuttingDown`]): its message must
    /// not be taken from the platform without it.
    Later(HttpError),
}

impl From<HttpError> for Unfetched {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Busy | HttpError::ShuttingDown => Self::Later(error),
            HttpError::TooLarge => Self::Lost("it is too large".to_owned()),
            // What the agent reads shows nothing of the gateway's inside.
            HttpError::Denied(_) | HttpError::Invalid(_) | HttpError::Unreachable(_) | HttpError::Interrupted(_) => {
                Self::Lost("no answer".to_owned())
            }
        }
    }
}

/// Makes an attempt to fetch a file, and makes it again with waits that grow while the gateway has no room for the file
/// ([`HttpError::Busy`], as `E` has it).
///
/// For listeners, which have nothing better to do. A webhook says "later" to the platform in place of waiting.
///
/// # Errors
/// What the attempt failed with; [`HttpError::ShuttingDown`], as `E` has it, when the channel is shut down during a wait;
/// never [`HttpError::Busy`].
pub fn until_room<T, E>(attempt: impl FnMut() -> Result<T, E>) -> Result<T, E>
where
    E: From<HttpError> + PartialEq,
{
    attempted(attempt, |wait_ms| {
        warn!("the gateway has no room for a file now; the next try comes in {wait_ms} ms");
        clock::sleep_ms(wait_ms)
    })
}

fn attempted<T, E>(mut attempt: impl FnMut() -> Result<T, E>, mut wait: impl FnMut(u64) -> bool) -> Result<T, E>
where
    E: From<HttpError> + PartialEq,
{
    let mut backoff = Backoff::new(ROOM_WAIT_MS.0, ROOM_WAIT_MS.1);
    loop {
        match attempt() {
            Err(error) if error == E::from(HttpError::Busy) => {
                if !wait(backoff.next()) {
                    return Err(HttpError::ShuttingDown.into());
                }
            }
            settled => return settled,
        }
    }
}

/// Hands bytes to the gateway as a file, and returns its handle. While the gateway takes nothing in, the file waits.
///
/// For listeners, as [`until_room`].
///
/// # Errors
/// [`Unfetched::Lost`] where the gateway takes messages in and not this file, such as past the channel's quota;
/// [`Unfetched::Later`] when the channel is shut down meanwhile.
pub fn put(media_type: &str, bytes: &[u8]) -> Result<String, Unfetched> {
    offered(|| blobs::put(media_type, bytes), look)
}

/// Whether the gateway takes anything in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    Open,
    /// It does not, and some time has passed.
    Closed,
    ShuttingDown,
}

/// Asks whether the gateway takes anything in. A file is refused in words alone, whether it is too much for the channel or
/// the disk has no room now; this tells the two apart, since a gateway without room for files takes nothing in.
fn look() -> Intake {
    match inbox::publish(&[], None) {
        Ok(_) | Err(PublishError::Invalid(_)) => Intake::Open,
        Err(PublishError::ShuttingDown) => Intake::ShuttingDown,
        Err(PublishError::Busy(wait_ms)) => {
            debug!("a file waits until the gateway takes something in");
            if clock::sleep_ms(wait_ms.clamp(1, INTAKE_WAIT_MS_MAX)) {
                Intake::Closed
            } else {
                Intake::ShuttingDown
            }
        }
    }
}

fn offered(
    mut put: impl FnMut() -> Result<String, String>,
    mut look: impl FnMut() -> Intake,
) -> Result<String, Unfetched> {
    let mut offers = 0;
    loop {
        let why = match put() {
            Ok(blob) => return Ok(blob),
            Err(why) => why,
        };
        offers += 1;
        loop {
            match look() {
                Intake::Open => break,
                Intake::Closed => offers = 0,
                Intake::ShuttingDown => return Err(Unfetched::Later(HttpError::ShuttingDown)),
            }
        }
        if offers >= OFFERS_MAX {
            return Err(Unfetched::Lost(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_waits_for_the_gateways_room_and_for_nothing_else() {
        let lost = Unfetched::Lost("no answer".to_owned());
        let mut outcomes = vec![
            Err(lost.clone()),
            Err(HttpError::Busy.into()),
            Err(HttpError::Busy.into()),
        ];
        let mut waits = Vec::new();
        let fetched: Result<(), _> = attempted(
            || outcomes.pop().expect("it is asked for no more"),
            |wait_ms| {
                waits.push(wait_ms);
                true
            },
        );
        assert_eq!(fetched, Err(lost));
        assert!(
            waits.len() == 2 && waits.iter().all(|wait_ms| *wait_ms > 0),
            "{waits:?}"
        );
    }

    #[test]
    fn a_wait_for_room_ends_with_the_channel() {
        let fetched: Result<(), Unfetched> = attempted(|| Err(HttpError::Busy.into()), |_| false);
        assert_eq!(fetched, Err(Unfetched::Later(HttpError::ShuttingDown)));
    }

    #[test]
    fn what_the_gateway_can_not_keep_for_good_is_lost_in_words() {
        for error in [
            HttpError::TooLarge,
            HttpError::Interrupted("https://files.example.org".to_owned()),
            HttpError::Denied("https://files.example.org".to_owned()),
        ] {
            let Unfetched::Lost(words) = Unfetched::from(error.clone()) else {
                panic!("{error:?} would be waited for");
            };
            assert!(!words.contains("example"), "{words}");
        }
    }

    #[test]
    fn a_file_that_is_refused_is_lost_only_where_messages_are_taken_in() {
        let quota = || Err::<String, _>("quota used up".to_owned());
        let refused = offered(quota, || Intake::Open);
        assert_eq!(refused, Err(Unfetched::Lost("quota used up".to_owned())));

        let (mut offers, mut looks) = (0, 0);
        let kept = offered(
            || {
                offers += 1;
                if offers <= 2 * OFFERS_MAX {
                    Err("no room".to_owned())
                } else {
                    Ok("blob".to_owned())
                }
            },
            || {
                looks += 1;
                if looks % 2 == 1 { Intake::Closed } else { Intake::Open }
            },
        );
        assert_eq!(kept, Ok("blob".to_owned()));

        let ended = offered(quota, || Intake::ShuttingDown);
        assert_eq!(ended, Err(Unfetched::Later(HttpError::ShuttingDown)));
    }
}
