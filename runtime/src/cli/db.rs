//! `sluicegate db`: checking the store, copying it, and reading it out, whether or not a gateway runs.

use std::io::{self, BufWriter};
use std::path::Path;

use serde_json::json;

use super::args::DbCommand;
use super::component::bundled_names;
use super::failure::{Failure, Kind};
use super::json_text;
use super::run::start_runtime;
use crate::config::{Config, Sources};
use crate::gateway::{self, Archive, ArchiveError, CopyPlace};
use crate::telemetry::tell;

/// Does what stands after `db`.
pub(super) fn db(command: DbCommand, sources: &Sources) -> Result<String, Failure> {
    let data = Config::read(sources, &bundled_names()).config.gateway.data;
    let mut archive = Archive::open(&data).map_err(gateway::Error::from)?;
    match command {
        DbCommand::Check { json } => {
            let faults = archive.check().map_err(|error| failure(error, &data))?;
            if json.json {
                // The exit code says it too, so that a script need not read this.
                return verdict(
                    &faults,
                    json_text(&json!({ "sound": faults.is_empty(), "faults": faults })),
                );
            }
            verdict(&faults, format!("The store in {} is sound.\n", data.display()))
        }
        DbCommand::Backup { folder, json } => {
            let place = CopyPlace::at(&folder);
            let _watch = discard_on_signal(place.clone())?;
            let report = archive.backup(&place).map_err(|error| failure(error, &data))?;
            if json.json {
                return Ok(json_text(&json!({
                    "folder": folder, "database_bytes": report.database_bytes,
                    "blobs": report.blobs, "blobs_gone": report.blobs_gone,
                })));
            }
            Ok(format!(
                "Copied and checked: {} bytes and {} files. To start from it: sluicegate --data {} run\n",
                report.database_bytes,
                report.blobs,
                folder.display()
            ))
        }
        DbCommand::Export => {
            let mut out = BufWriter::new(io::stdout().lock());
            match archive.export(&mut out).and_then(|_| flush(&mut out)) {
                // A reader that has gone, such as `head`, is no failure.
                Err(ArchiveError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                    Ok(String::new())
                }
                exported => exported.map(|()| String::new()).map_err(|error| failure(error, &data)),
            }
        }
    }
}

/// Takes an unfinished copy away when a signal ends the process before it is whole. The runtime that is returned watches
/// for that as long as it lives.
fn discard_on_signal(place: CopyPlace) -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = start_runtime()?;
    // Before anything is written, the signals are heard.
    let told = {
        let _in_it = runtime.enter();
        gateway::told_to_stop()
    };
    runtime.spawn(async move {
        told.await;
        match place.discard() {
            true => tell("the copy was cut short; nothing is left of it"),
            false => tell("the copy is whole and in its place; only the rest of the command was cut short"),
        }
        std::process::exit(gateway::INTERRUPTED.into());
    });
    Ok(runtime)
}

fn flush(out: &mut impl io::Write) -> Result<(), ArchiveError> {
    out.flush().map_err(|source| ArchiveError::Write {
        path: "the output".into(),
        source,
    })
}

fn verdict(faults: &[String], text: String) -> Result<String, Failure> {
    if faults.is_empty() {
        return Ok(text);
    }
    let remedy = "stop the gateway, keep a copy of the data directory, and start from the last `sluicegate db backup`";
    let listed: Vec<String> = faults.iter().map(|fault| crate::shown::printable(fault)).collect();
    let message = format!("the store is damaged:\n  {}", listed.join("\n  "));
    Err(Failure::new(Kind::Failed, message, remedy))
}

fn failure(error: ArchiveError, data: &Path) -> Failure {
    let remedy = match &error {
        ArchiveError::Open(_) => return gateway::Error::from(error).into(),
        ArchiveError::Read(_) | ArchiveError::Unsound(_) => {
            format!(
                "`sluicegate db check` says more; is another program working on {}?",
                data.display()
            )
        }
        ArchiveError::InTheWay(_) => "name a folder that is not there yet".to_owned(),
        _ => "name a place with room that this user may write to".to_owned(),
    };
    Failure::new(Kind::Failed, error.to_string(), remedy)
}
