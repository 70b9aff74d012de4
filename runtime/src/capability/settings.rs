//! `settings`: the operator's settings of the channel, with the component's own defaults filled in.

use crate::guest::Guest;
use crate::guest::bindings::sluicegate::channel::settings::Host;

impl Host for Guest {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self
            .services
            .as_ref()
            .and_then(|services| services.settings.get(&key).cloned()))
    }
}
