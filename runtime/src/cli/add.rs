//! `sluicegate channel add`: shows what a component asks for, asks the operator, and writes the channel.
//!
//! Nothing is granted by silence: what stands in `--grant`, what is answered with yes, or all of it with `--yes`.

pub(super) mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::values::{relative, secrets, settings};
use super::apply;
use super::args::AddArgs;
use super::component::{ask_for, bundled_names, card, load, plain};
use super::console::Console;
use super::failure::{Failure, Kind};
use super::learn::learn;
use crate::component::{EndpointRequest, Inspection};
use crate::config::{
    Access, Config, ConfigError, Draft, EditError, Editor, FILE_NAME, Fault, FaultKind, SettingValue, Sources,
};
use crate::gateway::{Configured, clash};
use crate::id::ChannelName;
use crate::policy::{Grant, GrantEntry, Request};
use crate::secret::SecretSource;

/// The bundled component, and the channel of that name, that serves clients as long as no channel is configured.
const SERVED_BY_DEFAULT: &str = "websocket";

/// Adds a channel to the configuration file.
///
/// # Errors
/// What is missing or wrong; the file is then as it was.
pub(super) fn add(args: &AddArgs, sources: &Sources, console: &mut Console) -> Result<String, Failure> {
    let gateway = Config::read(sources, &bundled_names()).config.gateway;
    // What is wrong in the command itself is said before a component is compiled, which may take long.
    for grant in &args.grants {
        grant_entry(grant)?;
    }
    if let Some(name) = &args.name {
        parsed_name(name)?;
    }
    let inspection = ask_for(&gateway, &args.component, &load(&args.component)?)?;
    let file = sources.existing_file().unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let editor = Editor::open(&file)?;
    let name = channel_name(args, &inspection)?;
    if editor.has_channel(&name) {
        return Err(EditError::Exists(name).into());
    }
    let file = editor.path().to_owned();
    console.say(&card(&inspection))?;
    let mut args = args.clone();
    if args.learn {
        let learned = learn(&args, &inspection, &gateway, console)?;
        if !learned.is_wanted(console)? {
            return Ok(learned.report);
        }
        args.grants.extend(learned.grants);
    }
    let draft = draft(&args, &inspection, &file, console)?;
    let ((missing, kept, clash), changed) = apply::put(sources, &draft.name, || {
        let mut editor = Editor::open(&file)?;
        let before = Config::parse(editor.before(), Some(&file), &bundled_names());
        let kept = kept_defaults(&draft, before.config.channels_are_default);
        editor.add_channel(&draft)?;
        for default in &kept {
            editor.add_channel(default)?;
        }
        let after = Config::parse(&editor.text(), Some(&file), &bundled_names());
        let clash = clash_in(&after.config, &draft.name, &inspection);
        let missing = refuse_new_faults(&draft.name, after.faults)?;
        Ok((editor, (missing, kept, clash)))
    })?;
    let mut text = summary(&draft, &file, &missing, &kept);
    // A gateway that runs says it itself, of all that run in it.
    if let Some(clash) = clash.filter(|_| changed.is_none()) {
        text.push_str(&format!("warning: {clash}\n"));
    }
    text.push_str(&apply::report(changed.as_ref()));
    Ok(text)
}

/// Says that the new channel receives for an account for which another one of the same component does.
fn clash_in(config: &Config, name: &str, component: &Inspection) -> Option<String> {
    let (name, added) = config.channels.get_key_value(name)?;
    let configured = |(name, config)| Configured {
        name,
        config,
        component,
    };
    let same = config
        .channels
        .iter()
        .filter(|(_, other)| other.component == added.component);
    clash(configured((name, added)), same.map(configured))
}

/// Puts together what is to be written, from the flags and the answers.
fn draft(args: &AddArgs, it: &Inspection, file: &Path, console: &mut Console) -> Result<Draft, Failure> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let name = channel_name(args, it)?;
    let settings = settings(args, it, console)?;
    let secrets = secrets(args, it, folder, console)?;
    let asked = Asked {
        given: Vec::new(),
        flags: &args.grants,
        all: args.yes,
    };
    let grants = granted(asked, &wanted(it, &settings, &secrets)?, console)?;
    let access = access(args, it, console)?;
    let is_bundled = bundled_names().contains(&args.component.as_str());
    let (component, sha256) = if is_bundled {
        (args.component.clone(), None)
    } else {
        (relative(&args.component, folder, true)?, Some(it.digest.clone()))
    };
    Ok(Draft {
        name,
        component,
        sha256,
        agent: args.agent.clone(),
        access,
        secrets,
        settings,
        grants,
    })
}

fn channel_name(args: &AddArgs, it: &Inspection) -> Result<String, Failure> {
    parsed_name(args.name.as_ref().unwrap_or(&it.name))
}

fn parsed_name(name: &str) -> Result<String, Failure> {
    match ChannelName::parse(name) {
        Ok(name) => Ok(name.to_string()),
        Err(why) => {
            let message = format!("the channel's name {:?} {why}", plain(name));
            Err(usage(
                message,
                "say a name after the component, such as `sluicegate channel add telegram family`",
            ))
        }
    }
}

/// Something that the component asks for, and why.
pub(super) struct Wanted {
    what: What,
    reason: String,
}

/// What is asked for.
#[derive(PartialEq)]
enum What {
    /// This, which needs a yes or a no.
    Entry(GrantEntry),
    /// A folder, which the operator has to name.
    Folder,
}

impl Wanted {
    /// Returns one for a test.
    #[cfg(test)]
    pub(super) fn of_test(entry: GrantEntry) -> Self {
        Self {
            what: What::Entry(entry),
            reason: String::new(),
        }
    }

    /// Returns what would give it; none where the operator has to name it.
    pub(super) fn entry(&self) -> Option<&GrantEntry> {
        match &self.what {
            What::Entry(entry) => Some(entry),
            What::Folder => None,
        }
    }

    /// Whether a grant gives it, wholly or in part.
    pub(super) fn is_covered_by(&self, grant: &GrantEntry) -> bool {
        match &self.what {
            What::Entry(entry) => covers(grant, entry),
            What::Folder => matches!(grant, GrantEntry::Folder(_)),
        }
    }

    /// Returns it as it is granted on the command line.
    pub(super) fn flag(&self) -> String {
        match &self.what {
            What::Entry(entry) => format!("--grant {entry}"),
            What::Folder => "--grant folder:/PATH".to_owned(),
        }
    }

    /// Asks a person for it; none where they refuse.
    fn ask(&self, console: &mut Console) -> Result<Option<GrantEntry>, Failure> {
        match &self.what {
            What::Entry(entry) => {
                let yes = console.confirm(&format!("Grant {entry} ({})?", self.reason))?;
                Ok(yes.then(|| entry.clone()))
            }
            What::Folder => {
                let answer = console.ask(&format!(
                    "Into which folder may it put files ({})? An absolute path; nothing grants none:",
                    self.reason
                ))?;
                let named = (!answer.is_empty()).then(|| grant_entry(&format!("folder:{answer}")));
                named.transpose()
            }
        }
    }
}

/// Returns what a component asks for, with these settings and secrets.
pub(super) fn wanted(
    it: &Inspection,
    settings: &BTreeMap<String, SettingValue>,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<Vec<Wanted>, Failure> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for request in &it.endpoints {
        for endpoint in endpoints_of(request, it, settings)? {
            let entry = GrantEntry::Endpoint(Grant {
                endpoint,
                private: false,
            });
            let what = What::Entry(entry);
            if !wanted.iter().any(|earlier| earlier.what == what) {
                wanted.push(Wanted {
                    what,
                    reason: plain(&request.reason),
                });
            }
        }
    }
    if it.terminal {
        let reason = "to read and write the terminal of the gateway's process".to_owned();
        wanted.push(Wanted {
            what: What::Entry(GrantEntry::Terminal),
            reason,
        });
    }
    if let Some(reason) = &it.folder {
        wanted.push(Wanted {
            what: What::Folder,
            reason: plain(reason),
        });
    }
    for secret in it
        .secrets
        .iter()
        .filter(|secret| secret.reveal && secrets.contains_key(&secret.name))
    {
        let reason = format!("to see the plain value of {}; it could pass it on", plain(&secret.name));
        wanted.push(Wanted {
            what: What::Entry(GrantEntry::Reveal(secret.name.clone())),
            reason,
        });
    }
    Ok(wanted)
}

/// Returns the endpoints of a request, with the hosts that the settings and their defaults name.
fn endpoints_of(
    request: &EndpointRequest,
    it: &Inspection,
    settings: &BTreeMap<String, SettingValue>,
) -> Result<Vec<crate::policy::Endpoint>, Failure> {
    let values_of = |key: &str| match settings.get(key) {
        Some(SettingValue::Texts(texts)) => texts.clone(),
        Some(value) => vec![value.to_guest_text()],
        None => it
            .settings
            .iter()
            .filter(|setting| setting.key == key)
            .filter_map(|it| it.default.clone())
            .collect(),
    };
    let refused = |why: String| {
        usage(
            format!("what the component asks for can't be granted: {why}"),
            "mend its settings",
        )
    };
    let scheme = request
        .scheme
        .parse()
        .map_err(|error| refused(format!("{}: {error}", plain(&request.scheme))))?;
    let request = Request {
        scheme,
        host: request.host.clone(),
        port: request.port,
        reason: String::new(),
    };
    request
        .resolve(&values_of)
        .map_err(|error| refused(format!("{error}: {}", error.problem)))
}

/// What an operator gave so far, before being asked for the rest.
pub(super) struct Asked<'a> {
    /// Granted before.
    pub(super) given: Vec<GrantEntry>,
    /// Granted by flags.
    pub(super) flags: &'a [String],
    /// Whether all of the rest is granted.
    pub(super) all: bool,
}

/// Returns all that is granted: what was, what the flags say, and what of the rest is answered with yes.
pub(super) fn granted(asked: Asked<'_>, wanted: &[Wanted], console: &mut Console) -> Result<Vec<GrantEntry>, Failure> {
    let mut grants = asked.given;
    for text in asked.flags {
        let entry = grant_entry(text)?;
        if !wanted.iter().any(|wanted| wanted.is_covered_by(&entry)) {
            console.say(&format!(
                "warning: the component does not ask for {entry}, so this grant has no effect\n"
            ))?;
        }
        if !grants.contains(&entry) {
            grants.push(entry);
        }
    }
    let open: Vec<&Wanted> = wanted
        .iter()
        .filter(|it| !grants.iter().any(|entry| it.is_covered_by(entry)))
        .collect();
    let must_be_named = open.iter().any(|it| it.what == What::Folder);
    if console.is_interactive() && (!asked.all || must_be_named) {
        for it in open {
            match &it.what {
                What::Entry(entry) if asked.all => grants.push(entry.clone()),
                _ => grants.extend(it.ask(console)?),
            }
        }
    } else if asked.all && must_be_named {
        return Err(usage(
            "the component asks for a folder, and --yes names none",
            "say --grant folder:/PATH as well",
        ));
    } else if asked.all {
        grants.extend(open.iter().filter_map(|it| match &it.what {
            What::Entry(entry) => Some(entry.clone()),
            What::Folder => None,
        }));
    } else if asked.flags.is_empty() && !open.is_empty() {
        let flags: Vec<String> = open.iter().map(|it| it.flag()).collect();
        let remedy = format!("say {}, or --yes for all of it", flags.join(" "));
        return Err(usage(
            "the component asks for something, and nobody is there to be asked",
            remedy,
        ));
    }
    Ok(grants)
}

/// Reads a grant as it stands on the command line.
pub(super) fn grant_entry(text: &str) -> Result<GrantEntry, Failure> {
    let parsed = match text.strip_prefix("private:") {
        None => text.parse::<GrantEntry>(),
        Some(endpoint) => Grant::read(endpoint, true).map(GrantEntry::Endpoint),
    };
    parsed.map_err(|error| {
        usage(
            format!("{text:?} is no grant: {error}"),
            "write an endpoint such as https://api.example.com, private:https://nas.example for a name in a private \
             network, terminal, reveal:SECRET or folder:/PATH",
        )
    })
}

/// Whether a grant gives what is asked for, wholly or in part.
fn covers(grant: &GrantEntry, asked: &GrantEntry) -> bool {
    match (grant, asked) {
        (GrantEntry::Endpoint(grant), GrantEntry::Endpoint(asked)) => {
            grant.endpoint.covers(&asked.endpoint) || asked.endpoint.covers(&grant.endpoint)
        }
        _ => grant == asked,
    }
}

/// Whether messages come in through a channel of this component.
pub(super) fn receives(it: &Inspection) -> bool {
    let ways_in = ["listener", "webhook", "connections"];
    ways_in.iter().any(|interface| it.offers(interface))
}

fn access(args: &AddArgs, it: &Inspection, console: &mut Console) -> Result<Option<Access>, Failure> {
    if args.open {
        return Ok(Some(Access::Open));
    }
    if !args.allow.is_empty() {
        return Ok(Some(Access::Allow(args.allow.iter().cloned().collect())));
    }
    if !receives(it) {
        return Ok(None);
    }
    if !console.is_interactive() {
        let remedy = "say --allow ID for each sender, or --open for everyone";
        return Err(usage(
            "the channel receives messages, and nobody said who may talk to the agent",
            remedy,
        ));
    }
    let answer =
        console.ask("Who may talk to the agent? `open` for everyone, or the platform's ids, separated by commas:")?;
    if answer == "open" {
        return Ok(Some(Access::Open));
    }
    let senders: BTreeSet<String> = answer
        .split([',', ' '])
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    if senders.is_empty() {
        return Err(usage(
            "nobody was named",
            "answer `open`, or at least one id; nothing was changed",
        ));
    }
    Ok(Some(Access::Allow(senders)))
}

/// Returns the missing secrets of the new channel; other faults of it are errors. What was wrong before stays as it is.
fn refuse_new_faults(name: &str, faults: Vec<Fault>) -> Result<Vec<Fault>, Failure> {
    let faults = faults.into_iter().filter(|fault| fault.is_of_channel(name));
    let (missing, wrong): (Vec<_>, Vec<_>) = faults.partition(|fault| fault.kind == FaultKind::MissingSecret);
    if wrong.is_empty() {
        Ok(missing)
    } else {
        Err(ConfigError { faults: wrong }.into())
    }
}

/// Returns the channels that were there by default and go on beside the first one that is written. The terminal is not
/// among them: one that is written also reads a service's input.
fn kept_defaults(first: &Draft, defaults_were_there: bool) -> Vec<Draft> {
    let is_its_like = first.component == SERVED_BY_DEFAULT || first.name == SERVED_BY_DEFAULT;
    if !defaults_were_there || is_its_like {
        return Vec::new();
    }
    vec![Draft {
        name: SERVED_BY_DEFAULT.to_owned(),
        component: SERVED_BY_DEFAULT.to_owned(),
        sha256: None,
        agent: None,
        access: Some(Access::Open),
        secrets: BTreeMap::new(),
        settings: BTreeMap::new(),
        grants: Vec::new(),
    }]
}

fn summary(draft: &Draft, file: &Path, missing: &[Fault], kept: &[Draft]) -> String {
    let mut text = format!("added channel {} to {}\n", draft.name, file.display());
    let grants: Vec<String> = draft.grants.iter().map(ToString::to_string).collect();
    let granted = if grants.is_empty() {
        "nothing".to_owned()
    } else {
        grants.join(", ")
    };
    text.push_str(&format!("granted: {granted}\n"));
    for fault in missing {
        text.push_str(&format!("before the start: {}: {}\n", fault.problem, fault.remedy));
    }
    for default in kept {
        text.push_str(&format!(
            "channel {}, there by default so far, stands in the file now too; `sluicegate channel add terminal --open \
             --yes` keeps the terminal as well\n",
            default.name
        ));
    }
    text
}

fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure::new(Kind::Usage, message, remedy)
}

#[cfg(test)]
mod tests;
