//! `clients`: frames to the clients of a serving channel.

use crate::guest::bindings::sluicegate::channel::clients::{Host, SendError as WitSendError};
use crate::guest::{Guest, SendError};

impl Host for Guest {
    async fn send(&mut self, client_id: String, frame: String) -> wasmtime::Result<Result<(), WitSendError>> {
        let Some(services) = &self.services else {
            return Ok(Err(WitSendError::Gone));
        };
        let sending = services
            .clients
            .send(&client_id, frame, self.client.as_ref(), &self.evidence);
        let sent = sending.await;
        Ok(sent.map_err(|error| match error {
            SendError::Gone => WitSendError::Gone,
            SendError::Slow => WitSendError::Slow,
            SendError::TooLarge => WitSendError::TooLarge,
        }))
    }
}
