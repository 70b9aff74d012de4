//! The connections that requests come on: bounded in number, and in the time in which each must ask.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Surface, routes};
use crate::limit;

/// Serves until `shutdown`, then finishes the requests in flight, at most for `grace`.
pub async fn serve(listener: TcpListener, surface: Surface, shutdown: CancellationToken, grace: Duration) {
    let connections = TaskTracker::new();
    let routes = routes(surface);
    let asking = Arc::new(Semaphore::new(limit::CONNECTIONS_ASKING_MAX));
    while let Some((stream, permit)) = next(&listener, &asking, &shutdown).await {
        connections.spawn(answer(stream, routes.clone(), shutdown.clone(), permit));
    }
    // Whoever comes from here on is refused.
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!("requests were still in flight at the end of the grace period");
    }
}

/// Accepts a connection when there is room for one; none at the shutdown.
async fn next(
    listener: &TcpListener,
    asking: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = asking.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(limit::ACCEPT_RETRY).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accepted).await.flatten()
}

/// Answers what is asked on a connection, until it ends or becomes a client's.
async fn answer(stream: TcpStream, routes: Router, shutdown: CancellationToken, permit: OwnedSemaphorePermit) {
    send_at_once(&stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit::REQUEST_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
    drop(permit);
}

/// Turns off Nagle's algorithm: it holds a small frame back until the last one is acknowledged, which takes 40 ms.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused; small frames may wait");
    }
}
