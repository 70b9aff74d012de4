//! `sluicegate config`: what is wrong with the configuration, before anything is started with it.

use std::fmt::Write as _;

use serde_json::json;

use super::component::bundled_names;
use super::failure::{Failure, Kind};
use super::json_text;
use super::run::start_runtime;
use crate::config::{Config, ConfigError, Fault, FaultKind, Reading, Sources};
use crate::gateway::{self, Examined};
use crate::id::ChannelName;

/// Checks the configuration, and what it names: components, agents, certificates.
///
/// # Errors
/// All of its faults. As JSON the faults are the answer on standard output, and the failure only counts them.
pub(super) fn check(sources: &Sources, as_json: bool) -> Result<String, Failure> {
    let Reading {
        config,
        mut faults,
        warnings,
    } = Config::read(sources, &bundled_names());
    // What no TOML could be read from says nothing of what it names.
    let examined = match faults.iter().any(|fault| fault.kind == FaultKind::Unreadable) {
        true => Examined::default(),
        false => without_consequences(start_runtime()?.block_on(gateway::examine(&config))?, &config, &faults),
    };
    faults.extend(examined.faults);
    faults.sort_by_key(|fault| fault.line);
    if as_json {
        return check_as_json(&config, &faults, &warnings, &examined.warnings);
    }
    let mut warned = String::new();
    for warning in &warnings {
        // Writing to a String can't fail.
        let _ = writeln!(warned, "warning: {warning}");
    }
    for warning in &examined.warnings {
        let _ = writeln!(warned, "warning: {warning}");
    }
    if !faults.is_empty() {
        super::write_out(&warned)?;
        return Err(ConfigError { faults }.into());
    }
    let file = config
        .file
        .as_ref()
        .map_or("the built-in configuration".to_owned(), |file| {
            file.display().to_string()
        });
    let channels: Vec<&str> = config.channels.keys().map(ChannelName::as_str).collect();
    let agents: Vec<&str> = config.agents.keys().map(String::as_str).collect();
    Ok(format!(
        "{warned}{file} is right: channels {}; agents {}\n",
        channels.join(", "),
        agents.join(", ")
    ))
}

/// Leaves out what only follows from the faults that were read: an entry that could not be read is not there afterwards.
fn without_consequences(mut examined: Examined, config: &Config, read: &[Fault]) -> Examined {
    let follows = |found: &Fault| {
        let mut names = config.channels.keys().map(ChannelName::as_str);
        let channel = names.find(|name| found.is_of_channel(name));
        read.iter().any(|fault| {
            // A secret without a value is known all the same.
            let is_read = fault.kind == FaultKind::MissingSecret;
            let is_its_channel = !is_read && channel.is_some_and(|name| fault.is_of_channel(name));
            fault.key == found.key || (is_its_channel && found.kind == FaultKind::MissingKey)
        })
    };
    examined.faults.retain(|found| !follows(found));
    if !read.is_empty() {
        examined.warnings.clear();
    }
    examined
}

fn check_as_json(config: &Config, faults: &[Fault], warnings: &[Fault], notes: &[String]) -> Result<String, Failure> {
    let report = json_text(&json!({ "file": config.file, "faults": faults, "warnings": warnings, "notes": notes }));
    if faults.is_empty() {
        return Ok(report);
    }
    super::write_out(&report)?;
    let message = format!("faults in the configuration: {}", faults.len());
    Err(Failure::new(
        Kind::Configuration,
        message,
        "see `faults` on standard output",
    ))
}
