//! `[agents.NAME]`: who answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::fault::FaultKind;
use super::section::{Entry, Section, resolve};
use super::{AgentConfig, CommandConfig, DEFAULT_AGENT, OpenAiConfig};
use crate::id::ChannelName;
use crate::limit;
use crate::secret::{Secret, SecretError, SecretSource};

/// The agents of a file.
pub(super) struct Agents {
    /// Those that could be read; [`AgentConfig::Automatic`] as the only one where none is written.
    pub(super) configured: BTreeMap<String, AgentConfig>,
    /// All names in the file, so that a channel is not blamed for a fault of its agent.
    pub(super) names: Vec<String>,
}

/// The keys that only one kind of agent reads.
const KEYS_OF_KINDS: [(&str, &str); 6] = [
    ("base_url", "openai"),
    ("model", "openai"),
    ("api_key", "openai"),
    ("system", "openai"),
    ("command", "command"),
    ("env", "command"),
];

/// Reads every agent.
pub(super) fn read_all(root: &mut Section<'_>, base: &Path) -> Agents {
    let mut agents = Agents {
        configured: BTreeMap::new(),
        names: Vec::new(),
    };
    let entries = root
        .section("agents", "[agents.main] on a line of its own")
        .map(|s| s.entries())
        .unwrap_or_default();
    for (name, entry) in entries {
        agents.names.push(name.to_owned());
        if let Err(why) = ChannelName::parse(name) {
            entry.fault(
                FaultKind::WrongValue,
                format!("an agent's name {why}"),
                "choose another name, such as main",
            );
        }
        let Some(section) = entry.section() else {
            entry.wrong_type("a table", format!("write [agents.{name}] on a line of its own"));
            continue;
        };
        if let Some(agent) = read(section, base) {
            agents.configured.insert(name.to_owned(), agent);
        }
    }
    if agents.names.is_empty() {
        agents
            .configured
            .insert(DEFAULT_AGENT.to_owned(), AgentConfig::Automatic);
        agents.names.push(DEFAULT_AGENT.to_owned());
    }
    agents
}

fn read(mut section: Section<'_>, base: &Path) -> Option<AgentConfig> {
    let kinds = "write kind = \"openai\", \"command\" or \"echo\"";
    let kind = section.entry("kind");
    if kind.is_none() {
        section.missing("kind", kinds);
    }
    let name = kind.as_ref().and_then(Entry::text);
    let agent = match name {
        Some("echo") => Some(AgentConfig::Echo),
        Some("openai") => read_openai(&mut section, base).map(AgentConfig::OpenAi),
        Some("command") => read_command(&mut section, base).map(AgentConfig::Command),
        Some(other) => {
            if let Some(kind) = &kind {
                kind.fault(FaultKind::UnknownName, format!("there is no kind {other:?}"), kinds);
            }
            None
        }
        None => None,
    };
    refuse_foreign_keys(&mut section, name);
    // An echo has no timeout to speak of, but the key is harmless and may stay while somebody tries things out.
    section.entry("timeout_s");
    section.finish();
    agent
}

/// Notes the keys that contradict the kind, such as a `base_url` for a command.
fn refuse_foreign_keys(section: &mut Section<'_>, kind: Option<&str>) {
    for (key, its_kind) in KEYS_OF_KINDS {
        let entry = section.entry(key);
        let (Some(entry), Some(kind @ ("echo" | "openai" | "command"))) = (entry, kind) else {
            continue;
        };
        if kind != its_kind {
            entry.fault(
                FaultKind::Contradiction,
                format!("means nothing for an agent of kind {kind:?}"),
                format!("remove it, or write kind = {its_kind:?}"),
            );
        }
    }
}

fn read_openai(section: &mut Section<'_>, base: &Path) -> Option<OpenAiConfig> {
    let base_url_entry = section.entry("base_url");
    if base_url_entry.is_none() {
        section.missing(
            "base_url",
            "write the server's address, such as base_url = \"http://127.0.0.1:11434/v1\"",
        );
    }
    let model_entry = section.entry("model");
    if model_entry.is_none() {
        section.missing(
            "model",
            "write the model's name on that server, such as model = \"qwen3\"",
        );
    }
    let api_key = section.entry("api_key");
    let has_key = api_key.is_some();
    let key = api_key
        .and_then(|entry| load_secret(&entry, base))
        .and_then(|loaded| loaded.value);
    let system = section.text("system");
    let timeout = timeout(section);
    let base_url = base_url_entry.and_then(|entry| base_url(&entry));
    let model = model_entry.and_then(|entry| non_empty(&entry, "write the model's name, such as model = \"qwen3\""));
    if has_key && key.is_none() {
        return None;
    }
    Some(OpenAiConfig {
        base_url: base_url?,
        model: model?,
        api_key: key,
        system,
        timeout,
    })
}

fn read_command(section: &mut Section<'_>, base: &Path) -> Option<CommandConfig> {
    let remedy = "write command = [\"program\", \"argument\"]";
    let timeout = timeout(section);
    let env = section
        .entry("env")
        .map(|entry| read_env(&entry, base))
        .unwrap_or_default();
    let Some(entry) = section.entry("command") else {
        section.missing("command", remedy);
        return None;
    };
    let mut words = entry.texts(remedy)?.into_iter();
    let Some(program) = words.next().filter(|program| !program.is_empty()) else {
        entry.fault(FaultKind::WrongValue, "names no program", remedy);
        return None;
    };
    let Some(program) = find_program(&program, base) else {
        let file = resolve(base, &program);
        if program.contains('/') && file.is_file() {
            let remedy = format!(
                "run: chmod +x {}, or name its interpreter first, such as [\"sh\", …]",
                file.display()
            );
            entry.fault(FaultKind::WrongValue, "the file may not be executed", remedy);
            return None;
        }
        let remedy = "install it, or write the whole path; a relative path starts from the folder of the configuration";
        entry.fault(
            FaultKind::UnknownName,
            format!("there is no program {program:?}"),
            remedy,
        );
        return None;
    };
    Some(CommandConfig {
        program,
        args: words.collect(),
        env,
        directory: (!base.as_os_str().is_empty()).then(|| base.to_owned()),
        timeout,
    })
}

/// Reads the environment of a command: texts, and secrets from their sources.
fn read_env(entry: &Entry<'_>, base: &Path) -> BTreeMap<String, Secret> {
    let Some(section) = entry.section() else {
        entry.wrong_type("a table", "write env = { NAME = \"value\" }");
        return BTreeMap::new();
    };
    let value = |entry: &Entry<'_>| match entry.value {
        DeValue::String(text) => Some(Secret::new(text.clone().into_owned())),
        DeValue::Table(_) => load_secret(entry, base)?.value,
        _ => {
            entry.wrong_type(
                "a text",
                "write NAME = \"value\", or NAME = { env = \"OTHER\" } for a secret",
            );
            None
        }
    };
    section
        .entries()
        .into_iter()
        .filter_map(|(name, entry)| Some((name.to_owned(), value(&entry)?)))
        .collect()
}

/// A secret as far as it could be had.
pub(super) struct LoadedSecret {
    /// Where it comes from.
    pub(super) source: SecretSource,
    /// The value; none where the source gave none, which is noted.
    pub(super) value: Option<Secret>,
}

/// Reads where a secret comes from, and loads it. None where not even the source could be read, which is noted.
pub(super) fn load_secret(entry: &Entry<'_>, base: &Path) -> Option<LoadedSecret> {
    let form = "write { env = \"NAME\" }, { file = \"path\" } or { keyring = \"NAME\" }";
    if entry.value.is_str() {
        let remedy = "move the value into an environment variable or a file, change it where it was issued, and write \
                      { env = \"NAME\" } or { file = \"path\" }";
        entry.fault(
            FaultKind::WrongValue,
            "a secret never stands in the configuration itself",
            remedy,
        );
        return None;
    }
    let Some(mut section) = entry.section() else {
        entry.wrong_type("a secret's source", form);
        return None;
    };
    let env = section.entry("env").map(|entry| non_empty(&entry, form));
    let file = section.entry("file").map(|entry| non_empty(&entry, form));
    let keyring = section.entry("keyring").map(|entry| non_empty(&entry, form));
    section.finish();
    let source = match (env, file, keyring) {
        (Some(name), None, None) => SecretSource::Env(name?),
        (None, Some(path), None) => SecretSource::File(resolve(base, &path?)),
        (None, None, Some(name)) => SecretSource::Keyring(name?),
        (None, None, None) => {
            entry.fault(FaultKind::MissingKey, "has no source", form);
            return None;
        }
        _ => {
            entry.fault(FaultKind::Contradiction, "has two sources", form);
            return None;
        }
    };
    let value = source.load().map_err(|error| {
        let (problem, remedy) = explain(&error);
        entry.fault(FaultKind::MissingSecret, problem, remedy);
    });
    Some(LoadedSecret {
        value: value.ok(),
        source,
    })
}

/// Returns what is wrong with a secret and what to do, as two clauses.
fn explain(error: &SecretError) -> (String, String) {
    match error {
        SecretError::VariableMissing(name) => (
            format!("the environment variable {name} is not set"),
            format!("export {name} before the start, or name a file with {{ file = \"path\" }}"),
        ),
        SecretError::Unreadable { path, source } => (
            format!("the file {} can't be read: {source}", path.display()),
            "check that it exists and that the gateway's user may read it".to_owned(),
        ),
        SecretError::Exposed(path) => (
            format!("the file {} can be read by others than its owner", path.display()),
            format!("run: chmod 600 {}", path.display()),
        ),
        SecretError::KeyMissing(name) => (
            format!("the kernel's keyring has no key {name}"),
            format!("run: keyctl padd user {name} @u (as the gateway's user; it reads the secret from its input)"),
        ),
        SecretError::KeyUnusable { name, reason } => (
            format!("the key {name} of the kernel's keyring can't be read: {reason}"),
            "put it there again with `keyctl padd user NAME @u`, or name a file with { file = \"path\" }".to_owned(),
        ),
        other => (other.to_string(), "put the secret there, and nothing else".to_owned()),
    }
}

/// Reads the base of a service's URL, without a slash at its end.
pub(super) fn base_url(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text()?;
    let problem = match url::Url::parse(text) {
        Err(error) => Some(format!("is not a URL: {error}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Some("must start with http:// or https://".to_owned()),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some("must not contain a name or a password".to_owned())
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            Some("must end with its path, without ? or #".to_owned())
        }
        Ok(_) => None,
    };
    if let Some(problem) = problem {
        entry.fault(FaultKind::WrongValue, problem, "write it like https://example.org/path");
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

/// Reads a text that has to say something.
pub(super) fn non_empty(entry: &Entry<'_>, remedy: &str) -> Option<String> {
    let text = entry.text()?;
    if text.trim().is_empty() {
        entry.fault(FaultKind::WrongValue, "must not be empty", remedy);
        return None;
    }
    Some(text.to_owned())
}

fn timeout(section: &mut Section<'_>) -> Duration {
    let seconds = section.integer("timeout_s", 1..=limit::TURN_TIMEOUT.as_secs());
    seconds.map_or(limit::TURN_TIMEOUT, Duration::from_secs)
}

/// Finds the file of a program: a path from the configuration's folder, or a name in `PATH`.
fn find_program(name: &str, base: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        // Absolute, because the program is started in another folder than the gateway's.
        return std::path::absolute(resolve(base, name))
            .ok()
            .filter(|path| is_executable(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .any(|folder| is_executable(&folder.join(name)))
        .then(|| PathBuf::from(name))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
