//! `state`: small durable values, shared by a channel's instances and seen by no other channel.

use crate::guest::bindings::sluicegate::channel::state::Host;
use crate::guest::{Errand, Guest, Services};
use crate::limit;
use crate::store::Error;

/// Tells what a guest can act on from what must end it.
fn typed<T>(result: Result<T, Error>) -> wasmtime::Result<Result<T, String>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error @ (Error::Busy | Error::Quota(_) | Error::Refused(_))) => Ok(Err(error.to_string())),
        Err(error) => Err(wasmtime::Error::msg(error)),
    }
}

/// Books what was written.
fn written<T>(services: &Services, bytes: usize, result: Result<T, Error>) -> wasmtime::Result<Result<T, String>> {
    if result.is_ok() {
        services.share.book_write(bytes);
    }
    typed(result)
}

impl Host for Guest {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let Some(services) = &self.services else {
            return Ok(None);
        };
        let value = services.store.state_get(&services.name, &key).await;
        services.pay(Errand::call()).await;
        value.map_err(wasmtime::Error::msg)
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), String>> {
        self.turn_to_write().await;
        let bytes = key.len() + value.len();
        let Some(services) = &self.services else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        let set = services
            .store
            .state_set(&services.name, &key, Some(value), services.quota);
        written(services, bytes, set.await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        self.turn_to_write().await;
        let Some(services) = &self.services else { return Ok(()) };
        services.share.book_write(key.len());
        services
            .store
            .state_set(&services.name, &key, None, services.quota)
            .await
            .map_err(wasmtime::Error::msg)
    }

    async fn keys(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        let room = self.room_for_file(limit::STATE_LIST_BYTES_MAX).await;
        let (Some(services), Some(mut room)) = (&self.services, room) else {
            return Ok(Vec::new());
        };
        let listed = services.store.state_keys(&services.name, &prefix).await;
        services.pay(Errand::call()).await;
        let keys = listed.map_err(wasmtime::Error::msg)?;
        room.shrink(keys.iter().map(|key| key.len() + size_of::<String>()).sum());
        self.in_hand = Some(room);
        Ok(keys)
    }

    async fn swap(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
    ) -> wasmtime::Result<Result<bool, String>> {
        self.turn_to_write().await;
        let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
        let Some(services) = &self.services else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        let swap = services
            .store
            .state_swap(&services.name, &key, expected, value, services.quota);
        written(services, bytes, swap.await)
    }
}
