//! `wasi:http/outgoing-handler` 0.2, for guests whose language brings an HTTP library: it leads to the same gate.

mod lists;
pub(super) mod words;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{Services, Share};
use crate::egress::{self, Evidence, HttpError};
use crate::limit;

pub(super) use lists::Lists;

/// Sends what a guest's HTTP library wants sent, under the channel's grants.
pub(super) struct GateHooks {
    services: Option<Arc<Services>>,
    evidence: Evidence,
}

impl GateHooks {
    /// Makes the hooks of one instance.
    pub(super) fn new(services: Option<Arc<Services>>, evidence: Evidence) -> Self {
        Self { services, evidence }
    }
}

/// What the library asks of a hook: the response, and a future for what happens to the connection afterwards.
type Sent = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

impl WasiHttpHooks for GateHooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (services, evidence) = (self.services.clone(), self.evidence.clone());
        Box::new(async move {
            let services = services.ok_or(Error::HttpRequestDenied)?;
            let (request, kept) = gate_request(request, options, &services.share).await?;
            let response = services.egress.send(request, &evidence).await.map_err(typed)?;
            drop(kept);
            let finished: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(std::future::ready(Ok(())));
            Ok((guest_response(response, &services.share)?, finished))
        })
    }

    /// The host keeps two such pieces of each body that a guest has begun, whatever becomes of it.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limit::GUEST_HTTP_PIECE_BYTES_MAX
    }
}

/// Reads the whole body, bounded, before anything is sent: the gate checks and fills in whole requests. Returns with it
/// what it takes of the channel's share until it is sent.
async fn gate_request(
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
    share: &Share,
) -> Result<(egress::Request, Option<OwnedSemaphorePermit>), Error> {
    let (parts, body) = request.into_parts();
    let (bytes, kept) = whole(body, share).await?;
    // Libraries add headers of the connection by themselves; the gate has its own, from the URL that it checked.
    let named = parts
        .headers
        .iter()
        .filter(|(name, _)| !belongs_to_the_connection(name));
    let headers = named
        .map(|(name, value)| {
            Ok((
                name.as_str().to_owned(),
                value.to_str().map_err(|_| Error::HttpProtocolError)?.to_owned(),
            ))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let request = egress::Request {
        method: parts.method.as_str().to_owned(),
        url: parts.uri.to_string(),
        headers,
        body: if bytes.is_empty() {
            egress::Body::Empty
        } else {
            egress::Body::Bytes(bytes)
        },
        timeout: options.and_then(total_timeout),
    };
    Ok((request, kept))
}

/// Reads a body. Each piece is taken from the channel's share as it comes: a guest may begin many and end none.
async fn whole(body: WasiBody, share: &Share) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Error> {
    let mut body = pin!(Limited::new(body, limit::HTTP_REQUEST_BODY_BYTES_MAX));
    let (mut bytes, mut kept) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::HttpRequestBodySize(None))?;
        // Trailers are not sent.
        let Ok(piece) = frame.into_data() else { continue };
        let more = share.keep(piece.len()).ok_or(Error::ConnectionLimitReached)?;
        match &mut kept {
            Some(kept) => kept.merge(more),
            None => kept = Some(more),
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes.freeze(), kept))
}

fn belongs_to_the_connection(name: &http::HeaderName) -> bool {
    use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
    [
        HOST,
        CONTENT_LENGTH,
        CONNECTION,
        EXPECT,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ]
    .contains(name)
}

/// The gate bounds the whole exchange; the guest's own bounds can only make it shorter.
fn total_timeout(options: RequestOptions) -> Option<Duration> {
    let first_byte = options.first_byte_timeout?;
    Some(first_byte.saturating_add(options.between_bytes_timeout.unwrap_or_default()))
}

/// Hands an answer over. It takes its bytes of the channel's share until the guest has read it or dropped it.
fn guest_response(response: egress::Response, share: &Share) -> Result<http::Response<WasiBody>, Error> {
    let headers = response.headers.iter().map(|(name, value)| name.len() + value.len());
    let bytes = response.body.len() + headers.sum::<usize>();
    let kept = share.keep(bytes).ok_or(Error::HttpResponseBodySize(None))?;
    let mut builder = http::Response::builder().status(response.status);
    for (name, value) in response.headers {
        builder = builder.header(name, value);
    }
    let body = Full::<Bytes>::new(response.body)
        .map_frame(move |frame| {
            let _kept = &kept;
            frame
        })
        .map_err(|never| match never {})
        .boxed_unsync();
    builder.body(body).map_err(|_| Error::HttpProtocolError)
}

fn typed(error: HttpError) -> Error {
    match error {
        HttpError::Denied(_) => Error::HttpRequestDenied,
        HttpError::Invalid(_) => Error::HttpRequestUriInvalid,
        HttpError::Unreachable(_) => Error::DestinationUnavailable,
        HttpError::Interrupted(_) | HttpError::ShuttingDown => Error::ConnectionTerminated,
        HttpError::TooLarge => Error::HttpResponseBodySize(None),
        HttpError::Busy => Error::ConnectionLimitReached,
    }
}
