//! `sluicegate channel list|show|pause|resume|remove`: the configured channels, and how they are in a gateway that runs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::component::bundled_names;
use super::failure::{Failure, Kind};
use super::json_text;
use super::running::Running;
use super::text::{cell, table};
use crate::admin::{ChannelView, List};
use crate::config::{Access, ChannelConfig, Config, Editor, FILE_NAME, Reading, Sources};
use crate::id::ChannelName;

/// Lists the channels, with their status where a gateway runs. Faults of the configuration are said on standard error,
/// and the channels at fault are left out.
pub(super) fn list(sources: &Sources, as_json: bool) -> Result<String, Failure> {
    let config = read_leniently(sources);
    let live = live_channels(sources);
    let live_of = |name: &ChannelName| {
        live.as_ref()
            .and_then(|live| live.iter().find(|view| view.name == *name))
    };
    if as_json {
        let entries = config.channels.iter().map(|(name, channel)| {
            let mut entry = entry(&config, name, channel);
            entry["status"] = json!(live_of(name).map(|view| &view.status));
            entry["status_reason"] = json!(live_of(name).and_then(|view| view.reason.as_ref()));
            entry
        });
        return Ok(json_text(&json!(entries.collect::<Vec<Value>>())));
    }
    let rows = config.channels.iter().map(|(name, channel)| {
        [
            name.to_string(),
            channel.component.to_string(),
            live_of(name).map_or_else(|| "-".to_owned(), status_text),
            channel.agent.clone(),
            access_text(channel),
            grants_text(channel),
        ]
    });
    let head = ["NAME", "COMPONENT", "STATUS", "AGENT", "ACCESS", "GRANTS"].map(str::to_owned);
    let mut text = table(std::iter::once(head).chain(rows));
    if config.channels_are_default {
        text.push_str("No channel is configured: these are the default ones.\n");
    }
    if live.is_none() {
        text.push_str("No gateway runs in this data directory, so there is no status.\n");
    }
    Ok(text)
}

/// Asks a running gateway for its channels. The configuration is listed without it as well, so a failure is only said.
fn live_channels(sources: &Sources) -> Option<Vec<ChannelView>> {
    let asked = Running::find(sources).and_then(|running| {
        let list: Option<Result<List<ChannelView>, Failure>> = running.map(|running| running.get(&["channels"], &[]));
        list.transpose()
    });
    match asked {
        Ok(list) => list.map(|list| list.items),
        Err(failure) => {
            eprintln!("warning: {failure}");
            None
        }
    }
}

fn status_text(view: &ChannelView) -> String {
    match &view.reason {
        Some(reason) => format!("{}: {}", view.status, cell(reason)),
        None => view.status.clone(),
    }
}

/// Pauses or resumes a channel of the gateway that runs.
pub(super) fn set_work(sources: &Sources, name: &str, verb: &str) -> Result<String, Failure> {
    let view: ChannelView = Running::require(sources)?.post(&["channels", name, verb], None)?;
    Ok(format!("channel {}: {}\n", view.name, status_text(&view)))
}

/// Shows one channel.
pub(super) fn show(sources: &Sources, name: &str, as_json: bool) -> Result<String, Failure> {
    let config = read_leniently(sources);
    let found = config.channels.iter().find(|(known, _)| known.as_str() == name);
    let Some((name, channel)) = found else {
        let remedy = "`sluicegate channel list` shows the names, `sluicegate config check` what is wrong";
        return Err(Failure::new(
            Kind::Usage,
            format!("there is no channel {name:?}"),
            remedy,
        ));
    };
    if as_json {
        return Ok(json_text(&entry(&config, name, channel)));
    }
    let mut text = format!("channel {name}\n");
    let mut line = |key: &str, value: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {key:<18} {value}");
    };
    line("component", &channel.component.to_string());
    line("agent", &channel.agent);
    line("access", &access_text(channel));
    for (name, source) in &channel.secret_sources {
        let state = if channel.secrets.contains_key(name) {
            ""
        } else {
            " (not available)"
        };
        line("secret", &format!("{name} from {source}{state}"));
    }
    for (key, value) in &channel.settings {
        line("setting", &format!("{key} = {}", value.to_guest_text()));
    }
    line("grants", &grants_text(channel));
    line("ambiguous resends", &channel.ambiguous_resends.to_string());
    let limits = &channel.limits;
    line("memory", &format!("{} MiB an instance", limits.memory_mib));
    line("call timeout", &format!("{} s", limits.call_timeout_s));
    line(
        "requests",
        &format!(
            "{} at once, {} MiB a response",
            limits.requests_in_flight, limits.response_mib
        ),
    );
    Ok(text)
}

/// Removes a channel from the configuration file. Its data stays.
pub(super) fn remove(sources: &Sources, name: &str) -> Result<String, Failure> {
    let Some(file) = sources.existing_file() else {
        let message = format!("there is no configuration file, so no channel {name:?} to remove");
        return Err(Failure::new(
            Kind::Usage,
            message,
            format!("name the file with --config, or make {FILE_NAME}"),
        ));
    };
    let mut editor = Editor::open(&file)?;
    editor.remove_channel(name)?;
    editor.save()?;
    let mut text = format!(
        "removed channel {name} from {}; its stored messages stay\n",
        editor.path().display()
    );
    if Config::parse(&editor.text(), Some(editor.path()), &bundled_names())
        .config
        .channels_are_default
    {
        text.push_str("No channel is configured any more: the default ones, terminal and websocket, are started.\n");
    }
    text.push_str("A running gateway keeps it until it is started again.\n");
    Ok(text)
}

/// Reads as much of the configuration as is right, and says how much is not.
fn read_leniently(sources: &Sources) -> Config {
    let Reading { config, faults, .. } = Config::read(sources, &bundled_names());
    for fault in &faults {
        eprintln!("warning: {fault}");
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
