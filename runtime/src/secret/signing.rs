//! Signing with a secret that stays in the host.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ring::{hmac, signature};

use super::{Secret, from_hex};

/// How to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// HMAC with SHA-1: 20 bytes. For platforms that are old; never choose it anew.
    HmacSha1,
    /// HMAC with SHA-256: 32 bytes.
    HmacSha256,
    /// HMAC with SHA-512: 64 bytes.
    HmacSha512,
    /// Ed25519: 64 bytes. The secret is a 32-byte seed in hexadecimal or base64, or a PKCS #8 key in PEM or base64.
    Ed25519,
    /// Schnorr signatures over secp256k1 (BIP 340).
    Bip340,
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The secret is no key of this kind.
    #[error(
        "the secret is no Ed25519 key: it must be a 32-byte seed in hexadecimal or base64, or PKCS #8 in PEM or base64"
    )]
    NotAKey,
    /// Not offered.
    #[error("this gateway does not offer BIP 340 signatures")]
    NotOffered,
}

/// Signs `data`.
///
/// # Errors
/// When the secret is no key for this, or the signature is not offered.
pub fn sign(secret: &Secret, signing: Signing, data: &[u8]) -> Result<Vec<u8>, SigningError> {
    let mac = |algorithm| {
        hmac::sign(&hmac::Key::new(algorithm, secret.expose().as_bytes()), data)
            .as_ref()
            .to_vec()
    };
    match signing {
        Signing::HmacSha1 => Ok(mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)),
        Signing::HmacSha256 => Ok(mac(hmac::HMAC_SHA256)),
        Signing::HmacSha512 => Ok(mac(hmac::HMAC_SHA512)),
        Signing::Ed25519 => Ok(ed25519_key(secret)?.sign(data).as_ref().to_vec()),
        Signing::Bip340 => Err(SigningError::NotOffered),
    }
}

fn ed25519_key(secret: &Secret) -> Result<signature::Ed25519KeyPair, SigningError> {
    let text = secret.expose().trim();
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let decoded = from_hex(&body)
        .or_else(|| STANDARD.decode(&body).ok())
        .or_else(|| URL_SAFE.decode(&body).ok());
    let bytes = zeroize::Zeroizing::new(decoded.ok_or(SigningError::NotAKey)?);
    let pair = if bytes.len() == 32 {
        signature::Ed25519KeyPair::from_seed_unchecked(&bytes)
    } else {
        signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes)
    };
    pair.map_err(|_| SigningError::NotAKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    fn signed(secret: &str, signing: Signing, data: &[u8]) -> Result<String, SigningError> {
        sign(&Secret::new(secret.to_owned()), signing, data).map(|bytes| hex(&bytes))
    }

    #[test]
    fn macs_are_those_of_the_standards() {
        // RFC 2202 and RFC 4231, test case 2.
        let data = b"what do ya want for nothing?";
        assert_eq!(
            signed("Jefe", Signing::HmacSha1, data).unwrap(),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
        assert_eq!(
            signed("Jefe", Signing::HmacSha256, data).unwrap(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert!(
            signed("Jefe", Signing::HmacSha512, data)
                .unwrap()
                .starts_with("164b7a7bfcf819e2e395fbe73b56e0a3")
        );
    }

    #[test]
    fn an_ed25519_key_may_be_written_in_several_ways() {
        // RFC 8032, section 7.1, test 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let expected = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
                        d25bf5f0595bbe24655141438e7a100b";
        let bytes = from_hex(seed).unwrap();
        let mut pkcs8 = from_hex("302e020100300506032b657004220420").unwrap();
        pkcs8.extend(&bytes);
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
            STANDARD.encode(&pkcs8)
        );
        for written in [seed.to_owned(), STANDARD.encode(&bytes), pem] {
            assert_eq!(signed(&written, Signing::Ed25519, b"").unwrap(), expected, "{written}");
        }
        for wrong in ["", "zz", &seed[2..]] {
            assert_eq!(
                signed(wrong, Signing::Ed25519, b""),
                Err(SigningError::NotAKey),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_not_offered_says_so() {
        assert_eq!(signed("x", Signing::Bip340, b""), Err(SigningError::NotOffered));
    }
}
