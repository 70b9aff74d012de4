//! How much of each channel waits for the agent: kept in memory beside the counts, read from the table at the start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use rusqlite::Connection;

/// What readers see of it, by the channel's name.
pub(super) type Shown = RwLock<HashMap<String, u64>>;

/// The writer's own count. A channel's name is known here before anything of it is counted.
#[derive(Default)]
pub(super) struct Waiting {
    names: HashMap<i64, String>,
    rows: BTreeMap<i64, i64>,
    /// Channels whose count is not what readers see.
    touched: BTreeSet<i64>,
}

impl Waiting {
    /// Counts what waits.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut waiting = Self::default();
        let mut names = db.prepare("SELECT id, name FROM channel")?;
        for named in names.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (id, name): (i64, String) = named?;
            waiting.names.insert(id, name);
        }
        let mut counted = db.prepare("SELECT channel, count(*) FROM inbox WHERE state = 0 GROUP BY channel")?;
        for row in counted.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (id, rows): (i64, i64) = row?;
            waiting.add(id, rows);
        }
        Ok(waiting)
    }

    /// Notes what a channel is called: after a rollback another one may have its number.
    pub(super) fn name(&mut self, channel: i64, name: &str) {
        self.names.insert(channel, name.to_owned());
    }

    /// Returns the channels of which anything waits.
    pub(super) fn channels(&self) -> impl Iterator<Item = i64> {
        self.rows
            .iter()
            .filter(|(_, rows)| **rows > 0)
            .map(|(channel, _)| *channel)
    }

    pub(super) fn add(&mut self, channel: i64, rows: i64) {
        *self.rows.entry(channel).or_default() += rows;
        self.touched.insert(channel);
    }

    /// Lets readers see what was counted.
    pub(super) fn show(&mut self, shown: &Shown) {
        if self.touched.is_empty() {
            return;
        }
        let mut shown = shown.write().unwrap_or_else(PoisonError::into_inner);
        for channel in std::mem::take(&mut self.touched) {
            let rows = self.rows.get(&channel).copied().unwrap_or_default();
            let rows = u64::try_from(rows).unwrap_or(0);
            let Some(name) = self.names.get(&channel) else {
                continue;
            };
            match shown.get_mut(name) {
                Some(seen) => *seen = rows,
                None => {
                    shown.insert(name.clone(), rows);
                }
            }
        }
    }
}
