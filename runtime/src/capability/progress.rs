//! `progress`: parts that went out, confirmations that come later, conversations that can be reached again.

use crate::bus::{self, Letter};
use crate::clock::UnixMillis;
use crate::event::{self, SentPart};
use crate::guest::bindings::sluicegate::channel::progress::{DeliveryError, Host};
use crate::guest::{Errand, Guest, Services};
use crate::id::DeliveryKey;
use crate::limit;
use crate::store::DeliveryRecord;

impl Host for Guest {
    async fn confirm(&mut self, delivery_key: String, outcome: Result<(), DeliveryError>) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        let Some(key) = key(delivery_key) else { return Ok(()) };
        let outcome = outcome.map_err(|error| event::DeliveryError::from(error).presentable(services));
        let now = services.clock.now_ms();
        // What was delivered is read before: afterwards only its receipt is kept.
        let awaited = match services.bus.subscribers() {
            0 => None,
            _ => services.store.delivery(&key).await.map_err(wasmtime::Error::msg)?,
        };
        let settled = services.store.confirm(&services.name, &key, outcome.clone(), now).await;
        if settled.map_err(wasmtime::Error::msg)? {
            if let Some(awaited) = awaited {
                announce(services, awaited, outcome, now);
            }
            services.bus.deliveries_due().wake();
        }
        services.pay(Errand::call()).await;
        Ok(())
    }

    async fn conversation_of(&mut self, delivery_key: String) -> wasmtime::Result<Option<String>> {
        let Some(services) = &self.services else {
            return Ok(None);
        };
        let Some(key) = key(delivery_key) else { return Ok(None) };
        let record = services.store.delivery(&key).await.map_err(wasmtime::Error::msg)?;
        services.pay(Errand::call()).await;
        let event = record
            .filter(|record| record.finished_at_ms.is_none())
            .and_then(|record| record.event);
        let own = event.filter(|event| event.channel == services.name);
        Ok(own.map(|event| event.conversation.id))
    }

    async fn sent(&mut self, delivery_key: String, index: u32, message_id: String) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        // A guest that goes on after this failed would send the part again at its next attempt: end it here.
        wasmtime::ensure!(
            index < limit::PARTS_MAX,
            "a delivery has at most {} parts",
            limit::PARTS_MAX
        );
        let Some(key) = key(delivery_key) else { return Ok(()) };
        let message_id = message_id[..message_id.floor_char_boundary(limit::PLATFORM_ID_BYTES_MAX)].to_owned();
        let part = SentPart { index, message_id };
        services
            .store
            .part_sent(&services.name, &key, part)
            .await
            .map_err(wasmtime::Error::msg)?;
        self.evidence.account_for_answers();
        services.pay(Errand::call()).await;
        Ok(())
    }

    async fn reachable(&mut self, conversation: String, thread: Option<String>) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        let longest = conversation.len().max(thread.as_ref().map_or(0, String::len));
        if longest > limit::PLATFORM_ID_BYTES_MAX {
            // Nothing was ever published of such a conversation, so nothing waits for it.
            return Ok(());
        }
        let now = services.clock.now_ms();
        let reached = services
            .store
            .reachable(&services.name, &conversation, thread.as_deref(), now)
            .await;
        reached.map_err(wasmtime::Error::msg)?;
        services.bus.deliveries_due().wake();
        services.pay(Errand::call()).await;
        Ok(())
    }
}

/// Tells who listens what became of a delivery whose confirmation was awaited.
fn announce(
    services: &Services,
    awaited: DeliveryRecord,
    outcome: Result<(), event::DeliveryError>,
    at_ms: UnixMillis,
) {
    let DeliveryRecord {
        event: Some(event),
        message_ids,
        attempts: attempt,
        ..
    } = awaited
    else {
        return;
    };
    services.bus.publish(|| {
        let letter = Letter::from(&event);
        match outcome {
            Ok(()) => bus::Event::Delivered {
                letter,
                message_ids,
                attempt,
                at_ms,
            },
            Err(error) => bus::Event::Dead {
                letter,
                reason: error.to_string(),
                attempt,
                at_ms,
            },
        }
    });
}

/// Takes a key from a guest: none where no delivery can have it.
fn key(text: String) -> Option<DeliveryKey> {
    (text.len() <= limit::PLATFORM_ID_BYTES_MAX).then(|| DeliveryKey::from_trusted(text))
}
