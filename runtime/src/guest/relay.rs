//! From any instance of a channel to its listener, for platforms where one connection both receives and sends.
//!
//! What waits here is nothing durable: it is one step of a delivery attempt, which the outbox repeats. What counts is
//! that the host knows how far it came: a request that no listener took has done nothing; one that was taken and never
//! answered may have done anything, and stays noted in the attempt's [`Evidence`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::egress::{Evidence, Unanswered};
use crate::limit;

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayError {
    /// No listener took it in time: nothing happened.
    NotTaken,
    /// A listener took it, and ended or gave no answer: it may have acted.
    Unanswered,
    /// It is larger than [`limit::RELAY_BYTES_MAX`].
    TooLarge,
    /// [`limit::RELAY_WAITING_MAX`] others wait already.
    Busy,
}

/// The relay of one channel.
#[derive(Debug, Default)]
pub struct Relay {
    waiting: Mutex<Waiting>,
    /// Has one permit for each time that requests began to wait: ends a listener's read.
    bell: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    last_number: u64,
    /// Not taken yet, oldest first.
    queue: VecDeque<Request>,
    /// Taken, and not answered yet.
    taken: BTreeMap<u64, (oneshot::Sender<Answer>, Unanswered)>,
}

/// An answer, and what it settles: by who asked, who else could go on before that was done.
type Answer = (Vec<u8>, Unanswered);

#[derive(Debug)]
struct Request {
    number: u64,
    bytes: Vec<u8>,
    evidence: Evidence,
    answer: oneshot::Sender<Answer>,
}

impl Relay {
    /// Hands a request to the listener and waits for its answer.
    ///
    /// # Errors
    /// See [`RelayError`].
    ///
    /// # Cancel safety
    /// Dropping the future takes back a request that was not taken; one that was stays noted in `evidence`.
    pub(crate) async fn ask(
        &self,
        bytes: Vec<u8>,
        timeout: Duration,
        evidence: &Evidence,
    ) -> Result<Vec<u8>, RelayError> {
        if bytes.len() > limit::RELAY_BYTES_MAX {
            return Err(RelayError::TooLarge);
        }
        let (asking, answer) = self.enqueue(bytes, evidence)?;
        self.bell.notify_one();
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok((answer, unanswered))) => {
                unanswered.settle();
                Ok(answer)
            }
            // The listener is gone.
            Ok(Err(_)) => Err(RelayError::Unanswered),
            Err(_) if asking.was_taken() => Err(RelayError::Unanswered),
            Err(_) => Err(RelayError::NotTaken),
        }
    }

    /// Returns the oldest request that waits, with the number under which it is answered. One of an attempt that can't be
    /// marked is not taken: who asked learns that there will be no answer.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a request without an answer, and never one that a listener saw.
    pub(crate) async fn take(&self) -> Option<(u64, Vec<u8>)> {
        loop {
            let request = self.lock().queue.pop_front()?;
            let Ok(unanswered) = request.evidence.begin().await else {
                continue;
            };
            if request.answer.is_closed() {
                // Who asked has gone meanwhile, and no listener has seen it.
                unanswered.withdraw();
                continue;
            }
            self.lock().taken.insert(request.number, (request.answer, unanswered));
            return Some((request.number, request.bytes));
        }
    }

    /// Answers a request; without effect where nobody waits for it any more. An answer that is larger than
    /// [`limit::RELAY_BYTES_MAX`] is none.
    pub(crate) fn answer(&self, number: u64, answer: Vec<u8>) {
        let Some((asker, unanswered)) = self.lock().taken.remove(&number) else {
            return;
        };
        if answer.len() <= limit::RELAY_BYTES_MAX {
            // Where nobody waits any more it stays noted.
            let _ = asker.send((answer, unanswered));
        }
    }

    /// Waits until requests wait that this was not called for yet.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Forgets what a listener that ended had taken: who asked learns that there will be no answer.
    pub(crate) fn abandon(&self) {
        self.lock().taken.clear();
    }

    fn enqueue(
        &self,
        bytes: Vec<u8>,
        evidence: &Evidence,
    ) -> Result<(Asking<'_>, oneshot::Receiver<Answer>), RelayError> {
        let mut waiting = self.lock();
        if waiting.queue.len() + waiting.taken.len() >= limit::RELAY_WAITING_MAX {
            return Err(RelayError::Busy);
        }
        let (answer, receiver) = oneshot::channel();
        waiting.last_number += 1;
        let number = waiting.last_number;
        let evidence = evidence.clone();
        waiting.queue.push_back(Request {
            number,
            bytes,
            evidence,
            answer,
        });
        Ok((Asking { relay: self, number }, receiver))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that somebody waits for: removed with the wait.
struct Asking<'r> {
    relay: &'r Relay,
    number: u64,
}

impl Asking<'_> {
    fn was_taken(&self) -> bool {
        self.relay.lock().taken.contains_key(&self.number)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut waiting = self.relay.lock();
        waiting.queue.retain(|request| request.number != self.number);
        // Without an answer its evidence stays: what is dropped is not settled.
        waiting.taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn ask(relay: &Arc<Relay>, evidence: &Evidence) -> tokio::task::JoinHandle<Result<Vec<u8>, RelayError>> {
        let (relay, evidence) = (Arc::clone(relay), evidence.clone());
        tokio::spawn(async move { relay.ask(b"request".to_vec(), LONG, &evidence).await })
    }

    #[tokio::test]
    async fn a_request_is_taken_once_and_answered() {
        let (relay, evidence) = (Arc::new(Relay::default()), Evidence::default());
        let asked = ask(&relay, &evidence);
        relay.rung().await;
        let (number, request) = relay.take().await.expect("it waits");
        assert_eq!((request.as_slice(), relay.take().await), (&b"request"[..], None));
        assert!(evidence.bytes_left(), "it may act now");
        relay.answer(number + 1, b"another's".to_vec());
        relay.answer(number, b"answer".to_vec());
        relay.answer(number, b"twice".to_vec());
        assert_eq!(asked.await.unwrap(), Ok(b"answer".to_vec()));
        assert!(!evidence.bytes_left());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_took_has_done_nothing() {
        let (relay, evidence) = (Arc::new(Relay::default()), Evidence::default());
        assert_eq!(ask(&relay, &evidence).await.unwrap(), Err(RelayError::NotTaken));
        assert_eq!(relay.take().await, None, "it was taken back");
        assert!(!evidence.anything_left());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_and_not_answered_may_have_acted() {
        let (relay, evidence) = (Arc::new(Relay::default()), Evidence::default());
        let late = ask(&relay, &evidence);
        relay.rung().await;
        let (number, _) = relay.take().await.expect("it waits");
        assert_eq!(late.await.unwrap(), Err(RelayError::Unanswered));
        relay.answer(number, b"too late".to_vec());
        assert!(evidence.bytes_left());

        let (ended, evidence) = (ask(&relay, &Evidence::default()), Evidence::default());
        relay.rung().await;
        relay.take().await.expect("it waits");
        let waits = ask(&relay, &evidence);
        relay.rung().await;
        relay.abandon();
        assert_eq!(ended.await.unwrap(), Err(RelayError::Unanswered), "at once");
        assert!(
            relay.take().await.is_some(),
            "what was not taken waits for the next listener"
        );
        waits.abort();
    }

    #[tokio::test]
    async fn a_delivery_that_is_given_up_takes_its_request_back() {
        let (relay, evidence) = (Arc::new(Relay::default()), Evidence::default());
        let asked = ask(&relay, &evidence);
        relay.rung().await;
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        assert_eq!(relay.take().await, None);
        assert!(!evidence.anything_left());
    }

    #[tokio::test]
    async fn number_and_size_are_bounded() {
        let (relay, evidence) = (Arc::new(Relay::default()), Evidence::default());
        let large = relay.ask(vec![0; limit::RELAY_BYTES_MAX + 1], LONG, &evidence).await;
        assert_eq!(large, Err(RelayError::TooLarge));
        let asked: Vec<_> = (0..limit::RELAY_WAITING_MAX)
            .map(|_| relay.enqueue(Vec::new(), &evidence))
            .collect();
        assert!(asked.iter().all(Result::is_ok));
        assert_eq!(relay.enqueue(Vec::new(), &evidence).err(), Some(RelayError::Busy));
        drop(asked);
        assert_eq!(relay.take().await, None);
    }
}
