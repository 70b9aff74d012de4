//! A table of the configuration file, read key by key.
//!
//! A deserialiser stops at the first error; a person wants to hear of all of them at once. So each table is walked by
//! hand: each key is asked for once with its type, what is wrong is noted with its line, and what was never asked for
//! is an unknown key.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, FaultKind, nearest};

/// Collects the faults and warnings of one file.
pub(super) struct Notes<'a> {
    file: Option<&'a Path>,
    /// The byte positions at which the second line and those after it start: a long file may have many faults.
    line_starts: Vec<usize>,
    /// With their byte positions, by which they are sorted at the end.
    faults: RefCell<Vec<(usize, Fault)>>,
    warnings: RefCell<Vec<(usize, Fault)>>,
}

impl<'a> Notes<'a> {
    /// Starts without any.
    pub(super) fn new(file: Option<&'a Path>, text: &str) -> Self {
        let line_starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self {
            file,
            line_starts,
            faults: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Notes a fault.
    pub(super) fn fault(&self, kind: FaultKind, at: Place, problem: impl Into<String>, remedy: impl Into<String>) {
        self.faults
            .borrow_mut()
            .push(self.note(kind, at, problem.into(), remedy.into()));
    }

    /// Notes something that is allowed and probably not meant.
    pub(super) fn warning(&self, at: Place, problem: impl Into<String>, remedy: impl Into<String>) {
        self.warnings
            .borrow_mut()
            .push(self.note(FaultKind::WrongValue, at, problem.into(), remedy.into()));
    }

    /// Returns the faults and the warnings, each in the order of their lines.
    pub(super) fn into_parts(self) -> (Vec<Fault>, Vec<Fault>) {
        let sorted = |notes: RefCell<Vec<(usize, Fault)>>| {
            let mut notes = notes.into_inner();
            notes.sort_by_key(|(position, _)| *position);
            notes.into_iter().map(|(_, note)| note).collect()
        };
        (sorted(self.faults), sorted(self.warnings))
    }

    /// Returns the line (from 1) of a byte position.
    pub(super) fn line_of(&self, position: usize) -> usize {
        1 + self.line_starts.partition_point(|start| *start <= position)
    }

    fn note(&self, kind: FaultKind, at: Place, problem: String, remedy: String) -> (usize, Fault) {
        let position = at.span.map(|span| span.start);
        let line = position.map(|position| self.line_of(position));
        let file = self.file.map(Path::to_owned);
        (
            position.unwrap_or(0),
            Fault {
                kind,
                file,
                line,
                key: at.key,
                problem,
                remedy,
            },
        )
    }
}

/// Where something stands: its key in full and its bytes in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The key in full; empty for the file as a whole.
    pub(super) key: String,
    /// The bytes; none for what is not in the file.
    pub(super) span: Option<Range<usize>>,
}

/// A value with its place, of any type.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    /// Where it stands.
    pub(super) place: Place,
    /// The value.
    pub(super) value: &'a DeValue<'a>,
    notes: &'a Notes<'a>,
}

impl<'a> Entry<'a> {
    /// Notes a fault of this entry.
    pub(super) fn fault(&self, kind: FaultKind, problem: impl Into<String>, remedy: impl Into<String>) {
        self.notes.fault(kind, self.place.clone(), problem, remedy);
    }

    /// Notes a warning about this entry.
    pub(super) fn warning(&self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.notes.warning(self.place.clone(), problem, remedy);
    }

    /// Notes that the value has the wrong type.
    pub(super) fn wrong_type(&self, wanted: &str, remedy: impl Into<String>) {
        self.fault(
            FaultKind::WrongValue,
            format!("must be {wanted}, but is {}", kind_of(self.value)),
            remedy,
        );
    }

    /// Returns the text, or notes a fault.
    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type("a text", "write it in quotes");
        }
        text
    }

    /// Returns the whole number, or notes a fault.
    pub(super) fn integer(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let number = self
            .value
            .as_integer()
            .and_then(|n| i128::from_str_radix(n.as_str(), n.radix()).ok());
        let Some(number) = number else {
            self.wrong_type(
                "a whole number",
                format!("write a number from {} to {}", bounds.start(), bounds.end()),
            );
            return None;
        };
        let within = u64::try_from(number).ok().filter(|n| bounds.contains(n));
        if within.is_none() {
            self.fault(
                FaultKind::WrongValue,
                format!("{number} is out of bounds"),
                format!("write a number from {} to {}", bounds.start(), bounds.end()),
            );
        }
        within
    }

    /// Returns the items of a list, or notes a fault.
    pub(super) fn items(&self, wanted: &str, remedy: &str) -> Option<Vec<Self>> {
        let Some(array) = self.value.as_array() else {
            self.wrong_type(wanted, remedy);
            return None;
        };
        Some(
            array
                .iter()
                .enumerate()
                .map(|(index, item)| self.item(index, item))
                .collect(),
        )
    }

    /// Returns a list of texts without those of another type, which are noted as faults.
    pub(super) fn texts(&self, remedy: &str) -> Option<Vec<String>> {
        let items = self.items("a list of texts", remedy)?;
        let text = |item: &Self| {
            let text = item.value.as_str();
            if text.is_none() {
                item.wrong_type("a text", remedy);
            }
            text.map(str::to_owned)
        };
        Some(items.iter().filter_map(text).collect())
    }

    /// Returns the value as a table, where it is one.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        self.value
            .as_table()
            .map(|table| Section::new(self.notes, self.place.clone(), table))
    }

    fn item(&self, index: usize, item: &'a Spanned<DeValue<'a>>) -> Self {
        Self {
            place: Place {
                key: format!("{}[{index}]", self.place.key),
                span: Some(item.span()),
            },
            value: item.get_ref(),
            notes: self.notes,
        }
    }
}

/// A table that is being read.
pub(super) struct Section<'a> {
    notes: &'a Notes<'a>,
    place: Place,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Starts to read a table.
    pub(super) fn new(notes: &'a Notes<'a>, place: Place, table: &'a DeTable<'a>) -> Self {
        Self {
            notes,
            place,
            table,
            asked: Vec::new(),
        }
    }

    /// Returns the entry of a key, if there is one. Whatever is not asked for is unknown.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        let (name, value) = self.table.get_key_value(&Spanned::new(0..0, Cow::Borrowed(key)))?;
        Some(self.entry_of(name, value))
    }

    /// Returns all entries, for tables whose keys are names chosen by the operator.
    pub(super) fn entries(&self) -> Vec<(&'a str, Entry<'a>)> {
        self.table
            .iter()
            .map(|(name, value)| (name.get_ref().as_ref(), self.entry_of(name, value)))
            .collect()
    }

    /// Returns the text of a key.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.entry(key)?.text().map(str::to_owned)
    }

    /// Returns the whole number of a key.
    pub(super) fn integer(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.entry(key)?.integer(bounds)
    }

    /// Returns the table of a key; notes a fault where it is something else.
    pub(super) fn section(&mut self, key: &'static str, example: &str) -> Option<Self> {
        let entry = self.entry(key)?;
        let section = entry.section();
        if section.is_none() {
            entry.wrong_type("a table", format!("write {example}"));
        }
        section
    }

    /// Returns where a key of this table would stand.
    pub(super) fn place_of(&self, key: &str) -> Place {
        Place {
            key: join(&self.place.key, key),
            span: self.place.span.clone(),
        }
    }

    /// Notes that a key says the opposite of another.
    pub(super) fn contradiction(&self, at: Place, problem: impl Into<String>, remedy: impl Into<String>) {
        self.notes.fault(FaultKind::Contradiction, at, problem, remedy);
    }

    /// Notes that a key which has to be there is not.
    pub(super) fn missing(&self, key: &'static str, remedy: impl Into<String>) {
        self.notes.fault(
            FaultKind::MissingKey,
            self.place_of(key),
            "this key is required",
            remedy,
        );
    }

    /// Ends the reading: every key that was not asked for is noted as unknown.
    pub(super) fn finish(self) {
        for (name, entry) in self.entries() {
            if self.asked.contains(&name) {
                continue;
            }
            let remedy = match nearest(name, self.asked.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if self.asked.is_empty() => "remove it".to_owned(),
                None => format!("remove it; known here: {}", self.asked.join(", ")),
            };
            entry.fault(FaultKind::UnknownKey, "unknown key", remedy);
        }
    }

    fn entry_of(&self, name: &'a Spanned<Cow<'a, str>>, value: &'a Spanned<DeValue<'a>>) -> Entry<'a> {
        Entry {
            place: Place {
                key: join(&self.place.key, name.get_ref()),
                span: Some(name.span()),
            },
            value: value.get_ref(),
            notes: self.notes,
        }
    }
}

/// Resolves a path of the file against the folder that the file is in.
pub(super) fn resolve(base: &Path, path: &str) -> PathBuf {
    base.join(path)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
