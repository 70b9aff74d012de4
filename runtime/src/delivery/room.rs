//! How much of each channel may be in flight: which channels a claim may ask for, and how much of them.

use std::collections::HashMap;

use crate::clock::{UnixMillis, millis};
use crate::id::ChannelName;
use crate::limit;

/// One question to the store: up to `max` heads of these channels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) channels: Vec<ChannelName>,
    pub(super) max: usize,
}

/// What is in flight, and what is held back.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Attempts in flight of each channel; channels without one are not in it.
    in_flight: HashMap<ChannelName, usize>,
    /// Attempts in flight over all channels.
    total: usize,
    /// Channels that asked to wait, until when.
    held: HashMap<ChannelName, UnixMillis>,
}

impl Room {
    /// Counts an attempt that begins.
    pub(super) fn enter(&mut self, channel: &ChannelName) {
        *self.in_flight.entry(channel.clone()).or_default() += 1;
        self.total += 1;
    }

    /// Counts an attempt that ended.
    pub(super) fn leave(&mut self, channel: &ChannelName) {
        if let Some(count) = self.in_flight.get_mut(channel) {
            self.total -= 1;
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(channel);
            }
        }
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
        // One that lies further ahead than any may was made before the clock was set back.
        let latest = now.saturating_add(millis(limit::RATE_LIMIT_WAIT_MAX));
        self.held.retain(|_, until| *until > now && *until <= latest);
        ready.retain(|channel| !self.held.contains_key(channel));
        (ready, self.held.values().min().copied())
    }

    /// Returns what to ask the store for. Channels with room to spare share one question; one that is near its bound has
    /// its own, so that no answer can take it over.
    pub(super) fn asks(&self, open: &[ChannelName]) -> Vec<Ask> {
        let max = limit::DELIVERY_CLAIM_MAX.min(limit::DELIVERIES_IN_FLIGHT_MAX.saturating_sub(self.total));
        let mut asks = vec![Ask {
            channels: Vec::new(),
            max,
        }];
        for channel in open {
            let used = self.in_flight.get(channel).copied().unwrap_or_default();
            let left = limit::DELIVERIES_PER_CHANNEL_MAX.saturating_sub(used);
            if left >= max {
                asks[0].channels.push(channel.clone());
            } else {
                asks.push(Ask {
                    channels: vec![channel.clone()],
                    max: left,
                });
            }
        }
        asks.retain(|ask| ask.max > 0 && !ask.channels.is_empty());
        asks
    }

    /// Returns how many more attempts may begin.
    pub(super) fn left(&self) -> usize {
        limit::DELIVERIES_IN_FLIGHT_MAX.saturating_sub(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::from_trusted(text)
    }

    fn filled(counts: &[(&str, usize)]) -> Room {
        let mut room = Room::default();
        for (channel, count) in counts {
            (0..*count).for_each(|_| room.enter(&name(channel)));
        }
        room
    }

    #[test]
    fn idle_channels_share_one_question() {
        let asks = Room::default().asks(&[name("a"), name("b")]);
        assert_eq!(
            asks,
            [Ask {
                channels: vec![name("a"), name("b")],
                max: limit::DELIVERY_CLAIM_MAX
            }]
        );
        assert!(Room::default().asks(&[]).is_empty());
    }

    #[test]
    fn a_slow_channel_never_takes_more_than_its_share() {
        let max = limit::DELIVERIES_PER_CHANNEL_MAX;
        let near = filled(&[("slow", max - 3)]).asks(&[name("slow"), name("b")]);
        assert_eq!(
            near[1],
            Ask {
                channels: vec![name("slow")],
                max: 3
            }
        );
        let full = filled(&[("slow", max)]).asks(&[name("slow"), name("b")]);
        assert_eq!(
            full,
            [Ask {
                channels: vec![name("b")],
                max: limit::DELIVERY_CLAIM_MAX
            }]
        );
    }

    #[test]
    fn nothing_is_asked_for_when_all_room_is_taken_and_room_comes_back() {
        let max = limit::DELIVERIES_PER_CHANNEL_MAX;
        let mut room = filled(&[("a", max), ("b", max)]);
        assert!(room.asks(&[name("c")]).is_empty());
        room.leave(&name("a"));
        assert_eq!(
            room.asks(&[name("c")]),
            [Ask {
                channels: vec![name("c")],
                max: 1
            }]
        );
        assert_eq!(room.left(), 1);
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
