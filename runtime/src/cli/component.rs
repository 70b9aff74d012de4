//! `sluicegate component`: what a component is and what it asks for, in plain words.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::failure::{Failure, Kind};
use super::json_text;
use super::run::start_runtime;
use crate::channel::{CodeCache, Compilation};
use crate::component::{
    self, CompileBounds, EndpointRequest, Inspection, SecretRequest, Setting, SettingKind, WebhookRecipe,
};
use crate::config::{Config, GatewayConfig, Sources, nearest};

pub(super) use crate::gateway::bundled_names;

/// Reads a component: a bundled one by its name, or a file.
///
/// # Errors
/// Where there is none of that name or no readable file of that path.
pub(super) fn load(name: &str) -> Result<Vec<u8>, Failure> {
    if let Some(bundled) = sluicegate_bundle::find(name) {
        return Ok(bundled.wasm.to_vec());
    }
    let path = Path::new(name);
    // A link that leads nowhere, or to itself, is there all the same: reading it says what is wrong.
    if !path.exists() && !path.is_symlink() {
        let names = bundled_names();
        let remedy = match nearest(name, names.iter().copied()) {
            Some(meant) => format!("did you mean {meant}? bundled are: {}", names.join(", ")),
            None => format!("name the path of a .wasm file, or a bundled one: {}", names.join(", ")),
        };
        return Err(Failure::new(
            Kind::Usage,
            format!("there is no component or file {name:?}"),
            remedy,
        ));
    }
    component::read(path).map_err(|error| {
        let (what, remedy) = if !path.exists() && path.is_symlink() {
            let remedy = "make the link lead to a .wasm file, or name that file itself";
            ("is a symbolic link that can't be followed", remedy)
        } else {
            ("can't be read", "name a readable .wasm file")
        };
        Failure::new(Kind::Failed, format!("{name} {what}: {error}"), remedy)
    })
}

/// Asks a component what it is, in an instance without any power.
///
/// # Errors
/// Why the gateway would refuse it.
pub(super) fn ask(gateway: &GatewayConfig, component: &str, wasm: &[u8]) -> Result<Inspection, Failure> {
    ask_with(gateway.compile, None, component, wasm)
}

/// Asks a component what it is that this gateway is going to run: what is compiled here need not be compiled there again.
/// Without a cache in its data directory, or the right to it, nothing is kept.
///
/// # Errors
/// Why the gateway would refuse it.
pub(super) fn ask_for(gateway: &GatewayConfig, component: &str, wasm: &[u8]) -> Result<Inspection, Failure> {
    let cache = CodeCache::folder_of(&gateway.data);
    let cache = cache.is_dir().then(|| CodeCache::open(&cache).ok()).flatten();
    ask_with(gateway.compile, cache, component, wasm)
}

fn ask_with(
    bounds: CompileBounds,
    cache: Option<CodeCache>,
    component: &str,
    wasm: &[u8],
) -> Result<Inspection, Failure> {
    let compilation = Compilation::by_own_executable(bounds).map_err(|error| Failure::plain(error.to_string()))?;
    start_runtime()?
        .block_on(crate::channel::inspect(wasm, compilation, cache))
        .map_err(|error| {
            let other = "use a component that was built for package sluicegate:channel, with the SDK or any tool chain";
            let remedy = error.remedy().unwrap_or(other);
            Failure::new(Kind::Failed, format!("{component} is refused: {error}"), remedy)
        })
}

/// Describes a component, compiled within the bounds of the configuration, as far as that can be read.
pub(super) fn inspect(sources: &Sources, component: &str, as_json: bool) -> Result<String, Failure> {
    let config = Config::read(sources, &bundled_names()).config;
    let inspection = ask(&config.gateway, component, &load(component)?)?;
    if as_json {
        let value = serde_json::to_value(&inspection).map_err(|error| Failure::plain(error.to_string()))?;
        return Ok(json_text(&value));
    }
    Ok(card(&inspection))
}

/// Lists the bundled components with their sizes.
pub(super) fn list(as_json: bool) -> Result<String, Failure> {
    let bundled = sluicegate_bundle::all();
    if as_json {
        let entries: Vec<_> = bundled
            .iter()
            .map(|it| json!({ "name": it.name, "bytes": it.wasm.len() }))
            .collect();
        return Ok(json_text(&json!(entries)));
    }
    Ok(bundled.iter().fold(String::new(), |mut text, it| {
        let _ = writeln!(text, "{:<16} {:>6} KiB", it.name, it.wasm.len().div_ceil(1024));
        text
    }))
}

/// Writes what a component is and what it asks for.
pub(super) fn card(it: &Inspection) -> String {
    let mut text = format!("{} {}: {}\n", plain(&it.name), plain(&it.version), plain(&it.summary));
    let size = it.bytes.div_ceil(1024);
    let _ = writeln!(text, "  contract {}, {size} KiB, sha256 {}", it.contract, it.digest);
    for does in what_it_does(it) {
        let _ = writeln!(text, "  {does}");
    }
    section(&mut text, "It asks for", asks(it));
    section(&mut text, "Secrets", it.secrets.iter().map(secret_line).collect());
    section(&mut text, "Settings", it.settings.iter().map(setting_line).collect());
    if let Some(words) = crate::channel::powerless_words(&it.powerless_imports) {
        let _ = writeln!(text, "It imports {words}");
    }
    text
}

/// Returns everything that an operator decides about: what it wants to reach, its secrets and where each may go, and how
/// its webhooks are checked; a line each, which differs where the request does.
pub(super) fn requests(it: &Inspection) -> Vec<String> {
    let mut requests: Vec<String> = it.endpoints.iter().map(endpoint_line).collect();
    requests.extend(it.terminal.then(|| "the terminal of the gateway's process".to_owned()));
    requests.extend(it.folder.as_deref().map(folder_line));
    for secret in &it.secrets {
        let places: Vec<String> = secret
            .placements
            .iter()
            .map(|place| format!("{place:?}").to_lowercase())
            .collect();
        requests.push(format!(
            "secret {}; put into: {}",
            secret_line(secret),
            places.join(", ")
        ));
        let reveal = secret
            .reveal
            .then(|| format!("the plain value of the secret {}", plain(&secret.name)));
        requests.extend(reveal);
    }
    for (interface, sentence) in [("webhook", "receive webhooks"), ("connections", "serve clients")] {
        requests.extend(it.offers(interface).then(|| sentence.to_owned()));
    }
    requests.extend(it.webhook.as_ref().map(recipe_line));
    requests
}

fn recipe_line(recipe: &WebhookRecipe) -> String {
    let or_none = |text: &Option<String>| text.as_deref().map_or_else(|| "none".to_owned(), plain);
    let tolerance = recipe
        .tolerance_s
        .map_or_else(|| "none".to_owned(), |seconds| format!("{seconds} s"));
    format!(
        "webhooks checked by {}: secret {}, header {}, prefix {}, time {}, signed {}, tolerance {tolerance}, at most {} bytes",
        plain(&recipe.scheme),
        or_none(&recipe.secret),
        or_none(&recipe.signature_header),
        or_none(&recipe.signature_prefix),
        or_none(&recipe.timestamp_header),
        or_none(&recipe.signed_payload),
        recipe.body_bytes_max
    )
}

/// Returns what it wants to be granted, a line each.
fn asks(it: &Inspection) -> Vec<String> {
    let mut asks: Vec<String> = it.endpoints.iter().map(endpoint_line).collect();
    asks.extend(it.terminal.then(|| "the terminal of the gateway's process".to_owned()));
    asks.extend(it.folder.as_deref().map(folder_line));
    let reveals = it.secrets.iter().filter(|secret| secret.reveal);
    asks.extend(reveals.map(|secret| format!("the plain value of the secret {}", plain(&secret.name))));
    if asks.is_empty() {
        asks.push("nothing: it reaches no network, file or terminal".to_owned());
    }
    asks
}

fn what_it_does(it: &Inspection) -> Vec<String> {
    let mut does = vec!["sends messages".to_owned()];
    for (interface, sentence) in [
        ("listener", "fetches messages by itself"),
        ("webhook", "receives messages at /hooks/CHANNEL"),
        ("connections", "serves clients that connect over a WebSocket"),
        ("presence", "shows that the agent is at work"),
        ("reconciliation", "can find out what became of a message"),
    ] {
        does.extend(it.offers(interface).then(|| sentence.to_owned()));
    }
    if let Some(recipe) = &it.webhook {
        does.push(format!(
            "has its webhooks checked by the gateway: {}",
            plain(&recipe.scheme)
        ));
    }
    if let Some(seconds) = it.deduplicates_for_s {
        does.push(format!("the platform drops copies for {seconds} s"));
    }
    match it.replays_for_s {
        Some(seconds) => does.push(format!(
            "what comes while it is down is kept for {seconds} s by the platform"
        )),
        None if it.offers("listener") && !it.terminal => {
            does.push("what comes while it is down is lost: the platform keeps nothing".to_owned());
        }
        None => {}
    }
    if it.single_receiver {
        does.push("one channel for each account: two would disturb each other".to_owned());
    }
    if !it.features.is_empty() {
        does.push(format!("features: {}", it.features.join(", ")));
    }
    does
}

fn section(text: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}:");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

fn endpoint_line(endpoint: &EndpointRequest) -> String {
    let port = endpoint.port.map(|port| format!(":{port}")).unwrap_or_default();
    let host = match endpoint.host.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(key) => format!("(the host in the setting {})", plain(key)),
        None => plain(&endpoint.host),
    };
    format!(
        "{}://{host}{port}: {}",
        plain(&endpoint.scheme),
        plain(&endpoint.reason)
    )
}

fn folder_line(reason: &str) -> String {
    format!(
        "a folder of your choice, to put new files into (it can neither read nor change what is there): {}",
        plain(reason)
    )
}

fn secret_line(secret: &SecretRequest) -> String {
    let need = if secret.required { "required" } else { "optional" };
    let hosts = match secret.hosts.as_slice() {
        [] => "sent nowhere".to_owned(),
        hosts => format!("sent only to {}", plain(&hosts.join(", "))),
    };
    format!("{} ({need}; {hosts}): {}", plain(&secret.name), plain(&secret.summary))
}

fn setting_line(setting: &Setting) -> String {
    let kind = match setting.kind {
        SettingKind::Text => "text",
        SettingKind::Number => "number",
        SettingKind::Boolean => "true or false",
        SettingKind::ListOfText => "list of texts",
    };
    let need = match (&setting.default, setting.required) {
        (Some(default), _) => format!("default {}", plain(default)),
        (None, true) => "required".to_owned(),
        (None, false) => "optional".to_owned(),
    };
    format!("{} ({kind}; {need}): {}", plain(&setting.key), plain(&setting.summary))
}

/// Takes the control characters out of a component's words: they must not drive the operator's terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
