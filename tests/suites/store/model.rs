//! The outbox against a model of it: a list of rows and nothing clever. Any difference is a bug in one of the two.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sluicegate::clock::{UnixMillis, millis};
use sluicegate::event::{DeliveryError, OutboundEvent};
use sluicegate::limit;
use sluicegate::store::{Ask, Attempted, DeliveryClaim, EventStore};

use crate::Open;
use crate::fixtures::{NOW, block_on, channel, inbound, key, outbound, receipt, redrive};

const PLACES: [&str; 3] = ["ada", "bob", "eve"];

#[derive(Debug, Clone, Copy)]
enum Step {
    Enqueue {
        name: u8,
        place: usize,
    },
    Claim,
    Mark {
        pick: usize,
    },
    Ack {
        pick: usize,
    },
    Await {
        pick: usize,
        wait: i64,
    },
    Retry {
        pick: usize,
        wait: i64,
        floor: bool,
        attempted: Attempted,
    },
    Bury {
        pick: usize,
    },
    Confirm {
        name: u8,
        is_good: bool,
    },
    Redrive {
        name: u8,
    },
    Hear {
        place: usize,
    },
    Reach {
        place: usize,
    },
    Wait {
        time: i64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let attempted = prop_oneof![
        Just(Attempted::Failed),
        Just(Attempted::Ambiguous),
        Just(Attempted::NotAtAll)
    ];
    let wait = || prop_oneof![8 => 0..100_i64, 1 => Just(2 * millis(limit::DELIVERY_EXPIRY))];
    let (name, place, pick) = (|| 0..12_u8, || 0..PLACES.len(), || 0..8_usize);
    prop_oneof![
        4 => (name(), place()).prop_map(|(name, place)| Step::Enqueue { name, place }),
        4 => Just(Step::Claim),
        4 => pick().prop_map(|pick| Step::Mark { pick }),
        2 => pick().prop_map(|pick| Step::Ack { pick }),
        2 => (pick(), wait()).prop_map(|(pick, wait)| Step::Await { pick, wait }),
        3 => (pick(), wait(), any::<bool>(), attempted)
            .prop_map(|(pick, wait, floor, attempted)| Step::Retry { pick, wait, floor, attempted }),
        1 => pick().prop_map(|pick| Step::Bury { pick }),
        2 => (name(), any::<bool>()).prop_map(|(name, is_good)| Step::Confirm { name, is_good }),
        1 => name().prop_map(|name| Step::Redrive { name }),
        1 => place().prop_map(|place| Step::Hear { place }),
        1 => place().prop_map(|place| Step::Reach { place }),
        3 => prop_oneof![6 => 0..60_i64, 1 => Just(millis(limit::DELIVERY_EXPIRY))].prop_map(|time| Step::Wait { time }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Pending,
    Sending,
    Awaiting,
    Delivered,
    Dead,
}

#[derive(Debug)]
struct Row {
    name: u8,
    place: usize,
    /// The order in the lane; a redriven row gets a new one.
    order: usize,
    state: State,
    due: UnixMillis,
    expires: UnixMillis,
    attempts: u32,
    ambiguous: u32,
}

#[derive(Default)]
struct Model {
    rows: Vec<Row>,
    orders: usize,
    floors: [UnixMillis; PLACES.len()],
    /// The name of the row in flight in each lane.
    in_flight: [Option<u8>; PLACES.len()],
}

impl Model {
    fn row(&mut self, name: u8) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.name == name)
    }

    fn dead(&self) -> Vec<u8> {
        let dead = self.rows.iter().filter(|row| row.state == State::Dead);
        dead.map(|row| row.name).collect()
    }

    fn count(&self, wanted: &[State]) -> u64 {
        self.rows.iter().filter(|row| wanted.contains(&row.state)).count() as u64
    }

    fn enqueue(&mut self, name: u8, place: usize, now: UnixMillis) {
        if self.row(name).is_none() {
            self.orders += 1;
            let (order, expires) = (self.orders, now + millis(limit::DELIVERY_EXPIRY));
            let (state, due) = (State::Pending, now);
            let row = Row {
                name,
                place,
                order,
                state,
                due,
                expires,
                attempts: 0,
                ambiguous: 0,
            };
            self.rows.push(row);
        }
    }

    fn redrive(&mut self, name: u8, now: UnixMillis) -> bool {
        let Some(at) = self
            .rows
            .iter()
            .position(|row| row.name == name && row.state == State::Dead)
        else {
            return false;
        };
        let place = self.rows.remove(at).place;
        self.enqueue(name, place, now);
        true
    }

    /// The head of a lane, and what awaits a confirmation in it, in order.
    fn candidates(&self, place: usize) -> Vec<&Row> {
        let mut lane: Vec<_> = self.rows.iter().filter(|row| row.place == place).collect();
        lane.sort_by_key(|row| row.order);
        let head = lane
            .iter()
            .position(|row| matches!(row.state, State::Pending | State::Sending));
        let is_candidate = |(at, row): &(usize, &Row)| Some(*at) == head || row.state == State::Awaiting;
        lane.into_iter()
            .enumerate()
            .filter(is_candidate)
            .map(|(_, row)| row)
            .collect()
    }

    fn claim(&mut self, place: usize, now: UnixMillis) -> Option<(u8, u32, u32)> {
        while self.in_flight[place].is_none() {
            let name = self.candidates(place).into_iter().find(|row| row.due <= now)?.name;
            let is_held = self.floors[place] > now;
            let row = self.row(name)?;
            if row.expires <= now {
                row.state = State::Dead;
                continue;
            }
            if is_held {
                return None;
            }
            row.ambiguous += u32::from(matches!(row.state, State::Sending | State::Awaiting));
            row.state = State::Pending;
            let claimed = (name, row.attempts + 1, row.ambiguous);
            self.in_flight[place] = Some(name);
            return Some(claimed);
        }
        None
    }

    fn mark(&mut self, name: u8, attempt: u32) {
        if let Some(row) = self.row(name).filter(|row| row.state == State::Pending) {
            (row.state, row.attempts) = (State::Sending, attempt);
        }
    }

    /// Ends an attempt, unless a confirmation has settled the row meanwhile.
    fn end(&mut self, name: u8, change: impl FnOnce(&mut Row)) {
        self.in_flight
            .iter_mut()
            .filter(|held| **held == Some(name))
            .for_each(|held| *held = None);
        let is_open = |row: &&mut Row| matches!(row.state, State::Pending | State::Sending);
        if let Some(row) = self.row(name).filter(is_open) {
            change(row);
        }
    }

    fn confirm(&mut self, name: u8, is_good: bool) -> bool {
        let Some(row) = self.row(name) else { return false };
        match (row.state, is_good) {
            (State::Pending | State::Sending | State::Awaiting, true) if row.attempts > 0 => {
                row.state = State::Delivered;
            }
            (State::Sending | State::Awaiting, false) => row.state = State::Dead,
            _ => return false,
        }
        true
    }

    fn hasten(&mut self, place: usize, which: &[State], now: UnixMillis) {
        let waiting = self
            .rows
            .iter_mut()
            .filter(|row| row.place == place && which.contains(&row.state));
        waiting.for_each(|row| row.due = row.due.min(now));
    }

    fn next_due(&self) -> Option<UnixMillis> {
        let free = (0..PLACES.len()).filter(|place| self.in_flight[*place].is_none());
        let due = |row: &Row| match row.state {
            State::Awaiting => row.due.max(self.floors[row.place]),
            _ => row.due.max(self.floors[row.place]).min(row.expires),
        };
        free.flat_map(|place| self.candidates(place)).map(due).min()
    }
}

/// The store, its model, and what is in flight in both.
struct Pair<'a> {
    open: Open<'a>,
    store: Option<std::sync::Arc<dyn EventStore>>,
    model: Model,
    claims: Vec<(u8, DeliveryClaim)>,
    now: UnixMillis,
    heard: usize,
}

impl Pair<'_> {
    fn store(&self) -> &dyn EventStore {
        &**self.store.as_ref().expect("it is open between the steps")
    }

    async fn take(&mut self, step: Step) {
        let (now, family) = (self.now, channel("family"));
        match step {
            Step::Enqueue { name, place } => {
                let event = outbound(&name.to_string(), PLACES[place]);
                self.store().enqueue(vec![event], now).await.expect("enqueue");
                self.model.enqueue(name, place, now);
            }
            Step::Claim => self.claim().await,
            Step::Confirm { name, is_good } => {
                let outcome = if is_good {
                    Ok(())
                } else {
                    Err(DeliveryError::Rejected("no".into()))
                };
                let did = self
                    .store()
                    .confirm(&family, &key(&name.to_string()), outcome, now)
                    .await;
                assert_eq!(did.expect("confirm"), self.model.confirm(name, is_good));
            }
            Step::Redrive { name } => {
                let did = redrive(self.store(), &name.to_string(), now).await;
                assert_eq!(did, self.model.redrive(name, now));
            }
            Step::Hear { place } => {
                self.heard += 1;
                let message = inbound(&self.heard.to_string(), PLACES[place]);
                self.store()
                    .accept(&family, vec![message], None, now)
                    .await
                    .expect("accept");
                self.model.hasten(place, &[State::Pending], now);
            }
            Step::Reach { place } => {
                self.store()
                    .reachable(&family, PLACES[place], None, now)
                    .await
                    .expect("reachable");
                self.model.hasten(place, &[State::Pending, State::Awaiting], now);
            }
            Step::Wait { time } => self.now += time,
            Step::Restart => {
                drop(self.store.take());
                self.store = Some((self.open)());
                self.model.in_flight = [None; PLACES.len()];
                self.claims.clear();
            }
            Step::Mark { pick } => {
                if !self.claims.is_empty() {
                    let (name, claim) = self.claims[pick % self.claims.len()];
                    self.store().lazy_mark_sending(claim, now).await.expect("mark");
                    self.model.mark(name, claim.attempt);
                }
            }
            Step::Ack { pick } | Step::Await { pick, .. } | Step::Retry { pick, .. } | Step::Bury { pick } => {
                if !self.claims.is_empty() {
                    let (name, claim) = self.claims.remove(pick % self.claims.len());
                    self.end(step, name, claim).await;
                }
            }
        }
        self.compare().await;
    }

    async fn claim(&mut self) {
        let heads = self
            .store()
            .lazy_claim_heads(&[Ask::unbounded(channel("family"))], 100, self.now)
            .await
            .expect("claim");
        let mut buried: Vec<u8> = heads.expired.iter().map(|letter| number(&letter.event)).collect();
        let claimed = heads.dispatches;
        let mut seen: Vec<_> = claimed
            .iter()
            .map(|one| (number(&one.event), one.claim.attempt, one.ambiguous))
            .collect();
        self.claims
            .extend(seen.iter().map(|one| one.0).zip(claimed.iter().map(|one| one.claim)));
        let dead_before = self.model.dead();
        let mut expected: Vec<_> = (0..PLACES.len())
            .filter_map(|place| self.model.claim(place, self.now))
            .collect();
        let mut expired = self.model.dead();
        expired.retain(|name| !dead_before.contains(name));
        buried.sort_unstable();
        expired.sort_unstable();
        assert_eq!(buried, expired, "what a claim finds expired is named");
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "(name, attempt, ambiguous) of each claimed head");
    }

    async fn end(&mut self, step: Step, name: u8, claim: DeliveryClaim) {
        let (store, now) = (self.store(), self.now);
        match step {
            Step::Ack { .. } => {
                store.lazy_ack(claim, receipt(&[]), now).await.expect("ack");
                self.model.end(name, |row| row.state = State::Delivered);
            }
            Step::Await { wait, .. } => {
                store
                    .lazy_await_confirmation(claim, receipt(&[]), now + wait, now)
                    .await
                    .expect("await");
                self.model.end(name, |row| {
                    (row.state, row.due) = (State::Awaiting, row.expires.min(now + wait));
                    row.attempts = claim.attempt;
                });
            }
            Step::Retry {
                wait, floor, attempted, ..
            } => {
                store
                    .lazy_reschedule(claim, now + wait, floor, attempted, "why", now)
                    .await
                    .expect("reschedule");
                let mut floored = None;
                self.model.end(name, |row| {
                    (row.state, row.due) = (State::Pending, row.expires.min(now + wait));
                    row.attempts = claim.attempt - u32::from(attempted == Attempted::NotAtAll);
                    row.ambiguous += u32::from(attempted == Attempted::Ambiguous);
                    floored = floor.then_some(row.place);
                });
                if let Some(place) = floored {
                    self.model.floors[place] = self.model.floors[place].max(now + wait);
                }
            }
            _ => {
                store.bury(claim, "no", now).await.expect("bury");
                self.model.end(name, |row| row.state = State::Dead);
            }
        }
    }

    async fn compare(&self) {
        let depth = self.store().depth();
        let live = self.model.count(&[State::Pending, State::Sending, State::Awaiting]);
        assert_eq!((depth.outbox, depth.dead), (live, self.model.count(&[State::Dead])));
        // How long ago something fell due makes no difference to anyone.
        let due = self.store().next_head_due(&[channel("family")]).await.expect("next");
        let clamped = |due: Option<UnixMillis>| due.map(|due| due.max(self.now));
        assert_eq!(clamped(due), clamped(self.model.next_due()));
    }
}

fn number(event: &OutboundEvent) -> u8 {
    let name = event.key.as_str().trim_start_matches("dlv_");
    name.parse().expect("a number")
}

pub(crate) fn the_store_does_what_the_model_does(fresh: impl Fn(&mut dyn FnMut(Open<'_>))) {
    let mut runner = TestRunner::new(Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let steps = proptest::collection::vec(step(), 1..80);
    let outcome = runner.run(&steps, |steps| {
        fresh(&mut |open| {
            let (model, claims) = (Model::default(), Vec::new());
            let mut pair = Pair {
                open,
                store: Some(open()),
                model,
                claims,
                now: NOW,
                heard: 0,
            };
            block_on(async {
                for step in &steps {
                    pair.take(*step).await;
                }
            });
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
