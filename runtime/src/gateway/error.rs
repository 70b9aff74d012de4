//! Why the gateway does not run, with the remedy.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Beacon;
use crate::config::ConfigError;
use crate::store::sqlite::OpenError;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The operator, in the configuration.
    Configuration,
    /// Another process has what is needed.
    Busy,
    /// It did not work.
    Failed,
}

/// Why the gateway could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data directory can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A gateway already runs in the data directory, and has the port.
    #[error("a gateway already runs in the data directory {}: process {}, on {}", data.display(), beacon.pid, beacon.address)]
    AlreadyRuns {
        /// The data directory.
        data: PathBuf,
        /// The gateway.
        beacon: Beacon,
    },
    /// The configuration was changed before the data directory was taken: it is to be read again.
    #[error("the configuration is changed again and again while the gateway starts")]
    Outdated,
    /// The port is in use.
    #[error("{0} is in use by another program")]
    PortTaken(SocketAddr),
    /// The port can't be bound.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the data directory can't be used.
    #[error("can't use {}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Channels are configured in a way that can't work; all that is wrong with them.
    #[error(transparent)]
    Channels(ConfigError),
    /// An agent can't be set up.
    #[error("agent {name}: {reason}")]
    Agent {
        /// The agent's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The certificates to trust besides the system's can't be used.
    #[error(transparent)]
    Roots(crate::egress::GateError),
    /// The machine can't run it.
    #[error("{0}")]
    Machine(String),
    /// The store failed while the gateway ran.
    #[error("the store stopped; what was confirmed is in its files, and the next start goes on from there")]
    StoreFailed,
}

impl From<crate::store::sqlite::ArchiveError> for Error {
    fn from(error: crate::store::sqlite::ArchiveError) -> Self {
        match error {
            crate::store::sqlite::ArchiveError::Open(error) => Self::Open(error),
            other => Self::Machine(other.to_string()),
        }
    }
}

impl Error {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(OpenError::Locked { .. }) | Self::AlreadyRuns { .. } | Self::PortTaken(_) => ErrorKind::Busy,
            Self::Channels(_) | Self::Agent { .. } | Self::Roots(_) => ErrorKind::Configuration,
            Self::Open(_)
            | Self::Outdated
            | Self::Listen { .. }
            | Self::File { .. }
            | Self::Machine(_)
            | Self::StoreFailed => ErrorKind::Failed,
        }
    }

    /// Returns what to do about it, where the message does not say so itself.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::AlreadyRuns { .. } => {
                "talk to it with `sluicegate chat`, or stop it; a second one takes another --data and --listen".into()
            }
            Self::Outdated => "see who changes it all the time, then start again".into(),
            Self::PortTaken(_) => {
                "stop that program, or choose another address with --listen or `[gateway] listen`".into()
            }
            Self::Listen { .. } => "choose an address of this machine with --listen or `[gateway] listen`".into(),
            Self::File { .. } => {
                "check the permissions of the data directory, or choose another one with --data".into()
            }
            Self::StoreFailed => {
                "see the reason above: a full or failing disk, or files that were taken away; then start again".into()
            }
            Self::Roots(_) => "mend `[gateway] tls_roots`".into(),
            Self::Agent { .. } => "mend `[agents]` in the configuration".into(),
            Self::Open(_) | Self::Channels(_) | Self::Machine(_) => return None,
        })
    }
}
