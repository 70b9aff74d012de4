//! Connecting a socket to a checked address, and what WebSockets and byte streams share.

use std::borrow::Cow;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::address::ResolveError;
use super::counters::Denial;
use super::evidence::{self, Unanswered, Unmarked};
use super::{ChannelEgress, Evidence, NetError};
use crate::limit;
use crate::policy::{Host, Permit, Scheme};
use crate::secret::keyring::{FillError, Place};

/// A connection, in the clear or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Where a socket leads, and what it must give back.
pub(super) struct Line {
    pub(super) channel: Arc<ChannelEgress>,
    scheme: Scheme,
    pub(super) host: Host,
    port: u16,
    evidence: Evidence,
    /// Something was written and nothing came back since.
    unanswered: Option<Unanswered>,
    _permit: OwnedSemaphorePermit,
}

impl Line {
    /// Checks the grant and takes one of the channel's sockets.
    pub(super) fn reserve(
        channel: &Arc<ChannelEgress>,
        (scheme, host, port): (Scheme, Host, u16),
        evidence: &Evidence,
    ) -> Result<(Self, Permit), NetError> {
        let permit = channel.permit(scheme, &host, port).map_err(NetError::Denied)?;
        let slot = Arc::clone(&channel.sockets).try_acquire_owned();
        let slot = slot.map_err(|_| NetError::Failed("the channel has too many sockets open".into()))?;
        let evidence = evidence.clone();
        Ok((
            Self {
                channel: Arc::clone(channel),
                scheme,
                host,
                port,
                evidence,
                unanswered: None,
                _permit: slot,
            },
            permit,
        ))
    }

    /// Checks the grant again (a revoked one ends the socket's use), and that the channel may move bytes.
    pub(super) fn check(&self) -> Result<(), NetError> {
        self.channel
            .permit(self.scheme, &self.host, self.port)
            .map_err(NetError::Denied)?;
        if self.channel.quota.charge(0) {
            Ok(())
        } else {
            Err(NetError::Failed(
                "the channel has used up its bytes for this minute".into(),
            ))
        }
    }

    /// Fills in the secrets of a text that a guest composed for a byte stream.
    pub(super) fn filled(&self, text: &str, is_secure: bool) -> Result<String, NetError> {
        let filled = self.channel.keyring().fill(text, Place::TcpText, &self.host);
        let filled = filled.map_err(|error| match error {
            FillError::Malformed => NetError::Failed(error.to_string()),
            _ => NetError::Denied(error.to_string()),
        })?;
        let in_the_clear = matches!(filled, Cow::Owned(_)) && !is_secure;
        if in_the_clear && !self.channel.grants().names(self.scheme, &self.host, self.port) {
            return Err(NetError::Denied(format!(
                "a secret goes to {} in the clear only where the operator grants {}://{}:{} by its name",
                self.host, self.scheme, self.host, self.port
            )));
        }
        Ok(filled.into_owned())
    }

    /// Connects to an address that the permit allows.
    pub(super) async fn dial(&self, permit: Permit) -> Result<TcpStream, NetError> {
        let resolver = self.channel.gate.resolver(permit);
        let addresses = self
            .channel
            .lookups
            .scope(resolver.socket_addresses(&self.host, self.port))
            .await
            .inspect_err(|error| {
                if error.is_denial() {
                    self.channel.counters.denied(Denial::Address);
                }
            })?;
        let connecting = tokio::time::timeout(limit::CONNECT_TIMEOUT, TcpStream::connect(addresses.as_slice()));
        let stream = connecting
            .await
            .map_err(|_| NetError::Timeout)?
            .map_err(|error| self.failed(&error))?;
        stream.set_nodelay(true).map_err(|error| self.failed(&error))?;
        Ok(stream)
    }

    /// Starts TLS, with the host's own name in the certificate.
    pub(super) async fn secure<W: Wire>(&self, wire: W) -> Result<tokio_rustls::client::TlsStream<W>, NetError> {
        let name = match &self.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|_| self.failed(&"no certificate can hold this name"))?
            }
        };
        let handshake = self.channel.gate.tls().connect(name, wire);
        let done = tokio::time::timeout(limit::CONNECT_TIMEOUT, handshake)
            .await
            .map_err(|_| NetError::Timeout)?;
        done.map_err(|error| self.failed(&error))
    }

    /// Notes, before a write, that what follows may arrive without an answer. Nothing may be written after an error.
    pub(super) async fn writing(&mut self, bytes: usize) -> Result<(), NetError> {
        if self.unanswered.is_none() {
            self.unanswered = Some(self.evidence.begin().await?);
        }
        self.channel.quota.charge(bytes);
        self.channel.counters.sent(bytes);
        Ok(())
    }

    /// Notes that the peer said something: the guest can tell from it what became of what it wrote.
    pub(super) fn heard(&mut self, bytes: usize) {
        evidence::settle(self.unanswered.take());
        self.channel.count_received(bytes);
    }

    /// Describes a failure, with the place and without secrets.
    pub(super) fn failed(&self, error: &dyn std::fmt::Display) -> NetError {
        let text = self.channel.redact(&error.to_string());
        NetError::Failed(format!("{}://{}:{}: {text}", self.scheme, self.host, self.port))
    }
}

impl From<Unmarked> for NetError {
    fn from(error: Unmarked) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ResolveError> for NetError {
    fn from(error: ResolveError) -> Self {
        if error.is_denial() {
            Self::Denied(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}
