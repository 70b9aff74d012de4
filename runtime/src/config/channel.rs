//! `[channels.NAME]`: which component runs, for whom, and what it may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::de::DeValue;

use super::agent::{Agents, load_secret, non_empty};
use super::fault::{FaultKind, nearest};
use super::section::{Entry, Section, resolve};
use super::{Access, ChannelConfig, ChannelLimits, ComponentSource, DEFAULT_AGENT, Guarantee, SettingValue};
use crate::id::ChannelName;
use crate::limit;
use crate::policy::endpoint::EndpointError;
use crate::policy::{Endpoint, GrantEntry};
use crate::secret::{Secret, SecretSource};

/// The channel in the process's own terminal, where no channel is configured.
pub(super) const DEFAULT_TERMINAL: &str = "terminal";
/// The channel at `/ws`, where no channel is configured.
const DEFAULT_WEBSOCKET: &str = "websocket";

/// What every channel is checked against.
struct Surroundings<'a> {
    base: &'a Path,
    bundled: &'a [&'a str],
    agents: &'a Agents,
}

/// Reads every channel. The second value says whether none is written, so that they are the default ones.
pub(super) fn read_all(
    root: &mut Section<'_>,
    base: &Path,
    bundled: &[&str],
    agents: &Agents,
) -> (BTreeMap<ChannelName, ChannelConfig>, bool) {
    let around = Surroundings { base, bundled, agents };
    let example = "[channels.NAME] on a line of its own";
    let entries = root
        .section("channels", example)
        .map(|section| section.entries())
        .unwrap_or_default();
    if entries.is_empty() {
        return (default_channels(agents), true);
    }
    let mut channels = BTreeMap::new();
    for (name, entry) in entries {
        let parsed = ChannelName::parse(name).map_err(|why| {
            entry.fault(
                FaultKind::WrongValue,
                format!("a channel's name {why}"),
                "choose another name, such as family",
            );
        });
        let Some(section) = entry.section() else {
            entry.wrong_type("a table", format!("write [channels.{name}] on a line of its own"));
            continue;
        };
        let channel = read(section, &around);
        if let (Ok(name), Some(channel)) = (parsed, channel) {
            channels.insert(name, channel);
        }
    }
    (channels, false)
}

/// Returns the channels of a gateway without any: nobody but the person at this machine reaches them.
fn default_channels(agents: &Agents) -> BTreeMap<ChannelName, ChannelConfig> {
    let agent = default_agent(agents).unwrap_or(DEFAULT_AGENT);
    let channel = |component: &str, grants: Vec<GrantEntry>| {
        let config = ChannelConfig {
            component: ComponentSource::Bundled(component.to_owned()),
            sha256: None,
            paused: false,
            agent: agent.to_owned(),
            access: Some(Access::Open),
            secrets: BTreeMap::new(),
            secret_sources: BTreeMap::new(),
            settings: BTreeMap::new(),
            grants,
            guarantee: Guarantee::default(),
            ambiguous_resends: limit::AMBIGUOUS_RESENDS_DEFAULT,
            limits: ChannelLimits::default(),
        };
        (ChannelName::from_trusted(component), config)
    };
    BTreeMap::from([
        channel(DEFAULT_TERMINAL, vec![GrantEntry::Terminal]),
        channel(DEFAULT_WEBSOCKET, Vec::new()),
    ])
}

/// Returns the agent of a channel that names none: the only one, else `main`, else nobody can tell.
fn default_agent(agents: &Agents) -> Option<&str> {
    match agents.names.as_slice() {
        [only] => Some(only),
        names => names.iter().map(String::as_str).find(|name| *name == DEFAULT_AGENT),
    }
}

fn read(mut section: Section<'_>, around: &Surroundings<'_>) -> Option<ChannelConfig> {
    let component = read_component(&mut section, around);
    let sha256 = read_digest(&mut section, component.as_ref());
    let paused = section.entry("paused").and_then(|entry| read_flag(&entry));
    let agent = read_agent(&mut section, around);
    let access = section.entry("access").map(|entry| read_access(&entry));
    let (secret_sources, secrets) = read_secrets(&mut section, around.base);
    let settings = read_settings(&mut section);
    let grants = section
        .entry("grant")
        .map(|entry| read_grants(&entry, &secret_sources))
        .unwrap_or_default();
    let guarantee = section.entry("guarantee").and_then(|entry| read_guarantee(&entry));
    let resends_at = section.place_of("ambiguous_resends");
    let resends = section
        .integer("ambiguous_resends", 0..=10)
        .and_then(|number| u32::try_from(number).ok());
    if guarantee == Some(Guarantee::AtMostOnce) && resends.is_some_and(|resends| resends > 0) {
        section.contradiction(
            resends_at,
            "at-most-once allows no copy, and this allows some",
            "remove it, or write guarantee = \"at-least-once\"",
        );
    }
    let limits = read_limits(&mut section);
    section.finish();
    let access = match access {
        Some(Some(access)) => Some(access),
        Some(None) => return None,
        None => None,
    };
    Some(ChannelConfig {
        component: component?,
        sha256,
        paused: paused.unwrap_or(false),
        agent: agent?,
        access,
        secrets,
        secret_sources,
        settings,
        grants,
        guarantee: guarantee.unwrap_or_default(),
        ambiguous_resends: resends.unwrap_or(limit::AMBIGUOUS_RESENDS_DEFAULT),
        limits,
    })
}

fn read_guarantee(entry: &Entry<'_>) -> Option<Guarantee> {
    match entry.text()? {
        "at-least-once" => Some(Guarantee::AtLeastOnce),
        "at-most-once" => Some(Guarantee::AtMostOnce),
        other => {
            let remedy =
                "write \"at-least-once\" (a copy is better than a loss) or \"at-most-once\" (the other way round)";
            entry.fault(FaultKind::WrongValue, format!("{other:?} is no guarantee"), remedy);
            None
        }
    }
}

fn read_component(section: &mut Section<'_>, around: &Surroundings<'_>) -> Option<ComponentSource> {
    let bundled = || {
        format!(
            "bundled are: {}; or write the path of a .wasm file",
            around.bundled.join(", ")
        )
    };
    let Some(entry) = section.entry("component") else {
        section.missing("component", bundled());
        return None;
    };
    let text = non_empty(&entry, &bundled())?;
    if let Some(path) = component_path(&text) {
        let path = resolve(around.base, path);
        if !path.is_file() {
            let remedy = "check the path: a relative one starts from the folder of the configuration";
            entry.fault(
                FaultKind::MissingComponent,
                format!("there is no file {}", path.display()),
                remedy,
            );
        }
        return Some(ComponentSource::File(path));
    }
    if around.bundled.contains(&text.as_str()) {
        return Some(ComponentSource::Bundled(text));
    }
    let remedy = nearest(&text, around.bundled.iter().copied())
        .map_or_else(bundled, |meant| format!("did you mean {meant:?}? {}", bundled()));
    entry.fault(
        FaultKind::UnknownName,
        format!("there is no bundled component {text:?}"),
        remedy,
    );
    None
}

/// Reads the digest of the reviewed component. One of a bundled component would pin nothing.
fn read_digest(section: &mut Section<'_>, component: Option<&ComponentSource>) -> Option<String> {
    let entry = section.entry("sha256")?;
    let text = entry.text()?;
    let is_digest = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest {
        let remedy = "`sluicegate channel review NAME` shows the component and writes its digest";
        entry.fault(
            FaultKind::WrongValue,
            "is no SHA-256 in 64 lower-case hexadecimal digits",
            remedy,
        );
        return None;
    }
    if matches!(component, Some(ComponentSource::Bundled(_))) {
        entry.warning(
            "has no effect: the component is bundled, so the gateway's own file pins it",
            "remove this line",
        );
        return None;
    }
    Some(text.to_owned())
}

fn read_flag(entry: &Entry<'_>) -> Option<bool> {
    let flag = entry.value.as_bool();
    if flag.is_none() {
        entry.wrong_type("true or false", "write true or false, without quotes");
    }
    flag
}

/// Returns the text as a path, where it is one and not a bundled name.
pub(super) fn component_path(text: &str) -> Option<&str> {
    (text.contains('/') || Path::new(text).extension().is_some_and(|extension| extension == "wasm")).then_some(text)
}

fn read_agent(section: &mut Section<'_>, around: &Surroundings<'_>) -> Option<String> {
    let names = around.agents.names.join(", ");
    let Some(entry) = section.entry("agent") else {
        let default = default_agent(around.agents).map(str::to_owned);
        if default.is_none() {
            section.missing(
                "agent",
                format!("there are several agents and none is called main: name one of {names}"),
            );
        }
        return default;
    };
    let name = entry.text()?;
    if around.agents.names.iter().any(|known| known == name) {
        return Some(name.to_owned());
    }
    let known = around.agents.names.iter().map(String::as_str);
    let remedy = match nearest(name, known) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("add [agents.{name}], or name one of: {names}"),
    };
    entry.fault(FaultKind::UnknownName, format!("there is no agent {name:?}"), remedy);
    None
}

fn read_access(entry: &Entry<'_>) -> Option<Access> {
    let form = "write access = \"open\" for everyone, or access = { allow = [\"12345\"] } for these senders";
    if entry.value.as_str() == Some("open") {
        return Some(Access::Open);
    }
    let Some(mut section) = entry.section() else {
        let problem = "must be \"open\" or a list of senders";
        entry.fault(FaultKind::WrongValue, problem, form);
        return None;
    };
    let allow = section.entry("allow");
    section.finish();
    let Some(allow) = allow else {
        entry.fault(FaultKind::MissingKey, "says nobody's id", form);
        return None;
    };
    let senders: BTreeSet<String> = allow
        .texts("write each id in quotes, such as allow = [\"12345\"]")?
        .into_iter()
        .collect();
    if senders.contains("") {
        allow.fault(FaultKind::WrongValue, "an id is empty", form);
        return None;
    }
    if allow.value.as_array().is_some_and(|array| array.is_empty()) {
        allow.warning("the list is empty: nobody may talk through this channel", form);
    }
    Some(Access::Allow(senders))
}

type Secrets = (BTreeMap<String, SecretSource>, BTreeMap<String, Secret>);

fn read_secrets(section: &mut Section<'_>, base: &Path) -> Secrets {
    let mut secrets = Secrets::default();
    let Some(table) = section.section("secrets", "secrets = { name = { env = \"NAME\" } }") else {
        return secrets;
    };
    for (name, entry) in table.entries() {
        let Some(loaded) = load_secret(&entry, base) else {
            continue;
        };
        secrets.0.insert(name.to_owned(), loaded.source);
        if let Some(value) = loaded.value {
            secrets.1.insert(name.to_owned(), value);
        }
    }
    secrets
}

fn read_settings(section: &mut Section<'_>) -> BTreeMap<String, SettingValue> {
    let Some(table) = section.section("settings", "settings = { key = \"value\" }") else {
        return BTreeMap::new();
    };
    table
        .entries()
        .into_iter()
        .filter_map(|(key, entry)| Some((key.to_owned(), read_setting(&entry)?)))
        .collect()
}

fn read_setting(entry: &Entry<'_>) -> Option<SettingValue> {
    match entry.value {
        DeValue::String(text) => Some(SettingValue::Text(text.clone().into_owned())),
        DeValue::Boolean(value) => Some(SettingValue::Boolean(*value)),
        DeValue::Array(_) => entry
            .texts("a list holds texts: write [\"one\", \"two\"]")
            .map(SettingValue::Texts),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(SettingValue::Integer);
            if parsed.is_none() {
                entry.fault(
                    FaultKind::WrongValue,
                    "this number has more than 64 bits",
                    "write it in quotes",
                );
            }
            parsed
        }
        DeValue::Float(number) => {
            let parsed = number
                .as_str()
                .parse()
                .ok()
                .filter(|n: &f64| n.is_finite())
                .map(SettingValue::Float);
            if parsed.is_none() {
                entry.fault(FaultKind::WrongValue, "is not a finite number", "write it like 0.5");
            }
            parsed
        }
        DeValue::Datetime(_) | DeValue::Table(_) => {
            entry.wrong_type(
                "a text, a number, true or false, or a list of texts",
                "write it in quotes",
            );
            None
        }
    }
}

fn read_grants(entry: &Entry<'_>, secrets: &BTreeMap<String, SecretSource>) -> Vec<GrantEntry> {
    let form = "write grant = [\"https://api.example.com\"]";
    let mut grants: Vec<GrantEntry> = Vec::new();
    for item in entry.items("a list of grants", form).unwrap_or_default() {
        let Some(grant) = read_grant(&item) else { continue };
        if let GrantEntry::Reveal(name) = &grant
            && !secrets.contains_key(name)
        {
            item.fault(
                FaultKind::Contradiction,
                format!("reveals the secret {name:?}, which is not among the channel's secrets"),
                "add it to secrets, or remove this grant",
            );
        }
        if grants.iter().any(|earlier| earlier.is_same_place(&grant)) {
            item.fault(
                FaultKind::Contradiction,
                format!("{grant} is granted twice"),
                "remove one of the two",
            );
            continue;
        }
        grants.push(grant);
    }
    grants
}

const GRANT_FORM: &str = "write an endpoint such as \"https://api.example.com\", { url = \"https://nas.example\", private = true }, \
                          \"terminal\", \"reveal:NAME\" or \"folder:/path\"";

fn read_grant(item: &Entry<'_>) -> Option<GrantEntry> {
    // What was written is not repeated: people put tokens into URLs.
    let refuse = |why: String| item.fault(FaultKind::WrongValue, why, GRANT_FORM);
    match item.value {
        DeValue::String(text) => text
            .parse()
            .map_err(|error: EndpointError| refuse(error.to_string()))
            .ok(),
        DeValue::Table(_) => {
            let (url, private) = read_grant_table(item)?;
            let endpoint: Endpoint = url
                .parse()
                .map_err(|error: EndpointError| refuse(error.to_string()))
                .ok()?;
            let normal = toml::Value::from(toml::Table::from_iter([
                ("url".to_owned(), toml::Value::from(endpoint.to_string())),
                ("private".to_owned(), toml::Value::from(private)),
            ]));
            normal
                .try_into::<GrantEntry>()
                .map_err(|error| refuse(error.message().to_owned()))
                .ok()
        }
        _ => {
            item.wrong_type("a text or a table", GRANT_FORM);
            None
        }
    }
}

fn read_grant_table(item: &Entry<'_>) -> Option<(String, bool)> {
    let mut section = item.section()?;
    let url = section.entry("url");
    let private = section.entry("private");
    section.finish();
    if url.is_none() {
        item.fault(FaultKind::MissingKey, "names no endpoint", GRANT_FORM);
    }
    let is_private = match &private {
        None => Some(false),
        Some(entry) => read_flag(entry),
    };
    Some((url?.text()?.to_owned(), is_private?))
}

fn read_limits(section: &mut Section<'_>) -> ChannelLimits {
    let default = ChannelLimits::default();
    let Some(mut table) = section.section("limits", "limits = { memory_mib = 128 }") else {
        return default;
    };
    let mut bound = |key, bounds, default| {
        table
            .integer(key, bounds)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(default)
    };
    let limits = ChannelLimits {
        memory_mib: bound("memory_mib", 1..=4096, default.memory_mib),
        call_timeout_s: bound("call_timeout_s", 1..=600, default.call_timeout_s),
        call_cpu_s: bound("call_cpu_s", 1..=600, default.call_cpu_s),
        cpu_percent: bound("cpu_percent", 1..=1600, default.cpu_percent),
        calls_at_once: bound("calls_at_once", 1..=1024, default.calls_at_once),
        requests_in_flight: bound("requests_in_flight", 1..=256, default.requests_in_flight),
        response_mib: bound("response_mib", 1..=256, default.response_mib),
        sockets: bound("sockets", 1..=256, default.sockets),
        network_mib_per_minute: bound("network_mib_per_minute", 1..=1_048_576, default.network_mib_per_minute),
        clients: bound("clients", 1..=65_536, default.clients),
        messages_per_minute: bound("messages_per_minute", 1..=60_000_000, default.messages_per_minute),
        state_mib: bound("state_mib", 1..=1024, default.state_mib),
        state_keys: bound("state_keys", 1..=1_000_000, default.state_keys),
        blobs_mib: bound("blobs_mib", 1..=1_048_576, default.blobs_mib),
        log_lines_per_second: bound("log_lines_per_second", 1..=10_000, default.log_lines_per_second),
        log_line_bytes: bound("log_line_bytes", 80..=65_536, default.log_line_bytes),
    };
    table.finish();
    limits
}
