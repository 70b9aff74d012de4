//! The grammar of `sluicegate channel`.

use clap::{Args, Subcommand};

use super::Json;
use super::at_least_one;
use crate::limit::OPERATOR_ROWS_DEFAULT;

const ADD_EXAMPLES: &str = "\
Examples:
  sluicegate channel add telegram
  sluicegate channel add telegram family --secret bot-token=env:TELEGRAM_TOKEN --allow 12345 \\
      --grant https://api.telegram.org
  sluicegate channel add ./irc.wasm irc --set server=irc.example.org --open --yes \\
      --secret password=file:irc.key
  sluicegate channel add ./irc.wasm irc --set server=irc.example.org --learn

What the component asks for is shown before anything is granted. On a terminal each grant is asked
for; in a script only what stands in --grant is granted, or everything with --yes.

--learn runs the component for some seconds with nothing granted and without your secrets, shows
what it tried to reach, and prints the command that grants just that. In a script it writes nothing.";

const REVIEW_EXAMPLES: &str = "\
Examples:
  sluicegate channel review irc
  sluicegate channel review irc --yes
  sluicegate channel review irc --grant tls://irc.example.org:6697

Grants are for one component, known by its SHA-256. Where its file was changed, what was reviewed goes
on, and the new one waits. Grants that the new one does not ask for any more are dropped.";

const GRANT_EXAMPLES: &str = "\
Examples:
  sluicegate channel grant family
  sluicegate channel grant family https://api.telegram.org
  sluicegate channel grant family --revoke https://api.telegram.org

In a running gateway a change holds from the next use on, for connections that are open too.";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ChannelCommand {
    /// Add a channel, to a running gateway at once
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddArgs),
    /// List the channels
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Show one channel
    Show {
        /// The channel's name
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Show what a channel of the running gateway reached, or tried to, newest first
    ///
    /// The last 256 requests and sockets. A `*` in a path stands for what may be an id or a secret.
    Log {
        /// The channel's name
        name: String,
        /// How many, 256 at most
        #[arg(long, value_name = "COUNT", default_value_t = OPERATOR_ROWS_DEFAULT, value_parser = at_least_one)]
        limit: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Look at a changed component, and let it replace the reviewed one
    #[command(after_help = REVIEW_EXAMPLES)]
    Review(ReviewArgs),
    /// Show or change what a channel may do
    #[command(after_help = GRANT_EXAMPLES)]
    Grant {
        /// The channel's name
        name: String,
        /// Grant an endpoint, `private:ENDPOINT` in a private network, `terminal`, `reveal:SECRET`, or `folder:/PATH`
        #[arg(value_name = "GRANT")]
        grants: Vec<String>,
        /// Take a grant away
        #[arg(long = "revoke", value_name = "GRANT")]
        revoked: Vec<String>,
    },
    /// Let a running gateway take over what the configuration says of a channel now
    ///
    /// For what was changed in the file by hand. A channel that can't be so goes on as it was.
    Reload {
        /// The channel's name
        name: String,
    },
    /// Take a channel out of work
    ///
    /// Nothing is delivered through it, its listener is stopped, its webhooks are told to come again, and new clients
    /// are refused. It lasts until `channel resume`, also when the gateway is started again.
    Pause {
        /// The channel's name
        name: String,
    },
    /// Put a paused channel back to work
    Resume {
        /// The channel's name
        name: String,
    },
    /// Stop a channel and remove it from the configuration; its stored messages stay
    Remove {
        /// The channel's name
        name: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct AddArgs {
    /// A bundled component's name, or the path of a .wasm file
    pub(in crate::cli) component: String,
    /// The channel's name [default: the component's]
    pub(in crate::cli) name: Option<String>,
    /// Grant an endpoint, `private:ENDPOINT` in a private network, `terminal`, `reveal:SECRET`, or `folder:/PATH`
    #[arg(long = "grant", value_name = "GRANT")]
    pub(in crate::cli) grants: Vec<String>,
    /// Say where a secret is: NAME=env:VARIABLE, NAME=file:PATH or NAME=keyring:KEY
    #[arg(long = "secret", value_name = "NAME=SOURCE")]
    pub(in crate::cli) secrets: Vec<String>,
    /// Set a setting; the items of a list are separated by commas
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(in crate::cli) settings: Vec<String>,
    /// Let this sender talk to the agent, by the platform's id
    #[arg(long = "allow", value_name = "ID")]
    pub(in crate::cli) allow: Vec<String>,
    /// Let everyone talk to the agent
    #[arg(long, conflicts_with = "allow")]
    pub(in crate::cli) open: bool,
    /// The agent that answers [default: the only one, or main]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) agent: Option<String>,
    /// Grant everything that the component asks for
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    /// Try it out first with nothing granted, and propose the grants that it needs
    #[arg(long, conflicts_with = "yes")]
    pub(in crate::cli) learn: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReviewArgs {
    /// The channel's name
    pub(in crate::cli) name: String,
    /// Accept it, and grant this besides what is granted already
    #[arg(long = "grant", value_name = "GRANT")]
    pub(in crate::cli) grants: Vec<String>,
    /// Accept it, and grant everything that it asks for
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}
