//! `progress`: parts that went out, confirmations that come later, conversations that can be reached again.

use crate::channel::Guest;
use crate::channel::bindings::sluicegate::channel::progress::{DeliveryError, Host};
use crate::event::SentPart;
use crate::id::DeliveryKey;
use crate::limit;

impl Host for Guest {
    async fn confirm(&mut self, delivery_key: String, outcome: Result<(), DeliveryError>) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        let key = DeliveryKey::from_trusted(delivery_key);
        let outcome = outcome.map_err(Into::into);
        let now = services.clock.now_ms();
        let settled = services.store.confirm(&services.name, &key, outcome, now).await;
        if settled.map_err(wasmtime::Error::msg)? {
            services.bus.deliveries_due().wake();
        }
        Ok(())
    }

    async fn sent(&mut self, delivery_key: String, index: u32, message_id: String) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        let message_id = message_id[..message_id.floor_char_boundary(limit::PLATFORM_ID_BYTES_MAX)].to_owned();
        let part = SentPart { index, message_id };
        // A guest that goes on after this failed would send the part again at its next attempt: end it here.
        let key = DeliveryKey::from_trusted(delivery_key);
        services.store.part_sent(&services.name, &key, part).await.map_err(wasmtime::Error::msg)
    }

    async fn reachable(&mut self, conversation: String, thread: Option<String>) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        let now = services.clock.now_ms();
        let reached = services.store.reachable(&services.name, &conversation, thread.as_deref(), now).await;
        reached.map_err(wasmtime::Error::msg)?;
        services.bus.deliveries_due().wake();
        Ok(())
    }
}
