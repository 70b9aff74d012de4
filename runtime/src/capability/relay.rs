//! `relay`: from any instance of a channel to its listener.

use std::time::Duration;

use crate::guest::bindings::sluicegate::channel::relay::{Host, RelayError as WitRelayError};
use crate::guest::{Guest, RelayError};
use crate::limit;

impl From<RelayError> for WitRelayError {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::NotTaken => Self::NotTaken,
            RelayError::Unanswered => Self::Unanswered,
            RelayError::TooLarge => Self::TooLarge,
            RelayError::Busy => Self::Busy,
        }
    }
}

impl Host for Guest {
    async fn ask(&mut self, request: Vec<u8>, timeout_ms: u64) -> wasmtime::Result<Result<Vec<u8>, WitRelayError>> {
        // A listener that asked itself would wait for its own answer.
        let Some(services) = self.services.clone().filter(|_| !self.listens) else {
            return Ok(Err(WitRelayError::NotTaken));
        };
        let timeout = Duration::from_millis(timeout_ms).min(limit::GUEST_SLEEP_MAX);
        let asked = services.relay.ask(request, timeout, &self.evidence);
        tokio::select! {
            biased;
            answer = asked => Ok(answer.map_err(Into::into)),
            // Also while only the listener is told to stop: nobody takes it then.
            () = services.listening.cancelled() => Ok(Err(WitRelayError::ShuttingDown)),
        }
    }

    async fn take(&mut self) -> wasmtime::Result<Option<(u64, Vec<u8>)>> {
        let services = self.services.as_ref().filter(|_| self.listens);
        Ok(match services {
            Some(services) => services.relay.take().await,
            None => None,
        })
    }

    async fn answer(&mut self, number: u64, answer: Vec<u8>) -> wasmtime::Result<()> {
        if let Some(services) = self.services.as_ref().filter(|_| self.listens) {
            services.relay.answer(number, answer);
        }
        Ok(())
    }

    async fn abandon(&mut self) -> wasmtime::Result<()> {
        if let Some(services) = self.services.as_ref().filter(|_| self.listens) {
            services.relay.abandon();
        }
        Ok(())
    }
}
