//! The operator's hands: what stands on the command line, done and answered.
//!
//! Commands return the text that they answer with, or a [`failure::Failure`] with its remedy and exit code; only this
//! file writes either of them. `run` and `chat` talk while they go on, and write for themselves.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the process speaks to a person"
)]

mod add;
mod apply;
mod args;
mod changes;
mod channel;
mod chat;
mod component;
mod configuration;
mod console;
mod db;
mod failure;
mod inbox;
mod learn;
mod letters;
mod review;
mod run;
mod running;
mod send;
mod text;
mod trace;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing::level_filters::LevelFilter;

use self::args::{ChannelCommand, Cli, Command, ComponentCommand, ConfigCommand, Shared};
use self::failure::{Failure, Kind};
use crate::channel::{COMPILE, compile_as_child};
use crate::config::{Config, Sources};
use crate::gateway::{Mode, guard};
use crate::process;
use crate::telemetry::{self, tell};

/// Does what the process's command line says and returns its exit code: 0 done, 1 failed, 2 wrong command line, 3 wrong
/// configuration, 4 port or data directory in use.
pub fn main() -> ExitCode {
    // Not commands for people: the gateway starts itself like this before the program of an agent, and to compile.
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    if first.as_ref().is_some_and(|first| first == COMPILE) {
        return compile(args);
    }
    // All others have secrets, or their sources, in memory. A compiler has none, and confines itself.
    if let Err(error) = process::leave_no_core() {
        tell(format_args!(
            "warning: a crash may leave a core file with secrets in it: {error}"
        ));
    }
    if first.is_some_and(|first| first == guard::SUBCOMMAND) {
        return run_guard(args);
    }
    let cli = Cli::parse();
    let outcome = set_up_log(&cli.shared, cli.command.as_ref()).and_then(|()| dispatch(cli));
    match outcome.and_then(|text| write_out(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            failure.kind.into()
        }
    }
}

/// Guards an agent's program, whose exit code is passed on.
fn run_guard(mut command: impl Iterator<Item = OsString>) -> ExitCode {
    let program = command.next().unwrap_or_default();
    match guard::run(&program, command) {
        Ok(code) => code.into(),
        Err(error) => {
            tell(format_args!("{} can't be started: {error}", program.display()));
            guard::failed_to_start(&error).into()
        }
    }
}

/// Compiles a component for the gateway that started this.
fn compile(bounds: impl Iterator<Item = OsString>) -> ExitCode {
    match compile_as_child(bounds) {
        Ok(code) => code.into(),
        Err(error) => {
            tell(format_args!("nothing is compiled: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn set_up_log(shared: &Shared, command: Option<&Command>) -> Result<(), Failure> {
    // A service tells of its life; a chat and a report stay readable.
    let default = if matches!(command, Some(Command::Run(_))) {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    let chosen = (shared.quiet || shared.verbose > 0).then(|| telemetry::level(default, shared.verbose, shared.quiet));
    telemetry::init(shared.log, chosen, default).map_err(|error| match error {
        telemetry::Error::Filter(_) => {
            let remedy =
                "write a level such as SLUICEGATE_LOG=debug, or a filter such as SLUICEGATE_LOG=sluicegate=trace";
            Failure::new(Kind::Usage, error.to_string(), remedy)
        }
        telemetry::Error::Twice(_) => Failure::plain(error.to_string()),
    })
}

/// Does what the command line says, and returns what is to be written to standard output.
fn dispatch(cli: Cli) -> Result<String, Failure> {
    let file = cli.shared.config;
    match cli.command {
        None => run::run(&cli.overrides.sources(file), Mode::Interactive),
        Some(Command::Run(overrides)) => run::run(&overrides.or(cli.overrides).sources(file), Mode::Service),
        Some(Command::Chat(args)) => chat::chat(&args, &cli.overrides.sources(file)),
        Some(Command::Channel(command)) => on_channel(command, &cli.overrides.sources(file)),
        Some(Command::Send(args)) => send::send(args, &cli.overrides.sources(file)),
        Some(Command::Outbox(command)) => letters::outbox(command, &cli.overrides.sources(file)),
        Some(Command::Dead(command)) => letters::dead(command, &cli.overrides.sources(file)),
        Some(Command::Inbox(command)) => inbox::inbox(command, &cli.overrides.sources(file)),
        Some(Command::Trace { id, json }) => trace::trace(&cli.overrides.sources(file), &id, json.json),
        Some(Command::Db(command)) => db::db(command, &cli.overrides.sources(file)),
        Some(Command::Changes { limit, json }) => changes::changes(&cli.overrides.sources(file), limit, json.json),
        Some(Command::Component(ComponentCommand::Inspect { component, json })) => {
            component::inspect(&cli.overrides.sources(file), &component, json.json)
        }
        Some(Command::Component(ComponentCommand::List { json })) => component::list(json.json),
        Some(Command::Config(ConfigCommand::Check { json })) => {
            configuration::check(&cli.overrides.sources(file), json.json)
        }
        Some(Command::Config(ConfigCommand::Reference)) => Ok(crate::config::REFERENCE.to_owned()),
    }
}

fn on_channel(command: ChannelCommand, sources: &Sources) -> Result<String, Failure> {
    match command {
        ChannelCommand::Add(args) => add::add(&args, sources, &mut console::Console::of_process()),
        ChannelCommand::List { json } => channel::list(sources, json.json),
        ChannelCommand::Show { name, json } => channel::show(sources, &name, json.json),
        ChannelCommand::Log { name, limit, json } => channel::log(sources, &name, limit, json.json),
        ChannelCommand::Review(args) => review::review(&args, sources, &mut console::Console::of_process()),
        ChannelCommand::Grant { name, grants, revoked } => channel::grant(sources, &name, &grants, &revoked),
        ChannelCommand::Reload { name } => channel::reload(sources, &name),
        ChannelCommand::Pause { name } => channel::set_paused(sources, &name, true),
        ChannelCommand::Resume { name } => channel::set_paused(sources, &name, false),
        ChannelCommand::Remove { name } => channel::remove(sources, &name),
    }
}

/// Writes an answer. A reader that has gone, such as `head`, is no failure.
fn write_out(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::plain(format!("standard output can't be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Reads the configuration and writes its warnings to standard error.
///
/// # Errors
/// All of its faults.
fn read_config(sources: &Sources) -> Result<Config, Failure> {
    let (config, warnings) = Config::read(sources, &component::bundled_names()).into_config()?;
    for warning in warnings {
        tell(format_args!("warning: {warning}"));
    }
    Ok(config)
}

/// Writes a value as JSON for programs, with a line break at its end.
fn json_text(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
