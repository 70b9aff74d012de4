//! `blobs`: files that go with messages, kept by the host for a while.

use crate::guest::bindings::sluicegate::channel::blobs::Host;
use crate::guest::{Errand, Guest};
use crate::limit;

impl Host for Guest {
    async fn put(&mut self, media_type: String, bytes: Vec<u8>) -> wasmtime::Result<Result<String, String>> {
        let Some(services) = &self.services else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        if media_type.len() > limit::PLATFORM_ID_BYTES_MAX {
            return Ok(Err(format!("a media type of {} bytes", media_type.len())));
        }
        let (errand, now) = (Errand::file(bytes.len()), services.clock.now_ms());
        let put = services
            .store
            .blob_put(&services.name, &media_type, bytes, services.quota, now)
            .await;
        services.pay(errand).await;
        Ok(put.map_err(|error| error.to_string()))
    }

    async fn get(&mut self, blob: String) -> wasmtime::Result<Result<Vec<u8>, String>> {
        let room = self.room_for_file(limit::BLOB_BYTES_MAX).await;
        let (Some(services), Some(mut room)) = (&self.services, room) else {
            return Ok(Err(super::NO_CAPABILITY.into()));
        };
        let found = services.store.blob_get(&services.name, &blob).await;
        services.pay(Errand::call()).await;
        Ok(match found {
            Ok(Some((_, bytes))) => {
                room.shrink(bytes.len());
                self.in_hand = Some(room);
                Ok(bytes)
            }
            Ok(None) => Err("no such blob: it never was, or it is past its retention".into()),
            Err(error) => Err(error.to_string()),
        })
    }
}
