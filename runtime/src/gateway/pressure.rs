//! Watches the store's marks, and tells when one is reached and when there is room again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::switchboard::Switchboard;
use crate::bus::{Bus, Event};
use crate::clock::{Clock, UnixMillis};
use crate::id::ChannelName;
use crate::limit;
use crate::store::{EventStore, Full, Pressure};

/// Measures what the store uses, now and then, until `stop`.
pub(super) async fn watch(
    store: Arc<dyn EventStore>,
    switchboard: Arc<Switchboard>,
    bus: Bus,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let (mut told, mut crowded) = (Pressure::default(), BTreeSet::new());
    let mut looks = tokio::time::interval(limit::PRESSURE_PERIOD);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        if let Err(error) = store.measure().await {
            tracing::warn!(%error, "the store's size could not be measured");
        }
        if store.pressure().turns == Some(Full::Refused) {
            // Little else writes now: this finds out whether there is room again, which the store notes.
            if let Err(error) = store.lazy_note_time(clock.now_ms()).await {
                tracing::debug!(%error, "there is no room yet");
            }
        }
        let pressure = store.pressure();
        if is_news(told.intake, pressure.intake) || is_news(told.turns, pressure.turns) {
            told = pressure;
            tell(pressure, &bus, clock.now_ms());
        }
        look_at_shares(&*store, &switchboard, &bus, &mut crowded, clock.now_ms());
    }
}

/// Returns whether a mark is reached that was not, or the other way round: the figures change all the time.
fn is_news(before: Option<Full>, now: Option<Full>) -> bool {
    before.map(|full| std::mem::discriminant(&full)) != now.map(|full| std::mem::discriminant(&full))
}

/// Tells which channels have as much waiting for the agent as one may, and which no longer do. `crowded` are those that it
/// was told of.
fn look_at_shares(
    store: &dyn EventStore,
    switchboard: &Switchboard,
    bus: &Bus,
    crowded: &mut BTreeSet<ChannelName>,
    at_ms: UnixMillis,
) {
    for channel in switchboard.channels() {
        let name = &channel.services().name;
        let full = store.intake(name).filter(|full| matches!(full, Full::Share(_)));
        let words = full.map(|full| full.to_string());
        match &words {
            Some(why) if crowded.insert(name.clone()) => {
                tracing::warn!(channel = %name, why, "nothing of this channel is taken in until there is room");
            }
            None if crowded.remove(name) => tracing::info!(channel = %name, "there is room again"),
            _ => continue,
        }
        bus.publish(|| Event::Pressure {
            channel: Some(name.clone()),
            intake: words,
            turns: None,
            at_ms,
        });
    }
}

fn tell(pressure: Pressure, bus: &Bus, at_ms: UnixMillis) {
    let words = |full: Option<Full>| full.map(|full| full.to_string());
    let (intake, turns) = (words(pressure.intake), words(pressure.turns));
    match (&intake, &turns) {
        (Some(why), None) => tracing::error!(why, "nothing is taken in until there is room"),
        (Some(why), Some(_)) => tracing::error!(why, "nothing is taken in and no turn is begun until there is room"),
        (None, _) => tracing::info!("there is room again"),
    }
    if turns.is_none() {
        bus.turns_due().wake();
    }
    bus.publish(|| Event::Pressure {
        channel: None,
        intake,
        turns,
        at_ms,
    });
}
