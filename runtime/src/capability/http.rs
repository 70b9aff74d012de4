//! `http`: outgoing requests, through the egress gate.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::egress::{self, HttpError};
use crate::guest::bindings::sluicegate::channel::http as wit;
use crate::guest::{FileRoom, Guest, Level, Services, StreamHandle};
use crate::limit;
use crate::store::{Error, Full};

impl From<HttpError> for wit::HttpError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(text) => Self::Denied(text),
            HttpError::Invalid(text) => Self::Invalid(text),
            HttpError::Unreachable(text) => Self::Unreachable(text),
            HttpError::Interrupted(text) => Self::Interrupted(text),
            HttpError::TooLarge => Self::TooLarge,
            HttpError::Busy => Self::Busy,
            HttpError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

/// Returns whether files go with a request.
fn has_files(body: &wit::Body) -> bool {
    match body {
        wit::Body::Empty | wit::Body::Bytes(_) => false,
        wit::Body::Blob(_) => true,
        wit::Body::Multipart(parts) => parts.iter().any(|part| matches!(part.data, wit::PartData::Blob(_))),
    }
}

/// Turns a guest's request into the gate's, with blobs read from the channel's own. What can't be sent for its size is
/// refused before more is read than may be sent.
async fn gate_request(services: &Services, request: wit::Request) -> Result<egress::Request, wit::HttpError> {
    Ok(egress::Request {
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: match request.body {
            wit::Body::Empty => egress::Body::Empty,
            wit::Body::Bytes(bytes) => egress::Body::Bytes(bytes.into()),
            wit::Body::Blob(blob) => egress::Body::Bytes(blob_bytes(services, &blob).await?),
            wit::Body::Multipart(parts) => egress::Body::Multipart(form_parts(services, parts).await?),
        },
        timeout: request.timeout_ms.map(|millis| Duration::from_millis(millis.into())),
    })
}

async fn form_parts(services: &Services, parts: Vec<wit::FormPart>) -> Result<Vec<egress::FormPart>, wit::HttpError> {
    if parts.len() > limit::HTTP_FORM_PARTS_MAX {
        return Err(wit::HttpError::TooLarge);
    }
    let (mut form, mut bytes) = (Vec::with_capacity(parts.len()), 0);
    for part in parts {
        let data = match part.data {
            wit::PartData::Bytes(bytes) => bytes.into(),
            wit::PartData::Blob(blob) => blob_bytes(services, &blob).await?,
        };
        bytes += data.len();
        if bytes > limit::HTTP_REQUEST_BODY_BYTES_MAX {
            return Err(wit::HttpError::TooLarge);
        }
        form.push(egress::FormPart {
            name: part.name,
            file_name: part.file_name,
            media_type: part.media_type,
            data,
        });
    }
    Ok(form)
}

/// Returns how many bytes of a body are in the host's hands.
fn body_size(body: &egress::Body) -> usize {
    match body {
        egress::Body::Empty => 0,
        egress::Body::Bytes(bytes) => bytes.len(),
        egress::Body::Multipart(parts) => parts.iter().map(|part| part.data.len()).sum(),
    }
}

async fn blob_bytes(services: &Services, blob: &str) -> Result<Bytes, wit::HttpError> {
    match services.store.blob_get(&services.name, blob).await {
        Ok(Some((_, bytes))) => Ok(bytes.into()),
        Ok(None) => Err(wit::HttpError::Invalid("no such blob".into())),
        Err(error) => Err(wit::HttpError::Unreachable(error.to_string())),
    }
}

fn nothing_granted() -> wit::HttpError {
    wit::HttpError::Denied(super::NO_CAPABILITY.into())
}

impl Guest {
    /// Waits for room for the files of a request.
    async fn room_for_files(&mut self) -> Result<FileRoom, wit::HttpError> {
        let waiting = self.room_for_file(limit::BLOB_BYTES_MAX);
        match tokio::time::timeout(limit::HTTP_TIMEOUT_DEFAULT, waiting).await {
            Ok(room) => room.ok_or(wit::HttpError::ShuttingDown),
            Err(_) => Err(wit::HttpError::Busy),
        }
    }

    /// Turns a guest's request into the gate's, with the room that its files take until it is sent.
    async fn prepared(&mut self, request: wit::Request) -> Result<(egress::Request, Option<FileRoom>), wit::HttpError> {
        let mut room = None;
        if has_files(&request.body) && self.services.is_some() {
            room = Some(self.room_for_files().await?);
        }
        let services = self.services.as_ref().ok_or_else(nothing_granted)?;
        let request = gate_request(services, request).await?;
        if let Some(room) = &mut room {
            room.shrink(body_size(&request.body));
        }
        Ok((request, room))
    }

    /// Runs an exchange until it ends or the channel is told to stop.
    async fn exchange(
        &mut self,
        request: egress::Request,
        body_bytes_max: Option<usize>,
    ) -> Result<egress::Response, wit::HttpError> {
        let services = self.services.as_ref().ok_or_else(nothing_granted)?;
        let sent = async {
            match body_bytes_max {
                Some(max) => services.egress.send_bounded(request, &self.evidence, max).await,
                None => services.egress.send(request, &self.evidence).await,
            }
        };
        tokio::select! {
            biased;
            response = sent => Ok(response?),
            () = self.shutdown.cancelled() => Err(wit::HttpError::ShuttingDown),
        }
    }

    /// Runs an exchange whose answer becomes a blob.
    async fn fetched(&mut self, request: wit::Request) -> Result<(wit::Response, String), wit::HttpError> {
        let services = self.services.as_ref().ok_or_else(nothing_granted)?;
        // Guests ask again and again for a file that found no room: it is not fetched before there is some.
        if let Some(Full::Files | Full::Refused) = services.store.pressure().intake {
            return Err(wit::HttpError::Busy);
        }
        // As large as the answer may be: what the request itself needs, it must not wait for beside that.
        let _room = self.room_for_files().await?;
        let services = self.services.as_ref().ok_or_else(nothing_granted)?;
        let request = gate_request(services, request).await?;
        let response = self.exchange(request, Some(limit::BLOB_BYTES_MAX)).await?;
        let services = self.services.as_ref().ok_or_else(nothing_granted)?;
        stored(services, response).await
    }
}

/// Keeps the body of an answer as a blob of the channel.
async fn stored(services: &Services, response: egress::Response) -> Result<(wit::Response, String), wit::HttpError> {
    let named = response
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let named = named
        .map(|(_, value)| value.as_str())
        .filter(|value| value.len() <= limit::PLATFORM_ID_BYTES_MAX);
    let media_type = named.unwrap_or("application/octet-stream").to_owned();
    let now = services.clock.now_ms();
    let put = services
        .store
        .blob_put(&services.name, &media_type, response.body.into(), services.quota, now)
        .await;
    let head = wit::Response {
        status: response.status,
        headers: response.headers,
        body: Vec::new(),
    };
    match put {
        Ok(blob) => Ok((head, blob)),
        Err(Error::Quota(_)) => Err(wit::HttpError::TooLarge),
        // There is no room now, or the gateway goes down: whoever asks again later finds it otherwise.
        Err(Error::Busy | Error::Poisoned(_)) => Err(wit::HttpError::Busy),
        // As often as it is fetched, it would not be kept.
        Err(error) => {
            services.log(
                Level::Error,
                &format!("a file that was fetched could not be kept: {error}"),
            );
            Err(wit::HttpError::Interrupted(
                "the gateway could not keep the answer".into(),
            ))
        }
    }
}

impl wit::Host for Guest {
    async fn send(&mut self, request: wit::Request) -> wasmtime::Result<Result<wit::Response, wit::HttpError>> {
        let (request, _room) = match self.prepared(request).await {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.exchange(request, None).await.map(|response| wit::Response {
            status: response.status,
            headers: response.headers,
            body: response.body.into(),
        }))
    }

    async fn download(
        &mut self,
        request: wit::Request,
    ) -> wasmtime::Result<Result<(wit::Response, String), wit::HttpError>> {
        Ok(self.fetched(request).await)
    }
}

impl wit::HostResponseStream for Guest {
    async fn open(
        &mut self,
        request: wit::Request,
    ) -> wasmtime::Result<Result<Resource<StreamHandle>, wit::HttpError>> {
        let (request, _room) = match self.prepared(request).await {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        let Some(services) = self.services.clone() else {
            return Ok(Err(nothing_granted()));
        };
        let opened = tokio::select! {
            biased;
            opened = services.egress.open_stream(request, &self.evidence) => opened,
            () = self.shutdown.cancelled() => Err(HttpError::ShuttingDown),
        };
        match opened {
            Ok(stream) => Ok(Ok(self.table.push(StreamHandle(stream))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn status(&mut self, stream: Resource<StreamHandle>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&stream)?.0.status())
    }

    async fn headers(&mut self, stream: Resource<StreamHandle>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&stream)?.0.headers().to_vec())
    }

    async fn read(
        &mut self,
        stream: Resource<StreamHandle>,
        bytes_max: u32,
        timeout_ms: u64,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, wit::HttpError>> {
        let shutdown = self.shutdown.clone();
        let stream = self.table.get_mut(&stream)?;
        let timeout = Duration::from_millis(timeout_ms).min(limit::GUEST_SLEEP_MAX);
        let read = tokio::select! {
            biased;
            read = stream.0.read(bytes_max, timeout) => read,
            () = shutdown.cancelled() => Err(HttpError::ShuttingDown),
        };
        Ok(read.map(|bytes| bytes.map(Into::into)).map_err(Into::into))
    }

    async fn drop(&mut self, stream: Resource<StreamHandle>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
