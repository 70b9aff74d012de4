//! `sluicegate config`: what is wrong with the configuration, before anything is started with it.

use std::fmt::Write as _;

use serde_json::json;

use super::component::bundled_names;
use super::failure::{Failure, Kind};
use super::json_text;
use super::run::start_runtime;
use crate::config::{Config, ConfigError, Fault, Reading, Sources};
use crate::gateway::{self, Examined};

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
    // Components are asked only about what can be read: the rest would be faults of the faults.
    let examined = match faults.is_empty() {
        true => start_runtime()?.block_on(gateway::examine(&config))?,
        false => Examined::default(),
    };
    faults.extend(examined.faults);
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
    let channels: Vec<&str> = config.channels.keys().map(crate::id::ChannelName::as_str).collect();
    let agents: Vec<&str> = config.agents.keys().map(String::as_str).collect();
    Ok(format!(
        "{warned}{file} is right: channels {}; agents {}\n",
        channels.join(", "),
        agents.join(", ")
    ))
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
