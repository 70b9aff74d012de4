//! Where each key stands, for whoever finds something wrong with it later than the reader.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::section::Notes;

/// How deep keys are noted, `channels.NAME.settings.KEY[0]` being five: nothing that is read stands deeper.
const LEVELS_MAX: usize = 6;

/// The line of each key of a file. It is no part of what is configured: any two are equal, since a configuration whose lines
/// moved is the same one.
#[derive(Debug, Clone, Default)]
pub struct Lines(BTreeMap<String, Place>);

impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A key, or an item of a list.
#[derive(Debug, Clone)]
struct Place {
    line: usize,
    within: Lines,
}

impl Lines {
    /// Notes where everything in a table stands, and in the tables and lists within.
    pub(super) fn of(notes: &Notes<'_>, table: &DeTable<'_>) -> Self {
        Self::to_depth(LEVELS_MAX, notes, table)
    }

    fn to_depth(levels: usize, notes: &Notes<'_>, table: &DeTable<'_>) -> Self {
        let Some(below) = levels.checked_sub(1) else {
            return Self::default();
        };
        let places = table.iter().map(|(name, value)| {
            let within = match value.get_ref() {
                DeValue::Table(table) => Self::to_depth(below, notes, table),
                DeValue::Array(items) => Self::of_items(items.iter().map(|item| notes.line_of(item.span().start))),
                _ => Self::default(),
            };
            let line = notes.line_of(name.span().start);
            (name.get_ref().to_string(), Place { line, within })
        });
        Self(places.collect())
    }

    fn of_items(lines: impl Iterator<Item = usize>) -> Self {
        let places = lines.enumerate().map(|(index, line)| {
            let within = Self::default();
            (index.to_string(), Place { line, within })
        });
        Self(places.collect())
    }

    /// Returns the line of a key, from 1; where it is not in the file, that of the table in which it would stand.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        let mut found = None;
        let mut here = self;
        for word in key.split(['.', '[', ']']).filter(|word| !word.is_empty()) {
            let Some(place) = here.0.get(word) else { break };
            found = Some(place.line);
            here = &place.within;
        }
        found
    }
}
