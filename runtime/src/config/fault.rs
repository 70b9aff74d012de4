//! What is wrong with a configuration, in words for the person who wrote it.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// What sort of fault it is, for callers that treat some of them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultKind {
    /// The file can't be read or is no TOML.
    Unreadable,
    /// A key that nothing reads.
    UnknownKey,
    /// A key that has to be there is not.
    MissingKey,
    /// A value of the wrong type or outside its bounds.
    WrongValue,
    /// A name that leads nowhere: an agent, a component, a program.
    UnknownName,
    /// The file of a component is not there.
    MissingComponent,
    /// Two entries that can't both hold.
    Contradiction,
    /// A secret whose source gives no value.
    MissingSecret,
}

/// One thing that is wrong, where it stands and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What sort of fault it is.
    pub kind: FaultKind,
    /// The configuration file; none where a flag or a default is at fault.
    pub file: Option<PathBuf>,
    /// The line in that file, from 1; none where no line can be named.
    pub line: Option<usize>,
    /// The key in full, such as `channels.family.component`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, as a clause without a full stop.
    pub problem: String,
    /// What to do, as a clause without a full stop.
    pub remedy: String,
}

impl Fault {
    /// Returns whether it is in the configuration of this channel.
    pub fn is_of_channel(&self, name: &str) -> bool {
        let rest = self
            .key
            .strip_prefix("channels.")
            .and_then(|key| key.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

impl fmt::Display for Fault {
    /// Writes two lines: `FILE:LINE: KEY: PROBLEM` and, indented, `fix: REMEDY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n  fix: {}", self.problem, self.remedy)
    }
}

/// Everything that is wrong with a configuration, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The faults.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => f.write_str("the configuration has a fault")?,
            many => write!(f, "the configuration has {many} faults")?,
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

/// Returns the name among `known` that `wrong` was probably meant to be.
///
/// A third of the letters may differ: more, and the suggestion would be a guess. The unit at a name's end may be missing.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wrong.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| match name.strip_prefix(wrong) {
            Some(unit) if unit.starts_with('_') => (1, name),
            _ => (distance(wrong, name), name),
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Counts the letters to insert, drop, change or swap with their neighbour to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let changed = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_different_word_is_not() {
        let known = ["component", "agent", "access", "secrets", "settings"];
        assert_eq!(nearest("componnet", known), Some("component"));
        assert_eq!(nearest("secret", known), Some("secrets"));
        assert_eq!(nearest("memory", ["memo", "memory_mib"]), Some("memory_mib"));
        assert_eq!(nearest("acess", known), Some("access"));
        assert_eq!(nearest("webhook", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn distance_counts_each_slip_once() {
        assert_eq!(distance("agent", "agent"), 0);
        assert_eq!(distance("agnet", "agent"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_fault_names_place_problem_and_remedy() {
        let fault = Fault {
            kind: FaultKind::UnknownKey,
            file: Some("sluicegate.toml".into()),
            line: Some(3),
            key: "gateway.lisen".into(),
            problem: "unknown key".into(),
            remedy: "did you mean `listen`?".into(),
        };
        assert_eq!(
            fault.to_string(),
            "sluicegate.toml:3: gateway.lisen: unknown key\n  fix: did you mean `listen`?"
        );
    }
}
