//! `state`: small durable values, shared by a channel's instances and seen by no other channel.

use crate::guest::Guest;
use crate::guest::bindings::sluicegate::channel::state::Host;
use crate::store::Error;

/// Tells what a guest can act on from what must end it.
fn typed<T>(result: Result<T, Error>) -> wasmtime::Result<Result<T, String>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error @ (Error::Busy | Error::Quota(_) | Error::Refused(_))) => Ok(Err(error.to_string())),
        Err(error) => Err(wasmtime::Error::msg(error)),
    }
}

impl Host for Guest {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let Some(services) = &self.services else {
            return Ok(None);
        };
        services
            .store
            .state_get(&services.name, &key)
            .await
            .map_err(wasmtime::Error::msg)
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), String>> {
        let Some(services) = &self.services else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        let set = services
            .store
            .state_set(&services.name, &key, Some(value), services.quota);
        typed(set.await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        let Some(services) = &self.services else { return Ok(()) };
        services
            .store
            .state_set(&services.name, &key, None, services.quota)
            .await
            .map_err(wasmtime::Error::msg)
    }

    async fn keys(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        let Some(services) = &self.services else {
            return Ok(Vec::new());
        };
        services
            .store
            .state_keys(&services.name, &prefix)
            .await
            .map_err(wasmtime::Error::msg)
    }

    async fn swap(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
    ) -> wasmtime::Result<Result<bool, String>> {
        let Some(services) = &self.services else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        let swap = services
            .store
            .state_swap(&services.name, &key, expected, value, services.quota);
        typed(swap.await)
    }
}
