//! How a webhook proves that it is genuine, checked before any guest code runs.
//!
//! The order is fixed: body limit, presence of exactly one signature, timestamp, signature (in constant time), replay.
//! A request that fails learns nothing but that it failed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use ring::{digest, hmac, signature};

use crate::clock::{UnixMillis, millis};
use crate::limit;
use crate::secret::{self, Secret};

mod path_token;
mod seen;
#[cfg(test)]
mod tests;

pub use path_token::{PathToken, PathTokens};
use seen::{Fingerprint, Seen, fingerprint};

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    /// Nothing is signed: the route needs an unguessable token instead.
    None,
    /// HMAC-SHA-256, in hexadecimal.
    HmacSha256,
    /// Ed25519, in hexadecimal; the secret is the platform's public key, in hexadecimal.
    Ed25519,
    /// The secret itself stands in the header.
    SharedSecret,
}

/// A component's webhook recipe, as its description gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeSource {
    /// How the signature is made.
    pub scheme: SignatureScheme,
    /// The header that holds it.
    pub signature_header: Option<String>,
    /// What stands before it, such as `sha256=`.
    pub prefix: Option<String>,
    /// The header that holds the time of signing, Unix seconds.
    pub timestamp_header: Option<String>,
    /// The signed bytes, with `{timestamp}` and `{body}` filled in; where there is none, timestamp and body are joined.
    pub signed_payload: Option<String>,
    /// How far the time of signing may be off; where there is none, [`limit::WEBHOOK_TOLERANCE`].
    pub tolerance: Option<Duration>,
    /// The longest body; at most [`limit::WEBHOOK_BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
}

/// Why a recipe can't be used, as a clause with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A scheme that needs a header, without one.
    #[error("the webhook recipe names no valid signature header")]
    SignatureHeader,
    /// No valid header name.
    #[error("the webhook recipe's timestamp header is no header name")]
    TimestampHeader,
    /// A scheme that needs a secret, without one.
    #[error("the webhook recipe's secret is not configured")]
    SecretMissing,
    /// An Ed25519 key that is none.
    #[error("the webhook's public key must be 64 hexadecimal characters")]
    PublicKey,
    /// A payload that leaves out what it must bind.
    #[error(
        "the webhook recipe's signed payload must contain {{body}} once, and {{timestamp}} once where there is a timestamp header"
    )]
    Payload,
    /// A body limit of nothing, or above what any webhook may have.
    #[error("the webhook recipe's body limit must be from 1 byte to 1 MiB")]
    BodyLimit,
}

/// Why a request was refused. What the sender is told is only the status that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Answer 413.
    #[error("the body is longer than the recipe allows")]
    BodyTooLarge,
    /// Answer 401.
    #[error("there is not exactly one signature")]
    SignatureMissing,
    /// Answer 401.
    #[error("there is not exactly one timestamp in Unix seconds")]
    TimestampMissing,
    /// Answer 401.
    #[error("the timestamp is too far from the present")]
    Stale,
    /// Answer 401.
    #[error("the signature does not match")]
    Mismatch,
    /// The very same request was admitted before: answer 200 and do nothing, for a platform whose first answer was lost.
    #[error("the request was admitted before")]
    Replayed,
    /// The very same request is being worked on, and may still fail: answer 503.
    #[error("the same request is still being worked on")]
    InFlight,
    /// Answer 503.
    #[error("too many signed requests are remembered")]
    Busy,
}

/// What stands between a caller and a channel's webhook.
pub enum Door {
    /// Requests prove themselves that they are genuine.
    Signed(Box<Verifier>),
    /// Nothing is signed: the caller must know the path.
    Hidden(PathToken),
    /// Nothing is signed, and the operator wants everyone to be able to post.
    Open,
}

/// Checks one channel's webhooks. Shared by all requests.
pub struct Verifier {
    proof: Proof,
    timestamp: Option<Timestamp>,
    payload: Vec<Piece>,
    body_bytes_max: usize,
    /// Only used with a timestamp: without one nothing bounds how long a signature would have to be remembered.
    seen: Mutex<Seen>,
}

enum Proof {
    None,
    Hmac {
        header: HeaderName,
        prefix: String,
        key: hmac::Key,
    },
    Ed25519 {
        header: HeaderName,
        prefix: String,
        public_key: [u8; 32],
    },
    SharedSecret {
        header: HeaderName,
        expected: Secret,
    },
}

struct Timestamp {
    header: HeaderName,
    tolerance_ms: i64,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Timestamp,
    Body,
}

impl Verifier {
    /// Prepares the check of a recipe.
    ///
    /// # Errors
    /// When the recipe is incomplete or contradicts itself, or its secret is missing or no key.
    pub fn new(recipe: &RecipeSource, secret: Option<&Secret>) -> Result<Self, RecipeError> {
        if recipe.body_bytes_max == 0 || recipe.body_bytes_max > limit::WEBHOOK_BODY_BYTES_MAX {
            return Err(RecipeError::BodyLimit);
        }
        let proof = Proof::new(recipe, secret)?;
        let timestamp = match &recipe.timestamp_header {
            Some(name) => Some(Timestamp {
                header: header_name(name).ok_or(RecipeError::TimestampHeader)?,
                tolerance_ms: millis(recipe.tolerance.unwrap_or(limit::WEBHOOK_TOLERANCE)),
            }),
            None => None,
        };
        let payload = parse_payload(recipe.signed_payload.as_deref(), timestamp.is_some())?;
        Ok(Self {
            proof,
            timestamp,
            payload,
            body_bytes_max: recipe.body_bytes_max,
            seen: Mutex::default(),
        })
    }

    /// Returns the longest body that is read, bytes: the route's limit while it reads.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Checks a request. The caller keeps the [`Admission`] until the request's effect is durable, and then accepts it:
    /// an admission dropped before that lets the platform's retry in.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: UnixMillis) -> Result<Admission<'_>, Refusal> {
        if body.len() > self.body_bytes_max {
            return Err(Refusal::BodyTooLarge);
        }
        let timestamp = self
            .timestamp
            .as_ref()
            .map(|expected| expected.check(headers, now))
            .transpose()?;
        self.proof
            .check(headers, || self.signed_bytes(timestamp.map(|(text, _)| text), body))?;
        let key = timestamp.map(|(text, expires)| (fingerprint(text.as_bytes(), body), expires));
        if let Some((fingerprint, expires)) = key {
            self.lock_seen().admit(fingerprint, expires, now)?;
        }
        Ok(Admission {
            verifier: self,
            fingerprint: key.map(|(fingerprint, _)| fingerprint),
        })
    }

    /// Whether the header of this name, in lower case, holds the secret itself.
    pub fn is_secret(&self, name: &str) -> bool {
        matches!(&self.proof, Proof::SharedSecret { header, .. } if header.as_str() == name)
    }

    fn signed_bytes(&self, timestamp: Option<&str>, body: &[u8]) -> Vec<u8> {
        let mut signed = Vec::with_capacity(body.len() + 64);
        for piece in &self.payload {
            match piece {
                Piece::Text(text) => signed.extend_from_slice(text),
                Piece::Timestamp => signed.extend_from_slice(timestamp.unwrap_or_default().as_bytes()),
                Piece::Body => signed.extend_from_slice(body),
            }
        }
        signed
    }

    fn lock_seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A genuine request. Accept it once its effect is durable.
#[must_use = "an admission that is dropped lets the same request in again"]
pub struct Admission<'a> {
    verifier: &'a Verifier,
    fingerprint: Option<Fingerprint>,
}

impl Admission<'_> {
    /// Remembers the request, so that a replay of it is refused for as long as its timestamp would be accepted.
    pub fn accept(mut self) {
        if let Some(fingerprint) = self.fingerprint.take() {
            self.verifier.lock_seen().take(&fingerprint);
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some(fingerprint) = self.fingerprint {
            self.verifier.lock_seen().forget(&fingerprint);
        }
    }
}

impl Proof {
    fn new(recipe: &RecipeSource, secret: Option<&Secret>) -> Result<Self, RecipeError> {
        if recipe.scheme == SignatureScheme::None {
            return Ok(Self::None);
        }
        let header = recipe
            .signature_header
            .as_deref()
            .and_then(header_name)
            .ok_or(RecipeError::SignatureHeader)?;
        let secret = secret.ok_or(RecipeError::SecretMissing)?;
        let prefix = recipe.prefix.clone().unwrap_or_default();
        Ok(match recipe.scheme {
            SignatureScheme::None => Self::None,
            SignatureScheme::HmacSha256 => Self::Hmac {
                header,
                prefix,
                key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()),
            },
            SignatureScheme::Ed25519 => {
                let bytes = secret::from_hex(secret.expose()).and_then(|bytes| bytes.try_into().ok());
                Self::Ed25519 {
                    header,
                    prefix,
                    public_key: bytes.ok_or(RecipeError::PublicKey)?,
                }
            }
            SignatureScheme::SharedSecret => Self::SharedSecret {
                header,
                expected: Secret::new(format!("{prefix}{}", secret.expose())),
            },
        })
    }

    fn check(&self, headers: &HeaderMap, signed: impl FnOnce() -> Vec<u8>) -> Result<(), Refusal> {
        let is_genuine = match self {
            Self::None => true,
            Self::Hmac { header, prefix, key } => {
                hmac::verify(key, &signed(), &hex_signature(headers, header, prefix)?).is_ok()
            }
            Self::Ed25519 {
                header,
                prefix,
                public_key,
            } => {
                let claimed = hex_signature(headers, header, prefix)?;
                signature::UnparsedPublicKey::new(&signature::ED25519, public_key)
                    .verify(&signed(), &claimed)
                    .is_ok()
            }
            Self::SharedSecret { header, expected } => {
                let claimed = single(headers, header).ok_or(Refusal::SignatureMissing)?;
                // Digests have one length, so that the comparison takes the same time for any guess.
                let digest_of = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
                equal_in_constant_time(
                    digest_of(claimed).as_ref(),
                    digest_of(expected.expose().as_bytes()).as_ref(),
                )
            }
        };
        if is_genuine { Ok(()) } else { Err(Refusal::Mismatch) }
    }
}

impl Timestamp {
    /// Returns the timestamp's text, and when it stops being accepted.
    fn check<'h>(&self, headers: &'h HeaderMap, now: UnixMillis) -> Result<(&'h str, UnixMillis), Refusal> {
        let text = single(headers, &self.header).and_then(|value| std::str::from_utf8(value).ok());
        let text = text
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
            .ok_or(Refusal::TimestampMissing)?;
        let seconds: i64 = text.parse().map_err(|_| Refusal::TimestampMissing)?;
        let at = seconds.saturating_mul(1000);
        if now.saturating_sub(at).saturating_abs() > self.tolerance_ms {
            return Err(Refusal::Stale);
        }
        Ok((text, at.saturating_add(self.tolerance_ms)))
    }
}

/// Compares two digests without telling by its time where they differ.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    // Verifying a tag under a key that nobody knows compares in constant time; ring offers no bare comparison.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"");
    hmac::verify(&key, left, hmac::sign(&key, right).as_ref()).is_ok()
}

fn header_name(text: &str) -> Option<HeaderName> {
    HeaderName::try_from(text).ok()
}

/// Returns a header's value if it stands there exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

fn hex_signature(headers: &HeaderMap, name: &HeaderName, prefix: &str) -> Result<Vec<u8>, Refusal> {
    let value = single(headers, name).and_then(|value| std::str::from_utf8(value).ok());
    let digits = value
        .ok_or(Refusal::SignatureMissing)?
        .strip_prefix(prefix)
        .ok_or(Refusal::Mismatch)?;
    secret::from_hex(digits).ok_or(Refusal::Mismatch)
}

fn parse_payload(template: Option<&str>, has_timestamp: bool) -> Result<Vec<Piece>, RecipeError> {
    let default = if has_timestamp { "{timestamp}{body}" } else { "{body}" };
    let mut pieces = Vec::new();
    let mut rest = template.unwrap_or(default);
    while !rest.is_empty() {
        let (piece, taken) = if rest.starts_with("{timestamp}") {
            (Piece::Timestamp, "{timestamp}".len())
        } else if rest.starts_with("{body}") {
            (Piece::Body, "{body}".len())
        } else {
            let end = rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| *c == '{')
                .map_or(rest.len(), |(at, _)| at);
            (Piece::Text(rest.as_bytes()[..end].to_vec()), end)
        };
        pieces.push(piece);
        rest = &rest[taken..];
    }
    let count = |wanted: &Piece| pieces.iter().filter(|piece| *piece == wanted).count();
    // A timestamp that is not signed proves nothing, and a signed one that is not checked allows replays.
    let is_bound = count(&Piece::Body) == 1 && count(&Piece::Timestamp) == usize::from(has_timestamp);
    if is_bound {
        Ok(pieces)
    } else {
        Err(RecipeError::Payload)
    }
}
