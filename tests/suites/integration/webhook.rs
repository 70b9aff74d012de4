//! Programs that post to the generic webhook: what is taken, and what is refused with which status.

use std::time::Instant;

use harness::{FakePlatform, Setup, TempFolder, TestGateway, signature};
use serde_json::{Value, json};
use sluicegate::limit;

const KEY: &str = "a key that both sides know";

fn body(id: &str) -> Value {
    json!({"id": id, "conversation": "c1", "sender": "ada", "text": "hi"})
}

/// Starts a gateway with the channels `signed` and `open`.
async fn gateway(platform: &FakePlatform) -> TestGateway {
    Setup::new()
        .echo()
        .webhook_with("signed", platform, "secrets = { signing-key = { env = \"HOOK_KEY\" } }")
        .webhook("open", platform)
        .env("HOOK_KEY", KEY)
        .start()
        .await
}

#[tokio::test]
async fn only_what_is_signed_with_the_key_is_taken() {
    let platform = FakePlatform::start().await;
    let gateway = gateway(&platform).await;
    let body = body("m1").to_string();
    let right: &str = &signature(KEY, body.as_bytes());
    let of_another_key: &str = &signature("another key", body.as_bytes());
    let of_another_body: &str = &signature(KEY, b"{}");
    let cases = [
        ("unsigned", vec![], 401),
        ("signed with another key", vec![("x-signature", of_another_key)], 401),
        (
            "the signature of another body",
            vec![("x-signature", of_another_body)],
            401,
        ),
        (
            "without its prefix",
            vec![("x-signature", &right["sha256=".len()..])],
            401,
        ),
        ("empty", vec![("x-signature", "")], 401),
        ("not hexadecimal", vec![("x-signature", "sha256=zz")], 401),
        ("cut", vec![("x-signature", &right[..40])], 401),
        (
            "two signatures, one of them right",
            vec![("x-signature", right), ("x-signature", of_another_key)],
            401,
        ),
        ("rightly signed", vec![("x-signature", right)], 200),
    ];
    for (what, headers, status) in cases {
        let answer = gateway
            .request("POST", "/hooks/signed", &headers, body.as_bytes())
            .await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }
    let in_query = format!("/hooks/signed?x-signature={right}");
    assert_eq!(
        gateway.request("POST", &in_query, &[], body.as_bytes()).await.status,
        401,
        "a signature in the query"
    );

    let taken = platform.wait_for_accepted("c1", 1).await;
    let signed = signature(KEY, &taken[0].request.body);
    assert_eq!(
        taken[0].request.header("x-signature"),
        Some(signed.as_str()),
        "the reply is signed as well"
    );
    assert!(
        (gateway
            .metric("sluicegate_channel_inbound_accepted_total", "signed")
            .await
            - 1.0)
            .abs()
            < 0.5
    );
}

#[tokio::test]
async fn a_repeated_message_is_a_success_and_changes_nothing() {
    let platform = FakePlatform::start().await;
    let gateway = gateway(&platform).await;
    gateway.tell("open", "m1", "c1", "hi").await;
    let again = gateway.post("open", &body("m1")).await;
    assert_eq!(
        (again.status, again.text().as_str()),
        (200, r#"{"status":"duplicate"}"#)
    );
    gateway.tell("open", "m2", "c1", "next").await;
    let texts: Vec<String> = platform
        .wait_for_accepted("c1", 2)
        .await
        .into_iter()
        .map(|one| one.text)
        .collect();
    assert_eq!(texts, ["hi", "next"]);
}

#[tokio::test]
async fn a_malformed_body_is_refused_with_400_that_names_what_is_wrong() {
    let platform = FakePlatform::start().await;
    let gateway = gateway(&platform).await;
    let long = "x".repeat(257);
    let with = |field: &str, value: Value| {
        let mut body = body("m1");
        body[field] = value;
        body.to_string()
    };
    let without = |field: &str| {
        let mut body = body("m1");
        body.as_object_mut().expect("an object").remove(field);
        body.to_string()
    };
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), ""),
        (b"hi".to_vec(), ""),
        (b"{".to_vec(), ""),
        (b"[]".to_vec(), ""),
        (br#"["m1","c1","ada","hi",null,null,false]"#.to_vec(), "object"),
        (b"\xff\xfe".to_vec(), ""),
    ];
    for field in ["id", "conversation", "sender", "text"] {
        cases.push((without(field).into_bytes(), field));
        cases.push((with(field, json!("")).into_bytes(), field));
        cases.push((with(field, json!(7)).into_bytes(), ""));
    }
    for field in ["id", "conversation", "sender", "thread", "sender_name"] {
        cases.push((with(field, json!(long)).into_bytes(), field));
    }
    for (body, named) in cases {
        let answer = gateway.request("POST", "/hooks/open", &[], &body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        let error: Value = serde_json::from_slice(&answer.body).expect("an error is JSON");
        let words = error["error"].as_str().unwrap_or_default().to_owned();
        assert!(!words.is_empty() && words.contains(named), "{shown}: {words}");
    }
    assert!(
        (gateway
            .metric("sluicegate_channel_inbound_accepted_total", "open")
            .await)
            .abs()
            < 0.5
    );
}

#[tokio::test]
async fn what_is_no_call_of_a_channel_gets_the_status_that_says_so() {
    let platform = FakePlatform::start().await;
    let gateway = gateway(&platform).await;
    let body = body("m1").to_string();
    for (method, path, status) in [
        ("GET", "/hooks/open", 405),
        ("PUT", "/hooks/open", 405),
        ("POST", "/hooks/nobody", 404),
        ("POST", "/hooks/open/deeper", 404),
        ("POST", "/hooks", 404),
        ("POST", "/hooks/..%2Fopen", 404),
        ("POST", "/hooks/%ff", 404),
        ("POST", "/hooks/open/%ff", 404),
        ("POST", "/hooks/open/", 200),
    ] {
        let answer = gateway.request(method, path, &[], body.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    let get = gateway.request("GET", "/hooks/open", &[], b"").await;
    assert_eq!(get.header("allow"), Some("POST"));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_its_signature_is_looked_at() {
    let platform = FakePlatform::start().await;
    let gateway = gateway(&platform).await;
    let mut large = body("m1");
    large["text"] = json!("x".repeat(300 * 1024));
    let large = large.to_string();
    for channel in ["open", "signed"] {
        let answer = gateway
            .request("POST", &format!("/hooks/{channel}"), &[], large.as_bytes())
            .await;
        assert_eq!(answer.status, 413, "{channel}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_sender_who_is_not_on_the_list_is_refused() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new()
        .echo()
        .section("[channels.family]\ncomponent = \"webhook\"\naccess = { allow = [\"grace\"] }")
        .start()
        .await;
    let hook = gateway.hook("family").await;
    let post = async |body: Value| gateway.request("POST", &hook, &[], body.to_string().as_bytes()).await;
    let stranger = post(body("m1")).await;
    assert_eq!(stranger.status, 403, "{}", stranger.text());
    let mut known = body("m1");
    known["sender"] = json!("grace");
    let answer = post(known).await;
    assert_eq!(answer.status, 200, "a refused id is not used up: {}", answer.text());
    assert!(platform.arrived().is_empty());
}

#[tokio::test]
async fn a_webhook_that_was_given_no_key_is_open_and_the_operator_is_warned() {
    let gateway = Setup::new()
        .echo()
        .section("[channels.unsigned]\ncomponent = \"webhook\"")
        .section(
            "[channels.bot]\ncomponent = \"telegram\"\naccess = \"open\"\nsecrets = { bot-token = { env = \"PATH\" } }\n\
             grant = [\"https://api.telegram.org\"]",
        )
        .start()
        .await;
    assert_eq!(gateway.hook("unsigned").await, "/hooks/unsigned");
    assert_eq!(gateway.post("unsigned", &body("m1")).await.status, 200);
    let warned = gateway
        .wait_for_log(&["channel unsigned", "webhooks are not checked"])
        .await;
    assert!(warned.contains("signing-key"), "{warned}");
    // What listens to its platform is not meant to be open.
    assert_eq!(gateway.post("bot", &body("m1")).await.status, 404);
    let hook = gateway.hook("bot").await;
    assert!(hook.starts_with("/hooks/bot/"), "{hook}");
    let deeper = gateway.request("POST", &format!("{hook}/deeper"), &[], b"").await;
    assert_eq!(deeper.status, 404);
}

#[tokio::test]
async fn a_flood_of_wrong_signatures_is_counted_whole_and_does_not_flood_the_log() {
    const FLOOD: u32 = 600;
    let (platform, began) = (FakePlatform::start().await, Instant::now());
    let mut gateway = gateway(&platform).await;
    for number in 0..FLOOD {
        let body = body(&format!("m{number}")).to_string();
        let headers = [("x-signature", "sha256=00")];
        let answer = gateway
            .request("POST", "/hooks/signed", &headers, body.as_bytes())
            .await;
        assert_eq!(answer.status, 401);
    }
    let refused = gateway
        .metric("sluicegate_channel_webhooks_refused_total", "signed")
        .await;
    let dropped = gateway
        .metric("sluicegate_channel_log_lines_dropped_total", "signed")
        .await;
    let lines = gateway.program().errors().all();
    let lines = lines
        .iter()
        .filter(|line| line.contains("a webhook was refused"))
        .count();
    assert!((refused - f64::from(FLOOD)).abs() < 0.5, "{refused} were counted");
    let allowed = f64::from(limit::LOG_LINES_BURST)
        + f64::from(limit::LOG_LINES_PER_SECOND_DEFAULT) * began.elapsed().as_secs_f64();
    assert!(
        lines > 0 && lines as f64 <= allowed,
        "{lines} lines in {:?}",
        began.elapsed()
    );
    assert!(dropped >= f64::from(FLOOD) - allowed, "{dropped} lines were dropped");
}

/// A key of the kernel's, for as long as a test runs.
#[cfg(target_os = "linux")]
struct KernelKey(linux_keyutils::Key);

#[cfg(target_os = "linux")]
impl KernelKey {
    fn add(name: &str, value: &str) -> Result<Self, linux_keyutils::KeyError> {
        use linux_keyutils::{KeyRing, KeyRingIdentifier};
        let user = KeyRing::from_special_id(KeyRingIdentifier::User, true)?;
        Ok(Self(user.add_key(name, value)?))
    }
}

#[cfg(target_os = "linux")]
impl Drop for KernelKey {
    fn drop(&mut self) {
        // Else the kernel forgets it with the user's last process.
        let _gone = self.0.invalidate();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_secret_may_be_a_key_of_the_kernels_and_a_missing_one_is_named_with_its_remedy() {
    let name = format!("sluicegate-test-{}", std::process::id());
    let _key = match KernelKey::add(&name, &format!("{KEY}\n")) {
        Ok(key) => key,
        Err(why) => return println!("skipped: the kernel's keyring can't be used here: {why:?}"),
    };
    let platform = FakePlatform::start().await;
    let secrets = format!("secrets = {{ signing-key = {{ keyring = \"{name}\" }} }}");
    let mut gateway = Setup::new()
        .echo()
        .webhook_with("signed", &platform, &secrets)
        .start()
        .await;
    let body = body("m1").to_string();
    let right = signature(KEY, body.as_bytes());
    for (signature, status) in [("sha256=00", 401), (right.as_str(), 200)] {
        let headers = [("x-signature", signature)];
        let answer = gateway
            .request("POST", "/hooks/signed", &headers, body.as_bytes())
            .await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    platform.wait_for_accepted("c1", 1).await;
    assert!(gateway.program().errors().all().iter().all(|line| !line.contains(KEY)));

    let (folder, missing) = (TempFolder::new(), format!("{name}-missing"));
    let file = folder.path().join("sluicegate.toml");
    let secrets = secrets.replace(&name, &missing);
    let channel = format!("[channels.signed]\ncomponent = \"webhook\"\naccess = \"open\"\n{secrets}\n");
    std::fs::write(&file, channel).expect("a file");
    let check = std::process::Command::new(harness::sluicegate_binary())
        .args(["config", "check", "--config"])
        .arg(&file)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(3), "{said}");
    let expected = format!("channels.signed.secrets.signing-key: the kernel's keyring has no key {missing}");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains(&format!("keyctl padd user {missing} @u")), "{said}");
}
