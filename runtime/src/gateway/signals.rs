//! SIGINT, SIGTERM and SIGHUP: the first of them stops the gateway in order, a second SIGINT or SIGTERM at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::limit;

/// The exit code of a process that a second Ctrl-C ended: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Begins to listen, and returns what ends at the first signal. From then on the next SIGINT or SIGTERM ends the process at
/// once, unless it comes right behind the first: programs such as `timeout` give a signal to the process and then to its
/// group, so that it comes twice. A SIGHUP never does: a terminal that goes away sends it more than once, and nobody is
/// impatient there.
pub fn first() -> impl Future<Output = ()> {
    let listening = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let mut hangup = (!hangups_are_ignored())
        .then(|| signal(SignalKind::hangup()).ok())
        .flatten();
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = listening else {
            // Without handlers a signal ends the process as the system does it; the store does not mind.
            return std::future::pending().await;
        };
        tokio::select! {
            () = either(&mut interrupt, &mut terminate) => {}
            () = hung_up(hangup.as_mut()) => {}
        }
        tokio::spawn(async move {
            let echoes = async {
                loop {
                    either(&mut interrupt, &mut terminate).await;
                }
            };
            let _over: Result<(), _> = tokio::time::timeout(limit::SIGNAL_ECHO, echoes).await;
            either(&mut interrupt, &mut terminate).await;
            std::process::exit(INTERRUPTED.into());
        });
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn hung_up(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => hangup.recv().await.map_or((), drop),
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does it: then it is to outlive its terminal. A handler
/// would overrule that. Where the system has no such file, nobody knows, and a hangup stops the gateway in order.
fn hangups_are_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangups(&status))
}

/// Reads the mask of ignored signals in which the lowest bit is that of the first signal, SIGHUP.
fn ignores_hangups(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u128::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_of_ignored_signals_says_whether_hangups_are() {
        assert!(ignores_hangups(
            "SigBlk:\t0000\nSigIgn:\t0000000000001005\nSigCgt:\t0\n"
        ));
        for other in ["SigIgn:\t0000000000001004\n", "SigIgn:\t?\n", "SigCgt:\t01\n", ""] {
            assert!(!ignores_hangups(other), "{other:?}");
        }
    }
}
