//! What is taken for genuine, and what is not.

use super::*;
use crate::id::hex;
use ring::signature::KeyPair as _;

const NOW: UnixMillis = 1_700_000_000_000;

fn slack() -> RecipeSource {
    RecipeSource {
        scheme: SignatureScheme::HmacSha256,
        signature_header: Some("X-Slack-Signature".into()),
        prefix: Some("v0=".into()),
        timestamp_header: Some("X-Slack-Request-Timestamp".into()),
        signed_payload: Some("v0:{timestamp}:{body}".into()),
        tolerance: None,
        body_bytes_max: 1024,
    }
}

fn plain(scheme: SignatureScheme, prefix: Option<&str>) -> RecipeSource {
    RecipeSource {
        scheme,
        signature_header: Some("X-Signature".into()),
        prefix: prefix.map(Into::into),
        timestamp_header: None,
        signed_payload: None,
        tolerance: None,
        body_bytes_max: 1024,
    }
}

fn verifier(recipe: &RecipeSource) -> Verifier {
    Verifier::new(recipe, Some(&Secret::new("key".to_owned()))).unwrap()
}

fn sign(payload: &str) -> String {
    hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"key"), payload.as_bytes()).as_ref())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

fn slack_headers(seconds: i64, body: &str) -> HeaderMap {
    let signature = format!("v0={}", sign(&format!("v0:{seconds}:{body}")));
    headers(&[
        ("x-slack-signature", &signature),
        ("x-slack-request-timestamp", &seconds.to_string()),
    ])
}

fn outcome(verifier: &Verifier, headers: &HeaderMap, body: &str) -> Result<(), Refusal> {
    verifier.verify(headers, body.as_bytes(), NOW).map(Admission::accept)
}

#[test]
fn a_signed_request_passes_in_either_case_of_its_digits() {
    let verifier = verifier(&plain(SignatureScheme::HmacSha256, Some("sha256=")));
    let digits = sign("hi");
    for written in [digits.clone(), digits.to_uppercase()] {
        assert_eq!(
            outcome(
                &verifier,
                &headers(&[("x-signature", &format!("sha256={written}"))]),
                "hi"
            ),
            Ok(())
        );
    }
    for wrong in [
        digits.clone(),
        format!("sha1={digits}"),
        format!("sha256={}", &digits[2..]),
        "sha256=".into(),
    ] {
        assert_eq!(
            outcome(&verifier, &headers(&[("x-signature", &wrong)]), "hi"),
            Err(Refusal::Mismatch),
            "{wrong}"
        );
    }
    assert_eq!(
        outcome(
            &verifier,
            &headers(&[("x-signature", &format!("sha256={digits}"))]),
            "ho"
        ),
        Err(Refusal::Mismatch)
    );
}

#[test]
fn two_signatures_are_as_bad_as_none() {
    let verifier = verifier(&plain(SignatureScheme::HmacSha256, None));
    let mut twice = headers(&[("x-signature", &sign("hi"))]);
    twice.append("x-signature", sign("hi").parse().unwrap());
    assert_eq!(outcome(&verifier, &twice, "hi"), Err(Refusal::SignatureMissing));
    assert_eq!(
        outcome(&verifier, &HeaderMap::new(), "hi"),
        Err(Refusal::SignatureMissing)
    );
}

#[test]
fn the_body_limit_comes_first() {
    let verifier = verifier(&slack());
    let long = "x".repeat(1025);
    assert_eq!(outcome(&verifier, &HeaderMap::new(), &long), Err(Refusal::BodyTooLarge));
}

#[test]
fn a_timestamp_may_be_off_by_the_tolerance_in_either_direction() {
    let verifier = verifier(&slack());
    for (seconds, expected) in [
        (NOW / 1000, Ok(())),
        (NOW / 1000 - 300, Ok(())),
        (NOW / 1000 + 300, Ok(())),
        (NOW / 1000 - 301, Err(Refusal::Stale)),
        (NOW / 1000 + 301, Err(Refusal::Stale)),
        (i64::MAX, Err(Refusal::Stale)),
    ] {
        assert_eq!(
            outcome(&verifier, &slack_headers(seconds, "hi"), "hi"),
            expected,
            "{seconds}"
        );
    }
    for wrong in ["", "-1", "1.5", "now", "99999999999999999999"] {
        let mut headers = slack_headers(NOW / 1000, "hi");
        headers.insert("x-slack-request-timestamp", wrong.parse().unwrap());
        assert_eq!(
            outcome(&verifier, &headers, "hi"),
            Err(Refusal::TimestampMissing),
            "{wrong}"
        );
    }
    let mut moved = slack_headers(NOW / 1000, "hi");
    moved.insert(
        "x-slack-request-timestamp",
        (NOW / 1000 - 1).to_string().parse().unwrap(),
    );
    assert_eq!(
        outcome(&verifier, &moved, "hi"),
        Err(Refusal::Mismatch),
        "the timestamp is signed"
    );
}

#[test]
fn a_replay_is_refused_once_its_request_was_accepted() {
    let verifier = verifier(&slack());
    let headers = slack_headers(NOW / 1000, "hi");
    drop(verifier.verify(&headers, b"hi", NOW).unwrap());
    assert_eq!(
        outcome(&verifier, &headers, "hi"),
        Ok(()),
        "a failed request may be tried again"
    );
    assert_eq!(outcome(&verifier, &headers, "hi"), Err(Refusal::Replayed));
    let mut other_case = headers.clone();
    let upper = headers["x-slack-signature"].to_str().unwrap()[3..].to_uppercase();
    other_case.insert("x-slack-signature", format!("v0={upper}").parse().unwrap());
    assert_eq!(
        outcome(&verifier, &other_case, "hi"),
        Err(Refusal::Replayed),
        "another spelling is the same request"
    );
}

#[test]
fn a_copy_of_a_request_that_may_still_fail_is_not_told_that_it_was_taken() {
    let verifier = verifier(&slack());
    let headers = slack_headers(NOW / 1000, "hi");
    let first = verifier.verify(&headers, b"hi", NOW).unwrap();
    assert_eq!(outcome(&verifier, &headers, "hi"), Err(Refusal::InFlight));
    first.accept();
    assert_eq!(outcome(&verifier, &headers, "hi"), Err(Refusal::Replayed));
}

#[test]
fn a_shared_secret_must_match_wholly() {
    let verifier = verifier(&plain(SignatureScheme::SharedSecret, Some("Bearer ")));
    assert_eq!(
        outcome(&verifier, &headers(&[("x-signature", "Bearer key")]), "hi"),
        Ok(())
    );
    for wrong in ["key", "Bearer ke", "Bearer keyy", "Bearer "] {
        assert_eq!(
            outcome(&verifier, &headers(&[("x-signature", wrong)]), "hi"),
            Err(Refusal::Mismatch),
            "{wrong}"
        );
    }
    assert!(verifier.is_secret("x-signature") && !verifier.is_secret("x-other"));
}

#[test]
fn an_ed25519_signature_is_checked_with_the_public_key() {
    let pair = signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let secret = Secret::new(hex(pair.public_key().as_ref()));
    let verifier = Verifier::new(&plain(SignatureScheme::Ed25519, None), Some(&secret)).unwrap();
    let signed = hex(pair.sign(b"hi").as_ref());
    assert_eq!(outcome(&verifier, &headers(&[("x-signature", &signed)]), "hi"), Ok(()));
    assert_eq!(
        outcome(&verifier, &headers(&[("x-signature", &signed)]), "ho"),
        Err(Refusal::Mismatch)
    );
    let no_key = Verifier::new(&plain(SignatureScheme::Ed25519, None), Some(&Secret::new("x".into())));
    assert_eq!(no_key.err(), Some(RecipeError::PublicKey));
}

#[test]
fn a_recipe_that_binds_too_little_is_refused() {
    let wrong = |change: &dyn Fn(&mut RecipeSource)| {
        let mut recipe = slack();
        change(&mut recipe);
        Verifier::new(&recipe, Some(&Secret::new("key".into()))).err()
    };
    assert_eq!(
        wrong(&|r| r.signature_header = None),
        Some(RecipeError::SignatureHeader)
    );
    assert_eq!(
        wrong(&|r| r.signature_header = Some("a b".into())),
        Some(RecipeError::SignatureHeader)
    );
    assert_eq!(
        wrong(&|r| r.timestamp_header = Some("a b".into())),
        Some(RecipeError::TimestampHeader)
    );
    assert_eq!(
        wrong(&|r| r.signed_payload = Some("{timestamp}".into())),
        Some(RecipeError::Payload)
    );
    assert_eq!(
        wrong(&|r| r.signed_payload = Some("{body}".into())),
        Some(RecipeError::Payload)
    );
    assert_eq!(wrong(&|r| r.timestamp_header = None), Some(RecipeError::Payload));
    assert_eq!(wrong(&|r| r.body_bytes_max = usize::MAX), Some(RecipeError::BodyLimit));
    assert_eq!(Verifier::new(&slack(), None).err(), Some(RecipeError::SecretMissing));
    let nothing = RecipeSource {
        signature_header: None,
        ..plain(SignatureScheme::None, None)
    };
    assert!(Verifier::new(&nothing, None).is_ok());
}
