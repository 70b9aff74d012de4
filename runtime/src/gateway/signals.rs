//! SIGINT and SIGTERM: the first one stops the gateway in order, the second one at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that a second Ctrl-C ended: 128 + SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

/// Waits for the first signal. From then on the next one ends the process at once.
pub(super) async fn first() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers a signal ends the process as the system does it; the store does not mind.
        return std::future::pending().await;
    };
    either(&mut interrupt, &mut terminate).await;
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(INTERRUPTED);
    });
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
