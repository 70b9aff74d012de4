//! What stands between the gateway and a real server: it drops connections when told, and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Passes TCP connections on.
pub struct Link {
    port: u16,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    all: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    dropping: Notify,
}

impl Link {
    /// Starts passing connections on to a server's port.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, Arc::clone(&counted)));
            }
        });
        Self {
            port,
            counts,
            accepting,
        }
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections there have been.
    pub fn connections(&self) -> usize {
        self.counts.all.load(Ordering::SeqCst)
    }

    /// Returns the most connections that were open at once.
    pub fn most_at_once(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }

    /// Drops every connection on both sides.
    pub fn drop_connections(&self) {
        self.counts.dropping.notify_waiters();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut client: TcpStream, server: u16, counts: Arc<Counts>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    counts.all.fetch_add(1, Ordering::SeqCst);
    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most.fetch_max(open, Ordering::SeqCst);
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = counts.dropping.notified() => {}
    }
    counts.open.fetch_sub(1, Ordering::SeqCst);
}
