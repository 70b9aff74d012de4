//! The configuration: what the operator wrote, checked completely before anything is started.
//!
//! All faults are reported at once, each with file, line, key and remedy, because a person who mends them one by one
//! loses patience at the third. What is not written has the value that `config/default.toml` documents; without a file
//! the gateway has a terminal, a WebSocket and an agent that it picks itself.

mod agent;
mod channel;
mod edit;
mod fault;
mod lines;
mod model;
mod section;
mod shape;
mod staged;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

pub use self::edit::{Draft, EditError, Editor, Put, again_where_outdated};
pub use self::fault::{ConfigError, Fault, FaultKind, nearest};
pub use self::lines::Lines;
pub use self::model::{
    Access, AgentConfig, ChannelConfig, ChannelLimits, CommandConfig, ComponentSource, GatewayConfig, Guarantee, Marks,
    OpenAiConfig, SettingValue,
};
use self::section::{Notes, Place, Section, resolve};
pub use self::staged::Staged;
use crate::component::Shelf;
use crate::id::ChannelName;
use crate::policy::GrantEntry;

/// The file that is looked for in the working directory.
pub const FILE_NAME: &str = "sluicegate.toml";
/// The reference: every key with its default, as TOML.
pub const REFERENCE: &str = include_str!("config/default.toml");
/// Bytes of a configuration file. A thousand channels take a tenth of it; above it, somebody named the wrong file.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The agent that channels have when nothing else is written.
pub const DEFAULT_AGENT: &str = "main";

/// The whole configuration, resolved: paths are absolute or relative to the working directory, secrets are loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that it was read from; none for the built-in defaults.
    pub file: Option<PathBuf>,
    /// The gateway itself.
    pub gateway: GatewayConfig,
    /// The agents by name; never empty.
    pub agents: BTreeMap<String, AgentConfig>,
    /// The channels by name; never empty, except when [`Config::without_default_terminal`] leaves none.
    pub channels: BTreeMap<ChannelName, ChannelConfig>,
    /// Whether no channel is configured, so that `channels` holds the default ones.
    pub channels_are_default: bool,
    /// Where in the file each key stands.
    pub lines: Lines,
}

/// Where to look, and what a flag or an environment variable says over the file.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that was named; none to look for [`FILE_NAME`] in the working directory.
    pub file: Option<PathBuf>,
    /// The data directory in place of the file's.
    pub data: Option<PathBuf>,
    /// The listener's address in place of the file's.
    pub listen: Option<SocketAddr>,
}

impl Sources {
    /// Returns the file that is read; none where none was named and there is none in the working directory.
    pub fn existing_file(&self) -> Option<PathBuf> {
        // A link that leads nowhere is there, and can't be read: its owner wanted something else than the defaults.
        let default = || Some(PathBuf::from(FILE_NAME)).filter(|path| path.symlink_metadata().is_ok());
        self.file.clone().or_else(default)
    }
}

/// A configuration as far as it could be read, with everything that is wrong with it.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The configuration, without the entries that are at fault. To be run only where there are no faults.
    pub config: Config,
    /// What is wrong, in the order of lines.
    pub faults: Vec<Fault>,
    /// What is allowed and probably not meant, in the order of lines.
    pub warnings: Vec<Fault>,
}

impl Reading {
    /// Returns the configuration and the warnings.
    ///
    /// # Errors
    /// All the faults, where there are any.
    pub fn into_config(self) -> Result<(Config, Vec<Fault>), ConfigError> {
        if self.faults.is_empty() {
            Ok((self.config, self.warnings))
        } else {
            Err(ConfigError { faults: self.faults })
        }
    }
}

impl Config {
    /// Reads the configuration from the sources; `bundled` are the names of the components in this binary.
    ///
    /// Reads the file, the secrets' sources and nothing else; changes nothing.
    pub fn read(sources: &Sources, bundled: &[&str]) -> Reading {
        let file = sources.existing_file();
        let mut reading = match &file {
            None => Self::parse("", None, bundled),
            Some(path) => match read_bounded(path) {
                Ok(text) => Self::parse(&text, Some(path), bundled),
                Err(error) => unreadable(path, format!("can't be read: {error}"), bundled),
            },
        };
        if let Some(data) = &sources.data {
            reading.config.gateway.data.clone_from(data);
        }
        if let Some(listen) = sources.listen {
            reading.config.gateway.listen = listen;
        }
        trust_kept_components(&mut reading);
        warn_of_open_listener(&mut reading, sources.listen.is_some());
        refuse_own_folder(&mut reading);
        reading
    }

    /// Reads a configuration from its text; `file` gives the folder that relative paths start from, and the name in faults.
    pub fn parse(text: &str, file: Option<&Path>, bundled: &[&str]) -> Reading {
        let notes = Notes::new(file, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = Place {
                key: String::new(),
                span: error.span(),
            };
            let problem = format!(
                "not valid TOML: {}",
                error.message().lines().collect::<Vec<_>>().join(", ")
            );
            notes.fault(
                FaultKind::Unreadable,
                at,
                problem,
                "mend the syntax; `sluicegate config reference` shows every form",
            );
        }
        let base = file.map_or(Path::new(""), folder_of).to_owned();
        let mut root = Section::new(&notes, Place::default(), table.get_ref());
        let gateway = read_gateway(&mut root, &base);
        let agents = agent::read_all(&mut root, &base);
        let (channels, channels_are_default) = channel::read_all(&mut root, &base, bundled, &agents);
        // After a syntax error the rest of the file may be misread, and a flood of unknown keys would hide the cause.
        if errors.is_empty() {
            root.finish();
        }
        let config = Self {
            file: file.map(Path::to_owned),
            gateway,
            agents: agents.configured,
            channels,
            channels_are_default,
            lines: Lines::of(&notes, table.get_ref()),
        };
        let (mut faults, warnings) = notes.into_parts();
        if !errors.is_empty() {
            faults.retain(|fault| fault.kind == FaultKind::Unreadable);
        }
        Reading {
            config,
            faults,
            warnings,
        }
    }

    /// Returns a fault of a key of this configuration, with its place.
    pub(crate) fn fault(&self, kind: FaultKind, key: &str, problem: String, remedy: String) -> Fault {
        Fault {
            kind,
            file: self.file.clone(),
            line: self.lines.find(key),
            key: key.to_owned(),
            problem,
            remedy,
        }
    }

    /// Returns the configuration without the terminal that is there by default: for a service without a terminal.
    #[must_use]
    pub fn without_default_terminal(mut self) -> Self {
        if self.channels_are_default {
            self.channels
                .retain(|name, _| name.as_str() != channel::DEFAULT_TERMINAL);
        }
        self
    }
}

/// Reads the address that a listener is bound to; `localhost` stands for `127.0.0.1`.
///
/// # Errors
/// Returns what is wrong, as a clause.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let text = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:7878 or [::1]:7878".to_owned())
}

/// Returns the folder that relative paths of a configuration start from. One that comes through a descriptor, as from
/// standard input, has none of its own: there it is the working directory.
fn folder_of(file: &Path) -> &Path {
    let is_descriptor = file.starts_with("/dev") || file.starts_with("/proc");
    let folder = file.parent().filter(|_| !is_descriptor);
    folder.unwrap_or(Path::new(""))
}

fn read_gateway(root: &mut Section<'_>, base: &Path) -> GatewayConfig {
    let default = GatewayConfig {
        data: resolve(base, "data"),
        ..GatewayConfig::default()
    };
    let Some(mut section) = root.section("gateway", "[gateway] on a line of its own") else {
        return default;
    };
    let listen = section.entry("listen").and_then(|entry| {
        let parsed = parse_listen(entry.text()?);
        parsed
            .map_err(|why| entry.fault(FaultKind::WrongValue, why, "write listen = \"127.0.0.1:7878\""))
            .ok()
    });
    let data = section.entry("data").and_then(|entry| {
        let text = entry.text()?;
        if text.is_empty() {
            entry.fault(
                FaultKind::WrongValue,
                "must not be empty",
                "name a directory, such as data = \"data\"",
            );
            return None;
        }
        Some(resolve(base, text))
    });
    let tls_roots = section.entry("tls_roots").and_then(|entry| {
        let path = resolve(base, entry.text()?);
        if let Err(error) = std::fs::File::open(&path) {
            entry.fault(
                FaultKind::WrongValue,
                format!("the file {} can't be read: {error}", path.display()),
                "name a readable PEM file with at least one certificate",
            );
            return None;
        }
        Some(path)
    });
    let public_url = section.entry("public_url").and_then(|entry| agent::base_url(&entry));
    let grace = section.integer("grace_s", 0..=3600).map(Duration::from_secs);
    let mut compile = default.compile;
    if let Some(seconds) = section.integer("compile_s", 1..=3600) {
        compile.time_max = Duration::from_secs(seconds);
    }
    if let Some(mib) = section.integer("compile_memory_mib", 128..=65_536) {
        compile.memory_bytes_max = mib * 1024 * 1024;
    }
    let pressure = read_marks(&mut section);
    section.finish();
    GatewayConfig {
        listen: listen.unwrap_or(default.listen),
        data: data.unwrap_or(default.data),
        tls_roots,
        public_url,
        grace: grace.unwrap_or(default.grace),
        compile,
        pressure,
    }
}

/// Reads when nothing more is taken in.
fn read_marks(gateway: &mut Section<'_>) -> Marks {
    const MIB: u64 = 1024 * 1024;
    let mut marks = Marks::default();
    let Some(mut section) = gateway.section("pressure", "[gateway.pressure] on a line of its own") else {
        return marks;
    };
    let rows = 1..=100_000_000;
    let mut set = |key, bounds, unit: u64, mark: &mut u64| {
        *mark = section.integer(key, bounds).map_or(*mark, |number| number * unit);
    };
    set("inbox_rows", rows.clone(), 1, &mut marks.inbox_rows);
    marks.channel_rows = marks.inbox_rows.div_ceil(2);
    set("channel_rows", rows.clone(), 1, &mut marks.channel_rows);
    set("outbox_rows", rows.clone(), 1, &mut marks.outbox_rows);
    set("conversation_rows", rows, 1, &mut marks.conversation_rows);
    set("store_mib", 1..=100_000_000, MIB, &mut marks.store_bytes);
    set("disk_free_mib", 0..=100_000_000, MIB, &mut marks.disk_free_bytes);
    section.finish();
    marks
}

/// Reads a file of at most [`FILE_BYTES_MAX`]. One that is read and is no configuration at all is
/// [`std::io::ErrorKind::InvalidData`].
fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::os::unix::fs::FileTypeExt as _;
    // Opening a named pipe waits for its writer. What a shell makes of `<(…)` has one, and no name.
    if std::fs::metadata(path)?.file_type().is_fifo() && path.canonicalize().is_ok() {
        return Err(std::io::Error::other("it is a named pipe"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unfit(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| unfit("it is not UTF-8 text".to_owned()))
}

fn unfit(why: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
}

fn unreadable(path: &Path, problem: String, bundled: &[&str]) -> Reading {
    let mut reading = Config::parse("", None, bundled);
    reading.config.file = Some(path.to_owned());
    reading.faults.push(Fault {
        kind: FaultKind::Unreadable,
        file: Some(path.to_owned()),
        line: None,
        key: String::new(),
        problem,
        remedy: "name a readable file with --config FILE, or run without one to use the defaults".to_owned(),
    });
    reading
}

/// Takes back that a component's file is not there where the data directory keeps the one that was reviewed: that one
/// runs then, and whoever starts it says so.
fn trust_kept_components(reading: &mut Reading) {
    let (config, shelf) = (&reading.config, Shelf::of(&reading.config.gateway.data));
    let is_kept = |fault: &Fault| {
        let mut channels = config.channels.iter();
        let found = channels.find(|(name, _)| fault.is_of_channel(name.as_str()));
        let reviewed = found.and_then(|(name, channel)| shelf.reviewed(name, channel.sha256.as_deref()));
        reviewed.is_some_and(|digest| shelf.holds(&digest))
    };
    reading
        .faults
        .retain(|fault| fault.kind != FaultKind::MissingComponent || !is_kept(fault));
}

fn warn_of_open_listener(reading: &mut Reading, is_flag: bool) {
    let listen = reading.config.gateway.listen;
    if listen.ip().is_loopback() {
        return;
    }
    let mut warning = reading.config.fault(
        FaultKind::WrongValue,
        "gateway.listen",
        format!("{listen} can be reached from other machines, without encryption"),
        "listen on 127.0.0.1 behind a TLS proxy, or make sure that a firewall stands before it".to_owned(),
    );
    if is_flag {
        (warning.file, warning.line) = (None, None);
    }
    reading.warnings.push(warning);
}

/// Refuses to grant a channel the gateway's own data directory, or a folder above or below it.
fn refuse_own_folder(reading: &mut Reading) {
    // One that is not there yet has no other name.
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    let Some(data) = real(&reading.config.gateway.data) else {
        return;
    };
    for (name, channel) in &reading.config.channels {
        let folders = channel.grants.iter().filter_map(|grant| match grant {
            GrantEntry::Folder(path) => real(path),
            _ => None,
        });
        let own = folders.filter(|path| path.starts_with(&data) || data.starts_with(path));
        reading.faults.extend(own.map(|path| {
            reading.config.fault(
                FaultKind::Contradiction,
                &format!("channels.{name}.grant"),
                format!(
                    "the folder {} is, holds or is in the gateway's data directory",
                    path.display()
                ),
                "grant a folder of its own, such as folder:/srv/outbox".to_owned(),
            )
        }));
    }
}

#[cfg(test)]
mod tests;
