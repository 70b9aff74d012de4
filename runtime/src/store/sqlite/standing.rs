//! Which lanes are known to deliver: those whose last attempt did, in this process. A hint that decides who goes first
//! where places are few: nothing depends on its being complete, nor on a lane's number being given to another one.

use std::collections::HashSet;

use crate::limit;
use crate::store::Standing;

/// The lanes that are known to deliver.
#[derive(Default)]
pub(super) struct Proven(HashSet<i64>);

impl Proven {
    /// Notes that a lane delivered.
    pub(super) fn insert(&mut self, lane: i64) {
        if self.0.len() >= limit::DELIVERIES_PROVEN_LANES_MAX {
            self.0.clear();
        }
        self.0.insert(lane);
    }

    /// Notes that a lane did not.
    pub(super) fn remove(&mut self, lane: i64) {
        self.0.remove(&lane);
    }

    pub(super) fn has(&self, lane: i64) -> bool {
        self.0.contains(&lane)
    }

    /// Returns what is known of a lane; `tried` says whether what it sends next was tried before.
    pub(super) fn standing(&self, lane: i64, tried: bool) -> Standing {
        match (tried, self.has(lane)) {
            (true, _) => Standing::Tried,
            (false, true) => Standing::Proven,
            (false, false) => Standing::New,
        }
    }
}
