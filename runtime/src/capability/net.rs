//! `net`: WebSockets and byte streams to granted endpoints, through the egress gate.

use std::time::Duration;

use wasmtime::component::Resource;

use crate::egress::{self, NetError};
use crate::guest::bindings::sluicegate::channel::net as wit;
use crate::guest::{Guest, Relay, TcpHandle, WebSocketHandle};
use crate::limit;

impl From<NetError> for wit::NetError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Denied(text) => Self::Denied(text),
            NetError::Timeout => Self::Timeout,
            NetError::Closed => Self::Closed,
            NetError::ShuttingDown => Self::ShuttingDown,
            NetError::Failed(text) => Self::Failed(text),
        }
    }
}

/// Waits for `work`, unless the channel is told to stop first.
async fn unless_stopped<T>(
    shutdown: &tokio_util::sync::CancellationToken,
    work: impl Future<Output = Result<T, NetError>>,
) -> Result<T, wit::NetError> {
    tokio::select! {
        biased;
        done = work => done.map_err(Into::into),
        () = shutdown.cancelled() => Err(wit::NetError::ShuttingDown),
    }
}

/// Waits for what a peer sends; a listener's wait ends early, with none, when a request waits in its relay.
async fn unless_asked<T>(
    relay: Option<&Relay>,
    read: impl Future<Output = Result<Option<T>, NetError>>,
) -> Result<Option<T>, NetError> {
    let Some(relay) = relay else { return read.await };
    tokio::select! {
        biased;
        read = read => read,
        () = relay.rung() => Ok(None),
    }
}

fn bounded(timeout_ms: u64) -> Duration {
    Duration::from_millis(timeout_ms).min(limit::GUEST_SLEEP_MAX)
}

fn nothing_granted() -> wit::NetError {
    wit::NetError::Denied(super::NO_CAPABILITY.into())
}

impl wit::Host for Guest {}

impl wit::HostWebsocket for Guest {
    async fn connect(
        &mut self,
        url: String,
        headers: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<Resource<WebSocketHandle>, wit::NetError>> {
        let Some(services) = self.services.clone() else {
            return Ok(Err(nothing_granted()));
        };
        let connecting = services.egress.connect_websocket(&url, &headers, &self.evidence);
        match unless_stopped(&self.shutdown, connecting).await {
            Ok(socket) => Ok(Ok(self.table.push(WebSocketHandle(socket))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn send_text(
        &mut self,
        socket: Resource<WebSocketHandle>,
        text: String,
    ) -> wasmtime::Result<Result<(), wit::NetError>> {
        let shutdown = self.shutdown.clone();
        let socket = self.table.get_mut(&socket)?;
        Ok(unless_stopped(&shutdown, socket.0.send_text(&text)).await)
    }

    async fn send_binary(
        &mut self,
        socket: Resource<WebSocketHandle>,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), wit::NetError>> {
        let shutdown = self.shutdown.clone();
        let socket = self.table.get_mut(&socket)?;
        Ok(unless_stopped(&shutdown, socket.0.send_binary(bytes.into())).await)
    }

    async fn receive(
        &mut self,
        socket: Resource<WebSocketHandle>,
        timeout_ms: u64,
    ) -> wasmtime::Result<Result<Option<wit::Frame>, wit::NetError>> {
        let shutdown = self.shutdown.clone();
        let services = self.services.clone().filter(|_| self.listens);
        let relay = services.as_ref().map(|services| &services.relay);
        let socket = self.table.get_mut(&socket)?;
        let receiving = unless_asked(relay, socket.0.receive(bounded(timeout_ms)));
        let received = unless_stopped(&shutdown, receiving).await;
        Ok(received.map(|frame| {
            frame.map(|frame| match frame {
                egress::Frame::Text(text) => wit::Frame::Text(text),
                egress::Frame::Binary(bytes) => wit::Frame::Binary(bytes.into()),
                egress::Frame::Closed(code, reason) => wit::Frame::Closed((code, reason)),
            })
        }))
    }

    async fn close(&mut self, socket: Resource<WebSocketHandle>, code: u16, reason: String) -> wasmtime::Result<()> {
        self.table.get_mut(&socket)?.0.close(code, &reason).await;
        Ok(())
    }

    async fn drop(&mut self, socket: Resource<WebSocketHandle>) -> wasmtime::Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}

impl wit::HostTcpStream for Guest {
    async fn connect(
        &mut self,
        host: String,
        port: u16,
        tls: bool,
    ) -> wasmtime::Result<Result<Resource<TcpHandle>, wit::NetError>> {
        let Some(services) = self.services.clone() else {
            return Ok(Err(nothing_granted()));
        };
        let connecting = services.egress.connect_tcp(&host, port, tls, &self.evidence);
        match unless_stopped(&self.shutdown, connecting).await {
            Ok(stream) => Ok(Ok(self.table.push(TcpHandle(stream))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn start_tls(&mut self, stream: Resource<TcpHandle>) -> wasmtime::Result<Result<(), wit::NetError>> {
        let shutdown = self.shutdown.clone();
        let stream = self.table.get_mut(&stream)?;
        Ok(unless_stopped(&shutdown, stream.0.start_tls()).await)
    }

    async fn read(
        &mut self,
        stream: Resource<TcpHandle>,
        bytes_max: u32,
        timeout_ms: u64,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, wit::NetError>> {
        let shutdown = self.shutdown.clone();
        let services = self.services.clone().filter(|_| self.listens);
        let relay = services.as_ref().map(|services| &services.relay);
        let stream = self.table.get_mut(&stream)?;
        let reading = unless_asked(relay, stream.0.read(bytes_max, bounded(timeout_ms)));
        let read = unless_stopped(&shutdown, reading).await;
        Ok(read.map(|bytes| bytes.map(Into::into)))
    }

    async fn write(
        &mut self,
        stream: Resource<TcpHandle>,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), wit::NetError>> {
        let shutdown = self.shutdown.clone();
        let stream = self.table.get_mut(&stream)?;
        Ok(unless_stopped(&shutdown, stream.0.write(&bytes)).await)
    }

    async fn write_text(
        &mut self,
        stream: Resource<TcpHandle>,
        text: String,
    ) -> wasmtime::Result<Result<(), wit::NetError>> {
        let shutdown = self.shutdown.clone();
        let stream = self.table.get_mut(&stream)?;
        Ok(unless_stopped(&shutdown, stream.0.write_text(&text)).await)
    }

    async fn drop(&mut self, stream: Resource<TcpHandle>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
