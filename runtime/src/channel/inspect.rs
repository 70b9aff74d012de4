//! Looking at a component before anything of it counts: its imports in plain words, and its own description, checked.
//!
//! Everything here comes from a stranger. A description is refused whole when any part of it is out of bounds, because
//! a person and the configuration are going to see it.

use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::Error;
use crate::component::{EndpointRequest, Inspection, Placement, SecretRequest, Setting, SettingKind, WebhookRecipe};
use crate::guest::bindings::exports::sluicegate::channel::descriptor as wit;
use crate::limit;
use crate::policy::webhook::{RecipeError, RecipeSource, SignatureScheme, Verifier};
use crate::secret::Secret;

/// The contract that this gateway speaks: `wit/since_v0.1.0`.
pub const CONTRACT: &str = "0.1.0";

const CONTRACT_PACKAGE: &str = "sluicegate:channel/";

/// Packages of WASI 0.2 that are linked for everyone, with nothing behind them but clocks and random bytes.
const POWERLESS_WASI: [&str; 6] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// The interfaces of `wasi:http` that lead to the egress gate.
const GATED_HTTP: [&str; 2] = ["wasi:http/types", "wasi:http/outgoing-handler"];

/// Refuses a component that imports what channels can't have, or that was built for another contract.
pub(super) fn refuse_foreign_imports(engine: &Engine, component: &Component) -> Result<(), Error> {
    let component_type = component.component_type();
    let mut foreign = Vec::new();
    for (import, _) in component_type.imports(engine) {
        let (interface, version) = import.split_once('@').unwrap_or((import, ""));
        if interface.starts_with(CONTRACT_PACKAGE) {
            if version != CONTRACT {
                return Err(Error::OtherContract {
                    version: version.to_owned(),
                });
            }
        } else if !is_linked(interface, version) {
            foreign.push(import.to_owned());
        }
    }
    let contract = component_type.exports(engine).find_map(|(export, _)| {
        let (interface, version) = export.split_once('@').unwrap_or((export, ""));
        interface.starts_with(CONTRACT_PACKAGE).then(|| version.to_owned())
    });
    match contract {
        _ if !foreign.is_empty() => Err(Error::ForeignImports {
            imports: foreign,
            powerless_imports: powerless_imports(engine, component),
        }),
        None => Err(Error::NotAChannel {
            purpose: purpose(engine, component),
            powerless_imports: powerless_imports(engine, component),
        }),
        Some(version) if version != CONTRACT => Err(Error::OtherContract { version }),
        Some(_) => Ok(()),
    }
}

fn is_linked(interface: &str, version: &str) -> bool {
    let known = POWERLESS_WASI.iter().any(|package| interface.starts_with(package)) || GATED_HTTP.contains(&interface);
    known && version.starts_with("0.2.")
}

/// Says what a component that is no channel is made for, where it is a usual kind.
fn purpose(engine: &Engine, component: &Component) -> Option<&'static str> {
    component.component_type().exports(engine).find_map(|(export, _)| {
        match export.split_once('@').map_or(export, |(name, _)| name) {
            "wasi:cli/run" => Some("a program for the command line (`wasi:cli/run`)"),
            "wasi:http/incoming-handler" => Some("an HTTP server (`wasi:http/incoming-handler`)"),
            _ => None,
        }
    })
}

/// Returns the imports that look powerful and lead nowhere here, sorted.
pub(super) fn powerless_imports(engine: &Engine, component: &Component) -> Vec<String> {
    let component_type = component.component_type();
    let imports = component_type
        .imports(engine)
        .map(|(import, _)| import.split_once('@').map_or(import, |(name, _)| name));
    let mut powerless: Vec<String> = imports
        .filter(|name| name.starts_with("wasi:sockets/"))
        .map(str::to_owned)
        .collect();
    powerless.sort();
    powerless.dedup();
    powerless
}

/// Says what such imports are, that they lead nowhere, and what to use in their place; none where there are none.
pub fn powerless_words(imports: &[String]) -> Option<String> {
    (!imports.is_empty()).then(|| {
        format!(
            "network sockets ({}), which lead nowhere here: a channel connects through `http` or `net` of \
             `sluicegate:channel`, or `wasi:http`, to the endpoints that the operator granted",
            super::quoted(imports)
        )
    })
}

/// Checks a description and turns it into the host's own form.
pub(super) fn validated(
    description: wit::Description,
    digest: String,
    bytes: usize,
    interfaces: Vec<String>,
    powerless_imports: Vec<String>,
) -> Result<Inspection, Error> {
    let inspection = Inspection {
        digest,
        bytes: bytes as u64,
        name: word("name", description.name)?,
        version: word("version", description.version)?,
        summary: line("summary", description.summary)?,
        contract: CONTRACT.to_owned(),
        interfaces,
        features: features(description.features),
        settings: each("settings", description.settings, setting)?,
        secrets: each("secrets", description.secrets, secret)?,
        endpoints: each("endpoints", description.endpoints, endpoint)?,
        webhook: description.webhook.map(webhook).transpose()?,
        deduplicates_for_s: description.deduplicates_for_s,
        replays_for_s: description.replays_for_s,
        single_receiver: description.single_receiver,
        terminal: description.terminal,
        folder: description
            .folder
            .map(|reason| line("folder reason", reason))
            .transpose()?,
        powerless_imports,
    };
    refuse_repeated(
        "setting",
        inspection.settings.iter().map(|setting| setting.key.as_str()),
    )?;
    refuse_repeated("secret", inspection.secrets.iter().map(|secret| secret.name.as_str()))?;
    refuse_unknown_recipe_secret(&inspection)?;
    Ok(inspection)
}

fn refuse_repeated<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::Description(format!("it names the {what} `{name}` twice")));
        }
    }
    Ok(())
}

fn refuse_unknown_recipe_secret(inspection: &Inspection) -> Result<(), Error> {
    let Some(secret) = inspection.webhook.as_ref().and_then(|recipe| recipe.secret.as_ref()) else {
        return Ok(());
    };
    if inspection.secrets.iter().any(|known| known.name == *secret) {
        return Ok(());
    }
    Err(Error::Description(format!(
        "its webhook is signed with the secret `{secret}`, which it does not declare"
    )))
}

fn each<T, U>(what: &str, items: Vec<T>, check: impl Fn(T) -> Result<U, Error>) -> Result<Vec<U>, Error> {
    if items.len() > limit::DESCRIPTION_ITEMS_MAX {
        return Err(Error::Description(format!(
            "it has {} {what}; {} are allowed",
            items.len(),
            limit::DESCRIPTION_ITEMS_MAX
        )));
    }
    items.into_iter().map(check).collect()
}

fn setting(setting: wit::Setting) -> Result<Setting, Error> {
    Ok(Setting {
        key: word("setting key", setting.key)?,
        summary: line("setting summary", setting.summary)?,
        kind: match setting.kind {
            wit::SettingKind::Text => SettingKind::Text,
            wit::SettingKind::Number => SettingKind::Number,
            wit::SettingKind::Boolean => SettingKind::Boolean,
            wit::SettingKind::ListOfText => SettingKind::ListOfText,
        },
        required: setting.required,
        default: setting
            .default
            .map(|default| line("setting default", default))
            .transpose()?,
    })
}

fn secret(secret: wit::Secret) -> Result<SecretRequest, Error> {
    Ok(SecretRequest {
        name: word("secret name", secret.name)?,
        summary: line("secret summary", secret.summary)?,
        required: secret.required,
        hosts: each("secret hosts", secret.hosts, host)?,
        placements: placements(secret.placements),
        reveal: secret.reveal,
    })
}

fn placements(flags: wit::Placement) -> Vec<Placement> {
    let all = [
        (wit::Placement::HEADER, Placement::Header),
        (wit::Placement::URL_PATH, Placement::UrlPath),
        (wit::Placement::URL_QUERY, Placement::UrlQuery),
        (wit::Placement::JSON_BODY, Placement::JsonBody),
        (wit::Placement::WEBSOCKET_TEXT, Placement::WebsocketText),
        (wit::Placement::TCP_TEXT, Placement::TcpText),
    ];
    all.into_iter()
        .filter(|(flag, _)| (flags & *flag) == *flag)
        .map(|(_, placement)| placement)
        .collect()
}

fn features(flags: wit::Features) -> Vec<String> {
    let all = [
        (wit::Features::CHOICES, "choices"),
        (wit::Features::DELETE, "delete"),
        (wit::Features::EDIT, "edit"),
        (wit::Features::FILES_IN, "files-in"),
        (wit::Features::FILES_OUT, "files-out"),
        (wit::Features::GROUP_CONVERSATIONS, "group-conversations"),
        (wit::Features::REACT, "react"),
        (wit::Features::THREADS, "threads"),
    ];
    all.into_iter()
        .filter(|(flag, _)| (flags & *flag) == *flag)
        .map(|(_, name)| name.to_owned())
        .collect()
}

fn endpoint(endpoint: wit::Endpoint) -> Result<EndpointRequest, Error> {
    let scheme = match endpoint.scheme {
        wit::Scheme::Http => "http",
        wit::Scheme::Https => "https",
        wit::Scheme::Ws => "ws",
        wit::Scheme::Wss => "wss",
        wit::Scheme::Tcp => "tcp",
        wit::Scheme::Tls => "tls",
    };
    Ok(EndpointRequest {
        scheme: scheme.to_owned(),
        host: host(endpoint.host)?,
        port: endpoint.port,
        reason: line("endpoint reason", endpoint.reason)?,
    })
}

fn webhook(recipe: wit::Webhook) -> Result<WebhookRecipe, Error> {
    let scheme = match recipe.scheme {
        wit::SignatureScheme::None => "none",
        wit::SignatureScheme::HmacSha256 => "hmac-sha256",
        wit::SignatureScheme::Ed25519 => "ed25519",
        wit::SignatureScheme::SharedSecret => "shared-secret",
    };
    refuse_unusable_recipe(&recipe)?;
    let optional = |what: &str, text: Option<String>| text.map(|text| line(what, text)).transpose();
    Ok(WebhookRecipe {
        scheme: scheme.to_owned(),
        secret: optional("webhook secret", recipe.secret)?,
        signature_header: optional("signature header", recipe.signature_header)?,
        signature_prefix: optional("signature prefix", recipe.signature_prefix)?,
        timestamp_header: optional("timestamp header", recipe.timestamp_header)?,
        signed_payload: optional("signed payload", recipe.signed_payload)?,
        tolerance_s: recipe.tolerance_s,
        body_bytes_max: recipe.body_bytes_max.min(limit::WEBHOOK_BODY_BYTES_MAX as u32),
    })
}

/// Refuses a recipe that no webhook could be checked with, or that checks less than it seems to: with a stand-in for the
/// operator's secret, which is not known yet.
fn refuse_unusable_recipe(recipe: &wit::Webhook) -> Result<(), Error> {
    let source = RecipeSource {
        scheme: match recipe.scheme {
            wit::SignatureScheme::None => SignatureScheme::None,
            wit::SignatureScheme::HmacSha256 => SignatureScheme::HmacSha256,
            wit::SignatureScheme::Ed25519 => SignatureScheme::Ed25519,
            wit::SignatureScheme::SharedSecret => SignatureScheme::SharedSecret,
        },
        signature_header: recipe.signature_header.clone(),
        prefix: recipe.signature_prefix.clone(),
        timestamp_header: recipe.timestamp_header.clone(),
        signed_payload: recipe.signed_payload.clone(),
        tolerance: recipe.tolerance_s.map(|seconds| Duration::from_secs(seconds.into())),
        body_bytes_max: (recipe.body_bytes_max as usize).min(limit::WEBHOOK_BODY_BYTES_MAX),
    };
    let stand_in = recipe.secret.as_ref().map(|_| Secret::new("0".repeat(64)));
    match Verifier::new(&source, stand_in.as_ref()) {
        Ok(_) => Ok(()),
        Err(RecipeError::SecretMissing) => Err(Error::Description("its webhook is signed, but with no secret".into())),
        Err(error) => Err(Error::Description(error.to_string())),
    }
}

/// Checks a host pattern: a name, `*.` and a suffix, or `{setting-key}`.
fn host(host: String) -> Result<String, Error> {
    let inner = host.strip_prefix("*.").unwrap_or(&host);
    let inner = inner
        .strip_prefix('{')
        .and_then(|key| key.strip_suffix('}'))
        .unwrap_or(inner);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    if inner.is_empty() || inner.len() > limit::DESCRIPTION_WORD_BYTES_MAX * 4 || !inner.bytes().all(plain) {
        return Err(Error::Description(format!(
            "`{}` is no host",
            crate::shown::printable(&host)
        )));
    }
    Ok(host)
}

/// Checks a key or name: letters, digits, `-`, `_` and `.`.
fn word(what: &str, text: String) -> Result<String, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    if text.is_empty() || text.len() > limit::DESCRIPTION_WORD_BYTES_MAX || !text.bytes().all(plain) {
        let shown = crate::shown::printable(&text);
        return Err(Error::Description(format!(
            "its {what} `{shown}` is not a plain word of at most 64 characters"
        )));
    }
    Ok(text)
}

/// Checks a line of text that a person will see.
fn line(what: &str, text: String) -> Result<String, Error> {
    if text.len() > limit::DESCRIPTION_LINE_BYTES_MAX {
        return Err(Error::Description(format!("its {what} has {} bytes", text.len())));
    }
    if crate::shown::printable(&text) != text {
        return Err(Error::Description(format!("its {what} has control characters")));
    }
    Ok(text)
}
