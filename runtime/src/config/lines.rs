//! Where each key stands, for whoever finds something wrong with it later than the reader.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::section::Notes;

/// The line of each key of a file, by the key in full. It is no part of what is configured: any two are equal, since a
/// configuration whose lines moved is the same one.
#[derive(Debug, Clone, Default)]
pub struct Lines(BTreeMap<String, usize>);

impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Lines {
    /// Notes where everything in a table stands, and in the tables and lists within.
    pub(super) fn of(notes: &Notes<'_>, table: &DeTable<'_>) -> Self {
        let mut lines = BTreeMap::new();
        // The parser bounds how deep tables nest; a list of its own walks them without the stack.
        let mut open = vec![(String::new(), table)];
        while let Some((path, table)) = open.pop() {
            for (name, value) in table {
                let key = match path.as_str() {
                    "" => name.get_ref().to_string(),
                    path => format!("{path}.{}", name.get_ref()),
                };
                lines.insert(key.clone(), notes.line_of(name.span().start));
                match value.get_ref() {
                    DeValue::Table(inner) => open.push((key, inner)),
                    DeValue::Array(items) => lines.extend(
                        (0..)
                            .zip(items.iter())
                            .map(|(index, item)| (format!("{key}[{index}]"), notes.line_of(item.span().start))),
                    ),
                    _ => {}
                }
            }
        }
        Self(lines)
    }

    /// Returns the line of a key, from 1; where it is not in the file, that of the table in which it would stand.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            match self.0.get(key) {
                Some(line) => return Some(*line),
                None => key = &key[..key.rfind(['.', '['])?],
            }
        }
    }
}
