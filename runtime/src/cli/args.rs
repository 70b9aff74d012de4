//! The command line's grammar, and what `--help` says.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::config::{Sources, parse_listen};
use crate::limit::OPERATOR_ROWS_DEFAULT;
use crate::telemetry::LogFormat;

mod channel;

pub(super) use channel::{AddArgs, ChannelCommand, ReviewArgs};

/// Reads how many rows are wanted. None would look as if there were none.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("must be a whole number from 1 on".to_owned()),
    }
}

const EXAMPLES: &str = "\
Examples:
  sluicegate                              start the gateway and chat right here
  sluicegate run --config gate.toml       start the gateway as a service
  sluicegate chat                         chat with a gateway that is running
  sluicegate channel add telegram         add a channel, asked step by step
  sluicegate trace MESSAGE                where is my reply?
  sluicegate config check                 report everything that is wrong with the configuration

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 wrong configuration, 4 port or data directory
in use.";

const RUN_EXAMPLES: &str = "\
Examples:
  sluicegate run
  sluicegate run --config /etc/sluicegate.toml --log json
  sluicegate run --listen 127.0.0.1:0 --data /var/lib/sluicegate </dev/null

The end of standard input does not stop a service; SIGTERM, Ctrl-C and a terminal that is closed
(SIGHUP, unless nohup keeps it away) finish the accepted work and exit. With standard input at
/dev/null the terminal channel that is there by default is left out.";

const CHAT_EXAMPLES: &str = "\
Examples:
  sluicegate chat
  sluicegate chat --conversation notes            go on with an earlier conversation
  printf 'hi\\n' | sluicegate chat                 one question, the answer on standard output
  sluicegate chat --url ws://127.0.0.1:7878/ws

At the end of standard input it waits for the answers that are still to come. What was accepted is
never lost: an answer that nobody waited for comes with the next chat in the same conversation.";

const OUTBOX_EXAMPLES: &str = "\
Examples:
  sluicegate outbox list
  sluicegate outbox list --channel family --limit 500 --json
  sluicegate outbox show dlv_6f1d2c3b4a5968778695a4
  sluicegate outbox hold dlv_6f1d2c3b4a5968778695a4
  sluicegate outbox release dlv_6f1d2c3b4a5968778695a4
  sluicegate outbox drop dlv_6f1d2c3b4a5968778695a4

The oldest comes first. A message waits for its time, for its channel, or for the one before it in
the same conversation. One that is held back holds up those behind it; it still expires, and is a
dead letter then. One that is being sent just now can't be changed.";

const DEAD_EXAMPLES: &str = "\
Examples:
  sluicegate dead list
  sluicegate dead show dlv_6f1d2c3b4a5968778695a4
  sluicegate dead redrive dlv_6f1d2c3b4a5968778695a4
  sluicegate dead redrive --all --channel family
  sluicegate dead drop dlv_6f1d2c3b4a5968778695a4
  sluicegate dead drop --all --reason 'no such conversation'

A dead letter that is put back goes to the end of its conversation, with the same key, fresh
attempts and a fresh expiry. Parts that the platform has are not sent again.";

const INBOX_EXAMPLES: &str = "\
Examples:
  sluicegate inbox dead
  sluicegate inbox resubmit evt_0190a1b2c3d4e5f60718293a4b5c6d7e
  sluicegate inbox drop evt_0190a1b2c3d4e5f60718293a4b5c6d7e

A message is given up when the agent failed for good, or too often. One that is resubmitted is asked
as if it had just come in.";

const SEND_EXAMPLES: &str = "\
Examples:
  sluicegate send family 12345 'The backup is done.'
  df -h | sluicegate send ops alerts -
  sluicegate send reports weekly 'As asked.' --file report.pdf
  sluicegate send ops alerts 'Disk full' --key disk-full-2026-05-01

The message is stored, and delivered as an answer would be; `sluicegate trace KEY` shows what
becomes of it. One that is sent again with the same --key changes nothing, and this says so.";

const TRACE_EXAMPLES: &str = "\
Examples:
  sluicegate trace m1
  sluicegate trace evt_0190a1b2c3d4e5f60718293a4b5c6d7e
  sluicegate trace dlv_6f1d2c3b4a5968778695a4 --json

What came in is known for a week after it was answered, what went out for a month. Times are in UTC.";

const DB_EXAMPLES: &str = "\
Examples:
  sluicegate db check
  sluicegate db backup /backups/sluicegate-2026-11-22
  sluicegate db export | gzip > sluicegate.jsonl.gz
  sluicegate --data /var/lib/sluicegate db check --json

All of it works while a gateway runs, on one state of the whole. A backup is a data directory of its
own: to go back to it, stop the gateway and start one with --data. It has what people wrote in it,
like the store itself, so only its owner can read it. What channels keep for themselves (state, files)
is in a backup, not in an export.";

/// A self-hosted gateway between messaging platforms and an AI agent.
///
/// Every channel is a sandboxed WebAssembly component that reaches only what you granted. Without a command the gateway
/// is started and chats right here in the terminal; the end of input, or Ctrl-C, finishes the accepted work and exits.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, max_term_width = 100, after_help = EXAMPLES, subcommand_help_heading = "Commands")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) shared: Shared,
    #[command(flatten)]
    pub(super) overrides: Overrides,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(super) struct Shared {
    /// The configuration file [default: ./sluicegate.toml if there is one, else built-in defaults]
    #[arg(
        long,
        value_name = "FILE",
        env = "SLUICEGATE_CONFIG",
        hide_env_values = true,
        global = true,
        help_heading = "Global options"
    )]
    pub(super) config: Option<PathBuf>,
    /// Log more; twice for all details
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Global options")]
    pub(super) verbose: u8,
    /// Log errors only
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Global options"
    )]
    pub(super) quiet: bool,
    /// How log lines are written to standard error: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        global = true,
        help_heading = "Global options"
    )]
    pub(super) log: LogFormat,
}

/// What is said over the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Overrides {
    /// The data directory, in place of the configured one
    #[arg(long, value_name = "DIR", env = "SLUICEGATE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// The listener's address, in place of the configured one
    #[arg(long, value_name = "ADDR", env = "SLUICEGATE_LISTEN", hide_env_values = true, value_parser = parse_listen)]
    listen: Option<SocketAddr>,
}

impl Overrides {
    /// Returns these, with what they leave open taken from `outer`, so that `sluicegate --listen A run` is not lost.
    pub(super) fn or(self, outer: Self) -> Self {
        Self {
            data: self.data.or(outer.data),
            listen: self.listen.or(outer.listen),
        }
    }

    /// Returns where the configuration is read from.
    pub(super) fn sources(self, file: Option<PathBuf>) -> Sources {
        Sources {
            file,
            data: self.data,
            listen: self.listen,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the gateway as a service
    #[command(after_help = RUN_EXAMPLES)]
    Run(Overrides),
    /// Chat with a running gateway over its WebSocket
    #[command(after_help = CHAT_EXAMPLES)]
    Chat(ChatArgs),
    /// Send a message through a channel of a running gateway
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArgs),
    /// See what waits to be delivered; hold it back, or drop it
    #[command(subcommand, arg_required_else_help = true, after_help = OUTBOX_EXAMPLES)]
    Outbox(OutboxCommand),
    /// See what could not be delivered; put it back, or drop it
    #[command(subcommand, arg_required_else_help = true, after_help = DEAD_EXAMPLES)]
    Dead(DeadCommand),
    /// See messages that the agent could not answer; let it try again, or drop them
    #[command(subcommand, arg_required_else_help = true, after_help = INBOX_EXAMPLES)]
    Inbox(InboxCommand),
    /// Follow a message from the platform to its answer's receipt
    #[command(after_help = TRACE_EXAMPLES)]
    Trace {
        /// An event, a delivery key, the key given to `send`, or the platform's id of a message that came in or was sent
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        #[command(flatten)]
        json: Json,
    },
    /// List what operators changed, newest first
    Changes {
        /// How many, 500 at most
        #[arg(long, value_name = "COUNT", default_value_t = OPERATOR_ROWS_DEFAULT, value_parser = at_least_one)]
        limit: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Add, list, show, log, review, grant, reload, pause, resume and remove channels
    #[command(subcommand, arg_required_else_help = true)]
    Channel(ChannelCommand),
    /// Check, back up and export the store
    #[command(subcommand, arg_required_else_help = true, after_help = DB_EXAMPLES)]
    Db(DbCommand),
    /// Look into components
    #[command(subcommand, arg_required_else_help = true)]
    Component(ComponentCommand),
    /// Check the configuration, or print the reference
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    /// The gateway's WebSocket [default: /ws at the configured listener]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// The conversation to go on with [default: a new one]
    #[arg(long, value_name = "ID")]
    pub(super) conversation: Option<String>,
    /// How long to wait for answers after the end of input, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(super) wait: u64,
}

/// A message to send.
#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The channel
    pub(super) channel: String,
    /// The platform's id of the conversation
    // Telegram's groups have negative numbers.
    #[arg(allow_negative_numbers = true)]
    pub(super) conversation: String,
    /// What to say, in CommonMark; `-` reads it from standard input
    #[arg(required_unless_present = "file")]
    pub(super) text: Option<String>,
    /// The thread in the conversation
    #[arg(long)]
    pub(super) thread: Option<String>,
    /// A file to send along; may be given more than once
    #[arg(long, value_name = "PATH")]
    pub(super) file: Vec<PathBuf>,
    /// An id of your own, so that a second call changes nothing
    #[arg(long)]
    pub(super) key: Option<String>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum OutboxCommand {
    /// List what is neither delivered nor given up
    List {
        /// Of this channel only
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = OPERATOR_ROWS_DEFAULT, value_parser = at_least_one)]
        limit: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Show one message with its whole text
    Show {
        /// Its delivery key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        #[command(flatten)]
        json: Json,
    },
    /// Hold a message back, and those behind it in its conversation
    Hold {
        /// Its delivery key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        #[command(flatten)]
        json: Json,
    },
    /// Let a message go that was held back
    Release {
        /// Its delivery key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        #[command(flatten)]
        json: Json,
    },
    /// Drop a message for good; those behind it go on
    Drop {
        /// Its delivery key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        #[command(flatten)]
        json: Json,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List dead letters, newest first
    List {
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = OPERATOR_ROWS_DEFAULT, value_parser = at_least_one)]
        limit: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Show one dead letter with its whole text
    Show {
        /// Its delivery key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        #[command(flatten)]
        json: Json,
    },
    /// Put a dead letter back, or many of them
    Redrive(OneOrAll),
    /// Drop a dead letter for good, or many of them
    Drop(OneOrAll),
}

/// Which dead letters are listed.
#[derive(Debug, Clone, Args)]
pub(super) struct Which {
    /// Of this channel only
    #[arg(long, value_name = "NAME")]
    pub(super) channel: Option<String>,
    /// Only those with this text in the reason why they died
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

/// Which dead letters are changed.
#[derive(Debug, Clone, Args)]
// As a group, so that who says neither is told of both.
#[command(group(ArgGroup::new("letters").required(true).args(["key", "all"])))]
pub(super) struct OneOrAll {
    /// Its delivery key
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) key: Option<String>,
    /// All dead letters
    #[arg(long)]
    pub(super) all: bool,
    /// With --all: of this channel only
    #[arg(long, value_name = "NAME", requires = "all", conflicts_with = "key")]
    pub(super) channel: Option<String>,
    /// With --all: only those with this text in the reason why they died
    #[arg(long, value_name = "TEXT", requires = "all", conflicts_with = "key")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Read the whole store and report everything that is wrong with it
    ///
    /// The exit code is 1 where anything is.
    Check {
        #[command(flatten)]
        json: Json,
    },
    /// Copy the store into a new folder, and check the copy
    Backup {
        /// The folder, which must not be there yet
        folder: PathBuf,
        #[command(flatten)]
        json: Json,
    },
    /// Write history, messages and changes to standard output, one JSON object a line
    Export,
}

#[derive(Debug, Subcommand)]
pub(super) enum InboxCommand {
    /// List messages that were given up, newest first
    #[command(visible_alias = "list")]
    Dead {
        /// How many, 500 at most
        #[arg(long, value_name = "COUNT", default_value_t = OPERATOR_ROWS_DEFAULT, value_parser = at_least_one)]
        limit: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Let the agent try a message again that was given up
    Resubmit {
        /// The gateway's id of the message, evt_…
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        event: String,
        #[command(flatten)]
        json: Json,
    },
    /// Drop a message for good that was given up
    Drop {
        /// The gateway's id of the message, evt_…
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        event: String,
        #[command(flatten)]
        json: Json,
    },
}

/// Whether a program reads the answer.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Json {
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ComponentCommand {
    /// Say what a component is and what it asks for
    Inspect {
        /// A bundled component's name, or the path of a .wasm file
        component: String,
        #[command(flatten)]
        json: Json,
    },
    /// List the bundled components
    List {
        #[command(flatten)]
        json: Json,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Report everything that is wrong with the configuration
    Check {
        #[command(flatten)]
        json: Json,
    },
    /// Print the reference: every key with its default
    Reference,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_override_before_the_command_is_not_lost() {
        let cli = Cli::try_parse_from(["sluicegate", "--listen", "localhost:1", "run", "--data", "d"]).unwrap();
        let Some(Command::Run(overrides)) = cli.command else {
            panic!("not run")
        };
        let sources = overrides.or(cli.overrides).sources(None);
        assert_eq!(sources.listen, Some(SocketAddr::from(([127, 0, 0, 1], 1))));
        assert_eq!(sources.data, Some(PathBuf::from("d")));
    }
}
