//! What the channel says of itself: the plain truth, or a lie that a test chose.

use sluicegate_sdk::{
    Conversation, Description, Endpoint, InboundMessage, Scheme, Secret, Sender, Setting, WebhookRecipe, folder, http,
    inbox, net, secrets, settings, state,
};

/// The name of the lie stands here in the file: a test writes it over the dots, since nothing else reaches a component
/// that is asked what it is.
static CHOSEN: [u8; 48] = *b"the lie that this guest tells:..................";
const PREFIX: usize = "the lie that this guest tells:".len();

fn chosen() -> &'static str {
    let bytes = std::hint::black_box(&CHOSEN);
    std::str::from_utf8(&bytes[PREFIX..])
        .unwrap_or_default()
        .trim_end_matches('.')
}

pub(crate) fn describe() -> Description {
    let mut truth = Description::new("hostile", env!("CARGO_PKG_VERSION"), "Attacks its host")
        .endpoint(Endpoint::new(Scheme::Http, "127.0.0.1", "the server of the test"))
        .endpoint(Endpoint::new(Scheme::Http, "{server}", "a server at another port"))
        .endpoint(Endpoint::new(Scheme::Ws, "{peer}", "a WebSocket at another port"))
        .setting(Setting::text("server", "Where else it may send its requests"))
        .setting(Setting::text("peer", "Where it may connect to"))
        .secret(Secret::in_header("token", "What must not leak", ["127.0.0.1"]));
    for key in ["listener", "start", "stop", "closed"] {
        truth = truth.setting(Setting::text(key, "The attack to run there"));
    }
    truth.endpoints[0].port = None;
    match chosen() {
        "" => {}
        "settings" => {
            truth.settings = (0..10_000)
                .map(|n| Setting::text(&format!("key-{n}"), "One of many"))
                .collect()
        }
        "secrets" => {
            truth.secrets = (0..10_000)
                .map(|n| Secret::for_signing(&format!("s-{n}"), "One"))
                .collect()
        }
        "endpoints" => truth.endpoints = vec![Endpoint::new(Scheme::Https, "example.org", "One"); 10_000],
        "secret hosts" => truth.secrets[0].hosts = vec!["example.org".to_owned(); 10_000],
        "duplicate setting" => truth = truth.setting(Setting::text("listener", "Again")),
        "duplicate secret" => truth = truth.secret(Secret::for_signing("token", "Again")),
        "default" => truth.settings[0].default = Some("x".repeat(5_000_000)),
        "summary" => truth.summary = "x".repeat(5_000_000),
        "controls" => truth.summary = "Harmless\u{1b}[2K\rAsks for nothing".to_owned(),
        "bidi" => truth.endpoints[0].reason = "for \u{202e}gro.live".to_owned(),
        "folder" => truth.folder = Some("a folder\n\u{1b}[2K".to_owned()),
        "name" => truth.name = "../../etc".to_owned(),
        "empty name" => truth.name = String::new(),
        "version" => truth.version = "1 2\n3".to_owned(),
        "key" => truth.settings[0].key = "a key\n[gateway]".to_owned(),
        "spin" => drop(super::run("spin")),
        "sleep" => drop(super::run("sleep")),
        "panic" => drop(super::run("panic asked what it is")),
        "allocate" => drop(super::run("allocate")),
        "print" => drop(super::run("print_flood")),
        "powers" => truth.summary = powers(),
        other => lie_in_words(&mut truth, other),
    }
    truth
}

/// Lies that carry a value of their own.
fn lie_in_words(truth: &mut Description, words: &str) {
    match super::order(words) {
        ("host", host) => truth.endpoints[0].host = host.to_owned(),
        ("recipe", kind) => truth.webhook = Some(recipe(kind)),
        _ => panic!("no lie is called {words}"),
    }
}

fn recipe(kind: &str) -> WebhookRecipe {
    let mut recipe = WebhookRecipe::hmac_sha256("token", "x-signature", "sha256=", 1000);
    match kind {
        "unknown" => recipe.secret = Some("nobody".to_owned()),
        "none" => recipe.secret = None,
        "header" => recipe.signature_header = Some("x sig\r\nhost: evil".to_owned()),
        "no header" => recipe.signature_header = None,
        "unsigned" => recipe.signed_payload = Some("always the same".to_owned()),
        "size" => recipe.body_bytes_max = u32::MAX,
        _ => {}
    }
    recipe
}

/// Tries what only a granted channel may do, and reports what worked.
fn powers() -> String {
    let message = InboundMessage::text("m1", Conversation::direct("c1"), Sender::person("ada"), "hi");
    let worked = [
        ("publish", inbox::publish(&[message], Some("cursor")).is_ok()),
        ("cursor", inbox::cursor().is_some()),
        ("state", state::set("key", b"value").is_ok()),
        ("http", http::Request::get("http://127.0.0.1:1/").send().is_ok()),
        ("net", net::TcpStream::connect("127.0.0.1", 1, false).is_ok()),
        ("settings", settings::get("listener").is_some()),
        ("folder", folder::put("a", &folder::Content::Bytes(Vec::new())).is_ok()),
        (
            "secrets",
            secrets::available("token") || secrets::reveal("token").is_ok(),
        ),
    ];
    let names: Vec<_> = worked
        .iter()
        .filter(|(_, worked)| *worked)
        .map(|(name, _)| *name)
        .collect();
    format!("worked: {}", names.join(" "))
}
