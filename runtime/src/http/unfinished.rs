//! What came of requests and frames that are not whole yet, bounded for all connections together.
//!
//! The host keeps a body until its signature can be checked, and a client's frame until it can be handed over. Anyone may
//! begin as many as there are connections, so that a bound for each is not enough. Where all of them together have what
//! they may, the one that has been at it for the longest time is given up: who ends what it begins is hardly ever that one.
//! The holder of the admin token is trusted with what it sends.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::limit;

/// What all connections have sent that is not whole.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    bytes: usize,
    next: u64,
    /// Those with more than is free for each, by when they came to have it.
    large: BTreeMap<u64, Large>,
}

#[derive(Debug)]
struct Large {
    bytes: usize,
    given_up: CancellationToken,
}

impl Unfinished {
    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// Notes that something has so many bytes. Returns its number.
    fn grow(&mut self, number: Option<u64>, bytes: usize, given_up: &CancellationToken) -> u64 {
        let number = number.unwrap_or_else(|| {
            self.next += 1;
            let large = Large {
                bytes: 0,
                given_up: given_up.clone(),
            };
            self.large.insert(self.next, large);
            self.next
        });
        // One that was given up is no longer there.
        if let Some(large) = self.large.get_mut(&number) {
            self.bytes = self.bytes + bytes - large.bytes;
            large.bytes = bytes;
        }
        while self.bytes > limit::UNFINISHED_BYTES_MAX
            && let Some((_, longest)) = self.large.pop_first()
        {
            self.bytes -= longest.bytes;
            longest.given_up.cancel();
        }
        number
    }

    fn forget(&mut self, number: u64) {
        if let Some(large) = self.large.remove(&number) {
            self.bytes -= large.bytes;
        }
    }
}

/// What came on one connection of the request or frame that is not whole, or not answered yet.
#[derive(Debug)]
pub(super) struct Inflow {
    all: Arc<Unfinished>,
    own: Mutex<Own>,
}

#[derive(Debug, Default)]
struct Own {
    bytes: usize,
    is_trusted: bool,
    number: Option<u64>,
    given_up: CancellationToken,
}

impl Inflow {
    pub(super) fn new(all: &Arc<Unfinished>) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::clone(all),
            own: Mutex::default(),
        })
    }

    /// Counts what came.
    fn came(&self, bytes: usize) {
        let mut own = self.lock();
        own.bytes += bytes;
        self.note(&mut own);
    }

    /// Counts what is not kept of it: it was read to be thrown away.
    pub(super) fn dropped(&self, bytes: usize) {
        let mut own = self.lock();
        own.bytes = own.bytes.saturating_sub(bytes);
        self.note(&mut own);
    }

    /// Says that who sends it holds the admin token: what comes until it is answered does not count.
    pub(super) fn trust(&self) {
        let mut own = self.lock();
        self.forget(&mut own);
        own.is_trusted = true;
    }

    /// Says that it was answered: what comes now is the next.
    pub(super) fn answered(&self) {
        let mut own = self.lock();
        self.forget(&mut own);
        *own = Own::default();
    }

    /// As [`Inflow::answered`], on a connection whose sender stays the same.
    pub(super) fn took_frame(&self) {
        let mut own = self.lock();
        self.forget(&mut own);
        own.bytes = 0;
    }

    /// Returns when it is given up for what others send, if ever.
    pub(super) async fn given_up(&self) {
        let given_up = self.lock().given_up.clone();
        given_up.cancelled().await;
    }

    fn note(&self, own: &mut Own) {
        if own.is_trusted || (own.number.is_none() && own.bytes <= limit::UNFINISHED_BYTES_FREE) {
            return;
        }
        let bytes = own.bytes.saturating_sub(limit::UNFINISHED_BYTES_FREE);
        own.number = Some(self.all.lock().grow(own.number, bytes, &own.given_up));
    }

    fn forget(&self, own: &mut Own) {
        if let Some(number) = own.number.take() {
            self.all.lock().forget(number);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        self.answered();
    }
}

/// A connection whose inflow is counted.
pub(super) struct Counted<S> {
    stream: S,
    inflow: Arc<Inflow>,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, inflow: Arc<Inflow>) -> Self {
        Self { stream, inflow }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.inflow.came(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: usize = limit::UNFINISHED_BYTES_MAX / 2;

    fn is_given_up(inflow: &Inflow) -> bool {
        inflow.lock().given_up.is_cancelled()
    }

    #[test]
    fn the_one_that_is_at_it_for_the_longest_time_is_given_up() {
        let all = Arc::default();
        let [longest, next, last] = [(); 3].map(|()| Inflow::new(&all));
        longest.came(HALF);
        next.came(HALF);
        assert!(!is_given_up(&longest) && !is_given_up(&next));
        last.came(2 * limit::UNFINISHED_BYTES_FREE);
        longest.came(HALF);
        assert_eq!([&longest, &next, &last].map(|it| is_given_up(it)), [true, false, false]);
        longest.answered();
        assert!(!is_given_up(&longest), "what comes next is another");
    }

    #[test]
    fn what_is_free_what_was_answered_and_what_is_trusted_keeps_nobody_out() {
        let all = Arc::default();
        let small: Vec<_> = (0..10_000).map(|_| Inflow::new(&all)).collect();
        for inflow in &small {
            inflow.came(limit::UNFINISHED_BYTES_FREE);
        }
        let (stranger, operator) = (Inflow::new(&all), Inflow::new(&all));
        for _ in 0..10 {
            stranger.came(2 * HALF);
            stranger.took_frame();
        }
        operator.trust();
        operator.came(10 * HALF);
        stranger.came(10 * HALF);
        stranger.dropped(9 * HALF);
        assert_eq!(all.lock().bytes, 0, "it was given up itself, and nobody else has any");
        assert!(is_given_up(&stranger) && !is_given_up(&operator));
        drop(stranger);
        assert!(all.lock().large.is_empty());
    }
}
