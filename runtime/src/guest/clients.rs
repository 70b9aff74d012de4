//! Clients that are connected to a serving channel, and the order of the frames that go to each.
//!
//! A frame counts as sent when it was handed to the operating system. While a client's own frame is being handled, other
//! frames for that client wait: its answer (such as `accepted`) goes out before what follows from it (such as a reply).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turnstile, OwnedMutexGuard, mpsc, oneshot};

use crate::egress::Evidence;
use crate::ingress::{ClientId, OutgoingFrame};
use crate::limit;

/// Why a frame did not reach a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The client is not connected (any more).
    Gone,
    /// The client does not read fast enough.
    Slow,
    /// The frame is larger than any client takes.
    TooLarge,
}

/// The connected clients of one channel.
#[derive(Debug)]
pub struct Clients {
    count_max: usize,
    connected: Mutex<HashMap<ClientId, Connected>>,
}

impl Default for Clients {
    fn default() -> Self {
        Self::new(limit::CLIENTS_PER_CHANNEL_DEFAULT)
    }
}

#[derive(Debug, Clone)]
struct Connected {
    frames_tx: mpsc::Sender<OutgoingFrame>,
    turnstile: Arc<Turnstile<()>>,
}

impl Clients {
    /// Makes room for so many.
    pub fn new(count_max: usize) -> Self {
        Self {
            count_max,
            connected: Mutex::default(),
        }
    }

    /// Registers a connection. Returns its id and the frames that it must write, or none where too many are connected.
    pub fn connect(&self) -> Option<(ClientId, mpsc::Receiver<OutgoingFrame>)> {
        let mut connected = self.lock();
        if connected.len() >= self.count_max {
            return None;
        }
        let (frames_tx, frames_rx) = mpsc::channel(limit::CLIENT_FRAMES_WAITING_MAX);
        let id = ClientId::generate();
        connected.insert(
            id.clone(),
            Connected {
                frames_tx,
                turnstile: Arc::default(),
            },
        );
        Some((id, frames_rx))
    }

    /// Forgets a connection.
    pub fn disconnect(&self, id: &ClientId) {
        self.lock().remove(id);
    }

    /// Forgets all connections, which end with that.
    pub fn disconnect_all(&self) {
        self.lock().clear();
    }

    /// Returns how many are connected.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns whether none is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Holds back frames from other calls to this client until the guard is dropped.
    pub async fn hold(&self, id: &ClientId) -> Option<OwnedMutexGuard<()>> {
        let turnstile = self.find(id.as_str())?.turnstile;
        Some(turnstile.lock_owned().await)
    }

    /// Sends a frame and waits until the operating system has it, at most [`limit::CLIENT_WRITE_TIMEOUT`].
    ///
    /// `within` is the client whose own frame is being handled by the caller, if any.
    ///
    /// # Errors
    /// See [`SendError`]; after `Slow` the frame may still arrive, which then stays noted in `evidence`.
    pub async fn send(
        &self,
        id: &str,
        text: String,
        within: Option<&ClientId>,
        evidence: &Evidence,
    ) -> Result<(), SendError> {
        if text.len() > limit::CLIENT_FRAME_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        let client = self.find(id).ok_or(SendError::Gone)?;
        let own = within.is_some_and(|own| own.as_str() == id);
        within_time(limit::CLIENT_WRITE_TIMEOUT, async move {
            let _turn = if own { None } else { Some(client.turnstile.lock().await) };
            let place = client.frames_tx.reserve().await.map_err(|_| SendError::Gone)?;
            // A client that can't be told of durably is as good as gone: the message waits for it.
            let unanswered = evidence.begin().await.map_err(|_| SendError::Gone)?;
            let (written, written_rx) = oneshot::channel();
            place.send(OutgoingFrame { text, written });
            written_rx.await.map_err(|_| SendError::Gone)?;
            unanswered.settle();
            Ok(())
        })
        .await
    }

    fn find(&self, id: &str) -> Option<Connected> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within_time(timeout: Duration, send: impl Future<Output = Result<(), SendError>>) -> Result<(), SendError> {
    tokio::time::timeout(timeout, send)
        .await
        .unwrap_or(Err(SendError::Slow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_waits_until_the_answer_to_the_clients_own_frame_is_out() {
        let clients = Arc::new(Clients::default());
        let (id, mut frames) = clients.connect().expect("room for a client");
        let turn = clients.hold(&id).await.expect("connected");
        let reply = {
            let (clients, id) = (clients.clone(), id.clone());
            tokio::spawn(async move {
                clients
                    .send(id.as_str(), "reply".into(), None, &Evidence::default())
                    .await
            })
        };
        let own = {
            let (clients, id) = (clients.clone(), id.clone());
            tokio::spawn(async move {
                clients
                    .send(id.as_str(), "accepted".into(), Some(&id), &Evidence::default())
                    .await
            })
        };
        let first = frames.recv().await.expect("a frame");
        assert_eq!(first.text, "accepted");
        first.written.send(()).expect("the sender waits");
        assert_eq!(own.await.expect("no panic"), Ok(()));
        drop(turn);
        let second = frames.recv().await.expect("a frame");
        assert_eq!(second.text, "reply");
        second.written.send(()).expect("the sender waits");
        assert_eq!(reply.await.expect("no panic"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_slow_and_one_that_left_is_gone() {
        let clients = Clients::default();
        let (id, frames) = clients.connect().expect("room for a client");
        let slow = Evidence::default();
        assert_eq!(
            clients.send(id.as_str(), "x".into(), None, &slow).await,
            Err(SendError::Slow)
        );
        assert!(slow.bytes_left(), "it may still arrive");
        drop(frames);
        let gone = Evidence::default();
        assert_eq!(
            clients.send(id.as_str(), "x".into(), None, &gone).await,
            Err(SendError::Gone)
        );
        clients.disconnect(&id);
        assert_eq!(
            clients.send(id.as_str(), "x".into(), None, &gone).await,
            Err(SendError::Gone)
        );
        assert!(!gone.anything_left());
    }
}
