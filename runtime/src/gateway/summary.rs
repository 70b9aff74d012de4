//! What runs, in a few lines for the person who started it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Mode;
use crate::telemetry::tell;

/// What a gateway is made of.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Where it listens.
    pub address: SocketAddr,
    /// The data directory.
    pub data: PathBuf,
    /// Each channel: its name, its component and its agent.
    pub channels: Vec<ChannelSummary>,
    /// Each agent: its name, what it is, and why that one.
    pub agents: Vec<(String, String, String)>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

/// One channel.
#[derive(Debug, Clone)]
pub struct ChannelSummary {
    /// Its name.
    pub name: String,
    /// Its component.
    pub component: String,
    /// Whether it has this process's terminal.
    pub terminal: bool,
    /// Its agent's name.
    pub agent: String,
    /// Where it can be reached over this gateway's own surface.
    pub paths: Vec<String>,
}

impl Summary {
    /// Writes it to standard error: standard output belongs to a terminal channel.
    pub(super) fn print(&self, mode: Mode) {
        tell(format_args!(
            "sluicegate {} on http://{}, data in {}",
            env!("CARGO_PKG_VERSION"),
            self.address,
            self.data.display()
        ));
        for (name, what, why) in &self.agents {
            tell(format_args!("  agent {name}: {what} ({why})"));
        }
        for channel in &self.channels {
            let paths = if channel.paths.is_empty() {
                String::new()
            } else {
                format!(" at {}", channel.paths.join(", "))
            };
            tell(format_args!(
                "  channel {}: {}, answered by {}{paths}",
                channel.name, channel.component, channel.agent
            ));
        }
        for warning in &self.warnings {
            tell(format_args!("warning: {warning}"));
        }
        if mode == Mode::Interactive && self.channels.iter().any(|channel| channel.terminal) {
            tell("Type a line to talk to the agent; Ctrl-D or Ctrl-C ends.");
        }
    }
}
