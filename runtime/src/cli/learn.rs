//! `sluicegate channel add --learn`: what a component tried with nothing granted, and the narrowest grants for that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::add::values::settings;
use super::add::{Wanted, receives, wanted};
use super::args::AddArgs;
use super::component::{load, plain};
use super::console::Console;
use super::failure::{Failure, Kind};
use super::run::start_runtime;
use crate::channel::Compilation;
use crate::component::Inspection;
use crate::config::GatewayConfig;
use crate::gateway::{Entry, Findings, REVEAL, TrialError, told_to_stop, try_out};
use crate::limit;
use crate::policy::{Endpoint, Grant, GrantEntry, Host};
use crate::secret::SecretSource;

/// What a trial taught.
pub(super) struct Learned {
    /// For the operator: what was tried, and the command that grants it.
    pub(super) report: String,
    /// The grants, as they stand on the command line.
    pub(super) grants: Vec<String>,
}

impl Learned {
    /// Asks whether the channel is to be added with these grants; nobody there means no.
    pub(super) fn is_wanted(&self, console: &mut Console) -> Result<bool, Failure> {
        if !console.is_interactive() {
            return Ok(false);
        }
        console.say(&self.report)?;
        console.confirm("Add the channel with these grants now?")
    }
}

/// Tries a component out with nothing granted.
///
/// # Errors
/// Why it could not be tried.
pub(super) fn learn(
    args: &AddArgs,
    it: &Inspection,
    gateway: &GatewayConfig,
    console: &mut Console,
) -> Result<Learned, Failure> {
    let settings = settings(args, it, console)?;
    let findings = if it.terminal {
        let step = "not run: it wants this process's terminal, which a trial does not give".to_owned();
        Findings {
            steps: vec![step],
            ..Findings::default()
        }
    } else {
        let wasm = load(&args.component)?;
        let compilation = Compilation::by_own_executable(gateway.compile);
        let compilation = compilation.map_err(|error| Failure::plain(error.to_string()))?;
        let trial = try_out(&wasm, settings.clone(), limit::TRIAL_TIME_MAX, compilation);
        let tried = start_runtime()?.block_on(async {
            tokio::select! {
                tried = trial => tried.map_err(not_tried),
                // Dropped, it takes its folder with it.
                () = told_to_stop() => Err(Failure::interrupted("the trial was cut short; nothing is left of it")),
            }
        });
        tried?
    };
    // Whether a secret will be there is not known yet; what it may reveal is proposed only where it tried.
    let secrets = it.secrets.iter();
    let secrets: BTreeMap<_, _> = secrets
        .map(|secret| (secret.name.clone(), SecretSource::Env(secret.name.clone())))
        .collect();
    let wanted = wanted(it, &settings, &secrets)?;
    let proposal = Proposal::of(&findings.attempts, &wanted);
    let grants: Vec<String> = proposal.grants.iter().map(flag).collect();
    let report = proposal.report(&findings, &command(args, it, &grants));
    Ok(Learned { report, grants })
}

fn not_tried(error: TrialError) -> Failure {
    match error {
        TrialError::Settings(error) => error.into(),
        TrialError::Component { problem, remedy } => Failure::new(Kind::Failed, problem, remedy),
        other => Failure::plain(other.to_string()),
    }
}

/// What follows from a trial.
#[derive(Default)]
struct Proposal {
    /// What it tried and asks for, as narrow as it tried.
    grants: Vec<GrantEntry>,
    /// What it tried and does not ask for: no grant can give it.
    unasked: BTreeSet<String>,
    /// What it asks for and did not try.
    untried: Vec<String>,
}

impl Proposal {
    fn of(attempts: &[Entry], wanted: &[Wanted]) -> Self {
        let mut proposal = Self::default();
        for tried in attempts.iter().flat_map(needed) {
            let is_asked = wanted
                .iter()
                .filter_map(Wanted::entry)
                .any(|asked| gives(asked, &tried));
            if !is_asked {
                proposal.unasked.insert(tried.to_string());
            } else if !proposal.grants.contains(&tried) {
                proposal.grants.push(tried);
            }
        }
        // A component that wants the terminal does not run without it: nothing was tried, and it is needed.
        let mut asked = wanted.iter().filter_map(Wanted::entry);
        proposal
            .grants
            .extend(asked.find(|entry| **entry == GrantEntry::Terminal).cloned());
        let is_tried = |asked: &GrantEntry| proposal.grants.iter().any(|grant| gives(asked, grant));
        let untried = wanted.iter().filter(|asked| !asked.entry().is_some_and(is_tried));
        proposal.untried = untried.map(Wanted::flag).collect();
        proposal
    }

    fn report(&self, findings: &Findings, command: &str) -> String {
        let mut text = "Tried out, with nothing granted and made-up secrets:\n".to_owned();
        for step in &findings.steps {
            let _ = writeln!(text, "  {}", plain(step));
        }
        list(&mut text, "It tried to reach:", &lines(&findings.attempts));
        let unasked: Vec<&String> = self.unasked.iter().collect();
        list(
            &mut text,
            "Of this its description does not ask for, so that no grant gives it:",
            &unasked,
        );
        list(
            &mut text,
            "It asks for this as well, and did not try it, or where a trial does not see it; not proposed:",
            &self.untried.iter().collect::<Vec<_>>(),
        );
        let unusual: Vec<String> = self.grants.iter().filter_map(unusual).collect();
        list(&mut text, "Look twice:", &unusual.iter().collect::<Vec<_>>());
        let grants: Vec<String> = self.grants.iter().map(in_file).collect();
        let _ = writeln!(
            text,
            "The narrowest grants for what it tried:\n  grant = [{}]",
            grants.join(", ")
        );
        let _ = writeln!(text, "To add the channel with them:\n  {command}");
        text.push_str(
            "It may want more once it is answered: `sluicegate channel log NAME` shows what it is denied then.\n\
             Nothing was granted and nothing was written.\n",
        );
        text
    }
}

fn list<T: std::fmt::Display>(text: &mut String, title: &str, items: &[T]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}");
    for item in items {
        let _ = writeln!(text, "  {item}");
    }
}

/// Returns each different thing that was tried, in a line, in the order of its first time.
fn lines(attempts: &[Entry]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for entry in attempts {
        let secrets = match entry.secrets.as_slice() {
            [] => String::new(),
            names => format!(" (secret {})", names.join(", ")),
        };
        let line = plain(&format!(
            "{} {}{}{secrets}: {}",
            entry.method, entry.place, entry.path, entry.outcome
        ));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Returns the grants that would have let it through, as narrow as they can be.
fn needed(entry: &Entry) -> Vec<GrantEntry> {
    if entry.outcome != "denied" {
        return Vec::new();
    }
    if entry.method == REVEAL {
        return entry.secrets.iter().cloned().map(GrantEntry::Reveal).collect();
    }
    let endpoint = entry.place.parse::<Endpoint>().ok();
    let grant = endpoint.map(|endpoint| {
        let is_here = Host::parse(&endpoint.host.to_string()).is_ok_and(|host| host.is_localhost());
        GrantEntry::Endpoint(Grant {
            endpoint,
            private: is_here,
        })
    });
    grant.into_iter().collect()
}

/// Whether what the component asks for contains what it tried.
fn gives(asked: &GrantEntry, tried: &GrantEntry) -> bool {
    match (asked, tried) {
        (GrantEntry::Endpoint(asked), GrantEntry::Endpoint(tried)) => asked.endpoint.covers(&tried.endpoint),
        _ => asked == tried,
    }
}

/// Says what an operator does not expect of a channel.
fn unusual(entry: &GrantEntry) -> Option<String> {
    match entry {
        GrantEntry::Endpoint(grant) if grant.private => Some(format!("{entry}: this machine or its network")),
        GrantEntry::Endpoint(grant) if grant.endpoint.scheme.is_clear() => {
            Some(format!("{entry}: not encrypted, anyone on the way can read it"))
        }
        GrantEntry::Endpoint(_) => None,
        GrantEntry::Folder(_) => Some(format!("{entry}: it puts files there")),
        GrantEntry::Terminal => Some("terminal: it reads and writes this process's terminal".to_owned()),
        GrantEntry::Reveal(name) => Some(format!("reveal:{name}: it sees the plain value, and could pass it on")),
    }
}

/// Returns a grant as `--grant` takes it.
fn flag(entry: &GrantEntry) -> String {
    match entry {
        GrantEntry::Endpoint(grant) if grant.private => format!("private:{}", grant.endpoint),
        _ => entry.to_string(),
    }
}

/// Returns a grant as the configuration has it.
fn in_file(entry: &GrantEntry) -> String {
    match entry {
        GrantEntry::Endpoint(grant) if grant.private => format!("{{ url = \"{}\", private = true }}", grant.endpoint),
        _ => format!("\"{entry}\""),
    }
}

/// Returns the command that adds the channel with these grants.
fn command(args: &AddArgs, it: &Inspection, grants: &[String]) -> String {
    let mut words = vec!["sluicegate channel add".to_owned(), quoted(&args.component)];
    words.extend(args.name.as_deref().map(quoted));
    let mut option = |flag: &str, values: &[String]| {
        words.extend(values.iter().map(|value| format!("{flag} {}", quoted(value))));
    };
    option("--set", &args.settings);
    option("--secret", &args.secrets);
    let given = |name: &str| args.secrets.iter().any(|text| text.split('=').next() == Some(name));
    let missing = it
        .secrets
        .iter()
        .filter(|secret| secret.required && !given(&secret.name));
    let missing: Vec<String> = missing.map(|secret| format!("{}=env:VARIABLE", secret.name)).collect();
    option("--secret", &missing);
    option("--allow", &args.allow);
    option("--agent", args.agent.as_slice());
    option("--grant", &args.grants);
    option("--grant", grants);
    if args.open {
        words.push("--open".to_owned());
    } else if args.allow.is_empty() && receives(it) {
        words.push("--allow ID".to_owned());
    }
    words.join(" ")
}

/// Quotes a word for a shell, where it has to be.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", plain(word).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(method: &str, place: &str, outcome: &'static str, secrets: &[&str]) -> Entry {
        Entry {
            at_ms: 0,
            method: method.to_owned(),
            place: place.to_owned(),
            path: String::new(),
            outcome,
            status: None,
            bytes_out: 0,
            bytes_in: 0,
            secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn asked(grants: &[&str]) -> Vec<Wanted> {
        let entries = grants.iter().map(|text| text.parse().unwrap());
        entries.map(Wanted::of_test).collect()
    }

    #[test]
    fn the_narrowest_grants_are_what_was_tried_of_what_is_asked_for() {
        let attempts = [
            entry("GET", "https://api.x.example", "denied", &["token"]),
            entry("POST", "https://api.x.example", "denied", &[]),
            entry("GET", "https://evil.example", "denied", &[]),
            entry("GET", "https://files.x.example", "invalid", &[]),
            entry("GET", "http://localhost:8080", "denied", &[]),
            entry(REVEAL, "secret", "denied", &["token"]),
        ];
        let wanted = asked(&[
            "https://*.x.example",
            "http://localhost:8080",
            "tls://irc.x.example:6697",
            "reveal:token",
        ]);
        let proposal = Proposal::of(&attempts, &wanted);
        let flags: Vec<String> = proposal.grants.iter().map(flag).collect();
        assert_eq!(
            flags,
            ["https://api.x.example", "private:http://localhost:8080", "reveal:token"]
        );
        assert_eq!(proposal.unasked, BTreeSet::from(["https://evil.example".to_owned()]));
        assert_eq!(proposal.untried, ["--grant tls://irc.x.example:6697"]);
        let file: Vec<String> = proposal.grants.iter().map(in_file).collect();
        assert_eq!(file[1], "{ url = \"http://localhost:8080\", private = true }");
        assert_eq!(proposal.grants.iter().filter_map(unusual).count(), 2);
    }

    #[test]
    fn what_stands_in_a_command_is_one_word_for_a_shell() {
        for (word, shown) in [("a/b.wasm", "a/b.wasm"), ("", "''"), ("it's $(x)", "'it'\\''s $(x)'")] {
            assert_eq!(quoted(word), shown);
        }
    }
}
