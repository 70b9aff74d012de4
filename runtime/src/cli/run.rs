//! `sluicegate` and `sluicegate run`: the gateway itself.

use super::component::bundled_names;
use super::failure::Failure;
use super::read_config;
use crate::config::{Config, Sources};
use crate::gateway::{self, Mode};
use crate::telemetry::tell;
use crate::{limit, process};

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// What kept it from starting, or made it stop.
pub(super) fn run(sources: &Sources, mode: Mode) -> Result<String, Failure> {
    let config = fit_for(mode, read_config(sources)?);
    // What it is refused, it does without: clients are bounded by what there is.
    if let Err(error) = process::allow_open_files(limit::OPEN_FILES_WANTED) {
        tell(format_args!(
            "warning: no more files can be open than at first: {error}"
        ));
    }
    let runtime = start_runtime()?;
    let outcome = runtime.block_on(run_as_written(sources, mode, config));
    // A thread that still waits for a line on standard input can't be woken; all that matters was finished above.
    runtime.shutdown_background();
    outcome?;
    Ok(String::new())
}

/// Runs the gateway by what the configuration says once the data directory is taken: who changed it before that was told
/// that the next gateway has it so.
async fn run_as_written(sources: &Sources, mode: Mode, mut config: Config) -> Result<(), Failure> {
    for _ in 1..limit::CONFIG_READ_TRIES_MAX {
        match gateway::run(config, mode, |read| is_current(sources, mode, read)).await {
            Err(gateway::Error::Outdated) => config = fit_for(mode, read_config(sources)?),
            outcome => return Ok(outcome?),
        }
    }
    Ok(gateway::run(config, mode, |read| is_current(sources, mode, read)).await?)
}

/// Returns whether a configuration is still what is written. What comes through a pipe is read once, and changed by nobody.
fn is_current(sources: &Sources, mode: Mode, config: &Config) -> bool {
    let file = sources.existing_file();
    if file.is_some_and(|file| std::fs::metadata(&file).is_ok_and(|it| !it.is_file())) {
        return true;
    }
    let again = Config::read(sources, &bundled_names()).into_config();
    again.is_ok_and(|(again, _)| fit_for(mode, again) == *config)
}

/// Returns the configuration without the terminal that nobody could write to.
fn fit_for(mode: Mode, config: Config) -> Config {
    match mode {
        Mode::Service if !has_standard_input() => config.without_default_terminal(),
        _ => config,
    }
}

/// Starts the asynchronous runtime, with at least two threads so that one long step never stops the whole gateway.
pub(super) fn start_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(2))
        .enable_all()
        .build()
        .map_err(|error| Failure::plain(format!("the runtime can't be started: {error}")))
}

/// Returns whether anything can be read from standard input: it is open, and not `/dev/null`.
#[cfg(unix)]
fn has_standard_input() -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let Ok(input) = std::fs::metadata("/dev/fd/0") else {
        return false;
    };
    let is_null = std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == input.rdev());
    !(input.file_type().is_char_device() && is_null)
}

#[cfg(not(unix))]
fn has_standard_input() -> bool {
    true
}
