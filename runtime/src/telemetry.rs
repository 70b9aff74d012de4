//! Log lines: to standard error, for people on a terminal or for machines as JSON.
//!
//! What is logged never contains a secret or a message's text; that is kept at the places that log. Dependencies are
//! heard from `warn` upwards, whatever filter is set: nobody redacts what they write for their own developers, such as
//! every byte of a connection.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

/// The environment variable with a filter in the syntax of `tracing_subscriber`, such as `debug` or `sluicegate=trace`.
pub const FILTER_VARIABLE: &str = "SLUICEGATE_LOG";

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text each, with colours on a terminal
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// How much is logged, from the least to the most.
const LEVELS: [LevelFilter; 5] = [
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The filter in the environment can't be understood.
    #[error("{FILTER_VARIABLE} is no log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A log is set up in this process already.
    #[error("logging is set up twice: {0}")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Chooses the level: `default`, raised by each `-v`, or errors alone with `-q`.
pub fn level(default: LevelFilter, verbose: u8, quiet: bool) -> LevelFilter {
    if quiet {
        return LevelFilter::ERROR;
    }
    let base = LEVELS.iter().position(|level| *level == default).unwrap_or(0);
    LEVELS[(base + usize::from(verbose)).min(LEVELS.len() - 1)]
}

/// Sets up the process's log. `chosen` is the level of a flag, which overrules the environment; else `default` holds
/// where the environment says nothing.
///
/// # Errors
/// When the environment's filter is wrong, or a log is set up already.
pub fn init(format: LogFormat, chosen: Option<LevelFilter>, default: LevelFilter) -> Result<(), Error> {
    let registry = tracing_subscriber::registry()
        .with(filter(chosen, default)?)
        .with(filter_fn(|metadata| may_be_heard(metadata.target(), *metadata.level())));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            let wants_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let lines = lines.with_ansi(wants_colour).with_target(false);
            tracing::subscriber::set_global_default(registry.with(lines))?;
        }
        LogFormat::Json => {
            tracing::subscriber::set_global_default(registry.with(lines.json().flatten_event(true)))?;
        }
    }
    Ok(())
}

/// Writes a line for a person to standard error. One that can't be written is left out: that nobody reads it, or that the
/// disk of its file is full, must not end what goes on.
pub fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether a line may be written at all: from the gateway itself, or urgent enough.
fn may_be_heard(target: &str, level: tracing::Level) -> bool {
    let own = target.split("::").next() == Some("sluicegate");
    own || level <= tracing::Level::WARN
}

fn filter(chosen: Option<LevelFilter>, default: LevelFilter) -> Result<EnvFilter, Error> {
    let ours = |level: LevelFilter| {
        let others = level.min(LevelFilter::WARN);
        EnvFilter::try_new(format!("{others},sluicegate={level}"))
    };
    let from_environment = std::env::var(FILTER_VARIABLE)
        .ok()
        .filter(|text| !text.trim().is_empty());
    Ok(match (chosen, from_environment) {
        (Some(level), _) => ours(level)?,
        (None, Some(text)) => EnvFilter::try_new(text)?,
        (None, None) => ours(default)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_heard_from_warnings_upwards_whatever_the_filter_says() {
        use tracing::Level;
        for (target, level, heard) in [
            ("sluicegate::guest", Level::TRACE, true),
            ("sluicegate", Level::DEBUG, true),
            ("hyper::proto", Level::WARN, true),
            ("hyper::proto", Level::ERROR, true),
            ("hyper::proto", Level::INFO, false),
            ("reqwest", Level::TRACE, false),
            ("sluicegate_like", Level::TRACE, false),
        ] {
            assert_eq!(may_be_heard(target, level), heard, "{target} {level}");
        }
    }

    #[test]
    fn flags_move_the_level_and_stop_at_its_ends() {
        assert_eq!(level(LevelFilter::WARN, 0, false), LevelFilter::WARN);
        assert_eq!(level(LevelFilter::WARN, 1, false), LevelFilter::INFO);
        assert_eq!(level(LevelFilter::INFO, 2, false), LevelFilter::TRACE);
        assert_eq!(level(LevelFilter::INFO, 200, false), LevelFilter::TRACE);
        assert_eq!(level(LevelFilter::INFO, 0, true), LevelFilter::ERROR);
    }
}
