//! What the flags and the answers say: settings, and where secrets are.

use std::collections::BTreeMap;
use std::path::Path;

use super::usage;
use crate::cli::args::AddArgs;
use crate::cli::component::plain;
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::component::{Inspection, Setting, SettingKind};
use crate::config::{SettingValue, nearest};
use crate::secret::SecretSource;

/// Reads the settings from the flags, and asks for those that are required.
pub(in crate::cli) fn settings(
    args: &AddArgs,
    it: &Inspection,
    console: &mut Console,
) -> Result<BTreeMap<String, SettingValue>, Failure> {
    let mut settings = BTreeMap::new();
    let keys = || it.settings.iter().map(|setting| setting.key.as_str());
    for text in &args.settings {
        let Some((key, value)) = text.split_once('=') else {
            return Err(usage(format!("--set {text:?} has no `=`"), "write --set KEY=VALUE"));
        };
        let Some(setting) = it.settings.iter().find(|setting| setting.key == key) else {
            return Err(unknown("setting", key, keys()));
        };
        settings.insert(key.to_owned(), setting_value(setting, value)?);
    }
    for setting in it
        .settings
        .iter()
        .filter(|setting| setting.required && setting.default.is_none())
    {
        if settings.contains_key(&setting.key) {
            continue;
        }
        if !console.is_interactive() {
            let message = format!(
                "the setting {} is required: {}",
                plain(&setting.key),
                plain(&setting.summary)
            );
            return Err(usage(message, format!("say --set {}=VALUE", plain(&setting.key))));
        }
        let answer = console.ask(&format!("{} ({})?", plain(&setting.key), plain(&setting.summary)))?;
        settings.insert(setting.key.clone(), setting_value(setting, &answer)?);
    }
    Ok(settings)
}

fn setting_value(setting: &Setting, text: &str) -> Result<SettingValue, Failure> {
    let wrong = |wanted: &str| {
        usage(
            format!("the setting {} must be {wanted}", plain(&setting.key)),
            "mend its value",
        )
    };
    match setting.kind {
        SettingKind::Text if text.is_empty() => Err(wrong("a text that is not empty")),
        SettingKind::Text => Ok(SettingValue::Text(text.to_owned())),
        SettingKind::Boolean => text
            .parse()
            .map(SettingValue::Boolean)
            .map_err(|_| wrong("true or false")),
        SettingKind::ListOfText => Ok(SettingValue::Texts(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
        )),
        SettingKind::Number => match (text.parse(), text.parse::<f64>()) {
            (Ok(number), _) => Ok(SettingValue::Integer(number)),
            (Err(_), Ok(number)) if number.is_finite() => Ok(SettingValue::Float(number)),
            _ => Err(wrong("a number")),
        },
    }
}

/// Reads where the secrets are from the flags, and asks for those that are required.
pub(super) fn secrets(
    args: &AddArgs,
    it: &Inspection,
    folder: &Path,
    console: &mut Console,
) -> Result<BTreeMap<String, SecretSource>, Failure> {
    let mut secrets = BTreeMap::new();
    for text in &args.secrets {
        // The text is never repeated: somebody may have written the secret itself.
        let Some((name, source)) = text.split_once('=') else {
            return Err(usage(
                "a --secret has no `=`",
                "write --secret NAME=env:VARIABLE, NAME=file:PATH or NAME=keyring:KEY",
            ));
        };
        if !it.secrets.iter().any(|secret| secret.name == name) {
            return Err(unknown(
                "secret",
                name,
                it.secrets.iter().map(|secret| secret.name.as_str()),
            ));
        }
        secrets.insert(name.to_owned(), secret_source(name, source, folder)?);
    }
    for secret in it.secrets.iter().filter(|secret| secret.required) {
        if secrets.contains_key(&secret.name) {
            continue;
        }
        let name = plain(&secret.name);
        if !console.is_interactive() {
            let message = format!("the secret {name} is required: {}", plain(&secret.summary));
            return Err(usage(
                message,
                format!("say --secret {name}=env:VARIABLE or --secret {name}=file:PATH"),
            ));
        }
        let answer = console.ask(&format!(
            "Where is {name} ({})? env:VARIABLE, file:PATH or keyring:KEY",
            plain(&secret.summary)
        ))?;
        secrets.insert(secret.name.clone(), secret_source(&name, &answer, folder)?);
    }
    Ok(secrets)
}

fn secret_source(name: &str, text: &str, folder: &Path) -> Result<SecretSource, Failure> {
    match text.split_once(':') {
        Some(("env", variable)) if !variable.is_empty() => Ok(SecretSource::Env(variable.to_owned())),
        Some(("file", path)) if !path.is_empty() => Ok(SecretSource::File(relative(path, folder, false)?.into())),
        Some(("keyring", key)) if !key.is_empty() => Ok(SecretSource::Keyring(key.to_owned())),
        _ => Err(usage(
            format!(
                "the secret {} has no source: a secret itself never stands on the command line",
                plain(name)
            ),
            format!(
                "write --secret {0}=env:VARIABLE, --secret {0}=file:PATH or --secret {0}=keyring:KEY",
                plain(name)
            ),
        )),
    }
}

/// Returns a path as it is written into a file of this folder: relative where it lies below, else absolute.
///
/// `has_mark` asks for a mark by which a path is told from a bundled name.
pub(super) fn relative(path: &str, folder: &Path, has_mark: bool) -> Result<String, Failure> {
    let fail = |error: std::io::Error| Failure::plain(format!("{path} can't be resolved: {error}"));
    let absolute = std::path::absolute(path).map_err(fail)?;
    let folder = std::path::absolute(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })
    .map_err(fail)?;
    let real = std::fs::canonicalize(&absolute).unwrap_or(absolute);
    let folder = std::fs::canonicalize(&folder).unwrap_or(folder);
    let written = match real.strip_prefix(&folder) {
        Ok(below) if has_mark => Path::new(".").join(below),
        Ok(below) => below.to_owned(),
        Err(_) => real,
    };
    written
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| usage(format!("{path} is not UTF-8"), "rename the file"))
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let known: Vec<&str> = known.collect();
    let remedy = match (nearest(name, known.iter().copied()), known.as_slice()) {
        (Some(meant), _) => format!("did you mean {}?", plain(meant)),
        (None, []) => format!("leave it out: the component has no {what}s"),
        (None, known) => format!("known are: {}", plain(&known.join(", "))),
    };
    usage(format!("the component has no {what} {:?}", plain(name)), remedy)
}
