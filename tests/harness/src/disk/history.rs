//! What was done to a disk, and what a power cut would have left of it.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use super::tree::{Change, ROOT, Tree};
use crate::Dice;

/// A disk writes a sector whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A change, and when it was made.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) at: Instant,
    pub(super) change: Change,
}

/// What becomes of the changes that were not synced when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// They are lost.
    Lost,
    /// They had reached the disk all the same.
    Kept,
    /// Some had: each write by chance, and of half of those only some sectors. The seed repeats it.
    Torn(u64),
}

/// Everything that was done to a disk, oldest first.
#[derive(Debug, Clone)]
pub struct History {
    steps: Vec<Step>,
}

impl History {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self { steps }
    }

    /// Returns the same history on a disk that says it has synced and has not.
    #[must_use]
    pub fn without_syncs(mut self) -> Self {
        self.steps.retain(|step| !matches!(step.change, Change::Sync { .. }));
        self
    }

    /// Returns the number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Returns whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the moments at which to cut the power that differ most: just before and just after each sync, as numbers
    /// of the steps that were still carried out.
    pub fn around_syncs(&self) -> Vec<usize> {
        let syncs = self.steps.iter().enumerate();
        let syncs = syncs.filter(|(_, step)| matches!(step.change, Change::Sync { .. }));
        let mut cuts: Vec<usize> = syncs.flat_map(|(index, _)| [index, index + 1]).collect();
        cuts.dedup();
        cuts
    }

    /// Returns the time at which the power is cut when `steps` were still carried out: just before the step after them.
    /// None where there is no such step: the run ended with it.
    pub fn time_of(&self, steps: usize) -> Option<Instant> {
        self.steps.get(steps).map(|step| step.at)
    }

    /// Walks through the moments `cuts` (ascending numbers of steps) and calls `look` with what a power cut left of the
    /// disk at each.
    pub fn walk(&self, cuts: &[usize], mut look: impl FnMut(usize, &Remains)) {
        let mut remains = Remains::default();
        let mut done = 0;
        for cut in cuts {
            for step in &self.steps[done..*cut] {
                remains.take(&step.change);
            }
            done = *cut;
            look(*cut, &remains);
        }
    }

    /// Writes what a power cut after `steps` left into a folder, which is made.
    pub fn after_a_cut(&self, steps: usize, unsynced: Unsynced, folder: &Path) {
        self.walk(&[steps], |_, remains| remains.write_to(folder, unsynced));
    }
}

/// A disk at the moment of a power cut: what is durable, and what was still on its way there.
#[derive(Debug, Default)]
pub struct Remains {
    durable: Tree,
    pending: Vec<Change>,
}

impl Remains {
    /// Writes it into a folder, which is made.
    pub fn write_to(&self, folder: &Path, unsynced: Unsynced) {
        let mut tree = self.durable.clone();
        match unsynced {
            Unsynced::Lost => {}
            Unsynced::Kept => self.pending.iter().for_each(|change| tree.apply(change)),
            Unsynced::Torn(seed) => {
                let mut dice = Dice::new(seed);
                for change in &self.pending {
                    apply_by_chance(&mut tree, change, &mut dice);
                }
            }
        }
        tree.copy_to(ROOT, folder);
    }

    fn take(&mut self, change: &Change) {
        match change {
            Change::Make { .. } => self.durable.apply(change),
            Change::Sync { node } => {
                let synced = self.pending.extract_if(.., |change| change.synced_by() == Some(*node));
                synced.for_each(|change| self.durable.apply(&change));
            }
            _ => self.pending.push(change.clone()),
        }
    }
}

fn apply_by_chance(tree: &mut Tree, change: &Change, dice: &mut Dice) {
    match change {
        // Names reach the disk in their order: every journal keeps it.
        Change::Name { .. } | Change::Unname { .. } | Change::Rename { .. } => tree.apply(change),
        _ if dice.below(2) == 0 => {}
        Change::Write { node, offset, bytes } if dice.below(2) == 0 => {
            for sector in sectors(*offset, bytes.len()) {
                if dice.below(2) == 0 {
                    tree.write(*node, offset + sector.start as u64, &bytes[sector]);
                }
            }
        }
        _ => tree.apply(change),
    }
}

/// Cuts a write at the borders of sectors.
fn sectors(offset: u64, length: usize) -> impl Iterator<Item = Range<usize>> {
    let lead = super::tree::index(offset) % SECTOR_BYTES;
    (0..(lead + length).div_ceil(SECTOR_BYTES)).map(move |sector| {
        let start = (sector * SECTOR_BYTES).saturating_sub(lead);
        start..((sector + 1) * SECTOR_BYTES - lead).min(length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(node: u64, text: &str) -> Change {
        Change::Write {
            node,
            offset: 0,
            bytes: text.as_bytes().into(),
        }
    }

    fn named(node: u64, name: &str) -> [Change; 2] {
        let make = Change::Make {
            node,
            is_folder: false,
            mode: 0o600,
        };
        let name = Change::Name {
            folder: ROOT,
            name: name.into(),
            node,
        };
        [make, name]
    }

    fn remains(changes: impl IntoIterator<Item = Change>) -> Remains {
        let mut remains = Remains::default();
        changes.into_iter().for_each(|change| remains.take(&change));
        remains
    }

    fn text(remains: &Remains, unsynced: Unsynced, name: &str) -> Option<String> {
        let folder = crate::TempFolder::new();
        remains.write_to(folder.path(), unsynced);
        std::fs::read_to_string(folder.path().join(name)).ok()
    }

    #[test]
    fn only_what_was_synced_with_its_name_survives() {
        let [make, name] = named(2, "a");
        let mut left = remains([make, name, write(2, "one"), Change::Sync { node: 2 }]);
        assert_eq!(text(&left, Unsynced::Lost, "a"), None, "its folder was not synced");
        left.take(&Change::Sync { node: ROOT });
        left.take(&write(2, "two"));
        assert_eq!(text(&left, Unsynced::Lost, "a").as_deref(), Some("one"));
        assert_eq!(text(&left, Unsynced::Kept, "a").as_deref(), Some("two"));
    }

    #[test]
    fn a_torn_write_leaves_whole_sectors_of_the_old_or_the_new() {
        let (old, new) = ("a".repeat(2000), "b".repeat(2000));
        let [make, name] = named(2, "a");
        let left = remains([
            make,
            name,
            Change::Sync { node: ROOT },
            write(2, &old),
            Change::Sync { node: 2 },
            write(2, &new),
        ]);
        let seen: Vec<String> = (0..40)
            .filter_map(|seed| text(&left, Unsynced::Torn(seed), "a"))
            .collect();
        let is_whole = |text: &String| {
            let mut sectors = text.as_bytes().chunks(SECTOR_BYTES);
            text.len() == 2000 && sectors.all(|sector| sector.iter().all(|byte| *byte == sector[0]))
        };
        assert!(seen.iter().all(is_whole));
        assert!(seen.contains(&old) && seen.contains(&new));
        assert!(seen.iter().any(|text| text != &old && text != &new));
    }

    #[test]
    fn a_write_is_cut_at_the_borders_of_the_disk_not_of_the_write() {
        assert_eq!(sectors(500, 600).collect::<Vec<_>>(), [0..12, 12..524, 524..600]);
        assert!(sectors(512, 512).eq(std::iter::once(0..512)));
    }
}
