//! `sluicegate channel list|show|grant|pause|resume|remove`: the configured channels, and how they are in a gateway that runs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::add::grant_entry;
use super::apply;
use super::component::bundled_names;
use super::failure::{Failure, Kind};
use super::json_text;
use super::running::Running;
use super::text::{cell, cell_or_dash, table, utc};
use crate::admin::{ChannelView, EgressView, List, UsageView};
use crate::component::{self, Shelf};
use crate::config::{Access, ChannelConfig, ChannelLimits, ComponentSource, Config, Editor, Reading, Sources, nearest};
use crate::id::ChannelName;
use crate::policy::GrantEntry;
use crate::telemetry::tell;

/// Lists the channels, with their status where a gateway runs. Faults of the configuration are said on standard error,
/// and the channels at fault are left out.
pub(super) fn list(sources: &Sources, as_json: bool) -> Result<String, Failure> {
    let config = read_leniently(sources);
    let live = live_channels(sources);
    let views = live.views();
    // What runs is listed whatever became of its configuration.
    let unread: Vec<&ChannelView> = views
        .iter()
        .filter(|view| !config.channels.contains_key(&view.name))
        .collect();
    let live_of = |name: &ChannelName| views.iter().find(|view| view.name == *name);
    if as_json {
        let entries = config.channels.iter().map(|(name, channel)| {
            let mut entry = entry(&config, name, channel);
            entry["status"] = json!(live_of(name).map(|view| &view.status));
            entry["waiting_for_review"] =
                json!(live_of(name).map_or_else(|| is_changed(&config, name, channel), |it| it.review.is_some()));
            entry["status_reason"] = json!(live_of(name).and_then(|view| view.reason.as_ref()));
            entry
        });
        let unread = unread.iter().map(|view| {
            json!({
                "name": view.name,
                "component": view.component,
                "default": false,
                "status": view.status,
                "status_reason": view.reason,
                "waiting_for_review": view.review.is_some(),
            })
        });
        return Ok(json_text(&json!(entries.chain(unread).collect::<Vec<Value>>())));
    }
    let rows = config.channels.iter().map(|(name, channel)| {
        [
            name.to_string(),
            channel.component.to_string(),
            live_of(name).map_or_else(|| configured_status(&config, name, channel).to_owned(), status_text),
            channel.agent.clone(),
            access_text(channel),
            grants_text(channel),
        ]
    });
    let unread = unread.iter().map(|view| {
        let words = "see `sluicegate config check`".to_owned();
        let (name, component) = (view.name.to_string(), cell(&view.component));
        [
            name,
            component,
            status_text(view),
            "?".to_owned(),
            "?".to_owned(),
            words,
        ]
    });
    let head = ["NAME", "COMPONENT", "STATUS", "AGENT", "ACCESS", "GRANTS"].map(str::to_owned);
    let mut text = table(std::iter::once(head).chain(rows).chain(unread));
    if config.channels_are_default {
        text.push_str("No channel is configured: these are the default ones.\n");
    }
    match live {
        Live::Nowhere => text.push_str("No gateway runs in this data directory, so there is no status.\n"),
        Live::Unasked => text.push_str("The gateway of this data directory can't be asked, so there is no status.\n"),
        Live::Here(_) => {}
    }
    Ok(text)
}

/// What is known of the channels of the gateway in the data directory.
enum Live {
    /// None runs.
    Nowhere,
    /// One may run, and can't be asked; why was said.
    Unasked,
    /// It runs, and has these.
    Here(Vec<ChannelView>),
}

impl Live {
    fn views(&self) -> &[ChannelView] {
        match self {
            Self::Nowhere | Self::Unasked => &[],
            Self::Here(views) => views,
        }
    }
}

/// Asks a running gateway for its channels. The configuration is listed without it as well, so a failure is only said.
fn live_channels(sources: &Sources) -> Live {
    let asked = Running::find(sources).and_then(|running| running.map(|running| running.channels()).transpose());
    match asked {
        Ok(Some(views)) => Live::Here(views),
        Ok(None) => Live::Nowhere,
        Err(failure) => {
            tell(failure.as_warning());
            Live::Unasked
        }
    }
}

fn status_text(view: &ChannelView) -> String {
    let mut text = view.status.clone();
    if let Some(reason) = &view.reason {
        text.push_str(&format!(": {}", cell(reason)));
    } else if let Some(review) = &view.review {
        text.push_str(&format!("; waiting for review: {}", cell(&review.words)));
    }
    text
}

/// Returns what can be said of a channel that does not run.
fn configured_status(config: &Config, name: &ChannelName, channel: &ChannelConfig) -> &'static str {
    if is_changed(config, name, channel) {
        "waiting for review"
    } else if channel.paused {
        "paused"
    } else {
        "-"
    }
}

/// Returns whether the component's file is another than the one that was reviewed: a start says so too.
fn is_changed(config: &Config, name: &ChannelName, channel: &ChannelConfig) -> bool {
    let ComponentSource::File(path) = &channel.component else {
        return false;
    };
    let reviewed = Shelf::of(&config.gateway.data).reviewed(name, channel.sha256.as_deref());
    let found = component::read(path).map(|wasm| component::digest(&wasm));
    reviewed.is_some_and(|reviewed| found.is_ok_and(|found| found != reviewed))
}

/// Pauses a channel, or puts it back to work.
pub(super) fn set_paused(sources: &Sources, name: &str, paused: bool) -> Result<String, Failure> {
    let verb = if paused { "pause" } else { "resume" };
    let changed = match Running::find(sources)? {
        Some(running) => Some(with_channel(running, sources, name)?.change(&["channels", name, verb])?),
        None => {
            let file = apply::open(sources, name)?.path().to_owned();
            Editor::edit(&file, |editor| editor.set_paused(name, paused))?;
            apply::caught_up(sources, &file, name)?
        }
    };
    Ok(format!("{verb}d {name}\n{}", apply::report(changed.as_ref())))
}

/// Lets a running gateway take over what the file says of a channel: also that it is not there any more.
pub(super) fn reload(sources: &Sources, name: &str) -> Result<String, Failure> {
    read_leniently(sources);
    let ((), changed) = apply::put(sources, name, || Ok((apply::open_also_without(sources, name)?, ())))?;
    Ok(apply::report(changed.as_ref()))
}

/// Changes what a channel may do; shows it where nothing is to be changed.
pub(super) fn grant(sources: &Sources, name: &str, grants: &[String], revoked: &[String]) -> Result<String, Failure> {
    let config = read_leniently(sources);
    let channel = find(&config, name)?;
    let entries = regranted(channel, name, grants, revoked)?;
    if entries == channel.grants {
        return Ok(granted_text(name, &entries));
    }
    let (entries, changed) = apply::put(sources, name, || {
        let mut editor = apply::open(sources, name)?;
        let config = Config::read(sources, &bundled_names()).config;
        let entries = regranted(find(&config, name)?, name, grants, revoked)?;
        editor.set_grants(name, &entries)?;
        Ok((editor, entries))
    })?;
    Ok(granted_text(name, &entries) + &apply::report(changed.as_ref()))
}

/// Returns what a channel may do after a change.
fn regranted(
    channel: &ChannelConfig,
    name: &str,
    grants: &[String],
    revoked: &[String],
) -> Result<Vec<GrantEntry>, Failure> {
    let mut entries = channel.grants.clone();
    for text in revoked {
        let entry = grant_entry(text)?;
        let before = entries.len();
        entries.retain(|present| !present.is_same_place(&entry));
        if entries.len() == before {
            let remedy = format!("granted are: {}", grants_text(channel));
            let message = format!("{entry} is not granted to {name}");
            return Err(Failure::new(Kind::Usage, message, remedy));
        }
    }
    for text in grants {
        let entry = grant_entry(text)?;
        entries.retain(|present| !present.is_same_place(&entry));
        entries.push(entry);
    }
    Ok(entries)
}

fn granted_text(name: &str, entries: &[GrantEntry]) -> String {
    if entries.is_empty() {
        return format!("granted to {name}: nothing\n");
    }
    let given: Vec<String> = entries.iter().map(ToString::to_string).collect();
    format!("granted to {name}: {}\n", given.join(", "))
}

/// Returns a configured channel.
pub(super) fn find<'c>(config: &'c Config, name: &str) -> Result<&'c ChannelConfig, Failure> {
    let names = || config.channels.keys().map(ChannelName::as_str);
    config.channels.get(name).ok_or_else(|| unknown(name, names()))
}

/// Says that there is no such channel, and which one was probably meant.
pub(super) fn unknown<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Failure {
    let shown = "`sluicegate channel list` shows the names";
    let remedy = match nearest(name, known) {
        Some(meant) => format!("did you mean {meant}? {shown}"),
        None => shown.to_owned(),
    };
    Failure::new(Kind::Usage, format!("there is no channel {name:?}"), remedy)
}

/// Returns the gateway that runs, which must have this channel.
pub(super) fn with_channel(running: Running, sources: &Sources, name: &str) -> Result<Running, Failure> {
    let views = running.channels()?;
    if views.iter().any(|view| view.name.as_str() == name) {
        return Ok(running);
    }
    if Config::read(sources, &bundled_names())
        .config
        .channels
        .contains_key(name)
    {
        let remedy = format!("`sluicegate channel reload {name}` lets it take over what the configuration says");
        let message = format!("the running gateway does not have the channel {name} yet");
        return Err(Failure::new(Kind::Failed, message, remedy));
    }
    Err(unknown(name, views.iter().map(|view| view.name.as_str())))
}

/// Shows one channel.
pub(super) fn show(sources: &Sources, name: &str, as_json: bool) -> Result<String, Failure> {
    let config = read_leniently(sources);
    let channel = find(&config, name)?;
    let name = &ChannelName::from_trusted(name);
    let live = live_channels(sources);
    let live = live.views().iter().find(|view| view.name == *name);
    if as_json {
        let mut entry = entry(&config, name, channel);
        entry["live"] = json!(live);
        return Ok(json_text(&entry));
    }
    let mut lines = own_lines(channel);
    lines.extend(limit_lines(&channel.limits));
    if let Some(live) = live {
        lines.extend(live_lines(live));
    }
    let mut text = format!("channel {name}\n");
    for (key, value) in lines {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {key:<18} {value}");
    }
    Ok(text)
}

/// What is said under a word.
type Line = (&'static str, String);

/// What the configuration says of a channel itself.
fn own_lines(channel: &ChannelConfig) -> Vec<Line> {
    let mut lines = vec![("component", channel.component.to_string())];
    if let Some(digest) = &channel.sha256 {
        lines.push(("reviewed", format!("sha256 {digest}")));
    }
    lines.push(("agent", channel.agent.clone()));
    lines.push(("access", access_text(channel)));
    for (name, source) in &channel.secret_sources {
        let state = if channel.secrets.contains_key(name) {
            ""
        } else {
            " (not available)"
        };
        lines.push(("secret", format!("{name} from {source}{state}")));
    }
    for (key, value) in &channel.settings {
        lines.push(("setting", format!("{key} = {}", value.to_guest_text())));
    }
    lines.push(("grants", grants_text(channel)));
    lines.push(("ambiguous resends", channel.ambiguous_resends.to_string()));
    lines
}

/// What a channel may use.
fn limit_lines(limits: &ChannelLimits) -> [Line; 6] {
    [
        ("memory", format!("{} MiB an instance", limits.memory_mib)),
        (
            "each call",
            format!(
                "{} s, {} s of CPU; {} at once",
                limits.call_timeout_s, limits.call_cpu_s, limits.calls_at_once
            ),
        ),
        ("cpu share", format!("{} % of a core", limits.cpu_percent)),
        (
            "requests",
            format!(
                "{} at once, {} MiB a response, {} MiB a minute",
                limits.requests_in_flight, limits.response_mib, limits.network_mib_per_minute
            ),
        ),
        ("messages", format!("{} a minute", limits.messages_per_minute)),
        (
            "keeps",
            format!(
                "{} MiB of state in {} keys, {} MiB of files",
                limits.state_mib, limits.state_keys, limits.blobs_mib
            ),
        ),
    ]
}

/// How a channel is in the gateway that runs.
fn live_lines(live: &ChannelView) -> Vec<Line> {
    let mut lines = vec![("status", status_text(live))];
    if let Some(path) = &live.webhook {
        lines.push(("webhook", path.clone()));
    }
    lines.extend(usage_lines(&live.usage));
    lines
}

/// What a channel used since the gateway was started.
fn usage_lines(usage: &UsageView) -> [Line; 6] {
    let denied: Vec<String> = usage
        .denials
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{count} {}", cell(reason)))
        .collect();
    let denied = if denied.is_empty() {
        "nothing".to_owned()
    } else {
        denied.join(", ")
    };
    [
        (
            "calls",
            format!(
                "{}, {} of them trapped, {} too late; {} restarts of the listener",
                usage.calls, usage.traps, usage.deadlines, usage.restarts
            ),
        ),
        ("cpu", format!("{} ms", usage.cpu_ms)),
        (
            "memory at most",
            format!("{} KiB", usage.memory_bytes_high.div_ceil(1024)),
        ),
        (
            "network",
            format!(
                "{} requests, {} sockets, {} bytes out, {} bytes in",
                usage.egress_requests, usage.egress_sockets, usage.bytes_out, usage.bytes_in
            ),
        ),
        ("denied", denied),
        (
            "messages in",
            format!(
                "{} stored, {} known before, {} of senders without access",
                usage.inbound_accepted, usage.inbound_duplicates, usage.inbound_refused
            ),
        ),
    ]
}

/// Shows what a channel of the running gateway reached, or tried to, newest first.
pub(super) fn log(sources: &Sources, name: &str, limit: usize, as_json: bool) -> Result<String, Failure> {
    let query = [("limit", limit.to_string())];
    let running = with_channel(Running::require(sources)?, sources, name)?;
    let list: List<EgressView> = running.get(&["channels", name, "egress"], &query)?;
    if as_json {
        return Ok(json_text(&json!(list.items)));
    }
    if list.items.is_empty() {
        return Ok("It reached nothing, and did not try to.\n".to_owned());
    }
    let rows = list.items.iter().map(|entry| {
        [
            utc(entry.at_ms),
            cell(&entry.method),
            cell(&format!("{}{}", entry.place, entry.path)),
            entry
                .status
                .map_or_else(|| cell(&entry.outcome), |status| status.to_string()),
            entry.bytes_out.to_string(),
            entry.bytes_in.to_string(),
            cell_or_dash(
                Some(entry.secrets.join(","))
                    .filter(|names| !names.is_empty())
                    .as_deref(),
            ),
        ]
    });
    let head = ["TIME", "METHOD", "WHERE", "OUTCOME", "OUT", "IN", "SECRETS"].map(str::to_owned);
    Ok(table(std::iter::once(head).chain(rows)))
}

/// Stops a channel and removes it from the configuration file, where it is still there. Its data stays.
pub(super) fn remove(sources: &Sources, name: &str) -> Result<String, Failure> {
    let ((file, was_there, none_is_left), changed) = apply::put(sources, name, || {
        let mut editor = apply::open_also_without(sources, name)?;
        let was_there = editor.has_channel(name);
        if was_there {
            editor.remove_channel(name)?;
        }
        let left = Config::parse(&editor.text(), Some(editor.path()), &bundled_names()).config;
        let file = editor.path().to_owned();
        Ok((editor, (file, was_there, left.channels_are_default)))
    })?;
    let removed = match was_there {
        true => format!("removed channel {name} from {}", file.display()),
        false => format!("channel {name} was not in {} any more", file.display()),
    };
    let mut text = format!("{removed}; its stored messages stay\n");
    if none_is_left {
        text.push_str("No channel is configured any more: from the next start on the default ones are there, terminal and websocket.\n");
    }
    text.push_str(&apply::report(changed.as_ref()));
    Ok(text)
}

/// Reads as much of the configuration as is right, and says how much is not.
fn read_leniently(sources: &Sources) -> Config {
    let Reading { config, faults, .. } = Config::read(sources, &bundled_names());
    for fault in &faults {
        tell(format_args!("warning: {fault}"));
    }
    config
}

fn entry(config: &Config, name: &ChannelName, channel: &ChannelConfig) -> Value {
    let access = match &channel.access {
        None => Value::Null,
        Some(Access::Open) => json!("open"),
        Some(Access::Allow(senders)) => json!({ "allow": senders }),
    };
    let available = |name: &String| channel.secrets.contains_key(name);
    let secrets = channel
        .secret_sources
        .iter()
        .map(|(name, source)| (name.clone(), json!({ "source": source, "available": available(name) })));
    json!({
        "name": name,
        "component": channel.component.to_string(),
        "sha256": channel.sha256,
        "paused": channel.paused,
        "agent": channel.agent,
        "access": access,
        "secrets": secrets.collect::<serde_json::Map<String, Value>>(),
        "settings": channel.settings,
        "grant": channel.grants,
        "ambiguous_resends": channel.ambiguous_resends,
        "limits": channel.limits,
        "default": config.channels_are_default,
    })
}

fn access_text(channel: &ChannelConfig) -> String {
    match &channel.access {
        None => "not set".to_owned(),
        Some(Access::Open) => "open".to_owned(),
        Some(Access::Allow(senders)) if senders.is_empty() => "nobody".to_owned(),
        Some(Access::Allow(senders)) => senders.iter().cloned().collect::<Vec<_>>().join(", "),
    }
}

fn grants_text(channel: &ChannelConfig) -> String {
    if channel.grants.is_empty() {
        return "none".to_owned();
    }
    channel
        .grants
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
