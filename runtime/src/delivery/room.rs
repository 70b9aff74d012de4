//! How much of each channel may be in flight, and in lanes of which standing: what a claim may ask for.
//!
//! A conversation whose platform hangs holds a place until its attempt's time is up. So a channel's places are not for
//! whoever comes first: a part is kept for what was not tried before, and a part for lanes that are known to deliver.
//!
//! One whose platform refuses at once comes back by the schedule, with all others that were refused in the same moment. So
//! a channel has a budget of retries that fail.

use std::collections::HashMap;

use crate::clock::{UnixMillis, millis};
use crate::id::ChannelName;
use crate::limit;
use crate::store::{Ask, Places, Standing};

/// What is in flight, and what is held back.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Attempts in flight of each channel; channels without one are not in it.
    in_flight: HashMap<ChannelName, Places>,
    /// Attempts in flight over all channels.
    total: usize,
    /// Channels that asked to wait, until when.
    held: HashMap<ChannelName, UnixMillis>,
    /// Until when the newest of a channel's failed retries counts against its budget; each is for
    /// [`limit::RETRY_BUDGET_REFILL`], one after the other.
    spent: HashMap<ChannelName, UnixMillis>,
}

impl Room {
    /// Counts an attempt that begins.
    pub(super) fn enter(&mut self, channel: &ChannelName, standing: Standing) {
        self.in_flight.entry(channel.clone()).or_default().add(standing);
        self.total += 1;
    }

    /// Counts an attempt that ended, of a lane that had this standing when it began.
    pub(super) fn leave(&mut self, channel: &ChannelName, standing: Standing) {
        if let Some(taken) = self.in_flight.get_mut(channel) {
            self.total -= 1;
            taken.take(standing);
            if taken.all == 0 {
                self.in_flight.remove(channel);
            }
        }
    }

    /// Counts a retry that failed.
    pub(super) fn charge_retry(&mut self, channel: &ChannelName, now: UnixMillis) {
        let spent = self.spent.entry(channel.clone()).or_insert(now);
        *spent = (*spent).max(now).saturating_add(millis(limit::RETRY_BUDGET_REFILL));
    }

    /// Returns when a channel whose budget is used up may make its next retry, the first of them.
    pub(super) fn retries_from(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        let (one, all) = (millis(limit::RETRY_BUDGET_REFILL), retry_budget_span());
        keep_ahead(&mut self.spent, now, 2 * all);
        let used_up = self.spent.values().map(|until| until.saturating_sub(all - one));
        used_up.filter(|from| *from > now).min()
    }

    /// Sends nothing of a channel until then.
    pub(super) fn hold(&mut self, channel: ChannelName, until: UnixMillis) {
        let held = self.held.entry(channel).or_insert(until);
        *held = until.max(*held);
    }

    /// Returns those of the ready channels that are not held, and when the first of the held ones may go on.
    pub(super) fn open(
        &mut self,
        mut ready: Vec<ChannelName>,
        now: UnixMillis,
    ) -> (Vec<ChannelName>, Option<UnixMillis>) {
        keep_ahead(&mut self.held, now, millis(limit::RATE_LIMIT_WAIT_MAX));
        ready.retain(|channel| !self.held.contains_key(channel));
        (ready, self.held.values().min().copied())
    }

    /// Returns what to ask the store for: the open channels that have places left.
    pub(super) fn asks(&self, open: Vec<ChannelName>, now: UnixMillis) -> Vec<Ask> {
        let asks = open.into_iter().map(|channel| Ask {
            places: self.left(&channel, now),
            channel,
        });
        asks.filter(|ask| ask.places.all > 0).collect()
    }

    /// Returns how many more attempts of a channel may begin.
    fn left(&self, channel: &ChannelName, now: UnixMillis) -> Places {
        let taken = self.in_flight.get(channel).copied().unwrap_or_default();
        let elsewhere = self.total - taken.all;
        let all = limit::DELIVERIES_IN_FLIGHT_MAX
            .saturating_sub(elsewhere)
            .clamp(limit::DELIVERIES_PER_CHANNEL_MIN, limit::DELIVERIES_PER_CHANNEL_MAX);
        let places = Places {
            all,
            unproven: all * limit::DELIVERIES_UNPROVEN_PERCENT / 100,
            tried: (all * limit::DELIVERIES_TRIED_PERCENT / 100).min(self.retry_budget(channel, now)),
        };
        places.less(taken)
    }

    /// Returns how many more retries of a channel may fail now.
    fn retry_budget(&self, channel: &ChannelName, now: UnixMillis) -> usize {
        let spent = self
            .spent
            .get(channel)
            .map_or(0, |until| until.saturating_sub(now).max(0));
        let left = (retry_budget_span() - spent) / millis(limit::RETRY_BUDGET_REFILL);
        usize::try_from(left).unwrap_or(0)
    }
}

/// Drops the times that are past. One that lies further ahead than any may was made before the clock was set back, and
/// goes too.
fn keep_ahead(times: &mut HashMap<ChannelName, UnixMillis>, now: UnixMillis, ahead_max: UnixMillis) {
    let latest = now.saturating_add(ahead_max);
    times.retain(|_, until| *until > now && *until <= latest);
}

/// Returns how far ahead a budget that is used up reaches, ms.
fn retry_budget_span() -> UnixMillis {
    millis(limit::RETRY_BUDGET_REFILL * limit::RETRY_BUDGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::from_trusted(text)
    }

    fn fill(room: &mut Room, channel: &str, standing: Standing, count: usize) {
        (0..count).for_each(|_| room.enter(&name(channel), standing));
    }

    fn left(room: &Room, channel: &str) -> Places {
        left_at(room, channel, 0)
    }

    fn left_at(room: &Room, channel: &str, now: UnixMillis) -> Places {
        let asks = room.asks(vec![name(channel)], now);
        asks.first().map(|ask| ask.places).unwrap_or_default()
    }

    #[test]
    fn an_idle_channel_has_places_for_every_standing() {
        let places = left(&Room::default(), "a");
        let expected = Places {
            all: 24,
            unproven: 18,
            tried: 12,
        };
        assert_eq!(places, expected);
    }

    #[test]
    fn attempts_that_hang_leave_places_for_the_lanes_that_are_better_known() {
        let mut room = Room::default();
        fill(&mut room, "slow", Standing::Tried, 12);
        let places = left(&room, "slow");
        assert!(!places.has(Standing::Tried) && places.has(Standing::New));
        fill(&mut room, "slow", Standing::New, 6);
        let places = left(&room, "slow");
        assert!(!places.has(Standing::New) && places.has(Standing::Proven));
        fill(&mut room, "slow", Standing::Proven, 6);
        assert_eq!(room.asks(vec![name("slow")], 0), []);
        room.leave(&name("slow"), Standing::New);
        assert!(
            left(&room, "slow").has(Standing::New),
            "an attempt that ends gives its place back"
        );
    }

    #[test]
    fn no_number_of_full_channels_takes_the_last_places_of_another() {
        let mut room = Room::default();
        let full: Vec<_> = (0..20).map(|n| format!("slow{n}")).collect();
        for channel in &full {
            while left(&room, channel).has(Standing::Proven) {
                room.enter(&name(channel), Standing::Proven);
            }
        }
        let in_all = limit::DELIVERIES_IN_FLIGHT_MAX + 20 * limit::DELIVERIES_PER_CHANNEL_MIN;
        assert!(room.total <= in_all, "{} of {in_all}", room.total);
        let places = left(&room, "other");
        assert!(places.has(Standing::Tried) && places.has(Standing::New) && places.has(Standing::Proven));
    }

    #[test]
    fn retries_that_fail_use_up_a_budget_that_refills_one_by_one() {
        let mut room = Room::default();
        for failed in 0..12 {
            assert_eq!(left_at(&room, "a", 1000).tried, 12 - failed, "after {failed} failures");
            room.charge_retry(&name("a"), 1000);
        }
        let places = left_at(&room, "a", 1000);
        assert!(!places.has(Standing::Tried) && places.has(Standing::New), "{places:?}");
        assert!(
            left_at(&room, "b", 1000).has(Standing::Tried),
            "each channel has its own"
        );
        let from = room.retries_from(1000);
        assert_eq!(from, Some(1010), "the first refill");
        assert_eq!(left_at(&room, "a", 1009).tried, 0);
        assert_eq!(left_at(&room, "a", 1010).tried, 1);
        assert_eq!(room.retries_from(1010), None, "there is one left: nothing to wait for");
        assert_eq!(left_at(&room, "a", 1120).tried, 12);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_the_retry_budget_back() {
        let mut room = Room::default();
        (0..12).for_each(|_| room.charge_retry(&name("a"), 5_000_000));
        assert_eq!(room.retries_from(1000), None);
        assert_eq!(left_at(&room, "a", 1000).tried, 12);
    }

    #[test]
    fn a_clock_that_is_set_back_sets_a_held_channel_free() {
        let mut room = Room::default();
        room.hold(name("a"), 5_000_000);
        assert_eq!(room.open(vec![name("a")], 1000), (vec![name("a")], None));
    }

    #[test]
    fn a_held_channel_is_left_out_until_its_time() {
        let mut room = Room::default();
        room.hold(name("a"), 100);
        room.hold(name("a"), 50);
        assert_eq!(room.open(vec![name("a"), name("b")], 99), (vec![name("b")], Some(100)));
        assert_eq!(
            room.open(vec![name("a"), name("b")], 100),
            (vec![name("a"), name("b")], None)
        );
    }
}
