//! How a command fails: one clear line, the remedy, and an exit code that scripts can tell apart.

use std::fmt;
use std::process::ExitCode;

use crate::config::{ConfigError, EditError};
use crate::gateway;

/// Sorts failures by who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It did not work: 1.
    Failed,
    /// The command line is wrong: 2, as clap has it.
    Usage,
    /// The configuration is wrong: 3.
    Configuration,
    /// Another process has what is needed, such as the port or the data directory: 4.
    Busy,
    /// A signal cut it short: as where a second Ctrl-C ends a process.
    Interrupted,
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Failed => Self::from(1),
            Kind::Usage => Self::from(2),
            Kind::Configuration => Self::from(3),
            Kind::Busy => Self::from(4),
            Kind::Interrupted => Self::from(gateway::INTERRUPTED),
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Who has to act.
    pub(super) kind: Kind,
    message: String,
    remedy: Option<String>,
}

impl Failure {
    /// Makes a failure with its remedy; both are clauses without a full stop.
    pub(super) fn new(kind: Kind, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// Returns it as a warning, where something else goes on.
    pub(super) fn as_warning(&self) -> String {
        self.to_string().replacen("error: ", "warning: ", 1)
    }

    /// Says before it what was done all the same.
    pub(super) fn after(self, done: &str) -> Self {
        Self {
            message: format!("{done}: {}", self.message),
            ..self
        }
    }

    /// Makes the failure of a command that was told to stop.
    pub(super) fn interrupted(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Interrupted,
            ..Self::plain(message)
        }
    }

    /// Makes a failure of which no more can be said.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            message: message.into(),
            remedy: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        self.remedy.iter().try_for_each(|remedy| write!(f, "\n  fix: {remedy}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            kind: Kind::Configuration,
            message: error.to_string(),
            remedy: None,
        }
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        let remedy = match error {
            EditError::File { .. } => "check the path and its permissions, or name another file with --config",
            EditError::Unfit { .. } => "a configuration is UTF-8 text of at most 1 MiB; name such a file with --config",
            EditError::Link { .. } => "make the file that the link leads to, or remove the link",
            EditError::Owner { .. } => "run this as that user, or as root",
            EditError::TooLong(_) => "remove something from it first, such as a channel that is not used any more",
            EditError::Syntax { .. } => "mend the syntax; `sluicegate config check` shows where",
            EditError::Outdated(_) => "see who changes it all the time, or holds a lock on its folder, as `flock` does",
            EditError::Exists(_) => "choose another name, or remove that one first with `sluicegate channel remove`",
            EditError::Unknown(_) => "`sluicegate channel list` shows the names",
            EditError::Form => "write each channel as a table of its own: [channels.NAME]",
        };
        let kind = match error {
            EditError::File { .. } | EditError::Owner { .. } | EditError::Outdated(_) => Kind::Failed,
            EditError::Exists(_) | EditError::Unknown(_) => Kind::Usage,
            EditError::Unfit { .. }
            | EditError::Link { .. }
            | EditError::TooLong(_)
            | EditError::Syntax { .. }
            | EditError::Form => Kind::Configuration,
        };
        Self::new(kind, message, remedy)
    }
}

impl From<gateway::Error> for Failure {
    fn from(error: gateway::Error) -> Self {
        let kind = match error.kind() {
            gateway::ErrorKind::Configuration => Kind::Configuration,
            gateway::ErrorKind::Busy => Kind::Busy,
            gateway::ErrorKind::Failed => Kind::Failed,
        };
        Self {
            kind,
            message: error.to_string(),
            remedy: error.remedy(),
        }
    }
}
