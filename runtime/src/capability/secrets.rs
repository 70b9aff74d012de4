//! `secrets`: using a secret without seeing it; seeing it only under a grant of its own.

use crate::guest::Guest;
use crate::guest::bindings::sluicegate::channel::secrets::{Host, Signing as WitSigning};
use crate::secret::Signing;

impl Host for Guest {
    async fn available(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self
            .services
            .as_ref()
            .is_some_and(|services| services.egress.has_secret(&name)))
    }

    async fn sign(
        &mut self,
        name: String,
        signing: WitSigning,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, String>> {
        let Some(services) = &self.services else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        let signing = match signing {
            WitSigning::HmacSha1 => Signing::HmacSha1,
            WitSigning::HmacSha256 => Signing::HmacSha256,
            WitSigning::HmacSha512 => Signing::HmacSha512,
            WitSigning::Ed25519 => Signing::Ed25519,
            WitSigning::Bip340 => Signing::Bip340,
        };
        Ok(services
            .egress
            .sign(&name, signing, &data)
            .map_err(|error| error.to_string()))
    }

    async fn reveal(&mut self, name: String) -> wasmtime::Result<Result<String, String>> {
        let Some(services) = &self.services else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        Ok(services.egress.reveal(&name).map_err(|error| error.to_string()))
    }
}
